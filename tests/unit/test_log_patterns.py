"""What every component writes: its description, and its sample lines through the real Telegraf where there is one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from log_patterns import log_errors, log_field_names, logstash_log_filters, telegraf_log_parsers

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(ROOT.glob("roles/*/files/log/log.yml"))
LOGS = [yaml.safe_load(path.read_text()) for path in FILES]
PATTERNS = "\n".join(path.read_text() for path in sorted(ROOT.glob("roles/*/files/log/patterns.grok")))
SAMPLES = [
    (path.parts[-4], number, sample)
    for path in sorted(ROOT.glob("roles/*/files/log/samples.yml"))
    for number, sample in enumerate(yaml.safe_load(path.read_text()))
]
KINDS = {name: kind for log in LOGS for name, kind in log["fields"].items()}
#: When Docker had the sample lines.
HAD = "2026-11-26T13:30:00.5Z"


def test_the_descriptions_have_no_errors() -> None:
    assert log_errors(LOGS, PATTERNS) == []


def test_every_room_with_a_log_has_samples_of_all_its_datasets() -> None:
    for path, log in zip(FILES, LOGS, strict=True):
        samples = yaml.safe_load((path.parent / "samples.yml").read_text())
        assert {dataset["name"] for dataset in log["datasets"]} | {"unparsed"} == {
            sample["dataset"] for sample in samples
        }, path


# The real Telegraf: $FORUM_TELEGRAF, the one that the role log_collector keeps, or that of the machine.


def program() -> str:
    kept = sorted(
        (path for path in (ROOT / ".cache").glob("telegraf/telegraf-*") if path.suffix != ".part"),
        key=lambda path: path.stat().st_mtime,
    )
    found = os.environ.get("FORUM_TELEGRAF") or (str(kept[-1]) if kept else shutil.which("telegraf"))
    if not found:
        pytest.skip("there is no Telegraf on this machine")
    return found


def points(text: str) -> list[dict[str, Any]]:
    """Lines of Influx's protocol, as Telegraf writes them to the screen: tags, fields and time."""
    value = r'(?:"(?:[^"\\]|\\.)*"|[^, ]+)'
    name = r"(?:[^,= \\]|\\.)+"
    line = re.compile(
        rf"> line((?:,{name}={name})*) ((?:{name}={value})(?:,{name}={value})*) (\d+)$", re.MULTILINE
    )
    found = []
    for tags, fields, time in line.findall(text):
        found.append(
            {
                "tags": {key: plain(word) for key, word in re.findall(rf",({name})=({name})", tags)},
                "fields": {key: typed(word) for key, word in re.findall(rf"({name})=({value})", fields)},
                "time": int(time),
            }
        )
    return found


def plain(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word)


def typed(word: str) -> object:
    if word.startswith('"'):
        return re.sub(r'\\(["\\])', r"\1", word[1:-1])
    return int(word[:-1]) if word.endswith("i") else float(word)


def lines(messages: list[tuple[str, str]]) -> str:
    return json.dumps(
        [
            {"@timestamp": HAD, "event.id": str(number), "service.name": service, "message": message}
            for number, (service, message) in enumerate(messages)
        ]
    )


CONFIGURATION = """
[agent]
  omit_hostname = true
  precision = "1ns"
  skip_processors_after_aggregators = true
[[inputs.file]]
  files = ["{lines}"]
  name_override = "line"
  data_format = "json"
  tag_keys = ["event.id", "service.name"]
  json_string_fields = ["message"]
  json_time_key = "@timestamp"
  json_time_format = "2006-01-02T15:04:05.999999999Z07:00"
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the real Telegraf makes of all samples."""
    place = tmp_path_factory.mktemp("telegraf")
    (place / "lines.json").write_text(
        lines([(sample["service"], sample["line"]) for _, _, sample in SAMPLES])
    )
    (place / "telegraf.conf").write_text(
        CONFIGURATION.format(lines=place / "lines.json") + telegraf_log_parsers(LOGS, PATTERNS)
    )
    run = subprocess.run(
        [program(), "--test", "--config", place / "telegraf.conf"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert [
        line for line in run.stderr.splitlines() if " E! " in line and "could not parse field" not in line
    ] == []
    return sorted(points(run.stdout), key=lambda point: int(point["tags"]["event.id"]))


@pytest.mark.parametrize(
    "place", range(len(SAMPLES)), ids=[f"{room}-{number}" for room, number, _ in SAMPLES]
)
def test_the_real_telegraf_reads_a_sample_as_told(parsed: list[dict[str, Any]], place: int) -> None:
    sample = SAMPLES[place][2]
    point = parsed[place]
    assert point["tags"]["event.dataset"] == sample["dataset"]
    assert point["tags"]["service.name"] == sample["service"]
    kept = {
        name: value
        for name, value in point["fields"].items()
        if name in KINDS and name != "message" and value != ""
    }
    assert kept == sample["fields"]
    assert {type(value) for name, value in kept.items() if KINDS[name] == "long"} <= {int}
    assert {type(value) for name, value in kept.items() if KINDS[name] == "double"} <= {float}
    time = datetime.fromisoformat(sample.get("time", HAD)).astimezone(UTC)
    assert datetime.fromtimestamp(point["time"] / 1e9, UTC) == time
    if not sample["line"].startswith("{"):
        assert point["fields"]["message"] == sample["line"]


def test_the_pipeline_of_logstash_can_be_read() -> None:
    parser = pytest.importorskip("logstash_pipeline_parser")
    pipeline = logstash_log_filters(LOGS, PATTERNS)
    ((section, steps),) = parser.Pipeline(pipeline).parse()
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
