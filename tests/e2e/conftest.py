"""The lab under test, and visitors of its forum.

E2E_ARTIFACTS is where screenshots and reports go (default: artifacts/e2e in the repository).
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# `pytest` alone doesn't put the repository on the path, and these tests share their client with the drills.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from drills.browser import Browser, Timeouts
from drills.forum import Account, Visitor, new_account
from drills.lab import ROOT, Lab, read_lab


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `edge` runs once for every edge address."""
    if "edge" in metafunc.fixturenames:
        metafunc.parametrize("edge", read_lab().forum_urls, scope="module")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Drills come last: they break what the others test."""
    items.sort(key=lambda item: item.path.name == "test_drills.py")


@pytest.fixture(scope="session")
def lab() -> Lab:
    return read_lab()


@pytest.fixture(scope="session")
def artifacts() -> Path:
    directory = Path(os.environ.get("E2E_ARTIFACTS", ROOT / "artifacts" / "e2e"))
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Callable[..., Visitor]]:
    """Makes visitors who aren't signed in; without an argument they rotate over all edges."""
    browsers: list[Browser] = []

    def make(*edges: str) -> Visitor:
        browsers.append(Browser(edges or lab.forum_urls, lab.ca_file, Timeouts(connect=3, answer=60)))
        return Visitor(browsers[-1])

    yield make
    for browser in browsers:
        browser.close()


@pytest.fixture(scope="module")
def notify(member: Callable[..., tuple[Visitor, Account]]) -> Callable[[], float]:
    """Has one user answer another's thread; the seconds until Celery has told the other one of it."""

    def answer() -> float:
        author, _ = member()
        answerer, account = member()
        thread = author.start_thread(3, "Who tells me of answers?", "Somebody should.")
        author.watch(thread)
        answerer.reply(thread, "Celery does.")
        began = time.monotonic()
        while not any(account.username in message for message in author.notifications()):
            assert time.monotonic() - began < 60, "nobody was told of the answer for a minute"
            time.sleep(0.5)
        return time.monotonic() - began

    return answer


@pytest.fixture(scope="module")
def member(guest: Callable[..., Visitor]) -> Callable[..., tuple[Visitor, Account]]:
    """Makes registered visitors, signed in; without an argument they rotate over all edges."""

    def make(*edges: str) -> tuple[Visitor, Account]:
        visitor, account = guest(*edges), new_account("e2e")
        visitor.register(account)
        return visitor, account

    return make
