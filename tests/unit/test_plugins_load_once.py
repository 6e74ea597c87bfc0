"""How often Ansible loads filters: every worker that has to do it anew costs a third of its time."""

from __future__ import annotations

from pathlib import Path

import pytest
from local_play import play

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
    play(
        tmp_path,
        "play.yml",
        ANSIBLE_FILTER_PLUGINS=str(tmp_path / "filter_plugins"),
        ANSIBLE_CALLBACKS_ENABLED=callbacks,
        ANSIBLE_STRATEGY="linear",
    )
    assert len((tmp_path / "filter_plugins" / "loaded").read_text().split()) == times
