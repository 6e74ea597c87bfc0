"""How members hear of each other, and Pgpool of them: over kept connections, at once when there is news."""

from __future__ import annotations

import json
import logging
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "roles/postgres/files/image"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "roles/component/files/base"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "roles/pgpool/files/image"))

import loglines
from pg_supervisor import web
from pg_supervisor.__main__ import Supervisor
from pg_supervisor.peers import HOLD_SECONDS, Peers
from pg_supervisor.report import Report, State
from pg_supervisor.seal import Seal
from pg_supervisor.settings import Settings
from pgpool_follower.follow import Word, Words
from pgpool_follower.settings import Settings as FollowerSettings

NAME = "localhost"


@pytest.fixture
def speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Supervisor, int, list[str]]:
    """A member that answers on a port of this machine; the questions that it was asked."""
    asked: list[str] = []
    member = Supervisor(Settings(NAME, (NAME, "another"), "secret", "other", volume=tmp_path))
    refresh = member.member.refresh

    def asked_for(max_age: float = 0.0) -> Report:
        asked.append("state")
        return refresh(max_age)

    monkeypatch.setattr(member.member, "refresh", asked_for)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    parts = (member.member, member.election, member.orders, member.seal, member.is_alive)
    threading.Thread(target=web.serve, args=(port, *parts), daemon=True).start()
    return member, port, asked


def seconds_until(true: Callable[[], bool], patience: float = 10) -> float:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < patience
        time.sleep(0.005)
    return time.monotonic() - began


def test_members_hear_news_long_before_they_would_ask_again(
    speaker: tuple[Supervisor, int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pg_supervisor.peers.HOLD_SECONDS", 30)
    monkeypatch.setattr(web, "HOLD_SECONDS", 30)
    member, port, _ = speaker
    peers = Peers([NAME], port, Seal("secret"))
    peers.watch()
    seconds_until(lambda: NAME in peers.reports())
    time.sleep(0.5)
    member.member.set(state=State.JOINING)
    assert seconds_until(lambda: peers._last[NAME][1].state is State.JOINING) < 5


def test_without_news_a_member_is_asked_seldom_and_known_all_the_time(
    speaker: tuple[Supervisor, int, list[str]],
) -> None:
    _, port, asked = speaker
    peers = Peers([NAME], port, Seal("secret"))
    peers.watch()
    seconds_until(lambda: NAME in peers.reports())
    del asked[:]
    began = time.monotonic()
    while time.monotonic() - began < 3:
        assert NAME in peers.reports()
        time.sleep(0.02)
    assert 1 <= len(asked) <= 3 / HOLD_SECONDS + 1


def test_a_peer_with_another_password_is_not_heard(speaker: tuple[Supervisor, int, list[str]]) -> None:
    _, port, asked = speaker
    peers = Peers([NAME], port, Seal("another"))
    peers.watch()
    seconds_until(lambda: bool(asked))
    time.sleep(0.3)
    assert peers.reports() == {}
    assert peers.ask_now() == {}


def test_pgpools_follower_hears_the_news(speaker: tuple[Supervisor, int, list[str]]) -> None:
    member, port, _ = speaker
    words = Words(FollowerSettings((NAME,), "misago", "secret", "other", state_port=port))
    words.watch()
    seconds_until(lambda: words.fresh() == {0: Word("starting", 0)})
    member.member.set(state=State.JOINING, timeline=7)
    seconds_until(lambda: words.fresh() == {0: Word("joining", 7)})


def connect(port: int) -> socket.socket:
    """A connection to a member that may still be starting to listen."""
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            time.sleep(0.005)


def resets(port: int) -> None:
    """A peer that is gone in the middle of its question, as its kernel tells it: by a reset."""
    with connect(port) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.sendall(b"GET /state")


def asks(port: int) -> None:
    with connect(port) as peer:
        peer.sendall(b"GET /state HTTP/1.1\r\n\r\n")
        peer.recv(1)


@pytest.mark.parametrize(
    ("breaks", "level", "trace"), [(resets, "info", False), (asks, "error", True)], ids=["gone", "fault"]
)
def test_a_connection_that_broke_is_one_line_of_the_log(
    speaker: tuple[Supervisor, int, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    breaks: Callable[[int], None],
    level: str,
    trace: bool,
) -> None:
    def fails(max_age: float = 0.0) -> Report:
        raise RuntimeError(f"not within {max_age} s")

    member, port, _ = speaker
    monkeypatch.setattr(member.member, "refresh", fails)
    caplog.set_level(logging.INFO, web.__name__)
    breaks(port)
    seconds_until(lambda: bool(caplog.records))
    (record,) = caplog.records
    line = loglines.JsonLines("postgres.supervisor").format(record)
    assert "\n" not in line
    told = json.loads(line)
    assert told["log.level"] == level
    assert told["message"].startswith("the connection of 127.0.0.1 broke: ")
    assert ("error.stack_trace" in told) is trace
    assert "Traceback" not in capfd.readouterr().err
