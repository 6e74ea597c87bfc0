"""Pgpool itself: its files in memory, its process, and PCP, its control port on the loopback address."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import loglines

from .settings import Settings

log = logging.getLogger(__name__)

DOWN = 3


class PcpError(RuntimeError):
    """Pgpool didn't answer, or not in the form expected."""


@dataclass(frozen=True)
class Backend:
    """What Pgpool believes of one member."""

    host: str
    down: bool
    primary: bool


def parse_backends(text: str) -> list[Backend]:
    """What Pgpool believes, from the output of `pcp_node_info --all`.

    text: per backend a line with host, port, status number, weight, status name, true status, role, ...
    Raises PcpError for any other line.
    """
    backends = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 7 or not fields[2].isdigit():
            raise PcpError(f"not a backend: {line}")
        backends.append(Backend(fields[0], int(fields[2]) == DOWN, fields[6] == "primary"))
    return backends


def figures(backends: Sequence[Backend]) -> str:
    """What Pgpool believes, as lines of InfluxDB's protocol, which Telegraf reads."""
    return "".join(
        f"pgpool,backend={backend.host} up={int(not backend.down)}i,primary={int(backend.primary)}i\n"
        for backend in backends
    )


class Pool:
    """The Pgpool process of this container."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._log: threading.Thread | None = None

    def prepare(self) -> None:
        """Lay out configuration and secrets in memory. Raises OSError or subprocess.CalledProcessError.

        The password of the role is kept encrypted, with a key that is made anew at every start.
        """
        settings, run = self._settings, self._settings.run
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(mode=0o700, parents=True)
        for name in ("pgpool.conf", "pool_hba.conf"):
            shutil.copyfile(settings.etc / name, run / name)
        # PCP knows no other digest than this one; it listens on the loopback address only.
        digest = hashlib.md5(settings.pcp_password.encode(), usedforsecurity=False).hexdigest()
        _write(run / "pcp.conf", f"follower:{digest}\n")
        escaped = settings.pcp_password.replace("\\", "\\\\").replace(":", "\\:")
        _write(run / "pcppass", f"*:*:follower:{escaped}\n")
        _write(run / "key", secrets.token_hex(32))
        users = run / "users"
        _write(users, f"{settings.app_role}:{settings.app_password}\n")
        command = ["pg_enc", "-m", "-k", str(run / "key"), "-f", str(run / "pgpool.conf"), "-i", str(users)]
        try:
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        finally:
            users.unlink()
        (run / "pool_passwd").chmod(0o600)
        if f"{settings.app_role}:AES" not in (run / "pool_passwd").read_text(encoding="ascii"):
            raise OSError("pg_enc did not encrypt the role's password")

    def start(self) -> None:
        """Start Pgpool in the foreground, without memory of an earlier life.

        Its log goes to the container's without the values in statements that it shows.
        """
        run = self._settings.run
        command: list[str | Path] = ["pgpool", "-n", "-D", "-k", run / "key", "-f", run / "pgpool.conf"]
        self._process = subprocess.Popen(
            [*command, "-a", run / "pool_hba.conf", "-F", run / "pcp.conf"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert self._process.stderr is not None  # noqa: S101 (it is a pipe)
        self._log = loglines.carry(self._process.stderr.fileno())

    def exit_status(self) -> int | None:
        """Pgpool's exit status, None while it runs."""
        return self._process.poll() if self._process else None

    def stop(self) -> None:
        """End the sessions, then Pgpool; at once if that takes longer than 10 s. Its last words are in the log then."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                log.warning("Pgpool doesn't end: killing it")
                self._process.kill()
        if self._log:
            # Not for ever: a process of its own that is left over keeps the pipe open.
            self._log.join(2)

    def _pcp(self, command: str, *arguments: str) -> str:
        settings = self._settings
        to = ["-h", "127.0.0.1", "-p", str(settings.pcp_port), "-U", "follower", "-w"]
        environment = os.environ | {"PCPPASSFILE": str(settings.run / "pcppass")}
        try:
            done = subprocess.run(
                [command, *to, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=4,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise PcpError(f"{command} took longer than 4 s") from error
        if done.returncode:
            raise PcpError(f"{command} ended with {done.returncode}: {done.stdout.strip()}")
        return done.stdout

    def backends(self) -> list[Backend]:
        """What Pgpool believes, in the order of its backends. Raises PcpError."""
        backends = parse_backends(self._pcp("pcp_node_info", "--all"))
        if len(backends) != len(self._settings.members):
            raise PcpError(f"{len(backends)} backends instead of {len(self._settings.members)}")
        return backends

    def attach(self, number: int) -> None:
        """Ask Pgpool to use a backend again. Success means only that it was asked. Raises PcpError."""
        self._pcp("pcp_attach_node", f"--node-id={number}")

    def promote(self, number: int) -> None:
        """Ask Pgpool to take a backend for the primary. Success means only that it was asked. Raises PcpError."""
        self._pcp("pcp_promote_node", f"--node-id={number}")


def _write(path: Path, content: Sequence[str] | str) -> None:
    """Write a file that nobody else may read."""
    path.touch(mode=0o600)
    path.write_text("".join(content), encoding="utf-8")
