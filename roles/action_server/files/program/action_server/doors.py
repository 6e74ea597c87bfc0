"""Who may come in: sessions, and how often somebody may try a password."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address, ip_network

Clock = Callable[[], float]


class Sessions:
    """Who is signed in; known by a hash, so that what is in memory opens nothing."""

    def __init__(self, seconds: float = 12 * 3600, most: int = 1000, clock: Clock = time.monotonic) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        self._ends: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    @staticmethod
    def _hash(token: str) -> str:
        return hashlib.sha256(token.encode()).hexdigest()

    def begin(self) -> str:
        """A new session's token."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._ends[self._hash(token)] = self._clock() + self._seconds
            while len(self._ends) > self._most:
                self._ends.popitem(last=False)
        return token

    def valid(self, token: str) -> bool:
        """Whether the token is that of a session that goes on."""
        with self._lock:
            return self._ends.get(self._hash(token), 0.0) > self._clock()

    def end(self, token: str) -> None:
        """End a session, if it is one."""
        with self._lock:
            self._ends.pop(self._hash(token), None)


class Attempts:
    """Wrong sign-ins by address: a few, then a pause. An IPv6 site counts as one address."""

    def __init__(
        self, allowed: int = 5, seconds: float = 60, most: int = 10000, clock: Clock = time.monotonic
    ) -> None:
        self._allowed, self._seconds, self._most, self._clock = allowed, seconds, most, clock
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    @staticmethod
    def _origin(address: str) -> str:
        ip = ip_address(address)
        return str(ip_network((ip, 64), strict=False)) if ip.version == 6 else str(ip)

    def wait(self, address: str) -> int:
        """Take one attempt. Returns 0, or the seconds until the next one is allowed."""
        origin, now = self._origin(address), self._clock()
        with self._lock:
            recent = [at for at in self._wrong.pop(origin, []) if at > now - self._seconds]
            if len(recent) >= self._allowed:
                self._wrong[origin] = recent
                return int(recent[0] + self._seconds - now) + 1
            # Noted before the password is looked at: attempts that come together count, too.
            self._wrong[origin] = [*recent, now]
            while len(self._wrong) > self._most:
                self._wrong.popitem(last=False)
        return 0

    def forgive(self, address: str) -> None:
        """Forget the wrong ones: the right one came."""
        with self._lock:
            self._wrong.pop(self._origin(address), None)
