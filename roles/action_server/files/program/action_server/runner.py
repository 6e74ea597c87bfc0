"""Runs an action's playbook, and makes an outcome of what it tells."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .records import ALLOW, BLOCK, DONE, FAILED, PARTLY, REFUSED, SCALE, SYNC, Action

#: What each kind of action is done by.
_PLAYBOOKS = {SCALE: "scale.yml", BLOCK: "block.yml", ALLOW: "allow.yml", SYNC: "blocked.yml"}
#: Under which name its playbook keeps the outcome by set_stats.
_STATS = {SCALE: "scale", BLOCK: "blocklist", ALLOW: "blocklist", SYNC: "blocklist"}
#: Seconds that the playbook's process is given beyond its time limit, to end by itself.
_GRACE = 10


@dataclass(frozen=True)
class Run:
    """What a playbook's run told. status: ansible-runner's; faults: host -> what failed there."""

    status: str
    stats: Mapping[str, Any] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of an action's run. state: done, partly, refused or failed."""

    state: str
    reason: str
    result: Mapping[str, Any]


class Runner(Protocol):
    """What runs actions."""

    def run(self, action: Action) -> Outcome:
        """Run one, until its end."""


def _stamp(at: float) -> str:
    """A moment as the blocklist's program reads it."""
    told = datetime.datetime.fromtimestamp(at, datetime.UTC)
    return f"{told:%Y-%m-%dT%H:%M:%S}.{told.microsecond // 1000:03d}Z"


def variables(action: Action) -> dict[str, Any]:
    """What the action's playbook is given. The same action gives the same, however often it is run."""
    given = action.arguments
    if action.kind == SCALE:
        return {"scale_service": action.target, "scale_by": given["by"], "scale_action": action.name}
    if action.kind == BLOCK:
        told: dict[str, Any] = {
            "block_address": action.target, "block_at": _stamp(action.asked), "block_by": action.by,
            "block_reason": given.get("reason", ""),
        }  # fmt: skip
        return {**told, "block_seconds": given["seconds"]} if "seconds" in given else told
    if action.kind == ALLOW:
        return {"allow_address": action.target, "allow_at": _stamp(action.asked), "allow_by": action.by}
    return {}


def outcome(action: Action, run: Run) -> Outcome:
    """What became of an action, by what its playbook told."""
    told = run.stats.get(_STATS[action.kind])
    if not isinstance(told, Mapping):
        return Outcome(FAILED, _faults(run), {})
    if refused := str(told.get("refused") or ""):
        return Outcome(REFUSED, refused, dict(told))
    if action.kind == SCALE:
        return _scaled(run, told)
    return _listed(action, told)


def _faults(run: Run) -> str:
    told = "; ".join(": ".join(filter(None, fault)) for fault in run.faults.items())
    return told or f"the playbook's run ended as {run.status}"


def _scaled(run: Run, told: Mapping[str, Any]) -> Outcome:
    if run.status != "successful":
        return Outcome(FAILED, _faults(run), dict(told))
    return Outcome(DONE, f"{told.get('before')} → {told.get('wanted')}", dict(told))


def _listed(action: Action, told: Mapping[str, Any]) -> Outcome:
    """Of the edge nodes' lists."""
    missing = {**(told.get("unreached") or {}), **(told.get("failed") or {})}
    done = list(told.get("done") or ())
    entry = told.get("entry") or {}
    result = {**told, **({"until": _moment(entry["until"])} if "until" in entry else {})}
    lacks = "; ".join(f"not at {node}: {why}" for node, why in missing.items())
    if not done:
        return Outcome(FAILED, lacks or "no edge node answered", result)
    if missing and action.kind != SYNC:
        return Outcome(PARTLY, f"at {', '.join(done)}; {lacks}", result)
    return Outcome(DONE, f"at {', '.join(done)}" + (f"; {lacks}" if lacks else ""), result)


def _moment(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


class Playbooks:
    """Runs playbooks by ansible-runner, each in a process of its own, with no shell between."""

    def __init__(
        self, command: Sequence[str], project: Path, inventory: Path, state: Path, limit: float
    ) -> None:
        """command: what reads a job and tells its end (play.py). limit: seconds that a run may take."""
        self._command, self._project, self._inventory = list(command), project, inventory
        self._state, self._limit = state, limit

    def run(self, action: Action) -> Outcome:
        """Run an action's playbook, until its end or its time limit."""
        job = {
            "private_data_dir": str(self._state / "runs"), "project_dir": str(self._project),
            "inventory": str(self._inventory), "playbook": f"playbooks/{_PLAYBOOKS[action.kind]}",
            "extravars": variables(action), "ident": f"{action.name}-{action.attempts}", "timeout": int(self._limit),
        }  # fmt: skip
        try:
            (self._state / "runs").mkdir(exist_ok=True)
            return outcome(action, self._play(json.dumps(job)))
        except (OSError, ValueError, TypeError, KeyError) as error:
            return Outcome(FAILED, f"the playbook couldn't be run: {error}"[:500], {})

    def _play(self, job: str) -> Run:
        with subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        ) as process:  # fmt: skip
            try:
                told, complaint = process.communicate(job, timeout=self._limit + _GRACE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                return Run("timeout")
        if process.returncode:
            raise ValueError(complaint.strip()[-400:] or f"exit status {process.returncode}")
        return Run(**json.loads(told))
