"""What the forum's programs write: what is true for all lines of a request, and lines of our own."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import loglines

#: Where in a request's environment the parts of its line are gathered; copies of the environment share them.
GATHERED = "forum.line"
#: Lists of threads, which have one address: a query tells them apart.
LISTS = frozenset({"all", "my", "new", "unread", "watched", "unapproved"})

_TRACE = re.compile(r"[0-9a-f]{32}")
_request = threading.local()


def dataset() -> str:
    """The name of this program's lines: misago.app for the forum itself, else the program's own."""
    program = os.environ.get("MISAGO_PROGRAM", "web")
    return "misago.app" if program == "web" else program


def trace(header: str) -> dict[str, str]:
    """The request's id as a field; nothing unless it is one that nginx has made."""
    return {"trace.id": header} if _TRACE.fullmatch(header) else {}


def begin(environ: dict[str, Any]) -> None:
    """Note that this thread works on a request from now on."""
    environ[GATHERED] = {}
    _request.fields = trace(environ.get("HTTP_X_REQUEST_ID", ""))


def end() -> None:
    """Note that this thread's request is over."""
    _request.fields = {}


def context() -> Mapping[str, str]:
    """The fields that all lines of this thread's request have."""
    return getattr(_request, "fields", {})


def say(level: str, message: str, **fields: Any) -> None:
    """Write one line of this program; a log that takes none is no reason to fail.

    fields: by the names of the schema, with __ for each dot.
    """
    named = {name.replace("__", "."): value for name, value in fields.items()}
    told = {
        "@timestamp": loglines.now(),
        "event.dataset": dataset(),
        "log.level": level,
        "process.pid": os.getpid(),
        **context(),
        "message": loglines.veil(message),
        **named,
    }
    with contextlib.suppress(OSError):
        loglines.write(loglines.line(told))


def operation(method: str, path: str, values: Mapping[str, Any], listing: str | None) -> str:
    """What a request is for, the same for all threads and users.

    values: what the address holds, by its name, which takes its place. listing: the list of threads that is asked for.
    """
    names = {str(value): name for name, value in values.items() if value not in (None, "")}
    shown = "/".join(f":{names[part]}" if part in names else part for part in path.split("/"))
    return f"{method} {shown}" + (f"?list={listing}" if listing in LISTS else "")


def gather_middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Django's middleware that gathers who asks, and for what; it stands behind the one that knows the user."""

    def middleware(request: Any) -> Any:
        # Who signs out was somebody before, who signs in is somebody afterwards.
        name = _name(request)
        response = get_response(request)
        gathered = request.META.get(GATHERED)
        if gathered is not None:
            gathered["user.name"] = name or _name(request)
            if match := request.resolver_match:
                gathered["forum.operation"] = operation(
                    request.method, request.path_info, match.kwargs, request.GET.get("list")
                )
        return response

    return middleware


def _name(request: Any) -> str:
    return str(request.user.username) if request.user.is_authenticated else ""


class TaskEvents(logging.Filter):
    """Tells of a task of Celery's how it ended, and nothing of what it was given or has returned."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Adds the fields."""
        task = getattr(record, "data", {})
        record.msg = str(record.msg).removesuffix(": %(return_value)s")
        ended = (
            "failure" if record.levelno >= logging.ERROR else "success" if "runtime" in task else "unknown"
        )
        record.ecs = {
            "event.action": "task",
            "event.outcome": ended,
            "event.duration": int(float(task.get("runtime") or 0) * 1e9) or None,
            "forum.operation": task.get("name"),
        }
        return True


class WithoutBody(logging.Filter):
    """Of a message that it can't use, Celery shows all, and that may be somebody's e-mail: only the fact is kept."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Cuts the message."""
        if "body" in str(record.msg):
            record.msg, record.args = re.split(r"[\n:]", record.getMessage(), maxsplit=1)[0], ()
            record.exc_info = None
        return True


def own_secrets(variables: Mapping[str, str]) -> Iterable[str]:
    """The values that no line may hold, of the program's environment."""
    return [value for name, value in variables.items() if name.endswith(("_PASSWORD", "_SECRET_KEY"))]
