"""What a starting member and a serving member decide from what they hear."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "roles/postgres/files/image"))

from pg_supervisor.boot import Do, Step, decide
from pg_supervisor.repmgr import pgpass
from pg_supervisor.report import Position, Report, State
from pg_supervisor.server import scram_matches
from pg_supervisor.settings import Settings, load
from pg_supervisor.turn import RISING_SECONDS, UNHEARD_SECONDS, patience
from pg_supervisor.watch import Duty, Verdict, Watch

MEMBERS = ("postgres-0", "postgres-1", "postgres-2")


def settings(name: str = "postgres-0", members: tuple[str, ...] = MEMBERS) -> Settings:
    return Settings(name, members, "secret", "other", fence_seconds=5, grace_seconds=12, settle_seconds=5)


def report(name: str, state: State, timeline: int = 1, lsn: int = 100, **more: object) -> Report:
    return Report(name, state, timeline, Position(timeline, lsn), term=timeline, floor=timeline).but(**more)


def step(own: Report, *peers: Report, waited: float = 0.0) -> Step:
    return decide(own, {peer.name: peer for peer in peers}, waited, settings(own.name))


def empty(name: str) -> Report:
    return report(name, State.EMPTY, timeline=0, lsn=0)


WAIT = Step(Do.WAIT)


def test_the_first_member_makes_the_cluster_only_when_all_are_empty() -> None:
    assert step(empty("postgres-0"), empty("postgres-1"), empty("postgres-2")).do is Do.INITIALISE
    assert step(empty("postgres-0"), empty("postgres-1"), waited=999) == WAIT, "the third may have data"
    assert step(empty("postgres-1"), empty("postgres-0"), empty("postgres-2")) == WAIT
    for state in (State.WAITING, State.DAMAGED, State.JOINING, State.STANDBY):
        other = report("postgres-2", state)
        assert step(empty("postgres-0"), empty("postgres-1"), other, waited=999) == WAIT


def test_a_lost_volume_is_cloned_never_initialised() -> None:
    primary = report("postgres-2", State.PRIMARY, registered=True)
    assert step(empty("postgres-0"), primary) == Step(Do.CLONE, "postgres-2")


def test_a_damaged_member_is_cloned_and_never_leads() -> None:
    own = report("postgres-0", State.DAMAGED, lsn=999)
    assert step(own, report("postgres-1", State.WAITING), waited=999) == WAIT
    assert step(own, report("postgres-1", State.PRIMARY, registered=True)) == Step(Do.CLONE, "postgres-1")


def test_a_primary_is_joined_once_repmgr_knows_it() -> None:
    own = report("postgres-0", State.WAITING)
    assert step(own, report("postgres-1", State.PRIMARY, timeline=2)) == WAIT
    known = report("postgres-1", State.PRIMARY, timeline=2, registered=True)
    assert step(own, known) == Step(Do.REJOIN, "postgres-1")


def test_a_primary_that_was_voted_out_is_not_joined() -> None:
    own = report("postgres-0", State.WAITING, floor=3)
    assert step(own, report("postgres-1", State.PRIMARY, timeline=2, registered=True), waited=999) == WAIT


def test_after_a_power_loss_the_foremost_leads_at_once() -> None:
    waiting = [
        report(name, State.WAITING, lsn=lsn) for name, lsn in zip(MEMBERS, (100, 200, 150), strict=True)
    ]
    assert step(waiting[1], waiting[0], waiting[2]).do is Do.CAMPAIGN
    assert step(waiting[0], waiting[1], waiting[2], waited=999) == WAIT
    assert step(waiting[2], waiting[0], waiting[1], waited=999) == WAIT


def test_among_equals_the_first_leads() -> None:
    zero, one = report("postgres-0", State.WAITING), report("postgres-1", State.WAITING)
    assert step(zero, one, waited=6).do is Do.CAMPAIGN
    assert step(one, zero, waited=6) == WAIT


def test_two_of_three_wait_a_little_for_the_third() -> None:
    own, other = report("postgres-0", State.WAITING), report("postgres-2", State.WAITING)
    assert step(own, other, waited=4) == WAIT
    assert step(own, other, waited=5).do is Do.CAMPAIGN


def test_a_running_standby_has_a_repmgrd_that_decides_first() -> None:
    own, other = report("postgres-0", State.WAITING, lsn=200), report("postgres-2", State.STANDBY)
    assert step(own, other, waited=11) == WAIT
    assert step(own, other, waited=12).do is Do.CAMPAIGN


def test_nobody_leads_without_a_majority() -> None:
    assert step(report("postgres-0", State.WAITING), waited=9999) == WAIT
    assert step(report("postgres-0", State.WAITING), empty("postgres-1"), waited=9999) == WAIT


def test_a_single_member_is_a_majority() -> None:
    alone = settings("postgres-0", ("postgres-0",))
    assert decide(report("postgres-0", State.WAITING), {}, 0.0, alone).do is Do.CAMPAIGN
    assert decide(empty("postgres-0"), {}, 0.0, alone).do is Do.INITIALISE


def judge(watch: Watch, own: Report, *peers: Report, now: float) -> Verdict:
    return watch.judge(own, {peer.name: peer for peer in peers}, now)


PRIMARY = report("postgres-0", State.PRIMARY, timeline=2, receivers=2, registered=True)
ONE = report("postgres-1", State.STANDBY, timeline=2, upstream="postgres-0")
TWO = report("postgres-2", State.STANDBY, timeline=2, upstream="postgres-0")


def test_a_healthy_member_has_nothing_to_do() -> None:
    for own, peers in ((PRIMARY, (ONE, TWO)), (ONE, (PRIMARY, TWO))):
        watch = Watch(settings(own.name))
        assert all(judge(watch, own, *peers, now=now).duty is Duty.NOTHING for now in (0.0, 30.0, 999.0))


def test_a_primary_that_hears_nobody_stops() -> None:
    watch = Watch(settings())
    assert judge(watch, PRIMARY, now=0.0).duty is Duty.NOTHING
    assert judge(watch, PRIMARY, now=4.9).duty is Duty.NOTHING
    assert judge(watch, PRIMARY, ONE, now=5.0).duty is Duty.NOTHING, "one is enough"
    assert judge(watch, PRIMARY, now=6.0).duty is Duty.NOTHING, "the time begins anew"
    assert judge(watch, PRIMARY, now=11.0).duty is Duty.STOP


def test_a_single_member_has_nobody_to_hear() -> None:
    watch = Watch(settings("postgres-0", ("postgres-0",)))
    assert all(judge(watch, PRIMARY, now=now).duty is Duty.NOTHING for now in (0.0, 99.0))


def test_a_primary_that_was_overtaken_stops_at_once() -> None:
    rival = report("postgres-1", State.PRIMARY, timeline=3)
    assert judge(Watch(settings()), PRIMARY, rival, now=0.0).duty is Duty.STOP
    older = report("postgres-1", State.PRIMARY, timeline=1)
    assert judge(Watch(settings()), PRIMARY, older, now=0.0).duty is Duty.NOTHING


@pytest.mark.parametrize(("receivers", "patience"), [(0, 10.0), (1, 60.0)])
def test_a_primary_steps_down_for_a_vote_that_came_to_nothing(receivers: int, patience: float) -> None:
    watch, voter = Watch(settings()), ONE.but(floor=3, upstream="")
    own = PRIMARY.but(receivers=receivers)
    assert judge(watch, own, voter, now=0.0).duty is Duty.NOTHING
    assert judge(watch, own, voter, now=patience - 1).duty is Duty.NOTHING
    assert judge(watch, own, voter, now=patience).duty is Duty.STOP


def test_a_standby_left_behind_follows_then_rejoins() -> None:
    watch, own = Watch(settings("postgres-1")), ONE.but(upstream="")
    assert judge(watch, own, PRIMARY, now=0.0).duty is Duty.NOTHING
    assert judge(watch, own, PRIMARY, now=8.0) == Verdict(
        Duty.FOLLOW, "postgres-0 is primary and sends no log", "postgres-0"
    )
    assert judge(watch, own, PRIMARY, now=9.0).duty is Duty.NOTHING, "asked once"
    assert judge(watch, own, PRIMARY, now=15.0).duty is Duty.STOP


def test_a_standby_of_a_standby_is_fed() -> None:
    watch, own = Watch(settings("postgres-2")), TWO.but(upstream="postgres-1")
    assert all(judge(watch, own, PRIMARY, ONE, now=now).duty is Duty.NOTHING for now in (0.0, 99.0))
    assert judge(watch, own, PRIMARY, now=100.0).duty is Duty.NOTHING
    assert judge(watch, own, PRIMARY, now=200.0).duty is Duty.STOP, "its feeder is gone"


def test_a_standby_elects_what_repmgr_left_undone() -> None:
    watch = Watch(settings("postgres-1"))
    other = TWO.but(upstream="")
    assert judge(watch, ONE, other, now=0.0).duty is Duty.NOTHING
    assert judge(watch, ONE, other, now=16.0).duty is Duty.NOTHING
    assert judge(watch, ONE, other, now=17.0).duty is Duty.CAMPAIGN
    assert judge(watch, ONE, other, now=18.0).duty is Duty.NOTHING, "not again at once"


def test_a_standby_that_is_not_foremost_elects_nothing() -> None:
    watch = Watch(settings("postgres-2"))
    assert all(judge(watch, TWO, ONE, now=now).duty is Duty.NOTHING for now in (0.0, 99.0))


def test_with_cascading_the_last_standby_streams_from_the_first() -> None:
    cascading = Settings("postgres-2", MEMBERS, "secret", "other", cascading=True)
    watch = Watch(cascading)
    assert judge(watch, TWO, PRIMARY, ONE, now=0.0).duty is Duty.NOTHING
    assert judge(watch, TWO, PRIMARY, ONE, now=30.0) == Verdict(
        Duty.CASCADE, "postgres-1 can send the log", "postgres-1"
    )
    fed = TWO.but(upstream="postgres-1")
    assert all(judge(watch, fed, PRIMARY, ONE, now=now).duty is Duty.NOTHING for now in (31.0, 99.0))
    first = Watch(Settings("postgres-1", MEMBERS, "secret", "other", cascading=True))
    assert all(judge(first, ONE, PRIMARY, TWO, now=now).duty is Duty.NOTHING for now in (0.0, 99.0))


def turn(own: Report, *peers: Report, members: tuple[str, ...] = MEMBERS) -> float:
    return patience(own, {peer.name: peer for peer in peers}, settings(own.name, members))


def test_a_member_stops_at_once_when_the_others_are_a_majority_that_serves() -> None:
    assert turn(PRIMARY, ONE, TWO) == 0
    assert turn(ONE, PRIMARY, TWO) == 0


@pytest.mark.parametrize("state", [State.STARTING, State.WAITING, State.JOINING, State.EMPTY])
def test_a_member_stays_while_another_comes_up(state: State) -> None:
    assert turn(PRIMARY, ONE, TWO.but(state=state, upstream="")) == RISING_SECONDS
    assert turn(ONE, PRIMARY, TWO.but(state=state, upstream="")) == RISING_SECONDS


def test_a_standby_that_receives_no_log_yet_does_not_count() -> None:
    assert turn(PRIMARY, ONE, TWO.but(upstream="")) == RISING_SECONDS


def test_a_member_that_cannot_be_heard_is_waited_for_less() -> None:
    assert turn(PRIMARY, ONE) == UNHEARD_SECONDS


def test_nobody_waits_where_nothing_can_be_spared() -> None:
    assert turn(PRIMARY) == 0, "no majority is left"
    assert turn(ONE.but(state=State.JOINING), PRIMARY) == 0, "it serves nobody"


def test_nobody_waits_when_all_are_told_to_stop() -> None:
    assert turn(PRIMARY, ONE.but(leaving=True), TWO.but(upstream="")) == 0
    assert turn(PRIMARY, ONE.but(state=State.STOPPING)) == 0


def test_one_of_two_needs_only_the_other() -> None:
    two = ("postgres-0", "postgres-1")
    assert turn(PRIMARY, ONE, members=two) == 0
    assert turn(PRIMARY, ONE.but(state=State.JOINING), members=two) == RISING_SECONDS


def test_a_single_member_waits_for_nobody() -> None:
    assert turn(PRIMARY, members=("postgres-0",)) == 0


def test_of_five_two_may_be_missing() -> None:
    five = (*MEMBERS, "postgres-3", "postgres-4")
    three = report("postgres-3", State.STANDBY, timeline=2, upstream="postgres-0")
    assert turn(PRIMARY, ONE, TWO, three, members=five) == 0
    assert turn(PRIMARY, ONE, TWO, three.but(state=State.JOINING), members=five) == RISING_SECONDS


def test_settings_come_from_the_file_and_the_secrets(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("secret\n", encoding="utf-8")
    (tmp_path / "two").write_text("other", encoding="utf-8")
    file = tmp_path / "supervisor.toml"
    head = (
        f'password_file = "{tmp_path}/one"\napp_password_file = "{tmp_path}/two"\nmembers = ["a", "b", "c"]\n'
    )
    file.write_text(head + "fence_seconds = 9\n", encoding="utf-8")
    loaded = load(file, "b")
    assert (loaded.node_id, loaded.others, loaded.majority, loaded.fence_seconds) == (2, ("a", "c"), 2, 9)
    assert "secret" not in repr(loaded)
    with pytest.raises(ValueError, match="none of the members"):
        load(file, "x")
    file.write_text(head + "unknown = 1\n", encoding="utf-8")
    with pytest.raises(TypeError, match="unknown"):
        load(file, "b")
    (tmp_path / "one").write_text("two\nlines\n", encoding="utf-8")
    with pytest.raises(ValueError, match="exactly one line"):
        load(file, "b")


def test_the_password_file_escapes_what_libpq_splits_at() -> None:
    assert pgpass("a:b\\c") == "*:*:*:repmgr:a\\:b\\\\c\n"


def test_a_scram_verifier_tells_whether_a_secret_changed() -> None:
    # RFC 7677's example: user 'user', password 'pencil'.
    verifier = (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )
    assert scram_matches(verifier, "pencil")
    assert not scram_matches(verifier, "pen")
    assert not scram_matches("md5abc", "pencil")
