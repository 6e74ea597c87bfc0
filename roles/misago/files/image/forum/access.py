"""gunicorn's logger: figures for Telegraf as ever, and one JSON line for each request."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from datetime import timedelta
from typing import Any

import loglines
from gunicorn.instrument.statsd import Statsd

from . import logs


def line(
    status: str | int, sent: int | None, headers: dict[str, str], environ: dict[str, Any], took: timedelta
) -> str:
    """The line of a request.

    status: such as '200 OK'. sent: bytes of the body. headers: the request's, names in capitals. environ: WSGI's, with
    what the request has gathered (logs.GATHERED), if it came so far. took: by gunicorn's clock.
    """
    code = int(str(status).split(None, 1)[0])
    # WSGI's texts are bytes in disguise.
    agent = headers.get("USER-AGENT", "").encode("latin-1", "replace").decode("utf-8", "replace")
    return loglines.line(
        {
            "@timestamp": loglines.now(),
            "event.dataset": "misago.access",
            "event.outcome": "failure" if code >= 500 else "success",
            "event.duration": max(0, took // timedelta(microseconds=1)) * 1000,
            **logs.trace(headers.get("X-REQUEST-ID", "")),
            # nginx's word for who asks; of a page that it keeps for guests it doesn't tell.
            "source.ip": _address(headers.get("X-FORWARDED-FOR", "")),
            "process.pid": os.getpid(),
            "http.request.method": environ.get("REQUEST_METHOD", "")[:32],
            "url.path": loglines.path(environ.get("RAW_URI", "")),
            "http.response.status_code": code,
            "http.response.body.bytes": sent or 0,
            "user_agent.original": loglines.veil(agent[: loglines.LONGEST_TEXT]),
            **environ.get(logs.GATHERED, {}),
        }
    )


def _address(text: str) -> str:
    """The address in a text, or nothing."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


class Logger(Statsd):  # type: ignore[misc]  # no types are published
    """Writes JSON."""

    def setup(self, cfg: Any) -> None:
        """Called by gunicorn at its start and for each new configuration."""
        super().setup(cfg)
        handler = loglines.OneWrite()
        handler.setFormatter(loglines.JsonLines(logs.dataset(), logs.context))
        # What gunicorn calls its own it replaces at the next call.
        handler._gunicorn = True  # type: ignore[attr-defined]
        self.error_log.handlers = [handler]

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """As gunicorn's; of a request that is none it shows a header, and that may be a cookie."""
        if msg.startswith("Invalid request from "):
            msg = msg.partition(": ")[0]
        super().warning(msg, *args, **kwargs)

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Called by gunicorn when a request has been answered."""
        super().access(resp, req, environ, request_time)
        logs.end()
        # The health check's.
        if environ.get("RAW_URI") == "/alive":
            return
        headers = dict(getattr(req, "headers", ()))
        # The visitor has his answer: nothing of this is worth an error.
        with contextlib.suppress(Exception):
            loglines.write(line(resp.status, getattr(resp, "sent", None), headers, environ, request_time))
