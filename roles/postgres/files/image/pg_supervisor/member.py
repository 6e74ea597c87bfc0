"""The member's own report, kept up to date."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from . import timelines
from .local import Local, LocalError
from .report import Report, State, parse_lsn
from .server import Server
from .settings import Settings
from .votes import BallotBox

log = logging.getLogger(__name__)

QUESTION = """
SELECT pg_is_in_recovery(),
       CASE WHEN pg_is_in_recovery()
            THEN greatest(pg_last_wal_replay_lsn(), coalesce(pg_last_wal_receive_lsn(), '0/0'))
            ELSE pg_current_wal_flush_lsn() END,
       (SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = ANY (%s)),
       coalesce((SELECT sender_host FROM pg_stat_wal_receiver WHERE status = 'streaming'), ''),
       coalesce((SELECT extract(epoch FROM clock_timestamp() - last_msg_receipt_time)
                 FROM pg_stat_wal_receiver), 0)
"""
REGISTERED = "SELECT 1 FROM repmgr.nodes WHERE node_name = %s AND type = 'primary' AND active"
SERVING = (State.STANDBY, State.PRIMARY)
# A server that hasn't answered for so long must not be taken for a working primary.
MUTE_SECONDS = 4.0


class Member:
    """The report of the own member, safe to share between threads."""

    def __init__(self, settings: Settings, local: Local, server: Server, box: BallotBox) -> None:
        self._settings = settings
        self._local = local
        self._server = server
        self._box = box
        # Notified of every change. Reentrant, as those who wait for one read the report.
        self._lock = threading.Condition()
        self._refreshing = threading.Lock()
        self._report = Report(settings.name)
        self._refreshed = 0.0

    @property
    def report(self) -> Report:
        """The last report. A serving member whose server is mute calls itself starting."""
        with self._lock:
            report, refreshed = self._report, self._refreshed
        if report.state in SERVING and time.monotonic() - refreshed > MUTE_SECONDS:
            return report.but(state=State.STARTING)
        return report

    def set(self, **changes: Any) -> None:
        """Change fields of the report."""
        with self._lock:
            before, self._report = self._report, self._report.but(**changes)
            after = self._report
            self._refreshed = time.monotonic()
            self._lock.notify_all()
        if after.state is not before.state:
            log.info("%s, was %s: %s", after.state, before.state, after.dump())

    def wait_unlike(self, gist: str, seconds: float) -> None:
        """Wait until the report has another gist, at most so many seconds."""
        with self._lock:
            self._lock.wait_for(lambda: self.report.gist != gist, seconds)

    def note_term(self) -> None:
        """Take term and floor from the last promise on disk. Raises ValueError if that can't be read."""
        ballot, timeline = self._box.read(), self.report.timeline
        self.set(term=max(ballot.term, timeline), floor=max(ballot.floor, timeline))

    def refresh(self, max_age: float = 0.0) -> Report:
        """The report, asked anew from the server unless it is younger than max_age seconds."""
        with self._refreshing:
            with self._lock:
                report, refreshed = self._report, self._refreshed
            if report.state in SERVING and time.monotonic() - refreshed >= max_age:
                try:
                    self._ask(report)
                except (LocalError, OSError) as error:
                    log.warning("the server doesn't answer: %s", str(error)[:200])
        return self.report

    def _ask(self, before: Report) -> None:
        recovering, end, receivers, upstream, silence = self._local.rows(
            QUESTION, (list(self._settings.members),)
        )[0]
        place = timelines.position(self._server.wal, parse_lsn(end))
        newest = timelines.newest(self._server.wal)
        ballot = self._box.read()
        state = State.STANDBY if recovering else State.PRIMARY
        registered = state is State.PRIMARY and (before.registered or self._registered())
        with self._lock:
            serving = self._report.state in SERVING
        if serving:
            self.set(
                state=state,
                timeline=newest,
                position=place,
                term=max(newest, ballot.term),
                floor=max(newest, ballot.floor),
                registered=registered,
                receivers=int(receivers),
                upstream=str(upstream),
                silence=float(silence),
            )

    def _registered(self) -> bool:
        try:
            return bool(self._local.once("repmgr", REGISTERED, (self._settings.name,)))
        except LocalError:
            return False
