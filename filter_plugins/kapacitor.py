"""A filter that writes the alarms of the figures as tasks for Kapacitor."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

# Ansible brings module_utils to the machines, and not to its own plugins.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

import influxql
from plain import plain

_SECONDS = {"s": 1, "m": 60, "h": 3600}
#: Seconds between two questions; a shorter window is asked for as often as it passes.
_PACE = 10
#: By how much the points of a window may be late: a container's Telegraf sends every 5 s, a relay every 2 s.
_LATE = "10s"
#: How long what fell silent is told of; the action server looks after it from then on.
_REMEMBERED = "15m"
#: An alarm that goes on is told again, since Kapacitor tries no event twice that nobody took.
_AGAIN = "1m"
_LEVELS = {"info": "info", "warning": "warn", "critical": "crit"}
_OPS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_OVER = {"gt": "<=", "gte": "<", "lt": ">=", "lte": ">"}
#: The instance of an alarm that is one for all.
_ALL = "all"


def kapacitor_tasks(
    levels: Sequence[Mapping[str, Any]], database: str, policy: str, endpoint: str
) -> dict[str, str]:
    """Kapacitor's tasks, one for each alarm of figures.

    levels: those whose alarms it carries, of the list of sla.yml, judged by service_level_errors: metrics and SNMP.
    database, policy: where InfluxDB has the points. endpoint: the name of the [[httppost]] of kapacitor.conf that takes
    the events.
    Returns the level's id -> TICKscript, a batch task that names its database. Its events have the id LEVEL/INSTANCE,
    with more tags than one LEVEL/ONE/OTHER, LEVEL/all where the alarm is one for all, and the field value.
    Raises AnsibleFilterError for the level of a log, and for one without an alarm.
    """
    return {
        level["id"]: _task(level, str(database), str(policy), str(endpoint)) for level in plain(list(levels))
    }


def _task(level: Mapping[str, Any], database: str, policy: str, endpoint: str) -> str:
    if level["indicator"]["source"] == "log" or "alarm" not in level:
        raise AnsibleFilterError(f"{level['id']}: Kapacitor carries alarms of figures: leave this level out")
    alarm = level["alarm"]
    words = {**level["indicator"], "aggregation": alarm.get("aggregation", level["indicator"]["aggregation"])}
    per = list(words.get("per", ()))
    nodes = _figure(words, per, database, policy)
    if alarm.get("instances") == "every":
        # All are beyond a threshold when the one that is the least so is.
        deleted = "".join(f".tag({_text(tag)})" for tag in per)
        nodes += [f"|delete(){deleted}", _of("max" if alarm["op"] in ("lt", "lte") else "min")]
        per = []
    scope = f"dbrp {_quoted(database)}.{_quoted(policy)}"
    lines = [scope, "", "batch", *nodes, *_alert(level["id"], alarm, per, endpoint)]
    return "\n".join([*lines[:3], *(f"    {line}" for line in lines[3:])]) + "\n"


def _figure(words: Mapping[str, Any], per: Sequence[str], database: str, policy: str) -> list[str]:
    """The nodes that lead to the value of each instance, a point with the time of the question."""
    window, aggregation = words["lookback_window"], words["aggregation"]
    pace = f"{min(_PACE, _seconds(window))}s"
    if aggregation == "silence":
        newest = {**words, "aggregation": "last", "fields": words["fields"][:1]}
        statement = influxql.bare(newest, database, policy)
        # A point of the newest value keeps its own time.
        silent = f'unixNano(now()) - unixNano("time") > {_seconds(window) * 10**9}'
        return [
            *_query(statement, _REMEMBERED, pace, "0s", per),
            f"|eval(lambda: if({silent}, 1.0, 0.0)).as('value')",
            _of("last"),
        ]
    asked = influxql.bare(words, database, policy)
    if aggregation != "rate":
        return [*_query(asked, window, pace, _LATE, per), _of("last")]
    # Kapacitor takes no statement in a statement, so the outer ones of a rate are nodes.
    return [
        *_query(asked, window, pace, _LATE, None),
        _of("mean"),
        f"|groupBy({_names(per)})",
        _of("sum"),
    ]


def _query(statement: str, window: str, pace: str, late: str, per: Sequence[str] | None) -> list[str]:
    """The node that asks. per: by which tags; None for all of them."""
    groups = "*" if per is None else _names(per)
    return [
        f"|query({_text(statement)})",
        f"    .period({window})",
        f"    .every({pace})",
        f"    .offset({late})",
        *([f"    .groupBy({groups})"] if groups else []),
    ]


def _alert(name: str, alarm: Mapping[str, Any], per: Sequence[str], endpoint: str) -> list[str]:
    level, op = _LEVELS[alarm["severity"]], alarm["op"]
    instance = list(map(_tag, per)) or [_ALL]
    lines = [
        "|alert()",
        f"    .id({_text('/'.join((name, *instance)))})",
        "    .message('{{ .ID }} is {{ .Level }}: {{ index .Fields \"value\" }}')",
        "    .details('')",
        f'    .{level}(lambda: "value" {_OPS[op]} {float(alarm["threshold"])})',
    ]
    if "recovery" in alarm:
        lines.append(f'    .{level}Reset(lambda: "value" {_OVER[op]} {float(alarm["recovery"])})')
    return [
        *lines,
        f"    .stateChangesOnly({_AGAIN})",
        "    .post()",
        f"        .endpoint({_text(endpoint)})",
        "        .captureResponse()",
        "        .timeout(10s)",
    ]


def _of(function: str) -> str:
    return f"|{function}('value').as('value')"


def _tag(name: str) -> str:
    """A tag's value in the id of an event."""
    return f'{{{{ index .Tags "{name}" }}}}'


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(_text, names))


def _text(text: str) -> str:
    """A text as TICKscript writes it."""
    return "'" + text.replace("'", "\\'") + "'"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * _SECONDS[duration[-1]]


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"kapacitor_tasks": kapacitor_tasks}
