"""The program of the edge nodes' blocklist: what it refuses, how long it blocks, and how lists are merged."""

from __future__ import annotations

import io
import itertools
import json
import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import load_file

blocklist = load_file("roles/ip_blocklist/files/forum_blocklist.py")
Entry, RefusedError = blocklist.Entry, blocklist.RefusedError

SETTINGS = blocklist.Settings(900, 4, 604800, 30, ["198.51.100.0/24", "2001:db8:1::/48", "203.0.113.7"])
NOW = datetime(2026, 11, 26, 20, tzinfo=UTC)
ADDRESS = "192.0.2.77"


def later(**past: float) -> str:
    """A time some days, hours or seconds after NOW, as entries have it."""
    return str(blocklist.text_of(NOW + timedelta(**past)))


def entry(at: float = 0, seconds: float = 900, offences: int = 1, reason: str = "", by: str = "") -> Any:
    """An entry, its times in seconds after NOW."""
    return Entry(later(seconds=at), later(seconds=at + seconds), offences, reason, by)


class Program:
    """The program with a list of its own, a clock that stands still, and a packet filter that only takes notes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self.path = folder / "list.json"
        self.now = NOW
        self.scripts: list[str] = []
        self.answers: list[str] = []
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(blocklist, "dropped", dict)
        monkeypatch.setattr(blocklist, "own_networks", lambda: {"192.0.2.11/32": "an address of this node"})

    def nft(self, script: str) -> str:
        self.scripts.append(script)
        return self.answers.pop(0) if self.answers else ""

    def __call__(self, *arguments: str, given: object = None) -> dict[str, Any]:
        self.monkeypatch.setattr(blocklist, "nft", self.nft)
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(given)))
        try:
            options = blocklist.asked_for(list(arguments))
            answer = blocklist.run(options, blocklist.Blocklist(self.path, SETTINGS, self.now))
        except RefusedError as refused:
            return {"refused": str(refused)}
        return dict(answer)

    @property
    def entries(self) -> dict[str, Any]:
        """The list on the disk."""
        return dict(blocklist.Blocklist(self.path, SETTINGS, self.now).entries)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    return Program(tmp_path / "node", monkeypatch)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1.2.3.4; reboot", "is no address"),
        ("0.0.0.0/0", "a network"),
        ("192.0.2.0/24", "a network"),
        ("192.0.2.77/32", "a network"),
        ("example.org", "is no address"),
        ("", "is no address"),
        ("192.0.2.077", "is no address"),
        (" 192.0.2.77", "is no address"),
        ("192.0.2.77 }; flush ruleset", "is no address"),
        ("3221226061", "is no address"),
        ("2001:db8::1%eth0", "one link"),
        ("0.0.0.0", "unspecified"),  # noqa: S104 - an address, and bound to nothing
        ("0.1.2.3", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("169.254.1.1", "link-local"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("fe80::1", "link-local"),
        ("ff02::1", "multicast"),
        ("::ffff:127.0.0.1", "loopback"),
        ("192.0.2.11", "an address of this node"),
        ("::ffff:192.0.2.11", "an address of this node"),
        ("198.51.100.200", "the settings allow it"),
        ("203.0.113.7", "the settings allow it"),
        ("2001:db8:1:2::3", "the settings allow it"),
    ],
)
def test_what_must_not_be_blocked_is_refused_and_nothing_is_done(
    program: Program, text: str, why: str
) -> None:
    assert why in program("block", "--", text)["refused"]
    assert (program.scripts, program.path.exists()) == ([], False)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("flush",),
        ("block",),
        ("block", ADDRESS, "192.0.2.78"),
        ("block", ADDRESS, "--sec", "9"),
        ("block", ADDRESS, "--seconds", "many"),
        ("block", ADDRESS, "--seconds", "0"),
        ("block", ADDRESS, "--seconds", "-5"),
        ("block", ADDRESS, "--seconds", "604801"),
        ("block", ADDRESS, "--seconds", "9" * 5000),
        ("block", ADDRESS, "--at", "yesterday"),
        ("block", ADDRESS, "--at", "2026-11-26T20:00:00"),
        ("block", ADDRESS, "--at", later(seconds=61)),
        ("block", ADDRESS, "--at", later(days=-2)),
        ("block", ADDRESS, "--at", "0001-01-01T00:00:00+23:59"),
        ("list", "--list", "/etc/shadow"),
    ],
)
def test_what_can_not_be_carried_out_is_refused_and_nothing_is_done(
    program: Program, arguments: tuple[str, ...]
) -> None:
    assert program(*arguments)["refused"]
    assert (program.scripts, program.path.exists()) == ([], False)


def test_a_block_is_on_the_list_and_in_the_kernel_in_one_transaction(program: Program) -> None:
    answer = program("block", ADDRESS, "--reason", "8 wrong\nlogins", "--by", "alarm")
    assert answer["changed"]
    assert answer["entry"] == {
        "address": ADDRESS,
        "at": later(),
        "until": later(seconds=900),
        "offences": 1,
        "reason": "8 wrong logins",
        "by": "alarm",
        "seconds_left": 900,
    }
    assert program.entries == {ADDRESS: entry(reason="8 wrong logins", by="alarm")}
    (script,) = program.scripts
    added = f"add element inet forum_blocklist ipv4 {{ {ADDRESS} timeout 900000ms }}"
    assert script.splitlines()[-1] == added


def test_ipv6_has_a_set_of_its_own_and_one_spelling(program: Program) -> None:
    program("block", "2001:DB8:0::7")
    assert list(program.entries) == ["2001:db8::7"]
    assert "ipv6 { 2001:db8::7 timeout" in program.scripts[0]


@pytest.mark.parametrize("command", ["block", "allow"])
def test_a_dry_run_tells_and_changes_nothing(program: Program, command: str) -> None:
    assert program(command, ADDRESS, "--dry-run")["changed"]
    assert (program.scripts, program.path.exists()) == ([], False)


def test_each_further_offence_lasts_four_times_longer_up_to_a_week(program: Program) -> None:
    lasted = []
    for _ in range(9):
        lasted.append(program("block", ADDRESS)["entry"]["seconds_left"])
        program.now += timedelta(seconds=lasted[-1] + 1)
    assert lasted == [900, 3600, 14400, 57600, 230400, 604800, 604800, 604800, 604800]


@pytest.mark.parametrize(("days", "offences"), [(29.9, 2), (30.1, 1)])
def test_an_offence_is_forgotten_after_a_while(program: Program, days: float, offences: int) -> None:
    program("block", ADDRESS)
    program.now += timedelta(seconds=900, days=days)
    assert program("block", ADDRESS)["entry"]["offences"] == offences


def test_a_report_of_a_blocked_address_is_the_same_offence_and_begins_anew(program: Program) -> None:
    program("block", ADDRESS)
    program.now += timedelta(seconds=300)
    again = program("block", ADDRESS)["entry"]
    assert (again["offences"], again["until"]) == (1, later(seconds=1200))


def test_the_same_time_again_changes_nothing_but_reaches_the_kernel_again(program: Program) -> None:
    first = program("block", ADDRESS, "--at", later())
    program.now += timedelta(seconds=60)
    again = program("block", ADDRESS, "--at", later())
    assert not again["changed"]
    assert again["entry"]["until"] == first["entry"]["until"]
    assert "timeout 840000ms" in program.scripts[1]


def test_seconds_that_are_given_hold_exactly(program: Program) -> None:
    program("block", ADDRESS)
    program.now += timedelta(seconds=1)
    assert program("block", ADDRESS, "--seconds", "60")["entry"]["until"] == later(seconds=61)


def test_an_allowed_address_is_free_at_once_and_its_offences_are_forgotten(program: Program) -> None:
    program("block", ADDRESS)
    program.now += timedelta(seconds=10)
    assert program("allow", ADDRESS)["entry"]["seconds_left"] == 0
    assert "timeout" not in program.scripts[1]
    assert f"delete element inet forum_blocklist ipv4 {{ {ADDRESS} }}" in program.scripts[1]
    program.now += timedelta(seconds=10)
    assert not program("allow", ADDRESS)["changed"]
    assert program("block", ADDRESS)["entry"]["offences"] == 1


def test_what_comes_too_late_is_told_and_undoes_nothing(program: Program) -> None:
    program("block", ADDRESS, "--at", later())
    program.now += timedelta(seconds=20)
    program("allow", ADDRESS)
    kept = program.entries
    assert "was allowed at" in program("block", ADDRESS, "--at", later(seconds=5))["refused"]
    program.now += timedelta(seconds=20)
    program("block", ADDRESS)
    assert "was blocked until" in program("allow", ADDRESS, "--at", later(seconds=30))["refused"]
    assert program.entries != kept
    assert program.entries[ADDRESS].offences == 1


def test_what_the_kernel_refuses_is_told(program: Program) -> None:
    program.answers = ["Error: set is full"]
    with pytest.raises(OSError, match="set is full"):
        program("block", ADDRESS)


def test_a_table_that_somebody_flushed_is_made_anew_with_all_that_is_blocked(program: Program) -> None:
    program("block", "192.0.2.78")
    program.answers = ["Error: No such file or directory"]
    program("block", ADDRESS)
    anew = program.scripts[-1]
    assert anew.startswith("add table inet forum_blocklist\ndelete table inet forum_blocklist\n")
    assert f"{{ {ADDRESS} timeout" in anew
    assert "{ 192.0.2.78 timeout" in anew


def test_restore_leaves_out_what_is_over_and_what_is_allowed_by_now(program: Program) -> None:
    program.path.write_text(
        json.dumps(
            {
                "entries": [
                    {"address": address, **made._asdict()}
                    for address, made in {
                        ADDRESS: entry(),
                        "192.0.2.78": entry(-1000, 900),
                        "198.51.100.9": entry(),
                        "192.0.2.79": entry(-40 * 86400),
                    }.items()
                ]
            }
        )
    )
    assert program("restore") == {"blocked": 1}
    assert program.scripts[0].count("timeout 900000ms") == 1
    assert set(program.entries) == {ADDRESS, "192.0.2.78"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"entries": [{"address": "192.0.2.1"}]}', '{"entries": 7}'])
def test_a_list_that_can_not_be_read_is_set_aside_and_told(
    program: Program, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    program.path.write_text(text)
    assert program("restore") == {"blocked": 0}
    assert program.path.with_suffix(".broken").read_text() == text
    assert "list.broken" in capsys.readouterr().err


def test_merge_takes_what_came_later_and_says_what_it_ignored(program: Program) -> None:
    program("block", ADDRESS)
    program("block", "192.0.2.78")
    program.now += timedelta(seconds=60)
    other = {
        ADDRESS: entry(30, 0, 0),
        "192.0.2.78": entry(-30),
        "192.0.2.79": entry(10),
        "198.51.100.1": entry(10),
        "192.0.2.80": entry(10, 604801),
        "192.0.2.81": entry(10, 900, 0),
        "192.0.2.82": entry(500),
        "no address": entry(),
    }
    answer = program(
        "merge", given={"entries": [{"address": name, **made._asdict()} for name, made in other.items()]}
    )
    assert answer["learned"] == [ADDRESS, "192.0.2.79"]
    assert len(answer["ignored"]) == 5
    assert {name for name, made in program.entries.items() if made.until > later(seconds=60)} == {
        "192.0.2.78",
        "192.0.2.79",
    }


@pytest.mark.parametrize("given", [None, 7, [], {}, {"entries": 7}, {"entries": ["192.0.2.1"]}])
def test_merge_refuses_what_is_no_list(program: Program, given: object) -> None:
    assert "no list" in program("merge", given=given)["refused"]


def test_merging_comes_to_the_same_in_any_order_and_any_number_of_times() -> None:
    chance = random.Random(7)
    for _ in range(300):
        lists = [
            {
                f"192.0.2.{chance.randrange(4)}": entry(
                    chance.randrange(3), chance.randrange(3), chance.randrange(3)
                )
                for _ in range(chance.randrange(5))
            }
            for _ in range(3)
        ]
        outcomes = []
        for order in itertools.permutations(lists):
            known: dict[str, Any] = {}
            for one in (*order, *order):
                known = blocklist.merged(known, one)
            outcomes.append(known)
        assert all(outcome == outcomes[0] for outcome in outcomes)


def test_nodes_of_which_some_missed_some_are_the_same_after_a_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(11)
    for trial in range(40):
        nodes = [Program(tmp_path / f"{trial}-{number}", monkeypatch) for number in range(3)]
        now, expected = NOW, ""
        for _ in range(6):
            now += timedelta(seconds=chance.choice([1, 600, 5000, 90000]))
            command = chance.choice(["block", "block", "block", "allow"])
            reached = [node for node in nodes if chance.random() < 0.7]
            longest = ""
            for node in reached:
                node.now = now
                answer = node(command, ADDRESS, "--at", blocklist.text_of(now))
                longest = max(longest, answer["entry"]["until"])
            if reached:
                expected = longest
        told: list[dict[str, Any]] = []
        for node in nodes:
            node.now = now
            told += node("list")["entries"] if node.path.exists() else []
        outcomes = [node("merge", given={"entries": told}) for node in nodes]
        assert len({outcome["checksum"] for outcome in outcomes}) == 1
        assert outcomes[0]["entries"][0]["until"] == expected
