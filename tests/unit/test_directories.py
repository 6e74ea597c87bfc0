"""What is to be done for a directory of a machine to hold exactly some files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from directories import directory_changes

HOME = "/opt/trial"
RIGHT: dict[str, list[str]] = {"directories": [], "files": [], "others": []}


def entry(name: str, text: str | None = None, **other: Any) -> dict[str, Any]:
    """What find says of a file with that text, or of a directory."""
    as_it_is = {
        "path": f"{HOME}/{name}",
        "pw_name": "root",
        "gr_name": "root",
        "isreg": text is not None,
        "isdir": text is None,
        "mode": "0755" if text is None else "0644",
    }
    if text is not None:
        as_it_is["checksum"] = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return as_it_is | other


THERE = [entry("a.py", "one"), entry("parts"), entry("parts/b.txt", "tönnchen")]


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "a.py").write_text("one")
    return str(tmp_path / "a.py")


def changes(found: list[dict[str, Any]], source: str, **other: Any) -> dict[str, list[str]]:
    return directory_changes(found, HOME, {"a.py": source}, {"parts/b.txt": "tönnchen"}, **other)


def test_what_is_as_wanted_is_left_alone(source: str) -> None:
    assert changes(THERE, source) == RIGHT


def test_of_an_empty_directory_all_is_made(source: str) -> None:
    assert changes([], source) == {"directories": ["parts"], "files": ["a.py", "parts/b.txt"], "others": []}


@pytest.mark.parametrize(
    "other",
    [
        entry("a.py", "two"),
        entry("a.py", "one", mode="0600"),
        entry("a.py", "one", mode="0755"),
        entry("a.py", "one", pw_name="mallory"),
        entry("a.py", "one", gr_name="mallory"),
        entry("a.py", "one", isreg=False, islnk=True),
        entry("a.py"),
    ],
)
def test_a_file_that_differs_is_written_and_nothing_else(source: str, other: dict[str, Any]) -> None:
    assert changes([other, *THERE[1:]], source) == RIGHT | {"files": ["a.py"]}


@pytest.mark.parametrize("other", [{"mode": "0777"}, {"pw_name": "mallory"}, {"isdir": False}])
def test_a_directory_that_differs_is_mended(source: str, other: dict[str, Any]) -> None:
    assert changes([THERE[0], entry("parts", **other), THERE[2]], source) == RIGHT | {
        "directories": ["parts"]
    }


def test_what_nobody_wants_goes_with_what_is_in_it(source: str) -> None:
    strange = [
        entry("old.py", "x"),
        entry(".hidden", "x"),
        entry("old"),
        entry("old/er"),
        entry("old/er/x", "x"),
    ]
    assert changes(THERE + strange, source) == RIGHT | {"others": [".hidden", "old", "old.py"]}


def test_what_is_somebody_else_s_stays_and_isn_t_made(source: str) -> None:
    assert changes([*THERE, entry("theirs", "x")], source, kept=["theirs"]) == RIGHT
    assert changes(THERE, source, kept=["theirs"]) == RIGHT


def test_for_a_group_others_may_not_read(source: str) -> None:
    assert changes(THERE, source, group="few") == {
        "directories": ["parts"],
        "files": ["a.py", "parts/b.txt"],
        "others": [],
    }
    few = [entry("a.py", "one", mode="0640", gr_name="few"), entry("parts", mode="0750", gr_name="few")]
    few.append(entry("parts/b.txt", "tönnchen", mode="0640", gr_name="few"))
    assert changes(few, source, group="few") == RIGHT


def test_a_name_that_is_wanted_twice_is_refused(source: str) -> None:
    with pytest.raises(AnsibleFilterError, match=r"a\.py is to be two files"):
        directory_changes([], HOME, {"a.py": source}, {"a.py": "text"})


def test_a_source_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnsibleFilterError, match="away can't be read: No such file"):
        directory_changes([], HOME, {"away": str(tmp_path / "away")}, {})
