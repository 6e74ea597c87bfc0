"""The Query DSL: each word of an indicator does what it says, and what is found tells how it is read."""

from __future__ import annotations

from typing import Any

import pytest
from query_dsl import conditions, current, graph, lines, seconds

ERRORS: dict[str, Any] = {
    "log": "nginx",
    "where": {"http.response.status_code": {"gte": 500}},
    "aggregation": "rate",
    "lookback_window": "1m",
}
SLOWEST: dict[str, Any] = {
    "log": "misago",
    "fields": ["event.duration"],
    "where": {"http.request.method": ["POST", "PATCH"]},
    "aggregation": "max",
    "lookback_window": "3m",
}
CLIENTS: dict[str, Any] = {
    "log": "misago",
    "fields": ["source.ip"],
    "per": ["container.id"],
    "aggregation": "distinct",
    "lookback_window": "5m",
}
SHARE: dict[str, Any] = {
    "log": "misago",
    "bad": {"http.response.status_code": {"gte": 500}},
    "aggregation": "ratio",
    "lookback_window": "3m",
}
LOGINS: dict[str, Any] = {
    "log": "nginx",
    "where": {"url.path": "/api/auth/"},
    "per": ["source.ip"],
    "aggregation": "count",
    "lookback_window": "30s",
}
ALL: dict[str, Any] = {"match_all": {}}


def of(dataset: str, window: str) -> list[dict[str, Any]]:
    """The conditions that a search begins with."""
    return [{"term": {"event.dataset": dataset}}, {"range": {"@timestamp": {"gte": f"now-{window}"}}}]


def empty(field: str) -> dict[str, Any]:
    return {"match": {field: {"query": "", "lenient": True}}}


def test_a_rate_is_a_count_of_lines_over_its_seconds() -> None:
    assert current(ERRORS) == {
        "size": 0,
        "track_total_hits": False,
        "query": {
            "bool": {
                "filter": [*of("nginx.access", "1m"), {"range": {"http.response.status_code": {"gte": 500}}}]
            }
        },
        "aggs": {"value": {"filter": ALL, "meta": {"scale": 1 / 60}}},
    }


def test_a_duration_is_told_in_seconds_and_an_empty_field_is_none() -> None:
    assert current(SLOWEST) == {
        "size": 0,
        "track_total_hits": False,
        "query": {
            "bool": {
                "filter": [
                    *of("misago.access", "3m"),
                    {"terms": {"http.request.method": ["POST", "PATCH"]}},
                ],
                "must_not": [empty("event.duration")],
            }
        },
        "aggs": {"value": {"max": {"field": "event.duration"}, "meta": {"scale": 1e-9}}},
    }


def test_instances_are_told_apart_by_a_field_that_is_named_in_the_answer() -> None:
    search = current(CLIENTS)
    assert search["query"]["bool"] == {
        "filter": of("misago.access", "5m"),
        "must_not": [empty("source.ip"), empty("container.id")],
    }
    assert search["aggs"] == {
        "each": {
            "terms": {"field": "container.id", "size": 100},
            "meta": {"field": "container.id"},
            "aggs": {"value": {"cardinality": {"field": "source.ip"}, "meta": {"scale": 1}}},
        }
    }


def test_several_fields_tell_apart_one_within_the_other() -> None:
    outer = current({**CLIENTS, "per": ["host.name", "container.id"]})["aggs"]["each"]
    assert outer["meta"] == {"field": "host.name"}
    assert outer["aggs"]["each"]["meta"] == {"field": "container.id"}


def test_a_ratio_is_of_all_lines_that_are_meant() -> None:
    search = current(SHARE)
    assert search["query"]["bool"] == {"filter": of("misago.access", "3m")}
    bad = {"bool": {"filter": [{"range": {"http.response.status_code": {"gte": 500}}}]}}
    assert search["aggs"] == {
        "value": {"filters": {"filters": {"bad": bad, "all": ALL}}, "meta": {"scale": 100}}
    }


@pytest.mark.parametrize(
    ("aggregation", "computed"),
    [
        ("mean", {"avg": {"field": "event.duration"}}),
        ("median", {"percentiles": {"field": "event.duration", "percents": [50]}}),
        ("p95", {"percentiles": {"field": "event.duration", "percents": [95]}}),
        ("p99", {"percentiles": {"field": "event.duration", "percents": [99]}}),
    ],
)
def test_other_aggregations(aggregation: str, computed: dict[str, Any]) -> None:
    search = current({**SLOWEST, "aggregation": aggregation})
    assert search["aggs"] == {"value": {**computed, "meta": {"scale": 1e-9}}}


def test_a_graph_has_a_figure_for_each_interval_also_without_lines() -> None:
    search = graph(ERRORS, "1h", "1m")
    assert search["query"]["bool"]["filter"][:2] == of("nginx.access", "1h")
    assert search["aggs"] == {
        "minutes": {
            "date_histogram": {
                "field": "@timestamp",
                "fixed_interval": "1m",
                "min_doc_count": 0,
                "extended_bounds": {"min": "now-1h", "max": "now"},
            },
            "aggs": {"value": {"filter": ALL, "meta": {"scale": 1 / 60}}},
        }
    }


def test_a_graph_of_counts_has_its_own_window_s_and_not_the_interval_s() -> None:
    each = graph(LOGINS, "1h", "1m")["aggs"]["each"]
    assert each["meta"] == {"field": "source.ip"}
    assert each["aggs"]["minutes"]["aggs"]["value"]["meta"] == {"scale": 0.5}
    assert current(LOGINS)["aggs"]["each"]["aggs"]["value"]["meta"] == {"scale": 1}


def test_all_lines_of_the_window_are_counted_whatever_they_say() -> None:
    search = lines({**SLOWEST, "per": ["host.name"]})
    assert search["query"] == {"bool": {"filter": of("misago.access", "3m")}}
    assert search["aggs"] == {"value": {"filter": ALL, "meta": {"scale": 1}}}


def test_conditions_are_met_all() -> None:
    assert conditions({"a": 400, "b": ["x", "y"], "c": {"gte": 200, "lt": 300}}) == [
        {"term": {"a": 400}},
        {"terms": {"b": ["x", "y"]}},
        {"range": {"c": {"gte": 200, "lt": 300}}},
    ]


@pytest.mark.parametrize(("text", "told"), [("30s", 30), ("5m", 300), ("1h", 3600), ("1d", 86400)])
def test_durations(text: str, told: int) -> None:
    assert seconds(text) == told


@pytest.mark.parametrize("text", ["5", "m", "5 m", "5w", ""])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        seconds(text)
