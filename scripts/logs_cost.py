#!/usr/bin/env python3
"""What the logs' way carries on the lab that runs, and what it costs.

Usage: scripts/logs_cost.py [--seconds S] [--rates N,N,...]
For S seconds (15) at each rate of lines per second (60,500,1000,2000,4000), a container of one node writes what nginx
(JSON) or PostgreSQL (grok) writes, through the real driver. Printed are what arrived, after how many seconds the last
line was there, and the processor time per 1,000 lines of each program. 60 a second is what 1500 users make. Run it on a
quiet lab.
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from drills import lines  # noqa: E402  # only now on the path
from drills.elastic import Elastic  # noqa: E402
from drills.lab import Lab, Node, read_lab  # noqa: E402

#: Unit -> whether it is one of the monitoring machine's.
UNITS = {"log_shipper": False, "log_collector": True, "log_parser": True, "elasticsearch": True}
TICKS = 100
#: Pieces of a second in which lines are written.
PIECES = 20
PATIENCE = 120


def line(kind: str, marker: str, number: int) -> str:
    """One line as the program writes it, with a marker and a number."""
    now = datetime.now(UTC)
    if kind == "nginx":
        return json.dumps(
            {
                "@timestamp": now.isoformat(timespec="milliseconds"), "event.dataset": "nginx.access",
                "event.outcome": "success", "event.duration": 48000000, "trace.id": secrets.token_hex(16),
                "source.ip": "198.51.100.7", "http.request.method": "GET", "url.domain": "forum.example.com",
                "url.path": f"/t/{marker}/{number}/", "http.version": "2.0", "http.response.status_code": 200,
                "http.response.body.bytes": 12500, "forum.upstream.seconds": 0.047, "forum.cache": "MISS",
                "http.request.referrer": "https://forum.example.com/", "user_agent.original": marker,
            }
        )  # fmt: skip
    at = now.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return f"{at} UTC [57] misago@{marker} 10.0.2.7 LOG:  duration: 2003.123 ms  statement: VACUUM x{number}"


def seconds_used(node: Node, unit: str) -> float:
    """Processor time of a unit's main process and its children: Elasticsearch's main one only starts Java."""
    pids = node.run(
        f"pid=$(systemctl show --value --property=MainPID {unit}); echo $pid $(pgrep -P $pid)"
    ).split()
    stats = [node.run(f"cat /proc/{pid}/stat").rpartition(")")[2].split() for pid in pids]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / TICKS


class Writer:
    """A container that logs as one of the stack's services does what it is given to read."""

    def __init__(self, node: Node, service: str) -> None:
        run = lines.command(node, service, lines.new_task(), "cat")
        self._process = subprocess.Popen(
            ["docker", "exec", "--interactive", node.container, *run],
            stdin=subprocess.PIPE,
            # Docker prints the container's id.
            stdout=subprocess.DEVNULL,
        )

    def write(self, kind: str, marker: str, rate: int, seconds: float) -> int:
        """Write so many lines per second; how many it were. Raises OSError."""
        number, begun = 0, time.monotonic()
        assert self._process.stdin  # noqa: S101  # it was asked for
        for piece in range(int(seconds * PIECES)):
            upto = (piece + 1) * rate // PIECES
            text = "".join(f"{line(kind, marker, each)}\n" for each in range(number, upto))
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()
            number = upto
            time.sleep(max(0.0, begun + (piece + 1) / PIECES - time.monotonic()))
        return number

    def close(self) -> None:
        """End the container."""
        self._process.communicate(timeout=60)


def measure(lab: Lab, elastic: Elastic, kind: str, rate: int, seconds: float) -> str:
    """One row. Raises what asking the lab raises."""
    node, marker = lab.swarm[0], f"cost{secrets.token_hex(5)}"
    where = {unit: lab.monitor if watched else node for unit, watched in UNITS.items()}
    service, field = (
        ("nginx", "user_agent.original") if kind == "nginx" else ("postgres-0", "postgres.database")
    )
    writer = Writer(node, service)
    time.sleep(2)
    before = {unit: seconds_used(machine, unit) for unit, machine in where.items()}
    begun = time.monotonic()
    sent = writer.write(kind, marker, rate, seconds)
    wrote = time.monotonic() - begun
    ended = time.monotonic()
    while (stored := elastic.count(f"{field}:{marker}")) < sent and time.monotonic() < ended + PATIENCE:
        time.sleep(0.2)
    after = time.monotonic() - ended
    used = [1e6 * (seconds_used(machine, unit) - before[unit]) / sent for unit, machine in where.items()]
    writer.close()
    costs = "".join(f"{each:14.0f}" for each in used)
    return f"{kind:9}{sent / wrote:9.0f}{sent:8}{stored:8}{after:9.1f}{costs}{sum(used):9.0f}"


def main() -> int:
    """Measure and print. Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rates", default="60,500,1000,2000,4000")
    chosen = parser.parse_args()
    lab = read_lab()
    elastic = Elastic(lab)
    heads = "".join(f"{unit:>14}" for unit in UNITS)
    print(f"{'':42} processor, ms per 1,000 lines")
    print(f"{'lines of':9}{'a second':>9}{'sent':>8}{'stored':>8}{'after s':>9}{heads}{'all':>9}")
    for kind in ("nginx", "postgres"):
        for rate in (int(word) for word in chosen.rates.split(",")):
            print(measure(lab, elastic, kind, rate, chosen.seconds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
