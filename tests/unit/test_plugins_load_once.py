"""How often Ansible loads filters: every worker that has to do it anew costs a third of its time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FILTER = """
import os
from pathlib import Path

with (Path(__file__).parent / "loaded").open("a") as log:
    log.write(f"{os.getpid()}\\n")


class FilterModule:
    def filters(self):
        return {"twice": lambda text: text * 2}
"""
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.assert: {that: "'ab' | twice == 'abab'"}
    - ansible.builtin.assert: {that: "'cd' | twice == 'cdcd'"}
    - ansible.builtin.assert: {that: "'ef' | twice == 'efef'"}
"""


@pytest.mark.parametrize(("callbacks", "times"), [("load_once", 1), ("ansible.posix.timer", 3)])
def test_filters_are_loaded_once_for_all_tasks(tmp_path: Path, callbacks: str, times: int) -> None:
    (tmp_path / "filter_plugins").mkdir()
    (tmp_path / "filter_plugins" / "twice.py").write_text(FILTER)
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            "-i",
            "localhost,",
            "-c",
            "local",
            "play.yml",
        ],
        cwd=tmp_path,
        env=os.environ
        | {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_FILTER_PLUGINS": str(tmp_path / "filter_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": callbacks,
            "ANSIBLE_STRATEGY": "linear",
        },
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert len((tmp_path / "filter_plugins" / "loaded").read_text().split()) == times
