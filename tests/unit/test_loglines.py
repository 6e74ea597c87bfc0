"""The lines of the stack's Python programs: one each, valid, short, and without what nobody may read."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import loglines
import pytest

HASH = "pbkdf2_sha256$390000$saltsaltsalt$aGFzaGhhc2g="


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger that writes as the programs do."""
    handler = loglines.OneWrite()
    handler.setFormatter(loglines.JsonLines("misago.app", lambda: {"trace.id": "ab" * 16}))
    logger = logging.getLogger("test.loglines")
    logger.propagate = False
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def test_a_record_is_one_line_in_the_schemas_names(
    log: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    log.warning("two\nlines of %s", "text", extra={"ecs": {"event.action": "task", "event.outcome": None}})
    (line,) = lines(capfd)
    assert line.pop("@timestamp").endswith("Z")
    assert line == {
        "event.dataset": "misago.app",
        "log.level": "warning",
        "log.logger": "test.loglines",
        "process.pid": os.getpid(),
        "trace.id": "ab" * 16,
        "message": "two\nlines of text",
        "event.action": "task",
    }


def test_an_exception_is_in_the_same_line(log: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["for visitor@example.com", "DETAIL:  Failing row contains (1, bob)"]
    try:
        raise ValueError("\n".join(words))
    except ValueError:
        log.exception("failed")
    (line,) = lines(capfd)
    assert line["error.type"] == "ValueError"
    assert line["error.message"] == "for ***\nDETAIL: ***"
    assert line["error.stack_trace"].startswith("Traceback")
    assert line["error.stack_trace"].endswith("ValueError: for ***\nDETAIL: ***")


@pytest.mark.parametrize(
    "text",
    ["x" * 100_000, "\x00\x1b[31m" * 5000, '"' * 10_000, "\udcff" * 2000, "é😀" * 5000, "\u2028" * 3000],
    ids=["long", "control", "quotes", "not-utf-8", "wide", "separators"],
)
def test_whatever_is_said_is_one_short_line(
    log: logging.Logger, capfd: pytest.CaptureFixture[str], text: str
) -> None:
    log.error("%s", text, extra={"ecs": {"url.path": text, "error.stack_trace": text + "the end"}})
    written = capfd.readouterr().out
    assert written.count("\n") == 1
    assert len(written.encode()) <= 4096
    assert written.isascii()
    assert json.loads(written)["error.stack_trace"].endswith("the end")


def test_processes_do_not_mix_their_lines() -> None:
    """Many of them on one pipe, as gunicorn's workers are."""
    code = "import loglines\nfor n in range(200): loglines.write(loglines.line({'message': 'x' * 3900}))"
    reader, writer = os.pipe()
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(loglines.__file__)}  # noqa: PTH120
    children = [
        os.posix_spawn(sys.executable, [sys.executable, "-c", code], environment,
                       file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
        for _ in range(4)
    ]  # fmt: skip
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        found = [json.loads(line) for line in pipe]
    for child in children:
        os.waitpid(child, 0)
    assert len(found) == 800


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:hunter2@haproxy:6379/0 is away", "redis://***@haproxy:6379/0 is away"),
        ("550 <visitor@example.com>: unknown", "550 <***>: unknown"),
        ("{'visitor@example.com': (550, b'unknown')}", "{'***': (550, b'unknown')}"),
        ("GET /search/?q=hunter2&x=1 HTTP/1.1", "GET /search/?*** HTTP/1.1"),
        ("/forgotten-password/12/abc/ failed", "/forgotten-password/12/*** failed"),
        ("https://forum.test/options/change-email/abc/", "https://forum.test/options/change-email/***"),
        ("Invalid header: Cookie: sessionid=abc; csrftoken=def", "Invalid header: Cookie: ***"),
        ("Authorization: Bearer abc", "Authorization: ***"),
        ("{'password': 'hunter2', 'user': 'bob'}", "{'password': ***, 'user': 'bob'}"),
        ("{'password': 'correct horse; it\\'s', 'user': 'bob'}", "{'password': ***, 'user': 'bob'}"),
        ('password="correct horse\nbattery" user=bob', "password=*** user=bob"),
        ("password='correct horse", "password=***"),
        ("host=pgpool password=hunter2 user=misago", "host=pgpool password=*** user=misago"),
        (f"hash of bob: '{HASH}'", "hash of bob: 'pbkdf2_sha256$***'"),
        ("duplicate key\nDETAIL:  Key (slug)=(bob) already exists.", "duplicate key\nDETAIL: ***"),
        ("syntax error\nLINE 1: SELECT 'hunter2'\n        ^", "syntax error\nLINE 1: ***\n        ^"),
        ("celery@0123456789ab ready.", "celery@0123456789ab ready."),
        ("user misago@misago connects to haproxy:6379", "user misago@misago connects to haproxy:6379"),
        ("what now?", "what now?"),
    ],
)
def test_nobody_reads_what_nobody_may(text: str, shown: str) -> None:
    assert loglines.veil(text) == shown


