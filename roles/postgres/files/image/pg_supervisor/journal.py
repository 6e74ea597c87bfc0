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
# log_line_prefix of postgresql.conf, as far as every line of the server has it.
_HEAD = re.compile(r"\d{4}-\d\d-\d\d \S+ \S+ \[\d+\] ")
# What says something before the server does.
_BEGINNERS = ("postgres: ", "pg_ctl: ")
# What a connection is comes with the third line about it, which has the client's address, too.
_SUPERFLUOUS = re.compile(
    rf"{_HEAD.pattern}(?:[^@ ]+@[^@ ]+ \S+ )?LOG:  connection (?:received|authenticated): "
)
LOST = "a piece of a message is lost"


def shown(message: str) -> str | None:
    """The line for a message of the server, None if there is nothing to say.

    While the pipe is full, long messages of several processes get between each other. A piece can't be told from what
    somebody has typed: neither the end of a message without its beginning is shown nor what comes amidst another.
    """
    if not message.startswith(_BEGINNERS) and not _HEAD.match(message):
        return LOST
    if _SUPERFLUOUS.match(message):
        return None
    within = _HEAD.search(message, 1)
    return loglines.without_values(message[: within.start()] if within else message)


class Journal:
    """A named pipe that the server writes to, and who reads it.

    Both ends are open here: the server can be started by whomever and never finds nobody at the other end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = self._writer = -1
        self._reading: threading.Thread | None = None
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
        self._writer = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._reading = loglines.carry(self._descriptor, self._show)

    def is_alive(self) -> bool:
        """Whether the log is read: if it isn't, the server stands still as soon as the pipe is full."""
        return self._reading is not None and self._reading.is_alive()

    def _show(self, message: str) -> str | None:
        if message == self._mark:
            self._reached.set()
            return None
        return shown(message)

    def drain(self, seconds: float = 2) -> None:
        """Wait until all that the server wrote is on its way; no longer than the seconds."""
        if self._writer >= 0:
            self._reached.clear()
            # A full pipe takes no mark, and is read during that time all the same.
            with contextlib.suppress(BlockingIOError):
                os.write(self._writer, f"\n{self._mark}\n".encode())
            self._reached.wait(seconds)
