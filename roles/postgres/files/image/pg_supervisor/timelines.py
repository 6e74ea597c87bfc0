"""Timelines as terms: each is begun by one election only, so a number never stands for two histories.

PostgreSQL numbers a new timeline one above the newest history file it finds. Two members that never met could so
begin the same number twice, and neither pg_rewind nor a standby would notice. An elected member therefore reserves
the numbers below its term with history files of its own making: PostgreSQL then begins the one above them, and a
standby that is led across the gap finds a file to copy for each number in it.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from .report import Position, parse_lsn

RESERVED = "# reserved: no election gave this timeline to anyone\n"
_SEGMENT = re.compile(r"[0-9A-F]{24}(\.partial)?")
_HISTORY = re.compile(r"([0-9A-F]{8})\.history")


def _history(wal: Path, timeline: int) -> Path:
    return wal / f"{timeline:08X}.history"


def newest(wal: Path) -> int:
    """The newest timeline that the directory pg_wal holds log of, 0 if none."""
    return max(
        (int(entry.name[:8], 16) for entry in wal.iterdir() if _SEGMENT.fullmatch(entry.name)), default=0
    )


def position(wal: Path, lsn: int) -> Position:
    """The position of the record that ends at lsn.

    Log copied onto a new timeline up to where that began still counts as the old one's: whoever has followed the
    new primary only so far has nothing of the new timeline.
    """
    timeline = newest(wal)
    try:
        lines = _history(wal, timeline).read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    for line in lines:
        fields = line.split("#", 1)[0].split()
        if len(fields) >= 2 and lsn <= parse_lsn(fields[1]):
            return Position(int(fields[0]), lsn)
    return Position(timeline, lsn)


def known(wal: Path) -> int:
    """The newest timeline that pg_wal has log or a true history of: an election must go above it."""
    numbers = [int(match[1], 16) for entry in wal.iterdir() if (match := _HISTORY.fullmatch(entry.name))]
    return max([newest(wal), *(number for number in numbers if not _is_reserved(wal, number))])


def _is_reserved(wal: Path, number: int) -> bool:
    return _history(wal, number).read_text(encoding="ascii", errors="replace").startswith(RESERVED)


@contextlib.contextmanager
def reserved(wal: Path, term: int) -> Iterator[None]:
    """Make term the timeline that a promotion inside of this context begins.

    As soon as it has begun, the reserved numbers get its own history: repmgr asks for the number after a member's
    own timeline to learn where that one ended. Raises ValueError if term isn't newer than the log.
    """
    current = newest(wal)
    if term <= current:
        raise ValueError(f"term {term} is not above timeline {current}")
    between = [number for number in range(current + 1, term) if not _history(wal, number).exists()]
    for number in between:
        _history(wal, number).write_text(RESERVED, encoding="ascii")
    over = threading.Event()
    teller = threading.Thread(target=_tell, args=(wal, term, between, over), daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def _tell(wal: Path, term: int, between: list[int], over: threading.Event) -> None:
    """Copy term's history to the numbers between once it exists; one more look when the promotion is over."""
    while between:
        last = over.is_set()
        if _history(wal, term).exists():
            history = RESERVED + _history(wal, term).read_text(encoding="ascii", errors="replace")
            for number in between:
                draft = wal / f"{number:08X}.draft"
                draft.write_text(history, encoding="ascii")
                draft.rename(_history(wal, number))
            return
        if last:
            return
        over.wait(0.02)


def release(wal: Path) -> None:
    """Remove reserved numbers that no true timeline followed: a server refuses to start below them."""
    top = known(wal)
    for entry in wal.iterdir():
        match = _HISTORY.fullmatch(entry.name)
        if match and int(match[1], 16) > top:
            entry.unlink()
