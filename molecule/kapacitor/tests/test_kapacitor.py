"""Kapacitor, where there is one."""

from __future__ import annotations

import json
import os
import time

import pytest
from role_lab import Run, process
from testinfra.host import Host

needs_kapacitor = pytest.mark.skipif(
    not os.environ.get("KAPACITOR"), reason="KAPACITOR names no program: nothing is installed"
)


@pytest.fixture(scope="module")
def monitor(machines: dict[str, Host]) -> Host:
    return machines["monitor"]


@pytest.mark.skipif("KAPACITOR" in os.environ, reason="there is one")
def test_without_a_source_nothing_is_done(monitor: Host) -> None:
    assert not monitor.file("/etc/kapacitor").exists
    assert not monitor.file("/etc/systemd/system/kapacitor.service").exists


@needs_kapacitor
def test_it_runs_without_privileges_and_starts_with_the_machine(monitor: Host) -> None:
    assert monitor.service("kapacitor").is_running
    assert monitor.service("kapacitor").is_enabled
    state = monitor.check_output("cat /proc/%s/status", process(monitor, "kapacitor.service"))
    assert f"Uid:\t{monitor.user('kapacitor').uid}" in state
    assert "CapEff:\t0000000000000000" in state


@needs_kapacitor
def test_it_answers_its_own_machine_alone(monitor: Host) -> None:
    shown = monitor.check_output("ss -Hltnp")
    assert {line.split()[3] for line in shown.splitlines() if '"kapacitord"' in line} == {"127.0.0.1:9092"}


@needs_kapacitor
def test_it_reads_the_database(monitor: Host) -> None:
    told = monitor.check_output("curl -sS http://127.0.0.1:9092/kapacitor/v1/service-tests/influxdb")
    assert json.loads(told)["name"] == "influxdb"
    tested = monitor.check_output(
        "curl -sS -X POST -d %s http://127.0.0.1:9092/kapacitor/v1/service-tests/influxdb",
        '{"cluster": "forum"}',
    )
    # That tells of the address and of TLS alone: InfluxDB answers a ping without an account.
    assert json.loads(tested) == {"success": True, "message": ""}
    task = {
        "id": "trial",
        "type": "batch",
        "dbrps": [{"db": "forum", "rp": "full"}],
        "script": 'batch|query(\'SELECT count(value) FROM "forum"."full".trial\').period(1m).every(1s)',
        "status": "enabled",
    }
    tasks = "http://127.0.0.1:9092/kapacitor/v1/tasks"
    monitor.check_output("curl -sS --fail -X POST -d %s %s", json.dumps(task), tasks)
    try:
        time.sleep(5)
        asked = json.loads(monitor.check_output("curl -sS --fail %s", f"{tasks}/trial"))
        assert asked["executing"]
        assert asked["stats"]["node-stats"]["query1"]["errors"] == 0
    finally:
        monitor.check_output("curl -sS --fail -X DELETE %s", f"{tasks}/trial")


@needs_kapacitor
def test_it_has_a_task_for_each_alarm_and_the_token_in_none(monitor: Host) -> None:
    listed = json.loads(monitor.check_output("curl -sS --fail http://127.0.0.1:9092/kapacitor/v1/tasks"))
    tasks = {task["id"]: task for task in listed["tasks"]}
    assert tasks.keys() == {"nginx-clients", "haproxy-errors"}
    assert all(task["executing"] and not task["error"] for task in tasks.values())
    assert "not-a-true-one" not in json.dumps(listed)
    assert monitor.file("/etc/kapacitor/kapacitor.conf").mode == 0o640
    assert monitor.file("/etc/kapacitor/load/tasks").mode == 0o750


@needs_kapacitor
def test_nobody_of_its_machine_sends_the_password_elsewhere(monitor: Host) -> None:
    status = monitor.check_output(
        "curl -sS -o /dev/null -w %s -X POST -d %s http://127.0.0.1:9092/kapacitor/v1/config/influxdb/forum",
        "%{http_code}",
        '{"set": {"urls": ["http://127.0.0.1:9"]}}',
    )
    assert status == "403"


@needs_kapacitor
def test_a_run_that_changes_nothing_restarts_nothing(ansible: Run, monitor: Host) -> None:
    before = process(monitor, "kapacitor.service")
    assert "changed=0" in ansible("converge.yml").stdout
    assert process(monitor, "kapacitor.service") == before
