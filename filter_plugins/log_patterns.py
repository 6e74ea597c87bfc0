"""Filters that judge the descriptions of logs, and write them in Telegraf's and Logstash's words."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from jsonschema import Draft202012Validator

# Ansible brings module_utils to the machines, and not to its own plugins.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

from plain import plain

Log = Mapping[str, Any]

_SCHEMA = Path(__file__).parents[1] / "module_utils" / "logs.schema.json"

#: What a line is that nothing takes.
UNPARSED = "unparsed"
#: What the shipper says of a line, which the line itself can't say otherwise.
_SHIPPERS = frozenset(
    (
        "@timestamp",
        "event.id",
        "host.name",
        "service.name",
        "container.id",
        "orchestrator.namespace",
        "forum.task",
    )
)
#: The text that a pattern takes its line's time from.
_TIME = "timestamp"
#: The field that tells that a pattern took the line; it is the whole line, and isn't kept.
_TAKEN = "taken"

#: strptime's directives in Go's words (where a fraction of a second may follow any second), and in Joda's.
_GO = {"%Y": "2006", "%m": "01", "%d": "02", "%H": "15", "%M": "04", "%S": "05", "%b": "Jan", ".%f": ""}
_JODA = {
    "%Y": "yyyy", "%m": "MM", "%d": "dd", "%H": "HH", "%M": "mm", "%S": "ss", "%b": "MMM", ".%f": ".SSS"
}  # fmt: skip
_DIRECTIVE = re.compile(r"\.%f|%[A-Za-z]")

#: A pattern's name, and what its text is kept as, if it is.
_REFERENCE = re.compile(r"%\{(\w+)(?::([\w.]+))?\}")
#: What Go's expressions don't have: looking around, groups that don't give back, references back.
_FOREIGN = re.compile(r"\(\?(?:[=!>]|<[=!])|[*+?}]\+|\\[1-9]")
#: The patterns that both know by themselves.
_BUILT_IN = frozenset(
    (
        *(
            "INT",
            "NUMBER",
            "POSINT",
            "NONNEGINT",
            "WORD",
            "NOTSPACE",
            "SPACE",
            "DATA",
            "GREEDYDATA",
            "QUOTEDSTRING",
        ),
        *("IP", "IPV4", "IPV6", "IPORHOST", "HOSTNAME", "UUID", "TIMESTAMP_ISO8601"),
        *("YEAR", "MONTH", "MONTHNUM", "MONTHDAY", "TIME", "HOUR", "MINUTE", "SECOND"),
    )
)
#: Types that text has to be turned into, as Telegraf and Logstash call them.
_TELEGRAF_TYPES = {"long": "integer", "double": "float"}
_LOGSTASH_TYPES = {"long": "int", "double": "float"}


@functools.cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(_SCHEMA.read_text()))


def _definitions(patterns: str) -> dict[str, str]:
    """Name -> expression of the lines of patterns.grok, several such files in one text."""
    lines = [line.strip() for line in patterns.splitlines() if line.strip() and not line.startswith("#")]
    return {name: expression for name, _, expression in (line.partition(" ") for line in lines)}


def _fields(logs: Iterable[Log]) -> dict[str, str]:
    return {name: kind for log in logs for name, kind in log["fields"].items()}


def log_errors(logs: Iterable[Log], patterns: str) -> list[str]:
    """Everything that is wrong with the descriptions of logs.

    logs: the contents of all log.yml. patterns: those of all patterns.grok, one behind the other.
    Returns sentences: what violates logs.schema.json; if nothing does, names of datasets that two have, patterns that
    are missing, that only one of Telegraf and Logstash understands, that capture a name twice, one that no log.yml has,
    or a time that nothing tells the layout of, and patterns that nothing uses. Raises nothing.
    """
    given = plain(list(logs))
    errors = [
        f"{'/'.join(map(str, error.absolute_path)) or 'it'}: {error.message}"
        for log in given
        for error in _validator().iter_errors(log)
    ]
    return errors or [*_dataset_errors(given), *_pattern_errors(given, _definitions(patterns))]


def _dataset_errors(logs: list[Log]) -> Iterator[str]:
    names = [dataset["name"] for log in logs for dataset in log["datasets"]]
    for name in sorted({name for name in names if names.count(name) > 1 or name == UNPARSED}):
        yield f"the dataset {name} is there twice"
    known = _fields(logs)
    for log in logs:
        for field in sorted(log.get("values", {}).keys() - known.keys()):
            yield f"values are given for {field}, which no log.yml has among its fields"


def _pattern_errors(logs: list[Log], definitions: dict[str, str]) -> Iterator[str]:
    known = _fields(logs)
    used: set[str] = set()
    for name, expression in definitions.items():
        if found := _FOREIGN.search(expression):
            yield f"{name} has {found[0]}, which Telegraf doesn't understand"
        if '"}' in expression:
            yield f'{name} has "}}, where Telegraf would look for the end of a time: write ["] for the quotation mark'
        for reference in _REFERENCE.finditer(expression):
            used.add(reference[1])
            if reference[1] not in definitions.keys() | _BUILT_IN:
                yield f"{name} names {reference[1]}, which isn't there"
            if reference[2] and reference[2] != _TIME and reference[2] not in known:
                yield f"{name} captures {reference[2]}, which no log.yml has among its fields"
    for dataset in (dataset for log in logs for dataset in log["datasets"] if dataset["format"] == "grok"):
        for name in dataset["patterns"]:
            used.add(name)
            if name not in definitions:
                yield f"the dataset {dataset['name']} names the pattern {name}, which isn't there"
                continue
            yield from _whole_pattern_errors(name, definitions)
            if "timestamp" not in dataset and _TIME in _captured(name, definitions):
                yield f"{name} captures a timestamp, and the dataset {dataset['name']} doesn't tell how it is written"
    for name in sorted(definitions.keys() - used):
        yield f"{name} is used by nothing"


def _captured(name: str, definitions: dict[str, str]) -> list[str]:
    return [found[2] for found in _REFERENCE.finditer(_expanded(name, definitions)) if found[2]]


def _whole_pattern_errors(name: str, definitions: dict[str, str]) -> Iterator[str]:
    if not (definitions[name].startswith("^") and definitions[name].endswith("$")):
        yield f"{name} must begin with ^ and end with $: it stands for a whole line"
    captured = _captured(name, definitions)
    for field in sorted({field for field in captured if captured.count(field) > 1}):
        yield f"{name} captures {field} twice, which Telegraf refuses: write two patterns"
    if "message" in captured:
        yield f"{name} captures message, which is the line as it came"


def _expanded(name: str, definitions: Mapping[str, str]) -> str:
    """A pattern with those of ours in it that it doesn't keep the text of, since Telegraf knows a time only there."""

    def inner(reference: re.Match[str]) -> str:
        if reference[2] or reference[1] not in definitions:
            return reference[0]
        return f"(?:{_expanded(reference[1], definitions)})"

    return _REFERENCE.sub(inner, definitions[name])


