"""The action server over HTTP: who may call what, whatever they send, and what its pages show."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import ipaddress
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import board_site
import pytest
from action_server import elastic, server, sources, web, workers
from action_server import runner as module
from action_server.actions import Actions
from action_server.board import Board
from action_server.journal import Journal
from action_server.records import BLOCK, DONE, FAILED, RUNNING, SCALE, Action
from action_server.runner import Outcome, Playbooks
from action_server.settings import Settings
from action_server.slack import Teller, Undelivered
from board_site import PROGRAM, TOKENS, FakeRunner, World, read, sign_in
from conftest import load_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from test_alarm_actions import clients, login, stamp

Answer = tuple[int, Any]


class Callers:
    """A server on a port of this machine, as callers at its own address reach it."""

    def __init__(self, port: int, actions: Actions, runner: FakeRunner) -> None:
        self.port, self.actions, self.runner = port, actions, runner

    def __call__(
        self, method: str, path: str, body: bytes | None = None, token: str = "", **headers: str
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        told = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            connection.request(method, path, body, {**told, **headers})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        return answer.status, json.loads(text) if text.startswith("{") else text

    def event(self, engine: str, body: bytes) -> Answer:
        return self("POST", f"/events/{engine}", body, TOKENS[engine])


def serving(
    directory: Path, monkeypatch: pytest.MonkeyPatch, **changed: Any
) -> tuple[Settings, Actions, FakeRunner, Any]:
    world, runner = World(), FakeRunner()
    for source in (sources, elastic):
        monkeypatch.setattr(source, "ask", world.answer)
    monkeypatch.setattr("ssl.create_default_context", lambda **_: create_autospec(ssl.SSLContext))
    own = (ipaddress.ip_network("127.0.0.0/8"),)
    told = dataclasses.replace(
        board_site.settings(directory, monkeypatch),
        **{"allowed_networks": own, "caller_networks": own, **changed},
    )
    actions = board_site.actions(told, runner)
    return told, actions, runner, web.application(told, Board(told), actions)


@pytest.fixture
def callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callers]:
    _, actions, runner, application = serving(tmp_path, monkeypatch)
    # As in server.make, without TLS, which has tests of its own.
    listening = server._Server(("127.0.0.1", 0), application, numthreads=5, timeout=5)
    # How long it may take to end.
    listening.expiration_interval = 0.02
    with listening._run_in_thread():
        yield Callers(listening.bind_addr[1], actions, runner)
    actions.journal.close()


def test_an_event_is_taken_and_done(callers: Callers) -> None:
    status, answer = callers.event("kapacitor", clients(time.time()))
    assert (status, answer["decided"]) == (202, "alarm; nginx +1")
    assert callers.actions.step()
    assert [action.kind for action in callers.runner.ran] == [SCALE]
    status, answer = callers("GET", "/history", token=TOKENS["operator"])
    assert [(each["kind"], each["state"], each["by"]) for each in answer["actions"]] == [
        ("scale", "done", "nginx-clients")
    ]
    status, answer = callers("GET", "/alarms", token=TOKENS["operator"])
    assert [each["instance"] for each in answer["open"]] == [{"host": "nginx-10.0.1.5"}]


@pytest.mark.parametrize(
    ("method", "path", "caller", "status"),
    [
        ("POST", "/events/kapacitor", "", 401),
        ("POST", "/events/kapacitor", "wrong", 401),
        ("POST", "/events/kapacitor", "kibana", 403),
        ("POST", "/events/kapacitor", "operator", 403),
        ("POST", "/events/nobody", "kapacitor", 404),
        ("GET", "/events/kapacitor", "kapacitor", 405),
        ("POST", "/scale", "", 401),
        ("POST", "/scale", "kapacitor", 403),
        ("POST", "/block", "elastalert", 403),
        ("POST", "/allow", "telegraf", 403),
        ("GET", "/blocked", "kapacitor", 403),
        ("GET", "/history", "telegraf", 403),
        ("GET", "/history", "", 401),
        ("GET", "/metrics", "operator", 403),
        ("GET", "/metrics", "", 401),
        ("POST", "/history", "operator", 405),
        ("DELETE", "/scale", "operator", 405),
        ("GET", "/", "operator", 404),
        ("GET", "/history?limit=many", "operator", 400),
        ("GET", "/health", "", 200),
        ("GET", "/history?limit=5", "operator", 200),
        ("GET", "/blocked", "operator", 200),
        ("GET", "/metrics", "telegraf", 200),
    ],
)
def test_each_caller_has_its_own_right(
    callers: Callers, method: str, path: str, caller: str, status: int
) -> None:
    body = clients(time.time()) if method == "POST" else None
    got, answer = callers(method, path, body, TOKENS.get(caller, caller))
    assert got == status
    if status >= 400:
        assert answer.keys() == {"error"}
    assert callers.actions.journal.counts()["events"] == 0


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/scale", {"service": "nginx", "by": 1}, 202),
        ("/scale", {"service": "nginx", "by": 2}, 400),
        ("/scale", {"service": "nginx", "by": True}, 400),
        ("/scale", {"service": "nginx; reboot", "by": 1}, 400),
        ("/scale", {"service": "{{ lookup('pipe', 'id') }}", "by": 1}, 400),
        ("/scale", {"service": "nginx"}, 400),
        ("/block", {"address": "203.0.113.7"}, 202),
        ("/block", {"address": "2001:db8::7", "seconds": 60, "reason": "it's spam"}, 202),
        ("/block", {"address": "203.0.113.7", "seconds": 0}, 400),
        ("/block", {"address": "203.0.113.7", "reason": "{{ 7 }}"}, 400),
        ("/block", {"address": "203.0.113.0/24"}, 422),
        ("/allow", {"address": "203.0.113.7"}, 202),
        ("/allow", {"address": "203.0.113.7", "reason": "x"}, 400),
    ],
)
def test_an_operator_asks(callers: Callers, path: str, body: dict[str, Any], status: int) -> None:
    got, _ = callers("POST", path, json.dumps(body).encode(), TOKENS["operator"])
    assert got == status
    assert callers.actions.step() is (status == 202)


def test_callers_come_from_their_own_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = (ipaddress.ip_network("192.0.2.9/32"),)
    _, actions, runner, application = serving(tmp_path, monkeypatch, caller_networks=elsewhere)
    listening = server._Server(("127.0.0.1", 0), application, numthreads=2, timeout=5)
    with listening._run_in_thread():
        ask = Callers(listening.bind_addr[1], actions, runner)
        assert ask.event("kapacitor", clients(time.time()))[0] == 403
        assert ask("GET", "/metrics", token=TOKENS["telegraf"])[0] == 403
        assert ask("GET", "/history", token=TOKENS["operator"])[0] == 200
    actions.journal.close()


def test_more_than_sixteen_kilobytes_are_refused(callers: Callers) -> None:
    body = b" " * (16 * 1024 + 1)
    assert callers("POST", "/events/kapacitor", body, TOKENS["kapacitor"])[0] == 413
    with socket.create_connection(("127.0.0.1", callers.port), timeout=10) as connection:
        head = (
            f"POST /events/kapacitor HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKENS['kapacitor']}\r\n"
        )
        connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(20):
                connection.sendall(b"400\r\n" + b" " * 1024 + b"\r\n")
            connection.sendall(b"0\r\n\r\n")
        assert connection.recv(100).split()[1] == b"413"


@pytest.mark.parametrize(("token", "status"), [(TOKENS["kapacitor"], b"413"), ("wrong", b"401")])
def test_a_caller_that_still_sends_is_heard_out_and_answered(
    callers: Callers, token: str, status: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", callers.port), timeout=10) as connection:
        head = f"POST /events/kapacitor HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        connection.sendall(f"{head}Content-Length: 200000\r\nConnection: close\r\n\r\n".encode())
        for _ in range(20):
            time.sleep(0.02)
            connection.sendall(b" " * 10000)
        assert connection.recv(100).split()[1] == status


@pytest.mark.parametrize("length", ["-1", "many", "99999999999999999999", "7"])
def test_a_length_that_isn_t_the_body_s_is_no_fault_of_the_server(callers: Callers, length: str) -> None:
    with socket.create_connection(("127.0.0.1", callers.port), timeout=10) as connection:
        head = (
            f"POST /events/kapacitor HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKENS['kapacitor']}\r\n"
        )
        connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + b"{}")
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(100)
    assert answer == b"" or answer.split()[1][:1] == b"4"


def test_what_is_refused_is_counted_and_no_token_is_written_anywhere(
    callers: Callers, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("DEBUG")
    callers.event("kapacitor", b"{")
    callers("POST", "/events/kapacitor", b"{}", "a-wrong-token")
    callers.event("kapacitor", clients(time.time()))
    _, told = callers("GET", "/metrics", token=TOKENS["telegraf"])
    lines = told.splitlines()
    assert lines[0].startswith("action_server actions_queued=1i,")
    assert "action_server_calls,caller=kapacitor,status=400 count=1i" in lines
    assert "action_server_calls,caller=stranger,status=401 count=1i" in lines
    assert "action_server_calls,caller=kapacitor,status=202 count=1i" in lines
    kept = caplog.text + "".join(
        path.read_text(errors="replace") for path in tmp_path.iterdir() if path.is_file()
    )
    assert "a-wrong-token" not in kept
    for token in TOKENS.values():
        assert token not in kept


# Whatever comes

_TEXTS = some.text(max_size=60) | some.sampled_from(
    [
        "forum-wrong-logins",
        "nginx-clients",
        "firing",
        "OK",
        "CRITICAL",
        "203.0.113.7; reboot",
        "0.0.0.0/0",
        "2001:db8::/32",
    ]
)
_JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | _TEXTS,
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)
#: Nearly events: of their form, with something else in one place or more.
_NEARLY = some.fixed_dictionaries(
    {},
    optional={
        "level": _JSON | some.just("forum-wrong-logins"),
        "id": _JSON | some.just("nginx-clients/x"),
        "state": _JSON | some.just("firing"),
        "time": _JSON
        | some.sampled_from(
            ["2026-11-26T20:00:00.000Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"]
        ),
        "instance": _JSON,
        "value": _JSON,
        "data": some.none() | some.fixed_dictionaries({"series": _JSON | some.lists(_JSON, max_size=2)}),
        "service": _JSON,
        "by": _JSON.filter(lambda by: by not in (1, -1)),
        "address": _TEXTS,
    },
)
_BODIES = some.binary(max_size=300) | some.builds(
    lambda found: json.dumps(found).encode(), _JSON | _NEARLY | _NEARLY.map(lambda event: [event])
)
_PATHS = some.sampled_from(
    [
        *(f"/events/{engine}" for engine in ("kapacitor", "kibana", "watcher", "elastalert")),
        "/scale",
        "/block",
        "/allow",
    ]
)
_HEADERS = some.dictionaries(
    some.sampled_from(["Content-Type", "Expect-Nothing", "Cookie", "Origin", "Range", "Accept-Encoding"]),
    some.text(some.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(str.strip),
    max_size=2,
)


def test_whatever_comes_in_is_no_fault_of_the_server_and_does_nothing(callers: Callers) -> None:
    seen: list[int] = []

    @settings(
        max_examples=2500, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(path=_PATHS, body=_BODIES, headers=_HEADERS, token=some.sampled_from(["", *TOKENS.values()]))
    def send(path: str, body: bytes, headers: Mapping[str, str], token: str) -> None:
        right = TOKENS[path.rpartition("/")[2]] if path.startswith("/events/") else TOKENS["operator"]
        # Mostly the right token: what is behind the door is of interest.
        status, answer = callers("POST", path, body, token if len(body) % 8 == 0 else right, **headers)
        # Without a token the way to allow is a page's, and leads to its sign-in.
        assert 400 <= status < 500 or (status, path) == (303, "/allow"), (status, answer)
        seen.append(status)

    send()
    assert len(seen) >= 2000
    assert {400, 401, 403}.issubset(seen)
    assert not callers.actions.step()
    assert callers.actions.journal.counts()["events"] == 0
    assert callers.actions.journal.waiting() == []


# The pages


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: FakeRunner
) -> Iterator[tuple[board_site.Ask, Actions]]:
    told = board_site.settings(tmp_path, monkeypatch)
    done = board_site.actions(told, runner)
    yield board_site.site(tmp_path, World(), monkeypatch, done), done
    done.journal.close()


def rows(content: str) -> list[str]:
    """The rows of a page's tables as one reads them."""
    return [read(row) for row in re.findall(r"<tr>.*?</tr>", content, re.DOTALL) if "<td" in row]


