"""A table of several drills: medians of what each cost. `python -m drills.medians REPORT.json...`."""

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

HEAD = (
    "| drill | n | outage, s: median; all | whole again, s | acknowledged | failed, unknown | lost, doubled, stale |",
    "|---|---|---|---|---|---|---|",
)


def table(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of a Markdown table, one per drill in the order of the first report of each."""
    by_drill: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for report in reports:
        by_drill[str(report["drill"])].append(report)
    return [*HEAD, *(_row(drill, runs) for drill, runs in by_drill.items())]


def _row(drill: str, runs: Sequence[Mapping[str, Any]]) -> str:
    figures = [run["figures"] for run in runs]

    def total(*names: str) -> str:
        return ", ".join(str(sum(entry[name] for entry in figures)) for name in names)

    def broken(name: str) -> int:
        return sum(len(run["promises"][name]) for run in runs)

    outages = _median_and_all([entry["outage"] for entry in figures])
    whole = _median_and_all([entry["whole_again"] for entry in figures])
    promises = f"{broken('lost')}, {broken('doubled')}, {total('stale_reads')}"
    counts = f"{total('acknowledged')} | {total('failed', 'unknown')} | {promises}"
    return f"| {drill} | {len(runs)} | {outages} | {whole} | {counts} |"


def _median_and_all(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    every = " ".join("never" if value is None else f"{value:.1f}" for value in values)
    return f"{median(known):.1f}; {every}" if len(known) > 1 else every


def main() -> int:
    """Print the table of the reports named."""
    print("\n".join(table([json.loads(Path(name).read_text()) for name in sys.argv[1:]])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
