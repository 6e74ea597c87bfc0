"""Celery's application: tasks that are queued once their data is committed, and the health check's heartbeat."""

import logging
import os
import time
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import celery
from celery import Celery, bootsteps, signals
from django.conf import settings
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.connection import DefaultParser
from redis.exceptions import BusyLoadingError, RedisError

from .patience import Patience, pause

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "forum.settings")

HEARTBEAT = Path("/tmp/celery-alive")  # noqa: S108 (the container's own tmpfs)
HEARTBEAT_SECONDS = 10.0

log = logging.getLogger(__name__)

# A new master takes no write until its replica is there: a worker connects anew, as to one that is loading, where it
# would end otherwise.
DefaultParser.EXCEPTION_CLASSES["NOREPLICAS"] = BusyLoadingError


class Task(celery.Task):  # type: ignore[misc]  # no types are published
    """A task that is queued when the transaction that ordered it has been committed.

    Misago orders its notifications in the middle of a transaction: a worker that is quick would look for a post
    that isn't there yet, and a broker that is away would undo the post. What can't be queued within the forum's
    patience is given up, with a line in the log: the post is safe, its notification isn't sent.
    """

    abstract = True

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """As Celery's own; inside of a transaction there is no result yet, and None is returned."""
        if transaction.get_connection().in_atomic_block:
            transaction.on_commit(partial(self._queue, *args, **options))
            return None
        return super().apply_async(*args, **options)

    def _queue(self, *args: Any, **options: Any) -> None:
        patience, attempt = Patience(settings.FORUM_PATIENCE), 0
        while True:
            try:
                super().apply_async(*args, **options)
            except (OperationalError, RedisError) as error:
                if not patience.failed():
                    log.error("%s is not queued: %s", self.name, error)
                    return
            else:
                return
            attempt += 1
            time.sleep(pause(attempt))


@signals.setup_logging.connect  # type: ignore[untyped-decorator]  # no types are published
def _leave_logging_alone(**_: Any) -> None:
    """Whoever listens here keeps Celery from its own format: Django's settings are in force already."""


app = Celery("forum", task_cls=Task)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["forum"], related_name="mail")


class Heartbeat(bootsteps.StartStopStep):  # type: ignore[misc]  # no types are published
    """Touches a file from the worker's event loop, so that a loop that hangs is seen from outside.

    A step of the consumer: that clears the timer when it loses the broker, and starts its steps again after that.
    """

    requires: ClassVar[set[str]] = {"celery.worker.consumer.tasks:Tasks"}

    def start(self, consumer: Any) -> None:
        """Called by Celery whenever the consumer is connected."""
        HEARTBEAT.touch()
        self.timer = consumer.timer.call_repeatedly(HEARTBEAT_SECONDS, HEARTBEAT.touch, priority=10)

    def stop(self, consumer: Any) -> None:
        """Called by Celery when the consumer stops or loses its connection, whether or not it had started."""
        timer = getattr(self, "timer", None)
        if timer is not None:
            timer.cancel()


app.steps["consumer"].add(Heartbeat)
