"""Requests that are run again, and those that must not be."""

from __future__ import annotations

import importlib
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# The package itself imports Celery, which is in the image only: its modules are loaded around it.
package = sys.modules.setdefault("forum", ModuleType("forum"))
package.__path__ = [str(Path(__file__).parents[2] / "roles/misago/files/image/forum")]
retries = importlib.import_module("forum.retries")


class _Error(Exception):
    def __init__(self, sqlstate: str | None = None) -> None:
        super().__init__("failed")
        self.sqlstate = sqlstate


class OperationalError(_Error):
    """As psycopg has it."""


class IntegrityError(_Error):
    """Likewise."""


for error_class in (_Error, OperationalError, IntegrityError):
    error_class.__module__ = "psycopg.errors"


class ConnectionError(Exception):  # noqa: A001  # redis-py's own name for it
    """As redis-py has it."""


class AuthenticationError(ConnectionError):
    """Likewise."""


class ResponseError(Exception):
    """Likewise."""


for redis_error in (ConnectionError, AuthenticationError, ResponseError):
    redis_error.__module__ = "redis.exceptions"


class Forum:
    """An application whose runs are scripted: an error, or None for success. commits is what it has committed."""

    def __init__(self, *runs: Exception | None, commits_at_failure: int = 0) -> None:
        self.runs = list(runs)
        self.commits = 0
        self.commits_at_failure = commits_at_failure
        self.error: Exception | None = None
        self.bodies: list[bytes] = []
        self.closed = 0
        self.now = 0.0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Answer:
        self.bodies.append(environ["wsgi.input"].read())
        self.error = self.runs.pop(0)
        if self.error is not None:
            self.commits += self.commits_at_failure
        start_response("200 OK" if self.error is None else "500 Internal Server Error", [("X-Run", "1")])
        return Answer(self)

    def last_error(self) -> Exception | None:
        error, self.error = self.error, None
        return error

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def retrying(self, **options: Any) -> Any:
        return retries.Retrying(
            self, self.last_error, lambda: self.commits, sleep=self.sleep, clock=lambda: self.now, **options
        )


class Answer:
    """Django's response: iterable, and it counts being closed."""

    def __init__(self, forum: Forum) -> None:
        self.forum = forum

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"page"])

    def close(self) -> None:
        self.forum.closed += 1


def environ(method: str = "POST", body: bytes = b"post=1", **more: str) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": method,
        "PATH_INFO": "/api/threads/1/posts/",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        **more,
    }


def call(application: Any, request: dict[str, Any]) -> tuple[str, bytes]:
    answers: list[str] = []
    result = application(request, lambda status, headers, exc_info=None: answers.append(status))
    assert len(answers) == 1, "the client saw more than one answer"
    return answers[0], b"".join(result)


def test_a_deadlock_is_run_again_with_the_same_body() -> None:
    forum = Forum(OperationalError("40P01"), OperationalError("40001"), None)
    assert call(forum.retrying(), environ()) == ("200 OK", b"page")
    assert forum.bodies == [b"post=1"] * 3


def test_a_dropped_answer_is_closed() -> None:
    forum = Forum(OperationalError("40P01"), None)
    call(forum.retrying(), environ())
    assert forum.closed == 1


def test_deadlocks_without_end_are_an_error() -> None:
    forum = Forum(*[OperationalError("40P01")] * 9)
    status, _ = call(forum.retrying(conflict_tries=3), environ())
    assert status.startswith("500")
    assert len(forum.bodies) == 3


def test_a_write_that_began_to_commit_is_not_run_again() -> None:
    forum = Forum(OperationalError(None), None, commits_at_failure=1)
    status, _ = call(forum.retrying(), environ())
    assert status.startswith("500")
    assert len(forum.bodies) == 1


def test_a_read_is_run_again_whatever_it_committed() -> None:
    forum = Forum(OperationalError(None), None, commits_at_failure=1)
    assert call(forum.retrying(), environ("GET", b""))[0] == "200 OK"


