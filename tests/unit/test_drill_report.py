"""Figures, verdict and page of a drill, from records written by hand; and the judgement of the tiers."""

import argparse
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from drills import ledger, medians, report, steps
from drills.check import judge
from drills.figures import faults, gap_around, measure
from drills.records import (
    Attempt,
    Event,
    Journal,
    Outcome,
    Reading,
    Record,
    Sight,
    SignIn,
    Skip,
    TierSample,
    read_records,
)
from drills.steps import Settings, pick, watch, whole_for
from drills.tiers import Machine, Snapshot, combine, master, primary, what_is_missing

ZERO = 1000.0


def attempt(at: float, seconds: float = 0.1, outcome: Outcome = Outcome.ACKNOWLEDGED) -> Attempt:
    """One attempt that began `at` seconds after the failure."""
    marker = f"ledger0123456789n{round((at + 100) * 100):06d}"
    return Attempt(marker, f"user{round(at * 4) % 3}", 1, ZERO + at, ZERO + at + seconds, outcome)


@pytest.fixture
def outage() -> list[Record]:
    """A failure at ZERO that lasts from +0.3 (one request was still served) to +5.0."""
    before = [attempt(-2 + 0.25 * number) for number in range(9)]
    during = [
        attempt(0.5, 4.4, Outcome.FAILED),
        attempt(1.0, 10, Outcome.UNKNOWN),
        attempt(2, 3, Outcome.UNSENT),
    ]
    after = [attempt(4.5, 0.5), *(attempt(5.2 + 0.25 * number) for number in range(10))]
    return [
        *before,
        attempt(0.2, 0.1),
        *during,
        *after,
        Event("failure", ZERO, ZERO + 0.15, "docker kill"),
        Event("restored", ZERO + 3, ZERO + 4),
        Reading("m", "user0", ZERO - 1, ZERO - 0.9, Sight.SEEN),
        Reading("m", "user0", ZERO + 5, ZERO + 5.1, Sight.FAILED),
        SignIn("user1", ZERO + 5, ZERO + 5.1, True),
        SignIn("user1", ZERO + 4, ZERO + 4.1, False),
        Skip(ZERO + 3),
        TierSample(ZERO - 1, {"postgres": ("was broken before",), "nginx": ()}),
        TierSample(ZERO + 1, {"postgres": ("no primary",), "nginx": ()}),
        TierSample(ZERO + 9, {"postgres": (), "nginx": ()}),
    ]


def test_figures(outage: list[Record]) -> None:
    figures = measure(outage)
    assert figures.next_acknowledged == pytest.approx(0.15)
    assert figures.gap == pytest.approx(4.7)
    assert figures.outage == pytest.approx(4.7)
    assert (figures.attempts, figures.acknowledged) == (24, 21)
    assert (figures.failed, figures.unknown, figures.unsent) == (1, 1, 1)
    assert (figures.stale_reads, figures.failed_reads, figures.sign_ins, figures.skipped) == (0, 1, 1, 1)
    assert figures.errors_before == 0
    assert figures.healed == {"nginx": 0.0, "postgres": pytest.approx(5.0)}
    assert figures.whole_again == pytest.approx(5.0)


def census(at: float, *containers: str) -> Event:
    return Event("census", ZERO + at, ZERO + at, " ".join(containers))


def test_what_was_replaced_between_two_looks_is_named() -> None:
    quiet: list[Record] = [attempt(-1), Event("failure", ZERO, ZERO), attempt(1)]
    first = census(-1, "nginx:a", "nginx:b", "redis-0:c")
    assert measure([*quiet, first]).replaced == ()
    assert measure([*quiet, first, census(9, "nginx:a", "nginx:b", "redis-0:c")]).replaced == ()
    figures = measure([*quiet, first, census(9, "nginx:a", "nginx:d", "redis-0:c", "celery:e")])
    assert figures.replaced == ("celery", "nginx")
    assert faults(figures, judge([], {})) == ["containers were replaced: celery, nginx"]


