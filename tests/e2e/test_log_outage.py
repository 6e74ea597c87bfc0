"""The log's way is cut for a while: afterwards every request that nginx answered is in Elasticsearch, once."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from drills import elastic, lines
from drills.answered import Load, account
from drills.forum import Account as Sign
from drills.lab import Lab, Node, until

#: What 1500 users make.
RATE = 60.0
#: Seconds; the figures in docs/logs.md are those of 300.
AWAY = float(os.environ.get("LOG_OUTAGE_SECONDS", "45"))
#: Seconds until all is there afterwards.
PATIENCE = 240


@pytest.fixture
def settled(lab: Lab, artifacts: Path) -> Callable[[str, Load], None]:
    """Waits until every answered request is there, and writes the figures down."""

    def wait(name: str, load: Load) -> None:
        def whole() -> bool:
            try:
                return account(load).missing == 0
            except (elastic.ElasticError, requests.RequestException):
                return False

        seconds = until(PATIENCE, whole)
        # What comes a second time would come now.
        time.sleep(15)
        figures = account(load)
        text = f"{name}: {figures}; all there {seconds:.0f} s afterwards"
        print(text)
        with (artifacts / "log-outages.txt").open("a") as report:
            report.write(f"{text}\n")
        assert figures.sent > RATE * 5
        assert (figures.missing, figures.doubled) == (0, 0)

    return wait


def docker(verb: str, node: Node) -> None:
    subprocess.run(["docker", verb, node.container], check=True, capture_output=True, timeout=120)


def test_the_monitoring_machine_is_away(lab: Lab, settled: Callable[[str, Load], None]) -> None:
    load = Load(lab, RATE)
    with load.running():
        time.sleep(10)
        # As when its power fails; what its kernel had for the disk is written all the same.
        docker("kill", lab.monitor)
        try:
            time.sleep(AWAY)
        finally:
            docker("start", lab.monitor)
        time.sleep(20)
    settled(f"monitoring machine away for {AWAY:.0f} s", load)


@pytest.mark.parametrize("unit", ["log_collector", "log_parser", "elasticsearch"])
def test_a_part_of_the_monitoring_machine_is_killed(
    lab: Lab, settled: Callable[[str, Load], None], unit: str
) -> None:
    load = Load(lab, RATE)
    with load.running():
        time.sleep(5)
        lab.monitor.run(f"systemctl kill --signal=KILL {unit}")
        time.sleep(15)
    settled(f"{unit} killed", load)


def test_a_shipper_is_away_and_containers_start(lab: Lab, settled: Callable[[str, Load], None]) -> None:
    node = lab.swarm[0]
    load = Load(lab, RATE)
    with load.running():
        time.sleep(3)
        # Its socket, which systemd holds, would start it again.
        node.run("systemctl kill --signal=STOP log_shipper")
        try:
            time.sleep(5)
            began = time.monotonic()
            lines.write(node, "nginx", lines.new_task(), "true")
            assert time.monotonic() - began < 30
        finally:
            node.run("systemctl kill --signal=CONT log_shipper")
        time.sleep(5)
    settled("a shipper stopped", load)


@pytest.fixture
def blocked(lab: Lab, log_operator: Sign) -> Iterator[Callable[[bool], None]]:
    """Lets the indices take lines, or none."""

    def block(on: bool) -> None:
        answer = elastic.ask(
            lab, f"{lab.logs.index}/_settings", log_operator, {"index.blocks.write": on}, method="PUT"
        )
        assert answer.ok, answer.text

    yield block
    block(False)


def test_indices_that_take_no_line_are_told_of_and_heal(
    lab: Lab, settled: Callable[[str, Load], None], blocked: Callable[[bool], None]
) -> None:
    load = Load(lab, RATE)
    with load.running():
        time.sleep(3)
        blocked(True)
        time.sleep(15)
        lab.monitor.run("systemctl start elasticsearch-keeper.service")
        state = lab.monitor.run("systemctl is-failed elasticsearch-keeper.service").strip()
        told = json.dumps(lab.monitor.run("journalctl -u elasticsearch-keeper.service -n 5 --no-pager"))
        blocked(False)
        time.sleep(5)
    assert state == "failed", told
    assert "index-blocked" in told
    settled("indices that took no line", load)
