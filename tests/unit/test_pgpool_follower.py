"""What Pgpool is told about the members."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "roles/pgpool/files/image"))

from pgpool_follower import __main__ as program
from pgpool_follower.follow import DisobeyedError, Do, Order, Patience, Word, decide, primary_of
from pgpool_follower.pool import Backend, PcpError, Pool, figures, parse_backends
from pgpool_follower.settings import Settings, load

# As pcp_node_info of Pgpool-II 4.6 printed it.
NODES = """\
postgres-0 5432 2 0.333333 up up primary primary 0 none none 2026-01-02 03:04:05
postgres-1 5432 3 0.333333 down up standby standby 0 none none 2026-01-02 03:04:05
postgres-2 5432 1 0.333333 waiting up standby standby 0 none none 2026-01-02 03:04:05
"""


def backends(primary: int, *down: int) -> list[Backend]:
    return [Backend(f"postgres-{number}", number in down, number == primary) for number in range(3)]


def words(primary: int | None, timeline: int = 5, **more: Word) -> dict[int, Word]:
    said = {number: Word("standby", timeline) for number in range(3)}
    if primary is not None:
        said[primary] = Word("primary", timeline)
    return said


def test_pgpools_beliefs_are_read() -> None:
    assert parse_backends(NODES) == backends(0, 1)


@pytest.mark.parametrize("text", ["nonsense", "postgres-0 5432 up 0.3 up up primary"])
def test_other_output_is_an_error(text: str) -> None:
    with pytest.raises(PcpError, match="not a backend"):
        parse_backends(text)


def test_telegraf_is_told_what_pgpool_believes() -> None:
    assert figures(backends(0, 1)).splitlines()[:2] == [
        f"pgpool,backend={backends(0, 1)[0].host} up=1i,primary=1i",
        f"pgpool,backend={backends(0, 1)[1].host} up=0i,primary=0i",
    ]


def test_when_pgpool_is_right_nothing_is_told() -> None:
    assert decide(words(0), backends(0)) == Order(Do.NOTHING)


def test_a_new_primary_is_promoted() -> None:
    assert decide(words(2), backends(0)) == Order(Do.PROMOTE, 2)


def test_a_primary_held_for_down_is_attached_first() -> None:
    assert decide(words(2), backends(0, 2)) == Order(Do.ATTACH, 2)


def test_standbys_are_attached_once_they_serve() -> None:
    assert decide(words(0), backends(0, 1, 2)) == Order(Do.ATTACH, 1)
    silent = {0: Word("primary", 5), 2: Word("waiting", 5)}
    assert decide(silent, backends(0, 1, 2)) == Order(Do.NOTHING)


def test_without_a_primary_nothing_is_told() -> None:
    assert decide(words(None), backends(0, 1)) == Order(Do.NOTHING)
    assert decide({}, backends(0)) == Order(Do.NOTHING)


def test_of_two_primaries_the_newer_timeline_is_true() -> None:
    said = {0: Word("primary", 5), 1: Word("primary", 6)}
    assert primary_of(said) == 1
    assert decide(said, backends(0)) == Order(Do.PROMOTE, 1)


def test_an_order_may_take_its_time() -> None:
    patience = Patience(15)
    for now in (0.0, 8.0, 15.0):
        patience.judge(Order(Do.ATTACH, 2), now)
    # Another order, and the same one again later, have a time of their own.
    patience.judge(Order(Do.PROMOTE, 2), 16.0)
    patience.judge(Order(Do.ATTACH, 2), 17.0)
    patience.judge(Order(Do.ATTACH, 2), 32.0)


def test_a_pgpool_that_does_not_obey_is_told_from_one_that_has_nothing_to_do() -> None:
    patience = Patience(15)
    for now in (0.0, 100.0):
        patience.judge(Order(Do.NOTHING), now)
    patience.judge(Order(Do.ATTACH, 2), 101.0)
    with pytest.raises(DisobeyedError, match="attach had no effect for 15 s"):
        patience.judge(Order(Do.ATTACH, 2), 116.5)


def test_settings_come_from_the_file_and_the_secrets(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"{name}\n", encoding="utf-8")
    file = tmp_path / "follower.toml"
    file.write_text(
        f'members = ["a", "b"]\napp_role = "misago"\n'
        f'app_password_file = "{tmp_path}/one"\npcp_password_file = "{tmp_path}/two"\n',
        encoding="utf-8",
    )
    settings = load(file)
    assert (settings.members, settings.app_password, settings.pcp_password) == (("a", "b"), "one", "two")
    assert "one" not in repr(settings)


@pytest.mark.parametrize("way", ["told to end", "ends by itself"])
def test_pgpools_last_words_are_in_the_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str], way: str
) -> None:
    wait = "trap 'say; exit' INT; while :; do sleep 0.05; done" if way == "told to end" else "say"
    stand_in = tmp_path / "pgpool"
    stand_in.write_text(
        f'#!/bin/sh\nsay() {{ seq -f "LOG:  word %.0f" 20000 >&2; }}\necho ready >&2\n{wait}\n'
    )
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    pool = Pool(Settings(members=(), app_role="a", app_password="b", pcp_password="c", run=tmp_path))
    pool.start()
    written = ""
    deadline = time.monotonic() + 10
    while "ready" not in written or (way == "ends by itself" and pool.exit_status() is None):
        assert time.monotonic() < deadline
        written += capfd.readouterr().out
        time.sleep(0.001)
    pool.stop()
    assert pool._process
    assert pool._process.stderr
    pool._process.stderr.close()
    written += capfd.readouterr().out
    assert written.endswith("LOG:  word 20000\n")


class Answers:
    """A Pgpool that answers as often as there is something in the list, and then ends."""

    def __init__(self, answers: list[list[Backend] | PcpError]) -> None:
        self._answers = answers

    def prepare(self) -> None:
        """Nothing to prepare."""

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""

    def exit_status(self) -> int | None:
        """Its end, once nothing is left to answer."""
        return None if self._answers else 0

    def backends(self) -> list[Backend]:
        """The next answer."""
        answer = self._answers.pop(0)
        if isinstance(answer, PcpError):
            raise answer
        return answer


def follow(
    monkeypatch: pytest.MonkeyPatch, directory: Path, answers: list[list[Backend] | PcpError]
) -> Settings:
    """Run the follower until Pgpool has answered all of this."""
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(program, "Pool", lambda _: Answers(answers))
    settings = Settings(
        members=(), app_role="a", app_password="b", pcp_password="c",
        run=directory, figures=directory / "figures", ask_seconds=0, check_seconds=0,
    )  # fmt: skip
    assert program.Follower(settings).run() == 1
    assert answers == []
    return settings


def test_telegraf_hears_nothing_of_a_pgpool_that_is_silent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = follow(monkeypatch, tmp_path, [backends(0)])
    assert settings.figures.read_text() == figures(backends(0))
    follow(monkeypatch, tmp_path, [PcpError("no answer")])
    assert not settings.figures.exists()


def test_figures_that_can_not_be_left_are_no_reason_to_end_pgpool(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "figures").write_text("of before")
    (tmp_path / "figures.new").mkdir()
    settings = follow(monkeypatch, tmp_path, [backends(0), backends(0)])
    assert not settings.figures.exists(), "what was true before is told"
    # Nor are such that can't be removed.
    settings.figures.mkdir()
    follow(monkeypatch, tmp_path, [PcpError("no answer"), PcpError("no answer")])