def test_several_drills_side_by_side(outage: list[Record]) -> None:
    made = report.summarise("node", "1", outage, {})
    longer = {**made, "figures": {**made["figures"], "outage": 9.3, "whole_again": None}}
    lines = medians.table([made, longer, {**made, "drill": "power"}])
    assert lines[2].startswith("| node | 2 | 7.0; 4.7 9.3 | 5.0 never | 42 | 2, 2 |")
    assert lines[3].startswith("| power | 1 | 4.7 | 5.0 | 21 | 1, 1 |")


def test_a_gap_before_the_failure_or_long_after_it_is_not_its_effect() -> None:
    failure = Event("failure", ZERO, ZERO)
    gap = gap_around([failure, *(attempt(at, 0) for at in [-30, -10, -9, -0.5, 0.5, 9, 30])])
    assert gap is not None
    assert gap.seconds == pytest.approx(21)
    moments = [attempt(at, 0) for at in [-1, 1, 3, 5, 7, 9, 10.5, 60]]
    later = gap_around([failure, *moments])
    assert later is not None
    assert later.seconds == pytest.approx(2)
    # One more failure, whose effect it is.
    again = gap_around([failure, Event("failure", ZERO + 9, ZERO + 9), *moments])
    assert again is not None
    assert again.seconds == pytest.approx(49.5)


def test_a_tier_that_did_not_heal_is_a_fault(outage: list[Record]) -> None:
    broken = [*outage, TierSample(ZERO + 12, {"postgres": ("a standby is gone",), "nginx": ()})]
    made = report.summarise("postgres_primary", "run", broken, contents_of(outage))
    assert made["figures"]["healed"]["postgres"] is None
    assert made["figures"]["whole_again"] is None
    assert made["faults"] == ["postgres did not heal"]


def test_no_acknowledgement_after_the_failure_is_a_fault(outage: list[Record]) -> None:
    cut = [r for r in outage if not isinstance(r, Attempt) or r.began < ZERO or r.outcome is Outcome.FAILED]
    made = report.summarise("node", "run", cut, contents_of(cut))
    assert made["figures"]["outage"] is None
    assert "no post was acknowledged after the failure" in made["faults"]


def test_without_a_failure_there_is_nothing_to_measure(outage: list[Record]) -> None:
    with pytest.raises(ValueError, match="recorded no failure"):
        measure([record for record in outage if not isinstance(record, Event)])


def contents_of(records: list[Record]) -> dict[str, int]:
    """A forum that holds exactly what it acknowledged."""
    return {r.marker: 1 for r in records if isinstance(r, Attempt) and r.outcome is Outcome.ACKNOWLEDGED}


@pytest.mark.parametrize(
    ("outcome", "times", "kind"),
    [
        (Outcome.ACKNOWLEDGED, 0, "lost"),
        (Outcome.ACKNOWLEDGED, 2, "doubled"),
        (Outcome.FAILED, 2, "doubled"),
        (Outcome.UNKNOWN, 3, "doubled"),
        (Outcome.UNSENT, 1, "impossible"),
        (Outcome.FAILED, 1, "appeared"),
        (Outcome.UNKNOWN, 1, "appeared"),
    ],
)
def test_verdict(outcome: Outcome, times: int, kind: str) -> None:
    made = attempt(1, outcome=outcome)
    verdict = judge([made], {made.marker: times})
    assert {name: markers for name, markers in vars(verdict).items() if markers} == {kind: (made.marker,)}
    assert verdict.kept_every_promise is (kind == "appeared")


def test_records_survive_the_file(outage: list[Record], tmp_path: Path) -> None:
    journal = Journal(tmp_path / "some.jsonl")
    for record in outage:
        journal.write(record)
    journal.close()
    with (tmp_path / "some.jsonl").open("a") as file:
        file.write('{"kind": "attempt", "mark')
    assert read_records(tmp_path) == outage


def test_report_is_written_for_programs_and_people(outage: list[Record], tmp_path: Path) -> None:
    made = report.summarise("postgres_primary", "run-1", outage, contents_of(outage))
    report.write(tmp_path, made, outage)
    kept = json.loads((tmp_path / "report.json").read_text())
    page = (tmp_path / "report.html").read_text()
    picture = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])  # noqa: S314  # our own
    assert kept["passed"] is True
    assert kept["figures"]["outage"] == 4.7
    assert len([rect for rect in picture.iter("rect") if rect.get("class") == "acknowledged"]) == 21
    assert {rect.get("class") for rect in picture.iter("rect")} >= {
        "failed",
        "unknown",
        "unsent",
        "broken",
        "whole",
    }
    assert "next acknowledged +5.0 s" in page
    assert "outage 4.7 s" in report.summary(kept)


