"""The module that calls the program of the blocklist, and what is made of the nodes' answers."""

from __future__ import annotations

from typing import Any

import pytest
from blocklist import blocklist_differs, blocklist_entries, blocklist_outcome
from conftest import load_file
from edge_blocklist import COMMANDS, command, difference

PARAMS = {"state": "listed", "address": "192.0.2.77", "at": None, "seconds": None, "reason": "", "by": ""}
program = load_file("roles/ip_blocklist/files/forum_blocklist.py")


def entry(address: str = "192.0.2.77", **fields: object) -> dict[str, Any]:
    made = {
        "at": "2026-11-26T20:00:00.000Z",
        "until": "2026-11-26T20:15:00.000Z",
        "offences": 1,
        "reason": "",
        "by": "",
        "seconds_left": 900,
    }
    return {"address": address, **made, **fields}


@pytest.mark.parametrize("state", COMMANDS)
@pytest.mark.parametrize("dry", [False, True])
@pytest.mark.parametrize("address", ["192.0.2.77", "-x", "--dry-run", "1.2.3.4; reboot"])
def test_the_program_understands_what_the_module_says(state: str, dry: bool, address: str) -> None:
    params = {
        **PARAMS,
        "state": state,
        "address": address,
        "at": "2026-11-26T20:00:00.000Z",
        "seconds": 60,
        "reason": "--by=me",
        "by": "alarm",
    }
    line = command(params, root=True, dry=dry)
    options = program.asked_for(line[1:])
    assert options.command == COMMANDS[state]
    assert getattr(options, "dry_run", False) == (dry and state != "listed")
    if state in ("blocked", "allowed"):
        assert (options.address, options.reason, options.by) == (address, "--by=me", "alarm")
    if state == "blocked":
        assert options.seconds == 60


def test_who_is_not_root_asks_sudo_and_is_never_asked_back() -> None:
    assert command(PARAMS, root=False, dry=False) == ["sudo", "-n", "/usr/local/sbin/forum-blocklist", "list"]


def test_the_diff_shows_the_entry_without_what_changes_by_itself() -> None:
    told = {"changed": True, "before": None, "entry": entry()}
    assert difference(told)["before"] == ""
    assert "192.0.2.77" in difference(told)["after"]
    assert "seconds_left" not in difference(told)["after"]
    same = {"changed": False, "before": entry(), "entry": entry(seconds_left=1)}
    assert difference(same)["before"] == difference(same)["after"]


def test_a_node_that_is_away_is_told_beside_those_that_did_it() -> None:
    outcome = blocklist_outcome(
        {
            "node-1": {"changed": True, "checksum": "2a", "entry": entry()},
            "node-2": {"unreachable": True, "msg": "timed out"},
            "node-3": {"changed": False, "msg": "no such program"},
            "node-4": {},
        }
    )
    assert outcome["changed"]
    assert outcome["done"] == ["node-1"]
    assert outcome["unreached"] == {"node-2": "timed out"}
    assert outcome["failed"] == {"node-3": "no such program", "node-4": "it didn't answer"}
    assert outcome["entry"] == entry()


def test_what_was_refused_is_no_failure() -> None:
    outcome = blocklist_outcome({"node-1": {"refused": "never"}, "node-2": {"refused": "never"}})
    assert outcome["refused"] == "never"
    assert (outcome["done"], outcome["failed"], outcome["unreached"], outcome["entry"]) == ([], {}, {}, None)


def test_of_the_nodes_entries_the_newest_is_told() -> None:
    newer = entry(at="2026-11-26T20:05:00.000Z")
    answers = {"node-1": {"checksum": "a", "entry": newer}, "node-2": {"checksum": "b", "entry": entry()}}
    assert blocklist_outcome(answers)["entry"] == newer


def test_who_is_blocked_is_told_once_the_longest_first() -> None:
    allowed = entry("192.0.2.78", at="2026-11-26T20:05:00.000Z", seconds_left=0)
    longer = entry("192.0.2.79", seconds_left=1000)
    answers = {
        "node-1": {"checksum": "a", "entries": [entry(), entry("192.0.2.78"), longer]},
        "node-2": {"checksum": "b", "entries": [entry(), allowed]},
    }
    assert blocklist_outcome(answers)["blocked"] == [longer, entry()]
    assert len(blocklist_entries(answers)) == 4


@pytest.mark.parametrize(
    ("checksums", "differ"), [(["a", "a"], False), (["a", "b"], True), (["a", None], False), ([], False)]
)
def test_lists_differ_when_two_that_were_told_do(checksums: list[str | None], differ: bool) -> None:
    assert blocklist_differs({str(n): {"checksum": c} for n, c in enumerate(checksums)}) is differ
