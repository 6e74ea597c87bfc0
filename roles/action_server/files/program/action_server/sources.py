"""Where the figures come from: InfluxDB and the swarm's managers, asked once for all viewers."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote, urlencode, urlsplit

T = TypeVar("T")

#: What the graphs show, and the time between two of their points.
HOUR, MINUTE = 3600, 60
#: A source that failed is asked again after this many seconds.
_RETRY = 5


class SourceError(Exception):
    """A source that doesn't answer, or not as it should; its text says which and why."""


class RefusedError(SourceError):
    """A source that doesn't understand what it is asked."""


@dataclass(frozen=True)
class Reading(Generic[T]):
    """What a source said last. value: None where it is too old to be shown; error: empty while all is well."""

    value: T | None
    taken: float | None
    error: str


class Source(Generic[T]):
    """A source's last answer: asked again when it is older than `fresh`, by one thread, however many look.

    Nobody waits longer than `patience` from when it was asked, and nobody waits for a source that has just failed. An
    answer older than `keep` is given to nobody, nor is such an error.
    """

    def __init__(
        self, fetch: Callable[[], T], fresh: float = 5, patience: float = 2, keep: float = 20
    ) -> None:
        self._fetch, self._fresh, self._patience, self._keep = fetch, fresh, patience, keep
        self._changed = threading.Condition()
        self._busy = False
        self._asked = self._due = 0.0
        self._value: T | None = None
        self._taken: float | None = None
        self._error, self._failed = "", 0.0

    def begin(self) -> None:
        """Ask it if it is time for that, for who reads several sources and wants to wait for all of them at once."""
        with self._changed:
            now = time.monotonic()
            if not self._busy and now >= self._due:
                self._busy, self._asked = True, now
                if now - self._failed > self._keep:
                    self._error = ""
                threading.Thread(target=self._ask, daemon=True).start()

    def read(self) -> Reading[T]:
        """The last answer, a new one if it is time for it."""
        self.begin()
        with self._changed:
            if self._busy and not self._error:
                left = self._asked + self._patience - time.monotonic()
                answered = self._changed.wait_for(lambda: not self._busy, max(left, 0))
                if not answered:
                    self._error, self._failed = f"no answer within {self._patience:g} s", time.monotonic()
            fresh = self._taken is not None and time.time() - self._taken <= self._keep
            return Reading(self._value if fresh else None, self._taken, self._error)

    def _ask(self) -> None:
        value, error, began = None, "", time.time()
        try:
            value = self._fetch()
        except SourceError as failed:
            error = str(failed)
        except Exception as failed:  # noqa: BLE001  # whatever it is, the page tells it and goes on
            error = f"{type(failed).__name__}: {failed}"
        with self._changed:
            now = time.monotonic()
            self._busy, self._error = False, error
            if error:
                self._failed, self._due = now, now + min(self._fresh, _RETRY)
            else:
                self._value, self._taken, self._due = value, began, now + self._fresh
            self._changed.notify_all()


class Asked(Generic[T]):
    """A source for each of the last questions that somebody had."""

    def __init__(self, fetch: Callable[..., T], most: int = 50) -> None:
        """fetch: called with the question's words."""
        self._fetch, self._most = fetch, most
        self._sources: OrderedDict[tuple[str, ...], Source[T]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, *question: str) -> Reading[T]:
        """What is last known of a question, as a source tells it."""
        with self._lock:
            source = self._sources.pop(question, None) or Source(lambda: self._fetch(*question))
            self._sources[question] = source
            while len(self._sources) > self._most:
                self._sources.popitem(last=False)
        return source.read()


