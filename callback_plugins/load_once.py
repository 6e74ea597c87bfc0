"""Loads filters, tests and lookups before the first task, so that every worker finds them loaded."""

from __future__ import annotations

import gc

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, lookup_loader, test_loader

DOCUMENTATION = """
name: load_once
type: aggregate
short_description: Load filters, tests and lookups once, not once for every task and host
description:
  - Ansible runs every task for every host in a process of its own, a copy of the one that reads the playbook.
  - Where that one has not needed a filter, test or lookup yet, each copy loads it anew, which takes more than a third
    of the control machine's processor time.
  - This loads them at the playbook's start, and takes them out of what Python searches for garbage. A copy lives for
    parts of a second; searching, it would touch and so copy what it could have shared, for nothing.
  - It prints nothing and changes nothing else.
author: Misago on a swarm
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible has no type information
    """The one moment before workers are made at which a plugin is called."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "load_once"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: object) -> None:
        """Load what workers would load, and keep it out of their search for garbage."""
        for loader in (filter_loader, test_loader):
            for _ in loader.all():
                pass
        # Of these, what is loaded is the class alone.
        for _ in lookup_loader.all(class_only=True):
            pass
        gc.collect()
        gc.freeze()
        # Workers inherit it, and end before they have made so many objects.
        gc.set_threshold(200_000)
