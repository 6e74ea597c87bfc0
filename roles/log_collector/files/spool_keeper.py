"""Keeps the spool of log lines: removes what Elasticsearch has, and what is too old or too much.

    spool_keeper.py SPOOL --url URL --authority FILE --account NAME --index forum-logs --keep-hours 48 --max-bytes 10000

The spool is a directory of files *.json, named after their time, with an object for each line; empty lines are none. A
file goes when Elasticsearch has the id (event.id) of each line in it. Of the others, files go that are older than
--keep-hours, and the oldest while all have more than --max-bytes; a line in the spool tells how many lines were lost:
those that Elasticsearch lacks, or, when it doesn't answer, all that were in the files.
The account's password is read from standard input. The exit status is 0, or 1 when lines were lost or Elasticsearch
doesn't tell what it has.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import ssl
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

#: Seconds after which nobody writes to a file any more: each is for one minute, and the receiver holds it open for
#: three at most when no line follows.
_QUIET = 240
#: Seconds that Elasticsearch is asked for, and those in which it has to answer: the bounds are kept in any case.
_ASKING, _ANSWERING = 120, 60
#: Ids that Elasticsearch is asked for at once, and lines that it answers at most: an id can be in two.
_AT_ONCE, _ANSWERS = 4000, 10000

#: Which of some ids Elasticsearch has.
Known = Callable[[Sequence[str]], set[str]]


class ElasticError(Exception):
    """Elasticsearch didn't answer, or refused something."""


class Elastic:
    """Elasticsearch, as an account that reads."""

    def __init__(self, url: str, index: str, authority: str, account: str, password: str) -> None:
        self._url = f"{url}/{index}-*/_search"
        word = base64.b64encode(f"{account}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {word}", "Content-Type": "application/json"}
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=authority)),
        )
        self._until = time.monotonic() + _ASKING

    def known(self, ids: Sequence[str]) -> set[str]:
        """Which of the ids it has. Raises ElasticError."""
        if time.monotonic() > self._until:
            raise ElasticError(f"there was more to ask than {_ASKING} s allow")
        question = {
            "size": _ANSWERS,
            "_source": False,
            "fields": ["event.id"],
            "query": {"terms": {"event.id": list(ids)}},
        }
        request = urllib.request.Request(  # noqa: S310  # the role's own address
            self._url, json.dumps(question).encode(), self._headers
        )
        try:
            with self._opener.open(request, timeout=_ANSWERING) as answer:
                hits = json.load(answer)["hits"]["hits"]
            return {hit["fields"]["event.id"][0] for hit in hits}
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            raise ElasticError(str(error)) from error


def ids(file: Path) -> Iterator[str]:
    """The ids of a file's lines. One that was broken off, which nobody was told to be here, has none."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.strip():
                try:
                    yield json.loads(line)["event.id"]
                except (ValueError, KeyError, TypeError):
                    print(f"<4>file={file.name} event=not_a_line")


def lacking(file: Path, known: Known) -> int:
    """How many of a file's lines Elasticsearch doesn't have. Raises ElasticError."""
    wanted = sorted(set(ids(file)))
    parts = (wanted[n : n + _AT_ONCE] for n in range(0, len(wanted), _AT_ONCE))
    return sum(len(set(part) - known(part)) for part in parts)


def too_many(files: Sequence[Path], keep_hours: float, max_bytes: int, now: float) -> list[Path]:
    """Those that have to go, the oldest first: for their age, or because all together have too many bytes."""
    sizes = {file: file.stat().st_size for file in files}
    total = sum(sizes.values())
    gone = []
    for file in files:
        if total <= max_bytes and file.stat().st_mtime >= now - keep_hours * 3600:
            break
        gone.append(file)
        total -= sizes[file]
    return gone


def told(spool: Path, lost: int, sure: bool, now: float) -> None:
    """Write a line of its own to the spool, which tells how many were lost, or that it is no more than that."""
    time_of_it = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    text = {
        "@timestamp": time_of_it,
        "event.dataset": "collector",
        "log.level": "error",
        "forum.lost": lost,
        "message": f"{'' if sure else 'up to '}{lost} lines fell out of the spool before Elasticsearch took them",
    }
    line = {
        "@timestamp": time_of_it,
        "event.id": uuid.uuid4().hex,
        "host.name": "",
        "service.name": "log_collector",
        "message": json.dumps(text),
    }
    name = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H-%M-keeper.json")
    with (spool / name).open("a") as file:
        file.write(f"\n{json.dumps(line)}\n")


def keep(spool: Path, known: Known, keep_hours: float, max_bytes: int, now: float) -> bool:
    """Remove what Elasticsearch has, and then what is too old or too much; whether all is well."""
    well = True
    quiet = [file for file in sorted(spool.glob("*.json")) if file.stat().st_mtime < now - _QUIET]
    # How many lines Elasticsearch lacks; None where it wasn't told.
    left: dict[Path, int | None] = dict.fromkeys(quiet)
    removed = 0
    try:
        for file in quiet:
            left[file] = lacking(file, known)
            if left[file] == 0:
                file.unlink()
                del left[file]
                removed += 1
    except ElasticError as error:
        print(f"<3>event=no_answer reason={json.dumps(str(error))}")
        well = False
    lost, sure = 0, True
    for file in too_many(list(left), keep_hours, max_bytes, now):
        lines = left.pop(file)
        sure = sure and lines is not None
        lost += len(set(ids(file))) if lines is None else lines
        file.unlink()
    if lost:
        print(f"<3>event=lost lines={lost}")
        told(spool, lost, sure, now)
        well = False
    print(
        f"<6>event=kept removed={removed} waiting={len(left)} since={next(iter(left)).stem if left else ''}"
    )
    return well


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("spool", type=Path)
    for name in ("url", "authority", "account", "index"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--keep-hours", type=float, required=True)
    parser.add_argument("--max-bytes", type=int, required=True)
    given = parser.parse_args()
    password = sys.stdin.readline().rstrip("\n")
    elastic = Elastic(given.url, given.index, given.authority, given.account, password)
    return 0 if keep(given.spool, elastic.known, given.keep_hours, given.max_bytes, time.time()) else 1


if __name__ == "__main__":
    sys.exit(main())
