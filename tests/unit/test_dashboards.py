"""The dashboards' descriptions: sound, complete, and their mistakes told."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from chronograf import dashboard_errors
from dashboards import DashboardError, Threshold, load_dashboard, read_dashboard

ROOT = Path(__file__).resolve().parents[2]
LEVELS: list[dict[str, Any]] = yaml.safe_load((ROOT / "inventories" / "shared" / "sla.yml").read_text())[
    "service_levels"
]
FILES = sorted((ROOT / "roles").glob("*/files/dashboard.yml"))
DASHBOARDS = {dashboard.name: dashboard for dashboard in (load_dashboard(path, LEVELS) for path in FILES)}
NGINX: dict[str, Any] = yaml.safe_load((ROOT / "roles/nginx/files/dashboard.yml").read_text())


def test_the_wanted_six_and_the_rest_are_there() -> None:
    assert len(FILES) == len(DASHBOARDS)
    six = {"postgres", "redis", "haproxy", "nginx", "system", "nodes"}
    assert set(DASHBOARDS) == six | {"misago", "pgpool", "relay"}


@pytest.mark.parametrize(
    ("measurement", "dashboard"),
    [
        ("gunicorn_requests", "misago"),
        ("gunicorn_request_duration", "misago"),
        ("pgpool", "pgpool"),
        ("internal_write", "relay"),
        ("redis_sentinel_masters", "redis"),
        ("postgresql_replication", "postgres"),
        ("postgresql_standby", "postgres"),
    ],
)
def test_what_is_collected_beside_the_indicators_is_drawn(measurement: str, dashboard: str) -> None:
    assert measurement in DASHBOARDS[dashboard].measurements


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parts[-3])
def test_descriptions_are_sound(path: Path) -> None:
    assert dashboard_errors(yaml.safe_load(path.read_text()), LEVELS) == []


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level["id"])
def test_every_indicator_that_is_no_log_s_is_drawn_where_it_belongs(level: dict[str, Any]) -> None:
    drawn = {
        name
        for name, dashboard in DASHBOARDS.items()
        for panel in dashboard.panels
        if {level["id"]}
        & {*(series.level for series in panel.series), *(line.level for line in panel.thresholds)}
    }
    # What nobody tells has no graph.
    undrawn = level["indicator"]["source"] == "log" or level["indicator"]["aggregation"] == "silence"
    assert drawn == (set() if undrawn else {level["service"]})


@pytest.mark.parametrize("name", DASHBOARDS)
def test_each_can_be_narrowed_from_the_stack_to_one_instance(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert dashboard.narrowed_by[0] == "stack"
    assert dashboard.instance == ("node" if name == "nodes" else "host")


def test_titles_units_and_thresholds_are_the_service_level_s() -> None:
    clients = DASHBOARDS["nginx"].panels[0]
    assert (clients.title, clients.unit, clients.kind) == ("clients per instance", "clients", "graph")
    assert clients.thresholds == (
        Threshold("nginx-clients", "limit", "lt", 1024, "critical"),
        Threshold("nginx-clients", "alarm", "gt", 750, "warning"),
        Threshold("nginx-idle", "alarm", "lt", 150, "info"),
    )
    assert [line.title for line in clients.thresholds] == ["limit < 1024", "alarm > 750", "alarm < 150"]


def test_two_levels_of_one_indicator_are_one_line() -> None:
    (line,) = DASHBOARDS["nginx"].panels[0].series
    assert (line.name, line.level) == ("clients per instance", "nginx-clients")


def test_a_series_of_its_own_looks_back_a_minute() -> None:
    accepted = DASHBOARDS["nginx"].panels[-1].series[0]
    assert (accepted.name, accepted.level) == ("accepted", "")
    assert accepted.words == {
        "measurement": "nginx",
        "fields": ["accepts"],
        "per": ["host"],
        "aggregation": "rate",
        "lookback_window": "1m",
    }


def test_what_a_dashboard_reads() -> None:
    assert DASHBOARDS["haproxy"].measurements == ("haproxy", "haproxy_response")


def test_no_number_of_a_service_level_is_written_again() -> None:
    assert all(set(NGINX["panels"][index]) == {"indicators"} for index in (0, 1))


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"name": "Nginx 1"}, "the dashboard Nginx 1: name: 'Nginx 1' does not match '^[a-z]+$'"),
        (
            {"panles": []},
            "the dashboard nginx: it: Additional properties are not allowed ('panles' was unexpected)",
        ),
        ({"panels": []}, "the dashboard nginx: panels: [] should be non-empty"),
        (
            {"panels": [{"title": "x", "series": []}]},
            "the dashboard nginx: panels/0: {'title': 'x', 'series': []} is not valid under any of the given schemas",
        ),
        (
            {"panels": [{"indicators": ["nginx-client"]}]},
            (
                "the dashboard nginx: panels/0 names nginx-client, which is no service level: "
                "remove it, or add it to sla.yml"
            ),
        ),
        (
            {"panels": [{"indicators": ["nginx-errors"]}]},
            "the dashboard nginx: panels/0 names nginx-errors, which is read from a log: remove it",
        ),
        (
            {"panels": [{"indicators": ["nginx-clients", "nginx-requests"]}]},
            "the dashboard nginx: panels/0 mixes the units clients, requests/s: make it several panels",
        ),
    ],
)
def test_a_mistake_is_told(parts: dict[str, Any], told: str) -> None:
    assert told in dashboard_errors({**NGINX, **parts}, LEVELS)


@pytest.mark.parametrize("description", [None, [], "nginx", {"name": 7}])
def test_what_is_no_description(description: object) -> None:
    assert all(told.startswith("a dashboard: ") for told in dashboard_errors(description, LEVELS))
    assert dashboard_errors(description, LEVELS)


def test_a_service_level_that_an_inventory_lacks_is_an_error() -> None:
    levels = [level for level in copy.deepcopy(LEVELS) if level["id"] != "nginx-idle"]
    with pytest.raises(DashboardError, match="panels/0 names nginx-idle, which is no service level"):
        read_dashboard(NGINX, levels)
