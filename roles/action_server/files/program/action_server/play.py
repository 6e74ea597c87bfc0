"""Runs one playbook with ansible-runner: python -m action_server.play, with what to run as JSON on standard input.

In a process of its own, since ansible-runner is in an environment that the server isn't in, and so that the server can
end it. Input: private_data_dir, project_dir, inventory, playbook, extravars, ident, timeout. Output, as JSON: status
(ansible-runner's), stats (what set_stats told), faults (host -> what failed there, the last of it).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def unsafe(value: Any) -> Any:
    """A value whose texts are no templates, whatever they hold."""
    if isinstance(value, str):
        return {"__ansible_unsafe": value}
    return value


class Heard:
    """What a run told so far."""

    def __init__(self) -> None:
        self.stats: dict[str, Any] = {}
        self.faults: dict[str, str] = {}

    def take(self, event: dict[str, Any]) -> bool:
        """An event of the run. Returns False: it needn't be kept in a file."""
        told = event.get("event_data") or {}
        if event.get("event") == "playbook_on_stats":
            self.stats = told.get("artifact_data") or {}
        elif event.get("event") in ("runner_on_failed", "runner_on_unreachable") and not told.get(
            "ignore_errors"
        ):
            result = told.get("res") or {}
            self.faults[str(told.get("host", ""))] = str(
                result.get("msg") or result.get("stderr") or "failed"
            )[:500]
        return False


def main() -> int:
    """Run it. Returns 0 where it could be run, whatever became of it."""
    import ansible_runner  # noqa: PLC0415  # only in its own environment

    # The commands that ansible-runner calls are beside this Python.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    os.environ["ANSIBLE_NOCOLOR"] = "1"
    job = json.load(sys.stdin)
    heard = Heard()
    run = ansible_runner.run(
        private_data_dir=job["private_data_dir"],
        project_dir=job["project_dir"],
        inventory=job["inventory"],
        playbook=job["playbook"],
        extravars={name: unsafe(value) for name, value in job["extravars"].items()},
        ident=job["ident"],
        timeout=job["timeout"],
        rotate_artifacts=20,
        event_handler=heard.take,
        quiet=True,
    )
    if run.status != "successful" and not heard.stats and not heard.faults:
        # It didn't get as far as a machine: what Ansible says about that.
        heard.faults[""] = " ".join(run.stdout.read().split())[-400:]
    json.dump({"status": run.status, "stats": heard.stats, "faults": heard.faults}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
