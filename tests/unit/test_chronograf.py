"""Chronograf's dashboards: what its server accepts, with the service levels' thresholds and one instance to choose."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from chronograf import chronograf_dashboard
from dashboards import DashboardError
from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parents[2]
LEVELS = yaml.safe_load((ROOT / "inventories" / "shared" / "sla.yml").read_text())["service_levels"]
DESCRIPTIONS: dict[str, Any] = {
    path.parts[-3]: yaml.safe_load(path.read_text())
    for path in sorted((ROOT / "roles").glob("*/files/dashboard.yml"))
}
SCHEMA = Draft202012Validator(json.loads(Path(__file__).with_name("chronograf.schema.json").read_text()))

by_room = pytest.mark.parametrize("room", DESCRIPTIONS)


def dashboard(room: str) -> dict[str, Any]:
    """A room's dashboard, of the database metrics and the stack forum."""
    return chronograf_dashboard(DESCRIPTIONS[room], LEVELS, "metrics", "forum")


def cell(room: str, name: str) -> dict[str, Any]:
    """The cell of a panel."""
    return next(cell for cell in dashboard(room)["cells"] if cell["name"] == name)


def queries(cell: dict[str, Any]) -> list[str]:
    """The statements of a cell."""
    return [query["query"] for query in cell["queries"]]


@by_room
def test_chronograf_accepts_them(room: str) -> None:
    made = dashboard(room)
    assert [error.message for error in SCHEMA.iter_errors(made)] == []
    assert made["name"] == DESCRIPTIONS[room]["title"]
    assert len(made["cells"]) == len(DESCRIPTIONS[room]["panels"])


def test_their_ids_tell_them_apart_and_stay_the_same() -> None:
    assert len({dashboard(room)["id"] for room in DESCRIPTIONS}) == len(DESCRIPTIONS)
    assert dashboard("nginx")["id"] == 2759310851


@by_room
def test_they_are_plain_json(room: str) -> None:
    assert json.loads(json.dumps(dashboard(room))) == dashboard(room)


@by_room
def test_cells_stand_in_the_grid_and_not_on_each_other(room: str) -> None:
    places = [
        {(cell["x"] + right, cell["y"] + down) for right in range(cell["w"]) for down in range(cell["h"])}
        for cell in dashboard(room)["cells"]
    ]
    assert all(column < 12 for place in places for column, _ in place)
    assert not any(one & other for one, other in combinations(places, 2))


@by_room
def test_every_series_is_narrowed_to_what_is_chosen(room: str) -> None:
    made = dashboard(room)
    (template,) = made["templates"]
    tags = DESCRIPTIONS[room]["narrowed_by"]
    assert template["tempVar"] == f":{tags[-1]}:"
    assert template["values"] == [{"value": "forum", "type": "influxql", "selected": True}]
    assert template["query"]["influxql"].startswith('SHOW TAG VALUES ON "metrics" FROM "')
    wanted = "(" + " OR ".join(f"\"{tag}\" = ':{tags[-1]}:'" for tag in tags) + ")"
    for cell in made["cells"]:
        for query in queries(cell):
            assert ") * 0 +" in query or query.count(wanted) == 1, query


@by_room
def test_every_statement_reads_the_time_that_is_shown_and_its_own_database(room: str) -> None:
    for cell in dashboard(room)["cells"]:
        for query in queries(cell):
            levels = query.count("SELECT ")
            assert query.count("time > :dashboardTime: AND time <= :upperDashboardTime:") == levels
            assert query.count('FROM "metrics".."') == 1


@by_room
def test_every_statement_is_sent_as_it_stands(room: str) -> None:
    # Without an order, Chronograf's pages build another statement, with AND between the tags.
    assert all(
        query.endswith(" ORDER BY time") for cell in dashboard(room)["cells"] for query in queries(cell)
    )


def test_thresholds_are_lines_of_the_service_levels() -> None:
    drawn, *lines = queries(cell("nginx", "clients per instance"))
    assert drawn.startswith('SELECT median("active") AS "clients per instance" FROM "metrics".."nginx"')
    assert drawn.endswith('GROUP BY time(:interval:), "host" fill(none) ORDER BY time')
    assert [line.partition(" FROM ")[0] for line in lines] == [
        'SELECT count("active") * 0 + 1024 AS "limit < 1024"',
        'SELECT count("active") * 0 + 750 AS "alarm > 750"',
        'SELECT count("active") * 0 + 150 AS "alarm < 150"',
    ]


def test_an_axis_has_the_unit() -> None:
    axes = cell("redis", "response time")["axes"]
    assert {name: axis["label"] for name, axis in axes.items()} == {"x": "", "y": "s", "y2": ""}


def test_a_rate_is_drawn_over_the_time_that_its_level_looks_back() -> None:
    drawn = queries(cell("haproxy", "errors"))[0]
    assert drawn.endswith("GROUP BY time(1m) fill(none) ORDER BY time")


def test_figures_of_now_are_a_table_that_tells_by_colour() -> None:
    description = {
        **DESCRIPTIONS["snmp_collector"],
        "panels": [{"kind": "value", "indicators": ["nodes-disk"]}],
    }
    (figures,) = chronograf_dashboard(description, LEVELS, "metrics", "forum")["cells"]
    assert figures["type"] == "table"
    # Its pages stumble over a null.
    assert figures["fieldOptions"] == []
    assert figures["tableOptions"]["verticalTimeAxis"] is True
    (query,) = queries(figures)
    assert query.endswith('GROUP BY "node" ORDER BY time')
    assert [(color["name"], color["value"]) for color in figures["colors"]] == [
        ("base", "-1000000000000000000"),
        ("limit", "80"),
        ("alarm", "70"),
    ]


def test_an_inventory_without_an_indicator_is_told() -> None:
    with pytest.raises(DashboardError, match="nodes-cpu, which is no service level"):
        chronograf_dashboard(DESCRIPTIONS["snmp_collector"], [], "metrics", "forum")
