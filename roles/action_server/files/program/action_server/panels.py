"""A page's panels, and how far its figures can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import charts, words
from .sources import Answers, Series


@dataclass(frozen=True)
class Health:
    """How far a page's figures can be trusted: told on it, so that nothing old passes for new."""

    taken: str
    problem: str


def health(taken: float | None, errors: Mapping[str, str]) -> Health:
    """taken: when the page's figures were told. errors: source -> what is wrong with it; empty while all is well."""
    problems = [f"{source}: {error}" for source, error in errors.items() if error]
    return Health(words.clock(taken), "; ".join(problems))


@dataclass(frozen=True)
class Line:
    """One line of a panel: its figure of now, if it has one, and its last hour."""

    name: str
    value: float | None
    hour: Series


def _lines(name: str, asked: Mapping[str, str], answers: Answers, only: Mapping[str, str]) -> list[Line]:
    """The lines of a series. asked: its statements; only: tags that they must have."""
    found: dict[str, dict[str, Series]] = {}
    for kind, statement in asked.items():
        for series in answers.get(statement, ()):
            if only.items() <= series.tags.items():
                found.setdefault(series.instance, {})[kind] = series
    none = Series({}, ())
    return [
        Line(f"{name} {instance}".strip(), each.get("now", none).newest, each.get("hour", none))
        for instance, each in found.items()
    ]


def panel(
    described: Mapping[str, Any], view: str, only: Mapping[str, str], answers: Answers, now: float
) -> dict[str, Any]:
    """A panel with its lines. view: whole, or each to tell instances apart; only: tags that a line must have."""
    asked = [(series["name"], series[view]) for series in described["series"]]
    lines = [line for name, statements in asked for line in _lines(name, statements, answers, only)]
    graph = None
    # The hour may be unknown while the figures are there.
    if all(statements.get("hour") in answers for _, statements in asked):
        drawn = [(line.name, line.hour) for line in lines]
        graph = charts.graph(drawn, described["thresholds"], described["unit"], now, described["title"])
    return {**described, "lines": lines, "graph": graph}
