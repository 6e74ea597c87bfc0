"""A filter that writes the alarms that count lines by instance as watches for Elasticsearch's Watcher."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.errors import AnsibleFilterError

# Ansible brings module_utils to the machines, and not to its own plugins.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

import query_dsl
from plain import plain

Watch = dict[str, Any]

#: Oftener than the shortest window passes.
_PACE = "5s"
#: Watcher holds up all instances together, so that a second address would wait for the first one's time to pass. What
#: is told twice, the action server takes once.
_THROTTLE = "1s"
_EACH = "ctx.payload.aggregations.each.buckets"


def watcher_watches(
    levels: Sequence[Mapping[str, Any]], index: str, url: str, token: str
) -> dict[str, Watch]:
    """Watches, one for each alarm.

    levels: those whose alarms it carries, of the list of sla.yml, judged by service_level_errors: lines of a log,
    counted (op gt or gte) by one field. index: what the names of the indices begin with, and
    the ids of the watches. url: where events are posted. token: the bearer's token that goes with them; it stands in
    the watch as it is, since Elasticsearch encrypts nothing of one but passwords.
    Returns id -> watch, whose metadata.mark is a hash of the rest. Raises AnsibleFilterError for levels of another
    kind.
    """
    return {
        f"{index}-{level['id']}": _marked(_watch(level, str(index), str(url), str(token)))
        for level in plain(list(levels))
    }


def _marked(watch: Watch) -> Watch:
    mark = hashlib.sha256(json.dumps(watch, sort_keys=True).encode()).hexdigest()[:12]
    return {**watch, "metadata": {"mark": mark}}


def _watch(level: Mapping[str, Any], index: str, url: str, token: str) -> Watch:
    words, alarm = level["indicator"], level.get("alarm", {})
    counted = words["source"] == "log" and words["aggregation"] == "count" and len(words.get("per", ())) == 1
    if not counted or alarm.get("op") not in ("gt", "gte") or alarm.get("instances") == "every":
        raise AnsibleFilterError(
            f"{level['id']}: Watcher carries alarms of many lines of one instance: leave this level out"
        )
    (field,) = words["per"]
    enough = int(alarm["threshold"]) + (alarm["op"] == "gt")
    search = query_dsl.current(words)
    search["aggs"]["each"]["terms"]["min_doc_count"] = enough
    search["aggs"]["each"]["aggs"]["newest"] = {
        "max": {"field": "@timestamp", "format": "strict_date_optional_time"}
    }
    return {
        "trigger": {"schedule": {"interval": _PACE}},
        "input": {"search": {"request": {"indices": [f"{index}-*"], "body": search}}},
        "condition": {"array_compare": {_EACH: {"path": "doc_count", "gte": {"value": enough}}}},
        "actions": {
            "tell": {
                "throttle_period": _THROTTLE,
                "foreach": _EACH,
                "max_iterations": query_dsl.current(words)["aggs"]["each"]["terms"]["size"],
                "webhook": _request(level["id"], field, url, token),
            }
        },
    }


def _request(name: str, field: str, url: str, token: str) -> Watch:
    place = urlsplit(url)
    event = {
        "level": name,
        "state": "firing",
        "time": "{{ctx.payload.newest.value_as_string}}",
        "instance": {field: "{{ctx.payload.key}}"},
    }
    # A number, which only Watcher puts there.
    body = f'{{"value": {{{{ctx.payload.doc_count}}}}, {json.dumps(event)[1:]}'
    return {
        "scheme": place.scheme,
        "host": place.hostname,
        "port": place.port,
        "method": "post",
        "path": place.path,
        "headers": {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
        "body": body,
    }


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"watcher_watches": watcher_watches}
