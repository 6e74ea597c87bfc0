"""Runs a member: boots it, watches over it, and stops it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import loglines

from . import settings as settings_file
from .boot import Boot
from .commands import CommandError
from .election import Election
from .journal import Journal
from .local import Local, LocalError
from .member import SERVING, Member
from .orders import Orders
from .peers import Peers
from .repmgr import Repmgr
from .report import Report, State, leader
from .seal import Seal
from .server import Server
from .settings import Settings
from .turn import patience
from .votes import BallotBox
from .watch import Duty, Verdict, Watch
from .web import serve

log = logging.getLogger("supervisor")

CONFIG = Path(os.environ.get("SUPERVISOR_CONFIG", "/etc/postgres/supervisor.toml"))
WATCH_EVERY = 0.5
# A watch that hasn't gone round for so long hangs, and the health check says so.
HEARTBEAT_SECONDS = 60.0
# A server that dies again so soon is left to a fresh start, away from the network.
REVIVE_SECONDS = 60.0


class Supervisor:
    """Everything that runs in the container, and the order of its life."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.local = Local(settings)
        self.journal = Journal(settings.journal)
        self.server = Server(settings, self.local)
        self.repmgr = Repmgr(settings, self.server)
        self.box = BallotBox(settings.volume / "ballot.json")
        self.member = Member(settings, self.local, self.server, self.box)
        self.seal = Seal(settings.password)
        self.peers = Peers(settings.others, settings.port, self.seal)
        self.election = Election(settings, self.member, self.server, self.local, self.box, self.peers)
        self.boot = Boot(
            settings, self.member, self.server, self.local, self.repmgr, self.peers, self.election
        )
        self.orders = Orders(
            settings, self.member, self.server, self.repmgr, self.box, self.peers, self.election
        )
        self.watch = Watch(settings)
        self.beat = time.monotonic()
        self.revived = 0.0
        self.stopping = threading.Event()
        self.daemon: subprocess.Popen[bytes] | None = None

    def is_alive(self) -> bool:
        """For the health check: true also while the member waits for others, whatever its role."""
        serving = self.member.report.state in SERVING
        beating = not serving or time.monotonic() - self.beat < HEARTBEAT_SECONDS
        return beating and self.journal.is_alive()

    def run(self) -> int:
        """Serve until the member must stop. Returns the exit status."""
        signal.signal(signal.SIGTERM, self._terminate)
        signal.signal(signal.SIGINT, self._terminate)
        self.journal.open()
        self.repmgr.write_files()
        self.member.note_term()
        ear = (self.settings.port, self.member, self.election, self.orders, self.seal, self.is_alive)
        threading.Thread(target=serve, args=ear, daemon=True).start()
        self.peers.watch()
        began = time.monotonic()
        self.boot.run()
        log.info("in place after %.1f s", time.monotonic() - began)
        self.member.refresh()
        threading.Thread(target=self._keep_daemon, daemon=True).start()
        last = State.STANDBY
        while True:
            self.beat = time.monotonic()
            if self.server.pid() is None:
                self._revive()
            report = self.member.refresh()
            peers = self.peers.reports()
            self._follow_elected(report, peers)
            if report.state is State.PRIMARY is not last:
                self._open_roles()
            last = report.state
            self._obey(self.watch.judge(report, peers, time.monotonic()), report)
            time.sleep(WATCH_EVERY)

    def _open_roles(self) -> None:
        try:
            self.server.open_roles()
        except LocalError as error:
            log.error("the forum's role isn't ready: %s", error)

    def _follow_elected(self, own: Report, peers: Mapping[str, Report]) -> None:
        elected = leader(peers.values(), own.floor)
        if elected and own.state is State.STANDBY:
            try:
                self.election.follow_elected(elected)
            except LocalError as error:
                log.warning("%s", error)

    def _revive(self) -> None:
        """Start the server again after it died alone: its recovery takes less time than a fail-over.

        Only once a minute, and not if another was elected meanwhile. While the server recovers, the member is
        nobody's primary and gives no vote.
        """
        before, now = self.member.report, time.monotonic()
        recent = self.revived and now - self.revived < REVIVE_SECONDS
        overtaken = leader(self.peers.reports().values(), before.timeline + 1)
        if before.state not in SERVING or recent or overtaken:
            self._leave("the server is gone", "immediate", 1)
        self.revived = now
        log.warning("the server is gone: starting it again")
        self.member.set(state=State.JOINING, registered=False)
        for attempt in range(5):
            try:
                # Its pid file stays: with it the server refuses to start beside what is left of the old one.
                self.server.start()
                break
            except CommandError as error:
                log.warning("attempt %d: %s", attempt + 1, error)
                time.sleep(0.5)
        else:
            self._leave("the server doesn't start again", "immediate", 1)
        self.member.set(state=before.state)

    def _obey(self, verdict: Verdict, own: Report) -> None:
        if verdict.duty is Duty.NOTHING:
            return
        log.warning("%s: %s", verdict.duty.name.lower(), verdict.reason)
        if verdict.duty is Duty.STOP:
            self._start_over(verdict.reason)
        try:
            if verdict.duty is Duty.FOLLOW:
                self.repmgr.follow(self.settings.members.index(verdict.whom) + 1)
            elif verdict.duty is Duty.CASCADE:
                self.election.stream_from(verdict.whom)
            elif term := self.election.campaign():
                self.boot.promote(term)
        except (CommandError, LocalError, ValueError) as error:
            log.warning("%s failed: %s", verdict.duty.name.lower(), error)

    def _keep_daemon(self) -> None:
        while not self.stopping.is_set():
            self.daemon = self.repmgr.daemon()
            status = self.daemon.wait()
            if self.stopping.wait(2):
                return
            log.warning("repmgrd ended with %d", status)
            # It refuses to start while repmgr's records say something else than the server does.
            try:
                if self.member.report.state is State.PRIMARY:
                    self.repmgr.register_primary()
                elif self.member.report.state is State.STANDBY:
                    self.repmgr.register_standby()
            except CommandError as error:
                log.warning("%s", error)

    def _terminate(self, number: int, frame: object) -> None:
        # In a thread: the watch may hold a lock that stopping needs.
        threading.Thread(target=self._take_turn, args=(signal.Signals(number).name,)).start()

    def _take_turn(self, reason: str) -> None:
        """Stop once the others can do without this member; at once when told a second time."""
        began, again = time.monotonic(), self.member.report.leaving
        self.member.set(leaving=True)
        while not again and time.monotonic() - began < patience(
            self.member.report, self.peers.reports(), self.settings
        ):
            time.sleep(WATCH_EVERY)
        self._leave(f"{reason}, after {time.monotonic() - began:.0f} s", "fast", 0)

    def _leave(self, reason: str, mode: str, status: int) -> None:
        """Stop everything and end the process."""
        try:
            self._stop_all(reason, mode)
        finally:
            os._exit(status)

    def _start_over(self, reason: str) -> None:
        """Stop everything and boot anew in this container: a node that is cut off has no manager to start another."""
        if not self._stop_all(reason, "immediate"):
            os._exit(1)
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606  # a shell would add nothing but itself

    def _stop_all(self, reason: str, mode: str) -> bool:
        """Stop repmgrd and the server. Returns False if the server still runs."""
        log.warning("stopping: %s", reason)
        self.stopping.set()
        self.member.set(state=State.STOPPING)
        if self.daemon:
            self.daemon.kill()
            self.daemon.wait()
        try:
            self.server.stop(mode)
        except CommandError as error:
            log.error("%s", error)
            return False
        finally:
            self.journal.drain()
            logging.shutdown()
        return True


def main() -> int:
    """Run the supervisor. Returns the exit status."""
    loglines.configure("postgres.supervisor")
    try:
        settings = settings_file.load(CONFIG, socket.gethostname())
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.error("%s: %s", CONFIG, error)
        return 78
    loglines.hide((settings.password, settings.app_password))
    # repmgr uses its own setting for it in some commands only.
    os.environ["PGPASSFILE"] = str(settings.passfile)
    try:
        return Supervisor(settings).run()
    except (OSError, ValueError, CommandError, LocalError) as error:
        log.error("giving up: %s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
