"""The end of a ledger: reads every thread and holds each marker against what was promised."""

import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from drills.browser import NotSentError, UnansweredError
from drills.forum import ForumError, Visitor
from drills.records import Attempt, Outcome

MARKER = re.compile(r"ledger[0-9a-f]{10}n\d{6,}")


@dataclass(frozen=True)
class Verdict:
    """Markers by what is wrong with them; `appeared` is allowed: not acknowledged, and there once."""

    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    impossible: tuple[str, ...]
    appeared: tuple[str, ...]

    @property
    def kept_every_promise(self) -> bool:
        """Nothing acknowledged is missing, nothing is there twice, nothing came that was never sent."""
        return not (self.lost or self.doubled or self.impossible)


def count_markers(contents: Iterable[str]) -> Counter[str]:
    """How often each marker occurs. contents: the HTML of posts, each post once."""
    return Counter(marker for content in contents for marker in MARKER.findall(content))


def read_contents(visitor: Visitor, threads: Sequence[int], patience: float = 120) -> Counter[str]:
    """Count the markers in whole threads, trying again while the forum doesn't answer.

    patience: seconds in all. Raises the last NotSentError, UnansweredError or ForumError after that.
    """
    deadline = time.monotonic() + patience
    counts: Counter[str] = Counter()
    for thread in threads:
        counts += _read_thread(visitor, thread, deadline)
    return counts


def _read_thread(visitor: Visitor, thread: int, deadline: float) -> Counter[str]:
    while True:
        try:
            return count_markers(post.content for post in visitor.posts(thread))
        except (NotSentError, UnansweredError, ForumError):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def judge(attempts: Sequence[Attempt], contents: Mapping[str, int]) -> Verdict:
    """Compare what was attempted with what the forum holds. contents: marker -> number of posts."""

    def having(outcomes: set[Outcome], low: int, high: float) -> tuple[str, ...]:
        return tuple(
            attempt.marker
            for attempt in attempts
            if attempt.outcome in outcomes and low <= contents.get(attempt.marker, 0) <= high
        )

    return Verdict(
        lost=having({Outcome.ACKNOWLEDGED}, 0, 0),
        doubled=having({Outcome.ACKNOWLEDGED, Outcome.FAILED, Outcome.UNKNOWN}, 2, float("inf")),
        impossible=having({Outcome.UNSENT}, 1, float("inf")),
        appeared=having({Outcome.FAILED, Outcome.UNKNOWN}, 1, 1),
    )
