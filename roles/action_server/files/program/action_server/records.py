"""What the server keeps of alarms and actions, as its parts hand it to each other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: An action's states: a partly done one goes on being tried until every machine has it.
QUEUED, RUNNING, PARTLY, DONE, REFUSED, FAILED = "queued", "running", "partly", "done", "refused", "failed"
SCALE, BLOCK, ALLOW, SYNC = "scale", "block", "allow", "sync"


def canonical(instance: Mapping[str, str]) -> str:
    """An instance as the text that it's known by."""
    return json.dumps(dict(instance), sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True)
class Event:
    """What an engine tells of an alarm. at: seconds since the epoch of the newest point that it is of."""

    engine: str
    level: str
    firing: bool
    at: float
    instance: Mapping[str, str]
    value: float | None


@dataclass(frozen=True)
class Alarm:
    """An alarm, from its first event to its recovery. seen: the newest time that an event of it told."""

    id: int
    level: str
    instance: Mapping[str, str]
    opened: float
    seen: float
    closed: float | None = None
    value: float | None = None
    why: str = ""

    @property
    def where(self) -> str:
        """Its instance in words; empty where none is told apart."""
        return " ".join(value for value in self.instance.values() if value)


@dataclass(frozen=True)
class Wish:
    """What shall be done: scale a service by 1 or -1, block or allow an address, bring the lists together."""

    kind: str
    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Action:
    """A wish and what became of it. due: not before; attempts: runs that were begun."""

    id: int
    alarm: int | None
    kind: str
    target: str
    arguments: Mapping[str, Any]
    by: str
    asked: float
    state: str
    reason: str = ""
    attempts: int = 0
    due: float = 0.0
    began: float | None = None
    ended: float | None = None
    result: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the machines know it by: the same name again changes nothing there."""
        return f"{self.id}-{int(self.asked)}"

    @property
    def what(self) -> str:
        """It in words."""
        if self.kind == SCALE:
            return f"{self.target} {self.arguments['by']:+d}"
        return f"{self.kind} {self.target}".strip()

    @property
    def until(self) -> float | None:
        """When a block ends, if that is known."""
        return self.result.get("until")


@dataclass(frozen=True)
class Message:
    """What waits to be told in Slack."""

    id: int
    level: str
    text: str
    asked: float
    attempts: int
