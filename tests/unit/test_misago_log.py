"""What the forum writes: its own parts, and the real gunicorn around a stand-in for Django."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import loglines
import pytest

IMAGE = Path(__file__).parents[2] / "roles/misago/files/image"
# The package itself imports Celery, which is in the image only: its modules are loaded around it.
package = sys.modules.setdefault("forum", ModuleType("forum"))
package.__path__ = [str(IMAGE / "forum")]
logs = importlib.import_module("forum.logs")

TRACE = "0123456789abcdef" * 2


class TestOperation:
    """What a request is for, whatever it is about."""

    @pytest.mark.parametrize(
        ("path", "values", "listing", "expected"),
        [
            ("/t/some-thread/12/", {"slug": "some-thread", "pk": 12}, None, "GET /t/:slug/:pk/"),
            ("/api/threads/12/posts/", {"thread_pk": "12"}, None, "GET /api/threads/:thread_pk/posts/"),
            ("/api/threads/", {}, "new", "GET /api/threads/?list=new"),
            ("/api/threads/", {}, "hunter2", "GET /api/threads/"),
            ("/activation/12/abc/", {"pk": 12, "token": "abc"}, None, "GET /activation/:pk/:token/"),
            ("/", {"format": None}, None, "GET /"),
        ],
    )
    def test_it_is_the_same_for_all(
        self, path: str, values: dict[str, Any], listing: str | None, expected: str
    ) -> None:
        assert logs.operation("GET", path, values, listing) == expected


def user(name: str) -> SimpleNamespace:
    return SimpleNamespace(username=name, is_authenticated=bool(name))


class TestGathering:
    """The middleware, on stand-ins for Django's request."""

    def gather(self, before: str, after: str, match: Any = None) -> dict[str, Any]:
        environ: dict[str, Any] = {"HTTP_X_REQUEST_ID": TRACE}
        logs.begin(environ)
        # As the forum runs a request: on a copy.
        request = SimpleNamespace(
            user=user(before),
            META={**environ},
            method="GET",
            path_info="/t/a/1/",
            GET={},
            resolver_match=match,
        )

        def respond(request: Any) -> str:
            request.user = user(after)
            return "response"

        assert logs.gather_middleware(respond)(request) == "response"
        gathered: dict[str, Any] = environ[logs.GATHERED]
        return gathered

    @pytest.mark.parametrize(
        ("before", "after", "name"),
        [("", "", ""), ("bob", "bob", "bob"), ("", "bob", "bob"), ("bob", "", "bob")],
    )
    def test_who_asks_is_known(self, before: str, after: str, name: str) -> None:
        assert self.gather(before, after) == {"user.name": name}

    def test_what_for_is_known_where_there_is_a_view(self) -> None:
        match = SimpleNamespace(kwargs={"slug": "a", "pk": 1})
        assert self.gather("", "", match)["forum.operation"] == "GET /t/:slug/:pk/"

    def test_all_lines_of_a_request_have_its_id(self) -> None:
        self.gather("", "")
        assert logs.context() == {"trace.id": TRACE}
        logs.end()
        assert logs.context() == {}

    @pytest.mark.parametrize("forged", ["", "x" * 32, TRACE + "0", TRACE.upper(), TRACE + "\n"])
    def test_an_id_that_nginx_has_not_made_is_none(self, forged: str) -> None:
        assert logs.trace(forged) == {}