def _layout(directives: str, words: Mapping[str, str]) -> str:
    return _DIRECTIVE.sub(lambda found: words[found[0]], directives)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name) else json.dumps(name)


def _table(path: str, content: Mapping[str, Any], several: bool = False) -> Iterator[str]:
    """Lines of TOML, whose strings, lists and numbers are JSON's."""
    yield f"[[{path}]]" if several else f"[{path}]"
    for name, value in content.items():
        if not isinstance(value, Mapping):
            yield f"{_key(name)} = {json.dumps(value)}"
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _table(f"{path}.{name}", value, several=name == "mapping")


def telegraf_log_parsers(logs: Iterable[Log], patterns: str) -> str:
    """The processors of Telegraf that take lines apart.

    logs, patterns: as log_errors takes them, which finds nothing in them. What comes is a metric for each line, with
    the line in the field message and the service in the tag service.name; the tag event.dataset is added, and
    `unparsed` where nothing takes the line. A line of JSON keeps its own, if that service has such a one.
    Returns TOML. Raises AnsibleFilterError for descriptions in which log_errors finds something.
    """
    given = plain(list(logs))
    if errors := log_errors(given, patterns):
        raise AnsibleFilterError("; ".join(errors))
    steps = [*_telegraf_json(given), *_telegraf_grok(given, _definitions(patterns)), *_telegraf_values(given)]
    tables = [
        _table(f"processors.{kind}", {"order": order, **settings}, several=True)
        for order, (kind, settings) in enumerate(steps, start=1)
    ]
    return "\n\n".join("\n".join(lines) for lines in tables) + "\n"


Step = tuple[str, dict[str, Any]]


def _json_datasets(logs: list[Log]) -> dict[tuple[str, ...], list[str]]:
    """Services -> the datasets that they write as JSON."""
    found: dict[tuple[str, ...], list[str]] = {}
    for dataset in (dataset for log in logs for dataset in log["datasets"] if dataset["format"] == "json"):
        found.setdefault(tuple(dataset["services"]), []).append(dataset["name"])
    return found


