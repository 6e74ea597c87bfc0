"""What engines, operators' programs and Telegraf call: JSON, with a token for each caller."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

import cherrypy

from . import intake, records
from .actions import Actions
from .intake import RefusedError
from .settings import Settings

#: Bytes of a body.
LONGEST = 16 * 1024
#: Most entries of a list that is asked for.
_MOST = 1000
_OPERATOR, _TELEGRAF = "operator", "telegraf"
#: Path -> its method and who may call it; the engines have theirs below /events/.
_DOORS = {
    "/scale": ("POST", _OPERATOR), "/block": ("POST", _OPERATOR), "/allow": ("POST", _OPERATOR),
    "/blocked": ("GET", _OPERATOR), "/history": ("GET", _OPERATOR), "/alarms": ("GET", _OPERATOR),
    "/health": ("GET", ""), "/metrics": ("GET", _TELEGRAF),
    **{f"/events/{engine}": ("POST", engine) for engine in intake.ENGINES},
}  # fmt: skip
#: Those that are pages, too, for who signs in instead of sending a token.
_PAGES = ("/allow", "/blocked", "/alarms")


def wanted(path: str, authorization: str) -> bool:
    """Whether a request is for this, and not for the pages."""
    return bool(authorization) or path.startswith("/events/") or (path in _DOORS and path not in _PAGES)


class Api:
    """Answers the callers, whatever they send, with what was decided or with why it was refused."""

    def __init__(self, settings: Settings, actions: Actions) -> None:
        self._settings, self._actions = settings, actions
        self._tokens: Mapping[str, str] = json.loads(
            (settings.files / "tokens.json").read_text(encoding="utf-8")
        )
        self._answers: Mapping[str, Callable[[], tuple[int, Any]]] = {
            "/scale": lambda: self._ask(records.SCALE),
            "/block": lambda: self._ask(records.BLOCK),
            "/allow": lambda: self._ask(records.ALLOW),
            "/blocked": lambda: (200, {"blocked": actions.blocked()}),
            "/history": lambda: (
                200,
                {"actions": [action_told(each) for each in actions.journal.history(_limit())]},
            ),
            "/alarms": lambda: (200, self._alarms()),
            "/health": lambda: (200, {"status": "ok"}),
            "/metrics": lambda: (200, self._metrics()),
            **{f"/events/{engine}": self._taker(engine) for engine in intake.ENGINES},
        }

    @cherrypy.expose  # type: ignore[untyped-decorator]
    def default(self, *_: str, **__: Any) -> bytes:
        """Whatever is called."""
        path = str(cherrypy.request.path_info)
        caller = "stranger"
        try:
            method, right = _DOORS.get(path, ("", ""))
            if not method:
                raise RefusedError(404, "There is nothing here.")
            if right:
                caller = self._caller()
                self._let_in(caller, right)
            if cherrypy.request.method != method:
                raise RefusedError(405, f"This takes {method}.")
            status, answer = self._answers[path]()
        except RefusedError as refused:
            status, answer = refused.status, {"error": refused.reason}
            _discard_body()
            cherrypy.log(f"{caller} at {cherrypy.request.remote.ip}: {status} {refused.reason!r}", "API")
        self._actions.count(caller, status)
        cherrypy.response.status = status
        if status == 401:
            cherrypy.response.headers["WWW-Authenticate"] = "Bearer"
        text = isinstance(answer, str)
        cherrypy.response.headers["Content-Type"] = (
            "text/plain; charset=utf-8" if text else "application/json"
        )
        return (answer if text else json.dumps(answer) + "\n").encode()

    def _caller(self) -> str:
        """Whose token it is. Raises RefusedError (401)."""
        kind, _, token = str(cherrypy.request.headers.get("Authorization", "")).partition(" ")
        known = hashlib.sha256(token.strip().encode("utf-8", "replace")).hexdigest()
        # All are looked at, so that the time tells nothing.
        found = [caller for caller, kept in self._tokens.items() if hmac.compare_digest(known, kept)]
        if kind.lower() != "bearer" or not found:
            raise RefusedError(401, "There is no token, or a wrong one.")
        return found[0]

    def _let_in(self, caller: str, right: str) -> None:
        """Raises RefusedError (403) for a caller without the right, or at an address that isn't its own."""
        if caller != right:
            raise RefusedError(403, f"The token of {caller} isn't for this.")
        networks = self._settings.allowed_networks if caller == _OPERATOR else self._settings.caller_networks
        if not any(ip_address(cherrypy.request.remote.ip) in network for network in networks):
            raise RefusedError(403, f"{caller} doesn't call from this address.")

    def _taker(self, engine: str) -> Callable[[], tuple[int, Any]]:
        return lambda: self._actions.take(engine, _body())

    def _ask(self, kind: str) -> tuple[int, Any]:
        action = self._actions.ask(intake.wish(kind, _body()), _OPERATOR)
        return 202, {"action": action.id, "decided": f"{action.what} is in the queue"}

    def _alarms(self) -> dict[str, Any]:
        journal = self._actions.journal
        found = {"open": journal.open_alarms(), "closed": journal.closed_alarms(_limit())}
        return {name: [_alarm(each) for each in alarms] for name, alarms in found.items()}

    def _metrics(self) -> str:
        """What Telegraf reads: InfluxDB's line protocol."""
        fields = ",".join(f"{name}={number}i" for name, number in self._actions.journal.counts().items())
        answers = sorted(self._actions.counted.items())
        return "".join(
            [
                f"action_server {fields}\n",
                *(
                    f"action_server_calls,caller={who},status={status} count={n}i\n"
                    for (who, status), n in answers
                ),
            ]
        )


