"""What the figures mean."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from . import words
from .sources import Series

_OPS = {"lt": operator.lt, "lte": operator.le, "gt": operator.gt, "gte": operator.ge}
SIGNS = {"lt": "<", "lte": "≤", "gt": ">", "gte": "≥"}
#: An instance whose newest point is older is silent.
SILENT_SECONDS = 60
#: The service that the nodes' shippers are taken for; every node has one, and none is a task of the swarm.
SHIPPERS = "log_shipper"
#: The service of what a node tells of itself.
NODES = ""


class State(Enum):
    """A row's state, in the order of urgency; with its sign and its word, for colour is never the only one."""

    LIMIT = ("limit", "✖", "limit broken")
    ALARM = ("alarm", "▲", "alarm")
    SILENT = ("silent", "◌", "silent")
    UNKNOWN = ("unknown", "?", "unknown")
    NOTICE = ("notice", "▽", "notice")
    OK = ("ok", "✔", "ok")
    WATCHED = ("watched", "○", "watched")
    QUIET = ("quiet", "·", "no lines")

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
    if worse := level.get("worse"):
        return bool(worse == "high")
    if objective := level.get("objective"):
        return objective["op"] in ("lt", "lte")
    if not (alarm := level.get("alarm")):
        return True
    # Where every instance must be low, the highest one decides.
    return bool((alarm["op"] in ("gt", "gte")) != (alarm.get("instances") == "every"))


def _fires(alarm: Mapping[str, Any], values: Sequence[float]) -> bool:
    fired = [_OPS[alarm["op"]](value, alarm["threshold"]) for value in values]
    return all(fired) if alarm.get("instances") == "every" else any(fired)


@dataclass(frozen=True)
class _Heard:
    """Which instances told something within a minute, and which of the others are missed."""

    fresh: frozenset[str]
    missed: tuple[str, ...]


def _heard(seen: Sequence[Series], instance: str, wanted: Mapping[str, int] | None, clock: float) -> _Heard:
    """seen: each instance's newest point. instance: the tag that names it. wanted, clock: as judge() takes them.

    What fell silent has departed where as many of its service tell something as the swarm wants; otherwise as many as
    lack are missed, those that fell silent last. Where it isn't known what is wanted, all are.
    """
    told = sorted((series for series in seen if series.points), key=lambda series: series.points[-1][0])
    fresh = [series for series in told if series.points[-1][0] >= clock - SILENT_SECONDS]
    lacking = Counter(wanted)
    lacking.subtract(series.tags.get("service", NODES) for series in fresh)
    missed = []
    for series in reversed(told[: len(told) - len(fresh)]):
        service = series.tags.get("service", NODES)
        if wanted is None or lacking[service] > 0:
            lacking[service] -= 1
            missed.append(series.tags.get(instance, ""))
    return _Heard(frozenset(series.tags.get(instance, "") for series in fresh), tuple(sorted(missed)))


def _state(
    level: Mapping[str, Any], values: Sequence[float], alarming: Sequence[float] | None = None
) -> State:
    """alarming: what the alarm looks at where that is something else than the objective does."""
    objective, alarm = level.get("objective"), level.get("alarm")
    if objective and not all(_OPS[objective["op"]](value, objective["value"]) for value in values):
        return State.LIMIT
    if alarm and _fires(alarm, values if alarming is None else alarming):
        return State.NOTICE if alarm["severity"] == "info" else State.ALARM
    return State.OK if objective or alarm else State.WATCHED


