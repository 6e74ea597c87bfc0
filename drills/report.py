"""A drill's report: figures as JSON for programs and a page with the timeline for people."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from drills.check import judge
from drills.figures import faults, gap_around, measure, the_failure
from drills.records import Attempt, Event, Record
from drills.timeline import LEGEND, draw

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --line: #d5d5d5 }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #161616; --line: #3d3d3d } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1240px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse } td, th { text-align: left; padding: .2em 1.2em .2em 0;
  border-bottom: 1px solid var(--line); vertical-align: top }
.columns { display: flex; flex-wrap: wrap; gap: 2.5em } .timeline { width: 100%; height: auto }
.timeline text { font-size: 10px; fill: var(--ink) } .timeline .tick { text-anchor: middle }
.timeline text.mark { font-size: 11px; font-weight: 600 }
.grid { stroke: var(--line) } line.mark { stroke: #7a3fd0; stroke-width: 1.5 }
.acknowledged, .whole { fill: #2e9e5b } .failed { fill: #d43a3a } .unknown { fill: #e8912d }
.unsent { fill: #8b8b8b } .stale { fill: #c026c0 } .broken { fill: #d43a3a }
.passed { color: #2e9e5b } .fault { color: #d43a3a }
.legend svg { width: 12px; height: 12px; margin: 0 .3em 0 1em }
"""


def summarise(drill: str, run: str, records: Sequence[Record], contents: Mapping[str, int]) -> dict[str, Any]:
    """The report as an object. contents: marker -> number of posts that hold it, read at the end.

    Keys: drill, run, began, passed, faults, figures, promises, events. Raises ValueError without a failure.
    """
    attempts = [record for record in records if isinstance(record, Attempt)]
    figures = measure(records)
    verdict = judge(attempts, contents)
    found = faults(figures, verdict)
    failure = the_failure(records)
    return {
        "drill": drill,
        "run": run,
        "began": datetime.fromtimestamp(failure.began, UTC).isoformat(timespec="milliseconds"),
        "passed": not found,
        "faults": found,
        "figures": _rounded(asdict(figures)),
        "promises": {name: list(markers) for name, markers in asdict(verdict).items()},
        "events": [
            {
                "name": event.name,
                "what": event.what,
                "at": round(event.began - failure.began, 3),
                "until": round(event.ended - failure.began, 3),
            }
            for event in _events(records)
            if event.name != "census"
        ],
    }


def page(report: Mapping[str, Any], records: Sequence[Record]) -> str:
    """The report as one self-contained HTML page."""
    title = f"Drill {report['drill']}, {report['began']}"
    result = (
        '<p class="passed">Passed: every promise was kept and the whole healed by itself.</p>'
        if report["passed"]
        else "".join(f'<p class="fault">{escape(fault)}</p>' for fault in report["faults"])
    )
    figures = report["figures"]
    plain = {name: value for name, value in figures.items() if name != "healed"}
    promises = {name: len(markers) for name, markers in report["promises"].items()}
    done = {f"{event['at']:+.2f} s": f"{event['name']}: {event['what']}" for event in report["events"]}
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
{result}
<h2>What the users saw</h2>
{draw(records, _marks(records))}
<p class="legend">{_legend()}</p>
<div class="columns">
<section><h2>Figures</h2>{_table(plain)}</section>
<section><h2>Seconds until whole</h2>{_table(figures["healed"])}</section>
<section><h2>Posts by what became of them</h2>{_table(promises)}</section>
<section><h2>What was done</h2>{_table(done)}</section>
</div>
</body></html>
"""


def write(directory: Path, report: Mapping[str, Any], records: Sequence[Record]) -> None:
    """Write report.json and report.html into the run's directory."""
    (directory / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    (directory / "report.html").write_text(page(report, records))


def summary(report: Mapping[str, Any]) -> str:
    """The report in one line, for a terminal."""
    figures = report["figures"]
    result = "passed" if report["passed"] else "FAILED: " + "; ".join(report["faults"])
    outcomes = ", ".join(
        f"{figures[name]} {name}" for name in ("acknowledged", "failed", "unknown", "unsent")
    )
    return (
        f"{report['drill']}: {result} | outage {figures['outage']} s (gap {figures['gap']}, "
        f"next acknowledged {figures['next_acknowledged']}) | whole again after {figures['whole_again']} s | "
        f"{figures['attempts']} posts: {outcomes} | {figures['stale_reads']} stale reads, "
        f"{figures['sign_ins']} signed in again"
    )


def _events(records: Sequence[Record]) -> list[Event]:
    return sorted((record for record in records if isinstance(record, Event)), key=lambda event: event.began)


def _marks(records: Sequence[Record]) -> list[Event]:
    """The failure first, then the other events, and the end of the gap."""
    events = _events(records)
    failure = the_failure(records)
    gap = gap_around(records)
    others = [event for event in events if event is not failure]
    if gap:
        others.append(Event("next acknowledged", gap.ended, gap.ended))
    return [failure, *sorted(others, key=lambda event: event.began)]


def _legend() -> str:
    return "".join(
        f'<svg viewBox="0 0 12 12"><rect class="{look}" width="12" height="12"/></svg>{escape(words)}'
        for look, words in LEGEND
    )


def _table(rows: Mapping[str, Any]) -> str:
    def row(name: str, value: object) -> str:
        shown = "never" if value is None else str(value)
        return f"<tr><th>{escape(name.replace('_', ' '))}</th><td>{escape(shown)}</td></tr>"

    return f"<table>{''.join(row(name, value) for name, value in rows.items())}</table>"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 2)
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return value
