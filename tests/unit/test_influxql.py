"""InfluxQL: each word of an indicator does what it says, and no value can leave its place."""

from __future__ import annotations

from typing import Any

import pytest
from influxql import Scope, any_tag, constant, current, graph, literal, look_back, name, tag_values

CLIENTS: dict[str, Any] = {
    "measurement": "nginx",
    "fields": ["active"],
    "per": ["host"],
    "aggregation": "median",
    "lookback_window": "5s",
}
ERRORS: dict[str, Any] = {
    "measurement": "haproxy",
    "fields": ["econ", "eresp"],
    "where": {"type": "backend"},
    "aggregation": "rate",
    "lookback_window": "1m",
}
MINUTE = look_back("1m")
WITHIN = "time > now() - 1m AND time <= now()"
FIGURE = 'SELECT median("active") AS "value" FROM "nginx" WHERE'


def words(*parts: str) -> str:
    """A statement of its parts."""
    return " ".join(parts)


def test_a_figure_of_now_is_one_row_per_instance() -> None:
    assert current(CLIENTS, MINUTE) == words(FIGURE, WITHIN, 'GROUP BY "host"')


def test_a_graph_has_a_row_per_interval_and_none_for_silence() -> None:
    selected = 'SELECT median("active") AS "clients" FROM "nginx" WHERE'
    wanted = words(selected, WITHIN, 'GROUP BY time(10s), "host" fill(none)')
    assert graph(CLIENTS, MINUTE, "10s", "clients") == wanted


def test_a_rate_is_taken_of_each_series_before_it_is_added_up() -> None:
    each = words(
        'SELECT non_negative_derivative("econ", 1s) AS "f0", non_negative_derivative("eresp", 1s) AS "f1"',
        'FROM "haproxy" WHERE',
        WITHIN,
        "AND \"type\" = 'backend' GROUP BY *",
    )
    means = words('SELECT mean("f0") AS "f0", mean("f1") AS "f1" FROM', f"({each}) WHERE {WITHIN} GROUP BY *")
    assert current(ERRORS, MINUTE) == words(
        'SELECT sum("f0") + sum("f1") AS "value" FROM', f"({means}) WHERE {WITHIN}"
    )


def test_a_graph_of_a_rate_is_taken_from_interval_to_interval() -> None:
    each = words(
        'SELECT non_negative_derivative(last("econ"), 1s) AS "f0", non_negative_derivative(last("eresp"), 1s) AS "f1"',
        'FROM "haproxy" WHERE',
        WITHIN,
        "AND \"type\" = 'backend' GROUP BY time(1m), * fill(none)",
    )
    assert graph({**ERRORS, "per": ["host"]}, MINUTE, "1m") == words(
        'SELECT sum("f0") + sum("f1") AS "value" FROM',
        f"({each}) WHERE {WITHIN}",
        'GROUP BY time(1m), "host" fill(none)',
    )


@pytest.mark.parametrize("aggregation", ["last", "mean", "median", "max"])
def test_fields_are_added_up(aggregation: str) -> None:
    statement = current({**CLIENTS, "fields": ["a", "b"], "aggregation": aggregation}, MINUTE)
    assert statement.startswith(f'SELECT {aggregation}("a") + {aggregation}("b") AS "value" FROM')


@pytest.mark.parametrize(
    ("where", "condition"),
    [
        ({"method": ["POST", "PATCH"]}, "(\"method\" = 'POST' OR \"method\" = 'PATCH')"),
        ({"status": {"gte": 500}}, '"status" >= 500'),
        ({"status": 400, "type": "backend"}, '"status" = 400 AND "type" = \'backend\''),
    ],
)
def test_conditions(where: dict[str, Any], condition: str) -> None:
    wanted = words(FIGURE, WITHIN, "AND", condition, 'GROUP BY "host"')
    assert current({**CLIENTS, "where": where}, MINUTE) == wanted


def test_a_scope_says_where_since_when_and_what_else() -> None:
    only = any_tag(["stack", "host"], literal("nginx-10.0.1.2"))
    scope = Scope("now() - 2h", "now() - 1h", database="forum", policy="year", only=only)
    wanted = (
        'SELECT median("active") AS "value" FROM "forum"."year"."nginx" WHERE time > now() - 2h AND '
        "time <= now() - 1h AND (\"stack\" = 'nginx-10.0.1.2' OR \"host\" = 'nginx-10.0.1.2') "
        'GROUP BY "host"'
    )
    assert current(CLIENTS, scope) == wanted


@pytest.mark.parametrize(
    ("parts", "source"),
    [
        ({}, '"nginx"'),
        ({"database": "forum"}, '"forum".."nginx"'),
        ({"policy": "year"}, '"year"."nginx"'),
    ],
)
def test_a_measurement_is_read_from_where_the_scope_says(parts: dict[str, str], source: str) -> None:
    assert f"FROM {source} WHERE" in current(CLIENTS, look_back("1m", **parts))


def test_a_threshold_is_a_line() -> None:
    selected = 'SELECT count("active") * 0 + 2.5 AS "limit" FROM "nginx" WHERE'
    wanted = words(selected, WITHIN, "GROUP BY time(1m) fill(none)")
    assert constant(CLIENTS, MINUTE, "1m", 2.5, "limit") == wanted


def test_values_to_choose_from() -> None:
    wanted = 'SHOW TAG VALUES ON "forum" FROM "nginx", "redis" WITH KEY IN ("stack", "host")'
    assert tag_values(["nginx", "redis"], ["stack", "host"], "forum") == wanted


@pytest.mark.parametrize(
    ("text", "as_name", "as_value"),
    [
        ("it's", '"it\'s"', "'it\\'s'"),
        ('a "b"', '"a \\"b\\""', "'a \"b\"'"),
        ("back\\", '"back\\\\"', "'back\\\\'"),
        ("two\nlines", '"two\\nlines"', "'two\\nlines'"),
    ],
)
def test_no_text_leaves_its_place(text: str, as_name: str, as_value: str) -> None:
    assert name(text) == as_name
    assert literal(text) == as_value
