"""The action server: events that come in, what is decided, carried out and told, and when it is over."""

from __future__ import annotations

import datetime
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import board_site
import pytest
from action_server import decide, intake, slack
from action_server.actions import Actions
from action_server.intake import RefusedError
from action_server.journal import Journal
from action_server.records import (
    BLOCK,
    DONE,
    FAILED,
    PARTLY,
    QUEUED,
    REFUSED,
    RUNNING,
    SCALE,
    SYNC,
    Action,
    Alarm,
    Event,
    Wish,
)
from action_server.runner import Outcome, Run, outcome, variables
from action_server.slack import Teller, Undelivered

NOW = 1_800_000_000.0
UP, DOWN = Wish(SCALE, "nginx", {"by": 1}), Wish(SCALE, "nginx", {"by": -1})


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runner() -> board_site.FakeRunner:
    return board_site.FakeRunner()


class Said:
    """What the board says of every alarm's figures: good, bad, or nothing."""

    good: bool | None = None

    def __call__(self, alarm: Alarm, level: Mapping[str, Any]) -> bool | None:
        return self.good


@pytest.fixture
def board() -> Said:
    return Said()


@pytest.fixture
def server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock, runner: board_site.FakeRunner, board: Said
) -> Iterator[Actions]:
    told = board_site.settings(tmp_path, monkeypatch)
    found = board_site.actions(told, runner, clock, board)
    yield found
    found.journal.close()


def stamp(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat().replace("+00:00", "Z")


def login(at: float = NOW, address: str = "203.0.113.7", **changed: Any) -> bytes:
    """An event of wrong logins as ElastAlert2 sends it."""
    told = {
        "level": "forum-wrong-logins", "state": "firing", "time": stamp(at), "instance": {"source.ip": address},
        "value": 8,
    }  # fmt: skip
    return json.dumps({**told, **changed}).encode()


def clients(
    at: float = NOW, host: str = "nginx-10.0.1.5", state: str = "CRITICAL", value: float = 900
) -> bytes:
    """An event of nginx' clients as Kapacitor posts it."""
    series = {
        "name": "nginx", "tags": {"host": host}, "columns": ["time", "value"], "values": [[stamp(at), value]]
    }  # fmt: skip
    told = {
        "id": f"nginx-clients/{host}", "message": "m", "details": "d", "time": stamp(at), "duration": 0,
        "level": state, "data": {"series": [series]}, "previousLevel": "OK", "recoverable": True,
    }  # fmt: skip
    return json.dumps(told).encode()


def texts(server: Actions) -> list[str]:
    return [message.text for message in server.journal.waiting()]


def refusal(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(RefusedError) as refused:
        call()
    return refused.value.status, refused.value.reason


# From the alarm to the action


def test_an_alarm_scales_and_is_told_with_what_was_done(
    server: Actions, runner: board_site.FakeRunner
) -> None:
    runner.answers = [Outcome(DONE, "3 → 4", {"wanted": 4})]
    status, answer = server.take("kapacitor", clients())
    assert (status, answer["decided"]) == (202, "alarm; nginx +1")
    assert server.step()
    assert [(action.kind, action.target, dict(action.arguments)) for action in runner.ran] == [
        ("scale", "nginx", {"by": 1})
    ]
    first, second = texts(server)
    assert first.splitlines() == [
        "▲ *nginx: clients per instance (nginx-10.0.1.5)*",
        "900 clients, alarm &gt; 750 clients, limit &lt; 1,024 clients",
        "To do: nginx +1.",
        "<https://board:8443/#nginx-clients|board> · <https://runbook/nginx-clients|runbook>",
    ]
    assert second.startswith("✔ *nginx +1* for nginx-clients: done, 3 → 4")


def test_an_event_of_its_own_engine_s_form_is_read() -> None:
    event = intake.event("kapacitor", clients(value=901.5), NOW)
    assert event == Event("kapacitor", "nginx-clients", True, NOW, {"host": "nginx-10.0.1.5"}, 901.5)
    assert not intake.event("kapacitor", clients(state="OK"), NOW).firing
    assert intake.event("watcher", login(), NOW).instance == {"source.ip": "203.0.113.7"}


def test_what_kapacitor_posts_of_silence_has_no_series() -> None:
    body = json.dumps(
        {"id": "silent-nodes/x", "level": "CRITICAL", "time": stamp(NOW), "data": {"series": None}}
    )
    event = intake.event("kapacitor", body.encode(), NOW)
    assert (event.level, event.instance, event.value) == ("silent-nodes", {}, None)


def test_nanoseconds_are_a_time() -> None:
    body = clients().replace(stamp(NOW).encode(), b"2027-01-15T08:00:00.486082595Z")
    assert intake.event("kapacitor", body, NOW).at == pytest.approx(NOW + 0.486, abs=0.001)


def test_wrong_logins_block_their_address(server: Actions, runner: board_site.FakeRunner) -> None:
    server.take("elastalert", login())
    assert server.step()
    (action,) = runner.ran
    assert (action.kind, action.target) == (BLOCK, "203.0.113.7")
    assert action.arguments["reason"] == "wrong logins: 8 attempts within 30s (≥ 8)"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("203.0.113.7; reboot", "no single address"),
        ("0.0.0.0/0", "no single address"),
        ("example.org", "no single address"),
        ("", "no single address"),
        ("0.0.0.0", "no visitor's"),  # noqa: S104 (nothing listens there)
        ("127.0.0.1", "no visitor's"),
        ("::1", "no visitor's"),
        ("::ffff:127.0.0.1", "no visitor's"),
        ("fe80::1%eth0", "one link"),
        ("ff02::1", "no visitor's"),
    ],
)
def test_what_is_no_visitor_s_address_is_never_blocked(server: Actions, address: str, reason: str) -> None:
    status, told = refusal(lambda: server.take("elastalert", login(address=address)))
    assert status == 422
    assert reason in told
    assert server.journal.history(5) == []
    body = json.dumps({"address": address}).encode()
    assert refusal(lambda: intake.wish(BLOCK, body))[0] == 422


