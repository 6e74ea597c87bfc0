"""Filters that tell Elasticsearch which fields a log line has, and whether what is around it fits it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

#: How each type is kept. What can't be read as its type is left out of the index, and stays in the line as it came:
#: Elasticsearch itself takes a text for a keyword, and is told (ignore_malformed) to take anything for the others.
_TYPES: dict[str, dict[str, Any]] = {
    "date": {"type": "date"},
    "double": {"type": "double"},
    "ip": {"type": "ip"},
    # A longer one than Lucene takes would refuse the line.
    "keyword": {"type": "keyword", "ignore_above": 1024},
    "long": {"type": "long"},
    "text": {"type": "text"},
}
#: Every line has it, wherever it comes from.
_TIME = "@timestamp"
#: Telegraf's place for what it groups by, and for all else: an object of the measurement's name.
_TAGS, _FIELDS = "tag", "line"
#: The versions of Elastic's other programs.
_VERSION = re.compile(r"(?:kibana|\w+_logstash|\w+_filebeat)_version")


def log_fields(lists: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The fields of all logs together.

    lists: name of the Elastic Common Schema -> type, one mapping for what all lines have and one for each log.yml.
    Returns one such mapping, sorted by name. Raises AnsibleFilterError for a type that isn't one of date, double, ip,
    keyword, long and text, for a name with two types, and for one that is also another's beginning, since Elasticsearch
    refuses both.
    """
    fields: dict[str, str] = {}
    for one in lists:
        for name, kind in one.items():
            if kind not in _TYPES:
                raise AnsibleFilterError(f"{name} is {kind}: the types are {', '.join(sorted(_TYPES))}")
            if fields.setdefault(str(name), str(kind)) != kind:
                raise AnsibleFilterError(f"{name} is {fields[name]} in one log and {kind} in another")
    for name in fields:
        above = [name[:dot] for dot, character in enumerate(name) if character == "."]
        for beginning in fields.keys() & above:
            raise AnsibleFilterError(f"{beginning} is a field, so that {name} can't be one")
    return dict(sorted(fields.items()))


def log_template(
    fields: Mapping[str, str], index: str, tags: Iterable[str], collector: str
) -> dict[str, Any]:
    """The template of the indices of log lines.

    fields: as log_fields returns them. index: what the names of the indices begin with. tags: those of the fields that
    Telegraf groups by. collector: telegraf, whose documents have each field in an object of Telegraf's, to which an
    alias leads from its own name; or logstash, whose have it under its own name.
    Returns a body for `_index_template`, in the words in which Elasticsearch tells it again. Raises AnsibleFilterError
    for another collector.
    Fields that aren't named are kept in the line, and not searched. Each name in an object of Telegraf's is one field,
    dots and all (subobjects), so that a line with `url` beside `url.path` is taken like any other.
    Source: Elasticsearch, 'Mapping' and 'Index templates'; Telegraf, the output elasticsearch.
    """
    kinds = {name: _TYPES[kind] for name, kind in fields.items()}
    if collector == "telegraf":
        properties = _of_telegraf(kinds, set(tags))
    elif collector == "logstash":
        properties = _nested(kinds)
    else:
        raise AnsibleFilterError(f"{collector} is no collector: choose telegraf or logstash")
    settings = {
        "number_of_shards": "1",
        "number_of_replicas": "0",
        "codec": "best_compression",
        "refresh_interval": "2s",
        "mapping": {"ignore_malformed": "true"},
    }
    return {
        "index_patterns": [f"{index}-*"],
        # Before those that a vendor's release brings for everybody's logs.
        "priority": 500,
        "template": {
            "settings": {"index": settings},
            "mappings": {"dynamic": "false", "properties": properties},
        },
    }


def _of_telegraf(kinds: Mapping[str, dict[str, Any]], tags: set[str]) -> dict[str, Any]:
    """The fields where Telegraf puts them, and aliases of their own names."""
    where = {name: _TAGS if name in tags else _FIELDS for name in kinds if name != _TIME}
    places = {
        place: {
            "dynamic": "false",
            "subobjects": False,
            "properties": {name: kinds[name] for name, found in where.items() if found == place},
        }
        for place in (_TAGS, _FIELDS)
    }
    aliases = {name: {"type": "alias", "path": f"{place}.{name}"} for name, place in where.items()}
    return {_TIME: _TYPES["date"], **places, **_nested(aliases)}


def _nested(fields: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The same with an object for each dot, as Elasticsearch tells a mapping."""
    tree: dict[str, Any] = {}
    for name, field in fields.items():
        *above, last = name.split(".")
        place = tree
        for part in above:
            place = place.setdefault(part, {"properties": {}})["properties"]
        place[last] = field
    return tree


def elastic_problems(settings: Mapping[str, object]) -> list[str]:
    """Whether Elastic's programs fit each other.

    settings: variable -> rendered value; versions are compared with elasticsearch_version, and kibana_source with
    elasticsearch_source. Returns sentences with the remedy, sorted by name.
    """
    wanted = settings.get("elasticsearch_version")
    problems = [
        f"{name} is {value}, but elasticsearch_version is {wanted}: remove it, all of Elastic's parts have one version"
        for name, value in sorted(settings.items())
        if _VERSION.fullmatch(name) and value != wanted
    ]
    kibana, source = settings.get("kibana_source", "none"), settings.get("elasticsearch_source")
    if kibana != "none" and source != "vendor":
        problems.append(
            f"kibana_source is {kibana}, but elasticsearch_source is {source}, which has no "
            "module for what Kibana keeps: choose vendor for elasticsearch_source, or none for kibana_source"
        )
    return problems


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"elastic_problems": elastic_problems, "log_fields": log_fields, "log_template": log_template}
