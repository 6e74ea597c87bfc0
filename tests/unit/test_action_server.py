"""The status board: what its figures mean, who is let in, what its pages say."""

from __future__ import annotations

import io
import json
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec
from urllib.parse import urlencode

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "roles/action_server/files/program"))

from action_server import charts, password, sources, web, words
from action_server.board import Board
from action_server.doors import Attempts, Sessions
from action_server.judge import State, judge
from action_server.settings import Settings
from action_server.sources import Series, Source, SourceError
from board import board_data

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "roles/action_server/files/program"
NOW = 1_800_000_000.0
LEVELS = yaml.safe_load((ROOT / "inventories/shared/sla.yml").read_text())["service_levels"]
SECRET = "Jd83-kq0-Xw71-pp2"
DATA = board_data(LEVELS, [str(path) for path in (ROOT / "roles").glob("*/files/dashboard.yml")])


def level(name: str) -> dict[str, Any]:
    return next(dict(each) for each in DATA["levels"] if each["id"] == name)


def answers(values: Mapping[str, float], age: float = 5) -> dict[str, list[Series]]:
    def series(name: str, value: float) -> Series:
        return Series({"host": name}, ((NOW - age, value),))

    found = [series(name, value) for name, value in values.items()]
    return {"now": found, "hour": found, "seen": found}


@pytest.mark.parametrize(
    ("name", "values", "state", "worst"),
    [
        ("nginx-clients", {"a": 10, "b": 700}, State.OK, "b"),
        ("nginx-clients", {"a": 10, "b": 751}, State.ALARM, "b"),
        ("nginx-clients", {"a": 1024, "b": 7}, State.LIMIT, "a"),
        ("nginx-idle", {"a": 10, "b": 200}, State.OK, "b"),
        ("nginx-idle", {"a": 10, "b": 149}, State.NOTICE, "b"),
        ("nginx-reading", {"a": 10, "b": 3}, State.WATCHED, "a"),
    ],
)
def test_a_row_tells_its_state_and_its_worst_instance(
    name: str, values: dict[str, float], state: State, worst: str
) -> None:
    row = judge(level(name), answers(values), NOW)
    assert (row.state, row.worst, row.value) == (state, worst, values[worst])


def test_no_point_for_a_minute_is_silence_and_no_value() -> None:
    row = judge(level("nginx-clients"), answers({"a": 2000}, age=61), NOW)
    assert (row.state, row.value) == (State.SILENT, None)
    assert judge(level("nginx-clients"), answers({"a": 1}, age=59), NOW).state is State.OK
    assert judge(level("nginx-clients"), answers({}), NOW).state is State.SILENT


def test_a_silent_instance_beside_others_is_named_and_its_value_counts_for_nothing() -> None:
    found = answers({"a": 10})
    found["seen"] = [*found["seen"], Series({"host": "b"}, ((NOW - 100, 1.0),))]
    found["now"] = [*found["now"], Series({"host": "b"}, ((NOW - 100, 5000.0),))]
    row = judge(level("nginx-clients"), found, NOW)
    assert (row.state, row.worst, row.silent) == (State.OK, "a", ("b",))


def test_what_nobody_answered_is_unknown_and_what_logs_hold_is_not_measured() -> None:
    assert judge(level("nginx-clients"), None, NOW).state is State.UNKNOWN
    assert judge(level("misago-errors"), None, NOW).state is State.UNMEASURED


def test_every_level_has_a_row_and_every_state_a_sign_of_its_own() -> None:
    assert [each["id"] for each in DATA["levels"]] == [each["id"] for each in LEVELS]
    assert len({state.sign for state in State}) == len({state.word for state in State}) == len(State)


def test_only_a_hash_is_kept_and_it_knows_the_password() -> None:
    kept = password.hashed(SECRET)
    assert SECRET not in kept
    assert kept != password.hashed(SECRET)
    assert password.matches(SECRET, kept)
    assert not password.matches(SECRET + "x", kept)


