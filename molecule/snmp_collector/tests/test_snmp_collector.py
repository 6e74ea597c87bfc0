"""The collector on the monitoring machine, with the swarm, the nodes and the database that it talks to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from role_lab import LAB, MANAGERS, PREFIX, PROJECT, Run, Swarm, process
from testinfra.host import Host

UNIT = "snmp_collector.service"
PLACE = "/opt/snmp_collector"
#: As the swarm calls them.
NODES = [f"{LAB}-{name}" for name in MANAGERS]
#: Runs the program as if cryptography had no ciphers.
WITHOUT_CIPHERS = """
import runpy, sys
sys.modules["cryptography.hazmat.primitives.ciphers"] = None
runpy.run_module("snmp_collector", run_name="__main__", alter_sys=True)
"""
LEVELS = yaml.safe_load((PROJECT / "inventories/shared/sla.yml").read_text())["service_levels"]
INDICATORS = [level["indicator"] for level in LEVELS if level["indicator"]["source"] == "snmp"]


@pytest.fixture(scope="module")
def monitor(machines: dict[str, Host]) -> Host:
    return machines["monitor"]


@pytest.fixture
def rows(monitor: Host, secret_values: dict[str, str]) -> Callable[[str], dict[str, list[Any]]]:
    """Asks InfluxDB; node -> the first row that it answers."""

    def ask(statement: str) -> dict[str, list[Any]]:
        user = f"reader:{secret_values['influxdb_reader_password']}"
        answer = monitor.check_output(
            # One that was just started doesn't listen yet.
            "curl -sS --retry 30 --retry-connrefused --retry-delay 1 --cacert /etc/snmp_collector/ca.crt"
            " --user %s --data-urlencode %s %s",
            user, f"q={statement}", f"https://{PREFIX}.14:8086/query?db=forum&epoch=s",
        )  # fmt: skip
        (result,) = json.loads(answer)["results"]
        return {series["tags"]["node"]: series["values"][0] for series in result.get("series", [])}

    return ask


def until(seconds: float, true: Callable[[], bool]) -> None:
    """Wait until it is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(1)


def journal(monitor: Host, since: float) -> list[str]:
    """The collector's own lines since a moment."""
    shown = monitor.check_output("journalctl --no-pager -o cat -u %s --since %s", UNIT, f"@{since:.0f}")
    return [line for line in shown.splitlines() if line.startswith("event=")]


def test_it_runs_without_privileges_and_starts_with_the_machine(monitor: Host) -> None:
    service = monitor.service("snmp_collector")
    assert service.is_running
    assert service.is_enabled
    state = monitor.check_output("cat /proc/%s/status", process(monitor, UNIT))
    fields = dict(line.split(":\t", 1) for line in state.splitlines() if ":\t" in line)
    assert fields["Uid"].split()[0] == str(monitor.user("snmp_collector").uid)
    assert fields["CapEff"].strip("0\n\t ") == ""


def test_only_it_reads_its_passwords(monitor: Host, secret_values: dict[str, str]) -> None:
    configuration = monitor.file("/etc/snmp_collector/config.toml")
    assert (configuration.mode, configuration.group) == (0o640, "snmp_collector")
    shown = monitor.check_output("journalctl --no-pager -o cat -u %s", UNIT)
    assert not any(value in shown for value in secret_values.values())


@pytest.mark.parametrize("indicator", INDICATORS, ids=lambda indicator: "-".join(indicator["fields"]))
def test_every_node_has_a_young_point_of_every_indicator(
    indicator: dict[str, Any], rows: Callable[[str], dict[str, list[Any]]]
) -> None:
    (field,) = indicator["fields"]
    statement = (
        f"SELECT last({field}) FROM snmp WHERE \"stack\" = 'forum' AND time > now() - 30s GROUP BY node"  # noqa: S608
    )
    # The load is known of two looks at a node.
    until(40, lambda: set(rows(statement)) == set(NODES))


def test_a_silent_node_is_one_line_and_the_others_go_on(
    machines: dict[str, Host], monitor: Host, rows: Callable[[str], dict[str, list[Any]]]
) -> None:
    began = time.time()
    machines["node-3"].check_output("systemctl stop snmpd")
    try:
        time.sleep(50)
        told = rows("SELECT count(uptime) FROM snmp WHERE time > now() - 30s GROUP BY node")
        assert set(told) == set(NODES[:2])
    finally:
        machines["node-3"].check_output("systemctl start snmpd")
    until(40, lambda: any(line == f"event=node-works node={NODES[2]}" for line in journal(monitor, began)))
    fails = [line for line in journal(monitor, began) if "node-fails" in line]
    assert len(fails) == 1
    assert f"node={NODES[2]}" in fails[0]


