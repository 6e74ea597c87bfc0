"""Steps that are run once, in turn, with one line each. What they are stands in the command of this name."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import loglines

from . import logs

Step = Callable[[], dict[str, Any]]


class ReleaseError(Exception):
    """A step did not do what it is there for."""


def wait_for(
    name: str,
    probe: Callable[[], object],
    passing: tuple[type[Exception], ...],
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Calls probe until it raises nothing. Returns the seconds that it took.

    passing: the errors of a server that is not there yet. After that many seconds of them ReleaseError is
    raised, with the last one; any other error is raised at once.
    """
    started = clock()
    while True:
        try:
            probe()
        except passing as error:
            if clock() - started > seconds:
                raise ReleaseError(f"{name} did not answer within {seconds:.0f} s: {error}") from error
            sleep(1)
        else:
            return {"waited": round(clock() - started, 1)}


def run_steps(steps: Sequence[tuple[str, Step]]) -> int:
    """Runs the steps in turn and writes one line for each; the first that fails is the last.

    A step returns what its line says beside its name and time. Returns the program's exit code.
    """
    for name, step in steps:
        started = time.monotonic()
        told: dict[str, Any] = {}
        failure = ""
        try:
            told = step()
        except Exception as error:  # noqa: BLE001 (whatever it is belongs into the line)
            failure = f"{type(error).__name__}: {error}"
        logs.say(
            "error" if failure else "info",
            f"{name}: {failure or 'done'}" + "".join(f", {key} {value}" for key, value in told.items()),
            event__action="release",
            event__outcome="failure" if failure else "success",
            event__duration=int((time.monotonic() - started) * 1e9),
            error__message=loglines.veil(failure),
            forum__operation=name,
        )
        if failure:
            return 1
    return 0
