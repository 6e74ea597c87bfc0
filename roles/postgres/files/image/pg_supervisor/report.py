"""What a member says about itself, and how two positions in the log compare."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where a member is in its life."""

    STARTING = "starting"
    EMPTY = "empty"
    DAMAGED = "damaged"
    WAITING = "waiting"
    JOINING = "joining"
    STANDBY = "standby"
    PRIMARY = "primary"
    STOPPING = "stopping"


@dataclass(frozen=True, order=True)
class Position:
    """The last record in a member's log: the timeline it was written on, then its end as a byte offset.

    A later timeline always wins, as a later term does in Raft: it was begun by a majority's choice.
    """

    timeline: int = 0
    lsn: int = 0


@dataclass(frozen=True)
class Report:
    """A member's answer to 'how are you'.

    timeline: the newest it has log of. term: the newest that it has voted in. floor: the oldest whose primary it
    may feed; older ones it has voted against.
    registered: repmgr's records name it as primary. receivers: standbys that stream from it.
    upstream: whom it streams from, '' for nobody; silence: seconds since that one spoke.
    leaving: it was told to stop, and serves only until it may.
    """

    name: str
    state: State = State.STARTING
    timeline: int = 0
    position: Position = field(default_factory=Position)
    term: int = 0
    floor: int = 0
    registered: bool = False
    receivers: int = 0
    upstream: str = ""
    silence: float = 0.0
    leaving: bool = False

    @property
    def gist(self) -> str:
        """What others act on, as one word; where the log ends changes all the time and is left out."""
        parts = (self.state, self.timeline, self.term, self.floor, self.registered, self.receivers)
        return "/".join(str(part) for part in (*parts, self.upstream, self.leaving))

    def but(self, **changes: Any) -> Report:
        """The same report with some fields changed."""
        return replace(self, **changes)

    def dump(self) -> str:
        """The report as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str | bytes) -> Report:
        """The report in a peer's JSON. Raises ValueError, TypeError or KeyError if it isn't one."""
        values: Mapping[str, Any] = json.loads(text)
        place = values["position"]
        return cls(
            name=str(values["name"]),
            state=State(values["state"]),
            timeline=int(values["timeline"]),
            position=Position(int(place["timeline"]), int(place["lsn"])),
            term=int(values["term"]),
            floor=int(values["floor"]),
            registered=bool(values["registered"]),
            receivers=int(values["receivers"]),
            upstream=str(values["upstream"]),
            silence=float(values["silence"]),
            # A member of the version before doesn't say so.
            leaving=bool(values.get("leaving", False)),
        )


def parse_lsn(text: str) -> int:
    """PostgreSQL's 'X/Y' as a byte offset. Raises ValueError."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def leader(reports: Iterable[Report], floor: int) -> Report | None:
    """The primary on the newest timeline among reports, None if there is none on floor or newer."""
    primaries = [report for report in reports if report.state is State.PRIMARY and report.timeline >= floor]
    return max(primaries, key=lambda report: report.timeline, default=None)
