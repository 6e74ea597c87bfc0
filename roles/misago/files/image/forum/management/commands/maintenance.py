"""Runs Misago's maintenance commands once a day, and those that a user waits for more often.

When a day's run was missed, because the container was down at that time, it is made up for at the next start. A
command that failed, perhaps in the middle of a fail-over, is run again twice, some minutes apart.
The time of the last run is kept in the forum's cache; if that is lost, the next run is simply the next day's.
"""

from __future__ import annotations

import datetime
import signal
import sys
import threading
import time
import zoneinfo
from pathlib import Path
from typing import Any, ClassVar

from django.core.cache import cache
from django.core.management.base import BaseCommand
from redis.exceptions import RedisError

from ...environment import Environment
from ...maintenance import DAILY, FREQUENT, Line, is_due, log_line, run_all, run_command

HEARTBEAT = Path("/tmp/maintenance-alive")  # noqa: S108 (the container's own tmpfs)
LAST_RUN = "maintenance-last-run"
TICK = 5.0
TRIES = 3
AGAIN_SECONDS = 600.0


class Command(BaseCommand):  # type: ignore[misc]  # no types are published
    """django-admin maintenance."""

    help = "Runs until it is told to stop, and Misago's maintenance commands at their times."
    requires_system_checks: ClassVar[list[str]] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Runs until SIGTERM; a run that is under way ends then, and is made up for at the next start."""
        environment = Environment("MISAGO_")
        at = datetime.time.fromisoformat(environment.text("MAINTENANCE_AT", "04:30"))
        zone = zoneinfo.ZoneInfo(environment.text("TIME_ZONE", "UTC"))
        frequent_seconds = environment.number("MAINTENANCE_FREQUENT_SECONDS", 900)
        command_seconds = environment.number("MAINTENANCE_COMMAND_SECONDS", 3600)

        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())

        def run(name: str) -> Line:
            command = [sys.executable, "-m", "django", name]
            return run_command(command, command_seconds, stopping, HEARTBEAT.touch)

        frequent_at = time.monotonic() + frequent_seconds
        last: datetime.datetime | None = None
        todo: tuple[str, ...] = DAILY
        tries, not_before = 0, 0.0
        while not stopping.is_set():
            HEARTBEAT.touch()
            now = datetime.datetime.now(tz=zone)
            try:
                if last is None:
                    last = cache.get_or_set(LAST_RUN, now, timeout=None)
                if is_due(now, last, at) and time.monotonic() >= not_before:
                    failed = run_all(todo, run, log_line, stopping)
                    log_line({"finished": len(todo), "failed": len(failed)})
                    tries += 1
                    if failed and tries < TRIES:
                        todo, not_before = failed, time.monotonic() + AGAIN_SECONDS
                    elif not stopping.is_set():
                        todo, tries, last = DAILY, 0, now
                        cache.set(LAST_RUN, now, timeout=None)
            except RedisError as error:
                log_line({"error": f"Redis: {error}"})
            if time.monotonic() >= frequent_at:
                run_all(FREQUENT, run, log_line, stopping)
                frequent_at = time.monotonic() + frequent_seconds
            stopping.wait(TICK)
