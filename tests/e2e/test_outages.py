"""The way of logs and figures is cut for a while.

Afterwards every request that nginx answered is in Elasticsearch, once, and every point in InfluxDB.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from drills import elastic, lines
from drills.answered import Load, account
from drills.forum import Account as Sign
from drills.influx import Influx
from drills.lab import Lab, Node, until
from tests.e2e.test_metrics import Task, tasks

#: What 1500 users make.
RATE = 60.0
#: Seconds; the figures in docs/logs.md are those of 300.
AWAY = float(os.environ.get("LOG_OUTAGE_SECONDS", "45"))
#: Seconds; what Telegraf keeps of them must all come.
INFLUXDB_AWAY = 120
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
        with (artifacts / "outages.txt").open("a") as report:
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


class Points:
    """What must be in InfluxDB of a stretch of time: whole tens of seconds, since the epoch."""

    def __init__(self, lab: Lab, wanted: list[Task], began: int, ended: int) -> None:
        self._influx, self._wanted = Influx(lab), wanted
        self._when = f"time >= {began}s AND time < {ended}s"
        # The nodes are asked every fifteen seconds.
        self._least = (ended - began) // 15 - 1

    def gaps(self) -> dict[str, int]:
        """Host -> its tens of seconds without a point; a service without any -> -1."""
        counted = self._influx.ask(
            f'SELECT count(used_percent) FROM mem WHERE {self._when} GROUP BY time(10s), "host" fill(0)'  # noqa: S608  # a time
        )
        hosts = {series.tags["host"]: sum(not row[1] for row in series.rows) for series in counted}
        every = {host for task in self._wanted for host in task.hosts}
        silent = {task.service for task in self._wanted if not task.hosts & set(hosts)}
        return {
            **{host: gaps for host, gaps in hosts.items() if gaps and host in every},
            **dict.fromkeys(silent, -1),
        }

    def whole_nodes(self) -> set[str]:
        """The nodes of which no round of questions is missing, but one at either end."""
        counted = self._influx.ask(f"SELECT count(cpu_load) FROM snmp WHERE {self._when} GROUP BY node")  # noqa: S608  # a time
        return {series.tags["node"] for series in counted if int(series.rows[0][1] or 0) >= self._least}


@contextmanager
def stopped(node: Node, unit: str) -> Iterator[None]:
    """Meanwhile a unit of a node is as if hung. Its socket, which systemd holds, would start it again if it ended."""
    node.run(f"systemctl kill --signal=STOP {unit}")
    try:
        yield
    finally:
        node.run(f"systemctl kill --signal=CONT {unit}")


@contextmanager
def away(node: Node, unit: str) -> Iterator[None]:
    """Meanwhile a unit of a node doesn't run."""
    node.run(f"systemctl stop {unit}")
    try:
        yield
    finally:
        node.run(f"systemctl start {unit}")


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


def kill_the_parts(lab: Lab) -> None:
    """Kill what receives, takes apart and keeps lines, one after the other."""
    for unit in ("log_collector", "log_parser", "elasticsearch"):
        time.sleep(5)
        lab.monitor.run(f"systemctl kill --signal=KILL {unit}")
        time.sleep(15)


def stop_a_shipper(lab: Lab) -> None:
    """A shipper hangs, and a container starts meanwhile."""
    with stopped(lab.swarm[0], "log_shipper"):
        time.sleep(5)
        asked = time.monotonic()
        lines.write(lab.swarm[0], "nginx", lines.new_task(), "true")
        assert time.monotonic() - asked < 30
    time.sleep(5)


def block_the_indices(lab: Lab, blocked: Callable[[bool], None]) -> None:
    """The indices take no line, and somebody tells."""
    blocked(True)
    time.sleep(15)
    lab.monitor.run("systemctl start elasticsearch-keeper.service")
    state = lab.monitor.run("systemctl is-failed elasticsearch-keeper.service").strip()
    told = json.dumps(lab.monitor.run("journalctl -u elasticsearch-keeper.service -n 5 --no-pager"))
    blocked(False)
    time.sleep(5)
    assert state == "failed", told
    assert "index-blocked" in told


def test_one_part_after_the_other_is_away(
    lab: Lab, settled: Callable[[str, Load], None], blocked: Callable[[bool], None]
) -> None:
    wanted, nodes = tasks(lab), {node.container for node in lab.swarm}
    # A node that was away before is found again with the next question after it.
    until(240, lambda: Influx(lab).told("snmp", "cpu_load", ["node"]) == {(node,) for node in nodes})
    # From when on everybody measures: a Telegraf that was killed just now begins with the next ten seconds.
    began = int(time.time()) // 10 * 10 + 20
    time.sleep(began - time.time())
    load = Load(lab, RATE)
    with away(lab.monitor, "influxdb"):
        with load.running():
            kill_the_parts(lab)
            stop_a_shipper(lab)
            block_the_indices(lab, blocked)
        time.sleep(max(0, began + INFLUXDB_AWAY - time.time()))
    ended = int(time.time()) // 10 * 10
    settled("parts killed, a shipper stopped, the indices blocked, one after the other", load)
    points = Points(lab, wanted, began, ended)
    until(90, lambda: points.gaps() == {})
    until(30, lambda: points.whole_nodes() == nodes)
