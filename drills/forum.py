"""Misago's HTTP API as one visitor uses it. Shapes are those of Misago 0.39."""

import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from drills.browser import Browser, Reply

POSTING_INTERVAL = 3.0
"""Seconds that Misago makes a user wait between two posts; an earlier one is answered 403."""

FLOOD = re.compile(r"so quickly|post limit", re.IGNORECASE)


class ForumError(Exception):
    """The forum answered, but not with what was asked for. `reply` is its answer."""

    def __init__(self, what: str, reply: Reply) -> None:
        super().__init__(f"{what}: HTTP {reply.status} from {reply.edge}: {reply.text[:200]}")
        self.reply = reply

    @property
    def flood(self) -> bool:
        """Refused because this user posted too much, not because something is broken."""
        return self.reply.status == 403 and bool(FLOOD.search(self.reply.text))

    @property
    def signed_out(self) -> bool:
        """Refused because the session (or its CSRF token) is no longer known."""
        return self.reply.status in (401, 403) and not self.flood


@dataclass(frozen=True)
class Account:
    """A registered user and the password that signs him in."""

    username: str
    password: str

    @property
    def email(self) -> str:
        """An address in the domain reserved for examples, so that no mail can reach anybody."""
        return f"{self.username.lower()}@example.com"


@dataclass(frozen=True)
class Post:
    """A post as the API shows it: `content` is HTML."""

    id: int
    content: str


@dataclass(frozen=True)
class Page:
    """One page of a thread. Misago repeats the last post of a page as the first one of the next."""

    number: int
    pages: int
    posts: tuple[Post, ...]


def pause_between_posts() -> None:
    """Wait as long as Misago wants a user to wait between two posts."""
    time.sleep(POSTING_INTERVAL + 0.3)


def new_account(prefix: str = "drill") -> Account:
    """A user name that no other run has (Misago allows letters and digits) and a random password."""
    return Account(f"{prefix}{secrets.token_hex(4)}", secrets.token_urlsafe(18))


class Visitor:
    """A person with a browser, signed in or not.

    Every method raises NotSentError, UnansweredError or ForumError.
    """

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    def arrive(self) -> None:
        """Open the front page, which hands out the CSRF cookie that every later write needs."""
        self._expect("open the forum", self.browser.get("/"), 200)

    def register(self, account: Account) -> dict[str, Any]:
        """Register; the forum signs a new user in at once unless accounts must be activated."""
        if self.browser.csrf_token is None:
            self.arrive()
        data = {"username": account.username, "email": account.email, "password": account.password}
        return self._object("register", self.browser.post("/api/users/", data))

    def sign_in(self, account: Account) -> dict[str, Any]:
        """Sign in; whoever is signed in already stays so. Returns the user."""
        if self.browser.csrf_token is None:
            self.arrive()
        data = {"username": account.username, "password": account.password}
        reply = self.browser.post("/api/auth/", data)
        if reply.status == 403 and self.who().get("username") == account.username:
            return self.who()
        return self._object("sign in", reply)

    def sign_out(self) -> None:
        """Sign out."""
        self._expect("sign out", self.browser.post("/logout/", {}), 200, 302)

    def who(self) -> dict[str, Any]:
        """The signed-in user; a guest's object has `id` None."""
        return self._object("ask who I am", self.browser.get("/api/auth/"))

    def start_thread(self, category: int, title: str, post: str) -> int:
        """Start a thread and return its id."""
        data = {"category": category, "title": title, "post": post}
        return int(self._object("start a thread", self.browser.post("/api/threads/", data))["id"])

    def reply(self, thread: int, post: str, attachments: tuple[int, ...] = ()) -> Post:
        """Reply to a thread; returning is the acknowledgement."""
        data: dict[str, Any] = {"post": post}
        if attachments:
            data["attachments"] = list(attachments)
        answer = self._object("reply", self.browser.post(f"/api/threads/{thread}/posts/", data))
        return _post(answer)

    def edit(self, thread: int, post: int, text: str) -> Post:
        """Replace one's own post's text; Misago sets no pause between edits."""
        path = f"/api/threads/{thread}/posts/{post}/"
        return _post(self._object("edit", self.browser.request("PUT", path, data={"post": text})))

    def page(self, thread: int, number: int) -> Page:
        """Read one page of a thread, 1 being the first."""
        answer = self._object("read", self.browser.get(f"/api/threads/{thread}/posts/?page={number}"))
        listing = answer["post_set"]
        posts = tuple(_post(entry) for entry in listing["results"])
        return Page(int(listing["page"]), int(listing["pages"]), posts)

    def last_page(self, thread: int, hint: int = 1) -> Page:
        """Read the last page. hint: a page that is known to exist, near the end."""
        page = self.page(thread, hint)
        while page.number < page.pages:
            page = self.page(thread, page.pages)
        return page

    def posts(self, thread: int) -> Iterator[Post]:
        """Every post of a thread, each once."""
        seen: set[int] = set()
        number, pages = 1, 1
        while number <= pages:
            page = self.page(thread, number)
            yield from (post for post in page.posts if post.id not in seen)
            seen.update(post.id for post in page.posts)
            number, pages = number + 1, page.pages

    def mark_read(self, thread: int, post: int) -> None:
        """Mark a post as read."""
        reply = self.browser.post(f"/api/threads/{thread}/posts/{post}/read/", {})
        self._expect("mark as read", reply, 200)

    def watch(self, thread: int, notifications: int = 1) -> int:
        """Watch a thread: 0 not, 1 on the site, 2 also by mail. Returns what the forum recorded."""
        reply = self.browser.post(f"/api/v2/threads/{thread}/watch/", {"notifications": notifications})
        return int(self._object("watch", reply)["notifications"])

    def notifications(self) -> list[str]:
        """The newest of the signed-in user's notifications, in Misago's words."""
        listing = self._object("list notifications", self.browser.get("/api/v2/notifications/"))
        return [str(entry["message"]) for entry in listing["results"]]

    def threads(self, which: str = "all") -> list[int]:
        """Ids of a list's first page. which: all, watched, unread, new or my."""
        reply = self.browser.get(f"/api/threads/?list={which}")
        return [int(thread["id"]) for thread in self._object(f"list {which}", reply)["results"]]

    @staticmethod
    def _expect(what: str, reply: Reply, *statuses: int) -> Reply:
        if reply.status not in statuses:
            raise ForumError(what, reply)
        return reply

    @classmethod
    def _object(cls, what: str, reply: Reply) -> dict[str, Any]:
        cls._expect(what, reply, 200, 201)
        try:
            answer = reply.json()
        except ValueError as error:
            raise ForumError(what, reply) from error
        if not isinstance(answer, dict):
            raise ForumError(what, reply)
        return answer


def _post(entry: dict[str, Any]) -> Post:
    return Post(int(entry["id"]), str(entry.get("content") or ""))
