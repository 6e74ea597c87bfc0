"""No password, token, cookie or e-mail address is in a log line, wherever somebody typed it."""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drills.elastic import Elastic
from drills.forum import Account, Visitor
from drills.lab import Lab
from tests.e2e.test_secrets import leaks, values

PAGE = 5000
# Such an answer is slow on every member, whatever its role: a standby may be asked, too.
SLOW = """
for container in $(docker ps -q --filter name=_postgres-); do
  echo "SELECT '{word}', pg_sleep(2.5); SELECT '{word}' FRM x; SELECT '{word}'::int;" |
    docker exec -i "$container" psql -h /tmp -U repmgr -d postgres >/dev/null 2>&1 || true
done
"""


@pytest.fixture(scope="module")
def typed(lab: Lab, member: Callable[..., tuple[Visitor, Account]]) -> dict[str, list[str]]:
    """What was typed, or given to somebody, where it could come into a log: name -> forms of it."""
    visitor, account = member()
    word = f"Typed{secrets.token_hex(12)}X9"
    browser = visitor.browser
    browser.request("POST", "/api/auth/", data={"username": account.email, "password": word})
    browser.request("POST", "/api/auth/send-password-form/", data={"email": account.email})
    visitor.start_thread(3, "A thread of one who tells his address", f"Write to {account.email}.")
    named = {"User-Agent": f"Robot/1.0 ({account.email})", "Authorization": f"Bearer {word}"}
    for edge in lab.forum_urls:
        for path in (
            f"/activation/1/{word}/",
            f"/forgotten-password/1/{word}/?next={word}",
            f"/options/change-email/{word}/",
            f"/api/auth/change-password/1/{word}/",
            f"/notifications/disable-email/1/{word}/",
            f"/a/{word}/1/",
            f"/media/attachments/ab/cd/{word}/picture.png",
            f"/search/?q={word}&email={account.email}",
        ):
            # A page's pictures and questions name it as where they come from.
            browser.get(path, edge=edge, headers={"Referer": edge + path, **named})
    for node in lab.swarm:
        node.run(SLOW.format(word=word))
    # The last one: when it is there, all are.
    assert browser.get(f"/last-of-{account.username}/").status == 404
    forms = {
        "the password": [account.password],
        "the e-mail address": [account.email, account.email.replace("@", "%40")],
        "what was typed": [word],
        **{f"the cookie {name}": [value] for name, value in browser.cookies.items() if len(value) > 12},
    }
    elastic, deadline = Elastic(lab), time.monotonic() + 60
    last = f'event.dataset:misago.access AND url.path:"/last-of-{account.username}/"'
    while not elastic.count(last):
        assert time.monotonic() < deadline, "the last request isn't in Elasticsearch for a minute"
        time.sleep(1)
    return forms


def every_line(lab: Lab) -> Iterator[dict[str, Any]]:
    """All documents of the last hour, oldest first."""
    wanted: dict[str, Any] = {
        "size": PAGE,
        "sort": [{"@timestamp": "asc"}, {"event.id": "asc"}],
        "query": {"range": {"@timestamp": {"gte": "now-1h"}}},
    }
    while hits := Elastic(lab).search(wanted)["hits"]["hits"]:
        yield from (hit["_source"] for hit in hits)
        wanted["search_after"] = hits[-1]["sort"]


def test_nothing_of_it_is_in_a_line(lab: Lab, typed: dict[str, list[str]]) -> None:
    hidden = {**typed, **values(lab), "the administrator's address": [f"{lab.admin.username}@"]}
    seen, found = 0, set()
    for line in every_line(lab):
        seen += 1
        text = json.dumps(line, ensure_ascii=False)
        found |= {(name, line["tag"]["service.name"]) for name in leaks(text, hidden)}
    assert seen > 100, "that can't be all"
    assert not found


@pytest.mark.parametrize(
    "query",
    [
        'event.dataset:nginx.access AND url.path:"/forgotten-password/1/***"',
        'event.dataset:misago.access AND url.path:"/forgotten-password/1/***"',
        'event.dataset:postgres AND message:"duration" AND message:"pg_sleep"',
        'event.dataset:postgres AND message:"invalid input syntax for type integer"',
    ],
)
def test_what_happened_is_in_the_log_all_the_same(lab: Lab, typed: dict[str, list[str]], query: str) -> None:
    assert typed
    assert Elastic(lab).count(f"{query} AND @timestamp:[now-1h TO now]") > 0
