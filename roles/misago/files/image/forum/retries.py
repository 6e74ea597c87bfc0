"""Runs a request again when the database asked for it, or was lost before anything was committed.

Misago's own transactions deadlock when several users reply at once, on a healthy system; and a fail-over ends
the connections of requests that are under way, to PostgreSQL or to Redis. Both leave the database as it was, so
the same request can be run again from its start, in the same worker, while the visitor only sees it take longer.

A request that may have changed something is run again only if it has not begun to commit (nor inserted a row
outside a transaction): after a COMMIT without an answer nobody knows whether it took place. A COMMIT that
PostgreSQL refused does not count: Misago's deferred constraints deadlock there.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import loglines

from . import logs
from .patience import pause

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CONFLICTS = {"40001": "serialization", "40P01": "deadlock"}
# Beside class 08, 'connection exception': shutdown, crash, not accepting yet, and read-only as a standby is.
LOST = frozenset({"57P01", "57P02", "57P03", "25006"})
LARGEST_BODY = 1024 * 1024
# What a Redis that just became master, or is about to, answers to a write.
NOT_YET = ("NOREPLICAS", "MASTERDOWN", "LOADING", "READONLY")


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything that led to it, nearest first, each once."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [current.__cause__, current.__context__]


def redis_fails_over(error: BaseException) -> bool:
    """Whether an error of redis-py, by its names, belongs to a fail-over and so goes away by itself."""
    if not type(error).__module__.startswith("redis"):
        return False
    names = {base.__name__ for base in type(error).__mro__}
    if "AuthenticationError" in names:
        return False
    if names & {"ConnectionError", "TimeoutError", "ReadOnlyError"}:
        return True
    return "ResponseError" in names and str(error).startswith(NOT_YET)


def reason_to_retry(error: BaseException) -> str | None:
    """Why the request may succeed when run again.

    error: what the request raised. In its chain counts what psycopg raised: by its sqlstate, or, without one,
    that the connection broke; and what redis-py raised while the master changed. Returns 'deadlock',
    'serialization', 'connection', or None if it won't succeed.
    """
    for cause in causes(error):
        if redis_fails_over(cause):
            return "connection"
        if not type(cause).__module__.startswith("psycopg"):
            continue
        state = getattr(cause, "sqlstate", None)
        if state in CONFLICTS:
            return CONFLICTS[state]
        if state is None:
            names = {base.__name__ for base in type(cause).__mro__}
            if names & {"OperationalError", "InterfaceError"}:
                return "connection"
        elif state in LOST or state.startswith("08"):
            return "connection"
    return None


class NotRetried(logging.Filter):
    """Keeps the traceback of what is run again out of the log: Retrying has one line for it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        error = record.exc_info[1] if record.exc_info else None
        return error is None or reason_to_retry(error) is None


class Retrying:
    """WSGI middleware around Django.

    application: Django's handler.
    last_error: returns what the request that just ended raised, and forgets it.
    commits: returns how often this thread has begun to commit.
    conflict_tries: runs of a request that deadlocks, in all.
    patience: seconds from the request's first failure within which a lost connection is tried again.
    """

    def __init__(
        self,
        application: Application,
        last_error: Callable[[], BaseException | None],
        commits: Callable[[], int],
        *,
        conflict_tries: int = 5,
        patience: float = 4.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._application = application
        self._last_error = last_error
        self._commits = commits
        self._conflict_tries = conflict_tries
        self._patience = patience
        self._sleep = sleep
        self._clock = clock
        self.retried: dict[str, int] = {}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """One request. /alive is answered here: it is about this process, not about what it needs."""
        if environ.get("PATH_INFO") == "/alive":
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
            return [b"alive\n"]
        logs.begin(environ)
        body = _body(environ)
        if body is None:
            return self._application(environ, start_response)

        failed_at: float | None = None
        attempt = 0
        while True:
            attempt += 1
            commits = self._commits()
            self._last_error()
            answer: list[tuple[Any, ...]] = []
            run = {**environ, "wsgi.input": io.BytesIO(body)}
            result = self._application(run, _recorder(answer))
            error = self._last_error()
            reason = None if error is None else reason_to_retry(error)
            if failed_at is None:
                failed_at = self._clock()
            if reason is None or not self._worth_it(environ, reason, attempt, failed_at, commits):
                if reason is not None:
                    _say("request_failed", environ, reason, attempt, error=type(error).__name__)
                start_response(*answer[0])
                return result
            # Closing ends Django's request: it drops the broken connection.
            close = getattr(result, "close", None)
            if close is not None:
                close()
            self.retried[reason] = self.retried.get(reason, 0) + 1
            _say("request_retried", environ, reason, attempt)
            self._sleep(pause(attempt))

    def _worth_it(self, environ: Environ, reason: str, attempt: int, failed_at: float, commits: int) -> bool:
        if environ["REQUEST_METHOD"] not in SAFE_METHODS and self._commits() != commits:
            return False
        if reason == "connection":
            return self._clock() - failed_at < self._patience
        return attempt < self._conflict_tries


def _body(environ: Environ) -> bytes | None:
    """The whole body, or None if it is too large, or of unknown length, to be kept for another run."""
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return None
    if length > LARGEST_BODY or environ.get("HTTP_TRANSFER_ENCODING"):
        return None
    return bytes(environ["wsgi.input"].read(length)) if length else b""


def _recorder(answer: list[tuple[Any, ...]]) -> StartResponse:
    """A start_response that keeps its latest call: an answer can then be dropped unseen."""

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        answer[:] = [(status, headers)]

    return start_response


def _say(event: str, environ: Environ, reason: str, attempt: int, error: str = "") -> None:
    logs.say(
        "error" if error else "warning",
        f"{event.replace('_', ' ')}: {error or reason}",
        event__action=event,
        error__type=error,
        forum__reason=reason,
        forum__attempt=attempt,
        http__request__method=environ["REQUEST_METHOD"],
        url__path=loglines.path(environ.get("PATH_INFO", "")),
    )