def _limit() -> int:
    text = str(cherrypy.request.params.get("limit", "100"))
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 8):
        raise RefusedError(400, "limit: write a number")
    return min(int(text), _MOST)


def _body() -> bytes:
    """The body, as far as its bound. Raises RefusedError (413, 400)."""
    try:
        length = int(cherrypy.request.headers.get("Content-Length") or 0)
    except ValueError:
        raise RefusedError(400, "Content-Length is no number.") from None
    if length > LONGEST:
        raise RefusedError(413, f"More than {LONGEST} bytes.")
    chunked = "chunked" in str(cherrypy.request.headers.get("Transfer-Encoding", "")).lower()
    try:
        found = cherrypy.request.rfile.read(LONGEST + 1 if chunked else max(length, 0))
    except Exception as error:  # what a broken body raises depends on how it is broken
        too_large = "Too Large" in str(error)
        raise RefusedError(413 if too_large else 400, "The body can't be read.") from error
    if len(found) > LONGEST:
        raise RefusedError(413, f"More than {LONGEST} bytes.")
    return bytes(found)


def _discard_body() -> None:
    """Read the rest of a refused body: a caller that still sends would find itself cut off instead of answered."""
    try:
        while cherrypy.request.rfile.read(LONGEST):
            pass
    except Exception as error:  # noqa: BLE001  # what a broken body raises depends on how it is broken
        cherrypy.log(f"The rest of a refused body can't be read: {error}", "API")


def action_told(action: records.Action) -> dict[str, Any]:
    """An action as JSON tells it."""
    names = ("id", "alarm", "kind", "target", "by", "asked", "state", "reason", "attempts", "began", "ended")
    return {
        **{name: getattr(action, name) for name in names},
        "arguments": dict(action.arguments), "result": dict(action.result),
    }  # fmt: skip


def _alarm(alarm: records.Alarm) -> dict[str, Any]:
    names = ("id", "level", "opened", "seen", "closed", "value", "why")
    return {**{name: getattr(alarm, name) for name in names}, "instance": dict(alarm.instance)}
