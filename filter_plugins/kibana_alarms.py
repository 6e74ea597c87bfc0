"""Filters that write the alarms of the logs as rules for Kibana."""

from __future__ import annotations

import hashlib
import json
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

# Ansible brings module_utils to the machines, and not to its own plugins.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

import query_dsl
from plain import plain

Object = dict[str, Any]

_TIME = "@timestamp"
_PACE = "15s"
#: An alarm that goes on is told again, since Kibana tries an event only a few times that nobody took.
_AGAIN = "1m"
#: Instances that a rule tells apart, those with the most lines first.
_INSTANCES = 100
#: How long what fell silent is told of; the action server looks after it from then on.
_REMEMBERED = "15m"
_OPS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
#: What an index threshold computes, and what ES|QL does; a rate is a count of its window.
_THRESHOLDS = {"mean": "avg", "max": "max", "count": "count", "rate": "count"}
_FUNCTIONS = {"mean": "AVG", "max": "MAX", "median": "MEDIAN", "distinct": "COUNT_DISTINCT"}
#: The types of rules, and what each calls an alarm that fires.
_GROUPS = {".index-threshold": "threshold met", ".es-query": "query matched"}


def kibana_rules(levels: Sequence[Mapping[str, Any]], index: str, stack: str, connector: str) -> list[Object]:
    """Kibana's rules, one for each alarm of a log.

    levels: those whose alarms it carries, of the list of sla.yml, judged by service_level_errors. index: what the
    names of the indices begin with. stack: the name of the whole, with which names begin. connector: the id of the
    connector to the action server.
    Returns mappings: id, a UUID made of names, since Kibana takes no other; mark, a tag with a hash of the rest;
    and rule, with name, tags, schedule, params and actions, as an update takes them, and created, what its creation
    needs as well. Index thresholds (basic licence) tell one field's instances apart; what they can't say is asked
    in ES|QL (8.14 or later), and told without instance and value. Kibana knows no recovery of its own: it tells the
    end of an alarm only where that is at the threshold.
    Raises AnsibleFilterError for what neither can say: another source than a log, and alarms of every instance.
    """
    return [_marked(level, str(index), str(stack), str(connector)) for level in plain(list(levels))]


def _marked(level: Mapping[str, Any], index: str, stack: str, connector: str) -> Object:
    if level["indicator"]["source"] != "log" or "alarm" not in level:
        raise AnsibleFilterError(f"{level['id']}: Kibana carries alarms of logs: leave this level out")
    alarm = level["alarm"]
    if alarm.get("instances") == "every":
        raise AnsibleFilterError(f"{level['id']}: Kibana can't tell whether every instance agrees")
    words = {**level["indicator"], "aggregation": alarm.get("aggregation", level["indicator"]["aggregation"])}
    simple = words["aggregation"] in _THRESHOLDS and len(words.get("per", ())) <= 1
    kind = ".index-threshold" if simple else ".es-query"
    params = _threshold(words, alarm, index) if simple else _query(words, alarm, index)
    rule = {
        "name": f"{stack}: {level['id']}",
        "schedule": {"interval": _PACE},
        "params": params,
        "actions": _actions(level["id"], alarm, words, simple, connector),
    }
    mark = "mark-" + hashlib.sha256(json.dumps(rule, sort_keys=True).encode()).hexdigest()[:12]
    name = hashlib.sha256(f"{stack}/{level['id']}/{kind}".encode()).digest()
    return {
        "id": str(uuid.UUID(bytes=name[:16], version=4)),
        "mark": mark,
        "rule": {**rule, "tags": [f"{stack}-alarms", mark]},
        "created": {"rule_type_id": kind, "consumer": "stackAlerts", "enabled": True},
    }


def _window(duration: str) -> Object:
    return {"timeWindowSize": int(duration[:-1]), "timeWindowUnit": duration[-1]}


def _scale(words: Mapping[str, Any]) -> float:
    """What Elasticsearch's figure is multiplied by to be the level's."""
    if words["aggregation"] == "rate":
        return 1 / query_dsl.seconds(words["lookback_window"])
    return query_dsl.scale(words["fields"][0]) if words.get("fields") else 1


def _bound(words: Mapping[str, Any], alarm: Mapping[str, Any]) -> float:
    """The threshold of Elasticsearch's figure."""
    bound = round(alarm["threshold"] / _scale(words), 6)
    return int(bound) if bound == int(bound) else bound


