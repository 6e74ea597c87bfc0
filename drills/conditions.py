"""What makes the alarms of sla.yml fire on a lab: points in InfluxDB, lines of services, daemons that fall silent."""

import ipaddress
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any

import yaml

from drills import influx, lines
from drills.lab import ROOT, Lab

MADE_UP = "made-up"
"""What the instances are called of which the points tell; the swarm has no such service, so nobody misses it."""

# Beyond a threshold, by so much.
_BEYOND = 1.2
# Enough of 1000 addresses, and to outweigh what real visitors ask for in the meantime.
_VISITORS = 1200
_SECOND = 10**9


def levels() -> dict[str, dict[str, Any]]:
    """The service levels that have an alarm, by their ids."""
    given = yaml.safe_load((ROOT / "inventories/shared/sla.yml").read_text())["service_levels"]
    return {level["id"]: level for level in given if "alarm" in level}


def points(level: Mapping[str, Any], kinds: Mapping[str, str], now: float) -> list[str]:
    """Points of the last half minute for which a level's alarm fires, in InfluxDB's line protocol.

    Their instance is one that doesn't exist. level: of metrics, and no silence. kinds: field -> InfluxDB's word for its
    type. now: seconds since the epoch.
    """
    indicator = level["indicator"]
    told = dict.fromkeys(indicator.get("per", ["host"]), f"{MADE_UP}-{level['id']}")
    # As the collector of nodes' figures marks its own, which it removes where there is no such node.
    tags = {"stack": "forum", "service": MADE_UP, **told, **indicator.get("where", {})}
    series = ",".join(
        [indicator["measurement"], *(f"{name}={value}" for name, value in sorted(tags.items()))]
    )
    beyond = level["alarm"]["threshold"] * _BEYOND

    def point(ago: int) -> str:
        # A counter grows by so much in a second.
        value = beyond * (1000 - ago) if indicator["aggregation"] == "rate" else beyond
        fields = ",".join(
            f"{name}={round(value)}i" if kinds.get(name) == "integer" else f"{name}={value}"
            for name in indicator["fields"]
        )
        return f"{series} {fields} {int((now - ago) * _SECOND)}"

    return [point(ago) for ago in range(30, -1, -5)]


@cache
def _sample(service: str) -> dict[str, Any]:
    """The fields of the first of a service's sample lines."""
    sample, *_ = yaml.safe_load((ROOT / f"roles/{service}/files/log/samples.yml").read_text())
    return dict(json.loads(sample["line"]))


def _line(service: str, changed: Mapping[str, object]) -> str:
    """A line of an access log as the service writes it now, made of its sample."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({**_sample(service), "@timestamp": now, **changed})


def write_lines(lab: Lab) -> None:
    """Write what a Misago with many visitors, slow answers and errors, and an nginx with errors would write.

    Raises what lines.write raises.
    """
    first = ipaddress.ip_address("198.51.0.1")
    misago = [
        _line("misago", {
            "source.ip": str(first + number), "event.duration": 30 * _SECOND,
            "http.response.status_code": 200 if number % 5 else 500,
        })
        for number in range(_VISITORS)
    ]  # fmt: skip
    slow = _line("misago", {"http.request.method": "POST", "event.duration": 35 * _SECOND})
    nginx = [_line("nginx", {"http.response.status_code": 502})] * 300
    for service, told in (("misago", [*misago, slow]), ("nginx", nginx)):
        # Docker's buffer takes a lot, but not all at once.
        script = 'while read -r line; do printf "%s\\n" "$line"; [ $((n += 1)) -lt 100 ] || { n=0; sleep 0.2; }; done'
        lines.write(
            lab.swarm[0], service, lines.new_task(), script, "".join(f"{line}\n" for line in told).encode()
        )


@contextmanager
def silence(lab: Lab) -> Iterator[None]:
    """Meanwhile a node answers no question, another's shipper sends nothing, and a Telegraf tells nothing."""
    node, other = lab.swarm[-1], lab.swarm[-2]
    told = other.run("docker top $(docker ps -q --filter name=^forum_redis-) -eo pid,comm")
    telegraf = next(line.split()[0] for line in told.splitlines() if line.split()[-1:] == ["telegraf"])
    node.run("systemctl stop snmpd")
    other.run(f"systemctl kill --signal=SIGSTOP log_shipper; kill -STOP {telegraf}")
    try:
        yield
    finally:
        other.run(f"kill -CONT {telegraf}; systemctl kill --signal=SIGCONT log_shipper")
        node.run("systemctl start snmpd")


def make_all(lab: Lab) -> float:
    """Make what counts and measures fire; silence apart. Returns when it began. Raises what writing raises."""
    database, began = influx.Influx(lab), time.time()
    measured = [
        level
        for level in levels().values()
        if level["indicator"]["source"] != "log" and level["indicator"]["aggregation"] != "silence"
        # What every instance must fall below, it is on a lab without visitors.
        and level["alarm"]["op"] in ("gt", "gte")
    ]  # fmt: skip
    influx.write(
        lab,
        [
            point
            for level in measured
            for point in points(level, database.kinds(level["indicator"]["measurement"]), began)
        ],
    )
    write_lines(lab)
    return began
