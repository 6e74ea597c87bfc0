"""A filter that judges the service levels before alarms, dashboards and pages are made of them."""

from __future__ import annotations

import difflib
import functools
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

# Ansible brings module_utils to the machines, and not to its own plugins.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

from plain import plain

_SCHEMA = Path(__file__).parents[1] / "inventories" / "shared" / "sla.schema.json"
_KINDS = {
    "array": "a list",
    "number": "a number",
    "object": "a mapping",
    "string": "a text",
}
_LONGEST = 80
_OPS = ("lt", "lte", "gt", "gte")
_RISING = ("gt", "gte")


@functools.cache
def _validator() -> Draft202012Validator:
    """The schema beside the shared service levels."""
    return Draft202012Validator(json.loads(_SCHEMA.read_text()))


def _either(values: Iterable[object]) -> str:
    """The values as one names them in a sentence."""
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}" if others else last


def _meant(name: object, candidates: Iterable[str]) -> str:
    """The remedy for an unknown name."""
    names = sorted(candidates)
    close = difflib.get_close_matches(str(name), names, n=1)
    return f"did you mean {close[0]}?" if close else f"use {_either(names)}" if names else "remove it"


def _name(levels: object, index: int) -> str:
    """How an entry is named in a sentence: by its id, or by its place in the list."""
    entry = levels[index] if isinstance(levels, list) else None
    name = entry.get("id") if isinstance(entry, Mapping) else None
    return name if isinstance(name, str) and name else f"service_levels[{index}]"


def _place(steps: Sequence[str | int]) -> str:
    """A place inside of an entry, such as indicator.fields[0]."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")


def _shown(value: object) -> str:
    """The value as a sentence repeats it; a long one not to its end."""
    shown = repr(value)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"


def _violation(rule: str, schema: Mapping[str, Any], given: Any) -> str:
    """What violates a rule of the schema, and the remedy; the place is told by the caller."""
    wanted = schema[rule]
    if rule == "required":
        return f"lacks {', '.join(name for name in wanted if name not in given)}: add what is missing"
    if rule == "additionalProperties":
        known = set(schema["properties"])
        return "; ".join(
            f"holds {key}, which is unknown: {_meant(key, known - set(given))}"
            for key in sorted(set(given) - known)
        )
    if rule == "enum":
        remedy = f"use {_either(wanted)}"
    else:
        remedy = schema.get("description") or f"make it {_KINDS[schema['type']]}"
    return f"is {_shown(given)}: {remedy}"


def _schema_errors(levels: object) -> list[str]:
    """The violations of the schema, in the order of the entries."""
    errors = []
    for error in _validator().iter_errors(levels):
        steps = list(error.absolute_path)
        where = f"{_name(levels, int(steps[0]))}:" if steps else "service_levels"
        schema = error.schema if isinstance(error.schema, Mapping) else {}
        told = _violation(str(error.validator), schema, error.instance)
        errors.append(" ".join(filter(None, (where, _place(steps[1:]), told))))
    # Of several that are missing each is an error of its own, and one sentence tells all.
    return list(dict.fromkeys(errors))


def _part(entry: Mapping[str, object], name: str) -> Mapping[str, object]:
    """A part of an entry; an empty one if it isn't there or isn't a mapping, which the schema tells."""
    part = entry.get(name)
    return part if isinstance(part, Mapping) else {}


def _number(part: Mapping[str, object], name: str) -> float | None:
    """A number of a part, None if it isn't there or isn't a number, which the schema tells."""
    value = part.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _purpose_errors(entry: Mapping[str, object]) -> list[str]:
    """Whether an entry is for something, and for one thing."""
    has_threshold = "objective" in entry or "alarm" in entry
    if not has_threshold and "watched" not in entry:
        return ["has no objective and no alarm: give it one, or watched: true if it has no threshold"]
    if has_threshold and "watched" in entry:
        return ["is watched, and has a threshold as well: remove watched, or the objective and the alarm"]
    return []


def _threshold_errors(entry: Mapping[str, object]) -> list[str]:
    """Whether the alarm comes before the limit, and ends on the good side of its threshold."""
    objective, alarm = _part(entry, "objective"), _part(entry, "alarm")
    met, fires = objective.get("op"), alarm.get("op")
    limit, threshold, recovery = (
        _number(objective, "value"),
        _number(alarm, "threshold"),
        _number(alarm, "recovery"),
    )
    if threshold is None or fires not in _OPS:
        return []
    # Turned round where low values are bad, so that bad is always what is higher.
    sign = 1 if fires in _RISING else -1
    good, bad = ("below", "above") if fires in _RISING else ("above", "below")
    errors = []
    if recovery is not None and sign * recovery > sign * threshold:
        errors.append(
            f"its alarm of {threshold:g} ends at {recovery:g}, where it still fires: "
            f"set alarm.recovery to {threshold:g} or {good}"
        )
    if limit is None or met not in _OPS:
        return errors
    if (met in _RISING) == (fires in _RISING):
        errors.append(
            f"its alarm ({fires}) fires where its objective ({met}) is met: turn one of the two round"
        )
    elif sign * threshold >= sign * limit:
        errors.append(
            f"its alarm of {threshold:g} doesn't come before its limit of {limit:g}: "
            f"set alarm.threshold {good} {limit:g}, or move the limit {bad} it"
        )
    return errors


def _action_errors(entry: Mapping[str, object], scalable: Sequence[str]) -> list[str]:
    """Whether an action has something to act on."""
    action = _part(_part(entry, "alarm"), "action")
    per = _part(entry, "indicator").get("per")
    errors = [
        f"alarm.action.{verb} names {action[verb]}, which can't be scaled: {_meant(action[verb], scalable)}"
        for verb in ("scale_up", "scale_down")
        if isinstance(action.get(verb), str) and action[verb] not in scalable
    ]
    if isinstance(block := action.get("block"), str) and not (isinstance(per, list) and block in per):
        errors.append(
            f"alarm.action.block names {block}, by which nothing is told apart: add it to indicator.per"
        )
    return errors


def service_level_errors(levels: object, services: Sequence[str], scalable: Sequence[str] = ()) -> list[str]:
    """Everything that is wrong with the service levels.

    levels: the list of inventories/shared/sla.yml. services: names that an entry's service may have.
    scalable: services that an action may scale; none unless given. Returns sentences, each with the entry's
    id, what is wrong there and the remedy: what violates sla.schema.json, an id given twice, an unknown
    service, an entry without purpose, an alarm that doesn't come before its limit or ends where it fires, an
    action on what isn't there. Raises nothing: whatever levels is, is judged.
    Source of the words: OpenSLO v1.
    """
    given = plain(levels)
    errors = _schema_errors(given)
    entries = [
        (_name(given, index), entry)
        for index, entry in enumerate(given if isinstance(given, list) else [])
        if isinstance(entry, Mapping)
    ]
    counts = Counter(str(entry["id"]) for _, entry in entries if "id" in entry)
    errors += [
        f"{name}: {count} entries have this id: give each its own"
        for name, count in counts.items()
        if count > 1
    ]
    for name, entry in entries:
        service = entry.get("service")
        found = []
        if isinstance(service, str) and service not in services:
            found.append(f"service {service} is unknown: {_meant(service, services)}")
        found += _purpose_errors(entry) + _threshold_errors(entry) + _action_errors(entry, scalable)
        errors += [f"{name}: {error}" for error in found]
    return errors


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"service_level_errors": service_level_errors}