@pytest.mark.parametrize(
    ("engine", "body", "status"),
    [
        ("elastalert", b"", 400),
        ("elastalert", b"{", 400),
        ("elastalert", b"[]", 400),
        ("elastalert", b"\xff\xfe", 400),
        ("elastalert", b"[" * 10000, 400),
        ("elastalert", login(value=1).replace(b": 1}", b": NaN}"), 400),
        ("elastalert", login(value=1).replace(b": 1}", b": 1e400}"), 400),
        ("elastalert", login(value=1).replace(b": 1}", b": " + b"9" * 400 + b"}"), 400),
        ("elastalert", login(instance={"source.ip": "\ud800"}), 400),
        ("elastalert", login(time="yesterday"), 400),
        ("elastalert", login(time="2027-01-15T08:00:00"), 400),
        ("elastalert", login(time="2027-02-30T08:00:00Z"), 400),
        ("elastalert", login(state="on"), 400),
        ("elastalert", login(more=1), 400),
        ("elastalert", login(instance={"source.ip": 7}), 400),
        ("elastalert", login(level="nothing"), 404),
        ("elastalert", login(level="nginx-reading"), 404),
        ("elastalert", login(NOW - 301), 409),
        ("elastalert", login(NOW + 61), 409),
        ("elastalert", login(instance={}), 422),
        ("kibana", login(), 403),
        ("kapacitor", login(), 400),
        ("elastalert", clients(), 400),
    ],
)
def test_bad_events_are_refused_and_leave_nothing(
    server: Actions, engine: str, body: bytes, status: int
) -> None:
    assert refusal(lambda: server.take(engine, body))[0] == status
    assert not server.step()
    assert server.journal.counts()["events"] == 0
    assert texts(server) == []


def test_the_same_event_again_does_nothing_twice(server: Actions, runner: board_site.FakeRunner) -> None:
    _, first = server.take("elastalert", login())
    status, second = server.take("elastalert", login())
    assert (status, second["event"]) == (200, first["event"])
    assert "duplicate" in second["decided"]
    while server.step():
        pass
    assert len(runner.ran) == 1


def test_an_event_that_comes_late_reopens_nothing(server: Actions, clock: Clock) -> None:
    server.take("kapacitor", clients(NOW))
    clock.now += 10
    server.take("kapacitor", clients(NOW + 8, state="OK", value=100))
    status, answer = server.take("kapacitor", clients(NOW + 5))
    assert (status, answer["decided"]) == (202, "late: a newer event of it was taken before")
    assert server.journal.open_alarms() == []


