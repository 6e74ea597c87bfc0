"""Filters that choose who carries which alarm."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Ansible brings module_utils to the machines, and not to its own plugins.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

from plain import plain

#: With the others Elastic's programs speak to nobody outside.
_PAID = ("trial", "gold", "platinum", "enterprise")


def alarm_engines(
    levels: Sequence[Mapping[str, Any]], available: Mapping[str, object]
) -> list[dict[str, str]]:
    """Which engine carries which alarm.

    levels: the list of sla.yml, judged by service_level_errors. available: kapacitor_source, kibana_source and
    elastalert_source, each none where there is none of it; and elastic_licence. What is missing counts as none, and the
    licence as basic.
    Returns, in the order of the levels, a mapping for each that has an alarm: level (its id), engine (kapacitor,
    kibana, watcher, elastalert, or an empty text where nobody can carry it), and why. Raises nothing.
    """
    given = plain(dict(available))
    return [
        {"level": level["id"], **_carried(level["indicator"], given)}
        for level in plain(list(levels))
        if "alarm" in level
    ]


def _carried(indicator: Mapping[str, Any], available: Mapping[str, Any]) -> dict[str, str]:
    """Engine and why."""
    if indicator["source"] != "log":
        if _there(available, "kapacitor"):
            return {"engine": "kapacitor", "why": "it reads InfluxDB"}
        return _last_resort(available, "kapacitor_source is none")
    if not _there(available, "kibana"):
        return _last_resort(available, "kibana_source is none")
    licence = available.get("elastic_licence", "basic")
    if licence not in _PAID:
        return _last_resort(available, f"with the licence {licence} Kibana and Watcher call nobody")
    # Kibana's rules look at all lines of a window, Watcher tells addresses apart.
    if indicator["aggregation"] == "count" and indicator.get("per"):
        return {"engine": "watcher", "why": f"it counts by {', '.join(indicator['per'])}"}
    return {"engine": "kibana", "why": "its rules read the logs"}


def _there(available: Mapping[str, Any], engine: str) -> bool:
    return str(available.get(f"{engine}_source", "none")) != "none"


def _last_resort(available: Mapping[str, Any], why: str) -> dict[str, str]:
    if _there(available, "elastalert"):
        return {"engine": "elastalert", "why": why}
    return {"engine": "", "why": f"{why}, and so is elastalert_source" if why.endswith("none") else why}


def alarm_problems(engines: Sequence[Mapping[str, str]]) -> list[str]:
    """Whether each alarm has an engine.

    engines: as alarm_engines returns them. Returns sentences with the remedy.
    """
    return [
        f"{one['level']}: no engine carries its alarm ({one['why']}): set elastalert_source to pypi"
        for one in engines
        if not one["engine"]
    ]


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"alarm_engines": alarm_engines, "alarm_problems": alarm_problems}
