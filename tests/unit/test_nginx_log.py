"""What the edge writes about requests: the real nginx, started by its PID 1, asked by visitors who mean it ill."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import loglines
import pytest
from test_nginx_configuration import ROLE, render

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx isn't installed here")

TOKEN = "a1b2c3d4NjU0MzIxMGEyMDQxOA"
HIDDEN = ("hunter2", TOKEN, "visitor@example.com", "secretcookie")
# PIPE_BUF: two workers of nginx write to one pipe.
LONGEST = 4096
STRINGS = {
    "@timestamp", "event.dataset", "event.outcome", "trace.id", "source.ip", "http.request.method", "url.domain",
    "url.path", "http.version", "forum.cache", "http.request.referrer", "user_agent.original",
}  # fmt: skip
NUMBERS = {
    "event.duration",
    "http.response.status_code",
    "http.response.body.bytes",
    "forum.upstream.seconds",
}


class Forum(http.server.BaseHTTPRequestHandler):
    """Stands in for Misago: it answers everything, by the path also nothing at all or something odd."""

    heard: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        self.heard.append({name.lower(): value for name, value in self.headers.items()})
        if "/trouble/" in self.path:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if "/status/" in self.path:
            self.wfile.write(f"HTTP/1.1 {self.path[-3:]}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        if "/no-http/" in self.path:
            self.wfile.write(b"page\n")
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"page\n")

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  # the base class's name
        """Be silent."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Edge:
    """The edge under test."""

    def __init__(self, folder: Path, port: int) -> None:
        self.out, self.err = folder / "out", folder / "err"
        self.group = 0
        self.port = port
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE

    def say(self, request: bytes) -> bytes:
        """What the edge answers to these bytes."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=10) as plain,
            self.context.wrap_socket(plain) as connection,
        ):
            connection.sendall(request)
            answer = b""
            with contextlib.suppress(OSError):
                while piece := connection.recv(65536):
                    answer += piece
        return answer

    def ask(self, target: bytes, **headers: bytes) -> dict[str, Any]:
        """The line about one request."""
        known = len(self.lines())
        head = {b"Host": b"forum.test", b"Connection": b"close"}
        head |= {name.replace("_", "-").encode(): value for name, value in headers.items()}
        text = b"".join(b"%s: %s\r\n" % pair for pair in head.items())
        self.say(b"GET %s HTTP/1.1\r\n%s\r\n" % (target, text))
        (line,) = self.wait_for_lines(known + 1)[known:]
        return line

    def lines(self) -> list[dict[str, Any]]:
        """All lines about requests: each is JSON, in ASCII, and in one piece."""
        found = []
        for line in self.out.read_bytes().splitlines(keepends=True):
            assert line.endswith(b"\n")
            assert len(line) <= LONGEST
            found.append(json.loads(line.decode("ascii")))
        return found

    def wait_for_lines(self, count: int) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 10
        while len(lines := self.lines()) < count:
            assert time.monotonic() < deadline, lines
            time.sleep(0.02)
        return lines


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    folder = tmp_path_factory.mktemp("edge")
    forum = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forum)
    threading.Thread(target=forum.serve_forever, daemon=True).start()
    ports = {8080: free_port(), 8443: free_port(), 8090: free_port()}
    (folder / "mime.types").write_text("types { text/html html; }")
    text = render(
        "nginx.conf.j2",
        nginx_allowed_networks=["127.0.0.0/8"],
        nginx_forum_server=f"127.0.0.1:{forum.server_port}",
    )
    text = text.replace("/tmp/nginx", f"{folder}/state").replace("/run/secrets", str(folder))  # noqa: S108
    text = text.replace("/etc/nginx/mime.types", f"{folder}/mime.types")
    text = text.replace("/usr/share/edge", str(ROLE / "files/image/pages"))
    for port, free in ports.items():
        text = re.sub(rf"(listen (?:127\.0\.0\.1:)?){port}\b", rf"\g<1>{free}", text)
    # In the image nobody is root.
    (folder / "edge.conf").write_text(f"user {pwd.getpwuid(os.geteuid()).pw_name};\n{text}")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
         "/CN=forum.test", "-keyout", folder / "nginx_tls_key", "-out", folder / "nginx_tls_certificate"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    script = folder / "edge"
    script.write_text(
        (ROLE / "files/image/bin/edge").read_text().replace("state=/tmp/nginx", f"state={folder}/state")
    )
    subject = Edge(folder, ports[8443])
    with subject.out.open("wb") as out, subject.err.open("wb") as err:
        process = subprocess.Popen(
            ["sh", script],
            env={**os.environ, "EDGE_CONFIGURATION": str(folder / "edge.conf")},
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    subject.group = process.pid
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", subject.port)):
                break
            assert time.monotonic() < deadline, subject.err.read_text()
            time.sleep(0.05)
        yield subject
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        forum.shutdown()
        forum.server_close()


def test_a_line_has_the_names_and_types_that_are_told(edge: Edge) -> None:
    line = edge.ask(b"/t/a-thread/12/", User_Agent=b"Firefox", Referer=b"https://forum.test/c/general/3/")
    assert set(line) == STRINGS | NUMBERS
    assert all(isinstance(line[name], str) for name in STRINGS)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+\d\d:\d\d", line["@timestamp"])
    assert re.fullmatch(r"[0-9a-f]{32}", line["trace.id"])
    assert isinstance(line["event.duration"], int)
    assert isinstance(line["forum.upstream.seconds"], float)
    expected = {
        "event.dataset": "nginx.access",
        "event.outcome": "success",
        "source.ip": "127.0.0.1",
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.response.body.bytes": 5,
        "http.version": "1.1",
        "url.domain": "forum.test",
        "url.path": "/t/a-thread/12/",
        "http.request.referrer": "https://forum.test/c/general/3/",
        "user_agent.original": "Firefox",
    }
    assert {name: line[name] for name in expected} == expected


def test_the_forum_gets_the_edges_id_and_not_the_visitors(edge: Edge) -> None:
    line = edge.ask(b"/", X_Request_ID=b"forged")
    assert Forum.heard[-1]["x-request-id"] == line["trace.id"] != "forged"


def test_time_is_in_nanoseconds(edge: Edge) -> None:
    started = time.monotonic()
    known = len(edge.lines())
    with (
        socket.create_connection(("127.0.0.1", edge.port), timeout=10) as plain,
        edge.context.wrap_socket(plain) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\n")
        time.sleep(1.1)
        connection.sendall(b"Host: forum.test\r\nConnection: close\r\n\r\n")
        connection.recv(65536)
    line = edge.wait_for_lines(known + 1)[-1]
    assert 1e9 <= line["event.duration"] <= (time.monotonic() - started) * 1e9 + 2e6


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/activation/12/%s/", "/activation/12/***"),
        (b"/forgotten-password/12/%s/?next=/", "/forgotten-password/12/***"),
        (b"/forgotten%%2Dpassword/12/%s/", "/forgotten-password/12/***"),
        (b"/options/change-email/%s/", "/options/change-email/***"),
        (b"/options/change-password/%s/", "/options/change-password/***"),
        (b"/api/auth/change-password/12/%s/", "/api/auth/change-password/12/***"),
        (b"/notifications/disable-email/12/%s/", "/notifications/disable-email/12/***"),
        (b"/a/%s/12/", "/a/***"),
        (b"/a/thumb/%s/12/", "/a/thumb/***"),
        (b"/media/attachments/ab/cd/%s/cat.png", "/media/attachments/ab/cd/***"),
        (b"/media/data-downloads/0123456789abcdef0123456789abcdef/%s/me.zip", "/media/data-downloads/***"),
        (b"/api/threads/?password=hunter2&token=%s", "/api/threads/"),
        (b"/search/visitor@example.com/%s", "/search/***"),
        (b"/search/visitor%%40example.com/%s", "/search/***"),
        (b"/a%%20b/%s/", "/a b/***"),
        (b"/a-long-and-plain-word%%20%s/", "/***"),
        (b"/caf%%C3%%A9/%s", "/caf"),
        (b"/api/%%61uth/?x=%s", "/api/auth/"),
    ],
)
def test_no_secret_of_an_address_is_logged(edge: Edge, target: bytes, path: str) -> None:
    address = target % TOKEN.encode()
    line = edge.ask(address, Referer=b"https://forum.test" + address)
    assert line["url.path"] == path
    assert not any(hidden in line["http.request.referrer"] for hidden in HIDDEN)
    if b"%" not in address:
        assert line["http.request.referrer"] == "https://forum.test" + path
    # The forum says the same of the same request; it also reads what isn't ASCII.
    assert loglines.path(address.decode()).replace("\u00e9/***", "") == path


@pytest.mark.parametrize(
    "path",
    ["/t/a-long-thread-of-2026-with-many-words/12/", "/media/misago/js/misago.0123456789ab.js", "/a/"],
)
def test_what_is_no_secret_is_shown(edge: Edge, path: str) -> None:
    assert edge.ask(path.encode())["url.path"] == path == loglines.path(path)


def test_a_page_of_its_own_has_the_path_that_was_asked_for(edge: Edge) -> None:
    line = edge.ask(b"/trouble/?password=hunter2")
    assert (line["http.response.status_code"], line["url.path"]) == (502, "/trouble/")


def test_a_password_in_a_referrer_and_an_address_in_a_name_are_not_logged(edge: Edge) -> None:
    line = edge.ask(
        b"/",
        Referer=b"https://user:hunter2@forum.test/",
        User_Agent=b"Crawler/1.0 (mail visitor@example.com for more)",
        Cookie=b"sessionid=secretcookie",
        Authorization=b"Basic hunter2",
    )
    assert line["user_agent.original"] == "Crawler/1.0 (mail ***"
    assert not any(hidden in json.dumps(line) for hidden in HIDDEN)


@pytest.mark.parametrize(
    ("sent", "logged"),
    [
        (b'"}{"url.path":"/forged","message":"\\', '"}{"url.path":"/forged","message":"\\'),
        (b"a\x01b", "a"),
        (b"caf\xc3\xa9", "caf"),
        (b"bad\xff\xfe", "bad"),
        (b"<script>&'`$(reboot)</script>", "<script>&'`$(reboot)</script>"),
        (b"x" * 512, "x" * 512),
        (b"x" * 7000, "x" * 512),
        (b'"' * 7000, '"' * 512),
        (b"100 % plain", "100 % plain"),
        (b"x visitor%40example.com", "x ***"),
        (b"", ""),
    ],
)
def test_a_name_can_be_anything(edge: Edge, sent: bytes, logged: str) -> None:
    assert edge.ask(b"/", User_Agent=sent)["user_agent.original"] == logged


@pytest.mark.parametrize(
    ("sent", "logged"),
    [
        (b'/"quoted"', '/"quoted"'),
        (b"/back\\slash", "/back\\slash"),
        (b"/caf\xc3\xa9", "/caf"),
        (b"/\xff", "/"),
        (b"/" + b"x" * 7000, "/" + "x" * 511),
        (b"/" * 7000 + b"x/", "/x/"),
        (b"/a%20b%0d%0aX:y", "/a b"),
        (b"/../../etc/passwd", ""),
    ],
)
def test_a_path_can_be_anything(edge: Edge, sent: bytes, logged: str) -> None:
    assert edge.ask(sent)["url.path"] == logged


def test_the_longest_line_is_in_one_piece(edge: Edge) -> None:
    worst = b'"' * 1900
    line = edge.ask(b"/" + worst, User_Agent=worst, Referer=worst, Host=b"x" * 253)
    assert [len(line[name]) for name in ("url.path", "user_agent.original", "http.request.referrer")] == [
        512
    ] * 3


@pytest.mark.parametrize(
    "request_line",
    [
        b"\x16\x03\x01garbage\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: forum.test\r\n\r\n",
        b"G" * 5000 + b" / HTTP/1.1\r\nHost: forum.test\r\nConnection: close\r\n\r\n",
        b'GET / HTTP/1.1\r\nHost: a"b\r\nConnection: close\r\n\r\n',
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET /\r\n",
        b"GET / HTTP/1.1\r\nHost: forum.test\r\nCookie secretcookie\r\n\r\n",
    ],
)
def test_what_is_no_request_has_its_line_too(edge: Edge, request_line: bytes) -> None:
    known = len(edge.lines())
    edge.say(request_line)
    (line,) = edge.wait_for_lines(known + 1)[known:]
    assert set(line) == STRINGS | NUMBERS


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/status/000", 0),
        (b"/status/009", 0),
        (b"/status/099", 0),
        (b"/status/999", 999),
        (b"/no-http/", None),
    ],
)
def test_whatever_the_forum_answers_has_its_line(edge: Edge, target: bytes, status: int | None) -> None:
    line = edge.ask(target)
    assert set(line) == STRINGS | NUMBERS
    assert isinstance(line["http.response.status_code"], int)
    assert status in (line["http.response.status_code"], None)


def test_nginxs_own_messages_hold_no_secrets(edge: Edge) -> None:
    for way in (f"forgotten-password/12/{TOKEN}", f"a/{TOKEN}", f"x/{TOKEN}", "visitor@example.com"):
        line = edge.ask(
            f"/{way}/trouble/?password=hunter2".encode(),
            Referer=f"https://forum.test/{way}/?token={TOKEN}".encode(),
            Cookie=b"sessionid=secretcookie",
        )
        assert line["http.response.status_code"] == 502
        assert line["event.outcome"] == "failure"
    edge.ask(f"/media/attachments/ab/cd/{TOKEN}/cat.png".encode())
    deadline = time.monotonic() + 10
    while (said := edge.err.read_text()).count("[error]") < 5:
        assert time.monotonic() < deadline, said
        time.sleep(0.05)
    assert ', upstream: "http://127.0.0.1:' in said
    assert ', host: "forum.test"' in said
    assert "forgotten-password/12/***" in said
    assert "/media/attachments/***" in said
    assert [hidden for hidden in HIDDEN if hidden in said] == []


def test_a_quote_in_a_query_shows_nothing_of_the_rest(edge: Edge) -> None:
    known = edge.err.read_text().count("[error]")
    edge.ask(b'/trouble/?a="hunter2"', Referer=b'https://forum.test/?a="hunter2 ", host: "hunter2"')
    edge.ask(b'/trouble/x%3Fy"/?a="hunter2"', Referer=b'https://forum.test/"?a=hunter2')
    deadline = time.monotonic() + 10
    while (said := edge.err.read_text()).count("[error]") < known + 2:
        assert time.monotonic() < deadline, said
        time.sleep(0.05)
    assert "hunter2" not in said


def test_nginx_is_heard_after_the_end_of_who_hides_its_secrets(edge: Edge) -> None:
    found = subprocess.run(
        ["pgrep", "-g", str(edge.group), "sed"], capture_output=True, text=True, check=True
    )
    for number in found.stdout.split():
        os.kill(int(number), signal.SIGKILL)
    known = edge.err.read_text().count("[error]")
    assert edge.ask(b"/trouble/?password=hunter2")["http.response.status_code"] == 502
    deadline = time.monotonic() + 10
    while (said := edge.err.read_text()).count("[error]") < known + 1:
        assert time.monotonic() < deadline, said
        time.sleep(0.05)
    assert "hunter2" not in said


def test_nothing_hidden_is_in_any_line(edge: Edge) -> None:
    assert edge.lines()
    written = edge.out.read_text() + edge.err.read_text()
    assert [hidden for hidden in HIDDEN if hidden in written] == []