def _telegraf_json(logs: list[Log]) -> Iterator[Step]:
    allowed = _json_datasets(logs)
    services = sorted({service for group in allowed for service in group})
    yield (
        "parser",
        {
            "parse_fields": ["message"],
            "merge": "override-with-timestamp",
            "data_format": "json",
            "tag_keys": ["event.dataset"],
            "json_string_fields": ["*"],
            "json_time_key": "@timestamp",
            "json_time_format": "2006-01-02T15:04:05.999999999Z07:00",
            "metricpass": 'fields["message"].startsWith("{")',
            "tagpass": {"service.name": services},
        },
    )
    for group, names in allowed.items():
        # A line of its own making can't pass for another component's.
        yield (
            "override",
            {
                "metricpass": f'"event.dataset" in tags && !(tags["event.dataset"] in {json.dumps(names)})',
                "tagpass": {"service.name": list(group)},
                "tags": {"event.dataset": UNPARSED},
            },
        )


def _telegraf_grok(logs: list[Log], definitions: dict[str, str]) -> Iterator[Step]:
    for dataset in (dataset for log in logs for dataset in log["datasets"] if dataset["format"] == "grok"):
        layout = _layout(dataset.get("timestamp", ""), _GO)
        wholes = [_expanded(name, definitions) for name in dataset["patterns"]]
        timed = [re.sub(rf":{_TIME}\}}", f':{_TIME}:ts-"{layout}"}}', whole) for whole in wholes]
        yield (
            "parser",
            {
                "parse_fields": ["message"],
                "merge": "override-with-timestamp",
                "data_format": "grok",
                # By itself it moves the time of a line that has the same one as the line before.
                "grok_unique_timestamp": "disable",
                "grok_patterns": [f"(?P<{_TAKEN}>{whole})" for whole in timed],
                "grok_custom_patterns": "\n".join(
                    f"{name} {definitions[name]}" for name in sorted(_needed_names(wholes, definitions))
                ),
                "tagpass": {"service.name": dataset["services"]},
                "tagdrop": {"event.dataset": ["*"]},
            },
        )
        yield (
            "override",
            {
                "metricpass": f'"{_TAKEN}" in fields',
                "tagdrop": {"event.dataset": ["*"]},
                "tags": {"event.dataset": dataset["name"]},
            },
        )


def _needed_names(expressions: Iterable[str], definitions: Mapping[str, str]) -> set[str]:
    """Names of the patterns of ours that some expressions name, and those that these name."""
    needed: set[str] = set()
    waiting = list(expressions)
    while waiting:
        for reference in _REFERENCE.finditer(waiting.pop()):
            if reference[1] in definitions and reference[1] not in needed:
                needed.add(reference[1])
                waiting.append(definitions[reference[1]])
    return needed


def _telegraf_values(logs: list[Log]) -> Iterator[Step]:
    for log in logs:
        names = [dataset["name"] for dataset in log["datasets"]]
        for field, words in log.get("values", {}).items():
            yield (
                "enum",
                {
                    "tagpass": {"event.dataset": names},
                    "mapping": {"fields": [field], "value_mappings": words},
                },
            )
    kinds: dict[str, list[str]] = {}
    for name, kind in sorted(_fields(logs).items()):
        if kind in _TELEGRAF_TYPES:
            kinds.setdefault(_TELEGRAF_TYPES[kind], []).append(name)
    yield "converter", {"fields": kinds}
    yield "override", {"tagdrop": {"event.dataset": ["*"]}, "tags": {"event.dataset": UNPARSED}}


def logstash_log_filters(logs: Iterable[Log], patterns: str) -> str:
    """The filters of Logstash that take lines apart, as telegraf_log_parsers writes Telegraf's.

    logs, patterns: as log_errors takes them, which finds nothing in them. What comes is an event for each line of the
    collector's spool, whose names have dots; what goes has an object for each dot.
    Returns a section `filter`. Raises AnsibleFilterError for descriptions in which log_errors finds something, and for
    a pattern that has both kinds of quotation marks, which Logstash can't be given.
    """
    given = plain(list(logs))
    if errors := log_errors(given, patterns):
        raise AnsibleFilterError("; ".join(errors))
    steps = [*_logstash_json(given), *_logstash_grok(given, _definitions(patterns)), *_logstash_values(given)]
    body = "\n".join(["de_dot { nested => true }", *steps])
    return "filter {\n" + "\n".join(f"  {line}" for line in body.splitlines()) + "\n}\n"


