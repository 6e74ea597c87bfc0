"""What the pages of the logs ask Elasticsearch, and what is made of its answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .elastic import Elasticsearch, Found, buckets, series
from .lines import ERROR_LEVELS, FAILED, LogLine, lines, listed
from .sources import RefusedError, Series

Search = dict[str, Any]

#: What is listed at most: requests, errors, and lines of one request.
LATEST, ERRORS, OF_REQUEST = 30, 100, 200
#: Rows of the tables of response times.
_ROWS = 15
_SERVICES = {"terms": {"field": "service.name", "size": 50}}
#: What is told of no line.
_NONE: Found = {"buckets": []}

_REQUESTS: Search = {"term": {"event.dataset": "nginx.access"}}
_UNPARSED: Search = {"term": {"event.dataset": "unparsed"}}
_FAILED: Search = {
    "bool": {
        "should": [
            {"terms": {"log.level": ERROR_LEVELS}},
            {"range": {"http.response.status_code": {"gte": FAILED}}},
        ]
    }
}
#: What the page of errors lists, by its kind.
KINDS = {"errors": _FAILED, "unparsed": _UNPARSED}


def _since(window: str) -> Search:
    return {"range": {"@timestamp": {"gte": f"now-{window}"}}}


def _all(*conditions: Mapping[str, Any]) -> Search:
    return {"bool": {"filter": list(conditions)}}


def _counted(query: Mapping[str, Any], aggregations: Mapping[str, Any]) -> Search:
    return {"size": 0, "track_total_hits": False, "query": query, "aggs": aggregations}


def _counts(terms: Found) -> list[tuple[str, int]]:
    return [(name, bucket["doc_count"]) for name, bucket in buckets(terms)]


@dataclass(frozen=True)
class Times:
    """How long requests of one kind took, in seconds: half of them, 95 and 99 of 100, the slowest."""

    name: str
    count: int
    half: float | None
    most: float | None
    nearly_all: float | None
    slowest: float | None


@dataclass(frozen=True)
class Tables:
    """The last hour's response times: nginx's by method and by path, and gunicorn's by operation."""

    methods: list[Times]
    operations: list[Times]
    paths: list[Times]


def tables(elasticsearch: Elasticsearch) -> Tables:
    """The response times. Raises SourceError."""
    most = {"_count": "desc"}
    of_nginx = {
        "methods": _times("http.request.method", most),
        "paths": _times("url.path", {"slowest": "desc"}),
    }
    nginx, gunicorn = elasticsearch.search(
        _counted(_all(_REQUESTS, _since("1h")), of_nginx),
        _counted(
            _all({"term": {"event.dataset": "misago.access"}}, _since("1h")),
            {"operations": _times("forum.operation", most)},
        ),
    )
    found = {**nginx.get("aggregations", {}), **gunicorn.get("aggregations", {})}
    return Tables(*(_table(found.get(name, _NONE)) for name in ("methods", "operations", "paths")))


def _times(field: str, order: Mapping[str, str]) -> Search:
    """The aggregation for a table of response times."""
    return {
        # Percentiles only of those that are in the table: visitors make up paths without end.
        "terms": {"field": field, "size": _ROWS, "order": order, "collect_mode": "breadth_first"},
        "aggs": {
            "slowest": {"max": {"field": "event.duration"}},
            "times": {"percentiles": {"field": "event.duration", "percents": [50, 95, 99]}},
        },
    }


def _table(terms: Found) -> list[Times]:
    rows = []
    for name, bucket in buckets(terms):
        found = (*bucket["times"]["values"].values(), bucket["slowest"]["value"])
        seconds = (None if nanoseconds is None else nanoseconds / 1e9 for nanoseconds in found)
        rows.append(Times(name, bucket["doc_count"], *seconds))
    return rows


def latest(elasticsearch: Elasticsearch) -> list[LogLine]:
    """The newest requests. Raises SourceError."""
    return lines(elasticsearch.search(listed(_REQUESTS, LATEST))[0])


def way(elasticsearch: Elasticsearch, trace: str) -> list[LogLine]:
    """All lines of a request, the oldest first. Raises SourceError."""
    wanted = listed(_all({"term": {"trace.id": trace}}), OF_REQUEST, "asc")
    return lines(elasticsearch.search(wanted)[0])


