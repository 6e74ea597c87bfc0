"""What the pages of the logs show: requests, errors, the way of one request, and how whole the logs are."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from . import charts, panels
from .elastic import Elasticsearch, Found, buckets, series
from .lines import ERROR_LEVELS, FAILED, LogLine, lines, listed
from .sources import Asked, Figures, Reading, RefusedError, Series, Source

ELASTICSEARCH = "Elasticsearch"
#: What a page lists at most: requests, errors, and lines of one request.
LATEST, ERRORS, OF_REQUEST = 30, 100, 200
#: Characters of a search.
SEARCH = 200
_ID = re.compile(r"[0-9a-f]{32}")
#: Rows of the tables of response times.
_ROWS = 15
_SERVICES = {"terms": {"field": "service.name", "size": 50}}
#: What is told of no line.
_NONE: Found = {"buckets": []}

_ANSWERS = {"term": {"event.dataset": "nginx.access"}}
_UNPARSED = {"term": {"event.dataset": "unparsed"}}
#: What the page of errors lists, by its kind.
_LISTED = {
    "errors": {
        "bool": {
            "should": [
                {"terms": {"log.level": ERROR_LEVELS}},
                {"range": {"http.response.status_code": {"gte": FAILED}}},
            ]
        }
    },
    "unparsed": _UNPARSED,
}


def _since(window: str) -> dict[str, Any]:
    return {"range": {"@timestamp": {"gte": f"now-{window}"}}}


def _all(*conditions: Mapping[str, Any]) -> dict[str, Any]:
    return {"bool": {"filter": list(conditions)}}


def _counted(query: Mapping[str, Any], aggregations: Mapping[str, Any]) -> dict[str, Any]:
    return {"size": 0, "track_total_hits": False, "query": query, "aggs": aggregations}


@dataclass(frozen=True)
class Times:
    """How long requests of one kind took, in seconds: half of them, 95 of 100, 99 of 100, all of them at most."""

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


@dataclass(frozen=True)
class Failures:
    """What the page of errors shows: lines, how many each service has, and the last hour of these."""

    lines: list[LogLine]
    services: list[tuple[str, int]]
    hour: list[Series]
    refused: bool = False


def _times(field: str, order: Mapping[str, str], size: int) -> dict[str, Any]:
    """The aggregation for a table of response times."""
    return {
        # Percentiles only of those that are in the table: visitors make up paths without end.
        "terms": {"field": field, "size": size, "order": order, "collect_mode": "breadth_first"},
        "aggs": {
            "slowest": {"max": {"field": "event.duration"}},
            "times": {"percentiles": {"field": "event.duration", "percents": [50, 95, 99]}},
        },
    }


def _table(terms: Found) -> list[Times]:
    def seconds(nanoseconds: float | None) -> float | None:
        return None if nanoseconds is None else nanoseconds / 1e9

    return [
        Times(name, bucket["doc_count"], *map(seconds, (*bucket["times"]["values"].values(), bucket["slowest"]["value"])))
        for name, bucket in buckets(terms)
    ]


def _by_service(query: Mapping[str, Any]) -> dict[str, Any]:
    """The search for the last hour of each service's lines, in the shape that query_dsl.py has."""
    minutes = {
        "date_histogram": {
            "field": "@timestamp", "fixed_interval": "1m", "min_doc_count": 0,
            "extended_bounds": {"min": "now-1h", "max": "now"},
        },
        "aggs": {"value": {"filter": {"match_all": {}}, "meta": {"scale": 1}}},
    }  # fmt: skip
    each = {**_SERVICES, "meta": {"field": "service.name"}, "aggs": {"minutes": minutes}}
    return _counted(query, {"each": each})


def searched(text: str) -> dict[str, Any]:
    """The condition that a line holds all words of a text, which can't break the search, whatever it is."""
    return {
        "simple_query_string": {
            "query": text,
            "fields": ["message", "error.message", "service.name", "url.path"],
            "default_operator": "and",
            "flags": "AND|OR|NOT|PHRASE|PREFIX|PRECEDENCE|ESCAPE|WHITESPACE",
        }
    }


def _misunderstood(words: str) -> str:
    """What is wrong with a search; empty if nothing is."""
    if len(words) > SEARCH:
        return f"it is longer than {SEARCH} characters"
    if words and not any(letter.isalnum() for letter in words):
        return "it holds no word"
    return ""


def _counts(terms: Found) -> list[tuple[str, int]]:
    return [(name, bucket["doc_count"]) for name, bucket in buckets(terms)]


def _drawn(hour: Sequence[Series], now: float) -> Markup | None:
    """The last hour as a graph; none where nothing happened."""
    named = [(each.instance, each.whole_minutes(now)) for each in hour]
    return charts.graph(named, [], "lines", now, "lines per minute and service") if named else None


