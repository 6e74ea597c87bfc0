"""Requests that nginx answers by itself, counted: what of them must be in the log afterwards."""

import itertools
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from drills.browser import Browser, NotSentError, Timeouts, UnansweredError
from drills.elastic import Elastic
from drills.lab import Lab

#: Logged, and no work for the forum.
PATH = "/alive"
WORKERS = 6
PAGE = 5000


@dataclass
class Load:
    """So many requests per second over all edges, each with a name of its own, and which of them were answered."""

    lab: Lab
    rate: float
    name: str = field(default_factory=lambda: f"counted-{secrets.token_hex(6)}")
    answered: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def _work(self, number: int) -> None:
        browser = Browser(self.lab.forum_urls, self.lab.ca_file, Timeouts(connect=3, answer=10), turn=number)
        due = time.monotonic()
        for count in itertools.count():
            due += WORKERS / self.rate
            if self._stop.wait(due - time.monotonic()):
                break
            marker = f"{self.name}/{number}.{count}"
            try:
                browser.get(PATH, headers={"User-Agent": marker})
            except (NotSentError, UnansweredError):
                continue
            self.answered.append(marker)
        browser.close()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask as long as this lasts."""
        workers = [threading.Thread(target=self._work, args=(number,)) for number in range(WORKERS)]
        for worker in workers:
            worker.start()
        try:
            yield
        finally:
            self._stop.set()
            for worker in workers:
                worker.join()


@dataclass(frozen=True)
class Account:
    """What became of the requests that were answered."""

    sent: int
    stored: int
    doubled: int
    missing: int

    def __str__(self) -> str:
        return f"{self.sent} answered, {self.stored} stored, {self.doubled} doubled, {self.missing} missing"


def account(load: Load) -> Account:
    """Compare what was answered with nginx' lines in Elasticsearch. Raises as Elastic.search does."""
    found = Counter(_markers(load))
    sent = set(load.answered)
    return Account(
        len(sent), len(sent & found.keys()), sum(found[each] > 1 for each in sent), len(sent - found.keys())
    )


def _markers(load: Load) -> Iterator[str]:
    wanted = {
        "size": PAGE,
        "_source": False,
        "fields": ["user_agent.original"],
        "sort": ["event.id", "@timestamp"],
        "query": {"prefix": {"user_agent.original": f"{load.name}/"}},
    }
    for hit in Elastic(load.lab).every(wanted):
        yield hit["fields"]["user_agent.original"][0]
