"""What the tests of all scenarios are given."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import testinfra
from role_lab import LAB, MANAGERS, PREFIX, PROJECT, STATE, Run, Swarm
from testinfra.host import Host


@pytest.fixture(scope="session")
def machines() -> dict[str, Host]:
    """The lab's machines by their names in the inventory."""
    return {name: testinfra.get_host(f"docker://{LAB}-{name}") for name in (*MANAGERS, "monitor")}


@pytest.fixture(scope="session")
def swarm(machines: dict[str, Host]) -> Swarm:
    """The lab's swarm."""
    return Swarm(machines)


@pytest.fixture(scope="session")
def secret_values() -> dict[str, str]:
    """The lab's secrets: name -> value."""
    return {path.name: path.read_text().strip() for path in (STATE / "secrets").iterdir()}


@pytest.fixture
def ansible() -> Run:
    """A function that runs a playbook of the scenario with other variables, and gives back how it ended."""

    def run(playbook: str, *arguments: str, **variables: object) -> subprocess.CompletedProcess[str]:
        inventory = ["--inventory", str(PROJECT / "inventories/lab")]
        extra = ["--extra-vars", json.dumps(variables)]
        # Never the lab that happens to be named in the environment.
        fixed = {
            "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
            "ANSIBLE_FORCE_COLOR": "0",
            "LAB_NAME": LAB,
            "LAB_PREFIX": PREFIX,
        }
        return subprocess.run(
            ["ansible-playbook", *inventory, *extra, *arguments, playbook],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, **fixed},
        )

    return run
