"""What gunicorn serves: Django, run again on deadlocks and lost connections, and /alive beside it."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from django.conf import settings
from django.core.signals import got_request_exception
from django.core.wsgi import get_wsgi_application
from django.db import connection

from .retries import Retrying

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "forum.settings")

_errors = threading.local()


def _remember(sender: Any, **kwargs: Any) -> None:
    _errors.last = sys.exc_info()[1]


def _last_error() -> BaseException | None:
    error: BaseException | None = getattr(_errors, "last", None)
    _errors.last = None
    return error


got_request_exception.connect(_remember)
application = Retrying(
    get_wsgi_application(),
    _last_error,
    lambda: int(connection.commits),
    patience=settings.FORUM_PATIENCE,
)
