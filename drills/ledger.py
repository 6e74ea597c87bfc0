"""The write ledger: many users post at a steady pace, and every outcome is written down.

A post is due every `pace` seconds. It is made by the user who has been idle longest, so a user who waits
for an answer holds up nobody else: an outage shows as attempts that fail or hang, not as silence.
"""

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from drills.accounts import AccountBook
from drills.browser import Browser, NotSentError, Timeouts, UnansweredError
from drills.forum import POSTING_INTERVAL, Account, ForumError, Visitor, new_account
from drills.records import Attempt, Journal, Outcome, Reading, Sight, SignIn, Skip, now

TROUBLE = (NotSentError, UnansweredError, ForumError)
READ_TRIES = 3


@dataclass(frozen=True)
class Plan:
    """How to write. pace: seconds between two attempts, of all users together."""

    forum_urls: tuple[str, ...]
    ca_file: str | None
    host: str | None = None
    users: int = 32
    threads: int = 8
    pace: float = 0.25
    category: int = 3
    timeouts: Timeouts = field(default_factory=Timeouts)


class Writer:
    """One user who posts when told to, in a thread of execution of his own."""

    def __init__(self, account: Account, visitor: Visitor, journal: Journal) -> None:
        self.account = account
        self.visitor = visitor
        self.journal = journal
        self.free_at = 0.0
        self.posts = 0
        self._busy = threading.Event()
        self._signed_in = True

    @property
    def idle(self) -> bool:
        """Whether he may post now: nothing pending, and Misago's interval is over."""
        return not self._busy.is_set() and time.monotonic() >= self.free_at

    def post(self, thread: int, marker: str) -> None:
        """Post once in the background; the outcome goes to the journal."""
        self._busy.set()
        threading.Thread(target=self._turn, args=(thread, marker), daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait for a pending post; False when it is still pending after that time."""
        deadline = time.monotonic() + seconds
        while self._busy.is_set() and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self._busy.is_set()

    def _turn(self, thread: int, marker: str) -> None:
        try:
            if not self._signed_in:
                self._sign_in()
            attempt = self._attempt(thread, marker)
            self.free_at = time.monotonic() + POSTING_INTERVAL + 0.3
            self.journal.write(attempt)
            if attempt.outcome is Outcome.ACKNOWLEDGED:
                self._read_own(thread, marker)
        finally:
            self._busy.clear()

    def _attempt(self, thread: int, marker: str) -> Attempt:
        self.posts += 1
        began = now()

        def result(outcome: Outcome, status: int = 0, why: str = "", post: int = 0) -> Attempt:
            edge = "" if outcome is Outcome.UNSENT else self.visitor.browser.last_edge
            user = self.account.username
            return Attempt(marker, user, thread, began, now(), outcome, edge, status, why, post)

        try:
            post = self.visitor.reply(thread, f"Entry of the write ledger: {marker}")
        except NotSentError as error:
            return result(Outcome.UNSENT, why=str(error))
        except UnansweredError as error:
            return result(Outcome.UNKNOWN, why=str(error))
        except ForumError as error:
            self._signed_in = not error.signed_out
            return result(Outcome.FAILED, error.reply.status, _short(error))
        return result(Outcome.ACKNOWLEDGED, 200, post=post.id)

    def _read_own(self, thread: int, marker: str) -> None:
        for _ in range(READ_TRIES):
            began = now()
            try:
                seen = marker_on_last_pages(self.visitor, thread, marker)
            except TROUBLE as error:
                sight, why = Sight.FAILED, _short(error)
            else:
                sight, why = (Sight.SEEN if seen else Sight.STALE), ""
            self.journal.write(Reading(marker, self.account.username, began, now(), sight, why=why))
            if sight is not Sight.FAILED:
                return
            time.sleep(1)

    def _sign_in(self) -> None:
        began, why = now(), ""
        try:
            self.visitor.sign_in(self.account)
            self._signed_in = True
        except TROUBLE as error:
            why = _short(error)
        self.journal.write(SignIn(self.account.username, began, now(), self._signed_in, why))


class PageHints:
    """The last page number seen of each thread, shared by all readers so that one request finds the end."""

    def __init__(self) -> None:
        self._pages: dict[int, int] = {}

    def get(self, thread: int) -> int:
        """A page that exists and is near the end."""
        return self._pages.get(thread, 1)

    def learn(self, thread: int, pages: int) -> None:
        """Remember how many pages a thread had."""
        self._pages[thread] = max(pages, self._pages.get(thread, 1))


HINTS = PageHints()


def marker_on_last_pages(visitor: Visitor, thread: int, marker: str) -> bool:
    """Whether a marker is on the thread's last page, or on the one before it when others wrote meanwhile.

    Raises NotSentError, UnansweredError or ForumError when the thread can't be read.
    """
    try:
        page = visitor.last_page(thread, HINTS.get(thread))
    except ForumError as error:
        if error.reply.status != 404 or HINTS.get(thread) == 1:
            raise
        return False
    HINTS.learn(thread, page.pages)
    if any(marker in post.content for post in page.posts):
        return True
    return page.number > 1 and any(
        marker in post.content for post in visitor.page(thread, page.number - 1).posts
    )


def prepare(plan: Plan, book: AccountBook, journal: Journal, say: Callable[[str], None]) -> list[Writer]:
    """Sign in known accounts and register the missing ones: `plan.users` writers, all signed in.

    Raises NotSentError, UnansweredError or ForumError when the forum doesn't take a registration.
    """

    def browser(number: int) -> Browser:
        return Browser(plan.forum_urls, plan.ca_file, plan.timeouts, plan.host, turn=number)

    def known(pair: tuple[int, Account]) -> Writer | None:
        number, account = pair
        visitor = Visitor(browser(number))
        # Still signed in, mostly: checking a password takes the forum the longest.
        visitor.browser.cookies.update(book.known[account.username].cookies)
        try:
            visitor.sign_in(account)
        except ForumError as error:
            if error.reply.status != 400:
                raise
            book.drop(account)
            return None
        return Writer(account, visitor, journal)

    def new(number: int) -> Writer:
        account, visitor = new_account(), Visitor(browser(number))
        visitor.register(account)
        book.add(account)
        return Writer(account, visitor, journal)

    with ThreadPoolExecutor(3) as pool:
        found = pool.map(known, enumerate(book.usable(plan.users)))
        writers = [writer for writer in found if writer is not None]
        say(f"{len(writers)} known users signed in, {plan.users - len(writers)} to register")
        writers.extend(pool.map(new, range(len(writers), plan.users)))
    for writer in writers:
        # The browser's own and no copy: the book is saved again when all have written.
        book.known[writer.account.username].cookies = writer.visitor.browser.cookies
    book.save()
    return writers


def start_threads(plan: Plan, writers: Sequence[Writer], run: str) -> list[int]:
    """Start the threads that the ledger writes to, each by another user, and return their ids."""
    threads = []
    for number, writer in enumerate(writers[: plan.threads], 1):
        title = f"Write ledger {run}, part {number}"
        threads.append(writer.visitor.start_thread(plan.category, title, f"Threads of the drill {run}."))
        writer.posts += 1
        writer.free_at = time.monotonic() + POSTING_INTERVAL + 0.3
    return threads


def write_until(
    plan: Plan,
    writers: Sequence[Writer],
    threads: Sequence[int],
    journal: Journal,
    stopped: Callable[[], bool],
) -> None:
    """Keep posting at the plan's pace until `stopped()`; then wait for the posts that are pending.

    Every writer keeps to one thread: Misago tells all who wrote in a thread of every reply, and if everybody wrote
    everywhere, the drill would measure how the forum bears 31 notifications a post.
    """
    run = f"ledger{secrets.token_hex(5)}"
    home = {writer.account: threads[turn % len(threads)] for turn, writer in enumerate(writers)}
    number = 0
    due = time.monotonic()
    while not stopped():
        free = [writer for writer in writers if writer.idle]
        if free:
            writer = min(free, key=lambda one: one.free_at)
            writer.post(home[writer.account], f"{run}n{number:06d}")
            number += 1
        else:
            journal.write(Skip(now()))
        due = max(due + plan.pace, time.monotonic() - plan.pace)
        time.sleep(max(0.0, due - time.monotonic()))
    patience = plan.timeouts.answer * (2 + READ_TRIES)
    for writer in writers:
        writer.wait(patience)


@dataclass(frozen=True)
class Run:
    """The directory of one run, and the files that the steps share."""

    directory: Path

    @property
    def stop_file(self) -> Path:
        """Its existence tells the ledger to stop."""
        return self.directory / "stop"

    @property
    def ready_file(self) -> Path:
        """Written when the users are signed in and posting begins: {"threads": [ids]}."""
        return self.directory / "ready.json"

    @property
    def contents_file(self) -> Path:
        """Written at the end: marker -> number of posts that hold it."""
        return self.directory / "contents.json"

    def journal(self, name: str) -> Journal:
        """The journal of one step."""
        return Journal(self.directory / f"{name}.jsonl")


def _short(error: Exception) -> str:
    return str(error)[:300]
