"""The users that write during drills, kept in a file and used again within Misago's posting limits."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from drills.forum import Account

HOUR = 3600.0
DAY = 86400.0
HOURLY_POSTS = 60
"""Misago refuses a user's posts beyond 100 an hour; a run may need up to 40 of one user."""
DAILY_POSTS = 500
"""Misago refuses a user's posts beyond 600 a day."""


@dataclass
class KnownAccount:
    """An account, the posts it made (pairs of seconds since the epoch and number of posts), its browser's cookies."""

    account: Account
    posted: list[tuple[float, int]] = field(default_factory=list)
    cookies: dict[str, str] = field(default_factory=dict)

    def posts_since(self, moment: float) -> int:
        """Number of posts recorded at or after a moment."""
        return sum(number for when, number in self.posted if when >= moment)

    def may_post(self, now: float) -> bool:
        """Whether a whole run's posts still fit Misago's limits."""
        return self.posts_since(now - HOUR) <= HOURLY_POSTS and self.posts_since(now - DAY) <= DAILY_POSTS


class AccountBook:
    """The file of accounts, readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, KnownAccount] = {}
        if path.exists():
            for entry in json.loads(path.read_text()):
                account = Account(entry["username"], entry["password"])
                posted = [(float(when), int(number)) for when, number in entry["posted"]]
                self.known[account.username] = KnownAccount(account, posted, dict(entry.get("cookies", {})))

    def usable(self, number: int, now: float | None = None) -> list[Account]:
        """Up to `number` accounts whose posts still fit the limits, the least used first."""
        moment = time.time() if now is None else now
        fit = [known for known in self.known.values() if known.may_post(moment)]
        fit.sort(key=lambda known: known.posts_since(moment - HOUR))
        return [known.account for known in fit[:number]]

    def add(self, account: Account) -> None:
        """Record a new account."""
        self.known[account.username] = KnownAccount(account)

    def drop(self, account: Account) -> None:
        """Forget an account that the forum no longer knows."""
        self.known.pop(account.username, None)

    def count(self, usernames: Sequence[str], when: float | None = None) -> None:
        """Record one post for each name given (a name may come several times)."""
        moment = time.time() if when is None else when
        for username in set(usernames) & set(self.known):
            posted = self.known[username].posted
            posted.append((moment, usernames.count(username)))
            self.known[username].posted = [entry for entry in posted if entry[0] >= moment - DAY]

    def save(self) -> None:
        """Write the file: whole or not at all, mode 0600."""
        entries = [
            {**asdict(known.account), "posted": known.posted, "cookies": known.cookies}
            for known in self.known.values()
        ]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(".new")
        scratch.unlink(missing_ok=True)
        scratch.touch(mode=0o600)
        scratch.write_text(json.dumps(entries, indent=1))
        scratch.replace(self.path)
