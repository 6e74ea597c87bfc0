"""When Misago's maintenance commands run, and how."""

from __future__ import annotations

import datetime
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import loglines

from . import logs

# In this order: who is deleted leaves the ranking that is built afterwards.
DAILY = (
    "deletemarkedusers",
    "prunecategories",
    "buildactivepostersranking",
    "clearattachments",
    "clearnotifications",
    "clearreadtracker",
    "clearsessions",
    "clearsocial",
    "invalidatebans",
    "removeoldips",
    "deleteinactiveusers",
    "expireuserdatadownloads",
)
# A user asked for the download of his data and waits for its e-mail.
FREQUENT = ("prepareuserdatadownloads",)

Line = dict[str, Any]


def next_run(after: datetime.datetime, at: datetime.time) -> datetime.datetime:
    """The first moment later than `after` (aware) when the clock of its time zone shows `at`."""
    candidate = after.replace(hour=at.hour, minute=at.minute, second=0, microsecond=0)
    return candidate if candidate > after else candidate + datetime.timedelta(days=1)


def is_due(now: datetime.datetime, last: datetime.datetime, at: datetime.time) -> bool:
    """Whether a daily run is due or has been missed, `last` being the one before."""
    return next_run(last.astimezone(now.tzinfo), at) <= now


def run_command(
    command: Sequence[str],
    seconds: float,
    stopping: threading.Event,
    alive: Callable[[], None],
    check_every: float = 1.0,
) -> Line:
    """Runs a program to its end.

    seconds: after that it is ended. stopping: when set, it is ended too. alive: called every check_every
    seconds meanwhile. Returns the line for the log: command (its last word), exit_code (None if ended),
    seconds, and the end of its output if it failed.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    output: str | None = None
    ended = False
    while output is None:
        try:
            output = process.communicate(timeout=check_every)[0]
        except subprocess.TimeoutExpired:
            alive()
            if stopping.is_set() or time.monotonic() - started > seconds:
                ended = True
                output = _end(process)
    line: Line = {
        "command": command[-1],
        "exit_code": None if ended else process.returncode,
        "seconds": round(time.monotonic() - started, 1),
    }
    if line["exit_code"] != 0:
        line["output"] = output.strip()[-2000:]
    return line


def _end(process: subprocess.Popen[str]) -> str:
    process.terminate()
    try:
        return process.communicate(timeout=10)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0]


def run_all(
    names: Sequence[str],
    run: Callable[[str], Line],
    log: Callable[[Line], None],
    stopping: threading.Event,
) -> tuple[str, ...]:
    """Runs the commands in turn until stopping is set, each whatever became of the one before.

    Returns the names of those that failed.
    """
    failed = []
    for name in names:
        if stopping.is_set():
            break
        try:
            line = run(name)
        except OSError as error:
            line = {"command": name, "exit_code": None, "output": str(error)}
        log(line)
        if line["exit_code"] != 0:
            failed.append(name)
    return tuple(failed)


def log_line(line: Line) -> None:
    """Writes the line of a command, of a round of them, or of a Redis that isn't there."""
    if "command" in line:
        ended = "was ended" if line["exit_code"] is None else f"ended with {line['exit_code']}"
        message, fields = f"{line['command']} {ended}", {"forum__operation": line["command"]}
        failed = line["exit_code"] != 0
    elif "finished" in line:
        message, fields, failed = (
            f"{line['finished']} commands, {line['failed']} failed",
            {},
            line["failed"] > 0,
        )
    else:
        message, fields, failed = "Redis doesn't answer", {}, True
    logs.say(
        "error" if failed else "info",
        message,
        event__action="maintenance",
        event__outcome="failure" if failed else "success",
        event__duration=int(line.get("seconds", 0) * 1e9),
        error__message=loglines.veil(line.get("output") or line.get("error") or ""),
        **fields,
    )
