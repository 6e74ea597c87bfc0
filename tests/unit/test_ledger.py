"""The ledger and its forum client against a forum in memory that can be made to misbehave."""

import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from drills import ledger
from drills.accounts import AccountBook
from drills.browser import Browser, NotSentError, Timeouts, UnansweredError
from drills.check import judge, read_contents
from drills.forum import Account, ForumError, Visitor, new_account
from drills.records import Attempt, Journal, Outcome, Reading, Sight, SignIn, read_records

PAGE = 17


class FakeForum:
    """Misago's API as far as the ledger uses it; `trouble` says how the next replies go wrong."""

    def __init__(self) -> None:
        self.users: dict[str, str] = {}
        self.sessions: dict[str, str] = {}
        self.threads: dict[int, list[str]] = {}
        self.trouble = ""
        self.lock = threading.Lock()
        self.servers = [self._serve(), self._serve()]

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{server.server_address[1]}" for server in self.servers]

    def close(self) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def _serve(self) -> ThreadingHTTPServer:
        forum = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                forum.answer(self)

            do_POST = do_GET  # noqa: N815  # the base class's name

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return server

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        data = json.loads(request.rfile.read(length) or b"{}")
        with self.lock:
            status, body, cookies = self.handle(request, data)
        if self.trouble == "silent" and request.command == "POST":
            request.close_connection = True
            request.connection.close()
            return
        content = json.dumps(body).encode()
        request.send_response(status)
        for cookie in cookies:
            request.send_header("Set-Cookie", cookie)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def handle(self, request: BaseHTTPRequestHandler, data: dict[str, Any]) -> tuple[int, Any, list[str]]:
        path = request.path
        cookies = dict(
            part.split("=", 1) for part in (request.headers.get("Cookie") or "").split("; ") if part
        )
        user = self.sessions.get(cookies.get("sessionid", ""))
        if path == "/":
            return 200, {}, ["forumcsrf=first; Path=/; Secure"]
        if request.command == "POST" and request.headers.get("X-CSRFToken") != cookies.get("forumcsrf"):
            return 403, {"detail": "CSRF"}, []
        if path == "/api/users/":
            self.users[data["username"]] = data["password"]
            return 200, {"activation": None}, self.sign_in(data["username"])
        if path == "/api/auth/" and request.command == "POST":
            if user:
                return 403, {"detail": "You are already signed in."}, []
            if self.users.get(data["username"]) != data["password"]:
                return 400, {"code": "invalid_login"}, []
            return 200, {"username": data["username"]}, self.sign_in(data["username"])
        if path == "/api/auth/":
            return 200, {"id": 1 if user else None, "username": user}, []
        if request.command == "POST":
            return (*self.write(path, data, user), [])
        return (*self.read(path), [])

    def sign_in(self, username: str) -> list[str]:
        session = uuid.uuid4().hex
        self.sessions[session] = username
        return [f"sessionid={session}; Path=/; HttpOnly", f"forumcsrf=of{session}; Path=/"]

    def write(self, path: str, data: dict[str, Any], user: str | None) -> tuple[int, Any]:
        if not user:
            return 403, {"detail": "You have to sign in."}
        if self.trouble == "flood":
            return 403, {"detail": "You can't post message so quickly after previous one."}
        if self.trouble == "broken":
            return 500, {}
        if path == "/api/threads/":
            thread = len(self.threads) + 1
            self.threads[thread] = [data["post"]]
            return 200, {"id": thread}
        posts = self.threads[int(path.split("/")[3])]
        posts.append(data["post"])
        if self.trouble == "double":
            posts.append(data["post"])
        return 200, {"id": len(posts), "content": f"<p>{data['post']}</p>"}

    def read(self, path: str) -> tuple[int, Any]:
        found = re.match(r"/api/threads/(\d+)/posts/\?page=(\d+)", path)
        assert found, path
        thread, number = int(found[1]), int(found[2])
        posts = list(enumerate(self.threads[thread], 1))
        if self.trouble == "stale":
            posts = posts[:-1]
        pages = max(1, -(-(len(posts) - 1) // PAGE))
        if number > pages:
            return 404, {}
        shown = posts[(number - 1) * PAGE : number * PAGE + 1]
        results = [{"id": post, "content": f"<p>{content}</p>"} for post, content in shown]
        return 200, {"post_set": {"page": number, "pages": pages, "results": results}}


@pytest.fixture(autouse=True)
def close_browsers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close every browser that a test opened."""
    opened: list[Browser] = []
    prepare = Browser.__post_init__

    def remember(browser: Browser) -> None:
        prepare(browser)
        opened.append(browser)

    monkeypatch.setattr(Browser, "__post_init__", remember)
    yield
    for browser in opened:
        browser.close()


@pytest.fixture
def forum() -> Iterator[FakeForum]:
    fake = FakeForum()
    yield fake
    fake.close()


@pytest.fixture
def dead_url() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def visitor_of(urls: list[str]) -> Visitor:
    return Visitor(Browser(urls, timeouts=Timeouts(1, 2)))


def registered(forum: FakeForum) -> tuple[Visitor, Account]:
    visitor, account = visitor_of(forum.urls), new_account()
    visitor.register(account)
    return visitor, account


def test_cookies_are_shared_by_the_edges(forum: FakeForum) -> None:
    visitor, account = registered(forum)
    assert [visitor.who()["username"] for _ in range(4)] == [account.username] * 4


def test_the_next_address_takes_over_from_a_dead_one(forum: FakeForum, dead_url: str) -> None:
    visitor = visitor_of([dead_url, *forum.urls])
    assert visitor.browser.get("/").edge == forum.urls[0]


def test_nothing_was_sent_when_no_address_answers(dead_url: str) -> None:
    with pytest.raises(NotSentError, match=re.escape(dead_url)):
        visitor_of([dead_url]).browser.post("/", {})


def test_a_post_without_an_answer_is_not_sent_again(forum: FakeForum) -> None:
    visitor, _ = registered(forum)
    thread = visitor.start_thread(3, "A thread", "first")
    forum.trouble = "silent"
    with pytest.raises(UnansweredError):
        visitor.reply(thread, "once")
    assert forum.threads[thread] == ["first", "once"]


def test_a_browser_without_an_address_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Browser([])


def test_flood_and_a_lost_session_are_told_apart(forum: FakeForum) -> None:
    visitor, _ = registered(forum)
    thread = visitor.start_thread(3, "A thread", "first")
    forum.trouble = "flood"
    with pytest.raises(ForumError) as flood:
        visitor.reply(thread, "again")
    forum.sessions.clear()
    with pytest.raises(ForumError) as lost:
        visitor.reply(thread, "again")
    assert (flood.value.flood, flood.value.signed_out) == (True, False)
    assert (lost.value.flood, lost.value.signed_out) == (False, True)


def test_signing_in_twice_is_no_error(forum: FakeForum) -> None:
    visitor, account = registered(forum)
    assert visitor.sign_in(account)["username"] == account.username


def test_a_wrong_password_is_refused(forum: FakeForum) -> None:
    _, account = registered(forum)
    with pytest.raises(ForumError) as refused:
        visitor_of(forum.urls).sign_in(Account(account.username, "wrong"))
    assert refused.value.reply.status == 400


@pytest.mark.parametrize("posts", [1, 2, PAGE, PAGE + 1, PAGE + 2, 5 * PAGE])
def test_every_post_is_read_once(forum: FakeForum, posts: int) -> None:
    visitor, _ = registered(forum)
    thread = visitor.start_thread(3, "A thread", "0")
    forum.threads[thread] += [str(number) for number in range(1, posts)]
    assert [post.content for post in visitor.posts(thread)] == [f"<p>{number}</p>" for number in range(posts)]


def run_ledger(
    forum: FakeForum, directory: Path, during: Callable[[], None], users: int = 3
) -> list[Attempt]:
    """Write for a while, call `during` in the middle; the attempts."""
    plan = ledger.Plan(tuple(forum.urls), None, users=users, threads=2, pace=0.02, timeouts=Timeouts(1, 2))
    journal = Journal(directory / "attempts.jsonl")
    book = AccountBook(directory / "accounts.json")
    writers = ledger.prepare(plan, book, journal, lambda _: None)
    threads = ledger.start_threads(plan, writers, "test")
    for writer in writers:
        writer.free_at = 0.0
    stop = threading.Event()
    worker = threading.Thread(target=ledger.write_until, args=(plan, writers, threads, journal, stop.is_set))
    worker.start()
    time.sleep(0.3)
    during()
    time.sleep(0.3)
    stop.set()
    worker.join()
    journal.close()
    return [record for record in read_records(directory) if isinstance(record, Attempt)]


@pytest.fixture(autouse=True)
def quick_posting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Misago's pause between two posts, and with page numbers of this test only."""
    monkeypatch.setattr(ledger, "POSTING_INTERVAL", -0.3)
    monkeypatch.setattr(ledger, "READ_TRIES", 1)
    monkeypatch.setattr(ledger, "HINTS", ledger.PageHints())


def test_a_healthy_forum_keeps_every_promise(forum: FakeForum, tmp_path: Path) -> None:
    attempts = run_ledger(forum, tmp_path, lambda: None)
    contents = read_contents(visitor_of(forum.urls), list(forum.threads))
    readings = [record.sight for record in read_records(tmp_path) if isinstance(record, Reading)]
    assert len(attempts) > 10
    assert {attempt.outcome for attempt in attempts} == {Outcome.ACKNOWLEDGED}
    assert set(readings) == {Sight.SEEN}
    assert judge(attempts, contents).kept_every_promise
    assert len(contents) == len(attempts)


def test_every_writer_keeps_to_one_thread(forum: FakeForum, tmp_path: Path) -> None:
    attempts = run_ledger(forum, tmp_path, lambda: None, users=4)
    homes = {(attempt.user, attempt.thread) for attempt in attempts}
    assert len(homes) == 4
    assert len({thread for _, thread in homes}) == 2


def test_an_answer_that_was_lost_is_unknown_and_may_appear(forum: FakeForum, tmp_path: Path) -> None:
    def lose_answers() -> None:
        forum.trouble = "silent"
        time.sleep(0.3)
        forum.trouble = ""

    attempts = run_ledger(forum, tmp_path, lose_answers)
    verdict = judge(attempts, read_contents(visitor_of(forum.urls), list(forum.threads)))
    unknown = {attempt.marker for attempt in attempts if attempt.outcome is Outcome.UNKNOWN}
    assert unknown
    assert set(verdict.appeared) == unknown
    assert verdict.kept_every_promise


def test_errors_are_recorded_with_their_status(forum: FakeForum, tmp_path: Path) -> None:
    def break_it() -> None:
        forum.trouble = "broken"
        time.sleep(0.3)
        forum.trouble = ""

    failed = [a for a in run_ledger(forum, tmp_path, break_it) if a.outcome is Outcome.FAILED]
    assert failed
    assert {attempt.status for attempt in failed} == {500}
    assert all(attempt.edge in forum.urls for attempt in failed)


def test_a_lost_session_is_signed_in_again(forum: FakeForum, tmp_path: Path) -> None:
    attempts = run_ledger(forum, tmp_path, forum.sessions.clear)
    sign_ins = [record for record in read_records(tmp_path) if isinstance(record, SignIn)]
    assert sum(sign_in.accepted for sign_in in sign_ins) == 3
    assert attempts[-1].outcome is Outcome.ACKNOWLEDGED


def test_a_reader_who_misses_his_own_post_is_noticed(forum: FakeForum, tmp_path: Path) -> None:
    def fall_behind() -> None:
        forum.trouble = "stale"
        time.sleep(0.3)
        forum.trouble = ""

    run_ledger(forum, tmp_path, fall_behind, users=1)
    sights = [record.sight for record in read_records(tmp_path) if isinstance(record, Reading)]
    assert Sight.STALE in sights
    assert sights[-1] is Sight.SEEN


def test_a_doubled_post_breaks_the_promise(forum: FakeForum, tmp_path: Path) -> None:
    def double() -> None:
        forum.trouble = "double"
        time.sleep(0.3)
        forum.trouble = ""

    attempts = run_ledger(forum, tmp_path, double)
    verdict = judge(attempts, read_contents(visitor_of(forum.urls), list(forum.threads)))
    assert verdict.doubled
    assert not verdict.kept_every_promise


def test_a_lost_post_breaks_the_promise(forum: FakeForum, tmp_path: Path) -> None:
    attempts = run_ledger(forum, tmp_path, lambda: None)
    forum.threads[1].pop()
    forum.threads[2].pop()
    verdict = judge(attempts, read_contents(visitor_of(forum.urls), list(forum.threads)))
    assert len(verdict.lost) == 2
    assert not verdict.kept_every_promise


def test_no_answer_at_the_end_is_an_error(dead_url: str) -> None:
    with pytest.raises(NotSentError):
        read_contents(visitor_of([dead_url]), [1], patience=0)


def test_accounts_are_used_again_within_the_posting_limits(tmp_path: Path) -> None:
    book = AccountBook(tmp_path / "accounts.json")
    tired, fresh, old = Account("tired", "a"), Account("fresh", "b"), Account("old", "c")
    for account in (tired, fresh, old):
        book.add(account)
    book.count(["tired"] * 61 + ["fresh"] * 5, when=1_000_000)
    book.count(["old"] * 501, when=1_000_000 - 7200)
    book.save()
    again = AccountBook(tmp_path / "accounts.json")
    assert again.usable(5, now=1_000_100) == [fresh]
    assert again.usable(5, now=1_003_700) == [tired, fresh]
    assert set(map(repr, again.usable(5, now=1_090_000))) == set(map(repr, (tired, fresh, old)))
    assert (tmp_path / "accounts.json").stat().st_mode & 0o777 == 0o600


def test_an_account_that_the_forum_forgot_is_replaced(forum: FakeForum, tmp_path: Path) -> None:
    book = AccountBook(tmp_path / "accounts.json")
    book.add(Account("gone", "secret"))
    plan = ledger.Plan(tuple(forum.urls), None, users=2)
    journal = Journal(tmp_path / "attempts.jsonl")
    writers = ledger.prepare(plan, book, journal, lambda _: None)
    journal.close()
    assert {writer.account.username for writer in writers} == set(forum.users)
    assert "gone" not in AccountBook(tmp_path / "accounts.json").known


def test_whoever_is_still_signed_in_does_not_sign_in_again(forum: FakeForum, tmp_path: Path) -> None:
    plan = ledger.Plan(tuple(forum.urls), None, users=2)
    journal = Journal(tmp_path / "attempts.jsonl")

    def prepare() -> None:
        ledger.prepare(plan, AccountBook(tmp_path / "accounts.json"), journal, lambda _: None)

    prepare()
    sessions = set(forum.sessions)
    prepare()
    assert set(forum.sessions) == sessions
    # Of one the forum doesn't know any more.
    forum.sessions.pop(sessions.pop())
    prepare()
    assert len(forum.sessions) == 2
    assert len(forum.users) == 2
    journal.close()
