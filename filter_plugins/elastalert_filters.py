"""Filters that turn service levels into what ElastAlert2 asks, and into what has to be copied for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

# Ansible brings module_utils to the machines, and not to its own plugins.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

import query_dsl
from plain import plain

Rule = dict[str, Any]

#: Seconds by which the points of a window may be late.
_LATE = 30
#: How long what fell silent is told of; the action server looks after it from then on.
_REMEMBERED = 900
#: Seconds between two questions, by what depends on the answer.
_PACES = {"block": 1, "scale_up": 5}
_PACE = 15
#: Seconds after which the same is told again.
_AGAIN = 60
#: Series of one instance, or of all.
_SERIES = 1000


def elastalert_rules(levels: Sequence[Mapping[str, Any]], logs: str, metrics: str) -> list[Rule]:
    """ElastAlert2's rules.

    levels: those whose alarms it carries, of the list of sla.yml, judged by service_level_errors. logs, metrics: what
    the names of the indices of log lines and of copied metrics begin with.
    Returns a mapping for each rule; its name is the level's id. Raises AnsibleFilterError for what can't be said: lines
    that are counted by several fields, or of every instance.
    """
    return [_rule(level, logs, metrics) for level in plain(list(levels))]


def _rule(level: Mapping[str, Any], logs: str, metrics: str) -> Rule:
    indicator, alarm = level["indicator"], level["alarm"]
    of_log = indicator["source"] == "log"
    (pace,) = (_PACES.get(verb, _PACE) for verb in alarm.get("action", {"": ""}))
    rule = {
        "name": level["id"],
        "index": f"{logs if of_log else metrics}-%Y.%m.%d",
        "use_strftime_index": True,
        "run_every": {"seconds": pace},
        "realert": {"seconds": _AGAIN},
        "alert": "post2",
    }
    words = {**indicator, "aggregation": alarm.get("aggregation", indicator["aggregation"])}
    rule["filter"] = [query_dsl.lines_of(words) if of_log else _points_of(words)]
    if words["aggregation"] == "count" and alarm["op"] in ("gt", "gte"):
        return rule | _counted(level["id"], words, alarm)
    return rule | _figured(words, alarm)


def _counted(name: str, words: Mapping[str, Any], alarm: Mapping[str, Any]) -> Rule:
    """So many lines of one instance, by their own times."""
    if alarm.get("instances") == "every" or len(words.get("per", ())) > 1:
        raise AnsibleFilterError(f"{name}: ElastAlert2 counts lines by one field, and of any instance")
    window = query_dsl.seconds(words["lookback_window"])
    enough = alarm["threshold"] if alarm["op"] == "gte" else alarm["threshold"] + 1
    fields = list(words.get("per", ()))
    return {
        "type": "forum_alarms.rules.CountRule",
        "num_events": int(enough),
        "timeframe": {"seconds": window},
        # A line may be late, and counts by its own time all the same.
        "buffer_time": {"seconds": window + 2 * _LATE},
        # Each further one is an offence of its own.
        "realert": {"seconds": 0},
        "include": ["@timestamp"],
        **({"query_key": fields[0], "include_fields": fields} if fields else {}),
    }


def _figured(words: Mapping[str, Any], alarm: Mapping[str, Any]) -> Rule:
    """A figure for each instance."""
    of_log, aggregation = words["source"] == "log", words["aggregation"]
    window = query_dsl.seconds(words["lookback_window"])
    newest = {"newest": {"max": {"field": "@timestamp"}}}
    if aggregation == "silence":
        leaf, back = newest, _REMEMBERED
    elif of_log:
        leaf, back = {"value": query_dsl.figure(words), **newest}, window
    else:
        leaf, back = _points(words), window + _LATE
    return {
        "type": "forum_alarms.rules.FigureRule",
        "buffer_time": {"seconds": back},
        "aggregation_query_element": _of_each(words.get("per", ()), "" if of_log else "tag.", leaf),
        "forum": {
            "aggregation": aggregation,
            "window": window,
            "op": alarm["op"],
            "threshold": alarm["threshold"],
            "instances": alarm.get("instances", "any"),
        },
    }


def _of_each(names: Iterable[str], place: str, leaf: Rule) -> Rule:
    for name in reversed(list(names)):
        terms = {"field": place + name, "size": query_dsl.INSTANCES}
        leaf = {"each": {"terms": terms, "meta": {"name": name}, "aggs": leaf}}
    return leaf


def _points_of(words: Mapping[str, Any]) -> Rule:
    """The query for a metric's points, as the output of Telegraf names their parts."""
    where = {
        (f"{words['measurement']}.{name}" if isinstance(value, Mapping) else f"tag.{name}"): value
        for name, value in words.get("where", {}).items()
    }
    return {
        "bool": {
            "filter": [{"term": {"measurement_name": words["measurement"]}}, *query_dsl.conditions(where)]
        }
    }