def _threshold(words: Mapping[str, Any], alarm: Mapping[str, Any], index: str) -> Object:
    per = words.get("per", ())
    grouped = {"groupBy": "top", "termField": per[0], "termSize": _INSTANCES} if per else {"groupBy": "all"}
    kind = _THRESHOLDS[words["aggregation"]]
    return {
        "index": [f"{index}-*"],
        "timeField": _TIME,
        **_window(words["lookback_window"]),
        "aggType": kind,
        **({} if kind == "count" else {"aggField": words["fields"][0]}),
        **grouped,
        "filterKuery": " and ".join(map(_kuery, _conditions(words))),
        "thresholdComparator": _OPS[alarm["op"]],
        "threshold": [_bound(words, alarm)],
    }


def _query(words: Mapping[str, Any], alarm: Mapping[str, Any], index: str) -> Object:
    aggregation, per = words["aggregation"], words.get("per", ())
    absent = [f'{field} != ""' for field in per if field != "source.ip"]
    lines = " AND ".join([*map(_esql, _conditions(words)), *absent])
    by = f" BY {', '.join(per)}" if per else ""
    if aggregation == "ratio":
        bad = " AND ".join(map(_esql, query_dsl.conditions(words["bad"])))
        steps = [
            f"STATS bad = COUNT(CASE({bad}, 1)), every = COUNT(*){by}",
            "EVAL value = 100.0 * bad / every",
        ]
    elif aggregation == "silence":
        window = query_dsl.seconds(words["lookback_window"])
        steps = [
            f"STATS newest = MAX({_TIME}){by}",
            f"EVAL value = CASE(newest < NOW() - {window} seconds, 1, 0)",
        ]
    else:
        field = words["fields"][0] if aggregation in _FUNCTIONS else "*"
        steps = [f"STATS value = {_FUNCTIONS.get(aggregation, 'COUNT')}({field}){by}"]
    met = f"WHERE value {_OPS[alarm['op']]} {_bound(words, alarm)}"
    steps = [f"FROM {index}-*", f"WHERE {lines}", *steps, met]
    return {
        "searchType": "esqlQuery",
        "esqlQuery": {"esql": " | ".join(steps)},
        "timeField": _TIME,
        **_window(_REMEMBERED if aggregation == "silence" else words["lookback_window"]),
        # A row is an instance that fires.
        "thresholdComparator": ">",
        "threshold": [0],
        "size": _INSTANCES,
        "aggType": "count",
        "groupBy": "all",
        "excludeHitsFromPreviousRun": False,
    }


def _conditions(words: Mapping[str, Any]) -> list[Object]:
    """What the board's search asks of a line, but for its time."""
    asked = query_dsl.current({**words, "aggregation": "count"})["query"]["bool"]["filter"]
    return [one for one in asked if _TIME not in one.get("range", {})]


def _kuery(condition: Mapping[str, Any]) -> str:
    ((kind, body),) = condition.items()
    ((field, meant),) = body.items()
    if kind == "range":
        return " and ".join(f"{field} {_OPS[op]} {bound}" for op, bound in meant.items())
    values = " or ".join(json.dumps(value) for value in (meant if kind == "terms" else [meant]))
    return f"{field} : ({values})"


def _esql(condition: Mapping[str, Any]) -> str:
    ((kind, body),) = condition.items()
    ((field, meant),) = body.items()
    if kind == "range":
        return " AND ".join(f"{field} {_OPS[op]} {bound}" for op, bound in meant.items())
    values = ", ".join(json.dumps(value) for value in (meant if kind == "terms" else [meant]))
    return f"{field} IN ({values})"


def _actions(
    name: str, alarm: Mapping[str, Any], words: Mapping[str, Any], simple: bool, connector: str
) -> list[Object]:
    per = words.get("per", ())
    instance = {per[0]: "{{context.group}}"} if simple and per else {}
    value = "null"
    if simple:
        shares = round(1 / _scale(words))
        value = (
            "{{context.value}}"
            if shares == 1
            else f"{{{{#EvalMath}}}}context.value / {shares}{{{{/EvalMath}}}}"
        )

    def action(group: str, state: str, told: str, frequency: Object) -> Object:
        event = {"level": name, "state": state, "time": "{{context.date}}", "instance": instance}
        # A number, which only Kibana puts there.
        body = f'{{"value": {told}, {json.dumps(event)[1:]}'
        return {
            "group": group,
            "id": connector,
            "params": {"body": body},
            "frequency": {"summary": False, **frequency},
        }

    kind = ".index-threshold" if simple else ".es-query"
    actions = [
        action(_GROUPS[kind], "firing", value, {"notify_when": "onThrottleInterval", "throttle": _AGAIN})
    ]
    if alarm.get("recovery", alarm["threshold"]) == alarm["threshold"]:
        actions.append(
            action("recovered", "recovered", "null", {"notify_when": "onActionGroupChange", "throttle": None})
        )
    return actions


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"kibana_rules": kibana_rules}
