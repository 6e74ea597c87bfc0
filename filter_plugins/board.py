"""A filter that turns the service levels and the dashboards into what the status board's program reads."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError

# Ansible brings module_utils to the machines, and not to its own plugins.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

import dashboards
import influxql
import query_dsl
from plain import plain

_SECONDS = {"s": 1, "m": 60, "h": 3600}
#: Shorter windows would often lie between two points of an instance.
_SHORTEST = 30
#: How long an instance that fell silent is missed.
_REMEMBERED = "1d"
_SHOWN, _EVERY = "1h", "1m"


#: The panels of the page of requests: title, unit, and its series in the words of an indicator of nginx's log.
_REQUESTS: tuple[tuple[str, str, dict[str, dict[str, Any]]], ...] = (
    ("request rate", "requests/s", {"requests": {"aggregation": "rate"}}),
    (
        "answers by status",
        "answers/s",
        {
            f"{first}xx": {
                "where": {"http.response.status_code": {"gte": first * 100, "lt": first * 100 + 100}},
                "aggregation": "rate",
            }
            for first in (2, 3, 4, 5)
        },
    ),
    (
        "response time",
        "s",
        {
            name: {"fields": ["event.duration"], "aggregation": aggregation, "lookback_window": "5m"}
            for name, aggregation in (("50 %", "median"), ("95 %", "p95"), ("99 %", "p99"))
        },
    ),
)


def _window(duration: str) -> str:
    """A level's window, or the shortest that surely holds points."""
    match = re.fullmatch(r"(\d+)([smh])", duration)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    return duration if seconds >= _SHORTEST else f"{_SHORTEST}s"


def _now(words: Mapping[str, Any]) -> str:
    return influxql.current(words, influxql.look_back(_window(words["lookback_window"])))


def _hour(words: Mapping[str, Any]) -> str:
    return influxql.graph(words, influxql.look_back(_SHOWN), _EVERY)


def _instance(indicator: Mapping[str, Any]) -> str:
    """The tag or field that tells an indicator's instances apart, also where it adds them up."""
    return {"snmp": "node", "log": "host.name"}.get(indicator["source"], "host")


def _statements(indicator: Mapping[str, Any]) -> dict[str, str]:
    """What InfluxDB is asked about an indicator."""
    instance = _instance(indicator)
    newest = {
        **indicator,
        "aggregation": "last",
        "fields": indicator["fields"][:1],
        "per": [instance] if instance == "node" else ["service", instance],
    }
    seen = influxql.current(newest, influxql.look_back(_REMEMBERED))
    if indicator["aggregation"] == "silence":
        return {"seen": seen}
    return {
        "now": _now(indicator),
        "each": _now({"per": [instance], **indicator}),
        "hour": _hour(indicator),
        "seen": seen,
    }


def _searches(indicator: Mapping[str, Any], alarm: Mapping[str, Any]) -> dict[str, str]:
    """What Elasticsearch is asked about an indicator of a log, as JSON; of its alarm, where that has another figure."""
    if indicator["aggregation"] == "silence":
        return {"seen": json.dumps(query_dsl.current({**indicator, "lookback_window": _REMEMBERED}))}
    asked = {
        "now": query_dsl.current(indicator),
        "each": query_dsl.current({"per": [_instance(indicator)], **indicator}),
        "hour": query_dsl.graph(indicator, _SHOWN, _EVERY),
        "seen": query_dsl.lines(indicator),
    }
    if aggregation := alarm.get("aggregation"):
        asked["alarm"] = query_dsl.current({**indicator, "aggregation": aggregation})
    return {kind: json.dumps(search) for kind, search in asked.items()}


def _level(level: Mapping[str, Any]) -> dict[str, Any]:
    indicator = level["indicator"]
    words = ("name", "description", "source", "aggregation", "lookback_window", "unit", "worse")
    told = {key: indicator[key] for key in words if key in indicator}
    purpose = {key: level[key] for key in ("objective", "alarm") if key in level}
    of_log = indicator["source"] == "log"
    return {
        "id": level["id"], "service": level["service"], "instance": _instance(indicator), **told, **purpose,
        "statements": _searches(indicator, level.get("alarm", {})) if of_log else _statements(indicator),
    }  # fmt: skip


def _asked(words: Mapping[str, Any], kind: str) -> dict[str, str]:
    """What is asked about a panel's series."""
    return {"now": _now(words)} if kind == "value" else {"now": _now(words), "hour": _hour(words)}


def _series(series: dashboards.Series, kind: str, instance: str) -> dict[str, Any]:
    """A panel's series: as it is drawn of the whole stack, and told apart by instance, for a page of one of them."""
    per = list(series.words.get("per", ()))
    each = {**series.words, "per": per if instance in per else [*per, instance]}
    return {"name": series.name, "whole": _asked(series.words, kind), "each": _asked(each, kind)}


def _panel(panel: dashboards.Panel, instance: str) -> dict[str, Any]:
    return {
        "title": panel.title,
        "unit": panel.unit,
        "kind": panel.kind,
        "thresholds": [
            {**dataclasses.asdict(threshold), "title": threshold.title} for threshold in panel.thresholds
        ],
        "series": [_series(series, panel.kind, instance) for series in panel.series],
    }


def _requests_panel(title: str, unit: str, series: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A panel of the page of requests, in the shape of those that InfluxDB draws."""

    def asked(words: Mapping[str, Any]) -> dict[str, str]:
        told = {"log": "nginx", "lookback_window": "1m", **words}
        searches = {"now": query_dsl.current(told), "hour": query_dsl.graph(told, _SHOWN, _EVERY)}
        return {kind: json.dumps(search) for kind, search in searches.items()}

    drawn = [{"name": name, "whole": asked(words)} for name, words in series.items()]
    return {"title": title, "unit": unit, "kind": "graph", "thresholds": [], "series": drawn}


def board_data(levels: Sequence[Mapping[str, Any]], paths: Sequence[str]) -> dict[str, Any]:
    """What the status board shows, with its statements in InfluxQL, and in the Query DSL for what it reads from logs.

    levels: the list of sla.yml, judged by service_level_errors. paths: the dashboards' descriptions. Returns the lists
    levels, dashboards, and requests, which are the panels of the page of that name. Raises AnsibleFilterError for a
    description that can't be read.
    """
    given: list[dict[str, Any]] = plain(levels)
    try:
        drawn = [dashboards.load_dashboard(Path(str(path)), given) for path in sorted(paths)]
    except (OSError, KeyError, ValueError, yaml.YAMLError) as error:
        raise AnsibleFilterError(f"the dashboards can't be read: {error}") from error
    return {
        "levels": [_level(level) for level in given],
        "dashboards": [
            {"name": board.name, "title": board.title, "instance": board.instance,
             "panels": [_panel(panel, board.instance) for panel in board.panels]}
            for board in drawn
        ],
        "requests": [_requests_panel(*panel) for panel in _REQUESTS],
    }  # fmt: skip


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"board_data": board_data}
