"""How a member ends that must not serve any more."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "roles/postgres/files/image"))

from pg_supervisor.__main__ import Supervisor
from pg_supervisor.commands import CommandError
from pg_supervisor.report import State
from pg_supervisor.settings import Settings
from pg_supervisor.watch import Duty, Verdict

CUT_OFF = Verdict(Duty.STOP, "no other member heard for 5 s")


class Gone(BaseException):
    """The process has become another one, or ended."""


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    def execute(program: str, arguments: list[str]) -> None:
        raise Gone("anew", program, arguments)

    def leave(status: int) -> None:
        raise Gone("ended", status)

    monkeypatch.setattr(os, "execv", execute)
    monkeypatch.setattr(os, "_exit", leave)
    members = ("postgres-0", "postgres-1", "postgres-2")
    return Supervisor(
        Settings(
            members[0],
            members,
            "secret",
            "other",
            fence_seconds=5,
            grace_seconds=12,
            settle_seconds=5,
            volume=tmp_path,
        )
    )


def test_a_member_that_is_cut_off_stops_and_boots_anew_in_its_container(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops: list[str] = []
    monkeypatch.setattr(supervisor.server, "stop", stops.append)
    with pytest.raises(Gone) as gone:
        supervisor._obey(CUT_OFF, supervisor.member.report)
    assert gone.value.args == ("anew", sys.executable, sys.orig_argv)
    assert stops == ["immediate"]
    assert supervisor.member.report.state is State.STOPPING


def test_a_server_that_does_not_stop_takes_its_container_with_it(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(mode: str) -> None:
        raise CommandError(f"it doesn't stop ({mode})")

    monkeypatch.setattr(supervisor.server, "stop", refuse)
    with pytest.raises(Gone) as gone:
        supervisor._obey(CUT_OFF, supervisor.member.report)
    assert gone.value.args == ("ended", 1)
