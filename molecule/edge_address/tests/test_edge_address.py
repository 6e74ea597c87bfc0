"""Floating addresses, and where they go."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from role_lab import MANAGERS, PREFIX, Run
from testinfra.host import Host

HOME = dict(zip(MANAGERS, (f"{PREFIX}.21", f"{PREFIX}.22", f"{PREFIX}.23"), strict=True))


def holders(machines: dict[str, Host]) -> dict[str, list[str]]:
    """Floating address -> the nodes that hold it."""
    shown = {name: machines[name].check_output("ip -4 -oneline address show dev eth0") for name in MANAGERS}
    return {
        address: [name for name in MANAGERS if f" {address}/24 " in shown[name]] for address in HOME.values()
    }


def wait_for(machines: dict[str, Host], wanted: dict[str, list[str]], seconds: float) -> None:
    end = time.monotonic() + seconds
    while (found := holders(machines)) != wanted:
        assert time.monotonic() < end, f"{found}, not {wanted}, after {seconds} s"
        time.sleep(0.2)


AT_HOME = {address: [name] for name, address in HOME.items()}


@pytest.fixture
def all_answer(machines: dict[str, Host]) -> Iterator[None]:
    yield
    for name in MANAGERS:
        machines[name].check_output("systemctl kill --signal=CONT trial-edge")


def test_every_address_is_at_home_and_answers(machines: dict[str, Host]) -> None:
    wait_for(machines, AT_HOME, 30)
    for address in HOME.values():
        assert machines["monitor"].check_output("curl -sS %s", f"http://{address}:8099/ready") == "ready"


@pytest.mark.usefixtures("all_answer")
def test_a_node_that_does_not_answer_gives_its_address_away_and_gets_it_back(
    machines: dict[str, Host],
) -> None:
    machines["node-2"].check_output("systemctl kill --signal=STOP trial-edge")
    away, end = HOME["node-2"], time.monotonic() + 20
    while (holding := holders(machines)[away]) in ([], ["node-2"]):
        assert time.monotonic() < end, f"{away} is still held by {holding}"
        time.sleep(0.2)
    assert len(holding) == 1
    assert (
        machines["monitor"].check_output("curl -sS --max-time 5 %s", f"http://{away}:8099/ready") == "ready"
    )

    machines["node-2"].check_output("systemctl kill --signal=CONT trial-edge")
    wait_for(machines, AT_HOME, 30)


def test_it_runs_and_starts_with_the_machine(machines: dict[str, Host]) -> None:
    for name in MANAGERS:
        assert machines[name].service("keepalived").is_running
        assert machines[name].service("keepalived").is_enabled


def test_a_configuration_that_keepalived_refuses_is_not_installed(
    ansible: Run, machines: dict[str, Host]
) -> None:
    path = "/etc/keepalived/keepalived.conf"
    before = machines["node-1"].file(path).content_string
    assert before.startswith("# Ansible managed\n")
    refused = ansible("converge.yml", edge_address_interval=-1)
    assert refused.returncode != 0
    assert "changed=0" in refused.stdout
    assert machines["node-1"].file(path).content_string == before