def test_a_silent_manager_is_one_line_and_the_next_one_is_asked(
    machines: dict[str, Host], monitor: Host, rows: Callable[[str], dict[str, list[Any]]]
) -> None:
    began = time.time()
    machines["node-1"].check_output("systemctl stop haproxy")
    try:
        monitor.check_output("systemctl restart snmp_collector")
        until(
            60, lambda: any(f"event=node-found node={NODES[2]}" in line for line in journal(monitor, began))
        )
    finally:
        machines["node-1"].check_output("systemctl start haproxy")
    fails = [line for line in journal(monitor, began) if "manager-fails" in line]
    assert len(fails) == 1
    assert f"{PREFIX}.11" in fails[0]


def test_what_influxdb_could_not_take_comes_later(
    monitor: Host, rows: Callable[[str], dict[str, list[Any]]]
) -> None:
    began = int(time.time())
    monitor.check_output("systemctl stop influxdb")
    time.sleep(45)
    ended = int(time.time())
    monitor.check_output("systemctl start influxdb")
    statement = f"SELECT count(uptime) FROM snmp WHERE time >= {began}s AND time < {ended}s GROUP BY node"  # noqa: S608

    def whole() -> bool:
        told = rows(statement)
        return set(told) == set(NODES) and all(row[1] >= 2 for row in told.values())

    until(60, whole)


def test_a_drained_node_is_forgotten_and_the_others_stay(
    ansible: Run, swarm: Swarm, rows: Callable[[str], dict[str, list[Any]]]
) -> None:
    # Sooner than in production, for the test's sake.
    sooner = ansible("converge.yml", snmp_collector_discover_seconds=10)
    assert sooner.returncode == 0, sooner.stdout
    swarm.manager.check_output("docker node update --availability drain %s", NODES[2])
    try:
        until(60, lambda: set(rows("SELECT last(uptime) FROM snmp GROUP BY node")) == set(NODES[:2]))
    finally:
        swarm.manager.check_output("docker node update --availability active %s", NODES[2])
    until(90, lambda: set(rows("SELECT last(uptime) FROM snmp GROUP BY node")) == set(NODES))
    assert ansible("converge.yml").returncode == 0


def test_without_encryption_it_refuses_to_start_and_says_why(monitor: Host) -> None:
    refused = monitor.run(
        f"cd {PLACE} && PYTHONDONTWRITEBYTECODE=1 timeout 20 venv/bin/python -c %s /etc/snmp_collector/config.toml",
        WITHOUT_CIPHERS,
    )
    assert refused.rc == 78, refused.stdout + refused.stderr
    assert refused.stdout.startswith("event=refused reason=\"pysnmp can't encrypt")


def test_refused_settings_are_told_once_and_not_tried_again(ansible: Run, monitor: Host) -> None:
    began = time.time()
    refused = ansible("converge.yml", docker_reader_addresses=[])
    try:
        assert refused.returncode != 0
        # Twice as long as systemd waits before it tries again.
        time.sleep(10)
        assert len([line for line in journal(monitor, began) if line.startswith("event=refused")]) == 1
        assert not monitor.service("snmp_collector").is_running
    finally:
        assert ansible("converge.yml").returncode == 0
    assert monitor.service("snmp_collector").is_running


def test_a_module_that_is_no_longer_the_program_s_is_removed(ansible: Run, monitor: Host) -> None:
    stale = f"{PLACE}/snmp_collector/stale.py"
    monitor.check_output("touch %s", stale)
    assert ansible("converge.yml").returncode == 0
    assert not monitor.file(stale).exists
    assert monitor.file(f"{PLACE}/snmp_collector/__main__.py").exists


def test_a_wrong_password_is_told_as_what_it_is(ansible: Run, monitor: Host) -> None:
    began = time.time()
    changed = ansible("converge.yml", snmp_auth_password="another-password-of-nobody")  # noqa: S106 - a wrong one
    assert changed.returncode == 0, changed.stdout
    try:
        until(
            60,
            lambda: len([line for line in journal(monitor, began) if "node-fails" in line]) == len(NODES),
        )
        assert all("node-fails" not in line or "reason=" in line for line in journal(monitor, began))
    finally:
        assert ansible("converge.yml").returncode == 0
