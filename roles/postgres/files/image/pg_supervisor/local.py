"""Questions to the member's own server, over its socket."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from typing import Any

from .settings import Settings

OPTIONS = "-c synchronous_commit=local -c statement_timeout=5000 -c lock_timeout=4000"


def _driver() -> Any:
    """psycopg, looked up late: everything else here is also tested where there is none."""
    return importlib.import_module("psycopg")


class LocalError(RuntimeError):
    """The own server did not answer, or refused."""


class Local:
    """One connection to the own server, kept open between questions; safe to share between threads.

    It never waits for a standby to confirm what it writes: these are records that each member can make anew.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._connection: Any = None

    def _open(self, database: str) -> Any:
        return _driver().connect(
            host=str(self._settings.run),
            user="repmgr",
            dbname=database,
            connect_timeout=3,
            autocommit=True,
            application_name="supervisor",
            options=OPTIONS,
        )

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement returns, none if it returns no rows. Raises LocalError."""
        with self._lock:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = self._open("postgres")
                return _fetch(self._connection, statement, parameters)
            except _driver().Error as error:
                self._forget()
                raise LocalError(str(error).strip()) from error

    def once(self, database: str, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """As rows, in another database and over a connection of its own. Raises LocalError."""
        try:
            with self._open(database) as connection:
                return _fetch(connection, statement, parameters)
        except _driver().Error as error:
            raise LocalError(str(error).strip()) from error

    def verifier(self, role: str, password: str) -> str:
        """SCRAM verifier of a password, so that no statement carries the password. Raises LocalError."""
        try:
            with self._open("postgres") as connection:
                made: bytes = connection.pgconn.encrypt_password(
                    password.encode(), role.encode(), b"scram-sha-256"
                )
        except _driver().Error as error:
            raise LocalError(str(error).strip()) from error
        return made.decode()

    def forget(self) -> None:
        """Close the connection, before the server stops or after it started anew."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _fetch(connection: Any, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    cursor = connection.execute(statement, parameters or None)
    return list(cursor.fetchall()) if cursor.description else []
