"""What repmgrd may order: an election, a promotion, to follow another member."""

from __future__ import annotations

import logging
import time

from . import timelines
from .commands import CommandError
from .election import Election
from .local import LocalError
from .member import Member
from .peers import Peers
from .repmgr import Repmgr
from .report import State
from .server import Server
from .settings import Settings
from .votes import BallotBox

log = logging.getLogger(__name__)

# A term won so long ago may have been lost since.
PROMISE_SECONDS = 60.0


class Orders:
    """Carries repmgrd's orders out, as far as the votes allow. Each returns whether it was done."""

    def __init__(
        self,
        settings: Settings,
        member: Member,
        server: Server,
        repmgr: Repmgr,
        box: BallotBox,
        peers: Peers,
        election: Election,
    ) -> None:
        self._settings = settings
        self._member = member
        self._server = server
        self._repmgr = repmgr
        self._box = box
        self._peers = peers
        self._election = election
        self._won = (0, 0.0)

    @property
    def members(self) -> int:
        """How many members there are."""
        return len(self._settings.members)

    def validate(self) -> bool:
        """Whether this member may be promoted: only with a majority's votes."""
        if self._member.report.state is not State.STANDBY:
            return False
        try:
            term = self._election.campaign()
        except LocalError as error:
            log.error("no election: %s", error)
            return False
        self._won = (term, time.monotonic())
        return term > 0

    def promote(self) -> bool:
        """Promote onto the timeline that was won."""
        (term, at), self._won = self._won, (0, 0.0)
        if not term or time.monotonic() - at > PROMISE_SECONDS:
            log.error("no promotion: no election won lately")
            return False
        try:
            with timelines.reserved(self._server.wal, term):
                self._repmgr.promote()
        except (OSError, ValueError, CommandError) as error:
            log.error("no promotion: %s", error)
            return False
        self._member.refresh()
        return True

    def follow(self, node_id: int) -> bool:
        """Follow another member, but never a primary older than the promised term."""
        name = self._settings.members[node_id - 1]
        report = self._peers.ask_now().get(name)
        floor = self._box.read().floor
        if report and report.state is State.PRIMARY and report.timeline < floor:
            log.error("not following %s: it is on timeline %d, I voted in %d", name, report.timeline, floor)
            return False
        try:
            self._repmgr.follow(node_id)
        except CommandError as error:
            log.error("not following %s: %s", name, error)
            return False
        return True
