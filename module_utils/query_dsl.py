"""Searches in Elasticsearch's Query DSL for the words of sla.yml: an indicator of a log, or another figure of it.

All of them run on Elasticsearch 8 without any module, so none has a script.

What is found is told in one shape, whatever was asked, so that an answer can be read without its question: an
aggregation `each` for every field that tells instances apart (its name in `meta.field`), in it, for a graph, `minutes`
with a bucket for each interval, and in that the figure, `value`, to be multiplied by `meta.scale`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Search = dict[str, Any]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
#: What a field's value is multiplied by to be of the unit that figures have.
_SCALES = {"event.duration": 1e-9}
#: What is computed of a field's values, as Elasticsearch calls it; the others are percentiles.
_METRICS = {"mean": "avg", "max": "max", "distinct": "cardinality"}
_PERCENTILES = {"median": 50, "p95": 95, "p99": 99}
#: Instances that are told apart, those with the most lines first.
INSTANCES = 100
#: Whose lines those of a log are; the others' are of the dataset LOG.access.
_DATASETS = {"shipper": "shipper"}


def seconds(duration: str) -> int:
    """The seconds of a duration such as 3m. Raises ValueError for another text."""
    if not (found := re.fullmatch(r"(\d+)([smhd])", duration)):
        raise ValueError(f"{duration} is no duration: write a number with s, m, h or d")
    return int(found[1]) * _SECONDS[found[2]]


def scale(field: str) -> float:
    """What a field's value is multiplied by to be of the unit that figures have: 1 for most."""
    return _SCALES.get(field, 1)


def since(window: str) -> Search:
    """The condition that a line is of the time before now. window: a duration such as 3m."""
    return {"range": {"@timestamp": {"gte": f"now-{window}"}}}


def conditions(where: Mapping[str, Any]) -> list[Search]:
    """The conditions that lines must meet all of.

    where: field -> a value, a list of values that are all meant, or bounds such as {gte: 500}.
    """
    return [_condition(field, value) for field, value in where.items()]


def _condition(field: str, value: object) -> Search:
    if isinstance(value, Mapping):
        return {"range": {field: dict(value)}}
    if isinstance(value, list | tuple):
        return {"terms": {field: list(value)}}
    return {"term": {field: value}}


def current(words: Mapping[str, Any]) -> Search:
    """The search for one figure per instance, over the window.

    words: an indicator with log (whose lines are those of the dataset LOG.access), aggregation and lookback_window,
    and, where it has them, fields (one), where, bad and per. aggregation: mean, median, p95, p99, max or distinct of
    the field; rate, count or ratio; silence, for the time of the newest line. A rate is per second, a ratio per cent, a
    duration in seconds.
    """
    window = words["lookback_window"]
    return _search(words, window, _of_each(words, {"value": figure(words)}))


def graph(words: Mapping[str, Any], window: str, interval: str) -> Search:
    """The search for a graph per instance: as current(), with a figure for each interval of another window.

    A count is that of the indicator's own window, at the interval's pace.
    """
    minutes = {
        "date_histogram": {
            "field": "@timestamp", "fixed_interval": interval, "min_doc_count": 0,
            # No lines are a count, too: zero.
            "extended_bounds": {"min": f"now-{window}", "max": "now"},
        },
        "aggs": {"value": figure(words, seconds(interval))},
    }  # fmt: skip
    return _search(words, window, _of_each(words, {"minutes": minutes}))


def lines(words: Mapping[str, Any]) -> Search:
    """The search for the number of lines in the window, whatever they say. words: log and lookback_window."""
    return current({**{word: words[word] for word in ("log", "lookback_window")}, "aggregation": "count"})


def lines_of(words: Mapping[str, Any]) -> Search:
    """The query for the lines of an indicator, of whatever time."""
    dataset = _DATASETS.get(words["log"], f"{words['log']}.access")
    query = {"filter": [{"term": {"event.dataset": dataset}}, *conditions(words.get("where", {}))]}
    if absent := [*words.get("fields", ()), *words.get("per", ())]:
        query["must_not"] = [_empty(field) for field in absent]
    return {"bool": query}


def _search(words: Mapping[str, Any], window: str, aggregations: Search) -> Search:
    query = lines_of(words)
    query["bool"]["filter"].insert(1, since(window))
    return {"size": 0, "track_total_hits": False, "query": query, "aggs": aggregations}


def _empty(field: str) -> Search:
    """The condition that a field is there and holds nothing, as it comes of what is absent."""
    # Lenient, for fields that can't be empty.
    return {"match": {field: {"query": "", "lenient": True}}}


def _of_each(words: Mapping[str, Any], figures: Search) -> Search:
    fields: Sequence[str] = words.get("per", ())
    for field in reversed(fields):
        terms = {"field": field, "size": INSTANCES}
        figures = {"each": {"terms": terms, "meta": {"field": field}, "aggs": figures}}
    return figures


def figure(words: Mapping[str, Any], span: int = 0) -> Search:
    """The figure of an indicator. span: seconds that it is computed of, the indicator's window unless given."""
    kind, span = words["aggregation"], span or seconds(words["lookback_window"])
    if kind == "silence":
        return {"max": {"field": "@timestamp"}, "meta": {"scale": 1e-3}}
    if kind == "ratio":
        parts = {"bad": {"bool": {"filter": conditions(words["bad"])}}, "all": {"match_all": {}}}
        return {"filters": {"filters": parts}, "meta": {"scale": 100}}
    if kind in ("rate", "count"):
        wanted = 1 if kind == "rate" else seconds(words["lookback_window"])
        return {"filter": {"match_all": {}}, "meta": {"scale": wanted / span}}
    (field,) = words["fields"]
    told = {"scale": 1 if kind == "distinct" else scale(field)}
    if kind in _PERCENTILES:
        return {"percentiles": {"field": field, "percents": [_PERCENTILES[kind]]}, "meta": told}
    return {_METRICS[kind]: {"field": field}, "meta": told}
