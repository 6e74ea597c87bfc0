"""The forum's PostgreSQL engine and Redis client, on stand-ins for Django and the clients they extend."""

from __future__ import annotations

import importlib
import socket
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FORUM = Path(__file__).parents[2] / "roles/misago/files/image/forum"


class DatabaseError(Exception):
    """As Django's."""


class OperationalError(DatabaseError):
    """As Django's, and in psycopg's place."""


class RedisError(Exception):
    """As redis-py's."""


class RedisConnectionError(RedisError):
    """Likewise."""


class RedisTimeoutError(RedisError):
    """Likewise."""


class AuthenticationError(RedisConnectionError):
    """Likewise."""


class ResponseError(RedisError):
    """Likewise."""


class ReadOnlyError(ResponseError):
    """Likewise."""


# Ours knows redis-py's errors by their names, two of which are names of Python's own.
for stand_in in (
    RedisError,
    RedisConnectionError,
    RedisTimeoutError,
    AuthenticationError,
    ResponseError,
    ReadOnlyError,
):
    stand_in.__module__ = "redis.exceptions"
RedisConnectionError.__name__ = "ConnectionError"
RedisTimeoutError.__name__ = "TimeoutError"


class Wrapper:
    """Django's DatabaseWrapper: what ours calls of it."""

    Database = SimpleNamespace(OperationalError=OperationalError)

    def __init__(self) -> None:
        self.execute_wrappers: list[Any] = []
        self.in_atomic_block = False
        self.dead: set[str] = set()
        self.tried: list[str] = []
        self.commit_error: Exception | None = None
        self.notice = ""
        self.connection = self.new_connection("")

    def new_connection(self, address: str) -> Any:
        return SimpleNamespace(address=address, add_notice_handler=lambda handler: None)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        self.tried.append(conn_params["hostaddr"])
        if conn_params["hostaddr"] in self.dead:
            raise OperationalError("connection timeout expired")
        return self.new_connection(conn_params["hostaddr"])

    def _commit(self) -> None:
        if self.notice:
            self._notice(SimpleNamespace(message_primary=self.notice))  # type: ignore[attr-defined]
        if self.commit_error is not None:
            raise self.commit_error


