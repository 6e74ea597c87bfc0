"""What our strategy changes about Mitogen: how fast it is, and no result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from local_play import ROOT, play

FILTER = """
import os
from pathlib import Path


def processors(_):
    with (Path(__file__).parent / "seen").open("a") as log:
        log.write(f"{len(os.sched_getaffinity(0))}\\n")
    return True


class FilterModule:
    def filters(self):
        return {"processors": processors}
"""
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.assert: {that: "'' | processors"}
    - ansible.builtin.command: "true"
    - ansible.builtin.assert: {that: "'' | processors"}
"""

# In a process of its own, since it changes Mitogen for all that comes after.
SCANS = """
import os, sys
import ansible.modules, ansible.module_utils
from ansible.plugins.loader import init_plugin_loader
from ansible_mitogen import module_finder

init_plugin_loader()

modules, utils = (os.path.dirname(place.__file__) for place in (ansible.modules, ansible.module_utils))

def scans():
    return [
        module_finder.scan(
            module_name=f"ansible.modules.{name}", module_path=f"{modules}/{name}.py", search_path=(utils,)
        )
        for name in ("apt", "copy", "file", "systemd_service", "uri", "user")
    ]

before = scans()
sys.path.insert(0, "strategy_plugins")
import mitogen_linear
assert module_finder.compile is mitogen_linear._compile
assert all(before) and before == scans() == scans()
"""


def test_what_modules_import_is_found_as_mitogen_itself_finds_it() -> None:
    subprocess.run([sys.executable, "-c", SCANS], cwd=ROOT, check=True, timeout=120)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is but one processor")
def test_workers_may_use_all_processors(tmp_path: Path) -> None:
    (tmp_path / "filter_plugins").mkdir()
    (tmp_path / "filter_plugins" / "processors.py").write_text(FILTER)
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    play(
        tmp_path,
        "play.yml",
        ANSIBLE_FILTER_PLUGINS=str(tmp_path / "filter_plugins"),
        ANSIBLE_STRATEGY="mitogen_linear",
    )
    seen = (tmp_path / "filter_plugins" / "seen").read_text().split()
    assert seen == [str(len(os.sched_getaffinity(0)))] * 2