class TestCelery:
    """The filters of Celery's loggers."""

    def record(self, level: int, message: str, data: dict[str, Any]) -> logging.LogRecord:
        record = logging.LogRecord("celery.app.trace", level, __file__, 1, message, (data,), None)
        record.data = data
        return record

    def test_a_task_is_one_line_without_what_it_was_given(self) -> None:
        task = {
            "id": "1-2", "name": "forum.mail.deliver", "runtime": 0.25, "return_value": "'me@x.org'",
            "args": "({'to': ['me@x.org'], 'body': 'https://forum/forgotten-password/1/abc/'},)",
        }  # fmt: skip
        record = self.record(
            logging.INFO, "Task %(name)s[%(id)s] succeeded in %(runtime)ss: %(return_value)s", task
        )
        assert logs.TaskEvents().filter(record)
        line = json.loads(loglines.JsonLines("celery").format(record))
        assert line["message"] == "Task forum.mail.deliver[1-2] succeeded in 0.25s"
        assert line["event.duration"] == 250_000_000
        assert (line["event.outcome"], line["forum.operation"]) == ("success", "forum.mail.deliver")
        assert "x.org" not in json.dumps(line)

    @pytest.mark.parametrize(
        ("level", "message", "outcome"),
        [
            (logging.ERROR, "Task %(name)s[%(id)s] %(description)s: %(exc)s", "failure"),
            (logging.INFO, "Task %(name)s[%(id)s] retry: %(exc)s", "unknown"),
        ],
    )
    def test_a_refused_e_mail_tells_no_address(self, level: int, message: str, outcome: str) -> None:
        task = {
            "id": "1-2", "name": "forum.mail.deliver", "description": "raised unexpected",
            "exc": "SMTPRecipientsRefused({'me@x.org': (550, b'unknown')})",
        }  # fmt: skip
        record = self.record(level, message, task)
        logs.TaskEvents().filter(record)
        line = json.loads(loglines.JsonLines("celery").format(record))
        assert line["event.outcome"] == outcome
        assert "SMTPRecipientsRefused({'***': (550" in line["message"]
        assert "event.duration" not in line

    @pytest.mark.parametrize(
        ("message", "arguments", "shown"),
        [
            (
                "Received unregistered task of type %s.\nThe full contents of the message body was:\n%s",
                ("'forum.mail.old'", "({'to': ['me@x.org']},)"),
                "Received unregistered task of type 'forum.mail.old'.",
            ),
            (
                "Can't decode message body: %r [type:%r headers:%s]\n\nbody: %s",
                ("error b'me@x.org'", "json", "{'argsrepr': 'me@x.org'}", "me@x.org"),
                "Can't decode message body",
            ),
            ("consumer: Cannot connect to %s: %s.", ("redis://:**@haproxy//", "refused"), None),
        ],
    )
    def test_a_message_that_is_of_no_use_is_not_shown(
        self, message: str, arguments: tuple[str, ...], shown: str | None
    ) -> None:
        record = logging.LogRecord("celery", logging.ERROR, __file__, 1, message, arguments, None)
        assert logs.WithoutBody().filter(record)
        assert record.getMessage() == (shown or message % arguments)


APPLICATION = """
from forum import logs
from forum.retries import Retrying

def django(environ, start_response):
    path = environ["PATH_INFO"]
    environ[logs.GATHERED]["user.name"] = environ.get("HTTP_X_NAME", "")
    if path == "/crash/":
        # In pieces: a stack trace shows the line.
        raise ValueError("no room for me@x." + "org\\nDETAIL:  Failing row contains (hunt" + "er2)")
    if path == "/slow/":
        import time; time.sleep(0.2)
    body = b"page " + path.encode("latin-1")
    start_response("404 Not Found" if path == "/missing/" else "200 OK", [("Content-Length", str(len(body)))])
    return [body]

app = Retrying(django, lambda: None, lambda: 0)
"""


