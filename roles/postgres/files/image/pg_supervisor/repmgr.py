"""repmgr's configuration and the few of its commands that a member needs."""

from __future__ import annotations

import logging
import shlex
import shutil
import subprocess
from pathlib import Path

from .commands import CommandError, run
from .server import Server
from .settings import Settings

log = logging.getLogger(__name__)


def pgpass(password: str) -> str:
    """The password file of libpq for the role repmgr, on whichever server."""
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:repmgr:{escaped}\n"


def configuration(settings: Settings, server: Server, shared: str, pgdata: Path) -> str:
    """repmgr.conf: what is this member's own, then the shared part."""
    start = shlex.join(server.start_command())
    lines = {
        "node_id": str(settings.node_id),
        "node_name": settings.name,
        "conninfo": settings.conninfo(settings.name),
        "data_directory": str(pgdata),
        "pg_bindir": str(settings.bindir),
        "passfile": str(settings.passfile),
        # repmgrd fails a command whose output nobody reads.
        "failover_validation_command": "member validate >>/proc/1/fd/2 2>&1",
        "promote_command": "member promote >>/proc/1/fd/2 2>&1",
        "follow_command": "member follow %n >>/proc/1/fd/2 2>&1",
        "service_start_command": start,
        "service_stop_command": f"{settings.bindir}/pg_ctl -D {pgdata} -w -m fast stop",
        "service_reload_command": f"{settings.bindir}/pg_ctl -D {pgdata} reload",
        "service_restart_command": "/bin/false",
    }
    quoted = (f"{key}='{value.replace(chr(39), chr(39) * 2)}'" for key, value in lines.items())
    return "\n".join(quoted) + "\n" + shared


class Repmgr:
    """repmgr's commands for this member. All raise CommandError."""

    def __init__(self, settings: Settings, server: Server) -> None:
        self._settings = settings
        self._server = server

    def write_files(self) -> None:
        """Write the password file and repmgr.conf into the directory in memory."""
        settings = self._settings
        settings.passfile.touch(mode=0o600)
        settings.passfile.write_text(pgpass(settings.password), encoding="utf-8")
        self._write(settings.repmgr_conf, settings.pgdata)

    def _write(self, path: Path, pgdata: Path) -> None:
        shared = (self._settings.etc / "repmgr.conf").read_text(encoding="utf-8")
        path.write_text(configuration(self._settings, self._server, shared, pgdata), encoding="utf-8")

    def _run(self, *arguments: str, timeout: float = 120) -> str:
        return run(["repmgr", "-f", str(self._settings.repmgr_conf), *arguments], timeout=timeout)

    def register_primary(self) -> None:
        """Write into repmgr's records that this member is the primary."""
        self._run("primary", "register", "--force")

    def register_standby(self) -> None:
        """Write into repmgr's records, on the primary, that this member is a standby of it."""
        self._run("standby", "register", "--force", "--wait-sync=20")

    def clone(self, source: str) -> None:
        """Replace the data by a copy of source's. What was there stays until the copy is complete."""
        settings = self._settings
        fresh, conf = settings.volume / "pg.new", settings.run / "repmgr-clone.conf"
        shutil.rmtree(fresh, ignore_errors=True)
        self._write(conf, fresh)
        copy = ["repmgr", "-f", str(conf), "-h", source, "-U", "repmgr", "-d", "repmgr"]
        run([*copy, "standby", "clone", "--fast-checkpoint"], timeout=settings.clone_timeout_seconds)
        self._server.exchange(fresh)

    def rejoin(self, primary: str) -> None:
        """Make the cleanly stopped server a standby of primary, rewound to where their histories part.

        If that fails halfway, the data counts as damaged.
        """
        self._server.be_neither()
        self._server.begin_rewind()
        try:
            self._run("node", "rejoin", "-d", self._settings.conninfo(primary), "--force-rewind", timeout=600)
        except CommandError as error:
            if error.output and "executing pg_rewind" not in error.output:
                self._server.end_rewind()
            raise
        self._server.end_rewind()

    def promote(self) -> None:
        """Promote the running standby."""
        self._run("standby", "promote", timeout=90)

    def follow(self, node_id: int) -> None:
        """Make the running standby stream from another member."""
        self._run("standby", "follow", f"--upstream-node-id={node_id}", timeout=90)

    def daemon(self) -> subprocess.Popen[bytes]:
        """Start repmgrd in the foreground, its log in the container's."""
        return subprocess.Popen(
            ["repmgrd", "-f", str(self._settings.repmgr_conf), "--daemonize=false", "--no-pid-file"],
            stdin=subprocess.DEVNULL,
        )
