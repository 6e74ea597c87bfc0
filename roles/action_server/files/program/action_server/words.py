"""Figures and times as people read them."""

from __future__ import annotations

import datetime

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")
#: Units that a figure names itself, in the size that suits it, and what it says behind that.
_BYTES = {"bytes": "", "bytes/s": "/s"}
_PERIODS = {"s": "s", "m": "min", "h": "h"}


def figure(value: float | None, unit: str = "") -> str:
    """A figure with as many digits as one reads at a glance; without its unit, unless it is changed by it."""
    if value is None:
        return "-"
    if unit in _BYTES:
        return size(value) + _BYTES[unit]
    if unit == "s" and value >= 120:
        return duration(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def unit_of(value: float | None, unit: str) -> str:
    """The unit that is said beside the figure; empty where the figure has it."""
    return "" if value is None or unit in _BYTES or (unit == "s" and value >= 120) else unit


def size(value: float) -> str:
    """Bytes in the unit that leaves few digits."""
    for name in _SIZES:
        if abs(value) < 1024 or name == _SIZES[-1]:
            break
        value /= 1024
    return f"{value:.1f} {name}" if name != "B" else f"{value:.0f} B"


def duration(seconds: float) -> str:
    """Seconds as days, hours and minutes, the two greatest of them."""
    minutes = int(seconds) // 60
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min" if hours else f"{minutes} min"


def period(window: str) -> str:
    """A window such as 3m, in words."""
    return f"{window[:-1]} {_PERIODS[window[-1]]}"


def seconds(window: str) -> float:
    """A window such as 3m, in seconds."""
    return float(window[:-1]) * {"s": 1, "m": 60, "h": 3600}[window[-1]]


def clock(at: float | None) -> str:
    """The time of a moment in UTC; 'never' for none."""
    return "never" if at is None else f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%H:%M:%S} UTC"


def instant(at: float | None) -> str:
    """A moment with its day, in UTC; empty for none."""
    return "" if at is None else f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%d %b %H:%M:%S}"


def moment(text: str) -> str:
    """A line's time, as Elasticsearch tells it, to be read; in UTC."""
    return f"{datetime.datetime.fromisoformat(text).astimezone(datetime.UTC):%d %b %H:%M:%S.%f}"[:-3]
