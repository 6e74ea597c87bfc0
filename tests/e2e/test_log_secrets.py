"""No password, token, cookie or e-mail address is in a log line, wherever somebody typed it."""

import json
import secrets
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from drills.elastic import Elastic
from drills.forum import Account, Visitor
from drills.lab import Lab, until
from tests.e2e.test_secrets import leaks, values

PAGE = 5000
# On every member, whatever its role: a standby may be asked, too.
EVERYWHERE = """
for container in $(docker ps -q --filter name=_postgres-); do
  docker exec -i "$container" psql -h /tmp -U repmgr -d postgres >/dev/null 2>&1 <<'STATEMENTS' && echo asked
{statements}
STATEMENTS
done
"""
# Longer than what a pipe takes at once, and than what a shipper takes for one line.
LONG = ("x" * 99 + "\n") * 700


@dataclass(frozen=True)
class Typed:
    """What was typed: its forms by name, and the lines that tell of it: a query, and how many it must find."""

    forms: dict[str, list[str]]
    lines: dict[str, int]

    def missing(self, lab: Lab) -> list[str]:
        """The queries that find too few."""
        return [query for query, least in self.lines.items() if Elastic(lab).count(query) < least]


def statements(word: str, phrase: str) -> str:
    """Statements of which PostgreSQL tells: two slow ones, and some that fail."""
    literal = "'" + phrase.replace("'", "''") + "'"
    return f"""
SELECT '{word}', {literal}, pg_sleep(2.5);
SELECT pg_sleep(2.5), '{LONG}{word}', {literal};
SELECT '{word}' FRM x;
SELECT '{word}'::int;
SELECT {literal}::int;
ALTER ROLE nobody_of_that_name PASSWORD {literal};
"""


@pytest.fixture(scope="module")
def typed(lab: Lab, member: Callable[..., tuple[Visitor, Account]]) -> Typed:
    """All of it typed, or given to somebody, wherever it could come into a log, and in Elasticsearch if ever."""
    since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    visitor, account = member()
    # As tokens are, and as nothing that looks random.
    word = f"Typed{secrets.token_hex(12)}X9"
    short = "".join(secrets.choice(string.ascii_lowercase) for _ in range(10))
    parts = [secrets.token_hex(6) for _ in range(5)]
    # PostgreSQL complains in other words of what begins with many digits.
    phrase = "p{} {}, '{}' \"{}\",{}".format(*parts)
    browser = visitor.browser
    for password in (word, phrase):
        browser.request("POST", "/api/auth/", data={"username": account.email, "password": password})
    browser.request("POST", "/api/auth/send-password-form/", data={"email": account.email})
    visitor.start_thread(3, "A thread of one who tells his address", f"Write to {account.email}.")
    named = {"User-Agent": f"Robot/1.0 ({account.email})", "Authorization": f"Bearer {word}"}
    links = [
        link.format(secret)
        for secret in (word, short)
        for link in (
            "/activation/1/{}/",
            "/forgotten-password/1/{0}/?next={0}",
            "/options/change-email/{}/",
            "/options/change-password/{}/",
            "/api/auth/change-password/1/{}/",
            "/notifications/disable-email/1/{}/",
            "/a/{}/1/",
        )
    ]
    for edge in lab.forum_urls:
        for path in (
            *links,
            f"/media/attachments/ab/cd/{word}/picture.png",
            f"/search/?q={word}&email={account.email}",
            f"/search/?q={quote(phrase)}",
            f"/write%20to%20{account.email}/",
            f"/write%20to/{account.email}/",
        ):
            # A page's pictures and questions name it as where they come from.
            browser.get(path, edge=edge, headers={"Referer": edge + path, **named})
    script = EVERYWHERE.format(statements=statements(word, phrase))
    members = {node.name: node.run(script).split().count("asked") for node in lab.swarm}
    assert sum(members.values()) > 0, "no member of PostgreSQL was asked"

    reset = 'url.path:"/forgotten-password/1/***"'
    lines = {f"event.dataset:misago.access AND {reset}": 2 * len(lab.forum_urls)}
    for edge in lab.forum_urls:
        lines[f'event.dataset:nginx.access AND url.domain:"{urlsplit(edge).hostname}" AND {reset}'] = 2
    for node, asked in members.items():
        told = f'event.dataset:postgres AND host.name:"{node}" AND message:'
        lines[f'{told}"duration" AND message:"pg_sleep"'] = 2 * asked
        lines[f'{told}"invalid input syntax for type integer"'] = 2 * asked
    found = Typed(
        {
            "the password": [account.password],
            "the e-mail address": [account.email, account.email.replace("@", "%40")],
            "what was typed": [word],
            "a short word of a link": [short],
            "a part of a password with blanks, quotes and commas": parts,
            **{f"the cookie {name}": [value] for name, value in browser.cookies.items() if len(value) > 12},
        },
        {f'{query} AND @timestamp:["{since}" TO now]': least for query, least in lines.items()},
    )
    try:
        until(120, lambda: not found.missing(lab))
    except TimeoutError:
        pytest.fail(f"not in Elasticsearch for two minutes, at least not all: {found.missing(lab)}")
    return found


def every_line(lab: Lab) -> Iterator[dict[str, Any]]:
    """All documents of the last hour, oldest first."""
    wanted: dict[str, Any] = {
        "size": PAGE,
        "sort": [{"@timestamp": "asc"}, {"event.id": "asc"}],
        "query": {"range": {"@timestamp": {"gte": "now-1h"}}},
    }
    yield from (hit["_source"] for hit in Elastic(lab).every(wanted))


def test_nothing_of_it_is_in_a_line(lab: Lab, typed: Typed) -> None:
    hidden = {**typed.forms, **values(lab), "the administrator's address": [f"{lab.admin.username}@"]}
    seen, found = 0, set()
    for line in every_line(lab):
        seen += 1
        text = json.dumps(line, ensure_ascii=False)
        found |= {(name, line["tag"]["service.name"]) for name in leaks(text, hidden)}
    assert seen > 100, "that can't be all"
    assert not found


def test_what_happened_is_in_the_log_all_the_same(lab: Lab, typed: Typed) -> None:
    assert typed.missing(lab) == []
