r"""Keeps the log lines in Elasticsearch: deletes what is old, and copies what a backup brought back.

    log_keeper.py --url URL --authority FILE --account NAME retain --index forum-logs --keep-days 14 \
        --max-bytes 1000000 --min-free 500000
    log_keeper.py --url URL --authority FILE --account NAME copy SOURCE TARGET

The account's password is read from standard input, so that it is in no list of processes. What happens is told line by
line as key=value, with the level in front as systemd reads it. The exit status is 0, or 1 when somebody must look.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_DAY = re.compile(r"-(\d{4}\.\d\d\.\d\d)$", re.ASCII)
_PLAIN = re.compile(r"[\w.:/-]+")
_ERROR, _INFO = 3, 6
#: How Elasticsearch calls it that an index can't go while a backup reads it.
_IN_BACKUP = "snapshot_in_progress_exception"
#: Lines that are copied at once; with the longest that the collector takes they are still less than a request may have.
_AT_ONCE = 500


class ElasticError(Exception):
    """Elasticsearch didn't answer, or refused something; then kind is its own name of the error."""

    def __init__(self, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True)
class Index:
    """An index of log lines: the time from which on its lines may be, its bytes on the disk, and whether it works."""

    name: str
    since: datetime
    size: int
    works: bool = True


@dataclass(frozen=True)
class Removal:
    """An index that has to go, why (age, bytes or disk), and whether it is of the newest day."""

    index: Index
    reason: str
    newest: bool


def begins(name: str, made: datetime) -> datetime:
    """The day that the index is named after, or the time when it was made: the earlier one.

    So one whose name tells no day, or one to come since a clock was wrong, doesn't stay for good.
    """
    found = _DAY.search(name)
    if not found:
        return made
    try:
        return min(made, datetime.strptime(found[1], "%Y.%m.%d").replace(tzinfo=UTC))
    except ValueError:
        return made


def removals(
    indices: Sequence[Index], now: datetime, keep_days: int, max_bytes: int, lacking: int
) -> list[Removal]:
    """What has to go, the oldest first: what is too old, and then so many that the rest takes no more than max_bytes.

    lacking: bytes that the disk has too few free; as many go, but never of the newest day: others fill the disk, too.
    An index is too old when all of its day is; so each line is kept for keep_days at least, if there is room.
    """
    kept = sorted(indices, key=lambda index: (index.since, index.name))
    gone: list[Removal] = []
    newest = max((index.since.date() for index in indices), default=None)
    oldest = now - timedelta(days=keep_days + 1)
    while kept:
        if kept[0].since < oldest:
            reason = "age"
        elif sum(index.size for index in kept) > max_bytes:
            reason = "bytes"
        elif kept[0].since.date() != newest and sum(removal.index.size for removal in gone) < lacking:
            reason = "disk"
        else:
            break
        gone.append(Removal(kept[0], reason, newest=kept.pop(0).since.date() == newest))
    return gone


class Elastic:
    """Elasticsearch, asked by one account."""

    def __init__(self, url: str, authority: str, account: str, password: str) -> None:
        self._url = url
        token = base64.b64encode(f"{account}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=authority)),
        )

    def ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        """The answer. Raises ElasticError."""
        # The address is the operator's, and only Elasticsearch's.
        request = urllib.request.Request(  # noqa: S310
            f"{self._url}{path}", body, self._headers, method=method
        )
        try:
            with self._opener.open(request, timeout=120) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            kind, reason = _said(error)
            raise ElasticError(f"{method} {path}: {error.code}{reason}", kind) from error
        except (OSError, ValueError) as error:
            raise ElasticError(f"{method} {path}: {error}") from error

    def indices(self, names: Sequence[str]) -> list[Index]:
        """The indices whose names begin with one of these."""
        wanted = "format=json&bytes=b&expand_wildcards=all&h=index,creation.date,store.size,health"
        return [
            Index(
                row["index"],
                begins(row["index"], datetime.fromtimestamp(int(row["creation.date"]) / 1000, UTC)),
                # A closed one tells none.
                int(row["store.size"] or 0),
                row["health"] != "red",
            )
            for row in self.ask("GET", f"/_cat/indices/{_patterns(names)}?{wanted}")
        ]

    def free(self) -> int:
        """Bytes of the disk that are free."""
        rows = self.ask("GET", "/_cat/allocation?format=json&bytes=b&h=disk.avail")
        # A row of what lies on no disk tells none.
        return min(int(row["disk.avail"]) for row in rows if row["disk.avail"])

    def blocks(self, names: Sequence[str]) -> Iterator[tuple[str, str]]:
        """What keeps lines out, as a full disk does: name of the index, name of the block."""
        found = self.ask(
            "GET", f"/{_patterns(names)}/_settings/index.blocks.*?flat_settings=true&expand_wildcards=all"
        )
        for name, told in sorted(found.items()):
            for setting, value in told["settings"].items():
                if value == "true":
                    yield name, setting.removeprefix("index.blocks.")


