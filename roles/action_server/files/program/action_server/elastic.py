"""The logs' database, Elasticsearch, and what its answers mean."""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .sources import Answers, RefusedError, Series, SourceError, ask

Found = Mapping[str, Any]
_Tags = tuple[tuple[str, str], ...]


class Elasticsearch:
    """The logs' database, asked for many things at once."""

    def __init__(
        self, url: str, index: str, user: str, password: str, context: ssl.SSLContext, timeout: float = 4
    ) -> None:
        """index: what the names of all indices begin with."""
        self._url = f"{url}/{index}-*/_msearch"
        self._context, self._timeout = context, timeout
        self._account = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def search(self, *searches: Mapping[str, Any]) -> list[Found]:
        """What each search finds. Raises RefusedError, and SourceError also where only a part was searched."""
        return self._answers([json.dumps(search) for search in searches])

    def query(self, statements: Sequence[str]) -> Answers:
        """The figures that searches in the words of query_dsl.py, written as JSON, find. Raises as search() does."""
        found = zip(statements, self._answers(statements), strict=True)
        return {statement: series(answer) for statement, answer in found}

    def _answers(self, searches: Sequence[str]) -> list[Found]:
        if not searches:
            return []
        answer = ask(
            self._url, self._context, self._timeout, "".join(f"{{}}\n{search}\n" for search in searches),
            **{"Authorization": self._account, "Content-Type": "application/x-ndjson"},
        )  # fmt: skip
        found: list[Found] = answer["responses"]
        for each in found:
            _check(each)
        return found


def _check(answer: Found) -> None:
    if reason := answer.get("error"):
        kind = RefusedError if answer.get("status") == 400 else SourceError
        raise kind(f"Elasticsearch refuses a search: {reason.get('reason') or reason.get('type')}")
    if answer["timed_out"] or answer["_shards"]["failed"]:
        raise SourceError("only a part of the lines was searched")


def series(answer: Found) -> list[Series]:
    """What a search of query_dsl.py found: a series for each instance, without points where it has no figure."""
    now = time.time()
    found: dict[_Tags, list[tuple[float, float]]] = {}
    for tags, at, value in _figures(answer.get("aggregations", {}), (), now):
        points = found.setdefault(tags, [])
        if value is not None:
            points.append((at, value))
    return [Series(dict(tags), tuple(points)) for tags, points in found.items()]


def _figures(node: Found, tags: _Tags, at: float) -> Iterator[tuple[_Tags, float, float | None]]:
    """Tags, moment and value of each figure below a node."""
    if each := node.get("each"):
        for name, bucket in buckets(each):
            yield from _figures(bucket, (*tags, (each["meta"]["field"], name)), at)
    elif minutes := node.get("minutes"):
        for bucket in minutes["buckets"]:
            yield from _figures(bucket, tags, bucket["key"] / 1000)
    elif figure := node.get("value"):
        yield tags, at, _value(figure)


def _value(figure: Found) -> float | None:
    if "buckets" in figure:
        total = figure["buckets"]["all"]["doc_count"]
        value = figure["buckets"]["bad"]["doc_count"] / total if total else None
    elif "values" in figure:
        (value,) = figure["values"].values()
    else:
        value = figure["value"] if "value" in figure else figure["doc_count"]
    return None if value is None else float(value * figure["meta"]["scale"])


def buckets(terms: Found) -> Iterator[tuple[str, Found]]:
    """Name and content of what lines are told apart by; an empty name, as of what is absent, is left out."""
    return ((str(bucket["key"]), bucket) for bucket in terms["buckets"] if bucket["key"] != "")