def test_recovery_by_its_engine_closes_and_is_told(server: Actions, clock: Clock) -> None:
    server.take("kapacitor", clients())
    clock.now += 15
    assert server.take("kapacitor", clients(NOW + 15, state="OK"))[1]["decided"] == "recovered"
    (alarm,) = server.journal.closed_alarms(5)
    assert (alarm.closed, alarm.why) == (NOW + 15, "kapacitor says so")
    assert "is over" in texts(server)[-1]
    clock.now += 15
    assert server.take("kapacitor", clients(NOW + 30, state="OK"))[1]["decided"] == "no such alarm is open"


def test_two_hundred_alarms_at_once_make_one_change(
    server: Actions, board: Said, runner: board_site.FakeRunner, clock: Clock
) -> None:
    together = [
        threading.Thread(target=server.take, args=("kapacitor", clients(host=f"nginx-{number}")))
        for number in range(200)
    ]
    for each in together:
        each.start()
    for each in together:
        each.join()
    while server.step():
        pass
    assert len(runner.ran) == 1
    assert server.journal.counts()["actions_refused"] == 199
    assert len(server.journal.open_alarms()) == 200
    # A second later they are still all open, and what goes on asks for nothing more.
    clock.now += 100
    board.good = False
    server.watch()
    while server.step():
        pass
    assert [action.kind for action in runner.ran] == [SCALE, SYNC]
    sent: list[str] = []
    teller = Teller(server.journal, sent.append)
    while server.journal.waiting():
        teller.step(clock.now)
    assert len(sent) == 1
    assert "201 messages of nginx-clients" in sent[0]


def test_a_second_alarm_within_five_minutes_is_refused_with_its_reason(
    server: Actions, runner: board_site.FakeRunner, clock: Clock
) -> None:
    server.take("kapacitor", clients())
    server.step()
    clock.now += 60
    _, answer = server.take("kapacitor", clients(clock.now, host="other"))
    reason = "nginx +1 was done 60 s ago (action 1), and there is one change in 300 s"
    assert answer["decided"] == f"alarm; refused: {reason}"
    newest = server.journal.history(1)[0]
    assert (newest.state, newest.reason) == (REFUSED, reason)
    assert f"Refused: {reason}." in texts(server)[-1]
    clock.now += 241
    assert server.take("kapacitor", clients(clock.now, host="third"))[1]["decided"] == "alarm; nginx +1"


def action(number: int, wish: Wish, state: str = DONE, asked: float = NOW, **told: Any) -> Action:
    told = {"ended": asked, "attempts": 1, **told}
    return Action(number, None, wish.kind, wish.target, wish.arguments, "x", asked, state, **told)


@pytest.mark.parametrize(
    ("wish", "before", "held"),
    [
        (UP, [], False),
        (UP, [action(1, UP)], True),
        (UP, [action(1, UP, asked=NOW - 300)], False),
        (UP, [action(1, UP, REFUSED)], True),
        (UP, [action(1, UP, REFUSED, asked=NOW - 30)], False),
        (UP, [action(2, UP, REFUSED, asked=NOW - 30), action(1, UP, asked=NOW - 299)], True),
        (UP, [action(1, UP, REFUSED, attempts=0)], False),
        (UP, [action(1, UP, FAILED)], True),
        (UP, [action(1, UP, RUNNING, NOW - 900, ended=None)], True),
        (UP, [action(1, UP, QUEUED, NOW - 900, ended=None, attempts=0)], True),
        (UP, [action(1, DOWN)], False),
        (UP, [action(1, DOWN, QUEUED, attempts=0)], False),
        (DOWN, [action(1, UP)], True),
        (DOWN, [action(1, DOWN)], True),
    ],
)
def test_one_change_in_five_minutes_and_up_wins_over_down(
    wish: Wish, before: list[Action], held: bool
) -> None:
    assert bool(decide.hold(wish, before, 300, NOW)) is held


def test_what_waits_to_take_one_away_gives_way_to_one_more(
    server: Actions, runner: board_site.FakeRunner
) -> None:
    server.ask(DOWN, "operator")
    server.take("kapacitor", clients())
    while server.step():
        pass
    assert [each.arguments["by"] for each in runner.ran] == [1]
    assert server.journal.action(1).reason == "nginx +1 was asked for (action 2)"


def test_an_alarm_that_goes_on_asks_again_and_less_often_where_it_is_refused(
    server: Actions, board: Said, runner: board_site.FakeRunner, clock: Clock
) -> None:
    bounds = Outcome(REFUSED, "nginx has its most", {})
    runner.answers = [Outcome(DONE, "3 → 4", {}), bounds, bounds, bounds]
    server.take("kapacitor", clients())
    scaled = []
    for _ in range(360):
        board.good = False
        server.watch()
        while server.step():
            if runner.ran[-1].kind == SCALE:
                scaled.append(clock.now - NOW)
        clock.now += 10
    assert scaled[:4] == [0, 300, 330, 390]


