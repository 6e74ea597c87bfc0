"""Filters that judge machines by what a probe read from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from ansible.errors import AnsibleFilterError

Facts = dict[str, int | str]

_LOOK = "check its address, the SSH key and that it runs"
_REMEDIES = {
    "Host key verification": "if it was made anew, remove its old key (ssh-keygen -R ADDRESS); if not, find out why",
    "Permission denied": "install the SSH key for ansible_user there, or name another in the inventory",
    "Could not resolve": "correct ansible_host, or the name server",
}
_LINE = re.compile(r"([a-z][\w]*)=(.*)")
_NUMBERS = ("clock", "user", "cpus", "memory_kb", "disk_kb")


def machine_facts(result: Mapping[str, object]) -> Facts:
    """What the probe found out.

    result: the registered result of the task that ran it, with the probe's lines KEY=VALUE in stdout.
    Numbers (clock in s, memory_kb, disk_kb, cpus, user) become whole numbers; one that can't be read is
    left out.
    Returns an empty mapping when the machine didn't answer or the probe didn't run.
    """
    facts: Facts = {}
    for line in str(result.get("stdout") or "").splitlines():
        match = _LINE.fullmatch(line.strip())
        if not match:
            continue
        key, value = match[1], match[2].strip()
        if key not in _NUMBERS:
            facts[key] = value
        elif value.isdigit():
            facts[key] = int(value)
    return facts if "probe" in facts else {}


def _unreachable(result: Mapping[str, object]) -> str:
    """Why a machine doesn't answer, and what to do."""
    lines = [
        line.strip()
        for line in str(result.get("msg") or result.get("stdout") or "").splitlines()
        if line.strip()
    ]
    reason = lines[-1].removeprefix("Task failed: ").rstrip(".") if lines else "no answer"
    remedy = next((remedy for text, remedy in _REMEDIES.items() if text in reason), _LOOK)
    return f"can't be reached ({reason}): {remedy}"


def _shortages(facts: Facts, needs: Mapping[str, object]) -> list[str]:
    """What the machine has too little of."""
    problems = []
    for key, factor, unit, what in (
        ("cpus", 1, "", "processors"),
        ("memory_mb", 1024, " MB", "of memory"),
        ("disk_mb", 1024, " MB", "free on the disk of /var/lib/docker"),
    ):
        wanted = int(str(needs.get(key) or 0))
        found = facts.get(key.replace("_mb", "_kb"))
        if not isinstance(found, int):
            problems.append(f"doesn't tell how much it has: {what} is unknown")
        elif found // factor < wanted:
            problems.append(f"has {found // factor}{unit} {what}, at least {wanted} are needed: give it more")
    return problems


def _version(text: object) -> tuple[int, ...]:
    """A version as numbers; nothing for what is none."""
    return tuple(int(part) for part in str(text).split(".") if part.isdigit())


def _lacks(facts: Facts, needs: Mapping[str, object]) -> list[str]:
    """What a machine that answered lacks, without its name."""
    problems = _shortages(facts, needs)
    least = str(needs.get("python") or "0")
    python = str(facts.get("python", ""))
    if not python:
        problems.append(f"has no python3: install Python {least} or newer (apt-get install python3)")
    elif _version(python) < _version(least):
        problems.append(f"has Python {python}, {least} or newer is needed: use a newer Debian")
    releases = needs.get("releases") or []
    if isinstance(releases, str) or not isinstance(releases, Sequence):
        raise AnsibleFilterError("releases must be a list of Debian's code names")
    if releases and facts.get("release") not in releases:
        system = f"{facts.get('system') or 'an unknown system'} {facts.get('release') or ''}".rstrip()
        tried = " or ".join(map(str, releases))
        problems.append(f"runs {system}, but the roles are tried on Debian {tried}: install that")
    problems.extend(
        f"has no kernel module {key.removeprefix('module_')}: load it, or set stack_endpoint_mode to dnsrr"
        for key, value in facts.items()
        if key.startswith("module_") and value == "no"
    )
    if needs.get("root") and facts.get("user") != 0:
        problems.append(
            "lets the deployment in, but not as root: set ansible_user to root, or ansible_become to true"
        )
    if needs.get("engine") and facts.get("engine", "none") == "none":
        problems.append("has no Docker engine that answers: start one (make setup), and be allowed to use it")
    return problems


def machine_problems(
    results: Mapping[str, Mapping[str, object]], needs: Mapping[str, Mapping[str, object]]
) -> list[str]:
    """What machines lack.

    results: machine -> as for machine_facts; a machine that didn't answer is a problem of its own.
    needs: machine -> {cpus, memory_mb, disk_mb, python (least version), releases (list of Debian's code
    names, empty for any), root (bool), engine (bool: a Docker engine must answer)}; all may be left out.
    Returns sentences with the machine's name and the remedy. Raises AnsibleFilterError for needs of a wrong
    type.
    """
    problems: list[str] = []
    for machine, result in results.items():
        facts = machine_facts(result)
        found = _lacks(facts, needs.get(machine, {})) if facts else [_unreachable(result)]
        problems.extend(f"{machine} {problem}" for problem in found)
    return problems


def clock_problems(
    results: Mapping[str, Mapping[str, object]], before: float, after: float, seconds: int = 5
) -> list[str]:
    """Whether the machines agree on the time.

    results: machine -> as for machine_facts; one that didn't answer is left out. before, after: the control
    machine's time before and after they were asked, in seconds since 1970. seconds: how far a clock may be
    off. Returns sentences with the machine's name and the remedy.
    """
    problems = []
    for machine, result in results.items():
        clock = machine_facts(result).get("clock")
        if not isinstance(clock, int):
            continue
        slow, fast = float(before) - clock, clock - float(after)
        # A clock is read in whole seconds.
        if max(slow, fast) > seconds + 1:
            state = f"{slow:.0f} s slow" if slow > fast else f"{fast:.0f} s fast"
            problems.append(
                f"{machine}'s clock is {state}: synchronize it (apt-get install systemd-timesyncd)"
            )
    return problems


def machine_nodes(
    results: Mapping[str, Mapping[str, object]], labels: Mapping[str, Mapping[str, object]]
) -> dict[str, dict[str, object]]:
    """The machines as resource_problems takes nodes.

    results: machine -> as for machine_facts. labels: node -> its swarm labels; other machines are left out.
    Returns node -> {cpus, memory in bytes, labels} of those that answered.
    """
    nodes: dict[str, dict[str, object]] = {}
    for machine in labels:
        facts = machine_facts(results.get(machine, {}))
        cpus, memory = facts.get("cpus"), facts.get("memory_kb")
        if isinstance(cpus, int) and isinstance(memory, int):
            nodes[machine] = {"cpus": cpus, "memory": memory * 1024, "labels": labels[machine]}
    return nodes


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {
            "clock_problems": clock_problems,
            "machine_nodes": machine_nodes,
            "machine_problems": machine_problems,
        }
