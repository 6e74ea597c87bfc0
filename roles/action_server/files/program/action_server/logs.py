"""The contents of the pages of the logs: requests, errors, and the way of one request."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from markupsafe import Markup

from . import charts, findings, panels
from .elastic import Elasticsearch
from .findings import Failures
from .lines import LogLine
from .sources import Asked, Figures, Reading, Series, Source

ELASTICSEARCH = "Elasticsearch"
#: Characters of a search.
LONGEST = 200
_ID = re.compile(r"[0-9a-f]{32}")


class Logs:
    """What the pages show, made of what Elasticsearch said."""

    def __init__(self, elasticsearch: Elasticsearch, drawn: Sequence[Mapping[str, Any]]) -> None:
        """drawn: the panels of the page of requests."""
        self._drawn = drawn
        self._figures = Figures(
            elasticsearch, [series["whole"] for panel in drawn for series in panel["series"]]
        )
        # It looks at all requests of an hour.
        self._tables = Source(partial(findings.tables, elasticsearch), fresh=30, keep=120)
        self._latest = Source(partial(findings.latest, elasticsearch))
        self._whole = Source(partial(findings.whole, elasticsearch))
        self._failures = Asked(partial(findings.failures, elasticsearch))
        self._way = Asked(partial(findings.way, elasticsearch))

    def requests(self) -> dict[str, Any]:
        """What visitors asked for: figures, response times, and the latest requests."""
        for source in (self._figures, self._tables, self._latest, self._whole):
            source.begin()
        figures, tables, latest, whole = (
            self._figures.read(),
            self._tables.read(),
            self._latest.read(),
            self._whole.read(),
        )
        now, answers = time.time(), figures.value
        return {
            # Where Elasticsearch told nothing, an empty graph would say that there was nothing.
            "panels": [] if answers is None else [
                panels.panel(panel, "whole", {}, answers, now) for panel in self._drawn
            ],
            "tables": tables.value,
            "latest": latest.value,
            "whole": whole.value,
            "health": _health(latest, figures, tables, whole),
        }  # fmt: skip

    def errors(self, kind: str, search: str, service: str) -> dict[str, Any]:
        """Lines that tell of errors, or that nothing could take apart. Raises KeyError for another kind."""
        if kind not in findings.KINDS:
            raise KeyError(kind)
        words = " ".join(search.split())
        problem = _misunderstood(words)
        self._whole.begin()
        reading = Reading[Failures](None, None, "") if problem else self._failures.read(kind, words, service)
        found, whole = reading.value, self._whole.read()
        if found and found.refused:
            problem, found = "Elasticsearch wants plain words", None
        return {
            "kind": kind,
            "search": words,
            "service": service,
            "problem": problem,
            "found": found,
            "graph": _graph(found.hour, time.time()) if found else None,
            "most": findings.ERRORS,
            "whole": whole.value,
            "health": _health(whole if problem else reading, whole),
        }

    def request(self, trace: str) -> dict[str, Any]:
        """All lines of a request, in the order of time. trace: its id, or what somebody takes for one."""
        known = bool(_ID.fullmatch(trace))
        reading = self._way.read(trace) if known else Reading[list[LogLine]](None, None, "")
        return {"trace": trace, "known": known, "found": reading.value, "health": _health(reading)}


def _health(shown: Reading[Any], *others: Reading[Any]) -> panels.Health:
    """shown: what the page is about, whose time it tells."""
    errors = (reading.error for reading in (shown, *others))
    return panels.health(shown.taken, {ELASTICSEARCH: next(filter(None, errors), "")})


def _misunderstood(words: str) -> str:
    """What is wrong with a search; empty if nothing is."""
    if len(words) > LONGEST:
        return f"it is longer than {LONGEST} characters"
    if words and not any(letter.isalnum() for letter in words):
        return "it holds no word"
    return ""


def _graph(hour: Sequence[Series], now: float) -> Markup | None:
    """The last hour's lines; none where nothing was written."""
    named = [(each.instance, each.whole_minutes(now)) for each in hour]
    return charts.graph(named, [], "lines", now, "lines per minute and service") if named else None
