"""Runs Pgpool and keeps its belief equal to the truth."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import loglines

from . import settings as settings_file
from .follow import DisobeyedError, Do, Order, Patience, Words, decide, primary_of
from .pool import PcpError, Pool, figures
from .settings import Settings

log = logging.getLogger("follower")

CONFIG = Path(os.environ.get("FOLLOWER_CONFIG", "/etc/pgpool/follower.toml"))


class Follower:
    """The loop beside Pgpool."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = Pool(settings)
        self._words = Words(settings)
        self._beat = settings.run / "beat"
        self._patience = Patience(settings.obey_seconds)

    def run(self) -> int:
        """Serve until Pgpool ends. Returns the exit status."""
        signal.signal(signal.SIGTERM, self._terminate)
        signal.signal(signal.SIGINT, self._terminate)
        self._pool.prepare()
        self._words.watch()
        self._pool.start()
        settled: int | None = None
        checked = 0.0
        while (status := self._pool.exit_status()) is None:
            time.sleep(self._settings.ask_seconds)
            primary = primary_of(self._words.fresh())
            now = time.monotonic()
            # Pgpool is asked when the primary changed, and now and then: each question is a process.
            if now - checked < self._settings.check_seconds and primary in (settled, None):
                continue
            try:
                settled = primary if self._tell() else None
            except PcpError as error:
                log.warning("%s", error)
                self._forget()
                settled = None
            except DisobeyedError as error:
                # Its main process hangs, and takes all sessions with it; the swarm starts another one in a second.
                log.error("%s: starting again", error)
                self._pool.stop()
            checked = now
        self._pool.stop()
        log.error("Pgpool ended with %d", status)
        return 1

    def _tell(self) -> bool:
        """Give Pgpool its next order. True if there was none to give. Raises PcpError or DisobeyedError."""
        backends = self._pool.backends()
        self._beat.touch()
        self._publish(figures(backends))
        order: Order = decide(self._words.fresh(), backends)
        self._patience.judge(order, time.monotonic())
        if order.do is Do.NOTHING:
            return True
        log.info("%s %s", order.do.name.lower(), self._settings.members[order.number])
        if order.do is Do.ATTACH:
            self._pool.attach(order.number)
        else:
            self._pool.promote(order.number)
        return False

    def _publish(self, text: str) -> None:
        """Leave the figures for Telegraf; that they can't be left is no reason to end Pgpool."""
        fresh = self._settings.figures.with_suffix(".new")
        try:
            fresh.write_text(text, encoding="ascii")
            fresh.rename(self._settings.figures)
        except OSError as error:
            log.warning("no figures for Telegraf: %s", error)
            self._forget()

    def _forget(self) -> None:
        """Leave silence for Telegraf, and not what was true before."""
        with contextlib.suppress(OSError):
            self._settings.figures.unlink(missing_ok=True)

    def _terminate(self, number: int, frame: object) -> None:
        threading.Thread(target=self._leave, args=(signal.Signals(number).name,)).start()

    def _leave(self, reason: str) -> None:
        log.info("stopping: %s", reason)
        self._pool.stop()
        os._exit(0)


def main() -> int:
    """Run the follower. Returns the exit status."""
    loglines.configure("pgpool.follower")
    try:
        settings = settings_file.load(CONFIG)
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.error("%s: %s", CONFIG, error)
        return 78
    loglines.hide((settings.app_password, settings.pcp_password))
    try:
        return Follower(settings).run()
    except (OSError, subprocess.CalledProcessError) as error:
        log.error("giving up: %s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
