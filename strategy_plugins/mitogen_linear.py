"""Where Ansible finds the strategy that scripts/lab chooses, whatever Python the virtual environment has.

With three changes to Mitogen, none of which changes a result (docs/decisions.md, 20).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import CodeType
from typing import Any

import ansible.collections.list
import ansible_mitogen.affinity
import ansible_mitogen.module_finder
import mitogen.master
from ansible_mitogen.plugins.strategy.mitogen_linear import StrategyModule

__all__ = ["StrategyModule"]

# With fewer than four processors all of Ansible's workers would be bound to one and the same of them.
ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()

_find = ansible.collections.list.list_collection_dirs
_ALL = tuple(_find())


def _list_collection_dirs(*asked: Any, **more: Any) -> Iterator[bytes]:
    """As Ansible's own. Where all of them are, it knows already.

    Mitogen asks that for every task of a collection, which took a tenth of a worker's time; they stay where they are.
    """
    return iter(_ALL) if not (asked or more) else _find(*asked, **more)


ansible.collections.list.list_collection_dirs = _list_collection_dirs


@functools.cache
def _compiled(source: bytes) -> CodeType:
    return compile(source, "read for its imports", "exec")


def _compile(source: bytes, _name: str, _mode: str) -> CodeType:
    """As Python's own, for those who want to know what a file imports.

    Mitogen asks it for every module of Ansible, of each that it imports in turn: most are the same ones.
    """
    return _compiled(source)


for _room in (ansible_mitogen.module_finder, mitogen.master):
    vars(_room)["compile"] = _compile
