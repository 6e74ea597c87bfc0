"""Who is primary, by the members' own word, and what Pgpool must be told."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from .pool import Backend
from .settings import Settings

FRESH = 2.0
# Seconds for each step of a question; a member holds one for 0.6 s.
TIMEOUT = 2.0
# At least so long between two questions, even if there is news all the time.
BREATH = 0.1
MAX_ANSWER = 16384


@dataclass(frozen=True)
class Word:
    """What a member says of itself: its state, and the newest timeline it has."""

    state: str
    timeline: int


class Do(Enum):
    """What Pgpool must be told."""

    NOTHING = auto()
    ATTACH = auto()
    PROMOTE = auto()


@dataclass(frozen=True)
class Order:
    """An order to Pgpool, and the backend's number that it concerns."""

    do: Do
    number: int = -1


def primary_of(words: Mapping[int, Word]) -> int | None:
    """Number of the primary on the newest timeline, None without one: an older one was overtaken."""
    primaries = {number: word.timeline for number, word in words.items() if word.state == "primary"}
    return max(primaries, key=lambda number: primaries[number], default=None)


def decide(words: Mapping[int, Word], backends: Sequence[Backend]) -> Order:
    """The next order to Pgpool. words: by backend number, for the members that can be heard.

    A backend that Pgpool holds for down can't be promoted, and it says that it did: so attach first. The others
    are attached once they say that they serve.
    """
    primary = primary_of(words)
    if primary is None:
        return Order(Do.NOTHING)
    if backends[primary].down:
        return Order(Do.ATTACH, primary)
    if not backends[primary].primary:
        return Order(Do.PROMOTE, primary)
    for number, backend in enumerate(backends):
        if backend.down and number in words and words[number].state == "standby":
            return Order(Do.ATTACH, number)
    return Order(Do.NOTHING)


class DisobeyedError(RuntimeError):
    """Pgpool was given the same order for long, and nothing came of it."""


class Patience:
    """How long Pgpool has been given the same order. seconds: as long as it may take to obey."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._order = Order(Do.NOTHING)
        self._since = 0.0

    def judge(self, order: Order, now: float) -> None:
        """Note the order given at this moment. Raises DisobeyedError."""
        if order != self._order:
            self._order, self._since = order, now
        elif order.do is not Do.NOTHING and now - self._since > self._seconds:
            raise DisobeyedError(f"{order.do.name.lower()} had no effect for {self._seconds:.0f} s")


class Words:
    """The members' last words, asked without pause, each by a thread of its own: a lost one must not delay."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._last: dict[int, tuple[float, Word]] = {}

    def watch(self) -> None:
        """Begin to ask, for good."""
        for number, member in enumerate(self._settings.members):
            threading.Thread(target=self._watch, args=(number, member), daemon=True).start()

    def _watch(self, number: int, member: str) -> None:
        while True:
            line = http.client.HTTPConnection(member, self._settings.state_port, timeout=TIMEOUT)
            with contextlib.suppress(Exception), contextlib.closing(line):
                self._listen(number, line)
            time.sleep(self._settings.ask_seconds)

    def _listen(self, number: int, line: http.client.HTTPConnection) -> None:
        """Ask on one connection until it fails. Who shows a member's last word is answered when it has another one."""
        known = ""
        while True:
            line.request("GET", "/state", headers={"If-None-Match": known} if known else {})
            answer = line.getresponse()
            known = answer.getheader("ETag", "")
            values = json.loads(answer.read(MAX_ANSWER))
            word = Word(str(values["state"]), int(values["timeline"]))
            self._last[number] = (time.monotonic(), word)
            time.sleep(BREATH)

    def fresh(self) -> dict[int, Word]:
        """By number, the words that are at most FRESH seconds old."""
        now = time.monotonic()
        return {number: word for number, (heard, word) in list(self._last.items()) if now - heard <= FRESH}
