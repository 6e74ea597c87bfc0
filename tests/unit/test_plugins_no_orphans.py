"""What becomes of the workers of a run that is killed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from local_play import start

PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.command: sleep 30
"""


def family(pid: int) -> set[int]:
    """The processes that a process started, and theirs."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found, added = {pid}, True
    while added:
        more = {child for child, parent in parents.items() if parent in found} - found
        found, added = found | more, bool(more)
    return found - {pid}


def asleep(pid: int) -> bool:
    """Whether a process is the task's sleep."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:2] == [b"sleep", b"30"]
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("strategy", ["linear", "mitogen_linear"])
def test_the_workers_of_a_killed_run_end_with_it(tmp_path: Path, strategy: str) -> None:
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    with start(tmp_path, "play.yml", ANSIBLE_STRATEGY=strategy) as run:
        end = time.monotonic() + 60
        started: set[int] = set()
        while not any(map(asleep, started)):
            assert time.monotonic() < end, "the task never began"
            started = family(run.pid)
            time.sleep(0.05)
        run.kill()
    end = time.monotonic() + 10
    # What the task has started may go on to its end: nothing waits for it.
    while left := {pid for pid in started if Path(f"/proc/{pid}").exists() and not asleep(pid)}:
        assert time.monotonic() < end, f"{left} outlive the run"
        time.sleep(0.05)