def test_the_pages_are_for_who_signed_in(pages: tuple[board_site.Ask, Actions]) -> None:
    ask, done = pages
    for page in ("/alarms", "/actions", "/blocked"):
        assert ask(page)[0] == 303
    assert ask("/allow", {"address": "203.0.113.7"})[0] == 303
    assert done.journal.history(5) == []


def test_the_pages_show_alarms_with_what_was_done_and_what_was_refused(
    pages: tuple[board_site.Ask, Actions], runner: FakeRunner
) -> None:
    ask, done = pages
    cookie = sign_in(ask)
    for page, text in (
        ("/alarms", "No alarm is open"),
        ("/actions", "Nothing was done yet"),
        ("/blocked", "Nobody is"),
    ):
        assert text in ask(page, cookie=cookie)[2]
    now = time.time()
    runner.answers = [Outcome(DONE, "3 → 4", {})]
    done.take("kapacitor", clients(now, host="<b>nginx"))
    done.step()
    done.take("kapacitor", clients(now, host="other"))
    done.take("kapacitor", clients(now + 1, host="<b>nginx", state="OK", value=100))
    content = ask("/alarms", cookie=cookie)[2]
    assert "<b>nginx" not in content
    open_, closed, *messages = rows(content)
    assert open_.startswith("▲ open")
    assert "nginx: clients per instance other 900 clients" in open_
    assert "○ nginx +1: refused, nginx +1 was done" in open_
    assert closed.startswith("✔ over")
    assert closed.endswith("✔ nginx +1: done, 3 → 4 kapacitor says so")
    assert messages[0].startswith("… waits")
    assert "✔ nginx: clients per instance (<b>nginx) is over" in messages[0]
    assert len(messages) == 4
    refused, taken = rows(ask("/actions", cookie=cookie)[2])
    assert refused.startswith("○ refused")
    assert taken.startswith("✔ done")
    assert "nginx +1 nginx-clients" in taken


