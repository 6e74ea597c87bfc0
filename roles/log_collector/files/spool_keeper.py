"""Keeps a spool of log lines: removes what has been taken out of it, and what is too old or too much.

    spool_keeper.py SPOOL --max-bytes 10000 --keep-hours 48 elasticsearch --url URL --authority FILE ...
    spool_keeper.py SPOOL --max-bytes 10000 filebeat --registry DIRECTORY --node NAME

The spool is a directory of files *.json, named after their time, with an object for each line; empty lines are none. A
file goes when Elasticsearch has the id (event.id) of each line in it, or when Filebeat has read it to its end. Of the
others, files go that are older than --keep-hours, and the oldest while all have more than --max-bytes; a line in the
spool tells how many lines were lost: those that hadn't been taken, or, where nobody tells that, all that were in the
files. The account's password is read from standard input. The exit status is 0, or 1 when lines were lost or nobody
tells what has been taken.
"""

from __future__ import annotations

import argparse
import base64
import functools
import http.client
import json
import math
import ssl
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

#: Seconds after which nobody writes to a file any more: each is for one minute, and rsyslog holds it open for three at
#: most when no line follows.
_QUIET = 240
#: Seconds that Elasticsearch is asked for, and those in which it has to answer: the bounds are kept in any case.
_ASKING, _ANSWERING = 120, 60
#: Ids that Elasticsearch is asked for at once, and lines that it answers at most: an id can be in two.
_AT_ONCE, _ANSWERS = 4000, 10000

#: Which of some ids Elasticsearch has.
Known = Callable[[Sequence[str]], set[str]]
#: How many lines of a file haven't been taken. Raises UnknownError.
Waiting = Callable[[Path], int]


class UnknownError(Exception):
    """Nobody tells what has been taken: Elasticsearch didn't answer, or Filebeat's registry can't be read."""


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
        """Which of the ids it has. Raises UnknownError."""
        if time.monotonic() > self._until:
            raise UnknownError(f"there was more to ask than {_ASKING} s allow")
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
            raise UnknownError(str(error)) from error


def ids(file: Path) -> Iterator[str]:
    """The ids of a file's lines. One that was broken off, which nobody was told to be here, has none."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.strip():
                try:
                    yield json.loads(line)["event.id"]
                except (ValueError, KeyError, TypeError):
                    print(f"<4>file={file.name} event=not_a_line")


def for_elasticsearch(known: Known) -> Waiting:
    """The lines of a file that Elasticsearch doesn't have."""

    def waiting(file: Path) -> int:
        wanted = sorted(set(ids(file)))
        parts = (wanted[n : n + _AT_ONCE] for n in range(0, len(wanted), _AT_ONCE))
        return sum(len(set(part) - known(part)) for part in parts)

    return waiting


def for_filebeat(registry: Path) -> Waiting:
    """The lines of a file that Filebeat hadn't read when it was asked for the first time."""
    read = functools.cache(places)

    def waiting(file: Path) -> int:
        with file.open("rb") as rest:
            rest.seek(read(registry).get(str(file), 0))
            return sum(1 for line in rest if line.strip())

    return waiting


def places(registry: Path) -> dict[str, int]:
    """How far Filebeat has taken each file, in bytes, by the file's path.

    The registry is a directory: NUMBER.json has all states up to the change of that number, log.json the changes, each
    of two lines. A change that is being written is none yet. Raises UnknownError.
    """
    try:
        whole = max(registry.glob("[0-9]*.json"), key=lambda file: int(file.stem), default=None)
        states: dict[str, Any] = {}
        if whole:
            states = {state.pop("_key"): state for state in json.loads(whole.read_text())}
        lines = (registry / "log.json").read_text().split("\n")[:-1]
        for what, change in zip(map(json.loads, lines[::2]), map(json.loads, lines[1::2]), strict=False):
            if whole and what["id"] <= int(whole.stem):
                continue
            states.pop(change["k"], None)
            if what["op"] == "set":
                states[change["k"]] = change["v"]
        known = [state for state in states.values() if state.get("cursor")]
        # Filebeat writes large numbers as others do those with a point.
        return {state["meta"]["source"]: int(state["cursor"]["offset"]) for state in known}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnknownError(f"{registry}: {error!r}") from error


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


@dataclass(frozen=True)
class Spool:
    """A spool: whose it is (collector, or shipper of a node), and who takes what is in it."""

    directory: Path
    owner: str
    taker: str
    node: str = ""


def told(spool: Spool, lost: int, sure: bool, now: float) -> None:
    """Write a line of its own to the spool, which tells how many were lost, or that it is no more than that."""
    time_of_it = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    text = {
        "@timestamp": time_of_it,
        "event.dataset": spool.owner,
        "log.level": "error",
        "forum.lost": lost,
        "message": f"{'' if sure else 'up to '}{lost} lines fell out of the spool before {spool.taker} took them",
    }
    line = {
        "@timestamp": time_of_it,
        "event.id": uuid.uuid4().hex,
        "host.name": spool.node,
        "service.name": f"log_{spool.owner}",
        "message": json.dumps(text),
    }
    name = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H-%M-keeper.json")
    with (spool.directory / name).open("a") as file:
        file.write(f"{json.dumps(line)}\n")


def keep(spool: Spool, waiting: Waiting, keep_hours: float, max_bytes: int, now: float) -> bool:
    """Remove what has been taken, and then what is too old or too much; whether all is well."""
    well = True
    quiet = [file for file in sorted(spool.directory.glob("*.json")) if file.stat().st_mtime < now - _QUIET]
    # How many lines haven't been taken; None where nobody told.
    left: dict[Path, int | None] = dict.fromkeys(quiet)
    removed = 0
    try:
        for file in quiet:
            left[file] = waiting(file)
            if left[file] == 0:
                file.unlink()
                del left[file]
                removed += 1
    except UnknownError as error:
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
    print(f"<6>event=kept removed={removed} waiting={len(left)} since={min(left).stem if left else ''}")
    return well


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("spool", type=Path)
    parser.add_argument("--keep-hours", type=float, default=math.inf)
    parser.add_argument("--max-bytes", type=int, required=True)
    takers = parser.add_subparsers(dest="taker", required=True)
    elasticsearch = takers.add_parser("elasticsearch")
    for name in ("url", "authority", "account", "index"):
        elasticsearch.add_argument(f"--{name}", required=True)
    filebeat = takers.add_parser("filebeat")
    filebeat.add_argument("--registry", type=Path, required=True)
    filebeat.add_argument("--node", required=True)
    given = parser.parse_args()
    if given.taker == "filebeat":
        spool = Spool(given.spool, "shipper", "Filebeat", given.node)
        waiting = for_filebeat(given.registry)
    else:
        password = sys.stdin.readline().rstrip("\n")
        spool = Spool(given.spool, "collector", "Elasticsearch")
        elastic = Elastic(given.url, given.index, given.authority, given.account, password)
        waiting = for_elasticsearch(elastic.known)
    return 0 if keep(spool, waiting, given.keep_hours, given.max_bytes, time.time()) else 1


if __name__ == "__main__":
    sys.exit(main())
