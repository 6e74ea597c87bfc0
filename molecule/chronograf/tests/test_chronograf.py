"""Chronograf, where there is one."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest
import yaml
from role_lab import PREFIX, PROJECT, STATE, Run, process
from testinfra.backend.base import CommandResult
from testinfra.host import Host

URL = f"https://{PREFIX}.14:8888"
AUTHORITY = "/tmp/chronograf-trial-ca.crt"  # noqa: S108 - the test's own file, in the machine
needs_chronograf = pytest.mark.skipif(
    not os.environ.get("CHRONOGRAF"), reason="CHRONOGRAF names no program: nothing is installed"
)


@pytest.fixture(scope="module")
def monitor(machines: dict[str, Host]) -> Host:
    machine = machines["monitor"]
    machine.check_output("printf '%%s' %s > %s", (STATE / "pki" / "ca.crt").read_text(), AUTHORITY)
    return machine


def ask(machine: Host, path: str, user: str = "") -> CommandResult:
    """What Chronograf answers; user: NAME:PASSWORD, or empty for nobody."""
    words = [
        "--cacert",
        AUTHORITY,
        "-w",
        "\n%{http_code}",
        *(("--user", user) if user else ()),
        f"{URL}{path}",
    ]
    return machine.run("curl -sS " + " ".join(["%s"] * len(words)), *words)


def told(machine: Host, path: str, password: str) -> Any:
    """The JSON that the operator gets."""
    text, _, status = ask(machine, path, f"operator:{password}").stdout.rpartition("\n")
    assert status == "200", text
    return json.loads(text)


@pytest.mark.skipif("CHRONOGRAF" in os.environ, reason="there is one")
def test_without_a_source_nothing_is_done(monitor: Host) -> None:
    assert not monitor.file("/etc/chronograf").exists
    assert not monitor.file("/etc/systemd/system/chronograf.service").exists


@needs_chronograf
def test_it_runs_without_privileges_and_starts_with_the_machine(monitor: Host) -> None:
    assert monitor.service("chronograf").is_running
    assert monitor.service("chronograf").is_enabled
    state = monitor.check_output("cat /proc/%s/status", process(monitor, "chronograf.service"))
    assert f"Uid:\t{monitor.user('chronograf').uid}" in state
    assert "CapEff:\t0000000000000000" in state


@needs_chronograf
def test_nobody_comes_in_without_the_password(monitor: Host) -> None:
    for user in ("", "operator:wrong"):
        for path in ("/", "/chronograf/v1/dashboards", "/chronograf/v1/sources"):
            assert ask(monitor, path, user).stdout.endswith("401")


@needs_chronograf
def test_it_has_the_dashboards(monitor: Host, secret_values: dict[str, str]) -> None:
    dashboards = told(monitor, "/chronograf/v1/dashboards", secret_values["board_password"])["dashboards"]
    described = [
        yaml.safe_load(path.read_text()) for path in (PROJECT / "roles").glob("*/files/dashboard.yml")
    ]
    names = {dashboard["name"] for dashboard in dashboards}
    assert names >= {"nginx", "PostgreSQL", "Redis", "HAProxy", "system", "nodes"}
    assert names >= {description["title"] for description in described}
    assert all(dashboard["cells"] for dashboard in dashboards)


@needs_chronograf
def test_it_reads_the_database_and_tells_no_password(monitor: Host, secret_values: dict[str, str]) -> None:
    (source,) = told(monitor, "/chronograf/v1/sources", secret_values["board_password"])["sources"]
    assert secret_values["influxdb_reader_password"] not in json.dumps(source)
    databases = told(monitor, f"/chronograf/v1/sources/{source['id']}/dbs", secret_values["board_password"])
    assert [database["name"] for database in databases["databases"]] == ["forum"]


@needs_chronograf
def test_only_the_operators_networks_get_an_answer(
    ansible: Run, machines: dict[str, Host], monitor: Host
) -> None:
    if not monitor.file("/sys/fs/cgroup/cgroup.controllers").exists:
        pytest.skip("systemd filters only where control groups are unified")
    knock = f"curl -sS --insecure --max-time 5 {URL}/"
    assert machines["node-1"].run(knock).rc == 0
    assert ansible("converge.yml", action_server_allowed_networks=["198.51.100.0/24"]).returncode == 0
    try:
        assert ask(monitor, "/").stdout.endswith("401"), "its own machine is always let in"
        assert machines["node-1"].run(knock).rc == 28
    finally:
        assert ansible("converge.yml").returncode == 0


@needs_chronograf
def test_it_starts_again_also_when_it_ended_without_an_error(monitor: Host) -> None:
    before = process(monitor, "chronograf.service")
    monitor.check_output("systemctl kill --signal=TERM chronograf.service")
    time.sleep(5)
    assert process(monitor, "chronograf.service") not in ("0", before)


@needs_chronograf
def test_a_run_that_changes_nothing_restarts_nothing(ansible: Run, monitor: Host) -> None:
    before = process(monitor, "chronograf.service")
    assert "changed=0" in ansible("converge.yml").stdout
    assert process(monitor, "chronograf.service") == before
