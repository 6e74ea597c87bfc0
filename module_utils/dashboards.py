"""The dashboards' descriptions, roles/ROOM/files/dashboard.yml, completed with the service levels.

Chronograf's dashboards and the status board are made of them. A panel names indicators of sla.yml, which give it its
title, unit, series and thresholds; other series are described in the same words. docs/dashboards.md tells the format,
the filter dashboard_errors judges it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

_SIGNS = {"lt": "<", "lte": "≤", "gt": ">", "gte": "≥"}
#: What a series that is no indicator looks back on, as most indicators do.
_WINDOW = "1m"

Level = Mapping[str, Any]


class DashboardError(ValueError):
    """A description that no dashboard can be made of; its text tells each mistake."""


@dataclass(frozen=True)
class Threshold:
    """A line in a panel: the limit or the alarm of a service level."""

    level: str
    """The level's id."""
    kind: Literal["limit", "alarm"]
    op: str
    """lt, lte, gt or gte: what must hold (limit), or when it fires (alarm)."""
    value: float
    severity: str
    """info, warning or critical; a limit's is critical."""

    @property
    def title(self) -> str:
        """In words, such as 'alarm > 750'."""
        return f"{self.kind} {_SIGNS[self.op]} {self.value:g}"


@dataclass(frozen=True)
class Series:
    """What a panel draws: as many lines as there are combinations of the tags in words['per']."""

    name: str
    words: Mapping[str, Any]
    """In the words of an indicator, as influxql takes them: measurement, fields, aggregation, lookback_window, and
    where and per if it has them."""
    level: str
    """The id of the service level whose indicator it is; empty if it's no indicator."""


@dataclass(frozen=True)
class Panel:
    """One graph, or the figures of now."""

    title: str
    unit: str
    kind: Literal["graph", "value"]
    series: tuple[Series, ...]
    thresholds: tuple[Threshold, ...]


@dataclass(frozen=True)
class Dashboard:
    """A page of panels."""

    name: str
    """What it is known by: small letters."""
    title: str
    narrowed_by: tuple[str, ...]
    """Tags by whose values it can be narrowed, from the whole stack to one instance."""
    panels: tuple[Panel, ...]

    @property
    def instance(self) -> str:
        """The tag that tells instances apart."""
        return self.narrowed_by[-1]

    @property
    def measurements(self) -> tuple[str, ...]:
        """What it reads, each once."""
        read = (series.words["measurement"] for panel in self.panels for series in panel.series)
        return tuple(dict.fromkeys(read))


def _by_id(levels: Iterable[Level]) -> dict[str, Level]:
    return {level["id"]: level for level in levels}


def level_errors(description: Mapping[str, Any], levels: Iterable[Level]) -> list[str]:
    """What a schema can't know: whether the indicators are there, can be drawn, and fit each other.

    description: one that satisfies dashboards.schema.json. levels: the list of sla.yml. Returns sentences.
    """
    known = _by_id(levels)
    return [
        f"panels/{number} {error}"
        for number, panel in enumerate(description["panels"])
        for error in _panel_errors(panel, known)
    ]


def _panel_errors(panel: Mapping[str, Any], levels: Mapping[str, Level]) -> Iterator[str]:
    units = {panel["unit"]} if "unit" in panel else set()
    for level in panel.get("indicators", ()):
        if level not in levels:
            yield f"names {level}, which is no service level: remove it, or add it to sla.yml"
        elif levels[level]["indicator"]["source"] == "log":
            yield f"names {level}, which is read from a log: remove it"
        else:
            units.add(levels[level]["indicator"]["unit"])
    if len(units) > 1:
        yield f"mixes the units {', '.join(sorted(units))}: make it several panels"


def read_dashboard(description: Mapping[str, Any], levels: Iterable[Level]) -> Dashboard:
    """The dashboard of a description that was judged. Raises DashboardError where a service level is missing."""
    known = _by_id(levels)
    if errors := level_errors(description, known.values()):
        raise DashboardError("; ".join(errors))
    return Dashboard(
        name=description["name"],
        title=description["title"],
        narrowed_by=tuple(description["narrowed_by"]),
        panels=tuple(_panel(panel, known) for panel in description["panels"]),
    )


def load_dashboard(path: Path, levels: Iterable[Level]) -> Dashboard:
    """The dashboard of a file. Raises OSError, yaml.YAMLError and DashboardError."""
    return read_dashboard(yaml.safe_load(path.read_text()), levels)


def _panel(panel: Mapping[str, Any], levels: Mapping[str, Level]) -> Panel:
    named = [levels[known] for known in panel.get("indicators", ())]
    first = named[0]["indicator"] if named else {}
    return Panel(
        title=panel.get("title") or first["name"],
        unit=panel.get("unit") or first["unit"],
        kind=panel.get("kind", "graph"),
        series=tuple(_series(panel, named)),
        thresholds=tuple(threshold for level in named for threshold in _thresholds(level)),
    )


def _series(panel: Mapping[str, Any], named: Iterable[Level]) -> Iterator[Series]:
    drawn = []
    for level in named:
        indicator = level["indicator"]
        # Two levels of one indicator, that differ in their window, are one line with the thresholds of both.
        line = [indicator.get(word) for word in ("measurement", "fields", "where", "per", "aggregation")]
        if line not in drawn:
            drawn.append(line)
            yield Series(indicator["name"], indicator, level["id"])
    for series in panel.get("series", ()):
        words = {"lookback_window": _WINDOW, **series}
        yield Series(words.pop("name"), words, "")


def _thresholds(level: Level) -> Iterator[Threshold]:
    if objective := level.get("objective"):
        yield Threshold(level["id"], "limit", objective["op"], objective["value"], "critical")
    if alarm := level.get("alarm"):
        yield Threshold(level["id"], "alarm", alarm["op"], alarm["threshold"], alarm["severity"])
