"""InfluxQL statements for the words of sla.yml: an indicator's, or those of a dashboard's own series.

All statements run on InfluxDB 1.6 and later.

A counter's rate is taken of each series on its own, and only then added up: counters of several instances that were
added up first would show a restart as a fall, and a new instance as a leap.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: What a statement computes of each aggregation's values; a rate of now is the mean of the rates between two points.
_FUNCTIONS = {"last": "last", "mean": "mean", "median": "median", "max": "max", "rate": "mean"}


def name(text: str) -> str:
    """The name of a measurement, field, tag or database as InfluxQL writes it."""
    return '"' + _escaped(text, '"') + '"'


def literal(value: object) -> str:
    """A value that tags or fields are compared with as InfluxQL writes it; a tag's value is always a text."""
    return f"{value}" if isinstance(value, int | float) else "'" + _escaped(str(value), "'") + "'"


def _escaped(text: str, quote: str) -> str:
    return re.sub(rf"([\\{quote}])", r"\\\1", text).replace("\n", r"\n")


@dataclass(frozen=True)
class Scope:
    """Which points a statement reads.

    since, until: times as InfluxQL writes them, such as now() - 1h or '2026-01-31T12:00:00Z'. database, policy: where
    they are; the connection's database, the database's default policy unless given. only: a condition in InfluxQL
    that narrows them further.
    """

    since: str
    until: str = "now()"
    database: str = ""
    policy: str = ""
    only: str = ""


def look_back(window: str, **parts: str) -> Scope:
    """The points of the time before now. window: a duration such as 30s; parts: the scope's others."""
    return Scope(since=f"now() - {window}", **parts)


def any_tag(tags: Iterable[str], value: str) -> str:
    """The condition that one of the tags has a value, which is in InfluxQL already, as literal() returns it."""
    return "(" + " OR ".join(f"{name(tag)} = {value}" for tag in tags) + ")"


def current(series: Mapping[str, Any], scope: Scope, alias: str = "value") -> str:
    """The statement for one figure per instance, over the scope's whole time.

    series: an indicator with measurement, fields, aggregation and, where it has them, where and per. Its answer has a
    series for each combination of the tags in per, with the one row [time, figure]. Fields are added up.
    """
    return _statement(series, scope, "", alias)


def graph(series: Mapping[str, Any], scope: Scope, interval: str, alias: str = "value") -> str:
    """The statement for a graph per instance: as current(), with one row per interval that has points.

    interval: a duration such as 1m; for what is added up over instances, such as a rate without per, not less than the
    time between two points of an instance, or an interval knows only some of them.
    """
    return _statement(series, scope, interval, alias)


def bare(series: Mapping[str, Any], database: str, policy: str, alias: str = "value") -> str:
    """The statement's innermost part, for who adds times and groups by himself and takes no statement in a statement.

    Of a rate these are the rates between two points; who asks groups them by all tags (*), and takes the mean of each
    series and then their sum, as current() does. Of everything else it is what current() asks, to be grouped by per.
    """
    scope = Scope(since="", database=database, policy=policy)
    source, condition = _source(series, scope), _condition(series, scope)
    if series["aggregation"] == "rate":
        figure = " + ".join(_rate(name(field)) for field in series["fields"])
    else:
        figure = _total(series)
    where = ("WHERE", condition) if condition else ()
    return " ".join(("SELECT", figure, "AS", name(alias), "FROM", source, *where))


def constant(series: Mapping[str, Any], scope: Scope, interval: str, value: float, alias: str) -> str:
    """The statement for a line at a value, as long as the series has points: how a threshold is drawn in a graph."""
    selected = f"count({name(series['fields'][0])}) * 0 + {value:g}"
    return _select({name(alias): selected}, _source(series, scope), scope, "", _groups(interval))


def tag_values(measurements: Iterable[str], tags: Iterable[str], database: str) -> str:
    """The statement for all values of some tags."""
    measured, keys = (", ".join(map(name, names)) for names in (measurements, tags))
    return f"SHOW TAG VALUES ON {name(database)} FROM {measured} WITH KEY IN ({keys})"


def _statement(series: Mapping[str, Any], scope: Scope, interval: str, alias: str) -> str:
    fields = {name(f"f{number}"): name(field) for number, field in enumerate(series["fields"])}
    condition, source = _condition(series, scope), _source(series, scope)
    groups = _groups(interval, *map(name, series.get("per", ())))
    if series["aggregation"] != "rate":
        return _select({name(alias): _total(series)}, source, scope, condition, groups)
    # A graph's rate is that from the last point of an interval to the next one's: of every point it would take seconds.
    counters = {key: f"last({field})" if interval else field for key, field in fields.items()}
    slopes = {key: _rate(counter) for key, counter in counters.items()}
    rates = _select(slopes, source, scope, condition, _groups(interval, "*"))
    if not interval:
        means = {key: f"{_FUNCTIONS['rate']}({key})" for key in fields}
        rates = _select(means, f"({rates})", scope, "", _groups("", "*"))
    total = " + ".join(f"sum({key})" for key in fields)
    return _select({name(alias): total}, f"({rates})", scope, "", groups)


def _total(series: Mapping[str, Any]) -> str:
    function = _FUNCTIONS[series["aggregation"]]
    return " + ".join(f"{function}({name(field)})" for field in series["fields"])


def _rate(field: str) -> str:
    return f"non_negative_derivative({field}, 1s)"


def _select(columns: Mapping[str, str], source: str, scope: Scope, condition: str, groups: str) -> str:
    selected = ", ".join(f"{expression} AS {key}" for key, expression in columns.items())
    # Every level says the time: an outer one alone would let the inner ones read everything that is kept.
    time = f"time > {scope.since} AND time <= {scope.until}"
    conditions = " AND ".join(filter(None, (time, condition)))
    return " ".join(filter(None, ("SELECT", selected, "FROM", source, "WHERE", conditions, groups)))


def _source(series: Mapping[str, Any], scope: Scope) -> str:
    measurement = name(series["measurement"])
    if not scope.database:
        return f"{name(scope.policy)}.{measurement}" if scope.policy else measurement
    return f"{name(scope.database)}.{name(scope.policy) if scope.policy else ''}.{measurement}"


def _condition(series: Mapping[str, Any], scope: Scope) -> str:
    conditions = [_compared(key, value) for key, value in series.get("where", {}).items()]
    return " AND ".join(filter(None, (*conditions, scope.only)))


def _compared(key: str, value: object) -> str:
    if isinstance(value, Mapping):
        return f"{name(key)} >= {literal(value['gte'])}"
    if isinstance(value, list | tuple):
        return "(" + " OR ".join(f"{name(key)} = {literal(item)}" for item in value) + ")"
    return f"{name(key)} = {literal(value)}"


def _groups(interval: str, *others: str) -> str:
    groups = [f"time({interval})"] if interval else []
    if not (groups := [*groups, *others]):
        return ""
    # An interval without points has no row: silence is no zero, and no value that goes on.
    return f"GROUP BY {', '.join(groups)}" + (" fill(none)" if interval else "")
