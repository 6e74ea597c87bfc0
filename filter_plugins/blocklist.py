"""Filters for what the edge nodes answer about their blocklists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Answers = Mapping[str, Mapping[str, Any]]


def _order(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the program merges entries of one address by: the greatest one holds."""
    return tuple(entry[name] for name in ("at", "until", "offences", "reason", "by"))


def _faults(answers: Answers) -> dict[str, str]:
    """The nodes that didn't do it, each with the reason."""
    return {
        node: str(answer.get("msg") or "it didn't answer").strip()
        for node, answer in answers.items()
        if not answer.get("checksum") and not answer.get("refused")
    }


def blocklist_outcome(answers: Answers) -> dict[str, Any]:
    """What became of a block, an allow or a list at all edge nodes together.

    answers: node -> the result of the module edge_blocklist there, with C(unreachable) where there was none. Returns
    `changed` (whether at any node), `refused` (why it was, else empty), `entry` (the newest one of the address, or
    none), `blocked` (of lists: who is blocked), `done` (nodes that did it), `unreached` and `failed`
    (nodes that didn't, each with the reason).
    """
    faults = _faults(answers)
    away = {node for node in faults if answers[node].get("unreachable")}
    entries = [answer["entry"] for answer in answers.values() if answer.get("entry")]
    return {
        "changed": any(answer.get("changed", False) for answer in answers.values()),
        "refused": next((str(answer["refused"]) for answer in answers.values() if answer.get("refused")), ""),
        "entry": max(entries, key=_order, default=None),
        "blocked": _blocked(answers),
        "done": [
            node for node, answer in answers.items() if node not in faults and not answer.get("refused")
        ],
        "unreached": {node: why for node, why in faults.items() if node in away},
        "failed": {node: why for node, why in faults.items() if node not in away},
    }


def blocklist_differs(answers: Answers) -> bool:
    """Whether the nodes that answered have lists that aren't the same. answers: as of blocklist_outcome."""
    return len({answer["checksum"] for answer in answers.values() if answer.get("checksum")}) > 1


def blocklist_entries(answers: Answers) -> list[dict[str, Any]]:
    """All entries of the nodes that answered, each once. answers: node -> result of edge_blocklist with `entries`."""
    found = {}
    for answer in answers.values():
        for entry in answer.get("entries") or []:
            found[entry["address"], _order(entry)] = entry
    return [dict(entry) for entry in found.values()]


def _blocked(answers: Answers) -> list[dict[str, Any]]:
    """The newest entry of each address that is blocked, the longest block first. answers: as of blocklist_entries."""
    newest: dict[str, dict[str, Any]] = {}
    for entry in blocklist_entries(answers):
        other = newest.setdefault(entry["address"], entry)
        newest[entry["address"]] = max(other, entry, key=_order)
    return sorted(
        (entry for entry in newest.values() if entry["seconds_left"] > 0),
        key=lambda entry: (-int(entry["seconds_left"]), str(entry["address"])),
    )


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {
            "blocklist_differs": blocklist_differs,
            "blocklist_entries": blocklist_entries,
            "blocklist_outcome": blocklist_outcome,
        }