def _points(words: Mapping[str, Any]) -> Rule:
    """All points, to the second, of each series on its own: a counter's rate can't be told of several at once."""
    fields = {
        f"field{number}": {"avg": {"field": f"{words['measurement']}.{name}"}}
        for number, name in enumerate(words["fields"])
    }
    every = {"field": "@timestamp", "fixed_interval": "1s", "min_doc_count": 1}
    points = {"points": {"date_histogram": every, "aggs": fields}}
    return {"series": {"terms": {"field": "tag.series", "size": _SERIES}, "aggs": points}}


def copied_metrics(levels: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What of InfluxDB's points ElastAlert2 needs.

    levels: those whose alarms it carries. Returns measurement -> its fields, both sorted; empty where it needs none.
    """
    wanted: dict[str, set[str]] = {}
    for level in plain(list(levels)):
        indicator = level["indicator"]
        if indicator["source"] != "log":
            compared = [
                name for name, value in indicator.get("where", {}).items() if isinstance(value, Mapping)
            ]
            wanted.setdefault(indicator["measurement"], set()).update(indicator["fields"], compared)
    return {name: sorted(fields) for name, fields in sorted(wanted.items())}


def metrics_template(copied: Mapping[str, Sequence[str]], tags: Iterable[str], index: str) -> Rule:
    """The template of the indices of copied metrics.

    copied: as copied_metrics returns it. tags: names of those by which points are found. index: what the names of the
    indices begin with. Returns a body for `_index_template`, in the words in which Elasticsearch tells it again.
    """
    keyword, number = {"type": "keyword", "ignore_above": 1024}, {"type": "double"}
    objects = {
        name: {"dynamic": "false", "properties": dict.fromkeys(fields, number)}
        for name, fields in copied.items()
    }
    return _template(
        index,
        {
            "@timestamp": {"type": "date"},
            "measurement_name": keyword,
            "tag": {"dynamic": "false", "properties": dict.fromkeys(sorted({*tags, "series"}), keyword)},
            **objects,
        },
    )


def alarms_template(index: str) -> Rule:
    """The template of the indices in which ElastAlert2 keeps what it found and told.

    index: what their names begin with. Returns a body for `_index_template`. Source: ElastAlert2, 'es_mappings'.
    """
    date, keyword = {"type": "date"}, {"type": "keyword", "ignore_above": 1024}
    times = ("@timestamp", "alert_time", "match_time", "until")
    return _template(
        index,
        {
            **dict.fromkeys(times, date),
            **dict.fromkeys(("rule_name", "aggregate_id"), keyword),
            "alert_sent": {"type": "boolean"},
        },
    )


def _template(index: str, properties: Rule) -> Rule:
    return {
        "index_patterns": [f"{index}-*"],
        "priority": 500,
        "template": {
            "settings": {
                "index": {
                    "number_of_shards": "1",
                    "number_of_replicas": "0",
                    "codec": "best_compression",
                    "refresh_interval": "1s",
                    "mapping": {"ignore_malformed": "true"},
                }
            },
            "mappings": {"dynamic": "false", "properties": properties},
        },
    }


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {
            "alarms_template": alarms_template,
            "copied_metrics": copied_metrics,
            "elastalert_rules": elastalert_rules,
            "metrics_template": metrics_template,
        }
