#!/usr/bin/env python3
"""Write the tables of docs/service-levels.md from inventories/shared/sla.yml, so that no number is written twice.

Usage: scripts/service_levels_page.py [--check] [PAGE]
--check writes nothing, and ends with 1 when the page differs.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
_SIGNS = {"lt": "<", "lte": "≤", "gt": ">", "gte": "≥"}
_PERIODS = {"s": "s", "m": "min", "h": "h"}
_VERBS = {"scale_up": "{} +1", "scale_down": "{} -1", "block": "block the {}"}


def amount(op: str, value: float, unit: str) -> str:
    """A threshold as the tables show it, such as < 1024 clients."""
    return f"{_SIGNS[op]} {value:g} {unit}"


def period(duration: str) -> str:
    """A duration such as 3m, in words."""
    return f"{duration[:-1]} {_PERIODS[duration[-1]]}"


def alarm_of(level: Mapping[str, Any]) -> str:
    """An entry's alarm in words; empty when it has none."""
    if not (alarm := level.get("alarm")):
        return ""
    indicator = level["indicator"]
    aggregation = alarm.get("aggregation", indicator["aggregation"])
    where = " on every instance" if alarm.get("instances") == "every" else ""
    shown = amount(alarm["op"], alarm["threshold"], indicator["unit"])
    return f"{shown}{where} ({aggregation} over {period(indicator['lookback_window'])})"


def action_of(level: Mapping[str, Any]) -> str:
    """Whom an entry's alarm tells, and what it does; empty when it has none."""
    alarm = level.get("alarm", {})
    done = [_VERBS[verb].format(f"`{what}`") for verb, what in alarm.get("action", {}).items()]
    return ", ".join([*alarm.get("notification_targets", []), *done])


def source_of(indicator: Mapping[str, Any]) -> str:
    """Where an indicator's value comes from."""
    kind = f"log `{indicator['log']}`" if indicator["source"] == "log" else f"`{indicator['measurement']}`"
    parts = [kind]
    if fields := indicator.get("fields"):
        parts.append(" + ".join(f"`{field}`" for field in fields))
    for key in filter(indicator.__contains__, ("where", "bad")):
        conditions = [f"`{name}` {told(value)}" for name, value in indicator[key].items()]
        parts.append(f"{key} {', '.join(conditions)}")
    if per := indicator.get("per"):
        parts.append("per " + ", ".join(f"`{name}`" for name in per))
    return "; ".join(parts)


def told(condition: object) -> str:
    """A condition on a tag or a field, in words."""
    if isinstance(condition, Mapping):
        return f"≥ {condition['gte']}"
    return " or ".join(map(str, condition)) if isinstance(condition, list) else str(condition)


def table(head: str, rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """A table in Markdown."""
    yield head
    yield re.sub(r"[^|]+", "---", head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def tables(levels: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The tables' lines by the name that the page calls them."""
    levels = list(levels)
    limits = [
        (
            level["service"],
            level["indicator"]["name"],
            amount(**level["objective"], unit=level["indicator"]["unit"]) if "objective" in level else "",
            alarm_of(level),
            level.get("alarm", {}).get("severity", ""),
            action_of(level),
            f"`{level['id']}`",
        )
        for level in levels
        if not level.get("watched")
    ]
    watched = [
        (level["service"], level["indicator"]["name"], level["indicator"]["unit"], f"`{level['id']}`")
        for level in levels
        if level.get("watched")
    ]
    meanings = [
        (
            f"`{level['id']}`",
            " ".join(level["indicator"]["description"].split()),
            source_of(level["indicator"]),
        )
        for level in levels
    ]
    return {
        "limits": list(
            table("| service | indicator | limit | alarm | severity | tells, does | id |", limits)
        ),
        "watched": list(table("| service | indicator | unit | id |", watched)),
        "meanings": list(table("| id | what it means | where it comes from |", meanings)),
    }


def page(text: str, levels: Iterable[Mapping[str, Any]]) -> str:
    """The page with its tables written anew.

    text: the page; a table stands between the lines <!-- NAME --> and <!-- /NAME -->. Raises ValueError when a
    table has no place.
    """
    for name, lines in tables(levels).items():
        content = "\n".join(lines).replace("\\", "\\\\")
        text, found = re.subn(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", rf"\1{content}\n\2", text, flags=re.DOTALL
        )
        if found != 1:
            raise ValueError(f"the page must hold <!-- {name} --> and <!-- /{name} --> once")
    return text


def main(arguments: list[str] | None = None) -> int:
    """Write or compare the page. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Write the tables of docs/service-levels.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page differs")
    parser.add_argument("page", nargs="?", type=Path, default=ROOT / "docs" / "service-levels.md")
    options = parser.parse_args(arguments)
    levels = yaml.safe_load((ROOT / "inventories" / "shared" / "sla.yml").read_text())["service_levels"]
    current = options.page.read_text()
    wanted = page(current, levels)
    if wanted == current:
        return 0
    if options.check:
        print(f"{options.page} is not up to date, run scripts/service_levels_page.py", file=sys.stderr)
        return 1
    options.page.write_text(wanted)
    print(f"{options.page}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