def test_a_blocked_address_has_a_button_that_lets_it_in_again(
    pages: tuple[board_site.Ask, Actions], runner: FakeRunner
) -> None:
    ask, done = pages
    cookie = sign_in(ask)
    until = time.time() + 600
    entry = {
        "address": "203.0.113.7", "until": stamp(until),
        "offences": 2, "reason": "<i>8 attempts", "by": "forum-wrong-logins",
    }  # fmt: skip
    runner.answers = [Outcome(DONE, "at node-1", {"entry": entry, "until": until})]
    done.take("elastalert", login(time.time()))
    done.step()
    content = ask("/blocked", cookie=cookie)[2]
    (row,) = rows(content)
    assert row.startswith("203.0.113.7 ")
    assert row.endswith("2 <i>8 attempts forum-wrong-logins Allow 203.0.113.7")
    assert ask("/allow", {"address": "203.0.113.7"}, cookie=cookie, origin="https://evil.example")[0] == 403
    assert ask("/allow?address=203.0.113.7", cookie=cookie)[0] == 405
    assert ask("/allow", {"address": "203.0.113.0/24"}, cookie=cookie)[0] == 422
    assert len(done.journal.history(5)) == 1
    status, headers, _ = ask("/allow", {"address": "203.0.113.7"}, cookie=cookie, origin="https://board:8443")
    assert (status, headers["Location"]) == (303, "https://board:8443/blocked")
    done.step()
    assert (runner.ran[-1].kind, runner.ran[-1].by) == ("allow", "operator")
    assert "Nobody is blocked" in ask("/blocked", cookie=cookie)[2]


