"""The status board: what its figures mean, who is let in, what its pages say."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
from action_server import charts, password, server, sources, words
from action_server.doors import Attempts, Sessions
from action_server.judge import NODES, State, judge
from action_server.sources import Asked, Figures, InfluxDB, Managers, Series, Source, SourceError
from board_site import (
    DATA,
    LEVELS,
    PROGRAM,
    SECRET,
    SWARM,
    Ask,
    World,
    legends,
    level,
    row_of,
    sign_in,
    site,
)

NOW = 1_800_000_000.0


def answers(values: Mapping[str, float], age: float = 5, **ages: float) -> dict[str, list[Series]]:
    """What is told of nginx by the hosts a, b, ...; ages: those of single hosts."""

    def series(name: str, value: float, **tags: str) -> Series:
        return Series({**tags, "host": name}, ((NOW - ages.get(name, age), value),))

    found = [series(name, value) for name, value in values.items()]
    seen = [series(name, value, service="nginx") for name, value in values.items()]
    return {"now": found, "each": found, "hour": found, "seen": seen}


@pytest.mark.parametrize(
    ("name", "values", "state", "worst"),
    [
        ("nginx-clients", {"a": 10, "b": 700}, State.OK, "b"),
        ("nginx-clients", {"a": 10, "b": 751}, State.ALARM, "b"),
        ("nginx-clients", {"a": 1024, "b": 7}, State.LIMIT, "a"),
        ("nginx-idle", {"a": 10, "b": 200}, State.OK, "b"),
        ("nginx-idle", {"a": 10, "b": 149}, State.NOTICE, "b"),
        ("nginx-reading", {"a": 10, "b": 3}, State.WATCHED, "a"),
        ("haproxy-servers", {"a": 3, "b": 2}, State.WATCHED, "b"),
    ],
)
def test_a_row_tells_its_state_and_its_worst_instance(
    name: str, values: dict[str, float], state: State, worst: str
) -> None:
    row = judge(level(name), answers(values), None, NOW)
    assert (row.state, row.worst, row.value) == (state, worst, values[worst])


def test_the_worst_node_is_the_one_that_has_run_for_the_shortest_time() -> None:
    found = [Series({"node": name}, ((NOW, value),)) for name, value in {"n1": 90.0, "n2": 7e6}.items()]
    row = judge(level("nodes-uptime"), dict.fromkeys(("now", "each", "hour", "seen"), found), None, NOW)
    assert (row.worst, row.value) == ("n1", 90)


def test_what_is_added_up_is_judged_by_its_sum_and_names_the_instance_with_the_most() -> None:
    found = {**answers({"a": 100, "b": 60}), "now": [Series({}, ((NOW, 160.0),))]}
    row = judge(level("postgres-inserted"), found, None, NOW)
    assert (row.state, row.value, row.worst) == (State.ALARM, 160, "a")


def test_no_point_for_a_minute_is_silence_and_no_value() -> None:
    row = judge(level("nginx-clients"), answers({"a": 2000}, age=61), None, NOW)
    assert (row.state, row.value) == (State.SILENT, None)
    assert judge(level("nginx-clients"), answers({"a": 1}, age=59), None, NOW).state is State.OK
    assert judge(level("nginx-clients"), answers({}), None, NOW).state is State.SILENT


@pytest.mark.parametrize("wanted", [None, {"nginx": 2}])
@pytest.mark.parametrize(
    ("name", "value", "state"),
    [
        ("nginx-clients", 10, State.SILENT),
        ("nginx-reading", 10, State.SILENT),
        ("nginx-idle", 10, State.SILENT),
        ("nginx-clients", 800, State.ALARM),
    ],
)
def test_a_silent_instance_is_missed_and_its_value_counts_for_nothing(
    name: str, value: float, state: State, wanted: dict[str, int] | None
) -> None:
    row = judge(level(name), answers({"a": value, "b": 5000}, b=100), wanted, NOW)
    assert (row.state, row.value, row.worst, row.silent) == (state, value, "a", ("b",))


def test_an_instance_that_departed_is_not_missed() -> None:
    row = judge(level("nginx-clients"), answers({"a": 10, "b": 5000}, b=100), {"nginx": 1}, NOW)
    assert (row.state, row.value, row.silent) == (State.OK, 10, ())
    removed = {"postgres-1": 1}
    assert judge(level("nginx-clients"), answers({"a": 10, "b": 5000}, b=100), removed, NOW).silent == ()


def test_as_many_are_missed_as_lack_and_they_are_those_that_fell_silent_last() -> None:
    told = answers({"a": 1, "b": 1, "c": 1, "d": 1}, b=3000, c=70, d=9000)
    assert judge(level("nginx-clients"), told, {"nginx": 2}, NOW).silent == ("c",)


def test_a_silent_standby_is_missed_where_rows_are_added_up() -> None:
    found = {**answers({"a": 0}), "now": [Series({}, ((NOW, 0.0),))]}
    found["seen"] = [
        Series({"service": "postgres-1", "host": "p1"}, ((NOW - 600, 1.0),)),
        Series({"service": "postgres-2", "host": "a"}, ((NOW, 1.0),)),
    ]
    row = judge(level("postgres-inserted"), found, {"postgres-1": 1, "postgres-2": 1}, NOW)
    assert (row.state, row.silent) == (State.SILENT, ("p1",))


@pytest.mark.parametrize(("nodes", "state", "missed"), [(2, State.SILENT, ("n2",)), (1, State.OK, ())])
def test_a_silent_node_is_missed_as_long_as_it_is_in_the_swarm(
    nodes: int, state: State, missed: tuple[str, ...]
) -> None:
    found = [Series({"node": "n1"}, ((NOW, 5.0),)), Series({"node": "n2"}, ((NOW - 70, 5.0),))]
    answered = dict.fromkeys(("now", "each", "hour", "seen"), found)
    row = judge(level("nodes-cpu"), answered, {"nginx": 1, NODES: nodes}, NOW)
    assert (row.state, row.silent) == (state, missed)


@pytest.mark.parametrize(
    "each", [each for each in DATA["levels"] if each["source"] != "log"], ids=lambda each: each["id"]
)
def test_every_statement_tells_apart_what_is_judged(each: dict[str, Any]) -> None:
    statements = each["statements"]
    groups = 'GROUP BY "node"' if each["service"] == "nodes" else 'GROUP BY "service", "host"'
    assert statements["seen"].endswith(groups)
    assert "time > now() - 1d " in statements["seen"]
    if each["aggregation"] == "silence":
        assert set(statements) == {"seen"}
    else:
        assert f'"{each["instance"]}"' in statements["each"].rpartition("GROUP BY ")[2]


@pytest.mark.parametrize("name", ["nginx-clients", "misago-errors"])
def test_what_nobody_answered_is_unknown(name: str) -> None:
    assert judge(level(name), None, None, NOW).state is State.UNKNOWN


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


def test_who_reads_several_sources_waits_for_all_of_them_at_once() -> None:
    over = threading.Event()
    hanging = [Source(over.wait, patience=0.3) for _ in range(4)]
    began = time.monotonic()
    for source in hanging:
        source.begin()
    assert ["no answer" in source.read().error for source in hanging] == [True] * 4
    assert time.monotonic() - began < 0.6
    over.set()


def test_each_question_has_a_source_of_its_own_and_old_ones_are_forgotten() -> None:
    asked = []

    def fetch(*words: str) -> str:
        asked.append(words)
        return " ".join(words)

    questions: Asked[str] = Asked(fetch, most=2)
    for one in (("a", "b"), ("a", "c"), ("a", "b"), ("d", "e"), ("a", "b"), ("a", "c")):
        assert questions.read(*one).value == " ".join(one)
    assert asked == [("a", "b"), ("a", "c"), ("d", "e"), ("a", "c")]


def test_a_failed_source_is_told_and_its_old_answer_isn_t_shown() -> None:
    def fail() -> int:
        raise SourceError("db doesn't answer")

    source: Source[int] = Source(lambda: 1, fresh=0, keep=0.3)
    assert source.read().value == 1
    source._fetch = fail
    time.sleep(0.4)
    assert source.read() == sources.Reading(None, source._taken, "db doesn't answer")


def test_an_old_error_is_not_told_to_who_comes_hours_later() -> None:
    def fail() -> int:
        raise SourceError("db doesn't answer")

    source: Source[int] = Source(fail, fresh=0, keep=0.2)
    assert source.read().error == "db doesn't answer"
    source._fetch = lambda: 1
    time.sleep(0.3)
    assert source.read() == sources.Reading(1, source._taken, "")


def test_a_source_that_failed_is_asked_again_before_its_time() -> None:
    def fail() -> int:
        raise SourceError("db doesn't answer")

    source: Source[int] = Source(fail, fresh=3600)
    source.read()
    assert source._due < time.monotonic() + 10


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [
        (1024, "clients", "1,024"),
        (0.12345, "s", "0.12"),
        (90061, "s", "1 d 1 h"),
        (8 * 1024**3, "bytes", "8.0 GiB"),
        (1536, "bytes/s", "1.5 KiB/s"),
        (12.34, "%", "12.3"),
        (None, "%", "-"),
    ],
)
def test_figures_are_read_at_a_glance(value: float | None, unit: str, told: str) -> None:
    assert words.figure(value, unit) == told


def test_a_unit_is_said_once() -> None:
    assert (words.unit_of(3, "rows/s"), words.unit_of(5, "s")) == ("rows/s", "s")
    assert {words.unit_of(3, "bytes"), words.unit_of(3, "bytes/s"), words.unit_of(90061, "s")} == {""}


def test_a_graph_breaks_its_line_where_one_minute_is_missing_and_escapes_names() -> None:
    points = ((NOW - 240, 1.0), (NOW - 180, 2.0), (NOW - 60, 3.0))
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


def influxdb() -> InfluxDB:
    return InfluxDB("https://192.0.2.9:8086", "forum", "reader", "", create_autospec(ssl.SSLContext))


def answering(results: list[dict[str, Any]]) -> Callable[..., Any]:
    """What is patched in the place of sources.ask."""
    return lambda *_, **__: {"results": results}


def test_an_answer_belongs_to_its_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"statement_id": 1, "series": [{"tags": {"host": "a"}, "values": [[NOW - 60, None], [NOW, 7]]}]}
    monkeypatch.setattr(sources, "ask", answering([one, {"statement_id": 0}]))
    assert influxdb().query(["nothing", "seven"]) == {
        "nothing": [],
        "seven": [Series({"host": "a"}, ((NOW, 7.0),))],
    }


def test_a_refused_query_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sources, "ask", answering([{"statement_id": 0}, {"statement_id": 1, "error": "no such thing"}])
    )
    with pytest.raises(SourceError, match="InfluxDB refuses a query: no such thing"):
        influxdb().query(["good", "bad"])


class Database:
    """Tells what it was asked, and one series for each statement, with points each minute."""

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []
        self.refused: set[str] = set()

    def query(self, statements: Sequence[str]) -> sources.Answers:
        self.asked.append(statements)
        if self.refused & set(statements):
            raise SourceError("refused")
        now = time.time()
        points = tuple((now - 60 * number - 30, 1.0) for number in range(61, -1, -1))
        return {text: [Series({}, points)] for text in statements}


@pytest.fixture
def database() -> Any:
    return Database()


def test_the_hours_are_asked_once_a_minute_and_nothing_twice(database: Any) -> None:
    figures = Figures(database, [{"now": "a", "hour": "h"}, {"now": "b", "seen": "a", "hour": "h"}])
    figures.read()
    figures._now._due = 0
    assert set(figures.read().value or {}) == {"a", "b", "h"}
    assert sorted(database.asked) == [["a", "b"], ["a", "b"], ["h"]]
    assert figures._hours._fresh == 60


def test_an_hour_has_only_whole_minutes(database: Any) -> None:
    now = time.time()
    (hour,) = (Figures(database, [{"now": "a", "hour": "h"}]).read().value or {})["h"]
    assert len(hour.points) == 59
    assert all(now - 3600 <= at <= now - 59 for at, _ in hour.points)


def test_without_the_hours_the_figures_of_now_are_there(database: Any) -> None:
    database.refused = {"h"}
    reading = Figures(database, [{"now": "a", "hour": "h"}]).read()
    assert (set(reading.value or {}), reading.error) == ({"a"}, "refused")


def test_without_the_figures_of_now_there_is_nothing(database: Any) -> None:
    database.refused = {"a"}
    reading = Figures(database, [{"now": "a", "hour": "h"}]).read()
    assert (reading.value, reading.error) == (None, "refused")


def test_the_next_manager_is_asked_and_stays_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(url: str, *_: object) -> list[object]:
        asked.append(re.sub(r"https://(.*?)/v[\d.]+/(\w+).*", r"\1 \2", url))
        if "one" in url:
            raise SourceError("one doesn't answer")
        return []

    monkeypatch.setattr(sources, "ask", answer)
    managers = Managers(["one", "two"], "forum", create_autospec(ssl.SSLContext))
    assert managers.lists() == {"nodes": [], "services": []}
    assert managers.lists() == {"nodes": [], "services": []}
    assert asked == ["one nodes", "two nodes", "two services", "two nodes", "two services"]


def test_when_no_manager_answers_each_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str, *_: object) -> None:
        raise SourceError(f"{url[8:11]} doesn't answer")

    monkeypatch.setattr(sources, "ask", fail)
    with pytest.raises(SourceError, match="one doesn't answer; two doesn't answer"):
        Managers(["one", "two"], "forum", create_autospec(ssl.SSLContext)).lists()


def test_who_says_nothing_holds_up_nobody_and_is_sent_away() -> None:
    def serve(_: object, start: Callable[..., object]) -> list[bytes]:
        start("200 OK", [])
        return [b"served"]

    serving = server._Server(("127.0.0.1", 0), serve, numthreads=1, timeout=1)
    with serving._run_in_thread():
        silent = [socket.create_connection(serving.bind_addr) for _ in range(5)]
        with socket.create_connection(serving.bind_addr, timeout=1) as talking:
            talking.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b"served" in talking.makefile("rb").read()
        for connection in silent:
            connection.settimeout(5)
            assert connection.recv(1) == b""
            connection.close()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def ask(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Ask:
    return site(tmp_path, world, monkeypatch)


PAGES = [
    *("/", "/swarm", "/components/nginx", "/components/nodes", "/components/postgres?instance=%3Cb%3E"),
    *(
        "/requests",
        "/errors?search=%3Cb%3E&service=%3Cb%3E",
        f"/request?id={'a' * 32}",
        "/request?id=%3Cb%3E",
    ),
]


@pytest.mark.parametrize("page", PAGES)
def test_nobody_sees_a_page_without_signing_in(ask: Ask, page: str) -> None:
    status, headers, content = ask(page)
    assert (status, headers["Location"]) == (303, "https://board:8443/sign-in")
    assert "nginx" not in content
    assert ask(page, cookie="__Host-session=guess")[0] == 303
    assert ask(page, x_requested_with="board")[0] == 401


@pytest.mark.parametrize("page", [*PAGES, "/sign-in", "/static/board.css", "/nothing", "/?%ff=1"])
@pytest.mark.parametrize("cookie", ["", "a,b=1"])
def test_every_answer_has_the_headers_and_tells_nothing_of_the_inside(
    ask: Ask, page: str, cookie: str
) -> None:
    status, headers, content = ask(page, cookie=cookie or sign_in(ask))
    assert status == (400 if cookie else 404 if page in ("/nothing", "/?%ff=1") else 200)
    assert not re.search("CherryPy|Traceback", content)
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
    # The name of an instance in world, and what it was asked for.
    assert "<b>" not in re.sub(r"<b>\d+</b>", "", content)


def test_the_cookie_is_for_this_server_alone(ask: Ask) -> None:
    _, headers, _ = ask("/sign-in", {"user": "operator", "password": SECRET})
    parts = set(headers["Set-Cookie"].split("; ")[1:])
    assert parts >= {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"}


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


def test_the_overview_has_every_indicator(ask: Ask) -> None:
    _, _, content = ask("/", cookie=sign_in(ask))
    for each in LEVELS:
        assert f'id="{each["id"]}"' in content


def test_the_overview_tells_figures_and_who_is_worst(ask: Ask) -> None:
    _, _, content = ask("/", cookie=sign_in(ask))
    assert row_of(content, "nginx-clients").startswith(
        "◌ silent clients per instance 700 clients <b> silent: nginx-old > 750 < 1,024"
    )
    assert row_of(content, "postgres-inserted").startswith("✖ limit broken rows inserted 710 rows/s <b>")
    drawn = [each for each in LEVELS if each["indicator"]["aggregation"] != "silence"]
    assert content.count('<svg class="spark"') == len(drawn)


def test_an_instance_that_the_swarm_no_longer_wants_is_not_missed(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SWARM["services"][0], "ServiceStatus", {"DesiredTasks": 2, "RunningTasks": 2})
    _, _, content = ask("/", cookie=sign_in(ask))
    assert row_of(content, "nginx-clients").startswith("✔ ok clients per instance 700 clients <b> > 750")


def test_a_component_s_page_draws_the_hour_and_tells_the_figures_of_now(ask: Ask) -> None:
    _, _, content = ask("/components/nginx", cookie=sign_in(ask))
    assert re.findall(r"instance=([^\"]+)", content) == ["%3Cb%3E", "nginx-a", "nginx-old"]
    drawn = legends(content)["new connections connections/s"]
    assert drawn[:3] == ["accepted nginx-a 10", "accepted <b> 700", "accepted nginx-old 1,000"]
    assert "no data in the last hour" not in content


def test_a_narrowed_page_has_one_instance_s_part_of_what_is_added_up(ask: Ask) -> None:
    whole = ask("/components/postgres", cookie=sign_in(ask))[2]
    narrowed = ask("/components/postgres?instance=nginx-a", cookie=sign_in(ask))[2]
    panel = "rows updated and deleted rows/s"
    assert legends(whole)[panel] == ["updated 710", "deleted 710"]
    assert legends(narrowed)[panel] == ["updated nginx-a 10", "deleted nginx-a 10"]
    assert "700" not in " ".join(line for lines in legends(narrowed).values() for line in lines)


def test_units_are_said_once(ask: Ask) -> None:
    _, _, content = ask("/components/nodes", cookie=sign_in(ask))
    told = legends(content)
    assert told["total memory"][0] == "total memory nginx-a 10 B"
    assert told["vCPUs"][0] == "vCPUs nginx-a 10 processors"
    assert told["packets packets/s"][0] == "packets in nginx-a 10"


def test_while_influxdb_is_away_no_graph_says_that_there_was_nothing(ask: Ask, world: World) -> None:
    world.away = True
    _, _, content = ask("/components/nginx", cookie=sign_in(ask))
    assert "InfluxDB: 192.0.2.9:8086 doesn&#39;t answer" in content
    assert "<section" not in content
    assert row_of(ask("/", cookie=sign_in(ask))[2], "nginx-clients").startswith("? unknown")


@pytest.mark.parametrize("away", [False, True])
def test_what_is_wrong_is_told_outside_of_what_is_replaced(ask: Ask, world: World, away: bool) -> None:
    world.away = away
    head, _, main = ask("/components/nginx", cookie=sign_in(ask))[2].partition("<main")
    assert head.count('role="alert"') == 1
    assert "alert" not in main
    assert ('role="alert" hidden>' in head) is not away


def test_the_swarm_s_page_tells_what_is_wanted_and_what_runs(ask: Ask) -> None:
    _, _, content = ask("/swarm", cookie=sign_in(ask))
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr>(.*?)</tr>", content, re.DOTALL)]
    assert ["✔", "ready", "node-1", "leader", "active", "192.0.2.11"] in rows
    assert ["✖", "down", "node-2", "manager", "drain", "192.0.2.12"] in rows
    assert ["✖", "differs", "nginx", "3", "2"] in rows
    assert ["✔", "as", "wanted", "misago", "3", "3"] in rows
    assert ["✔", "job", "release", "1", "0"] in rows, "it came to its end"
    assert sum("node-1" in row for row in rows) == 1, "it joined anew"
    assert content.count("<table") == content.count('<div class="wide">\n<table')


def test_silence_counts_who_is_missed() -> None:
    silent = level("silent-components")
    row = judge(silent, answers({"a": 1, "b": 1}, b=100), {"nginx": 2}, NOW)
    assert (row.state, row.value, row.worst) == (State.ALARM, 1, "b")
    row = judge(silent, answers({"a": 1, "b": 1}, b=100), {"nginx": 1}, NOW)
    assert (row.state, row.value) == (State.OK, 0), "the swarm no longer wants it"
    assert judge(silent, {"seen": []}, {}, NOW).state is State.UNKNOWN


def test_as_many_shippers_are_missed_as_nodes_lack() -> None:
    found = {
        "seen": [Series({"host.name": name}, ((NOW, NOW - age),)) for name, age in (("n1", 5), ("n2", 90))]
    }
    for nodes, missed in ((2, 1), (1, 0)):
        row = judge(level("silent-shippers"), found, {"log_shipper": nodes}, NOW)
        assert row.value == missed
