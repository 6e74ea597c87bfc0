"""The member's own PostgreSQL server: its files, its start, its stop."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import logging
import os
import shutil
import time
from pathlib import Path

from . import timelines
from .commands import CommandError, run
from .local import Local, LocalError
from .report import Position, parse_lsn
from .settings import Settings

log = logging.getLogger(__name__)

QUARANTINE = ("listen_addresses=", "primary_conninfo=")
# What the startup process waits for once it has replayed all the log that lies on the disk.
IDLE_REPLAY = ("RecoveryRetrieveRetryInterval", "RecoveryWalStream")


class Server:
    """The server in settings.pgdata."""

    def __init__(self, settings: Settings, local: Local) -> None:
        self._settings = settings
        self._local = local
        self._rewinding = settings.volume / "rewinding"

    @property
    def wal(self) -> Path:
        """The directory of the log."""
        return self._settings.pgdata / "pg_wal"

    def has_data(self) -> bool:
        """True if there is a data directory, sound or not. Finishes or undoes an exchange that was cut short."""
        pgdata, old = self._settings.pgdata, self._settings.volume / "pg.old"
        if not pgdata.exists() and old.exists():
            old.rename(pgdata)
        return (pgdata / "PG_VERSION").exists()

    def is_damaged(self) -> bool:
        """True if a rewind was begun and not finished: such data starts, but isn't whole."""
        return self._rewinding.exists()

    def begin_rewind(self) -> None:
        """Say on disk that the data can't be trusted from now on."""
        with self._rewinding.open("w") as file:
            os.fsync(file.fileno())

    def end_rewind(self) -> None:
        """Say on disk that the data is whole again."""
        self._rewinding.unlink(missing_ok=True)

    def exchange(self, fresh: Path) -> None:
        """Put the complete copy in fresh in place of the data directory."""
        pgdata, old = self._settings.pgdata, self._settings.volume / "pg.old"
        shutil.rmtree(old, ignore_errors=True)
        if pgdata.exists():
            pgdata.rename(old)
        fresh.rename(pgdata)
        self.end_rewind()
        shutil.rmtree(old, ignore_errors=True)

    def pid(self) -> int | None:
        """Process id of the running server, None if there is none."""
        try:
            pid = int((self._settings.pgdata / "postmaster.pid").read_text().split("\n", 1)[0])
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        return pid

    def start_command(self, *settings: str) -> list[str]:
        """The command that starts the server, with settings ('name=value') that rank above every file."""
        etc = self._settings.etc
        options = " ".join(f"-c {setting}" for setting in (f"config_file={etc}/postgresql.conf", *settings))
        return [*self._control("-t", "600", "-l", str(self._settings.journal), "-o", options), "start"]

    def _control(self, *options: str) -> list[str]:
        return [str(self._settings.bindir / "pg_ctl"), "-D", str(self._settings.pgdata), "-w", *options]

    def forget_pid(self) -> None:
        """Remove the pid file of a server that ran in an earlier container: the number means another process now."""
        (self._settings.pgdata / "postmaster.pid").unlink(missing_ok=True)

    def start(self, *settings: str) -> None:
        """Start the server and wait until it takes connections. Raises CommandError."""
        timelines.release(self.wal)
        self._local.forget()
        run(self.start_command(*settings), timeout=660)

    def stop(self, mode: str) -> None:
        """Stop the server if it runs: 'fast' waits for the standbys to have all of the log, 'immediate' for nothing.

        A fast stop that takes longer than 30 s becomes an immediate one. Raises CommandError.
        """
        self._local.forget()
        if self.pid() is None:
            return
        try:
            run([*self._control("-t", "30", "-m", mode), "stop"], timeout=40)
        except CommandError:
            if mode == "immediate":
                raise
            log.warning("the server doesn't stop: stopping it at once")
            run([*self._control("-t", "30", "-m", "immediate"), "stop"], timeout=40)

    def be_standby(self) -> None:
        """Make the next start one of a standby."""
        (self._settings.pgdata / "standby.signal").touch()

    def be_neither(self) -> None:
        """Undo be_standby: repmgr's rejoin wants to set this itself."""
        (self._settings.pgdata / "standby.signal").unlink(missing_ok=True)

    def settle(self) -> Position:
        """Bring the data into a clean state, away from the network, and return the end of its log.

        The server runs as a standby of nobody until it has replayed all that lies on the disk, then stops cleanly:
        repmgr's rejoin needs a clean stop, and an election needs the true end. Raises CommandError or LocalError.
        """
        self.be_standby()
        self.start(*QUARANTINE)
        try:
            end = self._replayed()
        finally:
            self.stop("fast")
        return timelines.position(self.wal, end)

    def _replayed(self) -> int:
        idle_at = -1
        while True:
            rows = self._local.rows(
                "SELECT pg_last_wal_replay_lsn(), wait_event FROM pg_stat_activity WHERE backend_type = 'startup'"
            )
            if rows and rows[0][0] and rows[0][1] in IDLE_REPLAY:
                end = parse_lsn(rows[0][0])
                if end == idle_at:
                    return end
                idle_at = end
            time.sleep(0.15)

    def initialise(self) -> None:
        """Make a new, empty cluster. Only for the first member of a stack that has no data anywhere.

        Raises CommandError or LocalError, and leaves nothing behind that has_data would take for data.
        """
        fresh = self._settings.volume / "pg.new"
        shutil.rmtree(fresh, ignore_errors=True)
        password = self._settings.run / "initdb-password"
        password.touch(mode=0o600)
        password.write_text(self._settings.password + "\n", encoding="utf-8")
        try:
            run(
                [
                    str(self._settings.bindir / "initdb"),
                    f"--pgdata={fresh}",
                    "--username=repmgr",
                    f"--pwfile={password}",
                    "--data-checksums",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                    "--auth-local=peer",
                    "--auth-host=scram-sha-256",
                ]
            )
        finally:
            password.unlink()
        self.exchange(fresh)

    def open_roles(self) -> None:
        """Make the forum's role and database, and mend passwords that no longer match their secrets.

        Only on a primary. Raises LocalError.
        """
        settings, local = self._settings, self._local
        role, database = settings.app_role, settings.app_database
        if not local.rows("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)):
            local.rows(f'CREATE ROLE "{role}" LOGIN')
            local.rows(f"ALTER ROLE \"{role}\" SET timezone = 'UTC'")
        # It has no password: only the Telegraf beside the server can be it, over the socket.
        if not local.rows("SELECT 1 FROM pg_roles WHERE rolname = 'telegraf'"):
            local.rows("CREATE ROLE telegraf LOGIN CONNECTION LIMIT 3 IN ROLE pg_monitor")
        for name, password in ((role, settings.app_password), ("repmgr", settings.password)):
            if not self._opens(name, password):
                # A verifier holds letters, digits and $+/=: only, and no utility statement takes parameters.
                local.rows(f"ALTER ROLE \"{name}\" PASSWORD '{local.verifier(name, password)}'")
        for name, owner in (("repmgr", "repmgr"), (database, role)):
            if not local.rows("SELECT 1 FROM pg_database WHERE datname = %s", (name,)):
                local.rows(f'CREATE DATABASE "{name}" OWNER "{owner}"')

    def _opens(self, role: str, password: str) -> bool:
        with contextlib.suppress(LocalError):
            stored = self._local.rows("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (role,))[0][0]
            return stored is not None and scram_matches(stored, password)
        return False


def scram_matches(verifier: str, password: str) -> bool:
    """True if a stored SCRAM-SHA-256 verifier was made from password (which must be ASCII to be sure of a match)."""
    try:
        scheme, parameters, keys = verifier.split("$")
        iterations, salt = parameters.split(":")
        stored = base64.b64decode(keys.split(":")[0])
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(iterations))
    except (ValueError, IndexError):
        return False
    client = hmac.digest(salted, b"Client Key", hashlib.sha256)
    return scheme == "SCRAM-SHA-256" and hmac.compare_digest(hashlib.sha256(client).digest(), stored)