def test_the_swarm_s_page_draws_replicas_of_what_is_scaled(pages: tuple[board_site.Ask, Actions]) -> None:
    ask, done = pages
    for minute in range(3):
        done.journal.sample({"nginx": (3, 2), "misago": (3, 3), "redis": (1, 1)}, time.time() - 60 * minute)
    content = ask("/swarm", cookie=sign_in(ask))[2]
    assert re.findall(r"<h2>(\w+) <small>tasks", content) == ["misago", "nginx"]
    assert "no data in the last hour" not in content


# The process itself


SLOW = """
import json, sys, time
from pathlib import Path
job = json.load(sys.stdin)
noted = Path(__file__).with_suffix(".log")
with noted.open("a") as log:
    log.write(job["extravars"]["scale_action"] + "\\n")
if len(noted.read_text().splitlines()) == 1:
    time.sleep(60)
told = {"before": 3, "wanted": 4, "changed": True, "refused": ""}
json.dump({"status": "successful", "stats": {"scale": told}, "faults": {}}, sys.stdout)
"""


def certificates(directory: Path) -> None:
    """A certificate of 127.0.0.1 that signs itself, in all places where the server wants one."""
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=127.0.0.1"
        f" -addext subjectAltName=IP:127.0.0.1 -keyout {directory}/tls.key -out {directory}/tls.crt"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    for name, of in (("ca.crt", "tls.crt"), ("client.crt", "tls.crt"), ("client.key", "tls.key")):
        (directory / name).write_bytes((directory / of).read_bytes())


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def process(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The server as systemd runs it."""
    command = [sys.executable, "-B", "-m", "action_server", str(directory / "settings.toml")]
    with (directory / "log").open("ab") as log:
        running = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": str(PROGRAM)}, stdout=log, stderr=log
        )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def until(what: str, condition: Any, directory: Path) -> Any:
    for _ in range(300):
        with contextlib.suppress(OSError, http.client.HTTPException):
            if found := condition():
                return found
        time.sleep(0.1)
    pytest.fail(f"{what}: {(directory / 'log').read_text()[-3000:]}")


def test_killed_in_the_middle_of_an_action_it_knows_afterwards_what_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board_site.settings(tmp_path, monkeypatch)
    certificates(tmp_path)
    (tmp_path / "board.json").write_text(json.dumps(board_site.DATA))
    (tmp_path / "slack_webhook").write_text("")
    (tmp_path / "play.py").write_text(SLOW)
    port = free_port()
    told = {
        "address": "127.0.0.1", "port": port, "user": "operator", "allowed_networks": ["127.0.0.0/8"],
        "caller_networks": ["127.0.0.0/8"], "influxdb_url": "https://127.0.0.1:1", "influxdb_database": "forum",
        "influxdb_user": "reader", "elasticsearch_url": "https://127.0.0.1:1", "elasticsearch_index": "logs",
        "elasticsearch_user": "reader", "managers": ["127.0.0.1:1"], "stack": "forum", "project": str(tmp_path),
        "inventory": str(tmp_path), "state": str(tmp_path), "runner": [sys.executable, str(tmp_path / "play.py")],
        "run_seconds": 90, "cooldown_seconds": 300, "reminder": "1h", "board_url": "https://board", "runbook_url": "",
    }  # fmt: skip
    lines = [f"{name} = {json.dumps(value)}" for name, value in told.items()]
    engines = [f"{level} = {json.dumps(engine)}" for level, engine in board_site.ENGINES.items()]
    (tmp_path / "settings.toml").write_text("\n".join([*lines, "[engines]", *engines]))
    trust = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))

    def call(method: str, path: str, caller: str, body: bytes | None = None) -> Any:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=trust)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {TOKENS[caller]}"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def state() -> str:
        found = call("GET", "/history", "operator")["actions"]
        return str(found[0]["state"]) if found else ""

    with process(tmp_path) as running:
        until("it serves", lambda: call("GET", "/alarms", "operator"), tmp_path)
        assert (
            call("POST", "/events/kapacitor", "kapacitor", clients(time.time()))["decided"]
            == "alarm; nginx +1"
        )
        until("it runs", lambda: (tmp_path / "play.log").exists() and state() == RUNNING, tmp_path)
        running.send_signal(signal.SIGKILL)
        running.wait()
    with process(tmp_path):
        until("it is done", lambda: state() == DONE, tmp_path)
        (action,) = call("GET", "/history", "operator")["actions"]
        (alarm,) = call("GET", "/alarms", "operator")["open"]
    assert (action["reason"], action["alarm"]) == ("3 → 4", alarm["id"])
    ran = (tmp_path / "play.log").read_text().split()
    assert len(ran) == 2
    assert len(set(ran)) == 1, "it is run again under the name that it had"


def test_refused_settings_end_it_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board_site.settings(tmp_path, monkeypatch)
    (tmp_path / "settings.toml").write_text("address = 1")
    with process(tmp_path) as running:
        assert running.wait(20) == 78


# What ansible-runner itself makes of an action


PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.set_stats:
        data:
          blocklist: {refused: "", done: ["{{ inventory_hostname }}"], entry: {until: "2027-01-15T08:15:00Z"},
                      said: "{{ block_reason }}"}
"""


def test_a_playbook_is_run_and_what_is_asked_for_is_no_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project/playbooks").mkdir(parents=True)
    (tmp_path / "project/playbooks/block.yml").write_text(PLAYBOOK)
    (tmp_path / "hosts.yml").write_text("all: {hosts: {node-1: {ansible_connection: local}}}\n")
    playbooks = Playbooks(
        [sys.executable, "-m", "action_server.play"],
        tmp_path / "project",
        tmp_path / "hosts.yml",
        tmp_path,
        60,
    )
    monkeypatch.setenv("PYTHONPATH", str(PROGRAM))
    action = Action(
        1,
        None,
        BLOCK,
        "203.0.113.7",
        {"reason": "{{ lookup('pipe', 'id') }}"},
        "x",
        1_800_000_000.0,
        RUNNING,
        attempts=1,
    )
    found = playbooks.run(action)
    assert found.state == DONE, found
    assert found.result["said"] == "{{ lookup('pipe', 'id') }}"
    assert found.result["until"] == 1_800_000_900


def test_a_playbook_that_can_t_be_read_is_told_in_ansible_s_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hosts.yml").write_text("all: {hosts: {node-1: {ansible_connection: local}}}\n")
    monkeypatch.setenv("PYTHONPATH", str(PROGRAM))
    command = [sys.executable, "-m", "action_server.play"]
    playbooks = Playbooks(command, tmp_path, tmp_path / "hosts.yml", tmp_path, 60)
    found = playbooks.run(Action(1, None, SCALE, "nginx", {"by": 1}, "x", 1.0, RUNNING, attempts=1))
    assert found.state == FAILED
    assert "playbooks/scale.yml could not be found" in found.reason


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; sys.exit('no such module')", "couldn't be run: no such module"),
        ("print('no json')", "couldn't be run"),
        ("import time; time.sleep(60)", "ended as timeout"),
    ],
)
def test_a_run_that_breaks_off_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    monkeypatch.setattr(module, "_GRACE", 0.5)
    playbooks = module.Playbooks([sys.executable, "-c", program], tmp_path, tmp_path, tmp_path, 0.5)
    found = playbooks.run(Action(1, None, SCALE, "nginx", {"by": 1}, "x", 1.0, RUNNING, attempts=1))
    assert found.state == FAILED
    assert reason in found.reason


