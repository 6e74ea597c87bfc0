"""Graphs as SVG. No style in them: what the page's security policy would refuse; colours are the style sheet's."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from .sources import HOUR, MINUTE, Series
from .words import figure

#: A line is broken where a point is missing, so that silence shows.
_GAP = 1.5 * MINUTE
_COLOURS = 8
_SPARK = (120, 28)
_WIDE, _HIGH = 640, 220
#: With room for words as large as a phone needs them.
_LEFT, _RIGHT, _TOP, _BOTTOM = 88, 8, 10, 28


def _lines(points: Iterable[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The points in pieces without a gap."""
    pieces: list[list[tuple[float, float]]] = []
    for at, value in points:
        if not pieces or at - pieces[-1][-1][0] > _GAP:
            pieces.append([])
        pieces[-1].append((at, value))
    return pieces


def ceiling(value: float) -> float:
    """The round number above a value at which an axis ends."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * 0.999999)


class _Frame:
    """Where a moment and a value are in the picture."""

    def __init__(self, now: float, top: float, box: tuple[float, float, float, float]) -> None:
        self._now, self._top = now, top
        self.left, self.upper, self.right, self.lower = box

    def x(self, at: float) -> float:
        share = min(max((at - self._now + HOUR) / HOUR, 0.0), 1.0)
        return self.left + share * (self.right - self.left)

    def y(self, value: float) -> float:
        share = min(max(value / self._top, 0.0), 1.0)
        return self.lower - share * (self.lower - self.upper)

    def path(self, series: Series) -> str:
        """A series as the path of its line; a single point is a short stroke."""
        drawn = []
        for piece in _lines(series.points):
            places = [f"{self.x(at):.1f},{self.y(value):.1f}" for at, value in piece]
            drawn.append(f"M{' L'.join(places)}" + (" h1.5" if len(places) == 1 else ""))
        return " ".join(drawn)


def _highest(series: Iterable[Series]) -> float:
    return max((value for each in series for _, value in each.points), default=0.0)


def spark(series: Sequence[Series], now: float, title: str) -> Markup:
    """The last hour in a line of text: all instances, scaled to their highest value."""
    wide, high = _SPARK
    frame = _Frame(now, ceiling(_highest(series)), (1, 2, wide - 1, high - 2))
    parts = [
        Markup(
            '<svg class="spark" role="img" viewBox="0 0 {} {}" width="{}" height="{}"><title>{}</title>'
        ).format(wide, high, wide, high, title),
        Markup('<path class="base" d="M1,{0} H{1}"/>').format(high - 2, wide - 1),
    ]
    parts += [
        Markup('<path class="line" d="{}"/>').format(frame.path(each)) for each in series if each.points
    ]
    return Markup("").join([*parts, Markup("</svg>")])


def _ticks(now: float) -> Iterable[float]:
    first = math.ceil((now - HOUR) / 900) * 900
    return (first + 900 * number for number in range(5) if first + 900 * number <= now)


def graph(
    lines: Sequence[tuple[str, Series]],
    thresholds: Sequence[Mapping[str, Any]],
    unit: str,
    now: float,
    title: str,
) -> Markup:
    """A panel's graph: its lines with their names, its thresholds, the axes.

    A threshold far above all values would press them flat: it is then told below the graph, and not drawn.
    """
    highest = _highest(each for _, each in lines)
    drawn = [line for line in thresholds if line["value"] <= highest * 4]
    top = ceiling(max([highest, *(line["value"] * 1.05 for line in drawn)]))
    frame = _Frame(now, top, (_LEFT, _TOP, _WIDE - _RIGHT, _HIGH - _BOTTOM))
    parts = [
        Markup('<svg class="graph" role="img" viewBox="0 0 {} {}"><title>{}</title>').format(
            _WIDE, _HIGH, title
        )
    ]
    for value in (0.0, top / 2, top):
        y = f"{frame.y(value):.1f}"
        parts.append(Markup('<path class="grid" d="M{},{} H{}"/>').format(_LEFT, y, _WIDE - _RIGHT))
        parts.append(
            Markup('<text class="axis" x="{}" y="{}" dy="4" text-anchor="end">{}</text>').format(
                _LEFT - 6, y, figure(value, unit)
            )
        )
    for at in _ticks(now):
        told = f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%H:%M}"
        parts.append(
            Markup('<text class="axis" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
                min(max(frame.x(at), _LEFT + 14), _WIDE - 28), _HIGH - 7, told
            )
        )
    for line in drawn:
        y = f"{frame.y(line['value']):.1f}"
        parts.append(
            Markup('<path class="{}" d="M{},{} H{}"/>').format(line["kind"], _LEFT, y, _WIDE - _RIGHT)
        )
        parts.append(
            Markup('<text class="{} label" x="{}" y="{}" dy="-4" text-anchor="end">{}</text>').format(
                line["kind"], _WIDE - _RIGHT - 4, y, line["title"]
            )
        )
    for number, (name, series) in enumerate(lines):
        parts.append(
            Markup('<path class="line c{}" d="{}"><title>{}</title></path>').format(
                number % _COLOURS, frame.path(series), name
            )
        )
    if not any(series.points for _, series in lines):
        parts.append(
            Markup('<text class="axis" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                _WIDE // 2, _HIGH // 2, escape("no data in the last hour")
            )
        )
    return Markup("").join([*parts, Markup("</svg>")])