def test_an_engine_that_tells_every_minute_makes_it_ask_no_oftener(
    server: Actions, board: Said, runner: board_site.FakeRunner, clock: Clock
) -> None:
    runner.answers = [Outcome(REFUSED, "nginx has its most", {})] * 10
    board.good, scaled = False, []
    for tick in range(60):
        if tick % 6 == 0:
            server.take("kapacitor", clients(clock.now))
        server.watch()
        while server.step():
            if runner.ran[-1].kind == SCALE:
                scaled.append(clock.now - NOW)
        clock.now += 10
    assert scaled == [0, 30, 90, 210, 450]


# Blocks


ENTRY = {
    "address": "203.0.113.7", "at": stamp(NOW), "until": stamp(NOW + 900), "offences": 1,
    "reason": "8 attempts", "by": "forum-wrong-logins",
}  # fmt: skip


def told_of(done: list[str], **missing: Mapping[str, str]) -> Run:
    stats = {"changed": True, "refused": "", "entry": ENTRY, "blocked": [], "done": done, **missing}
    return Run("failed" if missing else "successful", {"blocklist": stats}, {})


def test_a_blocked_address_isn_t_blocked_again_until_it_is_free(
    server: Actions, runner: board_site.FakeRunner, clock: Clock
) -> None:
    block = action(1, Wish(BLOCK, "203.0.113.7"))
    runner.answers = [outcome(block, told_of(["node-1"]))]
    server.take("elastalert", login())
    server.step()
    clock.now += 40
    answer = server.take("elastalert", login(clock.now))[1]
    assert "is blocked until" in answer["decided"]
    assert [entry["address"] for entry in server.blocked()] == ["203.0.113.7"]
    clock.now += 900
    assert server.blocked() == []
    assert server.take("elastalert", login(clock.now))[1]["decided"].endswith("block 203.0.113.7")


def test_a_half_done_block_is_said_and_tried_until_all_have_it(
    server: Actions, runner: board_site.FakeRunner, clock: Clock
) -> None:
    block = action(1, Wish(BLOCK, "203.0.113.7"))
    half = outcome(block, told_of(["node-1"], unreached={"node-2": "no route"}))
    assert half.state == PARTLY
    nobody = Outcome(FAILED, "nobody answered", {})
    runner.answers = [half, half, nobody, outcome(block, told_of(["node-1", "node-2"]))]
    server.take("elastalert", login())
    tried = []
    for _ in range(80):
        while server.step():
            tried.append(clock.now - NOW)
        clock.now += 1
    assert tried == [0, 10, 30, 70]
    assert server.journal.action(1).state == DONE
    assert len({each.name for each in runner.ran}) == 1
    told = [text.splitlines()[0] for text in texts(server)][1:]
    assert len(told) == 2
    assert "partly, at node-1; not at node-2: no route" in told[0]
    assert "done (tried 4 times), at node-1, node-2" in told[1]


def test_a_half_done_block_ends_with_its_time(
    server: Actions, runner: board_site.FakeRunner, clock: Clock
) -> None:
    half = outcome(action(1, Wish(BLOCK, "203.0.113.7")), told_of(["node-1"], failed={"node-2": "no space"}))
    runner.answers = [half] * 50
    server.take("elastalert", login())
    for _ in range(1000):
        server.step()
        clock.now += 1
    ended = server.journal.action(1)
    assert ended.state == DONE
    assert ended.reason.endswith("it expires before it can be tried again")
    assert ended.ended is not None
    assert ended.ended <= NOW + 900


def test_what_fails_is_tried_once_more_and_then_told(
    server: Actions, runner: board_site.FakeRunner, clock: Clock
) -> None:
    runner.answers = [Outcome(FAILED, "node-1: no", {}), Outcome(FAILED, "node-1: no", {})]
    server.take("kapacitor", clients())
    assert server.step()
    assert len(texts(server)) == 1
    assert not server.step()
    clock.now += 2
    assert server.step()
    assert len({each.name for each in runner.ran}) == 1
    assert "failed (tried 2 times), node-1: no" in texts(server)[-1]
    clock.now += 60
    assert not server.step()


