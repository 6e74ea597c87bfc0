"""InfluxDB: points are written, and kept while it is away; series of nodes that departed are dropped."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

import requests

from .figures import Fields
from .settings import Settings

MEASUREMENT = "snmp"
#: Rounds in one request, so that what was kept for hours is written in pieces.
AT_ONCE = 100


class InfluxError(Exception):
    """InfluxDB didn't take or answer something."""


class UselessError(InfluxError):
    """It will never take it."""


def _tag(text: str) -> str:
    return "".join(f"\\{character}" if character in "\\,= " else character for character in text)


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def point(node: str, stack: str, values: Fields, at: int) -> str:
    """A line of InfluxDB's line protocol. values: at least one. at: seconds since the epoch, so UTC."""
    written = ",".join(f"{name}={value}{'i' * isinstance(value, int)}" for name, value in values.items())
    return f"{MEASUREMENT},node={_tag(node)},stack={_tag(stack)} {written} {at}"


class Influx:
    """The database; every call blocks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session = requests.Session()
        self._session.verify = str(settings.certificates / "ca.crt")
        self._writer = (settings.influxdb_writer, settings.influxdb_writer_password)
        self._reader = (settings.influxdb_reader, settings.influxdb_reader_password)
        self._waiting: deque[str] = deque(maxlen=settings.keep_rounds)
        # Whoever stops writes the rest while an earlier write may still be under way.
        self._writing = threading.Lock()

    @property
    def waiting(self) -> int:
        """Rounds that aren't written yet."""
        return len(self._waiting)

    def add(self, points: str) -> None:
        """Keep the points of a round until they are written; the oldest round goes when there are too many."""
        self._waiting.append(points)

    def flush(self) -> None:
        """Write what waits, the oldest first. Raises InfluxError, and keeps what isn't written.

        What InfluxDB will never take (UselessError) is let go: all that comes after would wait behind it.
        """
        with self._writing:
            while self._waiting:
                rounds = list(itertools.islice(self._waiting, AT_ONCE))
                try:
                    self._write("\n".join(rounds))
                except UselessError:
                    self._let_go(len(rounds))
                    raise
                self._let_go(len(rounds))

    def _let_go(self, count: int) -> None:
        for _ in range(count):
            self._waiting.popleft()

    def _write(self, lines: str) -> None:
        parameters = {"db": self._settings.influxdb_database, "precision": "s"}
        answer = self._request("write", parameters, self._writer, lines.encode())
        if answer.status_code == requests.codes.bad_request:
            raise UselessError(f"points were refused and are lost: {_said(answer)}")
        _require(answer)

    def nodes(self) -> set[str]:
        """The nodes that have series in this stack. Raises InfluxError."""
        stack = _literal(self._settings.stack)
        series = self._query(
            f'SHOW TAG VALUES FROM "{MEASUREMENT}" WITH KEY = "node" WHERE "stack" = {stack}', self._reader
        )
        return {str(value) for one in series for _, value in one.get("values", [])}

    def drop(self, node: str) -> None:
        """Drop a node's series in this stack, for which the right to write is enough. Raises InfluxError."""
        whose = f'"node" = {_literal(node)} AND "stack" = {_literal(self._settings.stack)}'
        self._query(f'DROP SERIES FROM "{MEASUREMENT}" WHERE {whose}', self._writer)

    def _query(self, statement: str, account: tuple[str, str]) -> list[dict[str, Any]]:
        parameters = {"db": self._settings.influxdb_database}
        answer = self._request("query", parameters, account, {"q": statement})
        _require(answer)
        (result,) = answer.json()["results"]
        if "error" in result:
            raise InfluxError(str(result["error"]))
        found: list[dict[str, Any]] = result.get("series", [])
        return found

    def _request(
        self,
        path: str,
        parameters: Mapping[str, str],
        account: tuple[str, str],
        data: bytes | Mapping[str, str],
    ) -> requests.Response:
        url, seconds = f"{self._settings.influxdb_url}/{path}", self._settings.patience_seconds * 5
        try:
            return self._session.post(url, params=parameters, data=data, auth=account, timeout=seconds)
        except requests.RequestException as error:
            raise InfluxError(f"it doesn't answer ({type(error).__name__})") from error


def _said(answer: requests.Response) -> str:
    """What InfluxDB says is wrong."""
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


def _require(answer: requests.Response) -> None:
    if not answer.ok:
        raise InfluxError(_said(answer))
