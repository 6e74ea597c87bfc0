"""Copies a release's static files to the volume that the edges serve."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

# name.0123456789ab.css, as Django's manifest storage writes it; beside it the same with .gz
HASHED = re.compile(r"\.[0-9a-f]{12}\.[^./]+(\.gz)?$")


def is_hashed(name: str) -> bool:
    """Whether a file's name changes with its content."""
    return HASHED.search(name) is not None


def publish(source: Path, target: Path, keep_days: float, now: float | None = None) -> dict[str, int]:
    """Makes every file below source available below target; removes hashed ones that no release used lately.

    Replicas of the previous release still run while this happens, and pages that visitors have open name its
    files: so nothing is removed before keep_days days without a release that has it. A file appears whole or
    not at all. now: seconds since the epoch. Returns counts: files, copied, removed. Raises OSError.
    """
    moment = time.time() if now is None else now
    counts = {"files": 0, "copied": 0, "removed": 0}
    published = set()
    for path in sorted(source.rglob("*")):
        if not path.is_file():
            continue
        counts["files"] += 1
        name = path.relative_to(source)
        published.add(name)
        destination = target / name
        if not _same(path, destination):
            _copy(path, destination)
            counts["copied"] += 1
        # The time of the last release that has it, which is what the removal below goes by.
        os.utime(destination, (moment, moment))
    oldest = moment - keep_days * 86400
    for path in sorted(target.rglob("*")):
        left_over = path.is_file() and is_hashed(path.name) and path.relative_to(target) not in published
        if left_over and path.stat().st_mtime < oldest:
            path.unlink()
            counts["removed"] += 1
    return counts


def _same(source: Path, destination: Path) -> bool:
    if not destination.is_file() or destination.stat().st_size != source.stat().st_size:
        return False
    return is_hashed(source.name) or destination.read_bytes() == source.read_bytes()


def _copy(source: Path, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    unfinished = destination.with_name(f".{destination.name}.{os.getpid()}")
    try:
        shutil.copyfile(source, unfinished)
        unfinished.chmod(0o644)
        unfinished.replace(destination)
    finally:
        unfinished.unlink(missing_ok=True)