class Gunicorn:
    """gunicorn as the forum runs it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.out, self.port = folder / "out", port

    def say(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(request)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(65536):
                    answer += piece
        return answer

    def ask(self, target: bytes, **headers: bytes) -> dict[str, Any]:
        """The line about one request."""
        known = len(self.lines("misago.access"))
        head = {b"Host": b"forum.test", b"X-Request-ID": TRACE.encode()}
        head |= {name.replace("_", "-").encode(): value for name, value in headers.items()}
        text = b"".join(b"%s: %s\r\n" % pair for pair in head.items())
        self.say(b"GET %s HTTP/1.1\r\n%s\r\n" % (target, text))
        (line,) = self.wait_for("misago.access", known + 1)[known:]
        return line

    def lines(self, dataset: str) -> list[dict[str, Any]]:
        """The lines of a dataset; all that is written is JSON, in one piece, and shows nothing that is secret."""
        written = self.out.read_bytes()
        assert not re.search(rb"hunter2|x\.org|secretcookie", written)
        found = []
        for line in written.splitlines(keepends=True):
            assert line.endswith(b"\n")
            assert len(line) <= 4096
            found.append(json.loads(line.decode("ascii")))
        return [line for line in found if line["event.dataset"] == dataset]

    def wait_for(self, dataset: str, count: int) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 10
        while len(lines := self.lines(dataset)) < count:
            assert time.monotonic() < deadline, self.out.read_text()
            time.sleep(0.02)
        return lines


@pytest.fixture(scope="module")
def gunicorn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    folder = tmp_path_factory.mktemp("gunicorn")
    (folder / "stand_in.py").write_text(APPLICATION)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    subject = Gunicorn(folder, port)
    path = os.pathsep.join(map(str, (IMAGE, Path(loglines.__file__).parent, folder)))
    with subject.out.open("wb") as out:
        process = subprocess.Popen(
            ["gunicorn", "--config", "python:forum.gunicorn", "--bind", f"127.0.0.1:{port}", "stand_in:app"],
            env={**os.environ, "PYTHONPATH": path, "MISAGO_PROGRAM": "web", "PYTHONUNBUFFERED": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        subject.wait_for("misago.app", 5)
        yield subject
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.skipif(shutil.which("gunicorn") is None, reason="gunicorn isn't installed here")
class TestGunicorn:
    """access.py and gunicorn.py."""

    def test_a_request_is_one_line_in_the_schemas_names(self, gunicorn: Gunicorn) -> None:
        line = gunicorn.ask(
            b"/sl%6Fw/?token=hunter2",
            User_Agent=b"Firefox",
            X_Name=b"bob",
            X_Forwarded_For=b"198.51.100.7",
            Cookie=b"secretcookie",
        )
        assert line.pop("@timestamp").endswith("Z")
        assert 0.2e9 <= line.pop("event.duration") < 10e9
        assert isinstance(line.pop("process.pid"), int)
        assert line == {
            "event.dataset": "misago.access",
            "event.outcome": "success",
            "trace.id": TRACE,
            "source.ip": "198.51.100.7",
            "http.request.method": "GET",
            "url.path": "/slow/",
            "http.response.status_code": 200,
            "http.response.body.bytes": 11,
            "user_agent.original": "Firefox",
            "user.name": "bob",
        }

    @pytest.mark.parametrize(
        ("sent", "logged"),
        [
            (b'"}{"url.path":"/forged"}\\', '"}{"url.path":"/forged"}\\'),
            (b"caf\xc3\xa9 \xff", "caf\u00e9 \ufffd"),
            (b"tab\tand \xc2\x85", "tab\tand \x85"),
            (b"x" * 4000, "x" * 512),
            (b'"' * 4000, '"' * 512),
            ("\U0001f600".encode() * 1000, None),
            (b"crawler (me@x.org)", "crawler (***)"),
            (b"", None),
        ],
    )
    def test_a_name_can_be_anything(self, gunicorn: Gunicorn, sent: bytes, logged: str | None) -> None:
        line = gunicorn.ask(b"/", User_Agent=sent)
        assert line["url.path"] == "/"
        if logged is not None:
            assert line["user_agent.original"] == logged

    def test_no_secret_of_a_path_is_logged(self, gunicorn: Gunicorn) -> None:
        assert (
            gunicorn.ask(b"/forgotten-password/12/hunter2/?x=1")["url.path"] == "/forgotten-password/12/***"
        )

    def test_an_id_that_nginx_has_not_made_is_left_out(self, gunicorn: Gunicorn) -> None:
        assert "trace.id" not in gunicorn.ask(b"/", X_Request_ID=b"forged")

    @pytest.mark.parametrize("address", [b"", b"unknown", b"198.51.100.7, 10.0.0.1", b'"}'])
    def test_an_address_that_is_none_is_left_out(self, gunicorn: Gunicorn, address: bytes) -> None:
        assert "source.ip" not in gunicorn.ask(b"/", X_Forwarded_For=address)

    def test_who_is_not_signed_in_has_no_name(self, gunicorn: Gunicorn) -> None:
        assert "user.name" not in gunicorn.ask(b"/")

    def test_the_name_is_no_part_of_the_answer(self, gunicorn: Gunicorn) -> None:
        answer = gunicorn.say(b"GET / HTTP/1.1\r\nHost: forum.test\r\nX-Name: somebody\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"somebody" not in answer

    def test_an_error_is_logged_with_the_requests_id(self, gunicorn: Gunicorn) -> None:
        line = gunicorn.ask(b"/crash/?token=hunter2")
        assert (line["http.response.status_code"], line["event.outcome"]) == (500, "failure")
        assert line["trace.id"] == TRACE
        (said,) = [told for told in gunicorn.lines("misago.app") if "error.type" in told]
        assert said["message"] == "Error handling request GET /crash/?***"
        assert said["error.message"] == "no room for ***\nDETAIL: ***"
        assert said["error.stack_trace"].startswith("Traceback")
        assert said["trace.id"] == TRACE

    def test_the_health_check_is_not_logged(self, gunicorn: Gunicorn) -> None:
        assert b"alive" in gunicorn.say(b"GET /alive HTTP/1.0\r\nHost: localhost\r\n\r\n")
        gunicorn.ask(b"/missing/")
        assert [line for line in gunicorn.lines("misago.access") if line["url.path"] == "/alive"] == []

    @pytest.mark.parametrize(
        "request_",
        [
            b"GET / HTTP/1.1\r\nHost: forum.test\r\nCookie secretcookie\r\n\r\n",
            b"hunter2\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: forum.test\r\nCookie: a\x00secretcookie\r\n\r\n",
        ],
    )
    def test_what_is_no_request_tells_nothing(self, gunicorn: Gunicorn, request_: bytes) -> None:
        known = len(gunicorn.lines("misago.app"))
        assert b" 400 " in gunicorn.say(request_)
        line = gunicorn.wait_for("misago.app", known + 1)[-1]
        assert line["message"] == "Invalid request from ip=127.0.0.1"

    def test_gunicorns_own_words_are_json(self, gunicorn: Gunicorn) -> None:
        first = gunicorn.lines("misago.app")[0]
        assert first["message"].startswith("Starting gunicorn")
        assert (first["log.level"], first["log.logger"]) == ("info", "gunicorn.error")