def test_what_the_forum_says_cannot_become_markup(outage: list[Record]) -> None:
    evil = Attempt("ledger0123456789n999999", "<b>", 1, ZERO, ZERO + 1, Outcome.FAILED, why='<script>"')
    records = [*outage, evil]
    page = report.page(report.summarise("<i>", "run", records, contents_of(records)), records)
    assert "<script" not in page
    assert "<b>" not in page
    assert "<i>" not in page


def view(**says: Mapping[str, Any]) -> dict[str, Any]:
    """One machine's view; underscores in a service's name stand for dashes."""
    containers = [
        {"id": service, "service": service.replace("_", "-"), "task": service, "says": answer}
        for service, answer in says.items()
    ]
    return {"containers": containers, "nodes": [], "services": []}


def whole_views() -> dict[str, dict[str, Any]]:
    """Three machines on which nothing is missing."""
    standby = {"state": "standby", "upstream": "postgres-0", "silence": 0.4}
    replica = {"role": "slave", "master_link_status": "up"}
    head = {"role": "master", "connected_slaves": "2"}
    sentinel = {"master0": "name=mymaster,status=ok,address=redis-0:6379,slaves=2,sentinels=3"}
    views = {
        "node-1": view(postgres_0={"state": "primary"}, redis_0=head, sentinel_0=sentinel),
        "node-2": view(postgres_1=standby, redis_1=replica, sentinel_1=sentinel),
        "node-3": view(postgres_2=dict(standby), redis_2=dict(replica), sentinel_2=dict(sentinel), nginx={}),
    }
    names = [f"{tier}-{number}" for tier in ("postgres", "redis", "sentinel") for number in range(3)]
    services = [{"name": name, "running": 1, "wanted": 1} for name in names]
    services += [{"name": "nginx", "running": 3, "wanted": 3}]
    nodes = [{"name": name, "state": "ready", "availability": "active"} for name in views]
    views["node-2"].update(nodes=nodes, services=services)
    return views


def missing(views: Mapping[str, Mapping[str, Any]], **edges: str) -> dict[str, tuple[str, ...]]:
    """Only the tiers that miss something."""
    return {tier: reasons for tier, reasons in what_is_missing(combine(views, edges)).items() if reasons}


def test_a_whole_stack_misses_nothing() -> None:
    snapshot = combine(whole_views(), {"a": ""})
    assert set(what_is_missing(snapshot)) == {"machines", "postgres", "redis", "sentinel", "nginx", "edge"}
    assert missing(whole_views(), a="") == {}
    assert primary(snapshot).machine == "node-1"
    assert master(snapshot).service == "redis-0"


def test_a_machine_that_tells_nothing() -> None:
    views: dict[str, dict[str, Any]] = {**whole_views(), "node-3": {}}
    found = missing(views)
    assert found["machines"] == ("node-3 doesn't answer",)
    assert found["postgres"] == ("1 of 2 standbys",)
    assert found["redis"] == ("1 of 2 replicas linked",)
    assert found["sentinel"] == ("2 of 3 answer",)


def test_no_manager_is_a_reason_of_its_own() -> None:
    assert missing({"node-1": {}})["machines"] == ("node-1 doesn't answer", "no manager knows the services")


def test_a_node_that_is_down_and_a_replica_that_is_missing() -> None:
    views = whole_views()
    views["node-2"]["nodes"][2]["state"] = "down"
    views["node-2"]["services"][9]["running"] = 2
    assert missing(views, b="HTTP 502") == {
        "machines": ("node-3 is down active",),
        "nginx": ("nginx runs 2 of 3",),
        "edge": ("b: HTTP 502",),
    }


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ({"state": "primary"}, "2 primaries"),
        ({"state": "joining"}, "1 of 2 standbys"),
        ({}, "1 of 2 standbys"),
        ({"state": "standby", "upstream": "", "silence": 0}, "postgres-1 doesn't stream"),
        ({"state": "standby", "upstream": "postgres-0", "silence": 9}, "postgres-1 doesn't stream"),
    ],
)
def test_postgres(says: dict[str, Any], reason: str) -> None:
    views = whole_views()
    views["node-2"]["containers"][0]["says"] = says
    assert reason in missing(views)["postgres"]