def test_the_password_is_checked_from_standard_input(tmp_path: Path) -> None:
    def run(*arguments: str, given: str = SECRET) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "action_server.password", *arguments]
        return subprocess.run(command, input=given, cwd=PROGRAM, capture_output=True, text=True, check=False)

    kept = tmp_path / "password"
    assert run("check", str(kept)).returncode == 1
    kept.write_text(run("hash").stdout)
    assert run("check", str(kept)).returncode == 0
    assert run("check", str(kept), given="other").returncode == 1


def test_wrong_sign_ins_of_an_address_have_to_wait() -> None:
    at = [0.0]
    attempts = Attempts(allowed=3, seconds=60, clock=lambda: at[0])
    assert [attempts.wait("192.0.2.1") for _ in range(4)] == [0, 0, 0, 61]
    assert attempts.wait("192.0.2.2") == 0
    at[0] = 61
    assert attempts.wait("192.0.2.1") == 0
    assert [attempts.wait(f"2001:db8::{number}") for number in range(4)][-1] > 0, "one site, many addresses"


def test_a_session_ends_by_itself_and_by_hand() -> None:
    at = [0.0]
    sessions = Sessions(seconds=10, clock=lambda: at[0])
    first, second = sessions.begin(), sessions.begin()
    assert sessions.valid(first)
    assert not sessions.valid("")
    sessions.end(first)
    assert (sessions.valid(first), sessions.valid(second)) == (False, True)
    at[0] = 10
    assert not sessions.valid(second)


