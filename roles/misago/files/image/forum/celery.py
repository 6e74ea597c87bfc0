"""Celery's application, and the heartbeat that its health check reads."""

import os
from pathlib import Path
from typing import Any, ClassVar

from celery import Celery, bootsteps

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "forum.settings")

HEARTBEAT = Path("/tmp/celery-alive")  # noqa: S108 (the container's own tmpfs)
HEARTBEAT_SECONDS = 10.0

app = Celery("forum")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["forum"], related_name="mail")


class Heartbeat(bootsteps.StartStopStep):  # type: ignore[misc]  # no types are published
    """Touches a file from the worker's event loop, so that a loop that hangs is seen from outside."""

    requires: ClassVar[set[str]] = {"celery.worker.components:Timer"}

    def start(self, worker: Any) -> None:
        """Called by Celery when the worker starts."""
        HEARTBEAT.touch()
        self.timer = worker.timer.call_repeatedly(HEARTBEAT_SECONDS, HEARTBEAT.touch, priority=10)

    def stop(self, worker: Any) -> None:
        """Called by Celery when the worker stops, whether or not it had started."""
        timer = getattr(self, "timer", None)
        if timer is not None:
            timer.cancel()


app.steps["worker"].add(Heartbeat)