def test_redis_with_two_masters_has_none_to_kill() -> None:
    views = whole_views()
    views["node-2"]["containers"][1]["says"] = {"role": "master", "connected_slaves": "0"}
    assert "2 masters" in missing(views)["redis"]
    with pytest.raises(LookupError, match="2 containers call themselves Redis master"):
        master(combine(views, {}))


@pytest.mark.parametrize(
    ("master0", "reason"),
    [
        (
            "name=mymaster,status=odown,address=redis-0:6379,slaves=2,sentinels=3",
            "one calls the master odown",
        ),
        ("name=mymaster,status=ok,address=redis-1:6379,slaves=2,sentinels=3", "they name different masters"),
        ("name=mymaster,status=ok,address=redis-0:6379,slaves=2,sentinels=2", "one knows 2 Sentinels"),
    ],
)
def test_sentinels(master0: str, reason: str) -> None:
    views = whole_views()
    views["node-3"]["containers"][2]["says"] = {"master0": f"name=mymaster,{master0}"}
    assert missing(views)["sentinel"] == (reason,)


def test_an_empty_snapshot_has_no_primary() -> None:
    with pytest.raises(LookupError, match="0 containers"):
        primary(Snapshot((), (), {}, {}, {}))


def test_parts_that_can_be_broken() -> None:
    snapshot = combine(whole_views(), {})
    assert pick(snapshot, "postgres_primary").service == "postgres-0"
    assert pick(snapshot, "redis_master").service == "redis-0"
    assert pick(snapshot, "nginx").machine == "node-3"
    with pytest.raises(LookupError, match="no task of haproxy"):
        pick(snapshot, "haproxy")


def test_ssh_gets_its_words_quoted() -> None:
    words = ("sh", "-c", "echo $HOME; true")
    assert Machine("a", ("ssh", "root@a")).command(*words) == ["ssh", "root@a", "sh -c 'echo $HOME; true'"]
    assert Machine("a", ("docker", "exec", "a")).command(*words) == ["docker", "exec", "a", *words]


def look(at: float, *reasons: str) -> TierSample:
    """A look at one tier."""
    return TierSample(ZERO + at, {"redis": reasons})


@pytest.mark.parametrize(
    ("looks", "seconds"),
    [
        ([], 0),
        ([look(-9), look(-5)], 0),
        ([look(-5), look(2), look(6)], 4),
        ([look(2), look(4, "no master"), look(6)], 0),
        ([look(9), look(2), look(4, "no master"), look(6)], 3),
        ([look(2), look(6), look(7, "no master")], 0),
    ],
)
def test_only_looks_after_the_last_event_count_as_healed(looks: list[TierSample], seconds: float) -> None:
    events: list[Record] = [Event("failure", ZERO - 20, ZERO - 19), Event("restored", ZERO, ZERO + 1)]
    assert whole_for([*events, *looks]) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("reasons", "stop_at", "looked"),
    [
        # The last look is the first one after the stop, if it complains of nothing.
        (["", "redis: 0 masters", "", ""], 3, 3),
        (["", "sentinel: one calls the master sdown", "", ""], 2, 3),
        (["redis: 0 masters"] * 20, 2, 9),
    ],
)
def test_what_the_last_look_complains_of_is_looked_at_again(
    reasons: list[str], stop_at: int, looked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ledger.Run(tmp_path)
    clock = ZERO
    seen = 0

    def looks(_settings: Settings, _seconds: float) -> Iterator[str]:
        nonlocal clock, seen
        for reason in reasons:
            clock, seen = clock + 5, seen + 1
            if seen == stop_at:
                run.stop_file.touch()
            yield reason

    monkeypatch.setattr(steps, "looks", looks)
    monkeypatch.setattr("time.monotonic", lambda: clock)
    assert watch(Settings(run, {}), argparse.Namespace(seconds=900)) == 0
    assert seen == looked