@dataclass(frozen=True)
class Whole:
    """How whole the logs are: when the newest line was written; lines of a day by who wrote or lost them."""

    newest: float | None
    unparsed: list[tuple[str, int]]
    lost: list[tuple[str, int]]

    @property
    def age(self) -> float | None:
        """Seconds since the newest line."""
        return None if self.newest is None else max(time.time() - self.newest, 0.0)


def whole(elasticsearch: Elasticsearch) -> Whole:
    """How whole the logs are. Raises SourceError."""
    # Shippers and the collector tell of each line once.
    lines_lost = {"lost": {"sum": {"field": "forum.lost"}}}
    of_day = {
        "unparsed": {"filter": _UNPARSED, "aggs": {"services": _SERVICES}},
        "shippers": {
            "filter": {"term": {"event.dataset": "shipper"}},
            "aggs": {"nodes": {"terms": {"field": "host.name", "size": 100}, "aggs": lines_lost}},
        },
        "collector": {
            "filter": {"term": {"event.dataset": "collector"}},
            "aggs": lines_lost,
        },
    }
    told = {"terms": {"event.dataset": ["unparsed", "shipper", "collector"]}}
    newest, day = (
        found.get("aggregations")
        for found in elasticsearch.search(
            _counted({"match_all": {}}, {"newest": {"max": {"field": "@timestamp"}}}),
            _counted(_all(told, _since("1d")), of_day),
        )
    )
    # Before the first line there is no index, and nothing is counted.
    if not newest or not day or newest["newest"]["value"] is None:
        return Whole(None, [], [])
    lost = [(name, node["lost"]["value"]) for name, node in buckets(day["shippers"]["nodes"])]
    lost.append(("collector", day["collector"]["lost"]["value"]))
    return Whole(
        newest["newest"]["value"] / 1000,
        _counts(day["unparsed"]["services"]),
        [(where, int(count)) for where, count in lost if count],
    )


@dataclass(frozen=True)
class Failures:
    """Lines of a day, how many each service has, and the last hour of these; or that the search wasn't understood."""

    lines: list[LogLine]
    services: list[tuple[str, int]]
    hour: list[Series]
    refused: bool = False


def failures(elasticsearch: Elasticsearch, kind: str, words: str, service: str) -> Failures:
    """The lines of a kind, those that hold the words, of one service if it's named. Raises SourceError."""
    conditions = [KINDS[kind], *([searched(words)] if words else [])]
    only: list[Search] = [{"term": {"service.name": service}}] if service else []
    of_day = {
        **listed(_all(*conditions, _since("1d")), ERRORS),
        # All are counted, those of the service are listed.
        "aggs": {"services": _SERVICES},
        "post_filter": _all(*only),
    }
    try:
        day, hour = elasticsearch.search(of_day, _by_service(_all(*conditions, *only, _since("1h"))))
    except RefusedError:
        return Failures([], [], [], refused=True)
    return Failures(lines(day), _counts(day.get("aggregations", {}).get("services", _NONE)), series(hour))


def _by_service(query: Mapping[str, Any]) -> Search:
    """The search for the lines of each minute of the last hour by service, in the shape that query_dsl.py has."""
    minutes = {
        "date_histogram": {
            "field": "@timestamp", "fixed_interval": "1m", "min_doc_count": 0,
            "extended_bounds": {"min": "now-1h", "max": "now"},
        },
        "aggs": {"value": {"filter": {"match_all": {}}, "meta": {"scale": 1}}},
    }  # fmt: skip
    return _counted(
        query, {"each": {**_SERVICES, "meta": {"field": "service.name"}, "aggs": {"minutes": minutes}}}
    )


def searched(words: str) -> Search:
    """The condition that a line holds all words of a text, which can't break the search, whatever it is."""
    return {
        "simple_query_string": {
            "query": words,
            "fields": ["message", "error.message", "service.name", "url.path"],
            "default_operator": "and",
            "flags": "AND|OR|NOT|PHRASE|PREFIX|PRECEDENCE|ESCAPE|WHITESPACE",
        }
    }
