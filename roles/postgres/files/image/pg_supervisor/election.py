"""Votes, given and asked for."""

from __future__ import annotations

import logging
import threading
import time

from . import timelines
from .local import Local, LocalError
from .member import Member
from .peers import Peers
from .report import Report, State
from .server import Server
from .settings import Settings
from .votes import Answer, Ballot, BallotBox, Request, refusal

log = logging.getLogger(__name__)


class Election:
    """Both sides of an election: this member as voter and as candidate."""

    def __init__(
        self, settings: Settings, member: Member, server: Server, local: Local, box: BallotBox, peers: Peers
    ) -> None:
        self._settings = settings
        self._member = member
        self._server = server
        self._local = local
        self._box = box
        self._peers = peers
        self._voting = threading.Lock()
        self._campaigning = threading.Lock()
        self._cut_off = False

    def answer(self, request: Request) -> Answer:
        """Vote for request, or say why not. A vote is on disk before it is given.

        A standby first stops streaming from the primary of before: what that one writes from now on could miss in
        the candidate, so nobody may confirm it.
        """
        with self._voting:
            reason = self._refusal(request)
            if request.trial:
                return Answer(not reason, reason, self._member.report.term)
            if not reason and self._member.report.state is State.STANDBY:
                try:
                    self._stop_streaming()
                except LocalError as error:
                    reason = f"I can't stop streaming: {error}"
                reason = reason or self._refusal(request)
            if not reason:
                self._box.write(Ballot(request.term, request.candidate))
                self._member.set(term=request.term, floor=request.term)
            known = max(self._member.report.term, self._box.read().term)
        log.info("vote for %s in term %d: %s", request.candidate, request.term, reason or "granted")
        return Answer(not reason, reason, known)

    def _refusal(self, request: Request) -> str:
        if request.candidate not in self._settings.members:
            return "I don't know you"
        own = self._member.refresh()
        return refusal(request, own, self._box.read(), self._settings.silence_seconds)

    def follow_elected(self, elected: Report) -> None:
        """Stream from the primary that came of the vote, if this member stopped streaming for that vote.

        repmgrd orders the same, but later: until then no commit could be confirmed. Raises LocalError.
        """
        if not self._cut_off or elected.timeline < self._box.read().floor:
            return
        with self._voting:
            log.info("streaming from %s, primary on timeline %d", elected.name, elected.timeline)
            self.stream_from(elected.name)
            self._cut_off = False

    def stream_from(self, name: str) -> None:
        """Stream from another member from now on. Raises LocalError."""
        self._stream(f"{self._settings.conninfo(name)} application_name={self._settings.name}")

    def _stream(self, conninfo: str) -> None:
        # No utility statement takes parameters; names and paths of ours hold no quotes.
        self._local.rows(f"ALTER SYSTEM SET primary_conninfo = '{conninfo}'")
        self._local.rows("SELECT pg_reload_conf()")

    def _stop_streaming(self) -> None:
        self._cut_off = True
        self._stream("")
        for _ in range(30):
            if not self._local.rows("SELECT 1 FROM pg_stat_wal_receiver"):
                return
            time.sleep(0.1)
        raise LocalError("the receiver goes on")

    def campaign(self) -> int:
        """Ask all members for their votes. Returns the term won, 0 if lost.

        A primary that can still be heard is not challenged, and a vote that would be lost isn't held.
        """
        with self._campaigning:
            reports = self._peers.ask_now()
            heard = [report.name for report in reports.values() if report.state is State.PRIMARY]
            if heard:
                log.info("no election: %s is primary", heard[0])
                return 0
            terms = [report.term for report in reports.values()]
            term = max([self._member.report.term, timelines.known(self._server.wal), *terms]) + 1
            won = self._count(term, trial=True) and self._count(term, trial=False)
            if not won and self._box.read() == Ballot(term, self._settings.name):
                self._box.write(Ballot(term, self._settings.name, void=True))
            return term if won else 0

    def _count(self, term: int, trial: bool) -> bool:
        """Hold one round of votes in term. True for a majority."""
        if not trial and self._member.report.state is State.STANDBY:
            with self._voting:
                self._stop_streaming()
        own = self._member.refresh()
        request = Request(own.name, term, own.position, trial)
        answers = [self.answer(request)]
        if answers[0].granted:
            answers += self._peers.ask_votes(request, self._settings.majority - 1)
        votes, members = sum(answer.granted for answer in answers), len(self._settings.members)
        refusals = "; ".join(answer.reason for answer in answers if not answer.granted)
        what = "trial" if trial else "election"
        log.info("%s in term %d: %d of %d votes %s", what, term, votes, members, refusals and f"({refusals})")
        return votes >= self._settings.majority
