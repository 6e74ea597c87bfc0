"""What engines and operators send: judged by its form, and brought into one."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import jsonschema

from .records import ALLOW, BLOCK, SCALE, Event, Wish

ENGINES = ("kapacitor", "kibana", "watcher", "elastalert")
#: Seconds that an event may be old, and that its clock may be ahead of ours.
OLDEST, AHEAD = 300, 60

_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$"
_INSTANCE = {
    "type": "object",
    "maxProperties": 5,
    "propertyNames": {"pattern": r"^[A-Za-z_][A-Za-z0-9_.@-]{0,63}$"},
    "additionalProperties": {"type": "string", "maxLength": 200},
}
_VALUE = {"type": ["number", "null"]}
_EVENT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["level", "state", "time"],
    "properties": {
        "level": {"type": "string", "maxLength": 63},
        "state": {"enum": ["firing", "recovered"]},
        "time": {"type": "string", "pattern": _TIME},
        "instance": _INSTANCE,
        "value": _VALUE,
    },
}
#: What Kapacitor posts has more than this, which is left alone.
_KAPACITOR = {
    "type": "object",
    "required": ["id", "level", "time"],
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 300},
        "level": {"enum": ["OK", "INFO", "WARNING", "CRITICAL"]},
        "time": {"type": "string", "pattern": _TIME},
        "data": {
            "type": ["object", "null"],
            "properties": {
                "series": {
                    "type": ["array", "null"],
                    "items": {
                        "type": "object",
                        "properties": {
                            "tags": {"anyOf": [_INSTANCE, {"type": "null"}]},
                            "columns": {"type": "array", "items": {"type": "string"}},
                            "values": {"type": "array", "items": {"type": "array"}},
                        },
                    },
                }
            },
        },
    },
}
#: Nothing that a template is made of: what is asked for goes into a playbook.
_WORDS = {"type": "string", "maxLength": 200, "pattern": r"^[^{}\x00-\x1f\x7f]*$"}
_ADDRESS = {"type": "string", "maxLength": 45}
_WISHES = {
    SCALE: {
        "required": ["service", "by"],
        "properties": {
            "service": {"type": "string", "pattern": "^[a-z][a-z0-9_-]{0,62}$"},
            "by": {"enum": [1, -1]},
        },
    },
    BLOCK: {
        "required": ["address"],
        "properties": {
            "address": _ADDRESS,
            "seconds": {"type": "integer", "minimum": 1, "maximum": 604800},
            "reason": _WORDS,
        },
    },
    ALLOW: {"required": ["address"], "properties": {"address": _ADDRESS}},
}


def _validator(schema: Mapping[str, Any]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema)


_OF_ENGINES = {engine: _validator(_KAPACITOR if engine == "kapacitor" else _EVENT) for engine in ENGINES}
_OF_WISHES = {
    kind: _validator({"type": "object", "additionalProperties": False, **schema})
    for kind, schema in _WISHES.items()
}


class RefusedError(Exception):
    """What isn't taken: the status of the answer, and the reason in words."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _parsed(body: bytes) -> Any:
    try:
        text = body.decode()
        found = json.loads(text, parse_constant=_no_constant)
        # What JSON can say and text can't be: half of a character.
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"The body is no JSON: {str(error)[:200] or type(error).__name__}") from error
    return found


def _judged(body: bytes, validator: jsonschema.Draft202012Validator) -> Any:
    found = _parsed(body)
    if error := jsonschema.exceptions.best_match(validator.iter_errors(found)):
        where = "/".join(str(part) for part in error.absolute_path) or "the body"
        raise RefusedError(400, f"{where}: {error.message}"[:300])
    return found


def _moment(text: str, now: float) -> float:
    """The time of an event. Raises RefusedError."""
    try:
        at = datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as error:
        raise RefusedError(400, f"time: {text} is none") from error
    if at < now - OLDEST:
        raise RefusedError(409, f"It is {now - at:.0f} s old; older than {OLDEST} s is stale.")
    if at > now + AHEAD:
        raise RefusedError(409, f"Its time is {at - now:.0f} s ahead.")
    return at


def stamp(text: Any) -> float:
    """A time that a machine told; 0 for what is none."""
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _of_kapacitor(found: Mapping[str, Any], now: float) -> Event:
    series: Mapping[str, Any] = next(iter((found.get("data") or {}).get("series") or []), {})
    value = None
    if "value" in series.get("columns", []) and series.get("values"):
        newest = dict(zip(series["columns"], series["values"][-1], strict=False))
        value = _number(newest["value"]) if "value" in newest else None
    return Event(
        "kapacitor",
        found["id"].partition("/")[0],
        found["level"] != "OK",
        _moment(found["time"], now),
        dict(series.get("tags") or {}),
        value,
    )


def event(engine: str, body: bytes, now: float) -> Event:
    """The event that an engine posted. Raises RefusedError (400, 409)."""
    found = _judged(body, _OF_ENGINES[engine])
    try:
        if engine == "kapacitor":
            return _of_kapacitor(found, now)
        return Event(
            engine,
            found["level"],
            found["state"] == "firing",
            _moment(found["time"], now),
            dict(found.get("instance", {})),
            _number(found.get("value")),
        )
    except OverflowError as error:
        raise RefusedError(400, "A number is too large.") from error


def address(text: str) -> str:
    """A single address in its usual form. Raises RefusedError (422)."""
    try:
        found = ip_address(text)
    except ValueError:
        raise RefusedError(422, f"{text[:60]!r} is no single address.") from None
    if getattr(found, "scope_id", None):
        raise RefusedError(422, f"{text[:60]!r} is an address of one link.")
    if mapped := getattr(found, "ipv4_mapped", None):
        found = mapped
    if found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local:
        raise RefusedError(422, f"{found} is no visitor's address.")
    return str(found)


def wish(kind: str, body: bytes) -> Wish:
    """What an operator asks for. Raises RefusedError (400, 422)."""
    found = _judged(body, _OF_WISHES[kind])
    if kind == SCALE:
        return Wish(kind, found["service"], {"by": found["by"]})
    arguments = {name: value for name, value in found.items() if name != "address"}
    return Wish(kind, address(found["address"]), arguments)


def wish_of(event: Event, action: Mapping[str, str], reason: str) -> Wish | None:
    """What an event's level asks for. action: the level's. Raises RefusedError (422) where it can't be acted on."""
    ((verb, what),) = action.items() or (("", ""),)
    if verb == BLOCK:
        if what not in event.instance:
            raise RefusedError(422, f"It names no {what}.")
        return Wish(BLOCK, address(event.instance[what]), {"reason": reason})
    if verb in ("scale_up", "scale_down"):
        return Wish(SCALE, what, {"by": 1 if verb == "scale_up" else -1})
    return None