def test_many_viewers_ask_a_source_once() -> None:
    asked = []

    def fetch() -> int:
        asked.append(1)
        time.sleep(0.1)
        return 7

    source = Source(fetch, fresh=60)
    found: list[int | None] = []
    threads = [threading.Thread(target=lambda: found.append(source.read().value)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [7] * 20
    assert len(asked) == 1


def test_nobody_waits_for_a_source_that_hangs() -> None:
    over = threading.Event()
    source = Source(over.wait, patience=0.2)
    source.read()
    began = time.monotonic()
    reading = source.read()
    assert time.monotonic() - began < 0.1
    assert (reading.value, reading.taken) == (None, None)
    assert "no answer" in reading.error
    over.set()


def test_a_failed_source_is_told_and_its_old_answer_isn_t_shown() -> None:
    def fail() -> int:
        raise SourceError("db doesn't answer")

    source: Source[int] = Source(lambda: 1, fresh=0, keep=0.3)
    assert source.read().value == 1
    source._fetch = fail
    time.sleep(0.4)
    assert source.read() == sources.Reading(None, source._taken, "db doesn't answer")


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [
        (1024, "clients", "1,024"),
        (0.12345, "s", "0.12"),
        (90061, "s", "1 d 1 h"),
        (8 * 1024**3, "bytes", "8.0 GiB"),
        (12.34, "%", "12.3"),
        (None, "%", "-"),
    ],
)
def test_figures_are_read_at_a_glance(value: float | None, unit: str, told: str) -> None:
    assert words.figure(value, unit) == told


def test_a_graph_breaks_its_line_where_points_are_missing_and_escapes_names() -> None:
    points = ((NOW - 600, 1.0), (NOW - 540, 2.0), (NOW - 60, 3.0))
    drawn = str(charts.graph([("<b>", Series({}, points))], [], "s", NOW, "time"))
    path = re.search(r'class="line c0" d="([^"]+)"', drawn)
    assert path is not None
    assert path[1].count("M") == 2
    assert "<b>" not in drawn
    assert "style=" not in drawn


def test_thresholds_are_drawn_unless_they_would_press_the_line_flat() -> None:
    line = [("a", Series({}, ((NOW, 600.0),)))]
    near = {"kind": "alarm", "value": 750, "title": "alarm > 750"}
    far = {"kind": "limit", "value": 1_000_000, "title": "limit < 1000000"}
    drawn = str(charts.graph(line, [near, far], "clients", NOW, "clients"))
    assert "alarm &gt; 750" in drawn
    assert "1000000" not in drawn


SWARM: dict[str, list[dict[str, Any]]] = {
    "nodes": [
        {
            "ID": "n1",
            "Description": {"Hostname": "node-1"},
            "Spec": {"Role": "manager", "Availability": "active"},
            "Status": {"State": "ready", "Addr": "192.0.2.11"},
            "ManagerStatus": {"Leader": True},
        },
        {
            "ID": "n2",
            "Description": {"Hostname": "node-2"},
            "Spec": {"Role": "manager", "Availability": "drain"},
            "Status": {"State": "down", "Addr": "192.0.2.12"},
        },
    ],
    "services": [
        {
            "Spec": {"Name": "forum_nginx", "Mode": {"Replicated": {"Replicas": 3}}},
            "ServiceStatus": {"DesiredTasks": 3, "RunningTasks": 2},
        },
        {
            "Spec": {"Name": "forum_misago", "Mode": {"Replicated": {"Replicas": 3}}},
            "ServiceStatus": {"DesiredTasks": 3, "RunningTasks": 3},
        },
    ],
}

Ask = Callable[..., tuple[int, dict[str, str], str]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "password").write_text(password.hashed(SECRET))
    (tmp_path / "influxdb_password").write_text("reader")
    return Settings(
        address="127.0.0.1", port=0, user="operator", allowed_networks=(ip_network("192.0.2.0/24"),),
        files=tmp_path, influxdb_url="https://192.0.2.9:8086", influxdb_database="forum", influxdb_user="reader",
        managers=("192.0.2.11:2376",), stack="forum", levels=tuple(DATA["levels"]),
        dashboards=tuple(DATA["dashboards"]),
    )  # fmt: skip


@pytest.fixture
def ask(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Asks the server as WSGI; what InfluxDB would say is all silence, and a manager tells SWARM."""
    monkeypatch.setattr(sources.InfluxDB, "query", lambda self, statements: [[] for _ in statements])
    monkeypatch.setattr(sources.Managers, "lists", lambda self: SWARM)
    monkeypatch.setattr("ssl.create_default_context", lambda **_: create_autospec(ssl.SSLContext))
    application = web.application(settings, Board(settings))

    def request(
        path: str, form: Mapping[str, str] | None = None, address: str = "192.0.2.1", **headers: str
    ) -> tuple[int, dict[str, str], str]:
        path, _, query = path.partition("?")
        body = urlencode(form or {}).encode()
        environment: dict[str, Any] = {
            "REQUEST_METHOD": "GET" if form is None else "POST", "PATH_INFO": path, "QUERY_STRING": query,
            "SCRIPT_NAME": "", "SERVER_NAME": "board", "SERVER_PORT": "8443", "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": address, "REMOTE_PORT": "1", "HTTP_HOST": "board:8443", "wsgi.url_scheme": "https",
            "wsgi.input": io.BytesIO(body), "wsgi.errors": io.StringIO(), "wsgi.version": (1, 0),
            "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
            **{f"HTTP_{name.upper()}": value for name, value in headers.items()},
        }  # fmt: skip
        if form is not None:
            environment |= {
                "CONTENT_TYPE": "application/x-www-form-urlencoded", "CONTENT_LENGTH": str(len(body))
            }  # fmt: skip
        told: dict[str, Any] = {}

        def start(status: str, found: list[tuple[str, str]], error: object = None) -> Callable[..., None]:
            told.update(status=int(status.partition(" ")[0]), headers=dict(found))
            return lambda data: None

        answer = application(environment, start)
        content = b"".join(answer).decode()
        answer.close()
        return told["status"], told["headers"], content

    return request


def sign_in(ask: Ask) -> str:
    status, headers, _ = ask("/sign-in", {"user": "operator", "password": SECRET})
    assert status == 303
    return headers["Set-Cookie"].partition(";")[0]


PAGES = ["/", "/swarm", "/components/nginx", "/components/nodes"]


@pytest.mark.parametrize("page", PAGES)
def test_nobody_sees_a_page_without_signing_in(ask: Ask, page: str) -> None:
    status, headers, content = ask(page)
    assert (status, headers["Location"]) == (303, "https://board:8443/sign-in")
    assert "nginx" not in content
    assert ask(page, cookie="__Host-session=guess")[0] == 303
    assert ask(page, x_requested_with="board")[0] == 401


@pytest.mark.parametrize("page", [*PAGES, "/sign-in", "/static/board.css", "/nothing"])
def test_every_answer_has_the_headers(ask: Ask, page: str) -> None:
    _, headers, _ = ask(page, cookie=sign_in(ask))
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "CherryPy" not in json.dumps(headers)


@pytest.mark.parametrize("page", PAGES)
def test_pages_hold_nothing_the_policy_refuses_and_nothing_from_elsewhere(ask: Ask, page: str) -> None:
    status, _, content = ask(page, cookie=sign_in(ask))
    assert status == 200
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script>|javascript:", content)
    assert re.findall(r'(?:src|href|action)="(?!/|#)([^"]+)"', content) == []


def test_the_cookie_is_for_this_server_alone(ask: Ask) -> None:
    _, headers, _ = ask("/sign-in", {"user": "operator", "password": SECRET})
    parts = set(headers["Set-Cookie"].split("; ")[1:])
    assert parts >= {"Path=/", "Secure", "HttpOnly", "SameSite=Strict"}


def test_a_wrong_password_or_name_opens_nothing_and_soon_has_to_wait(ask: Ask) -> None:
    for form in ({"user": "operator", "password": "x"}, {"user": "root", "password": SECRET}):
        status, headers, content = ask("/sign-in", form)
        assert status == 403
        assert "Set-Cookie" not in headers
        assert "Wrong name or password" in content
    statuses = [ask("/sign-in", {"user": "operator", "password": "x"})[0] for _ in range(4)]
    assert statuses == [403, 403, 403, 429]
    status, headers, _ = ask("/sign-in", {"user": "operator", "password": SECRET})
    assert (status, int(headers["Retry-After"]) > 0) == (429, True)


def test_a_form_of_another_page_is_refused(ask: Ask) -> None:
    cookie = sign_in(ask)
    assert ask("/sign-out", {}, cookie=cookie, origin="https://evil.example")[0] == 403
    assert ask("/sign-out", {}, cookie=cookie, sec_fetch_site="cross-site")[0] == 403
    assert ask("/sign-out", cookie=cookie)[0] == 405
    assert ask("/", cookie=cookie)[0] == 200
    assert (
        ask("/sign-out", {}, cookie=cookie, origin="https://board:8443", sec_fetch_site="same-origin")[0]
        == 303
    )
    assert ask("/", cookie=cookie)[0] == 303


def test_strangers_get_no_page_at_all(ask: Ask) -> None:
    assert ask("/sign-in", address="198.51.100.1")[0] == 403


def test_errors_tell_nothing_of_the_inside(ask: Ask) -> None:
    status, headers, content = ask("/components/<script>", cookie=sign_in(ask))
    assert status == 404
    assert headers["Content-Type"].startswith("text/plain")
    assert "Traceback" not in content


def test_the_overview_has_every_indicator_and_says_what_isn_t_measured_yet(ask: Ask) -> None:
    _, _, content = ask("/", cookie=sign_in(ask))
    for each in LEVELS:
        assert f'id="{each["id"]}"' in content
    assert content.count("read from logs, which aren&#39;t collected yet") == sum(
        each["indicator"]["source"] == "log" for each in LEVELS
    )


def test_the_swarm_s_page_tells_what_is_wanted_and_what_runs(ask: Ask) -> None:
    _, _, content = ask("/swarm", cookie=sign_in(ask))
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr>(.*?)</tr>", content, re.DOTALL)]
    assert ["✔", "ready", "node-1", "leader", "active", "192.0.2.11"] in rows
    assert ["✖", "down", "node-2", "manager", "drain", "192.0.2.12"] in rows
    assert ["✖", "differs", "nginx", "3", "2"] in rows
    assert ["✔", "as", "wanted", "misago", "3", "3"] in rows
