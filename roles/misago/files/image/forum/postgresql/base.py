"""PostgreSQL through several Pgpool, for Django.

What it adds to Django's engine:
- every address of the name is tried, in random order: libpq's own time-out covers all of them together, so
  one dead node would otherwise fail the connection. Nothing was sent yet, so trying again is safe.
- a COMMIT that PostgreSQL finished without its standby is an error: when the wait for synchronous replication
  is cancelled, it reports success with a warning, but nobody may be told that this write is safe.
- commits are counted, so that a request that has not committed anything can be run again (see retries.py).
"""

from __future__ import annotations

import socket
import time
from typing import Any

from django.conf import settings
from django.db.backends.postgresql import base
from django.db.utils import DatabaseError, OperationalError

from ..patience import Addresses, Patience, pause

# PostgreSQL's words in syncrep.c; the SQLSTATE of the warning is the general 01000.
NOT_REPLICATED = "canceling wait for synchronous replication"

# Classes of SQLSTATE with which a COMMIT is refused: transaction rollback, integrity constraint violation.
ROLLED_BACK = ("40", "23")

# The row that says when a user was last here: Misago makes it only if there is none.
ONLINE = 'INSERT INTO "misago_users_online"'

addresses = Addresses()
patience = Patience(settings.FORUM_PATIENCE)


class DatabaseWrapper(base.DatabaseWrapper):  # type: ignore[misc]  # no types are published
    """One connection of one thread. commits: how often this thread has begun to make something durable."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commits = 0
        self._not_replicated = False
        self.execute_wrappers.append(self._watch)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connects to the first address that answers; raises OperationalError when patience is at its end."""
        host, port = conn_params["host"], conn_params["port"]
        attempt = 0
        while True:
            failure: Exception
            try:
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except socket.gaierror as error:
                failure = self.Database.OperationalError(f"{host} has no address now: {error.strerror}")
                found = []
            for address in addresses.order(str(entry[4][0]) for entry in found):
                try:
                    connection = super().get_new_connection({**conn_params, "hostaddr": address})
                except self.Database.OperationalError as error:
                    addresses.failed(address)
                    failure = error
                else:
                    addresses.succeeded(address)
                    patience.succeeded()
                    connection.add_notice_handler(self._notice)
                    return connection
            if not patience.failed():
                raise failure
            attempt += 1
            time.sleep(pause(attempt))

    def init_connection_state(self) -> None:
        """Called by Django for each new connection."""
        super().init_connection_state()
        with self.connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout TO {int(settings.FORUM_STATEMENT_TIMEOUT * 1000)}")

    def _notice(self, diagnostic: Any) -> None:
        if NOT_REPLICATED in (diagnostic.message_primary or ""):
            self._not_replicated = True

    def _require_replication(self) -> None:
        if self._not_replicated:
            self._not_replicated = False
            raise OperationalError("the write was not confirmed by a standby")

    def _commit(self) -> None:
        self.commits += 1
        try:
            super()._commit()
        except DatabaseError as error:
            # Deferred constraints are checked here, and deadlock. It answered: nothing was committed.
            if str(getattr(error.__cause__, "sqlstate", None) or "").startswith(ROLLED_BACK):
                self.commits -= 1
            raise
        self._require_replication()

    def _watch(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        """Counts the INSERT that is its own transaction: repeating it would make a second row."""
        if not self.in_atomic_block:
            statement = str(sql).lstrip()
            if statement[:6].upper() == "INSERT" and not statement.startswith(ONLINE):
                self.commits += 1
        result = execute(sql, params, many, context)
        self._require_replication()
        return result