#: Takes over what a line of JSON says, absent values and unknown names left out.
_MERGE = (
    'event.get("[@metadata][line]").each { |name, value| '
    'if name == "@timestamp" then event.set(name, LogStash::Timestamp.new(value)) '
    'elsif %%w[%s].include?(name) && !value.nil? && value != "" '
    'then event.set("[" + name.gsub(".", "][") + "]", value) end }'
)


def _words(text: str) -> str:
    """A text in Logstash's quotation marks, in which a backslash is a backslash."""
    if "'" not in text:
        return f"'{text}'"
    if '"' in text:
        raise AnsibleFilterError(f"{text} has both kinds of quotation marks, which Logstash can't be given")
    return f'"{text}"'


def _place(field: str) -> str:
    return "".join(f"[{part}]" for part in field.split("."))


def _one_of(names: Iterable[str]) -> str:
    """An expression of Logstash that is true for some names, in which * stands for anything."""
    return "/^(?:" + "|".join(re.escape(name).replace(r"\*", ".*") for name in names) + ")$/"


def _logstash_json(logs: list[Log]) -> Iterator[str]:
    allowed = _json_datasets(logs)
    pairs = " or ".join(
        f"([service][name] =~ {_one_of(group)} and [@metadata][line][event.dataset] =~ {_one_of(names)})"
        for group, names in allowed.items()
    )
    every = _one_of(sorted({service for group in allowed for service in group}))
    known = " ".join(name for name in sorted(_fields(logs).keys() - _SHIPPERS))
    yield f"""if [message] =~ /^\\{{/ and [service][name] =~ {every} {{
  json {{ source => "message" target => "[@metadata][line]" skip_on_invalid_json => true }}
  if {pairs} {{
    ruby {{ code => {_words(_MERGE % known)} }}
  }}
}}"""


def _logstash_grok(logs: list[Log], definitions: dict[str, str]) -> Iterator[str]:
    known = _fields(logs)

    def rendered(expression: str) -> str:
        def one(found: re.Match[str]) -> str:
            if not found[2]:
                return found[0]
            place = "[@metadata][time]" if found[2] == _TIME else _place(found[2])
            kind = _LOGSTASH_TYPES.get(known.get(found[2], ""), "")
            return "%{" + ":".join(filter(None, [found[1], place, kind])) + "}"

        return _words(_REFERENCE.sub(one, expression))

    for dataset in (dataset for log in logs for dataset in log["datasets"] if dataset["format"] == "grok"):
        wholes = [definitions[name] for name in dataset["patterns"]]
        needed = "".join(
            f"\n      {json.dumps(name)} => {rendered(definitions[name])}"
            for name in sorted(_needed_names(wholes, definitions))
        )
        matches = "".join(f"\n      {rendered(whole)}," for whole in wholes)
        yield f"""if ![event][dataset] and [service][name] =~ {_one_of(dataset["services"])} {{
  grok {{
    match => {{ "message" => [{matches[:-1]}
    ] }}
    pattern_definitions => {{{needed}
    }}
    add_field => {{ "[event][dataset]" => "{dataset["name"]}" }}
    tag_on_failure => []
  }}"""
        if "timestamp" in dataset:
            layout = _layout(dataset["timestamp"], _JODA)
            yield f"""  if [@metadata][time] {{
    date {{ match => ["[@metadata][time]", {_words(layout)}] timezone => "UTC" locale => "en" }}
  }}"""
        yield "}"


def _logstash_values(logs: list[Log]) -> Iterator[str]:
    for log in logs:
        names = [dataset["name"] for dataset in log["datasets"]]
        for field, words in log.get("values", {}).items():
            dictionary = " ".join(f'"{word}" => "{kept}"' for word, kept in words.items())
            place = f'"{_place(field)}"'
            yield f"""if [event][dataset] =~ {_one_of(names)} {{
  translate {{ source => {place} target => {place} override => true dictionary => {{ {dictionary} }} }}
}}"""
    yield f"""if ![event][dataset] {{
  mutate {{ add_field => {{ "[event][dataset]" => "{UNPARSED}" }} }}
}}"""


def log_field_names(logs: Iterable[Log]) -> list[str]:
    """The names of all fields of all logs, sorted.

    logs: as log_errors takes them. Raises nothing.
    """
    return sorted(_fields(plain(list(logs))))


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {
            "log_errors": log_errors,
            "log_field_names": log_field_names,
            "logstash_log_filters": logstash_log_filters,
            "telegraf_log_parsers": telegraf_log_parsers,
        }
