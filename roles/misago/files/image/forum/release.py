"""Steps that are run once, in turn, with one line each. What they are stands in the command of this name."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

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
    """Runs the steps in turn and prints one JSON line for each; the first that fails is the last.

    A step returns what its line says beside its name and time. Returns the program's exit code.
    """
    for name, step in steps:
        started = time.monotonic()
        line: dict[str, Any] = {"event": "release", "step": name}
        try:
            line.update(step())
        except Exception as error:  # noqa: BLE001 (whatever it is belongs into the line)
            line["error"] = f"{type(error).__name__}: {error}"
        line["seconds"] = round(time.monotonic() - started, 2)
        print(json.dumps(line), flush=True)
        if "error" in line:
            return 1
    return 0
