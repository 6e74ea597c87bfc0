"""The rooms' sample lines, through the Telegraf that the collector runs.

FORUM_TELEGRAF names another one; with it these tests need no lab.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from datetime import UTC, datetime
from typing import Any

import pytest
from log_patterns import telegraf_log_parsers
from log_samples import LOGS, PATTERNS, ROOT, SAMPLES

KINDS = {name: kind for log in LOGS for name, kind in log["fields"].items()}
#: When Docker had the sample lines.
HAD = "2026-11-26T13:30:00.5Z"


def program() -> str:
    """Telegraf: $FORUM_TELEGRAF, or the one that the role log_collector keeps."""
    kept = sorted(
        (path for path in (ROOT / ".cache").glob("telegraf/telegraf-*") if path.suffix != ".part"),
        key=lambda path: path.stat().st_mtime,
    )
    found = os.environ.get("FORUM_TELEGRAF") or (str(kept[-1]) if kept else "")
    assert found, "there is no Telegraf: bring a lab up, or name one in FORUM_TELEGRAF"
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