class Redis:
    """redis-py's client: its answers are scripted."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.cut = 0
        self.connection_pool = SimpleNamespace(disconnect=self.disconnect)

    def disconnect(self) -> None:
        self.cut += 1

    def execute_command(self, *args: Any, **options: Any) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


STAND_INS: dict[str, dict[str, Any]] = {
    "django": {},
    "django.conf": {"settings": SimpleNamespace(FORUM_PATIENCE=4, FORUM_STATEMENT_TIMEOUT=15)},
    "django.db": {},
    "django.db.utils": {"DatabaseError": DatabaseError, "OperationalError": OperationalError},
    "django.db.backends": {},
    "django.db.backends.postgresql": {"base": SimpleNamespace(DatabaseWrapper=Wrapper)},
    "django.core": {},
    "django.core.cache": {},
    "django.core.cache.backends": {},
    "django.core.cache.backends.redis": {"RedisCache": object, "RedisCacheClient": object},
    "redis": {
        "Redis": Redis,
        "exceptions": SimpleNamespace(
            RedisError=RedisError,
            ConnectionError=RedisConnectionError,
            TimeoutError=RedisTimeoutError,
            AuthenticationError=AuthenticationError,
            ResponseError=ResponseError,
            ReadOnlyError=ReadOnlyError,
        ),
    },
}


class Clock:
    """Time that only passes while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def load(name: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A fresh module of the package among the stand-ins, its patience on the given clock."""
    package = ModuleType("forum")
    package.__path__ = [str(FORUM)]
    monkeypatch.setitem(sys.modules, "forum", package)
    for loaded in ("forum.cache", "forum.postgresql", "forum.postgresql.base"):
        monkeypatch.delitem(sys.modules, loaded, raising=False)
    for module_name, content in STAND_INS.items():
        module = ModuleType(module_name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module_name, module)
    module = importlib.import_module(f"forum.{name}")
    patience = importlib.import_module("forum.patience")
    monkeypatch.setattr(module, "patience", patience.Patience(4, lambda: clock.now))
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=clock.sleep))
    for loaded in ("forum.cache", "forum.postgresql", "forum.postgresql.base"):
        sys.modules.pop(loaded, None)
    return module


class TestPostgresql:
    """postgresql/base.py."""

    PARAMETERS = {"host": "pgpool", "port": 5432}  # noqa: RUF012

    @pytest.fixture
    def engine(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Any:
        return load("postgresql.base", clock, monkeypatch)

    def resolve(self, engine: Any, monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
        found = [(2, 1, 6, "", (address, 5432)) for address in addresses]
        monkeypatch.setattr(engine.socket, "getaddrinfo", lambda *args, **options: found)

    def test_a_dead_address_costs_one_try(self, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.resolve(engine, monkeypatch, "10.0.0.2", "10.0.0.3")
        wrapper = engine.DatabaseWrapper()
        wrapper.dead = {"10.0.0.2"}
        for _ in range(20):
            assert wrapper.get_new_connection(self.PARAMETERS).address == "10.0.0.3"
        assert wrapper.tried.count("10.0.0.2") <= 1

    def test_nobody_answers(self, engine: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.resolve(engine, monkeypatch, "10.0.0.2", "10.0.0.3")
        wrapper = engine.DatabaseWrapper()
        wrapper.dead = {"10.0.0.2", "10.0.0.3"}
        with pytest.raises(OperationalError, match="timeout expired"):
            wrapper.get_new_connection(self.PARAMETERS)
        assert 4 <= clock.now < 5
        tries = len(wrapper.tried)
        with pytest.raises(OperationalError):
            wrapper.get_new_connection(self.PARAMETERS)
        assert len(wrapper.tried) == tries + 2, "in a long outage each address is tried once"

    def test_a_name_that_comes_back_is_found(
        self, engine: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def getaddrinfo(*args: Any, **options: Any) -> Any:
            if clock.now < 2:
                raise socket.gaierror(-3, "Temporary failure in name resolution")
            return [(2, 1, 6, "", ("10.0.0.2", 5432))]

        monkeypatch.setattr(engine.socket, "getaddrinfo", getaddrinfo)
        assert engine.DatabaseWrapper().get_new_connection(self.PARAMETERS).address == "10.0.0.2"

    def test_a_name_that_stays_away_is_an_error_of_the_database(
        self, engine: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def getaddrinfo(*args: Any, **options: Any) -> Any:
            raise socket.gaierror(-3, "Temporary failure in name resolution")

        monkeypatch.setattr(engine.socket, "getaddrinfo", getaddrinfo)
        with pytest.raises(OperationalError, match="pgpool has no address now"):
            engine.DatabaseWrapper().get_new_connection(self.PARAMETERS)

    def failing_commit(self, engine: Any, sqlstate: str | None) -> int:
        wrapper = engine.DatabaseWrapper()
        wrapper.commit_error = OperationalError("failed")
        wrapper.commit_error.__cause__ = type("Cause", (Exception,), {"sqlstate": sqlstate})()
        with pytest.raises(OperationalError, match="failed"):
            wrapper._commit()
        return int(wrapper.commits)

    @pytest.mark.parametrize("sqlstate", ["40P01", "40001", "23503"])
    def test_a_refused_commit_does_not_count(self, engine: Any, sqlstate: str) -> None:
        assert self.failing_commit(engine, sqlstate) == 0

    @pytest.mark.parametrize("sqlstate", [None, "57P01", "08006"])
    def test_a_commit_without_an_answer_counts(self, engine: Any, sqlstate: str | None) -> None:
        assert self.failing_commit(engine, sqlstate) == 1

    def test_a_commit_without_a_standby_is_an_error(self, engine: Any) -> None:
        wrapper = engine.DatabaseWrapper()
        wrapper.notice = "canceling wait for synchronous replication due to user request"
        with pytest.raises(OperationalError, match="not confirmed by a standby"):
            wrapper._commit()
        assert wrapper.commits == 1
        wrapper.notice = "there is already a transaction in progress"
        wrapper._commit()

    @pytest.mark.parametrize(
        ("sql", "in_atomic_block", "commits"),
        [
            (' INSERT INTO "misago_users_user" VALUES (1)', False, 1),
            ('INSERT INTO "misago_users_user" VALUES (1)', True, 0),
            ('INSERT INTO "misago_users_online" VALUES (1)', False, 0),
            ('UPDATE "misago_users_user" SET posts = 1', False, 0),
            ("SELECT 1", False, 0),
        ],
    )
    def test_an_insert_of_its_own_counts(
        self, engine: Any, sql: str, in_atomic_block: bool, commits: int
    ) -> None:
        wrapper = engine.DatabaseWrapper()
        wrapper.in_atomic_block = in_atomic_block
        (watch,) = wrapper.execute_wrappers
        assert watch(lambda *arguments: "result", sql, None, False, {}) == "result"
        assert wrapper.commits == commits


class TestRedis:
    """cache.py."""

    @pytest.fixture
    def module(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Any:
        return load("cache", clock, monkeypatch)

    @pytest.mark.parametrize(
        "error",
        [
            RedisConnectionError("refused"),
            RedisTimeoutError("no answer"),
            ResponseError("NOREPLICAS Not enough good replicas to write."),
            ResponseError("MASTERDOWN Link with MASTER is down"),
        ],
    )
    def test_a_fail_over_is_waited_for(self, module: Any, error: Exception) -> None:
        assert module.PatientRedis(error, error, b"value").execute_command("GET", "key") == b"value"

    def test_an_old_master_is_left(self, module: Any) -> None:
        client = module.PatientRedis(
            ReadOnlyError("READONLY You can't write against a read only replica."), 1
        )
        assert client.execute_command("DEL", "key") == 1
        assert client.cut == 1

    def test_patience_ends(self, module: Any, clock: Clock) -> None:
        client = module.PatientRedis(*[RedisConnectionError("refused")] * 500)
        with pytest.raises(RedisConnectionError):
            client.execute_command("GET", "key")
        assert 4 <= clock.now < 5

    @pytest.mark.parametrize(
        "error", [AuthenticationError("WRONGPASS"), ResponseError("WRONGTYPE"), RedisError("protocol")]
    )
    def test_a_mistake_is_said_at_once(self, module: Any, clock: Clock, error: Exception) -> None:
        with pytest.raises(type(error)):
            module.PatientRedis(error).execute_command("GET", "key")
        assert clock.now == 0
