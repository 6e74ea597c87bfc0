"""Ends the workers of a run that was killed."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: no_orphans
type: aggregate
short_description: End the workers of a run that was killed
description:
  - Ansible's workers have sessions of their own. One whose run was killed goes on with its task, or waits for ever for
    somebody who was killed as well, and holds the lab's lock meanwhile.
  - This has the kernel tell them to stop when the run ends, however it ends. A command that a task has started may go
    on.
author: Misago on a swarm
"""

_PR_SET_PDEATHSIG = 1


def _tied_to(run: int) -> Callable[[], None]:
    """What a new process does first: it asks for TERM when the run, its parent, is gone."""
    # Looked up here: a process that was just forked off a program with threads must not load anything.
    prctl = ctypes.CDLL(None).prctl

    def tie() -> None:
        # What a worker starts is the worker's affair.
        if os.getppid() == run:
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            # It may have gone before it could be told of.
            if os.getppid() != run:
                os.kill(os.getpid(), signal.SIGTERM)

    return tie


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible has no type information
    """The one moment before workers are made at which a plugin is called."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "no_orphans"
    CALLBACK_NEEDS_ENABLED = True

    _tied = False

    def v2_playbook_on_start(self, playbook: object) -> None:
        """Tie to this process what it forks from now on."""
        if not self._tied:
            os.register_at_fork(after_in_child=_tied_to(os.getpid()))
            self._tied = True
