"""Filters that compare a directory of a machine with what it is to hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ansible.errors import AnsibleFilterError


def _above(names: Sequence[str]) -> set[str]:
    """The directories between the one that is compared and those names."""
    return {str(parent) for name in names for parent in PurePosixPath(name).parents} - {"."}


def _checksum(source: str) -> str:
    try:
        return hashlib.sha1(Path(source).read_bytes(), usedforsecurity=False).hexdigest()
    except OSError as error:
        raise AnsibleFilterError(f"{source} can't be read: {error.strerror}") from error


def directory_changes(
    found: Sequence[Mapping[str, Any]],
    path: str,
    sources: Mapping[str, str],
    contents: Mapping[str, str],
    group: str = "",
    kept: Sequence[str] = (),
) -> dict[str, list[str]]:
    """What is to be done for a directory to hold exactly some files, readable by a group or by everybody.

    found: what ansible.builtin.find sees in it, of any type, at any depth, hidden or not, with SHA-1 checksums.
    path: the directory. sources: name in it, with its directories -> file of the control machine. contents: name ->
    text. group: who may read, beside root; nothing: everybody. kept: names that are somebody else's. Returns names:
    `directories` to make or mend, parents first; `files` to write; `others`, which nobody wants, to remove. Raises
    AnsibleFilterError for a source that can't be read, or a name that is wanted twice.
    """
    if twice := sources.keys() & contents.keys():
        raise AnsibleFilterError(f"{path}: {min(twice)} is to be two files")
    wanted = {name: _checksum(source) for name, source in sources.items()}
    for name, text in contents.items():
        wanted[name] = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    directories = _above([*wanted, *kept])
    there = {str(PurePosixPath(entry["path"]).relative_to(path)): entry for entry in found}

    def is_right(name: str, kind: str, mode: str) -> bool:
        entry = there.get(name, {})
        owner = (entry.get("pw_name"), entry.get("gr_name"))
        return bool(entry.get(kind)) and entry["mode"] == mode and owner == ("root", group or "root")

    others = there.keys() - wanted.keys() - directories - set(kept)
    return {
        "directories": [
            name for name in sorted(directories) if not is_right(name, "isdir", "0750" if group else "0755")
        ],
        "files": [
            name
            for name, checksum in sorted(wanted.items())
            if not is_right(name, "isreg", "0640" if group else "0644")
            or there[name].get("checksum") != checksum
        ],
        # With a directory goes what is in it.
        "others": sorted(name for name in others if not _above([name]) & others),
    }


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"directory_changes": directory_changes}
