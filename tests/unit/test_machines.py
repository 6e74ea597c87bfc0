"""Filters that judge machines by what the preflight's probe read."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from machines import FilterModule, clock_problems, machine_facts, machine_nodes, machine_problems

PROBE = Path(__file__).parents[2] / "roles" / "preflight" / "files" / "probe.sh"
ANSWER = """Welcome!\r
probe=1\r
clock=1000000\r
user=0\r
system=debian\r
release=trixie\r
python=3.13\r
cpus=2\r
memory_kb=4014080\r
disk_kb=20480000\r
module_ip_vs=yes\r
engine=26.1.5\r
"""
NEEDS = {
    "cpus": 2,
    "memory_mb": 3500,
    "disk_mb": 20000,
    "python": "3.9",
    "releases": ["trixie"],
    "root": True,
    "engine": True,
}


def answer(**changes: str | None) -> dict[str, object]:
    """The probe's result with other values; None leaves a line out."""
    lines = []
    for line in ANSWER.splitlines():
        key = line.partition("=")[0]
        if key not in changes:
            lines.append(line)
        elif changes[key] is not None:
            lines.append(f"{key}={changes[key]}")
    return {"stdout": "\n".join(lines), "rc": 0}


def problems(**changes: str | None) -> list[str]:
    return machine_problems({"node-1": answer(**changes)}, {"node-1": NEEDS})


def test_facts() -> None:
    facts = machine_facts({"stdout": ANSWER})
    assert facts["memory_kb"] == 4014080
    assert facts["python"] == "3.13"
    assert "Welcome!" not in facts


@pytest.mark.parametrize(
    "result", [{}, {"stdout": ""}, {"stdout": "clock=5"}, {"stdout": "sudo: a password is required"}]
)
def test_no_facts_without_the_probe(result: dict[str, object]) -> None:
    assert machine_facts(result) == {}


def test_the_probe_runs_here_and_reads_everything() -> None:
    shown = subprocess.run(
        ["sh", PROBE],
        env={"PATH": os.environ["PATH"], "PREFLIGHT_MODULES": "no_such_module"},
        capture_output=True,
        text=True,
        check=True,
    )
    facts = machine_facts({"stdout": shown.stdout})
    assert {"clock", "user", "cpus", "memory_kb", "disk_kb", "python", "system"} <= set(facts)
    assert facts["module_no_such_module"] == "no"
    assert isinstance(facts["disk_kb"], int)
    assert shown.stderr == ""


def test_a_machine_that_has_everything() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cpus": "1"}, "node-1 has 1 processors, at least 2 are needed"),
        ({"memory_kb": "2097152"}, "node-1 has 2048 MB of memory, at least 3500 are needed"),
        ({"disk_kb": "1024000"}, "node-1 has 1000 MB free on the disk of /var/lib/docker"),
        ({"disk_kb": ""}, "is unknown"),
        ({"python": ""}, "node-1 has no python3: install Python 3.9"),
        ({"python": "3.7"}, "node-1 has Python 3.7"),
        ({"release": "bookworm"}, "node-1 runs debian bookworm, but the roles are tried on Debian trixie"),
        ({"release": None, "system": None}, "an unknown system"),
        ({"module_ip_vs": "no"}, "node-1 has no kernel module ip_vs"),
        ({"user": "1000"}, "not as root"),
        ({"engine": None}, "no Docker engine"),
        ({"engine": "none"}, "no Docker engine"),
    ],
)
def test_a_machine_that_lacks_something(changes: dict[str, str | None], reason: str) -> None:
    (problem,) = problems(**changes)
    assert reason in problem


def test_a_machine_that_does_not_answer() -> None:
    result = {"unreachable": True, "msg": "Task failed: connect to host 192.0.2.1 port 22: No route to host."}
    (problem,) = machine_problems({"node-1": result}, {})
    assert problem.startswith(
        "node-1 can't be reached (connect to host 192.0.2.1 port 22: No route to host): check"
    )
    assert "no answer" in machine_problems({"node-1": {}}, {})[0]


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("Host key verification failed.", "remove its old key"),
        ("root@192.0.2.1: Permission denied (publickey).", "install the SSH key"),
        ("ssh: Could not resolve hostname node-1", "correct ansible_host"),
    ],
)
def test_the_remedy_follows_the_reason(reason: str, remedy: str) -> None:
    (problem,) = machine_problems({"node-1": {"unreachable": True, "msg": reason}}, {})
    assert remedy in problem


def test_a_machine_without_needs_only_answers() -> None:
    assert machine_problems({"laptop": answer(cpus="1", release="bookworm", engine=None)}, {}) == []


def test_needs_of_a_wrong_type() -> None:
    with pytest.raises(AnsibleFilterError, match="list"):
        machine_problems({"node-1": answer()}, {"node-1": {"releases": "trixie"}})


def test_clocks_that_agree() -> None:
    results = {"node-1": answer(), "node-2": answer(clock="1000004"), "node-3": {}}
    assert clock_problems(results, 999_998.5, 1_000_001.2) == []


def test_clocks_that_do_not() -> None:
    results = {"node-1": answer(clock="999900"), "node-2": answer(clock="1000100")}
    assert clock_problems(results, 1_000_000, 1_000_002, 10) == [
        "node-1's clock is 100 s slow: synchronize it (apt-get install systemd-timesyncd)",
        "node-2's clock is 98 s fast: synchronize it (apt-get install systemd-timesyncd)",
    ]


def test_nodes_for_the_capacity_check() -> None:
    results = {"node-1": answer(), "node-2": {}, "monitor": answer()}
    labels: dict[str, dict[str, object]] = {"node-1": {"edge": "true"}, "node-2": {}, "node-3": {}}
    assert machine_nodes(results, labels) == {
        "node-1": {"cpus": 2, "memory": 4014080 * 1024, "labels": {"edge": "true"}}
    }


def test_filters_are_published() -> None:
    assert set(FilterModule().filters()) == {"clock_problems", "machine_nodes", "machine_problems"}