def test_a_lost_connection_is_tried_again_until_patience_ends() -> None:
    forum = Forum(*[OperationalError("57P01")] * 500)
    status, _ = call(forum.retrying(patience=4), environ())
    assert status.startswith("500")
    assert 4 <= forum.now < 5


@pytest.mark.parametrize(
    "error",
    [ValueError("a mistake"), IntegrityError("23505"), OperationalError("53300"), IntegrityError(None)],
)
def test_other_errors_are_left_alone(error: Exception) -> None:
    forum = Forum(error)
    assert call(forum.retrying(), environ())[0].startswith("500")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("40P01", "deadlock"),
        ("40001", "serialization"),
        ("08006", "connection"),
        ("57P03", "connection"),
        ("25006", "connection"),
        (None, "connection"),
    ],
)
def test_the_reason_is_found_in_the_chain(state: str | None, reason: str) -> None:
    django = RuntimeError("wrapped")
    django.__cause__ = OperationalError(state)
    later = RuntimeError("while that was handled")
    later.__context__ = django
    assert retries.reason_to_retry(later) == reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionError("Connection refused"), "connection"),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), "connection"),
        (ResponseError("WRONGTYPE Operation against a key"), None),
        (AuthenticationError("WRONGPASS"), None),
    ],
)
def test_a_redis_that_fails_over_is_a_lost_connection(error: Exception, reason: str | None) -> None:
    kombu = RuntimeError("wrapped")
    kombu.__cause__ = error
    assert retries.reason_to_retry(kombu) == reason


def test_patience_begins_with_the_first_failure() -> None:
    class Slow(Forum):
        """The database goes away after the request has taken ten seconds."""

        def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Answer:
            self.now += 10
            return super().__call__(environ, start_response)

    assert call(Slow(OperationalError(None), None).retrying(patience=4), environ())[0] == "200 OK"


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = ValueError("1"), ValueError("2")
    first.__context__, second.__context__ = second, first
    assert retries.reason_to_retry(first) is None


@pytest.mark.parametrize(
    "more",
    [
        {"CONTENT_LENGTH": str(retries.LARGEST_BODY + 1)},
        {"CONTENT_LENGTH": "many"},
        {"HTTP_TRANSFER_ENCODING": "chunked"},
    ],
)
def test_a_body_that_can_not_be_kept_is_passed_through(more: dict[str, str]) -> None:
    forum = Forum(OperationalError("40P01"))
    assert call(forum.retrying(), {**environ(), **more})[0].startswith("500")
    assert forum.bodies == [b"post=1"]


def test_alive_asks_nobody() -> None:
    forum = Forum()
    request = environ("GET", b"")
    request["PATH_INFO"] = "/alive"
    assert call(forum.retrying(), request) == ("200 OK", b"alive\n")


def test_each_retry_is_counted_and_said(capfd: pytest.CaptureFixture[str]) -> None:
    forum = Forum(OperationalError("40P01"), None, OperationalError("40P01"), ValueError("x"))
    application = forum.retrying()
    call(application, environ())
    call(application, environ())
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["event.action"] for line in lines] == ["request_retried"] * 2
    assert [line["forum.reason"] for line in lines] == ["deadlock"] * 2
    assert application.retried == {"deadlock": 2}


def test_giving_up_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    request = environ(HTTP_X_REQUEST_ID="0123456789abcdef" * 2)
    call(Forum(OperationalError(None), commits_at_failure=1).retrying(), request)
    line = json.loads(capfd.readouterr().out)
    assert (line["event.action"], line["forum.reason"]) == ("request_failed", "connection")
    assert line["trace.id"] == "0123456789abcdef" * 2
    assert line["url.path"] == "/api/threads/1/posts/"


def test_only_what_is_final_is_logged_with_its_traceback() -> None:
    keep = retries.NotRetried().filter

    def record(error: Exception | None) -> logging.LogRecord:
        info = None if error is None else (type(error), error, None)
        return logging.LogRecord("django.request", logging.ERROR, __file__, 1, "failed", (), info)

    assert keep(record(None))
    assert keep(record(ValueError("a mistake")))
    assert not keep(record(OperationalError("40P01")))