class Logs:
    """The contents of the pages of the logs."""

    def __init__(self, elasticsearch: Elasticsearch, drawn: Sequence[Mapping[str, Any]]) -> None:
        """drawn: the panels of the page of requests."""
        self._elasticsearch, self._drawn = elasticsearch, drawn
        statements = [each["whole"] for panel in drawn for each in panel["series"]]
        self._figures = Figures(elasticsearch, statements)
        self._tables = Source(self._ask_tables, fresh=30, keep=120)
        self._latest = Source(lambda: lines(elasticsearch.search(listed(_ANSWERS, LATEST))[0]))
        self._whole = Source(self._ask_whole)
        self._failures, self._way = Asked(self._ask_failures), Asked(self._ask_way)

    def requests(self) -> dict[str, Any]:
        """nginx's requests: figures, tables and the latest ones."""
        for source in (self._figures, self._tables, self._latest, self._whole):
            source.begin()
        figures, tables, latest = self._figures.read(), self._tables.read(), self._latest.read()
        whole, now = self._whole.read(), time.time()
        return {
            "panels": [
                panels.panel(panel, "whole", {}, figures.value, now)
                for panel in (self._drawn if figures.value is not None else ())
            ],
            "tables": tables.value,
            "latest": latest.value,
            "whole": whole.value,
            "health": panels.health(
                latest.taken,
                {ELASTICSEARCH: latest.error or figures.error or tables.error or whole.error},
            ),
        }

    def errors(self, kind: str, search: str, service: str) -> dict[str, Any]:
        """Lines that tell of errors, or that nothing could take apart. Raises KeyError for another kind."""
        words = " ".join(search.split())
        problem = _misunderstood(words)
        if kind not in _LISTED:
            raise KeyError(kind)
        self._whole.begin()
        reading = Reading[Failures](None, None, "") if problem else self._failures.read(kind, words, service)
        found, whole, now = reading.value, self._whole.read(), time.time()
        if found and found.refused:
            problem = "Elasticsearch doesn't understand it: use plain words"
        return {
            "kind": kind,
            "search": words,
            "service": service,
            "problem": problem,
            "found": None if problem else found,
            "graph": _drawn(found.hour, now) if found else None,
            "most": ERRORS,
            "whole": whole.value,
            "health": panels.health(reading.taken or whole.taken, {ELASTICSEARCH: reading.error or whole.error}),
        }

    def request(self, trace: str) -> dict[str, Any]:
        """All lines of a request, in the order of time. trace: its id, or what somebody takes for one."""
        known = bool(_ID.fullmatch(trace))
        reading = self._way.read(trace) if known else Reading[list[LogLine]](None, None, "")
        return {
            "trace": trace,
            "known": known,
            "found": reading.value,
            "health": panels.health(reading.taken, {ELASTICSEARCH: reading.error}),
        }

    def _ask_whole(self) -> Whole:
        of_day = {
            "unparsed": {"filter": _UNPARSED, "aggs": {"services": _SERVICES}},
            # Each shipper counts on from its start; the collector tells what it has just lost.
            "shippers": {
                "filter": {"term": {"event.dataset": "shipper"}},
                "aggs": {
                    "nodes": {
                        "terms": {"field": "host.name", "size": 100},
                        "aggs": {"lost": {"max": {"field": "forum.lost"}}},
                    }
                },
            },
            "collector": {
                "filter": {"term": {"event.dataset": "collector"}},
                "aggs": {"lost": {"sum": {"field": "forum.lost"}}},
            },
        }
        told = _all({"terms": {"event.dataset": ["unparsed", "shipper", "collector"]}}, _since("1d"))
        newest, day = (
            found.get("aggregations")
            for found in self._elasticsearch.search(
                _counted({"match_all": {}}, {"newest": {"max": {"field": "@timestamp"}}}), _counted(told, of_day)
            )
        )
        # Before the first line there is no index, and nothing is counted.
        if not newest or not day or newest["newest"]["value"] is None:
            return Whole(None, [], [])
        lost = [(name, node["lost"]["value"] or 0) for name, node in buckets(day["shippers"]["nodes"])]
        lost.append(("collector", day["collector"]["lost"]["value"] or 0))
        return Whole(
            newest["newest"]["value"] / 1000,
            _counts(day["unparsed"]["services"]),
            [(where, int(count)) for where, count in lost if count],
        )

    def _ask_failures(self, kind: str, words: str, service: str) -> Failures:
        conditions = [_LISTED[kind], *([searched(words)] if words else [])]
        only = [{"term": {"service.name": service}}] if service else []
        # The services are counted of all, the lines are those of the one that is chosen.
        of_day = {
            **listed(_all(*conditions, _since("1d")), ERRORS),
            "aggs": {"services": _SERVICES},
            **({"post_filter": _all(*only)} if only else {}),
        }
        try:
            day, hour = self._elasticsearch.search(of_day, _by_service(_all(*conditions, *only, _since("1h"))))
        except RefusedError:
            return Failures([], [], [], refused=True)
        services = day.get("aggregations", {}).get("services", _NONE)
        return Failures(lines(day), _counts(services), series(hour))

    def _ask_way(self, trace: str) -> list[LogLine]:
        wanted = listed(_all({"term": {"trace.id": trace}}), OF_REQUEST, "asc")
        return lines(self._elasticsearch.search(wanted)[0])

    def _ask_tables(self) -> Tables:
        answers = _all(_ANSWERS, _since("1h"))
        operations = _all({"term": {"event.dataset": "misago.access"}}, _since("1h"))
        nginx, gunicorn = self._elasticsearch.search(
            _counted(
                answers,
                {
                    "methods": _times("http.request.method", {"_count": "desc"}, _ROWS),
                    "paths": _times("url.path", {"slowest": "desc"}, _ROWS),
                },
            ),
            _counted(operations, {"operations": _times("forum.operation", {"_count": "desc"}, _ROWS)}),
        )
        return Tables(
            *(
                _table(found.get("aggregations", {}).get(name, _NONE))
                for found, name in ((nginx, "methods"), (gunicorn, "operations"), (nginx, "paths"))
            )
        )
