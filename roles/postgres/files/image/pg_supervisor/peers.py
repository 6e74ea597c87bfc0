"""What the other members say, asked without pause, each by a thread of its own.

A name that doesn't resolve or a host that is gone can hold a question up for longer than its time-out, so nobody
ever waits for an answer: they read the last one, if it is fresh.
"""

from __future__ import annotations

import contextlib
import http.client
import queue
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import TypeVar

from .report import Report
from .seal import Seal, nonce
from .votes import Answer, Request

T = TypeVar("T")

ASK_EVERY = 0.5
# As long as a member holds a question until there is news, well below FRESH.
HOLD_SECONDS = 0.6
# At least so long between two questions, even if there is news all the time.
BREATH = 0.1
FRESH = 2.0
MAX_ANSWER = 16384


class RefusedError(RuntimeError):
    """A peer answered with an error."""


class Line:
    """A connection to a member, kept from one question to the next. timeout: seconds, for each step of the way."""

    def __init__(self, host: str, port: int, seal: Seal, timeout: float) -> None:
        self._host = host
        self._seal = seal
        self._connection = http.client.HTTPConnection(host, port, timeout=timeout)

    def call(self, path: str, body: bytes = b"", known: str = "") -> tuple[bytes, str]:
        """Ask and return the answer, both sealed, and its ETag. An empty body makes it a GET.

        known: the ETag of the last answer, to be answered when there is another one, or after a moment.
        Raises OSError, http.client.HTTPException or RefusedError; the line is of no use after that.
        """
        word = nonce()
        headers = {"X-Nonce": word, "X-Seal": self._seal.sign(path.encode(), word.encode(), body)}
        if known:
            headers["If-None-Match"] = known
        self._connection.request("POST" if body else "GET", path, body or None, headers)
        response = self._connection.getresponse()
        answer = response.read(MAX_ANSWER)
        if response.status != 200:
            raise RefusedError(f"{self._host} answers {path} with {response.status}")
        if not self._seal.holds(response.getheader("X-Seal", ""), word.encode(), answer):
            raise RefusedError(
                f"{self._host}'s answer to {path} has no valid seal: do all members have the same password?"
            )
        return answer, response.getheader("ETag", "")

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def in_parallel(
    questions: Iterable[Callable[[], T]], seconds: float, enough: Callable[[list[T]], bool] = lambda _: False
) -> list[T]:
    """Ask all questions at once, for at most so many seconds.

    Returns the results, in any order, of those that ended without an exception until then, or until enough says
    that no more is needed.
    """
    asked = list(questions)
    results: list[T] = []
    ended: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def ask(question: Callable[[], T]) -> None:
        with contextlib.suppress(Exception):
            results.append(question())
        ended.put(True)

    for question in asked:
        threading.Thread(target=ask, args=(question,), daemon=True).start()
    end = time.monotonic() + seconds
    for _ in asked:
        if enough(list(results)):
            break
        try:
            ended.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
    return list(results)


class Peers:
    """The other members of the stack."""

    def __init__(self, names: Iterable[str], port: int, seal: Seal) -> None:
        self._names = tuple(names)
        self._port = port
        self._seal = seal
        self._last: dict[str, tuple[float, Report]] = {}

    def watch(self) -> None:
        """Begin to ask, for good."""
        for name in self._names:
            threading.Thread(target=self._watch, args=(name,), daemon=True).start()

    def _watch(self, name: str) -> None:
        while True:
            with contextlib.suppress(Exception), self._line(name, timeout=HOLD_SECONDS + 1.5) as line:
                self._listen(name, line)
            time.sleep(ASK_EVERY)

    def _listen(self, name: str, line: Line) -> None:
        known = ""
        while True:
            report, known = self._read(name, line, known)
            self._last[name] = (time.monotonic(), report)
            time.sleep(BREATH)

    def _line(self, name: str, timeout: float) -> AbstractContextManager[Line]:
        return contextlib.closing(Line(name, self._port, self._seal, timeout))

    def _ask(self, name: str) -> Report:
        with self._line(name, timeout=1.5) as line:
            return self._read(name, line)[0]

    def _read(self, name: str, line: Line, known: str = "") -> tuple[Report, str]:
        answer, gist = line.call("/state", known=known)
        report = Report.parse(answer)
        if report.name != name:
            raise RefusedError(f"{name} calls itself {report.name}")
        return report, gist

    def reports(self) -> dict[str, Report]:
        """By name, what each member that can be heard said last, at most FRESH seconds ago."""
        now = time.monotonic()
        return {name: report for name, (heard, report) in list(self._last.items()) if now - heard <= FRESH}

    def ask_now(self) -> dict[str, Report]:
        """By name, what each member that answers within a second says now."""
        answers = in_parallel([partial(self._ask, name) for name in self._names], 1)
        return {report.name: report for report in answers}

    def ask_votes(self, request: Request, needed: int) -> list[Answer]:
        """The answers to a call for votes that came within 5 s, or until so many as needed granted theirs."""

        def enough(answers: list[Answer]) -> bool:
            return sum(answer.granted for answer in answers) >= needed

        body = request.dump().encode()
        return in_parallel([partial(self._ask_vote, name, body) for name in self._names], 5, enough)

    def _ask_vote(self, name: str, body: bytes) -> Answer:
        with self._line(name, timeout=5) as line:
            return Answer.parse(line.call("/vote", body)[0])
