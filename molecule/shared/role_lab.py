"""The lab that all scenarios share, as their tests see it: its machines and what runs on its swarm."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testinfra.backend.base import CommandResult
from testinfra.host import Host

PROJECT = Path(__file__).parent.parent.parent
#: As in .config/molecule/config.yml; never taken from the environment, which may name somebody's own lab.
LAB, PREFIX = "molecule", "198.18.9"
STATE = PROJECT / ".lab" / LAB
MANAGERS = ("node-1", "node-2", "node-3")


@dataclass(frozen=True)
class Task:
    """A container of a service: the machine it runs on, and its id on that machine's engine."""

    machine: Host
    container: str

    def run(self, *words: str) -> CommandResult:
        """Run a program in the container."""
        return self.machine.run("docker exec %s " + " ".join(["%s"] * len(words)), self.container, *words)

    def output(self, *words: str) -> str:
        """What a program in the container prints; it must succeed."""
        result = self.run(*words)
        assert result.rc == 0, f"{words[0]} in {self.container}: {result.stdout}{result.stderr}"
        return str(result.stdout)

    def inspect(self) -> dict[str, Any]:
        """What the engine knows about the container."""
        found: list[dict[str, Any]] = json.loads(
            self.machine.check_output("docker inspect %s", self.container)
        )
        return found[0]


@dataclass(frozen=True)
class Swarm:
    """The lab's swarm, asked through its machines."""

    machines: dict[str, Host]

    @property
    def manager(self) -> Host:
        """The machine that commands go to."""
        return self.machines[MANAGERS[0]]

    def inspect(self, kind: str, *names: str) -> list[dict[str, Any]]:
        """What the swarm knows about things of a kind: service, node, secret, config, network, task."""
        if not names:
            return []
        command = f"docker {kind} inspect " + " ".join(["%s"] * len(names))
        found: list[dict[str, Any]] = json.loads(self.manager.check_output(command, *names))
        return found

    def service(self, name: str) -> dict[str, Any]:
        """A service of the forum's stack, by the name that its room gives it."""
        return self.inspect("service", f"forum_{name}")[0]

    def names(self, kind: str) -> list[str]:
        """Names of all secrets, configs, services, networks or nodes."""
        field = "{{.Hostname}}" if kind == "node" else "{{.Name}}"
        return sorted(self.manager.check_output(f"docker {kind} ls --format %s", field).split())

    def tasks(self, service: str) -> list[Task]:
        """The running containers of a service of the forum's stack."""
        label = f"label=com.docker.swarm.service.name=forum_{service}"
        return [
            Task(machine, container)
            for machine in (self.machines[name] for name in MANAGERS)
            for container in machine.check_output("docker ps --quiet --filter %s", label).split()
        ]

    def task(self, service: str) -> Task:
        """One running container of a service of the forum's stack."""
        tasks = self.tasks(service)
        assert tasks, f"no task of {service} runs"
        return tasks[0]


def process(machine: Host, unit: str) -> str:
    """The number of the main process of a systemd unit; another one after each restart."""
    return str(machine.check_output("systemctl show --value --property=MainPID %s", unit)).strip()


#: Runs a playbook with other variables: run(playbook, *arguments, **variables).
Run = Callable[..., subprocess.CompletedProcess[str]]


def words(text: str) -> str:
    """A text without its line breaks, so that a message can be found however it was wrapped."""
    # YAML ends a line in double quotes with a backslash, and begins the next with one where it goes on with a space;
    # in single quotes it doubles an apostrophe.
    return " ".join(re.sub(r"\\\n\s*(\\(?= ))?", "", text).replace("''", "'").split())
