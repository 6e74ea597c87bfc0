"""Kibana, where there is one, and what it refuses where there is none."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from role_lab import PREFIX, STATE, Run, process, words
from testinfra.backend.base import CommandResult
from testinfra.host import Host

URL = f"https://{PREFIX}.14:5601"
AUTHORITY = "/tmp/kibana-trial-ca.crt"  # noqa: S108 - the test's own file, in the machine
UNIT = "kibana.service"
DASHBOARDS = [f"forum-{name}" for name in ("nginx", "nginx-access", "misago", "postgres", "redis")]
needs_kibana = pytest.mark.skipif(
    not os.environ.get("KIBANA"), reason="KIBANA describes no repository: nothing is installed"
)


@pytest.fixture(scope="module")
def monitor(machines: dict[str, Host]) -> Host:
    machine = machines["monitor"]
    machine.check_output("printf '%%s' %s > %s", (STATE / "pki" / "ca.crt").read_text(), AUTHORITY)
    return machine


def ask(machine: Host, path: str, user: str = "", body: object = None) -> CommandResult:
    """What Kibana answers, its status in the last line; user: NAME:PASSWORD, or empty for nobody."""
    arguments = [
        *("--cacert", AUTHORITY, "-w", "\n%{http_code}"),
        *(("--user", user) if user else ()),
        *(("-H", "kbn-xsrf: trial", "--json", json.dumps(body)) if body is not None else ()),
        f"{URL}{path}",
    ]
    return machine.run("curl -sS " + " ".join(["%s"] * len(arguments)), *arguments)


def exported(machine: Host, user: str, *dashboards: str) -> list[dict[str, Any]]:
    """Dashboards, as Kibana exports them."""
    wanted = {
        "objects": [{"type": "dashboard", "id": name} for name in dashboards],
        "excludeExportDetails": True,
    }
    text, _, status = ask(machine, "/api/saved_objects/_export", user, wanted).stdout.rpartition("\n")
    assert status == "200", text
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def viewer(secret_values: dict[str, str]) -> str:
    return f"viewer:{secret_values['elasticsearch_viewer_password']}"


@pytest.fixture
def operator(secret_values: dict[str, str]) -> str:
    return f"operator:{secret_values['elasticsearch_operator_password']}"


@pytest.mark.skipif(bool(os.environ.get("KIBANA")), reason="there is one")
def test_without_a_source_nothing_is_done(monitor: Host) -> None:
    assert not monitor.file("/etc/kibana").exists
    assert not monitor.file("/etc/systemd/system/kibana.service.d").exists
    assert not monitor.package("kibana").is_installed


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"kibana_heap_mb": 2048, "kibana_memory_mb": 2048}, "kibana_memory_mb (2048) must be more than"),
        (
            {"kibana_path": "/srv/kibana-1.0.0-amd64.deb"},
            "must be the vendor's package kibana-8.8.2-ARCHITECTURE.deb",
        ),
        (
            {"kibana_path": "/srv/kibana-8.8.2-amd64.deb", "kibana_session_secret": "k" * 31},
            "must have 32 characters or more",
        ),
        ({"kibana_port": "none"}, "kibana_port"),
    ],
)
def test_bad_values_are_refused_and_nothing_is_changed(
    ansible: Run, variables: dict[str, object], told: str
) -> None:
    refused = ansible("converge.yml", kibana_source="path", **variables)
    assert refused.returncode != 0
    assert told in words(refused.stdout)
    assert "changed=0" in refused.stdout


@pytest.mark.skipif(bool(os.environ.get("KIBANA")), reason="there is one")
def test_a_dry_run_tells_that_it_would_be_installed(ansible: Run, monitor: Host, tmp_path: Path) -> None:
    package = tmp_path / "kibana-8.8.2-amd64.deb"
    package.write_text("none")
    dry = ansible("converge.yml", "--check", kibana_source="path", kibana_path=str(package))
    assert dry.returncode == 0, dry.stdout
    assert "changed=0" not in dry.stdout
    assert not monitor.file(f"/var/cache/forum/{package.name}").exists


@needs_kibana
def test_it_runs_without_privileges_and_starts_with_the_machine(monitor: Host) -> None:
    assert monitor.service("kibana").is_running
    assert monitor.service("kibana").is_enabled
    state = monitor.check_output("cat /proc/%s/status", process(monitor, UNIT))
    assert f"Uid:\t{monitor.user('kibana').uid}" in state
    assert "CapEff:\t0000000000000000" in state


@needs_kibana
def test_its_secrets_are_its_own(monitor: Host, secret_values: dict[str, str]) -> None:
    settings = monitor.file("/etc/kibana/kibana.yml")
    assert (settings.user, settings.group, settings.mode) == ("root", "kibana", 0o640)
    shown = monitor.check_output("journalctl --no-pager -u %s; ps -eww -o args=", UNIT)
    for name in (
        "elasticsearch_kibana_server_password",
        "kibana_saved_objects_secret",
        "kibana_session_secret",
    ):
        assert secret_values[name] not in shown


@needs_kibana
def test_nobody_comes_in_without_the_password(monitor: Host) -> None:
    for user in ("", "viewer:wrong"):
        assert ask(monitor, "/api/saved_objects/_export", user, {"type": "dashboard"}).stdout.endswith("401")


@needs_kibana
def test_it_has_the_dashboards_and_operators_see_them(monitor: Host, viewer: str) -> None:
    found = exported(monitor, viewer, *DASHBOARDS)
    assert [one["id"] for one in found] == DASHBOARDS
    assert all(json.loads(one["attributes"]["panelsJSON"]) for one in found)


@needs_kibana
def test_operators_change_nothing(monitor: Host, viewer: str) -> None:
    forged = {"attributes": {"title": "forged"}}
    assert ask(monitor, "/api/saved_objects/dashboard/forged", viewer, forged).stdout.endswith("403")


@needs_kibana
def test_a_dashboard_that_is_gone_comes_back(ansible: Run, monitor: Host, operator: str) -> None:
    words = ["--cacert", AUTHORITY, "--user", operator, "-H", "kbn-xsrf: trial", "-X", "DELETE"]
    url = f"{URL}/api/saved_objects/dashboard/forum-redis"
    monitor.check_output("curl -sSf " + " ".join(["%s"] * (len(words) + 1)), *words, url)
    before = process(monitor, UNIT)
    assert "changed=1" in ansible("converge.yml").stdout
    assert exported(monitor, operator, "forum-redis")
    assert process(monitor, UNIT) == before


@needs_kibana
def test_a_run_that_changes_nothing_restarts_nothing(ansible: Run, monitor: Host) -> None:
    before = process(monitor, UNIT)
    assert "changed=0" in ansible("converge.yml").stdout
    assert process(monitor, UNIT) == before