# The lab's recorder


def test_the_recorder_takes_what_the_server_tells_and_shows_it(tmp_path: Path) -> None:
    recorder = load_file("roles/slack_recorder/files/slack_recorder.py")
    certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    messages = recorder.Messages(tmp_path / "messages.jsonl")
    listening = recorder.Recorder(("127.0.0.1", 0), messages, "s3cret", context)
    port = listening.server_address[1]
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        (tmp_path / "slack_webhook").write_text(f"https://127.0.0.1:{port}/hook/s3cret")
        send = workers.webhook(tmp_path)
        assert send is not None
        journal = Journal(tmp_path / "journal.db")
        journal.post("x", "▲ one & two", time.time())
        Teller(journal, send).step(time.time())
        assert journal.waiting() == []
        journal.close()
        (tmp_path / "slack_webhook").write_text(f"https://127.0.0.1:{port}/hook/wrong")
        wrong = workers.webhook(tmp_path)
        assert wrong is not None
        with pytest.raises(Undelivered, match="answers 403"):
            wrong("text")
        trust = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=trust)
        connection.request("GET", "/")
        shown = json.loads(connection.getresponse().read())
        connection.close()
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
    assert [each["text"] for each in shown] == ["▲ one & two"]
    again = recorder.Messages(tmp_path / "messages.jsonl")
    assert [each["text"] for each in again.all()] == ["▲ one & two"]
    for number in range(1000):
        again.add(str(number))
    assert [each["text"] for each in again.all()[::999]] == ["0", "999"]
