"""Runs PostgreSQL's and repmgr's programs. Passwords reach them by file, so their arguments may be logged."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence

log = logging.getLogger(__name__)


class CommandError(RuntimeError):
    """A program failed; the message carries the end of what it said, output all of it."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


def run(arguments: Sequence[str], timeout: float | None = None) -> str:
    """Run a program to its end and return what it printed (stdout and stderr together).

    timeout: seconds. Raises CommandError if it exits with another status than 0 or takes longer.
    """
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{arguments[0]} took longer than {timeout} s") from error
    output = done.stdout.strip()
    if done.returncode:
        raise CommandError(f"{' '.join(arguments)} ended with {done.returncode}: {output[-1500:]}", output)
    log.info("done: %s", " ".join(arguments))
    return output
