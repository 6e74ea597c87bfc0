"""Tasks that are queued once their data is committed, with stand-ins for Celery and Django around our class."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

FORUM = Path(__file__).parents[2] / "roles/misago/files/image/forum"


class OperationalError(Exception):
    """As kombu's."""


class CeleryTask:
    """Celery's Task: what it is asked to queue is noted, after so many failures."""

    name = "notifications.new-thread-reply"
    queued: ClassVar[list[tuple[Any, ...]]] = []
    failures: ClassVar[int] = 0

    def apply_async(self, *args: Any, **options: Any) -> str:
        if type(self).failures:
            type(self).failures -= 1
            raise OperationalError("haproxy: Connection refused")
        type(self).queued.append(args)
        return "result"


class Transaction:
    """Django's transaction: one may be open, and calls what was ordered for its end."""

    def __init__(self) -> None:
        self.in_atomic_block = False
        self.ordered: list[Callable[[], None]] = []

    def commit(self) -> None:
        self.in_atomic_block = False
        for order in self.ordered:
            order()


@pytest.fixture
def transaction() -> Transaction:
    return Transaction()


@pytest.fixture
def task(transaction: Transaction, monkeypatch: pytest.MonkeyPatch) -> Any:
    app = SimpleNamespace(
        config_from_object=lambda *_, **__: None,
        autodiscover_tasks=lambda *_, **__: None,
        steps={"consumer": set()},
    )
    database = SimpleNamespace(get_connection=lambda: transaction, on_commit=transaction.ordered.append)
    stand_ins: dict[str, dict[str, Any]] = {
        "celery": {
            "Celery": lambda *_, **__: app,
            "Task": CeleryTask,
            "bootsteps": SimpleNamespace(StartStopStep=object),
            "signals": SimpleNamespace(setup_logging=SimpleNamespace(connect=lambda function: function)),
        },
        "django": {},
        "django.conf": {"settings": SimpleNamespace(FORUM_PATIENCE=0.3)},
        "django.db": {"transaction": database},
        "kombu": {},
        "kombu.exceptions": {"OperationalError": OperationalError},
        "redis": {},
        "redis.connection": {"DefaultParser": SimpleNamespace(EXCEPTION_CLASSES={})},
        "redis.exceptions": {"BusyLoadingError": OSError, "RedisError": OSError},
    }
    package = ModuleType("forum")
    package.__path__ = [str(FORUM)]
    monkeypatch.setitem(sys.modules, "forum", package)
    monkeypatch.delitem(sys.modules, "forum.celery", raising=False)
    for name, content in stand_ins.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    CeleryTask.queued.clear()
    CeleryTask.failures = 0
    return importlib.import_module("forum.celery").Task()


def test_outside_of_a_transaction_it_is_queued_at_once(task: Any) -> None:
    assert task.apply_async((1,)) == "result"
    assert CeleryTask.queued == [((1,),)]


def test_inside_of_one_it_is_queued_when_that_is_committed(task: Any, transaction: Transaction) -> None:
    transaction.in_atomic_block = True
    assert task.apply_async((1,)) is None
    assert CeleryTask.queued == []
    transaction.commit()
    assert CeleryTask.queued == [((1,),)]


def test_a_broker_that_fails_over_is_waited_for(task: Any, transaction: Transaction) -> None:
    transaction.in_atomic_block = True
    task.apply_async((1,))
    CeleryTask.failures = 2
    transaction.commit()
    assert CeleryTask.queued == [((1,),)]


def test_a_broker_that_stays_away_does_not_fail_the_post(
    task: Any, transaction: Transaction, caplog: pytest.LogCaptureFixture
) -> None:
    transaction.in_atomic_block = True
    task.apply_async((1,))
    CeleryTask.failures = 1000
    transaction.commit()
    assert CeleryTask.queued == []
    assert "notifications.new-thread-reply is not queued" in caplog.text
