"""Redis behind HAProxy and Sentinel, for Django's cache.

A command that fails because the master is changing is sent again until patience ends. All of Django's cache
commands may be repeated: they set, read or delete one key.
"""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from redis import Redis, exceptions

from .patience import Patience, pause

# What a Redis that just became master, or is about to, answers to a write.
NOT_YET = ("NOREPLICAS", "MASTERDOWN", "LOADING")

patience = Patience(settings.FORUM_PATIENCE)


def is_passing(error: Exception) -> bool:
    """Whether the error belongs to a fail-over, and so goes away by itself."""
    if isinstance(error, exceptions.AuthenticationError):
        return False
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | exceptions.ReadOnlyError):
        return True
    return isinstance(error, exceptions.ResponseError) and str(error).startswith(NOT_YET)


class PatientRedis(Redis):  # type: ignore[misc]  # no types are published
    """A client that sends a command again while the master is changing."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """The answer to one command; raises Redis's own error when patience is at its end."""
        attempt = 0
        while True:
            try:
                result = super().execute_command(*args, **options)
            except exceptions.RedisError as error:
                if not is_passing(error) or not patience.failed():
                    raise
                if isinstance(error, exceptions.ReadOnlyError):
                    # HAProxy cuts the sessions of an old master; do not go on talking to it until then.
                    self.connection_pool.disconnect()
            else:
                patience.succeeded()
                return result
            attempt += 1
            time.sleep(pause(attempt))


class PatientRedisCacheClient(RedisCacheClient):  # type: ignore[misc]  # no types are published
    """Django's client of its Redis cache, on PatientRedis."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._client = PatientRedis


class PatientRedisCache(RedisCache):  # type: ignore[misc]  # no types are published
    """Django's Redis cache, on PatientRedis."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = PatientRedisCacheClient
