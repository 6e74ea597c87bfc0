#!/usr/bin/env python3
"""What the logs' way bears on the lab that runs, and what a line costs in each of its parts.

Usage: scripts/logs_cost.py [--lines N] [--rest S]
Containers of one node write N lines (20000) such as nginx', as fast as they can. First while the parser stands still
(SIGSTOP), until all are in the collector's spool; then it goes on, until all are in Elasticsearch; then as many again
with all parts at work. What the parts use at rest is measured for S seconds (20) before, and taken off. Run it on a
quiet lab.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from drills import lines  # noqa: E402  # only now on the path
from drills.elastic import Elastic  # noqa: E402
from drills.lab import Lab, Node, read_lab  # noqa: E402

#: What 1500 users make, in lines a second.
SCENARIO = 60
#: Docker keeps 4 MB of a container's lines that the shipper hasn't taken: no more are written at once by one.
AT_ONCE = 4000
SPOOL = "/var/lib/log_collector/spool"
TICKS = 100
#: Seconds in which all containers are there, and begin at once.
START = 8
PATIENCE = 600
#: A line of nginx', of the usual length, as awk puts the time and a number into it.
LINE = (
    '{"@timestamp":"%s","event.dataset":"nginx.access","event.outcome":"success","event.duration":12000000,'
    '"trace.id":"0123456789abcdef0123456789abcdef","source.ip":"198.51.100.7","http.request.method":"GET",'
    '"url.domain":"forum.example.com","url.path":"/t/what-does-a-line-cost/%d/","http.version":"2.0",'
    '"http.response.status_code":200,"http.response.body.bytes":5123,"forum.upstream.seconds":0.011,'
    '"forum.cache":"MISS","http.request.referrer":"https://forum.example.com/",'
    '"user_agent.original":"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}\\n'
)


@dataclass(frozen=True)
class Part:
    """A part of the way: what it is, where it runs, and systemd's name of it."""

    name: str
    node: Node
    unit: str

    def seconds(self) -> float:
        """The processor time that its processes have used so far."""
        told = self.node.run(
            f"pid=$(systemctl show --value --property=MainPID {self.unit}); "
            "for each in $pid $(pgrep -P $pid); do cut -d' ' -f14,15 /proc/$each/stat; done"
        )
        return sum(map(int, told.split())) / TICKS


@dataclass(frozen=True)
class Phase:
    """One measurement: the seconds that the lines took, and those of the processors that each part used for them."""

    name: str
    seconds: float
    used: dict[str, float]


class Way:
    """The logs' way from a node to Elasticsearch."""

    def __init__(self, lab: Lab, count: int) -> None:
        self._node, self._monitor, self._elastic, self._count = lab.swarm[0], lab.monitor, Elastic(lab), count
        self.parts = (
            Part("Docker engine of the node", self._node, "docker"),
            Part("shipper (rsyslog)", self._node, "log_shipper"),
            Part("receiver (rsyslog)", self._monitor, "log_collector"),
            Part("parser (Telegraf)", self._monitor, "log_parser"),
            Part("Elasticsearch", self._monitor, "elasticsearch"),
        )
        self._rest = dict.fromkeys((part.name for part in self.parts), 0.0)

    @contextmanager
    def writing(self) -> Iterator[list[str]]:
        """Have the lines written, by several containers at once; the ids of their tasks, when they begin."""
        begin = int(time.time()) + START
        now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(begin))
        shares = {lines.new_task(): min(AT_ONCE, self._count - at) for at in range(0, self._count, AT_ONCE)}
        text = LINE.replace('"', r"\"")
        with ThreadPoolExecutor(len(shares)) as pool:
            writers = [
                pool.submit(
                    lines.write,
                    self._node,
                    "nginx",
                    task,
                    f"sleep $(({begin} - $(date +%s))); "
                    f'seq {share} | awk \'{{ printf "{text}", "{now}", $1 }}\'',
                    seconds=PATIENCE,
                )
                for task, share in shares.items()
            ]
            time.sleep(begin - time.time())
            yield list(shares)
            for writer in writers:
                writer.result()

    @contextmanager
    def without_parser(self) -> Iterator[None]:
        """The parser stands still."""
        self._monitor.run("systemctl kill --signal=STOP log_parser.service")
        try:
            yield
        finally:
            self._monitor.run("systemctl kill --signal=CONT log_parser.service")

    def spooled(self, tasks: Sequence[str]) -> int:
        """How many lines of some tasks the collector has acknowledged."""
        words = " ".join(f"-e {task}" for task in tasks)
        return int(self._monitor.run(f"cat {SPOOL}/*.json | grep --count {words}"))

    def stored(self, tasks: Sequence[str]) -> int:
        """How many of them are in Elasticsearch."""
        return self._elastic.count(f"forum.task:({' OR '.join(tasks)})")

    def rest(self, seconds: float) -> None:
        """Learn what each part uses in a second when nothing is measured."""
        before = self._used()
        time.sleep(seconds)
        self._rest = {name: (used - before[name]) / seconds for name, used in self._used().items()}

    def measure(self, name: str, reached: Callable[[], int]) -> Phase:
        """Wait until all lines have got so far. Raises TimeoutError."""
        before, began = self._used(), time.monotonic()
        while (number := reached()) < self._count:
            if time.monotonic() - began > PATIENCE:
                raise TimeoutError(f"{name}: {number} of {self._count} lines within {PATIENCE} s")
            time.sleep(0.5)
        seconds = time.monotonic() - began
        after = self._used()
        used = {part: max(0.0, after[part] - before[part] - self._rest[part] * seconds) for part in before}
        return Phase(name, seconds, used)

    def _used(self) -> dict[str, float]:
        return {part.name: part.seconds() for part in self.parts}


def measured(way: Way) -> list[Phase]:
    """The three measurements."""
    with way.without_parser(), way.writing() as tasks:
        shipped = way.measure("to the spool, acknowledged", lambda: way.spooled(tasks))
    parsed = way.measure("from the spool to Elasticsearch", lambda: way.stored(tasks))
    with way.writing() as tasks:
        whole = way.measure("all of the way at once", lambda: way.stored(tasks))
    return [shipped, parsed, whole]


def table(phases: Sequence[Phase], count: int) -> Iterator[str]:
    """Rows of what the way bears, and of what each part uses for it."""
    yield f"{'way':34} {'lines':>7} {'s':>7} {'lines/s':>8}   times {SCENARIO} lines/s"
    for phase in phases:
        rate = count / phase.seconds
        yield f"{phase.name:34} {count:7} {phase.seconds:7.1f} {rate:8.0f} {rate / SCENARIO:7.1f}"
    yield f"\n{'part':34} {'CPU s per 1000 lines':>22}   % of a processor at {SCENARIO} lines/s"
    *_, whole = phases
    each = {part: 1000 * seconds / count for part, seconds in whole.used.items()}
    for part, seconds in [*each.items(), ("all of them", sum(each.values()))]:
        yield f"{part:34} {seconds:22.3f} {100 * seconds * SCENARIO / 1000:12.2f}"


def main() -> int:
    """Measure and print. Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=20000)
    parser.add_argument("--rest", type=float, default=20)
    chosen = parser.parse_args()
    way = Way(read_lab(), chosen.lines)
    way.rest(chosen.rest)
    print(*table(measured(way), chosen.lines), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
