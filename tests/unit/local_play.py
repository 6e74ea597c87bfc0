"""A run of Ansible on this machine alone, with the project's configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start(directory: Path, *playbooks: str, **variables: str) -> subprocess.Popen[str]:
    """Start playbooks that lie in a directory; variables are added to the environment. What it says is one pipe."""
    return subprocess.Popen(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            "-i",
            "localhost,",
            "-c",
            "local",
            *playbooks,
        ],
        cwd=directory,
        env=os.environ
        | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_PYTHON_INTERPRETER": sys.executable}
        | variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def play(directory: Path, *playbooks: str, **variables: str) -> str:
    """Run them to their end, which must be a good one. Returns what it says."""
    run = start(directory, *playbooks, **variables)
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 0, said
    return said
