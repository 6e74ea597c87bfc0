"""A filter that turns the service levels and the dashboards into what the status board's program reads."""

from __future__ import annotations

import dataclasses
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

_SECONDS = {"s": 1, "m": 60, "h": 3600}
#: Shorter windows would often lie between two points of an instance.
_SHORTEST = 30
#: How long an instance that fell silent is missed.
_REMEMBERED = "1d"
_SHOWN, _EVERY = "1h", "1m"


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
    """The tag that tells an indicator's instances apart, also where it adds them up."""
    return "node" if indicator["source"] == "snmp" else "host"


def _statements(indicator: Mapping[str, Any]) -> dict[str, str]:
    """What is asked about an indicator; nothing where it is read from a log."""
    if indicator["source"] == "log":
        return {}
    instance = _instance(indicator)
    newest = {
        **indicator,
        "aggregation": "last",
        "fields": indicator["fields"][:1],
        "per": [instance] if instance == "node" else ["service", instance],
    }
    return {
        "now": _now(indicator),
        "each": _now({"per": [instance], **indicator}),
        "hour": _hour(indicator),
        "seen": influxql.current(newest, influxql.look_back(_REMEMBERED)),
    }


def _level(level: Mapping[str, Any]) -> dict[str, Any]:
    indicator = level["indicator"]
    words = ("name", "description", "source", "unit", "worse")
    told = {key: indicator[key] for key in words if key in indicator}
    purpose = {key: level[key] for key in ("objective", "alarm") if key in level}
    return {
        "id": level["id"], "service": level["service"], "instance": _instance(indicator), **told, **purpose,
        "statements": _statements(indicator),
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


def board_data(levels: Sequence[Mapping[str, Any]], paths: Sequence[str]) -> dict[str, Any]:
    """What the status board shows, with its statements in InfluxQL.

    levels: the list of sla.yml, judged by service_level_errors. paths: the dashboards' descriptions. Returns the two
    lists levels and dashboards. Raises AnsibleFilterError for a description that can't be read.
    """
    plain: list[dict[str, Any]] = dashboards.plain(levels)
    try:
        drawn = [dashboards.load_dashboard(Path(str(path)), plain) for path in sorted(paths)]
    except (OSError, KeyError, ValueError, yaml.YAMLError) as error:
        raise AnsibleFilterError(f"the dashboards can't be read: {error}") from error
    return {
        "levels": [_level(level) for level in plain],
        "dashboards": [
            {"name": board.name, "title": board.title, "instance": board.instance,
             "panels": [_panel(panel, board.instance) for panel in board.panels]}
            for board in drawn
        ],
    }  # fmt: skip


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"board_data": board_data}