def judge(
    level: Mapping[str, Any],
    answers: Mapping[str, Sequence[Series]] | None,
    wanted: Mapping[str, int] | None,
    clock: float,
) -> Row:
    """The row of an indicator.

    answers: what its statements now, each, hour and seen answered, and alarm if there is one; of silence only seen;
    None where nobody answered. wanted: service -> how many tasks of it the swarm wants, and under SHIPPERS and NODES
    how many nodes it has; None where nobody has told. clock: seconds since the epoch.
    """
    if answers is None:
        return Row(level, State.UNKNOWN)
    if level["aggregation"] == "silence":
        return _of_silence(level, answers["seen"], wanted, clock)
    if level["source"] == "log":
        return _of_log(level, answers)
    hour, instance = tuple(answers["hour"]), level["instance"]
    heard = _heard(answers["seen"], instance, wanted, clock)
    if not heard.fresh:
        return Row(level, State.SILENT, silent=heard.missed, hour=hour, note="no data for a minute")

    def figures(kind: str) -> dict[str, float]:
        """Name -> figure, without those of the silent; what is added up over all instances has no name."""
        counted = heard.fresh | {""}
        return {
            series.instance: series.points[-1][1]
            for series in answers[kind]
            if series.points and series.tags.get(instance, "") in counted
        }

    values, each = figures("now"), figures("each")
    decisive = max if high_is_bad(level) else min
    state, value, note = State.UNKNOWN, None, "not enough points yet"
    if values:
        state, value, note = _state(level, list(values.values())), decisive(values.values()), ""
    if heard.missed:
        state = min(state, State.SILENT, key=list(State).index)
    worst = decisive(each, key=lambda name: each[name], default="")
    return Row(level, state, value, worst, heard.missed, hour, note)


def _of_silence(
    level: Mapping[str, Any], seen: Sequence[Series], wanted: Mapping[str, int] | None, clock: float
) -> Row:
    """The row of an indicator that counts who is missed."""
    if level["source"] == "log":
        # The newest line's time is its figure there.
        seen = [
            Series({**series.tags, "service": SHIPPERS}, ((series.newest, series.newest),))
            for series in seen
            if series.newest is not None
        ]
    heard = _heard(seen, level["instance"], wanted, clock)
    if not heard.fresh and not heard.missed:
        return Row(level, State.UNKNOWN, note="nobody has told anything for a day")
    missed = float(len(heard.missed))
    return Row(level, _state(level, [missed]), missed, ", ".join(heard.missed))


def _of_log(level: Mapping[str, Any], answers: Mapping[str, Sequence[Series]]) -> Row:
    """The row of an indicator that is read from a log, where silence is no fault: there may have been no visitor.

    Nor is it well: of lines that don't arrive nobody knows what they would have told.
    """
    hour, window = tuple(answers["hour"]), words.period(level["lookback_window"])
    if not any(series.newest for series in answers["seen"]):
        return Row(level, State.QUIET, hour=hour, note=f"no line within {window}")

    def figures(kind: str) -> dict[str, float]:
        return {series.instance: series.newest for series in answers[kind] if series.newest is not None}

    values, each = figures("now"), figures("each")
    alarming = list(figures("alarm").values()) if "alarm" in answers else None
    decisive = max if high_is_bad(level) else min
    return Row(
        level,
        _state(level, list(values.values()), alarming),
        decisive(values.values(), default=None),
        # Where nothing went wrong, nobody is worst.
        decisive(each, key=lambda name: each[name], default="") if any(each.values()) else "",
        hour=hour,
        note="" if values else f"none within {window}",
    )


def recovered(
    level: Mapping[str, Any],
    answers: Mapping[str, Sequence[Series]] | None,
    instance: Mapping[str, str],
    wanted: Mapping[str, int] | None,
    clock: float,
) -> bool | None:
    """Whether an alarm is over: what it looks at is on the good side of its recovery, or else of its threshold.

    instance: tags of the alarm; with none, all instances count. The others as judge() takes them. None where nobody
    knows.
    """
    row = judge(level, answers, wanted, clock)
    if answers is None or row.state is State.UNKNOWN:
        return None
    if level.get("aggregation") == "silence":
        name = instance.get(level["instance"], "")
        return row.state is State.OK or bool(name and name not in row.worst.split(", "))
    if row.state is State.QUIET:
        # Of lines that don't arrive nobody knows what they would have told.
        return None
    values = [
        series.points[-1][1]
        for series in answers.get("alarm", answers["now"])
        if series.points and _same(instance, series.tags)
    ]
    alarm = level["alarm"]
    bad = [_OPS[alarm["op"]](value, alarm.get("recovery", alarm["threshold"])) for value in values]
    if alarm.get("instances") == "every" and not instance:
        return not all(bad) if bad else None
    # Who tells nothing any more is missed, which is another alarm.
    return not any(bad) if bad or level["source"] == "log" or row.state is not State.SILENT else None


def _same(instance: Mapping[str, str], tags: Mapping[str, str]) -> bool:
    """Whether a series is of an instance; what an engine tells apart and the statement doesn't, tells nothing."""
    return all(tags[name] == value for name, value in instance.items() if name in tags)
