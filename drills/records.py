"""What a run writes down: one JSON object per line, each with `kind` and times in seconds since the epoch."""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Outcome(StrEnum):
    """What became of one attempt to post."""

    ACKNOWLEDGED = "acknowledged"
    """The forum answered with the post: it must be there, exactly once."""
    FAILED = "failed"
    """The forum answered with an error: it may be there, at most once."""
    UNKNOWN = "unknown"
    """Sent and never answered: it may be there, at most once."""
    UNSENT = "unsent"
    """No edge address took the connection: it must not be there."""


class Sight(StrEnum):
    """What the author saw when he read the thread right after his acknowledged post."""

    SEEN = "seen"
    STALE = "stale"
    FAILED = "failed"


@dataclass(frozen=True)
class Attempt:
    """One attempt to post. status is 0 without an answer; post is the id of an acknowledged post."""

    marker: str
    user: str
    thread: int
    began: float
    ended: float
    outcome: Outcome
    edge: str = ""
    status: int = 0
    why: str = ""
    post: int = 0


@dataclass(frozen=True)
class Reading:
    """One reading by an author of the thread that he just wrote to."""

    marker: str
    user: str
    began: float
    ended: float
    sight: Sight
    edge: str = ""
    why: str = ""


@dataclass(frozen=True)
class SignIn:
    """A user had lost his session and tried to sign in again."""

    user: str
    began: float
    ended: float
    accepted: bool
    why: str = ""


@dataclass(frozen=True)
class Skip:
    """A moment at which a post was due and every user was still waiting for an answer."""

    at: float


@dataclass(frozen=True)
class Event:
    """Something that the playbook did: name is `failure`, `restored`, `healed` and the like."""

    name: str
    began: float
    ended: float
    what: str = ""


@dataclass(frozen=True)
class TierSample:
    """One look at all tiers. tiers: name -> reasons why it isn't whole (none: it is)."""

    at: float
    tiers: Mapping[str, tuple[str, ...]]


Record = Attempt | Reading | SignIn | Skip | Event | TierSample
KINDS: dict[str, type[Record]] = {
    kind.__name__.lower(): kind for kind in (Attempt, Reading, SignIn, Skip, Event, TierSample)
}


class Journal:
    """A file of records that several threads append to, each line written whole and at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", buffering=1)
        self._lock = threading.Lock()

    def write(self, record: Record) -> None:
        """Append one record."""
        line = json.dumps({"kind": type(record).__name__.lower(), **asdict(record)})
        with self._lock:
            self._file.write(line + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_records(directory: Path) -> list[Record]:
    """All records of a run's directory (every *.jsonl in it); a last line that was cut off is left out."""
    records = []
    for path in sorted(directory.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                fields = json.loads(line)
            except ValueError:
                continue
            records.append(_record(fields))
    return records


def _record(fields: dict[str, Any]) -> Record:
    kind = KINDS[fields.pop("kind")]
    if kind is Attempt:
        fields["outcome"] = Outcome(fields["outcome"])
    elif kind is Reading:
        fields["sight"] = Sight(fields["sight"])
    elif kind is TierSample:
        fields["tiers"] = {tier: tuple(reasons) for tier, reasons in fields["tiers"].items()}
    return kind(**fields)


def now() -> float:
    """Seconds since the epoch; all processes of a run are on one machine and share this clock."""
    return time.time()
