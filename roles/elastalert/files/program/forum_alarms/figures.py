"""The figures of a service level in an answer of Elasticsearch, and which of them its alarm fires for.

What was asked, and how it is judged, stands in a rule under `forum`, as the filter elastalert_rules writes it.
"""

from __future__ import annotations

import itertools
import operator
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Answer = Mapping[str, Any]
#: A point: seconds since the epoch, and a value for each field.
Point = tuple[float, tuple[float, ...]]

_OPS = {"lt": operator.lt, "lte": operator.le, "gt": operator.gt, "gte": operator.ge}
_FUNCTIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": statistics.fmean,
    "median": statistics.median,
    "max": max,
}
#: An instance whose newest point is older tells nothing of now.
_SILENT_SECONDS = 60


@dataclass(frozen=True)
class Figure:
    """What is known of an instance: by what it is told apart, its figure, and the time of its newest point or line."""

    instance: Mapping[str, str]
    value: float
    newest: float


def firing(answer: Answer, words: Mapping[str, Any], now: float) -> list[Figure]:
    """The figures that the alarm fires for; one without instance where every instance has to be on the bad side.

    words: a rule's `forum`. now: seconds since the epoch, up to which was asked.
    """
    found = list(
        _silent(answer, words, now) if words["aggregation"] == "silence" else _told(answer, words, now)
    )
    bad = [figure for figure in found if _OPS[words["op"]](figure.value, words["threshold"])]
    if words["instances"] == "any":
        return bad
    if not found or len(bad) < len(found):
        return []
    # The one that is nearest to the good side.
    decisive = min if words["op"] in ("gt", "gte") else max
    return [Figure({}, decisive(figure.value for figure in bad), max(figure.newest for figure in bad))]


def _leaves(node: Answer, instance: Mapping[str, str]) -> Iterator[tuple[Mapping[str, str], Answer]]:
    """The innermost nodes, each with what it is told apart by; an empty name, as of what is absent, is left out."""
    each = node.get("each")
    if each is None:
        yield instance, node
        return
    for bucket in each["buckets"]:
        # Of what isn't a text Elasticsearch tells the text beside it.
        if name := str(bucket.get("key_as_string", bucket["key"])):
            yield from _leaves(bucket, {**instance, each["meta"]["name"]: name})


def _silent(answer: Answer, words: Mapping[str, Any], now: float) -> Iterator[Figure]:
    """Those that told nothing in the window; the figure of each is how many they are."""
    gone = [
        instance
        for instance, leaf in _leaves(answer, {})
        if leaf["newest"]["value"] / 1000 < now - words["window"]
    ]
    # Silence is of now: when it began is no time of an event.
    return (Figure(instance, len(gone), now) for instance in gone)


def _told(answer: Answer, words: Mapping[str, Any], now: float) -> Iterator[Figure]:
    for instance, leaf in _leaves(answer, {}):
        if "series" in leaf:
            series = [_points(bucket["points"]) for bucket in leaf["series"]["buckets"]]
            value, newest = of_points(series, words["aggregation"], words["window"])
            if newest < now - _SILENT_SECONDS:
                continue
        else:
            value, newest = of_lines(leaf["value"]), (leaf["newest"]["value"] or now * 1000) / 1000
        if value is not None:
            yield Figure(instance, value, newest)


def _points(answer: Answer) -> list[Point]:
    """A series' points; a moment at which a field has no value is left out."""
    moments = [
        (
            bucket["key"] / 1000,
            [field["value"] for name, field in sorted(bucket.items()) if name.startswith("field")],
        )
        for bucket in answer["buckets"]
    ]
    return [(at, tuple(values)) for at, values in moments if None not in values]


def of_points(
    series: Sequence[Sequence[Point]], aggregation: str, window: float
) -> tuple[float | None, float]:
    """The figure of an instance's points, fields added up, and the time of the newest one.

    series: points in the order of time. window: seconds before the newest one that count: they arrive late, and not
    evenly. A rate is, as in the board's statements, the mean of a series' rates between two points, without those at
    which a counter began anew, added up over all series.
    """
    newest = max((points[-1][0] for points in series if points), default=0.0)
    if aggregation == "rate":
        # Two points that are a window apart say what was between them.
        between = ([point for point in points if point[0] >= newest - window] for points in series)
        rates = [rate for points in between for rate in _rates(points)]
        return (sum(rates) if rates else None), newest
    recent = [[point for point in points if point[0] > newest - window] for points in series]
    columns = list(zip(*(values for points in recent for _, values in points), strict=True))
    if not columns:
        return None, newest
    if aggregation == "last":
        return sum(max(points[-1] for points in recent if points)[1]), newest
    return sum(_FUNCTIONS[aggregation](column) for column in columns), newest


def _rates(points: Sequence[Point]) -> Iterator[float]:
    """A series' rates per second, one for each field."""
    steps = [
        [(new - old) / (later - earlier) for old, new in zip(before, after, strict=True)]
        for (earlier, before), (later, after) in itertools.pairwise(points)
    ]
    for rates in zip(*steps, strict=True):
        if forward := [rate for rate in rates if rate >= 0]:
            yield statistics.fmean(forward)


def of_lines(figure: Answer) -> float | None:
    """The figure of log lines, in the shape of query_dsl.py; None where no line says anything."""
    if "buckets" in figure:
        total = figure["buckets"]["all"]["doc_count"]
        value = figure["buckets"]["bad"]["doc_count"] / total if total else None
    elif "values" in figure:
        (value,) = figure["values"].values()
    else:
        value = figure["value"] if "value" in figure else figure["doc_count"]
    return None if value is None else float(value * figure["meta"]["scale"])
