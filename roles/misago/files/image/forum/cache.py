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
from .retries import redis_fails_over

patience = Patience(settings.FORUM_PATIENCE)


class PatientRedis(Redis):  # type: ignore[misc]  # no types are published
    """A client that sends a command again while the master is changing."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """The answer to one command; raises Redis's own error when patience is at its end."""
        attempt = 0
        while True:
            try:
                result = super().execute_command(*args, **options)
            except exceptions.RedisError as error:
                if not redis_fails_over(error) or not patience.failed():
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