def test_the_programs_own_secrets_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loglines, "_known", set())
    loglines.hide(["correct horse battery", "short", ""])
    assert loglines.veil("it said: correct horse battery, short") == "it said: ***, short"


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        (
            "LOG:  duration: 2003.123 ms  statement: INSERT INTO u VALUES (12, 'it''s me@x.org', 'bcrypt$a')",
            "LOG:  duration: 2003.123 ms  statement: INSERT INTO u VALUES (?, ?, ?)",
        ),
        (
            "LOG:  duration: 2.5 ms  statement: SELECT \"t1\".\"id\" FROM t1\n\tWHERE a = E'b\\\\''c\n\td' LIMIT 21",
            'LOG:  duration: 2.5 ms  statement: SELECT "t1"."id" FROM t1 WHERE a = ? LIMIT ?',
        ),
        (
            "LOG:  duration: 9.1 ms  execute <unnamed>: SELECT $1, $$hunter2$$, $q$'hunter2'$q$, 'hunter2",
            "LOG:  duration: 9.1 ms  execute <unnamed>: SELECT $1, ?, ?, ?",
        ),
        (
            "LOG:  duration: 2100.1 ms  statement: ALTER ROLE m PASSWORD 'SCRAM-SHA-256$4096:abc$def:ghi'",
            "LOG:  duration: 2100.1 ms  statement: ALTER ROLE m PASSWORD ?",
        ),
        (
            'LOG:  message from backend: statement: "select \'hunter2" message: "unterminated at or near "\'hunter2""',
            'LOG:  message from backend: statement: "select ?" message: "unterminated at or near "***"',
        ),
        (
            'LOG:  message from backend: statement: "insert \'" message: "hunter2\' \'x" message: "null value"',
            'LOG:  message from backend: statement: "insert ? ?" message: "null value"',
        ),
        (
            "LOG:  duration: 1.0 ms  statement: SELECT 'a\" message: \"hunter2'",
            "LOG:  duration: 1.0 ms  statement: SELECT ?",
        ),
        (
            "FATAL:  kind mismatch. Possible last query was: \"SELECT 'hunter2'\" kind details",
            'FATAL:  kind mismatch. Possible last query was: "SELECT ?" kind details',
        ),
        (
            "LOG:  duration: 1.0 ms  statement: SELECT \"it's\" FROM t WHERE a = 'hunter2'",
            'LOG:  duration: 1.0 ms  statement: SELECT "it\'s" FROM t WHERE a = ?',
        ),
        (
            "LOG:  duration: 1.0 ms  statement: SELECT 1 -- it's\n\t, 'hunter2'",
            "LOG:  duration: 1.0 ms  statement: SELECT ? , ?",
        ),
        (
            "LOG:  duration: 1.0 ms  statement: SELECT /* it's */ 'hunter2' /* a /* b */ ' */, 'hunter2'",
            "LOG:  duration: 1.0 ms  statement: SELECT   ?  ",
        ),
        (
            "LOG:  duration: 1.0 ms  statement: SELECT E'it\\'s hunter2', 'it\\', type 'x'",
            "LOG:  duration: 1.0 ms  statement: SELECT ?, ?, type ?",
        ),
        (
            'LOG:  duration: 1.0 ms  statement: SELECT "me@x.org", "a""b", \'hunter2\', "it\'s hunter2',
            'LOG:  duration: 1.0 ms  statement: SELECT "***", "a""b", ?, "it?',
        ),
        ("DETAIL:  Key (email)=(me@x.org) already exists.", "DETAIL: ***"),
        (
            'ERROR:  invalid input syntax for type integer: "hunter2"',
            'ERROR:  invalid input syntax for type integer: "***"',
        ),
        (
            'ERROR:  unterminated quoted string at or near "\'hunter2 at" "x"',
            'ERROR:  unterminated quoted string at or near "***"',
        ),
        ('ERROR:  relation "misago_users" does not exist', 'ERROR:  relation "misago_users" does not exist'),
        ("STATEMENT:  SELECT 'hunter2'", "STATEMENT:  SELECT ?"),
        (
            "LOG:  process 57 still waiting for ShareLock on transaction 753 after 100.1 ms",
            "LOG:  process 57 still waiting for ShareLock on transaction 753 after 100.1 ms",
        ),
    ],
)
def test_a_statement_is_shown_without_its_values(record: str, shown: str) -> None:
    assert loglines.without_values(record) == shown