def ask(url: str, context: ssl.SSLContext, timeout: float, body: str | None = None, **headers: str) -> Any:
    """The JSON that an address answers, with POST if there is a body. Raises SourceError; RefusedError for a 400."""
    parts = urlsplit(url)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    connection = http.client.HTTPSConnection(parts.netloc, timeout=timeout, context=context)
    try:
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(f"{parts.netloc} doesn't answer: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if answer.status != 200:
        kind = RefusedError if answer.status == 400 else SourceError
        raise kind(f"{parts.netloc} answers {answer.status} {answer.reason}")
    try:
        return json.loads(content)
    except ValueError as error:
        raise SourceError(f"{parts.netloc} answers what is no JSON") from error


@dataclass(frozen=True)
class Series:
    """One series of an answer: its tags, and its points as (seconds, value)."""

    tags: Mapping[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def instance(self) -> str:
        """Its tags as one name; empty where nothing is told apart."""
        return " ".join(value for value in self.tags.values() if value)

    @property
    def newest(self) -> float | None:
        """Its last value, if it has any."""
        return self.points[-1][1] if self.points else None

    def whole_minutes(self, now: float) -> Series:
        """Without the minutes at its ends of which only a part was looked at, so that some instances lack in them."""
        points = ((at, value) for at, value in self.points if now - HOUR <= at <= now - MINUTE)
        return Series(self.tags, tuple(points))


#: The series that each statement answers with.
Answers = Mapping[str, Sequence[Series]]


class Database(Protocol):
    """What is asked for figures."""

    def query(self, statements: Sequence[str]) -> Answers:
        """What the statements answer with. Raises SourceError, also if one statement fails."""


class InfluxDB:
    """The metrics' database, read by many statements at once."""

    def __init__(
        self, url: str, database: str, user: str, password: str, context: ssl.SSLContext, timeout: float = 4
    ) -> None:
        self._url = f"{url}/query?{urlencode({'db': database, 'epoch': 's'})}"
        self._context, self._timeout = context, timeout
        self._account = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def query(self, statements: Sequence[str]) -> Answers:
        """What the statements answer with. Raises SourceError, also if one statement fails."""
        if not statements:
            return {}
        body = urlencode({"q": "; ".join(statements)})
        answer = ask(
            self._url, self._context, self._timeout, body,
            **{"Authorization": self._account, "Content-Type": "application/x-www-form-urlencoded"},
        )  # fmt: skip
        found: dict[str, list[Series]] = {statement: [] for statement in statements}
        for result in answer.get("results", []):
            if "error" in result:
                raise SourceError(f"InfluxDB refuses a query: {result['error']}")
            found[statements[result["statement_id"]]] = [
                Series(
                    series.get("tags", {}),
                    tuple((float(at), float(value)) for at, value in series["values"] if value is not None),
                )
                for series in result.get("series", [])
            ]
        return found


class Figures:
    """What a database answers for a page: the figures of now, and, less often, the last hour of the graphs."""

    def __init__(self, database: Database, asked: Iterable[Mapping[str, str]], fresh: float = 5) -> None:
        """asked: statements, those of an hour under the name hour; each is asked once, however often it's named.

        fresh: seconds after which the figures of now are asked for again.
        """
        named = [(text, kind) for each in asked for kind, text in each.items()]
        now = list(dict.fromkeys(text for text, kind in named if kind != "hour"))
        hours = list(dict.fromkeys(text for text, kind in named if kind == "hour"))

        def last_hour() -> Answers:
            at = time.time()
            answers = database.query(hours)
            return {text: [each.whole_minutes(at) for each in found] for text, found in answers.items()}

        self._now = Source(lambda: database.query(now), fresh=fresh, keep=fresh + 15)
        # It gets a new point once a minute.
        self._hours = Source(last_hour, fresh=MINUTE, keep=3 * MINUTE)

    def begin(self) -> None:
        """Ask for what it is time for."""
        self._now.begin()
        self._hours.begin()

    def read(self) -> Reading[Answers]:
        """The answers, those of the last hour as far as there are any."""
        self.begin()
        now, hours = self._now.read(), self._hours.read()
        answers = None if now.value is None else {**(hours.value or {}), **now.value}
        return Reading(answers, now.taken, now.error or hours.error)


class Managers:
    """The swarm's managers, asked in turn until one answers."""

    def __init__(
        self, addresses: Sequence[str], stack: str, context: ssl.SSLContext, timeout: float = 3
    ) -> None:
        self._addresses, self._context, self._timeout = list(addresses), context, timeout
        only = quote(json.dumps({"label": [f"com.docker.stack.namespace={stack}"]}))
        self._paths = {
            "nodes": "/v1.41/nodes",
            "services": f"/v1.41/services?status=true&filters={only}",
        }

    def lists(self) -> dict[str, Any]:
        """The nodes and the stack's services as a manager knows them. Raises SourceError when none answers."""
        failed = []
        for address in list(self._addresses):
            try:
                return {
                    name: ask(f"https://{address}{path}", self._context, self._timeout)
                    for name, path in self._paths.items()
                }
            except SourceError as error:
                failed.append(str(error))
                # The next one is asked first from now on.
                self._addresses.append(self._addresses.pop(self._addresses.index(address)))
        raise SourceError("; ".join(failed) or "no manager can be asked")
