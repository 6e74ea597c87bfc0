"""What the figures mean."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .sources import Series

_OPS = {"lt": operator.lt, "lte": operator.le, "gt": operator.gt, "gte": operator.ge}
SIGNS = {"lt": "<", "lte": "≤", "gt": ">", "gte": "≥"}
#: An instance whose newest point is older is silent.
SILENT_SECONDS = 60


class State(Enum):
    """A row's state, in the order of urgency; with its sign and its word, for colour is never the only one."""

    LIMIT = ("limit", "✖", "limit broken")
    ALARM = ("alarm", "▲", "alarm")
    SILENT = ("silent", "◌", "silent")
    UNKNOWN = ("unknown", "?", "unknown")
    NOTICE = ("notice", "ⓘ", "notice")
    OK = ("ok", "✔", "ok")
    WATCHED = ("watched", "○", "watched")
    UNMEASURED = ("unmeasured", "·", "not measured yet")

    @property
    def name_(self) -> str:
        """The name in style sheets."""
        return self.value[0]

    @property
    def sign(self) -> str:
        """A sign that tells it without colour."""
        return self.value[1]

    @property
    def word(self) -> str:
        """It in words."""
        return self.value[2]


@dataclass(frozen=True)
class Row:
    """One indicator as the board shows it."""

    level: Mapping[str, Any]
    state: State
    value: float | None = None
    worst: str = ""
    silent: tuple[str, ...] = ()
    hour: tuple[Series, ...] = ()
    note: str = ""


def high_is_bad(level: Mapping[str, Any]) -> bool:
    """Whether the higher figure is the worse one, or the one that decides."""
    if objective := level.get("objective"):
        return objective["op"] in ("lt", "lte")
    if not (alarm := level.get("alarm")):
        return True
    # Where every instance must be low, the highest one decides.
    return bool((alarm["op"] in ("gt", "gte")) != (alarm.get("instances") == "every"))


def _fires(alarm: Mapping[str, Any], values: Sequence[float]) -> bool:
    fired = [_OPS[alarm["op"]](value, alarm["threshold"]) for value in values]
    return all(fired) if alarm.get("instances") == "every" else any(fired)


def _state(level: Mapping[str, Any], values: Sequence[float]) -> State:
    objective, alarm = level.get("objective"), level.get("alarm")
    if objective and not all(_OPS[objective["op"]](value, objective["value"]) for value in values):
        return State.LIMIT
    if alarm and _fires(alarm, values):
        return State.NOTICE if alarm["severity"] == "info" else State.ALARM
    return State.OK if objective or alarm else State.WATCHED


def judge(level: Mapping[str, Any], answers: Mapping[str, Sequence[Series]] | None, clock: float) -> Row:
    """The row of an indicator.

    answers: what its statements now, hour and seen answered; None where nobody answered. clock: seconds since
    the epoch.
    """
    if not level["statements"]:
        return Row(level, State.UNMEASURED, note="read from logs, which aren't collected yet")
    if answers is None:
        return Row(level, State.UNKNOWN)
    hour = tuple(answers["hour"])
    newest = {
        series.instance: max(at for at, _ in series.points) for series in answers["seen"] if series.points
    }
    silent = tuple(sorted(name for name, at in newest.items() if at < clock - SILENT_SECONDS))
    if len(silent) == len(newest):
        return Row(level, State.SILENT, silent=silent, hour=hour, note="no data for a minute")
    values = {
        series.instance: series.points[-1][1]
        for series in answers["now"]
        if series.points and series.instance not in silent
    }
    if not values:
        return Row(level, State.UNKNOWN, silent=silent, hour=hour, note="not enough points yet")
    worst = (max if high_is_bad(level) else min)(values, key=lambda name: values[name])
    return Row(level, _state(level, list(values.values())), values[worst], worst, silent, hour)