@pytest.mark.parametrize(
    "text",
    [
        "LOG:  " + " ms  bind x" * 20_000,
        "LOG:  " + " " * 100_000 + "x",
        "LOG:  x ms  statement: " + "/*" * 50_000,
        "LOG:  x ms  statement: " + "/**" * 50_000,
        "LOG:  x ms  statement: " + "$a" * 50_000,
        "LOG:  x ms  statement: " + '"' * 99_999,
        "LOG:  x ms  statement: " + "password='" * 10_000,
        'password="\\' * 10_000,
    ],
)
def test_no_message_takes_long(text: str) -> None:
    started = time.process_time()
    loglines.without_values(text)
    assert time.process_time() - started < 0.5


class Unspeakable:
    """What can't be made a text."""

    def __str__(self) -> str:
        raise ValueError("hunter2")


def test_a_record_that_cannot_be_shown_is_told_without_its_values(
    log: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = next(one for one in log.handlers if isinstance(one, loglines.OneWrite))
    for values in (("hunter2", Unspeakable()), ("hunter2",)):
        handler.handle(logging.LogRecord("test", logging.ERROR, __file__, 1, "%s and %s", values, None))
    written = capfd.readouterr()
    assert written.err == ""
    assert "hunter2" not in written.out
    said = [json.loads(line) for line in written.out.splitlines()]
    assert [(line["event.dataset"], line["error.type"]) for line in said] == [
        ("misago.app", "ValueError"),
        ("misago.app", "TypeError"),
    ]


def test_a_log_is_read_on_whatever_happens(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And what is left of a message that was being read then isn't shown."""
    feed = loglines.Reader.feed

    def fail(reader: loglines.Reader, data: bytes) -> list[str]:
        if b"trouble" in data:
            raise MemoryError
        return feed(reader, data)

    monkeypatch.setattr(loglines.Reader, "feed", fail)
    reader, writer = os.pipe()
    thread = loglines.carry(reader)
    for piece in (b"LOG:  one\n", b"trouble", b"hunter2\nLOG:  two\n"):
        os.write(writer, piece)
        time.sleep(0.2)
    assert thread.is_alive()
    os.close(writer)
    thread.join(10)
    assert not thread.is_alive()
    os.close(reader)
    assert capfd.readouterr().out.splitlines() == ["LOG:  one", "LOG:  two"]


@pytest.mark.parametrize("value", [None, ""])
def test_what_is_absent_is_left_out(value: str | None) -> None:
    assert loglines.line({"user.name": value, "event.duration": 0}) == '{"event.duration":0}'
