#!/usr/bin/env python3
"""What the metrics cost on the lab that runs: processor and memory of each of their programs, and the forum's latency.

Usage: scripts/metrics_cost.py [--rounds N] [--seconds S]
In turn for S seconds each (25), N times (5), everything that measures is stopped (SIGSTOP) and goes on again, while a
visitor reads his threads; the two distributions and their ratio are printed beside each other. Run it on a quiet lab.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from drills.browser import Browser, Timeouts  # noqa: E402  # only now on the path
from drills.forum import Visitor, new_account  # noqa: E402
from drills.lab import Lab, Node, read_lab  # noqa: E402

#: Units of systemd that measure or keep what was measured, on whichever machine they run.
UNITS = ("snmpd", "haproxy", "influxdb", "snmp_collector", "action-server", "kapacitor", "chronograf")
#: Prints PID, clock ticks, kilobytes and a name for every program of the metrics on a machine, but for one that ended
#: meanwhile.
LOOK = f"""
exec 2>/dev/null
tell() {{
  ticks=$(cut -d' ' -f14,15 "/proc/$1/stat" | tr ' ' +)
  memory=$(awk '/^VmRSS/ {{print $2}}' "/proc/$1/status")
  [ -z "$memory" ] || echo "$1 $(($ticks)) $memory $2"
}}
for pid in $(pgrep -x telegraf); do
  tell "$pid" "telegraf beside $(tr '\\0' '\\n' <"/proc/$pid/environ" | sed -n 's/^METRICS_SERVICE=//p')"
done
for unit in {" ".join(UNITS)}; do
  pid=$(systemctl show --value --property=MainPID "$unit")
  [ "$pid" = 0 ] || for each in $pid $(pgrep -P "$pid"); do tell "$each" "$unit"; done
done
"""
TICKS = 100
PACE = 0.25


@dataclass(frozen=True)
class Program:
    """One process of the metrics: where it is and what it has used."""

    name: str
    node: str
    seconds: float
    kilobytes: int


def look(nodes: Iterable[Node]) -> dict[tuple[str, str], Program]:
    """All programs of the metrics, by machine and process id."""
    found = {}
    for node in nodes:
        for line in node.run(LOOK).splitlines():
            pid, ticks, kilobytes, name = line.split(" ", 3)
            found[node.name, pid] = Program(name, node.name, int(ticks) / TICKS, int(kilobytes))
    return found


def signal(lab: Lab, name: str) -> None:
    """Send a signal to all of them."""
    for node in lab.nodes:
        pids = " ".join(pid for machine, pid in look([node]) if machine == node.name)
        node.run(f"kill -{name} {pids}")


def read(visitor: Visitor, thread: int, seconds: float) -> list[float]:
    """Milliseconds of each of a visitor's requests."""
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        for path in ("/api/threads/", f"/api/threads/{thread}/posts/"):
            began = time.perf_counter()
            visitor.browser.get(path)
            took.append((time.perf_counter() - began) * 1000)
            time.sleep(PACE)
    return took


def told(name: str, values: list[float]) -> str:
    """A distribution as a row."""
    steps = quantiles(values, n=20)
    return (
        f"{name:8} {len(values):5} {median(values):8.1f} {steps[14]:8.1f} {steps[18]:8.1f} {max(values):8.1f}"
    )


def costs(
    before: dict[tuple[str, str], Program], after: dict[tuple[str, str], Program], seconds: float
) -> list[str]:
    """Rows of what each kind of program used, per process, and of what a machine's use together."""
    kinds: dict[str, list[tuple[float, int]]] = defaultdict(list)
    machines: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
    for key, program in after.items():
        if key in before:
            share = 100 * (program.seconds - before[key].seconds) / seconds
            kinds[program.name].append((share, program.kilobytes))
            cpu, memory = machines[program.node]
            machines[program.node] = (cpu + share, memory + program.kilobytes)
    rows = [f"{'program':32} {'n':>3} {'CPU %':>7} {'MB':>6}   (each, mean)"]
    for name, used in sorted(kinds.items()):
        share, memory = (sum(column) / len(used) for column in zip(*used, strict=True))
        rows.append(f"{name:32} {len(used):3} {share:7.2f} {memory / 1024:6.1f}")
    rows += [f"{'machine':32} {'':3} {'CPU %':>7} {'MB':>6}   (all together)"]
    rows += [
        f"{name:32} {'':3} {share:7.2f} {memory / 1024:6.1f}"
        for name, (share, memory) in sorted(machines.items())
    ]
    return rows


def main() -> int:
    """Measure and print. Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    # Longer, and the relays' health check fails for the third time: the swarm would replace them while it is measured.
    parser.add_argument("--seconds", type=float, default=25)
    chosen = parser.parse_args()
    lab = read_lab()
    visitor = Visitor(Browser(lab.forum_urls, lab.ca_file, Timeouts(connect=3, answer=60)))
    visitor.register(new_account("cost"))
    thread = visitor.start_thread(3, "What does it cost to measure?", "Somebody looks.")
    latencies: dict[str, list[float]] = {"with": [], "without": []}
    used: list[str] = []
    for number in range(1, chosen.rounds + 1):
        print(f"round {number} of {chosen.rounds}", flush=True)
        before, began = look(lab.nodes), time.monotonic()
        latencies["with"] += read(visitor, thread, chosen.seconds)
        used = costs(before, look(lab.nodes), time.monotonic() - began)
        try:
            signal(lab, "STOP")
            latencies["without"] += read(visitor, thread, chosen.seconds)
        finally:
            signal(lab, "CONT")
    print(*used, sep="\n")
    print(f"\n{'metrics':8} {'n':>5} {'median':>8} {'75 %':>8} {'95 %':>8} {'longest':>8}   ms")
    print(told("with", latencies["with"]), told("without", latencies["without"]), sep="\n")
    ratio = median(latencies["with"]) / median(latencies["without"])
    print(f"ratio of the medians, with to without: {ratio:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
