"""What every component writes: its description, and what is made of it for Telegraf and Logstash."""

from __future__ import annotations

import re
from typing import Any

import logstash_pipeline_parser
import pytest
import yaml
from ansible.errors import AnsibleFilterError
from log_patterns import log_errors, log_field_names, logstash_log_filters, telegraf_log_parsers
from log_samples import FILES, LOGS, PATTERNS


def test_the_descriptions_have_no_errors() -> None:
    assert log_errors(LOGS, PATTERNS) == []


def test_every_room_with_a_log_has_samples_of_all_its_datasets() -> None:
    for path, log in zip(FILES, LOGS, strict=True):
        samples = yaml.safe_load((path.parent / "samples.yml").read_text())
        assert {dataset["name"] for dataset in log["datasets"]} | {"unparsed"} == {
            sample["dataset"] for sample in samples
        }, path


def test_the_pipeline_of_logstash_can_be_read() -> None:
    pipeline = logstash_log_filters(LOGS, PATTERNS)
    ((section, steps),) = logstash_pipeline_parser.Pipeline(pipeline).parse()
    assert section == "filter"
    groks = re.findall(r"^ *grok \{$", pipeline, re.MULTILINE)
    datasets = [one for log in LOGS for one in log["datasets"] if one["format"] == "grok"]
    assert len(groks) == len(datasets)
    assert len(steps) > len(datasets)


LINE = "ROOM_LINE ^%{WORD:log.level} %{GREEDYDATA}$"
DATASET = {"name": "room", "services": ["room"], "format": "grok", "patterns": ["ROOM_LINE"]}
FIELDS = {"log.level": "keyword"}


@pytest.mark.parametrize(
    ("dataset", "patterns", "error"),
    [
        ({"format": "json", "patterns": [], "timestamp": "@timestamp"}, LINE, "patterns"),
        ({"format": "json"}, LINE, "'timestamp' is a required property"),
        ({"services": ["room/1"]}, LINE, "does not match"),
        ({"timestamp": "%Q"}, LINE, "does not match"),
        ({"name": "unparsed"}, LINE, "the dataset unparsed is there twice"),
        ({"patterns": ["OTHER"]}, LINE, "names the pattern OTHER, which isn't there"),
        ({}, LINE.replace("WORD", "ROOM_WORD"), "names ROOM_WORD, which isn't there"),
        ({}, LINE.replace("log.level", "log.lvl"), "captures log.lvl, which no log.yml has"),
        ({}, LINE.replace("^", ""), "must begin with ^ and end with $"),
        ({}, LINE.replace("$", "(?=x)$"), "has (?=, which Telegraf doesn't understand"),
        ({}, LINE.replace("$", "%{WORD:log.level}$"), "captures log.level twice"),
        ({}, LINE.replace("%{GREEDYDATA}", "%{TIME:timestamp}"), "doesn't tell how it is written"),
        ({}, LINE.replace("$", '{"}$'), 'has "}'),
        ({}, f"{LINE}\nROOM_REST x", "ROOM_REST is used by nothing"),
    ],
)
def test_an_error_is_told(dataset: dict[str, Any], patterns: str, error: str) -> None:
    given = [{"datasets": [{**DATASET, **dataset}], "fields": FIELDS}]
    assert log_errors([{"datasets": [DATASET], "fields": FIELDS}], LINE) == []
    assert any(error in one for one in log_errors(given, patterns)), log_errors(given, patterns)
    with pytest.raises(AnsibleFilterError):
        telegraf_log_parsers(given, patterns)


def test_values_of_an_unknown_field_are_an_error() -> None:
    given = [{"datasets": [DATASET], "fields": FIELDS, "values": {"log.lvl": {"a": "b"}}}]
    assert log_errors(given, LINE) == ["values are given for log.lvl, which no log.yml has among its fields"]


def test_the_names_of_all_fields_are_told() -> None:
    assert log_field_names([{"fields": FIELDS}, {"fields": {"a": "long"}}]) == ["a", "log.level"]
