"""Who may become primary: one vote per term, kept on disk, never for a candidate that has less log."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from .report import Position, Report, State


@dataclass(frozen=True)
class Ballot:
    """A promise: in this term (a timeline's number) the member voted for candidate and nobody else.

    void: the member voted for itself and lost, so nobody will ever lead in this term. The number stays used, but
    the member may go on with an older primary.
    """

    term: int = 0
    candidate: str = ""
    void: bool = False

    @property
    def floor(self) -> int:
        """The oldest timeline whose primary the member may feed."""
        return 0 if self.void else self.term


@dataclass(frozen=True)
class Request:
    """A candidate's call for a vote: the term it wants, and the end of its own log.

    trial: only asks whether the vote would be given, so that a candidate without a chance disturbs nobody.
    """

    candidate: str
    term: int
    position: Position
    trial: bool = False

    def dump(self) -> str:
        """The request as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str | bytes) -> Request:
        """The request in JSON. Raises ValueError, TypeError or KeyError if it isn't one."""
        values = json.loads(text)
        place = values["position"]
        return cls(
            str(values["candidate"]),
            int(values["term"]),
            Position(int(place["timeline"]), int(place["lsn"])),
            values["trial"] is True,
        )


@dataclass(frozen=True)
class Answer:
    """A voter's answer; term is the newest it knows, so that a refused candidate can ask above it."""

    granted: bool
    reason: str
    term: int

    def dump(self) -> str:
        """The answer as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str | bytes) -> Answer:
        """The answer in JSON. Raises ValueError, TypeError or KeyError if it isn't one."""
        values = json.loads(text)
        return cls(values["granted"] is True, str(values["reason"]), int(values["term"]))


class BallotBox:
    """The member's last promise, in a file that survives a crash of the machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Ballot:
        """The last promise; an empty one if there was none. Raises ValueError for a file that can't be read."""
        try:
            values = json.loads(self._path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return Ballot()
        return Ballot(int(values["term"]), str(values["candidate"]), values["void"] is True)

    def write(self, ballot: Ballot) -> None:
        """Keep ballot; on return it is on disk. Raises OSError."""
        draft = self._path.with_suffix(".new")
        with draft.open("w", encoding="ascii") as file:
            file.write(json.dumps(asdict(ballot)))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def refusal(request: Request, own: Report, ballot: Ballot, silence_seconds: float) -> str:
    """Why own must not vote for request, '' if it may.

    silence_seconds: as long as the present primary spoke within this time, there is nothing to elect.
    """
    if own.state is State.PRIMARY:
        return "I am primary"
    if own.state not in (State.STANDBY, State.WAITING):
        return f"I am {own.state}: my log doesn't count"
    if request.term <= own.timeline:
        return f"I have timeline {own.timeline} already"
    if request.term < ballot.term:
        return f"I promised term {ballot.term}"
    if request.term == ballot.term and (ballot.candidate != request.candidate or ballot.void):
        return f"I voted for {ballot.candidate}"
    # A standby that feeds another speaks to it also when the primary is dead.
    if own.upstream and own.upstream != request.candidate and own.silence < silence_seconds:
        return f"{own.upstream} speaks to me"
    if request.position < own.position:
        return "I have more log"
    return ""