def _patterns(names: Sequence[str]) -> str:
    return ",".join(f"{name}-*" for name in names)


def _said(error: urllib.error.HTTPError) -> tuple[str, str]:
    """The name that Elasticsearch gives the error, and its reason after a comma; both empty where it gives none."""
    try:
        told = json.load(error)["error"]
        return str(told.get("type", "")), f", {told['reason']}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", ""


def tell(level: int, event: str, **facts: object) -> None:
    """One line about what happened; what isn't one plain word is quoted as in JSON."""
    words = [f"event={event}"]
    for key, value in facts.items():
        text = str(value)
        words.append(f"{key}={text if _PLAIN.fullmatch(text) else json.dumps(text)}")
    print(f"<{level}>{' '.join(words)}", flush=True)


def retain(elastic: Elastic, names: Sequence[str], keep_days: int, max_bytes: int, min_free: int) -> int:
    """Delete what has to go, and tell what keeps new lines out. Returns the exit status."""
    indices, worst = elastic.indices(names), _INFO
    for removal in removals(indices, datetime.now(UTC), keep_days, max_bytes, min_free - elastic.free()):
        try:
            elastic.ask("DELETE", f"/{removal.index.name}")
        except ElasticError as error:
            if error.kind != _IN_BACKUP:
                raise
            # A later run deletes it, when the backup is made.
            tell(_INFO, "index-in-backup", index=removal.index.name, reason=removal.reason)
            continue
        # The newest took today's lines with it.
        level = _ERROR if removal.newest and removal.reason == "bytes" else _INFO
        worst = min(worst, level)
        tell(
            level, "index-deleted", index=removal.index.name, reason=removal.reason, bytes=removal.index.size
        )
        indices.remove(removal.index)
    broken = [(one.name, "unassigned") for one in indices if not one.works]
    for name, block in [*broken, *elastic.blocks(names)]:
        worst = _ERROR
        tell(worst, "index-blocked", index=name, block=block)
    return int(worst == _ERROR)


def copy(elastic: Elastic, source: str, target: str) -> int:
    """Copy the lines of an index into another one, except those that it has. Returns the exit status.

    Raises ElasticError when one isn't taken.
    """
    copied = there = 0
    wanted = {"size": _AT_ONCE, "sort": ["_doc"], "query": {"match_all": {}}}
    page = elastic.ask("POST", f"/{source}/_search?scroll=5m", json.dumps(wanted).encode())
    while hits := page["hits"]["hits"]:
        pairs = ((json.dumps({"create": {"_id": hit["_id"]}}), json.dumps(hit["_source"])) for hit in hits)
        body = "".join(f"{action}\n{line}\n" for action, line in pairs)
        for item in elastic.ask("POST", f"/{target}/_bulk", body.encode())["items"]:
            status, error = item["create"]["status"], item["create"].get("error", {})
            if status not in (201, 409):
                raise ElasticError(f"a line of {source} isn't taken: {status}, {error.get('reason')}")
            copied, there = copied + (status == 201), there + (status == 409)
        following = json.dumps({"scroll": "5m", "scroll_id": page["_scroll_id"]})
        page = elastic.ask("POST", "/_search/scroll", following.encode())
    tell(_INFO, "lines-copied", source=source, target=target, copied=copied, there=there)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Keeps the log lines in Elasticsearch.")
    for option in ("url", "authority", "account"):
        parser.add_argument(f"--{option}", required=True)
    commands = parser.add_subparsers(dest="command", required=True)
    retention = commands.add_parser("retain")
    retention.add_argument("--index", required=True, action="append")
    retention.add_argument("--keep-days", type=int, required=True)
    retention.add_argument("--max-bytes", type=int, required=True)
    retention.add_argument("--min-free", type=int, required=True)
    copying = commands.add_parser("copy")
    copying.add_argument("source")
    copying.add_argument("target")
    given = parser.parse_args(arguments)
    elastic = Elastic(given.url, given.authority, given.account, sys.stdin.readline().rstrip("\n"))
    try:
        if given.command == "retain":
            return retain(elastic, given.index, given.keep_days, given.max_bytes, given.min_free)
        return copy(elastic, given.source, given.target)
    except ElasticError as error:
        tell(_ERROR, f"{given.command}-failed", reason=error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
