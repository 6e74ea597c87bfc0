"""Lines of the logs as the pages show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .elastic import Found

#: What is an error and worse, and from which status on an answer is one of ours.
ERROR_LEVELS = ("error", "critical", "alert", "emergency")
FAILED = 500
#: The fields of a line that are shown.
_SHOWN = (
    "@timestamp", "service.name", "host.name", "event.dataset", "log.level", "trace.id", "event.duration",
    "http.request.method", "url.path", "http.response.status_code", "forum.operation", "forum.cache", "user.name",
    "source.ip", "message", "error.type", "error.message", "error.stack_trace",
)  # fmt: skip


@dataclass(frozen=True)
class LogLine:
    """A line of a log, by the names of the Elastic Common Schema. What is absent is empty."""

    fields: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.fields.get(name, "")

    @property
    def seconds(self) -> float | None:
        """How long it took, if that is told."""
        return self["event.duration"] / 1e9 if self["event.duration"] != "" else None

    @property
    def answers(self) -> bool:
        """Whether it tells of a request's answer."""
        return bool(self["http.response.status_code"] != "")

    @property
    def failed(self) -> bool:
        """Whether it tells of an error of ours."""
        return self["log.level"] in ERROR_LEVELS or (
            self.answers and self["http.response.status_code"] >= FAILED
        )

    @property
    def said(self) -> str:
        """What it says: of a request what was asked for, else its message, and the error's where that isn't in it."""
        if self.answers:
            return f"{self['http.request.method']} {self['url.path']}".strip()
        message, error = str(self["message"]), str(self["error.message"])
        if error in message:
            return error or message
        return ": ".join(filter(None, (message, self["error.type"], error)))


def listed(query: Mapping[str, Any], most: int, order: str = "desc") -> dict[str, Any]:
    """The search for lines. order: desc for the newest ones, asc for the oldest."""
    return {
        "size": most, "track_total_hits": False, "_source": False, "query": query, "fields": list(_SHOWN),
        "sort": [{"@timestamp": order}],
    }  # fmt: skip


def lines(answer: Found) -> list[LogLine]:
    """The lines of an answer to such a search."""
    return [
        LogLine(
            {name: values[0] for name, values in hit.get("fields", {}).items() if values and values[0] != ""}
        )
        for hit in answer["hits"]["hits"]
    ]
