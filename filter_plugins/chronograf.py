"""Filters that judge the dashboards' descriptions, and write them in Chronograf's words."""

from __future__ import annotations

import functools
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

_ROOT = Path(__file__).parents[1]
# Ansible brings module_utils to the machines, and not to its own plugins.
sys.path.insert(0, str(_ROOT / "module_utils"))

# Only now on the path.
from dashboards import Dashboard, Panel, level_errors, read_dashboard  # noqa: E402
from influxql import Scope, any_tag, constant, current, graph, tag_values  # noqa: E402
from plain import plain  # noqa: E402

_SCHEMA = _ROOT / "module_utils" / "dashboards.schema.json"
_WORDS = _ROOT / "inventories" / "shared" / "sla.schema.json"

#: The cells of a dashboard stand in a grid of 12 columns; these are a cell's width and height.
_COLUMNS, _WIDTH, _HEIGHT = 12, 6, 4
#: The words that Chronograf replaces in a statement: the time that is shown, and a time per point of the screen.
_SINCE, _UNTIL, _INTERVAL = ":dashboardTime:", ":upperDashboardTime:", ":interval:"
#: Changes no answer. But a statement that Chronograf's editor could have made is taken apart by its server, and its
#: pages build another one of that, in which all tags must have the chosen value instead of one: an empty graph. The
#: editor knows no order, so that a statement with one is sent as it stands.
_AS_IT_STANDS = " ORDER BY time"
_COLORS = {"info": "#4591ED", "warning": "#FFB94A", "critical": "#DC4E58"}
_CALM = "#4ED8A0"
#: How a table shows its figures: none is renamed or hidden. Where a cell leaves this out, Chronograf's server fills in
#: a null, its pages stumble over that, and the table stays blank.
_TABLE: dict[str, Any] = {
    "tableOptions": {
        "verticalTimeAxis": True,
        "sortBy": {"internalName": "time", "displayName": "", "visible": True},
        "wrapping": "truncate",
        "fixFirstColumn": True,
    },
    "fieldOptions": [],
    "timeFormat": "YYYY-MM-DD HH:mm:ss",
    "decimalPlaces": {"isEnforced": True, "digits": 2},
}


@functools.cache
def _validator() -> Draft202012Validator:
    """The schema of a description; what it shares with sla.yml is defined there."""
    schema, words = json.loads(_SCHEMA.read_text()), json.loads(_WORDS.read_text())
    return Draft202012Validator({**schema, "$defs": {**words["$defs"], **schema["$defs"]}})


def dashboard_errors(description: object, levels: list[dict[str, Any]]) -> list[str]:
    """Everything that is wrong with a dashboard's description.

    description: the content of a dashboard.yml. levels: the list of sla.yml, which service_level_errors judges.
    Returns sentences, each with the dashboard's name: what violates dashboards.schema.json; if nothing does,
    indicators that sla.yml hasn't or that are read from a log, and panels of several units. Raises nothing.
    """
    given = plain(description)
    named = isinstance(given, dict) and isinstance(given.get("name"), str)
    where = f"the dashboard {given['name']}" if named else "a dashboard"
    errors = [
        f"{'/'.join(map(str, error.absolute_path)) or 'it'}: {error.message}"
        for error in _validator().iter_errors(given)
    ]
    return [f"{where}: {error}" for error in errors or level_errors(given, plain(levels))]


def chronograf_dashboard(
    description: Mapping[str, Any], levels: list[dict[str, Any]], database: str, stack: str
) -> dict[str, Any]:
    """A dashboard as Chronograf takes it: in a file of its resources, or by its API.

    description: a dashboard.yml in which dashboard_errors finds nothing. levels: the list of sla.yml. database: the
    one that holds the measurements. stack: the name of the whole, as the tag has it. Its id, which tells the files of
    one Chronograf apart, is made of its name; the API gives another one.
    Returns what stands in the file. Raises dashboards.DashboardError for an indicator that isn't in levels.
    Source of the format: Chronograf's swagger.json, and the server's Go types where that says less.
    """
    dashboard = read_dashboard(plain(description), plain(levels))
    variable = f":{dashboard.instance}:"
    # A chosen value comes as it is, without quotes.
    scope = Scope(_SINCE, _UNTIL, str(database), only=any_tag(dashboard.narrowed_by, f"'{variable}'"))
    return {
        "id": zlib.crc32(dashboard.name.encode()),
        "name": dashboard.title,
        "organization": "default",
        "cells": [_cell(dashboard, place, scope) for place in range(len(dashboard.panels))],
        "templates": [_template(dashboard, variable, str(database), str(stack))],
    }


def _template(dashboard: Dashboard, variable: str, database: str, stack: str) -> dict[str, Any]:
    """The choice between the whole stack and the values of the other tags."""
    whole = {"value": stack, "type": "influxql", "selected": True}
    choices = tag_values(dashboard.measurements, dashboard.narrowed_by, database)
    return {
        "id": f"{dashboard.name}-{dashboard.instance}",
        "tempVar": variable,
        "type": "influxql",
        "label": "",
        "values": [whole],
        "query": {"influxql": choices, "db": database, "measurement": "", "tagKey": "", "fieldKey": ""},
    }


def _cell(dashboard: Dashboard, place: int, scope: Scope) -> dict[str, Any]:
    panel = dashboard.panels[place]
    row, column = divmod(place * _WIDTH, _COLUMNS)
    return {
        "i": f"{dashboard.name}-{place}",
        "x": column,
        "y": row * _HEIGHT,
        "w": _WIDTH,
        "h": _HEIGHT,
        "name": panel.title,
        "type": {"graph": "line", "value": "table"}[panel.kind],
        "queries": [
            {"query": query + _AS_IT_STANDS, "type": "influxql", "source": ""}
            for query in _queries(panel, scope)
        ],
        "axes": {axis: _axis(panel.unit if axis == "y" else "") for axis in ("x", "y", "y2")},
        "colors": _colors(panel) if panel.kind == "value" else [],
        "legend": {},
        "note": "",
        **_TABLE,
    }


def _axis(label: str) -> dict[str, Any]:
    return {"label": label, "bounds": ["", ""], "prefix": "", "suffix": "", "base": "10", "scale": "linear"}


def _queries(panel: Panel, scope: Scope) -> Iterator[str]:
    """A panel's statements: its series, and a line for each threshold."""
    for series in panel.series:
        if panel.kind == "value":
            yield current(series.words, scope, series.name)
            continue
        # What is added up over instances needs them all in each interval, however closely one looks.
        rate = series.words["aggregation"] == "rate"
        interval = series.words["lookback_window"] if rate else _INTERVAL
        yield graph(series.words, scope, interval, series.name)
    if panel.kind == "graph":
        first = panel.series[0].words
        for line in panel.thresholds:
            yield constant(first, scope, _INTERVAL, line.value, line.title)


def _colors(panel: Panel) -> list[dict[str, str]]:
    """From which value on a figure has which colour."""
    rising = {"limit": ("lt", "lte"), "alarm": ("gt", "gte")}
    steps = [("base", _CALM, "-1000000000000000000")]
    steps += [
        (line.kind, _COLORS[line.severity], f"{line.value:g}")
        for line in panel.thresholds
        if line.op in rising[line.kind]
    ]
    return [
        {"id": name, "type": "text", "hex": color, "name": name, "value": value}
        for name, color, value in steps
    ]


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"chronograf_dashboard": chronograf_dashboard, "dashboard_errors": dashboard_errors}
