"""How long the forum waits for a server that is failing over, before it says so to the visitor."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable


class Patience:
    """Decides whether one more try is worth it.

    The clock starts at the first failure after a success, for the whole process: in a long outage only the
    first requests wait, and the others fail at once instead of queueing behind each other.

    seconds: length of that wait. clock: a monotonic clock in seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._since: float | None = None
        self._lock = threading.Lock()

    def failed(self) -> bool:
        """Records a failure. Returns whether to try again."""
        with self._lock:
            now = self._clock()
            if self._since is None:
                self._since = now
            return now - self._since < self._seconds

    def succeeded(self) -> None:
        """Records a success: the next failure starts the clock anew."""
        self._since = None


class Addresses:
    """The order in which to try a name's addresses: shuffled, those that failed lately last.

    glibc sorts the addresses of one subnet by their distance from the caller's own, which would send every
    connection of a container to the same server: hence the shuffle.

    seconds: how long a failure counts. clock: a monotonic clock in seconds.
    """

    def __init__(self, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._failures: dict[str, float] = {}

    def order(self, addresses: Iterable[str]) -> list[str]:
        """Each address once, in the order in which to try them."""
        now = self._clock()
        self._failures = {a: at for a, at in self._failures.items() if now - at < self._seconds}
        shuffled = sorted(set(addresses))
        random.shuffle(shuffled)
        return sorted(shuffled, key=lambda address: self._failures.get(address, float("-inf")))

    def failed(self, address: str) -> None:
        """Records that an address did not answer."""
        self._failures[address] = self._clock()

    def succeeded(self, address: str) -> None:
        """Records that an address answered."""
        self._failures.pop(address, None)


def pause(attempt: int, longest: float = 0.4) -> float:
    """Seconds to wait after failure number attempt, from 1: 25 to 50 ms at first, then doubled."""
    return random.uniform(0.5, 1.0) * min(longest, 0.025 * 2.0**attempt)  # noqa: S311 (jitter)