def test_an_allowed_address_is_on_the_list_no_longer(
    server: Actions, board: Said, runner: board_site.FakeRunner, clock: Clock
) -> None:
    listed = Run("successful", {"blocklist": {"done": ["node-1"], "blocked": [ENTRY], "entry": None}}, {})
    runner.listed = [outcome(action(1, Wish(SYNC, "")), listed)]
    board.good = False
    server.watch()
    server.step()
    assert [entry["seconds_left"] for entry in server.blocked()] == [900]
    server.ask(Wish("allow", "203.0.113.7"), "operator")
    server.step()
    assert server.blocked() == []


def test_a_list_that_can_t_be_read_leaves_the_one_before(
    server: Actions, board: Said, runner: board_site.FakeRunner, clock: Clock
) -> None:
    listed = Run("successful", {"blocklist": {"done": ["node-1"], "blocked": [ENTRY], "entry": None}}, {})
    away = Outcome(FAILED, "nobody answered", {})
    runner.listed = [outcome(action(1, Wish(SYNC, "")), listed), away, away]
    for _ in range(62):
        board.good = False
        server.watch()
        while server.step():
            pass
        clock.now += 10
    assert len(runner.ran) == 3
    assert [entry["address"] for entry in server.blocked()] == ["203.0.113.7"]


# What playbooks are given and tell


def test_the_same_action_gives_its_playbook_the_same_each_time() -> None:
    assert variables(action(7, UP)) == {
        "scale_service": "nginx", "scale_by": 1, "scale_action": "7-1800000000"
    }  # fmt: skip
    block = variables(action(8, Wish(BLOCK, "203.0.113.7", {"seconds": 60, "reason": "r"}), asked=NOW + 0.25))
    assert block == {
        "block_address": "203.0.113.7", "block_at": "2027-01-15T08:00:00.250Z", "block_by": "x",
        "block_reason": "r", "block_seconds": 60,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("run", "state", "reason"),
    [
        (
            Run("successful", {"scale": {"before": 3, "wanted": 4, "changed": True, "refused": ""}}),
            DONE,
            "3 → 4",
        ),
        (
            Run("successful", {"scale": {"before": 3, "wanted": 3, "refused": "its most"}}),
            REFUSED,
            "its most",
        ),
        (Run("failed", {}, {"node-1": "away"}), FAILED, "node-1: away"),
        (Run("timeout"), FAILED, "the playbook's run ended as timeout"),
        (Run("successful", {"scale": 7}), FAILED, "the playbook's run ended as successful"),
    ],
)
def test_what_a_playbook_tells_is_the_outcome(run: Run, state: str, reason: str) -> None:
    found = outcome(action(1, UP), run)
    assert (found.state, found.reason) == (state, reason)


def test_a_block_that_nobody_has_failed() -> None:
    found = outcome(action(1, Wish(BLOCK, "203.0.113.7")), told_of([], unreached={"node-1": "away"}))
    assert (found.state, found.reason) == (FAILED, "not at node-1: away")


# When it is over


def test_an_alarm_closes_when_its_figures_are_good_and_goes_on_while_nobody_knows(
    server: Actions, board: Said, clock: Clock
) -> None:
    server.take("kapacitor", clients())
    clock.now += 20
    board.good = True
    server.watch()
    assert len(server.journal.open_alarms()) == 1, "the figures come a little later than the event"
    clock.now += 20
    board.good = None
    server.watch()
    board.good = False
    server.watch()
    assert len(server.journal.open_alarms()) == 1
    board.good = True
    server.watch()
    assert [alarm.why for alarm in server.journal.closed_alarms(5)] == ["the figures are good again"]


def test_what_the_swarm_no_longer_wants_is_not_missed(server: Actions, board: Said) -> None:
    """An engine misses every task of before a rollout."""
    gone = login(level="silent-shippers", instance={"host.name": "node-9"}, value=1)
    board.good = True
    status, told = server.take("elastalert", gone)
    assert (status, told["decided"]) == (202, "not missed: as many tell something as the swarm wants")
    assert not server.journal.open_alarms()
    board.good = None
    later = login(level="silent-shippers", instance={"host.name": "node-9"}, value=1, at=NOW + 1)
    server.take("elastalert", later)
    assert [alarm.level for alarm in server.journal.open_alarms()] == ["silent-shippers"]
    assert texts(server), "it is told"


