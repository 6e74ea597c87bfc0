"""The server's log, on its way to the container's: a line per message, without the values in its statements."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import threading
from pathlib import Path

import loglines

# The server waits while the pipe is full.
PIPE_BYTES = 1024 * 1024
# What a connection is comes with the third line about it, which has the client's address, too.
_SUPERFLUOUS = re.compile(r"(?:(?!LOG: ).)*LOG:  connection (?:received|authenticated): ", re.DOTALL)


def shown(message: str) -> str | None:
    """The line for a message of the server, None if there is nothing to say."""
    return None if _SUPERFLUOUS.match(message) else loglines.without_values(message)


class Journal:
    """A named pipe that the server writes to, and who reads it.

    Both ends are open here: the server can be started by whomever and never finds nobody at the other end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._mark = secrets.token_hex(16)
        self._reached = threading.Event()

    def open(self) -> None:
        """Begin to read, for good. Raises OSError."""
        self.path.unlink(missing_ok=True)
        os.mkfifo(self.path, 0o600)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        # More than the kernel grants to everybody is refused where others hold much already.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        loglines.carry(self._descriptor, self._show)

    def _show(self, message: str) -> str | None:
        if message == self._mark:
            self._reached.set()
            return None
        return shown(message)

    def drain(self, seconds: float = 2) -> None:
        """Wait until all that the server wrote is on its way."""
        if self._descriptor >= 0:
            self._reached.clear()
            os.write(self._descriptor, f"{self._mark}\n".encode())
            self._reached.wait(seconds)
