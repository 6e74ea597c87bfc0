"""The engine of every node."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from role_lab import MANAGERS, PREFIX, STATE, Run, process
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


def test_settings_that_no_restart_followed_are_taken_up_once_and_only_there(
    ansible: Run, machines: dict[str, Host]
) -> None:
    def engines() -> dict[str, str]:
        return {name: process(machines[name], "docker.service") for name in MANAGERS}

    before = engines()
    machines["node-2"].check_output("touch /etc/docker/daemon.json")
    made_up = ansible("converge.yml")
    assert made_up.returncode == 0, made_up.stdout
    now = engines()
    assert [name for name in MANAGERS if now[name] != before[name]] == ["node-2"]

    again = ansible("converge.yml")
    assert again.stdout.count("changed=0") == len(MANAGERS), again.stdout
    assert engines() == now


def test_changed_settings_restart_one_engine_after_the_other(ansible: Run, machines: dict[str, Host]) -> None:
    settings = json.loads(machines["node-1"].file("/etc/docker/daemon.json").content_string)
    other = {**settings, "log-opts": {**settings["log-opts"], "max-file": "4"}}
    try:
        changed = ansible("converge.yml", docker_engine_settings=other)
        assert changed.returncode == 0, changed.stdout
        started = sorted(
            tuple(
                int(
                    machines[name].check_output(
                        "systemctl show --value --timestamp=unix --property=%s docker", at
                    )[1:]
                )
                for at in ("ExecMainStartTimestamp", "ActiveEnterTimestamp")
            )
            for name in MANAGERS
        )
        for (_, ready), (next_start, _) in pairwise(started):
            assert ready <= next_start, started
    finally:
        back = ansible("converge.yml")
    assert back.returncode == 0, back.stdout
