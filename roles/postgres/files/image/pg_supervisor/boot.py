"""From a fresh container to a member that serves: whom to join, or whether to lead."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from . import timelines
from .commands import CommandError
from .election import Election
from .local import Local, LocalError
from .member import Member
from .peers import Peers
from .repmgr import Repmgr
from .report import Report, State, leader
from .server import QUARANTINE, Server
from .settings import Settings

log = logging.getLogger(__name__)

# Data that doesn't start may do so another time (a full disk, too little memory).
RETRY_SECONDS = 120.0


class Do(Enum):
    """The next step of a starting member."""

    WAIT = auto()
    INITIALISE = auto()
    CLONE = auto()
    REJOIN = auto()
    CAMPAIGN = auto()


@dataclass(frozen=True)
class Step:
    """A step, and the member whom it concerns."""

    do: Do
    whom: str = ""


def decide(own: Report, peers: Mapping[str, Report], waited: float, settings: Settings) -> Step:
    """What a starting member does next.

    own.state is EMPTY (never had data), DAMAGED (data that can't be trusted) or WAITING (sound data, stopped).
    peers: reports by name of those that can be heard. waited: seconds since the own start.
    """
    first = leader(peers.values(), own.floor)
    if first:
        if not first.registered:
            return Step(Do.WAIT)
        return Step(Do.REJOIN if own.state is State.WAITING else Do.CLONE, first.name)
    everyone = set(peers) == set(settings.others)
    if own.state is State.EMPTY:
        alone = everyone and all(peer.state is State.EMPTY for peer in peers.values())
        return Step(Do.INITIALISE if alone and own.name == settings.members[0] else Do.WAIT)
    if own.state is not State.WAITING:
        return Step(Do.WAIT)
    voters = [peer for peer in peers.values() if peer.state in (State.WAITING, State.STANDBY)]
    if 1 + len(voters) < settings.majority or not is_foremost(own, voters, settings):
        return Step(Do.WAIT)
    # A running standby has a repmgrd that decides; without one nobody else will.
    led = any(peer.state is State.STANDBY for peer in voters)
    patience = settings.grace_seconds if led else 0.0 if everyone else settings.settle_seconds
    return Step(Do.CAMPAIGN if waited >= patience else Do.WAIT)


def is_foremost(own: Report, others: list[Report], settings: Settings) -> bool:
    """True if own has the most log; among equals the first in the list of members has precedence."""

    def rank(report: Report) -> tuple[int, int, int]:
        return (report.position.timeline, report.position.lsn, -settings.members.index(report.name))

    return all(rank(own) > rank(other) for other in others)


class Boot:
    """Carries the steps out."""

    def __init__(
        self,
        settings: Settings,
        member: Member,
        server: Server,
        local: Local,
        repmgr: Repmgr,
        peers: Peers,
        election: Election,
    ) -> None:
        self._settings = settings
        self._member = member
        self._server = server
        self._local = local
        self._repmgr = repmgr
        self._peers = peers
        self._election = election
        self._failed_rejoins = 0

    def run(self) -> None:
        """Return once the server runs in its place. Raises CommandError, LocalError, OSError or ValueError."""
        self._look()
        began = time.monotonic()
        while True:
            own = self._member.report
            waited = time.monotonic() - began
            step = decide(own, self._peers.reports(), waited, self._settings)
            if step.do is Do.WAIT and own.state is State.DAMAGED and waited > RETRY_SECONDS:
                raise CommandError("nobody to clone from: trying the own data again")
            if step.do is not Do.WAIT:
                log.info("next: %s %s", step.do.name.lower(), step.whom)
                try:
                    if self._take(step):
                        return
                except (CommandError, LocalError) as error:
                    log.warning("%s failed: %s", step.do.name.lower(), error)
                    self._server.stop("fast")
                    self._member.set(state=own.state)
                    time.sleep(1.5)
            time.sleep(0.5)

    def _look(self) -> None:
        if not self._server.has_data():
            self._member.set(state=State.EMPTY)
        elif self._server.is_damaged():
            self._member.set(state=State.DAMAGED)
        else:
            self._server.forget_pid()
            try:
                place = self._server.settle()
            except (CommandError, LocalError) as error:
                log.error("the data doesn't start: %s", error)
                self._member.set(state=State.DAMAGED)
            else:
                timeline = timelines.newest(self._server.wal)
                self._member.set(state=State.WAITING, position=place, timeline=timeline)
        self._member.note_term()

    def _take(self, step: Step) -> bool:
        if step.do is Do.INITIALISE:
            self._initialise()
        elif step.do is Do.CLONE:
            self._clone(step.whom)
        elif step.do is Do.REJOIN:
            return self._rejoin(step.whom)
        else:
            return self._lead()
        return True

    def _initialise(self) -> None:
        self._member.set(state=State.JOINING)
        self._server.initialise()
        self._server.start()
        self._server.open_roles()
        self._repmgr.register_primary()
        self._member.set(state=State.PRIMARY)

    def _clone(self, source: str) -> None:
        self._member.set(state=State.JOINING)
        self._repmgr.clone(source)
        self._server.start()
        self._repmgr.register_standby()
        self._member.set(state=State.STANDBY)

    def _rejoin(self, primary: str) -> bool:
        self._member.set(state=State.JOINING)
        try:
            self._repmgr.rejoin(primary)
        except CommandError as error:
            self._failed_rejoins += 1
            log.warning("rejoin %d failed: %s", self._failed_rejoins, error)
            self._server.stop("fast")
            if self._failed_rejoins >= 3:
                self._clone(primary)
                return True
            self._member.set(state=State.DAMAGED if self._server.is_damaged() else State.WAITING)
            return False
        self._repmgr.register_standby()
        self._member.set(state=State.STANDBY)
        return True

    def _lead(self) -> bool:
        term = self._election.campaign()
        if not term:
            return False
        self._member.set(state=State.JOINING)
        self._server.be_standby()
        self._server.start(*QUARANTINE[1:])
        self.promote(term)
        self._member.set(state=State.PRIMARY)
        return True

    def promote(self, term: int) -> None:
        """Make the running standby the primary of the timeline that it was elected for. Raises LocalError, ..."""
        with timelines.reserved(self._server.wal, term):
            self._local.rows("SELECT pg_promote(true, 4)")
            while self._local.rows("SELECT pg_is_in_recovery()")[0][0]:
                time.sleep(0.1)
        self._repmgr.register_primary()
