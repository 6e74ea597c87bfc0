"""Shows each playbook of a run as a stage, with its time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: stages
type: aggregate
short_description: Show each playbook of a run as a stage, with its time
description:
  - Several playbooks in one run of Ansible save its start and its connections for all but the first. This tells them
    apart as C(scripts/stage) does with commands.
options:
  names:
    description: What the playbooks are called, in their order.
    type: list
    elements: str
    required: true
    env: [{name: STAGE_NAMES}]
  summary:
    description: A file that gets a line for each stage.
    type: path
    required: true
    env: [{name: STAGES}]
author: Misago on a swarm
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible has no type information
    """A stage is a playbook."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "stages"
    CALLBACK_NEEDS_ENABLED = True

    def set_options(
        self, task_keys: Any = None, var_options: Mapping[str, Any] | None = None, direct: Any = None
    ) -> None:
        """Take the names."""
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        self._names = iter(self.get_option("names"))
        self._summary = Path(self.get_option("summary"))

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Begin a stage."""
        self._name, self._began = next(self._names), time.monotonic()
        self._display.display(f"\n▶ {self._name}")
        self._place = self._summary.stat().st_size if self._summary.exists() else 0
        # What a run that is killed leaves.
        self._note("✘", "not ended")

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """End it. stats count all stages until now; after one that failed there is none."""
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        mark, took = "✘" if stats.failures or stats.dark else "✔", f"{minutes} min {seconds:02d} s"
        self._display.display(f"{mark} {self._name}: {took}")
        self._note(mark, took)

    def _note(self, mark: str, took: str) -> None:
        """Make this stage's line the last one of the summary."""
        with self._summary.open("a", encoding="utf-8") as summary:
            summary.truncate(self._place)
            summary.write(f"{mark} {self._name:<42} {took:>12}\n")
