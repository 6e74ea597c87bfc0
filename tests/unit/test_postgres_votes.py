"""Votes, positions and timelines of a PostgreSQL member: what keeps an acknowledged write from being lost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "roles/postgres/files/image"))

from pg_supervisor import timelines
from pg_supervisor.report import Position, Report, State, leader, parse_lsn
from pg_supervisor.seal import Seal, nonce
from pg_supervisor.votes import Answer, Ballot, BallotBox, Request, refusal

STANDBY = Report("postgres-1", State.STANDBY, timeline=2, position=Position(2, 500), term=2, floor=2)
REQUEST = Request("postgres-2", 3, Position(2, 500))


def refuse(request: Request = REQUEST, own: Report = STANDBY, ballot: Ballot | None = None) -> str:
    return refusal(request, own, ballot or Ballot(), silence_seconds=2)


def test_a_candidate_with_as_much_log_gets_the_vote() -> None:
    assert refuse() == ""


def test_a_candidate_with_less_log_gets_none() -> None:
    assert refuse(Request("postgres-2", 3, Position(2, 499))) == "I have more log"


def test_a_newer_timeline_outweighs_a_longer_log() -> None:
    assert refuse(Request("postgres-2", 4, Position(3, 10))) == ""
    assert refuse(Request("postgres-2", 4, Position(1, 9999))) == "I have more log"


@pytest.mark.parametrize("state", [State.STARTING, State.EMPTY, State.DAMAGED, State.JOINING, State.STOPPING])
def test_a_member_without_sound_log_has_no_vote(state: State) -> None:
    assert "doesn't count" in refuse(own=STANDBY.but(state=state))


def test_a_primary_has_no_vote_to_give() -> None:
    assert refuse(own=STANDBY.but(state=State.PRIMARY)) == "I am primary"


def test_one_vote_per_term() -> None:
    assert refuse(ballot=Ballot(3, "postgres-0")) == "I voted for postgres-0"
    assert refuse(ballot=Ballot(3, "postgres-2")) == "", "the same candidate may ask twice"
    assert refuse(ballot=Ballot(4, "postgres-2")) == "I promised term 4"
    assert refuse(ballot=Ballot(2, "postgres-0")) == "", "an older promise binds no more"


def test_a_lost_term_is_used_up_for_its_candidate_too() -> None:
    assert refuse(ballot=Ballot(3, "postgres-2", void=True)) == "I voted for postgres-2"


def test_a_term_must_be_above_the_voters_timeline() -> None:
    assert refuse(Request("postgres-2", 2, Position(2, 500))) == "I have timeline 2 already"


def test_who_still_hears_the_primary_elects_nobody() -> None:
    assert refuse(own=STANDBY.but(upstream="postgres-0", silence=1.0)) == "postgres-0 speaks to me"
    assert refuse(own=STANDBY.but(upstream="postgres-0", silence=2.5)) == ""


def test_a_standby_that_feeds_the_voter_is_no_primary() -> None:
    assert refuse(own=STANDBY.but(upstream="postgres-2", silence=0.1)) == ""


def test_ballots_outlive_the_process(tmp_path: Path) -> None:
    box = BallotBox(tmp_path / "ballot.json")
    assert box.read() == Ballot()
    box.write(Ballot(7, "postgres-1"))
    assert BallotBox(tmp_path / "ballot.json").read() == Ballot(7, "postgres-1")
    assert [entry.name for entry in tmp_path.iterdir()] == ["ballot.json"]


def test_a_broken_ballot_is_no_licence_to_vote_again(tmp_path: Path) -> None:
    (tmp_path / "ballot.json").write_text("{", encoding="ascii")
    with pytest.raises(ValueError, match="Expecting"):
        BallotBox(tmp_path / "ballot.json").read()


def test_a_void_ballot_binds_to_no_floor() -> None:
    assert Ballot(5, "postgres-1").floor == 5
    assert Ballot(5, "postgres-1", void=True).floor == 0


def test_reports_requests_and_answers_survive_the_wire() -> None:
    report = STANDBY.but(registered=True, receivers=2, upstream="postgres-0", silence=0.25, leaving=True)
    assert Report.parse(report.dump()) == report
    before = report.dump().replace(', "leaving": true', "")
    assert Report.parse(before) == report.but(leaving=False), "a member of the version before"
    request = Request("postgres-0", 9, Position(8, 7), trial=True)
    assert Request.parse(request.dump()) == request
    answer = Answer(granted=False, reason="no", term=3)
    assert Answer.parse(answer.dump()) == answer


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "a", "state": "king"}', '{"candidate": 1}'])
def test_nonsense_is_refused(text: str) -> None:
    for parse in (Report.parse, Request.parse, Answer.parse):
        with pytest.raises((ValueError, TypeError, KeyError)):
            parse(text)


def test_the_leader_is_the_newest_primary_that_is_new_enough() -> None:
    old = Report("postgres-0", State.PRIMARY, timeline=2)
    new = Report("postgres-1", State.PRIMARY, timeline=3)
    assert leader([old, new, STANDBY], 0) is new
    assert leader([old], 3) is None, "who voted in term 3 must not feed a primary of term 2"


def test_positions_in_the_log() -> None:
    assert parse_lsn("0/50B77E8") == 0x50B77E8
    assert parse_lsn("1/0") == 1 << 32


def wal(path: Path, *segments: str, **histories: str) -> Path:
    for segment in segments:
        (path / segment).touch()
    for name, content in histories.items():
        (path / f"{int(name[1:]):08X}.history").write_text(content, encoding="ascii")
    return path


def test_log_below_the_fork_counts_as_the_old_timelines(tmp_path: Path) -> None:
    directory = wal(
        tmp_path, "000000010000000000000005", "000000020000000000000005", h2="1\t0/5000100\tno reason\n"
    )
    assert timelines.newest(directory) == 2
    assert timelines.position(directory, 0x50000FF) == Position(1, 0x50000FF)
    assert timelines.position(directory, 0x5000100) == Position(1, 0x5000100), (
        "the fork itself is the old one's end"
    )
    assert timelines.position(directory, 0x5000101) == Position(2, 0x5000101)


def test_a_first_timeline_has_no_history(tmp_path: Path) -> None:
    assert timelines.newest(tmp_path) == 0
    assert timelines.position(wal(tmp_path, "000000010000000000000001"), 42) == Position(1, 42)


def test_an_election_begins_exactly_its_term(tmp_path: Path) -> None:
    wal(tmp_path, "000000020000000000000005", h2="1\t0/5000100\tno reason\n")
    with timelines.reserved(tmp_path, 5):
        assert sorted(entry.name for entry in tmp_path.glob("*.history")) == [
            "00000002.history",
            "00000003.history",
            "00000004.history",
        ]
        # What PostgreSQL does: the first number without a history is the new timeline, and its history appears whole.
        draft = tmp_path / "xlogtemp.1"
        draft.write_text("2\t0/6000000\tno reason\n", encoding="ascii")
        draft.rename(tmp_path / "00000005.history")
        (tmp_path / "000000050000000000000006").touch()
    for number in (3, 4):
        told = (tmp_path / f"{number:08X}.history").read_text(encoding="ascii")
        assert told.startswith("#"), "still known as reserved"
        assert told.endswith("2\t0/6000000\tno reason\n"), "repmgr finds where timeline 2 ended"
    assert timelines.known(tmp_path) == 5
    timelines.release(tmp_path)
    assert (tmp_path / "00000003.history").exists(), "standbys still ask for it"


def test_numbers_reserved_in_vain_are_released(tmp_path: Path) -> None:
    wal(tmp_path, "000000020000000000000005", h2="1\t0/5000100\tno reason\n")
    with timelines.reserved(tmp_path, 4):
        pass
    assert timelines.known(tmp_path) == 2
    timelines.release(tmp_path)
    assert [entry.name for entry in tmp_path.glob("*.history")] == ["00000002.history"]


def test_no_term_below_the_log(tmp_path: Path) -> None:
    wal(tmp_path, "000000030000000000000005")
    with pytest.raises(ValueError, match="not above"), timelines.reserved(tmp_path, 3):
        pass


def test_seals_hold_for_the_same_password_and_words_only() -> None:
    seal = Seal("one")
    signature = seal.sign(b"/vote", b"body")
    assert seal.holds(signature, b"/vote", b"body")
    assert not seal.holds(signature, b"/vot", b"ebody"), "the border between two parts counts"
    assert not Seal("two").holds(signature, b"/vote", b"body")
    assert not seal.holds("", b"/vote", b"body")
    assert nonce() != nonce()
