"""Playbooks of one run as stages."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import local_play

PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.{task}
"""


def start(directory: Path, *tasks: str) -> subprocess.Popen[str]:
    """Begin a run whose playbooks have a task each."""
    names = [f"{number}.yml" for number in range(len(tasks))]
    for name, task in zip(names, tasks, strict=True):
        (directory / name).write_text(PLAYBOOK.format(task=task))
    return local_play.start(
        directory,
        *names,
        ANSIBLE_CALLBACKS_ENABLED="stages",
        STAGE_NAMES="Lay the ground,Build,Paint",
        STAGES=str(directory / "stages"),
    )


def summary(directory: Path) -> list[str]:
    """The lines of the summary."""
    path = directory / "stages"
    return path.read_text().splitlines() if path.exists() else []


def test_each_playbook_is_a_stage_with_its_time(tmp_path: Path) -> None:
    run = start(tmp_path, "assert: {that: true}", "assert: {that: true}")
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0
    assert re.findall(r"^[▶✔✘].*", output, re.MULTILINE) == [
        "▶ Lay the ground",
        "✔ Lay the ground: 0 min 00 s",
        "▶ Build",
        "✔ Build: 0 min 00 s",
    ]
    assert summary(tmp_path) == [
        "✔ Lay the ground                               0 min 00 s",
        "✔ Build                                        0 min 00 s",
    ]


def test_a_stage_that_failed_says_so_and_is_the_last(tmp_path: Path) -> None:
    run = start(tmp_path, "assert: {that: true}", "assert: {that: false}", "assert: {that: true}")
    output, _ = run.communicate(timeout=120)
    assert run.returncode != 0
    assert "✘ Build: 0 min 00 s" in output
    assert "Paint" not in output
    assert [line.split()[:2] for line in summary(tmp_path)] == [["✔", "Lay"], ["✘", "Build"]]


def test_a_stage_that_was_killed_did_not_end(tmp_path: Path) -> None:
    # A task that ends by itself: its worker outlives the run.
    run = start(tmp_path, "assert: {that: true}", "wait_for: {timeout: 20}")
    end = time.monotonic() + 60
    while len(summary(tmp_path)) < 2:
        assert time.monotonic() < end, "the second stage never began"
        time.sleep(0.05)
    run.kill()
    run.communicate(timeout=30)
    assert [line.split() for line in summary(tmp_path)][1] == ["✘", "Build", "not", "ended"]
