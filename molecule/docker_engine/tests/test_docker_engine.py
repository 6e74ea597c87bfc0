"""The engine of every node."""

from __future__ import annotations

import json

import pytest
from role_lab import MANAGERS, PREFIX, STATE
from testinfra.host import Host


@pytest.fixture(params=MANAGERS)
def node(request: pytest.FixtureRequest, machines: dict[str, Host]) -> Host:
    return machines[request.param]


def test_it_runs_and_starts_with_the_machine(node: Host) -> None:
    assert node.service("docker").is_running
    assert node.service("docker").is_enabled


def test_it_runs_with_the_settings_of_the_inventory(node: Host) -> None:
    settings = json.loads(node.file("/etc/docker/daemon.json").content_string)
    assert settings["log-opts"] == {"max-file": "3", "max-size": "10m"}
    info = json.loads(node.check_output("docker info --format '{{json .}}'"))
    assert info["LoggingDriver"] == settings["log-driver"]
    assert {pool["Base"] for pool in info["DefaultAddressPools"]} == {
        pool["base"] for pool in settings["default-address-pools"]
    }
    assert not info["LiveRestoreEnabled"], "live-restore and a swarm exclude each other"


def test_it_trusts_the_registry(node: Host) -> None:
    trusted = node.file(f"/etc/docker/certs.d/{PREFIX}.14:5000/ca.crt")
    assert trusted.content_string == (STATE / "pki" / "ca.crt").read_text()


def test_nobody_reaches_it_over_the_network(node: Host) -> None:
    assert not node.socket("tcp://2375").is_listening
    assert not node.socket("tcp://2376").is_listening