def test_a_block_s_alarm_closes_when_its_window_is_past(server: Actions, board: Said, clock: Clock) -> None:
    server.take("elastalert", login())
    clock.now += 30
    board.good = True
    server.watch()
    assert len(server.journal.open_alarms()) == 1
    clock.now += 1
    board.good = False
    server.watch()
    assert [alarm.why for alarm in server.journal.closed_alarms(5)] == ["its window is past"]


def test_an_alarm_that_goes_on_is_told_of_again_each_hour(server: Actions, board: Said, clock: Clock) -> None:
    server.take("elastalert", login(level="nginx-errors", instance={}))
    server.take("elastalert", login(level="nginx-errors", instance={"host.name": "node-1"}))
    for _ in range(2 * 360 + 2):
        board.good = False
        server.watch()
        clock.now += 10
    reminders = [text for text in texts(server) if text.startswith("…")]
    assert len(reminders) == 2
    assert "and 1 more goes on since 1 h 0 min" in reminders[0]


# Restart


def test_an_action_that_ran_when_the_server_ended_is_run_again_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock, runner: board_site.FakeRunner
) -> None:
    told = board_site.settings(tmp_path, monkeypatch)
    before = board_site.actions(told, runner, clock)
    before.take("kapacitor", clients())
    began = before.journal.begin(NOW)
    assert began is not None
    before.journal.close()
    after = board_site.actions(told, runner, clock)
    assert after.journal.action(began.id).state == QUEUED
    assert after.step()
    assert [each.name for each in runner.ran] == [began.name]
    assert after.journal.action(began.id).state == DONE
    after.journal.close()


def test_a_journal_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(ValueError, match="has form 99, this program knows 1"):
        Journal(path)


def test_what_breaks_off_is_not_half_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")

    def break_off() -> None:
        with journal.change():
            journal.post("x", "text", NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert journal.waiting() == []
    journal.close()


# Slack


class Slack:
    """A Slack that may be away."""

    def __init__(self) -> None:
        self.away: Undelivered | None = None
        self.got: list[str] = []

    def __call__(self, text: str) -> None:
        if self.away:
            raise self.away
        self.got.append(text)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    found = Journal(tmp_path / "journal.db")
    yield found
    found.close()


def test_messages_wait_while_slack_is_away_and_come_in_their_order(journal: Journal) -> None:
    told, now = Slack(), NOW
    teller = Teller(journal, told)
    for number in range(3):
        journal.post("a", str(number), now)
    told.away = Undelivered("slack answers 503")
    pauses = [teller.step(now) for _ in range(8)]
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300]
    told.away = None
    assert [teller.step(now) for _ in range(4)] == [1, 1, 1, 1]
    assert told.got == ["0", "1", "2"]


def test_slack_may_ask_for_a_pause_and_may_not_want_a_message_at_all(journal: Journal) -> None:
    told = Slack()
    teller = Teller(journal, told)
    journal.post("a", "0", NOW)
    told.away = Undelivered("slack answers 429", 60)
    assert teller.step(NOW) == 60
    told.away = Undelivered("slack answers 400", None)
    assert teller.step(NOW) == 1
    assert journal.waiting() == []


def test_a_message_that_waited_for_a_day_is_given_up(journal: Journal) -> None:
    told = Slack()
    journal.post("a", "old", NOW - 90000)
    journal.post("a", "new", NOW)
    Teller(journal, told).step(NOW)
    assert told.got == ["new"]


def test_more_than_twenty_messages_of_a_level_become_one(journal: Journal) -> None:
    told = Slack()
    teller = Teller(journal, told)
    for number in range(21):
        journal.post("a", f"message {number}", NOW)
    journal.post("b", "other", NOW)
    for _ in range(5):
        teller.step(NOW)
    assert told.got[0] == "other"
    assert told.got[1].splitlines() == [
        "*21 messages of a*, the first and the last of them:", "message 0", "message 20"
    ]  # fmt: skip
    assert len(told.got) == 2


def test_what_somebody_else_wrote_is_nothing_to_slack() -> None:
    alarm = Alarm(1, "nginx-clients", {"host": "<!channel> & <https://evil|x>"}, NOW, NOW, value=1)
    text = slack.alarm_text(board_site.level("nginx-clients"), alarm, "", slack.Links("https://board", ""))
    assert "<!channel>" not in text
    assert "&lt;!channel&gt; &amp; &lt;https://evil|x&gt;" in text
    assert "runbook" not in text


def test_a_webhook_must_be_https() -> None:
    with pytest.raises(ValueError, match="https"):
        slack.webhook("http://slack.test/hook", None)  # type: ignore[arg-type]
