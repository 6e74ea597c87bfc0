"""What is asked of a node, and what its answers mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: What every node has once, by its name in the MIBs.
OBJECTS = {
    "hrSystemUptime": "1.3.6.1.2.1.25.1.1.0",
    "memTotalReal": "1.3.6.1.4.1.2021.4.5.0",
    "memSysAvail": "1.3.6.1.4.1.2021.4.27.0",
    "dskTotalLow": "1.3.6.1.4.1.2021.9.1.11.1",
    "dskTotalHigh": "1.3.6.1.4.1.2021.9.1.12.1",
    "dskUsedLow": "1.3.6.1.4.1.2021.9.1.15.1",
    "dskUsedHigh": "1.3.6.1.4.1.2021.9.1.16.1",
    "ssCpuRawUser": "1.3.6.1.4.1.2021.11.50.0",
    "ssCpuRawNice": "1.3.6.1.4.1.2021.11.51.0",
    "ssCpuRawSystem": "1.3.6.1.4.1.2021.11.52.0",
    "ssCpuRawIdle": "1.3.6.1.4.1.2021.11.53.0",
    "ssCpuRawWait": "1.3.6.1.4.1.2021.11.54.0",
    "ssCpuRawInterrupt": "1.3.6.1.4.1.2021.11.56.0",
    "ssCpuRawSoftIRQ": "1.3.6.1.4.1.2021.11.61.0",
    "ssCpuRawSteal": "1.3.6.1.4.1.2021.11.64.0",
    "ssCpuNumCpus": "1.3.6.1.4.1.2021.11.67.0",
}
#: Followed by an address of the node: the number of the interface that has it (ipAdEntIfIndex).
INTERFACE = "1.3.6.1.2.1.4.20.1.2"
#: Followed by that number.
PACKETS = {
    "ifHCInUcastPkts": "1.3.6.1.2.1.31.1.1.1.7",
    "ifHCInMulticastPkts": "1.3.6.1.2.1.31.1.1.1.8",
    "ifHCOutUcastPkts": "1.3.6.1.2.1.31.1.1.1.11",
}
_IDLE = ("ssCpuRawIdle", "ssCpuRawWait")
_TICKS = tuple(name for name in OBJECTS if name.startswith("ssCpuRaw"))
_HALF = 2**32

Fields = dict[str, int | float]


@dataclass(frozen=True)
class Ticks:
    """Ticks of all processors since the node started: all of them, and the idle ones. Their counters have 32 bits."""

    total: int
    idle: int


def ticks(values: Mapping[str, int]) -> Ticks | None:
    """The processors' ticks among a node's answers, None when one is missing."""
    if not set(_TICKS) <= set(values):
        return None
    return Ticks(sum(values[name] for name in _TICKS), sum(values[name] for name in _IDLE))


def cpu_load(before: Ticks, now: Ticks) -> float | None:
    """Percent of the time between two answers that the processors were at work.

    None when it can't be told: no time went by, or the counters began anew with the node.
    """
    total, idle = (now.total - before.total) % _HALF, (now.idle - before.idle) % _HALF
    return round(100 * (1 - idle / total), 2) if total and idle <= total else None


def _wide(values: Mapping[str, int], name: str) -> int | None:
    """A number in two halves; None when one is missing."""
    low, high = values.get(f"{name}Low"), values.get(f"{name}High")
    return None if low is None or high is None else high * _HALF + low


def fields(values: Mapping[str, int], before: Ticks | None) -> Fields:
    """A node's figures, under the names that the service levels use. Sizes are bytes, shares percent.

    values: object -> number; what a node doesn't have is missing, and so are the figures made of it. before: the
    processors' ticks at the last answer, without which there is no load.
    """
    found: Fields = {}
    now = ticks(values)
    if now and before and (load := cpu_load(before, now)) is not None:
        found["cpu_load"] = load
    if memory := values.get("memTotalReal"):
        found["memory_total"] = memory * 1024
        if "memSysAvail" in values:
            found["ram_used"] = round(100 * (1 - values["memSysAvail"] / memory), 2)
    if disk := _wide(values, "dskTotal"):
        found["disk_total"] = disk * 1024
        if (used := _wide(values, "dskUsed")) is not None:
            found["disk_used"] = round(100 * used / disk, 2)
    if "hrSystemUptime" in values:
        found["uptime"] = values["hrSystemUptime"] // 100
    if "ssCpuNumCpus" in values:
        found["vcpus"] = values["ssCpuNumCpus"]
    # snmpd tells 0 until it has looked twice: taken for the counter's value, it would make a peak of the next one.
    if received := values.get("ifHCInUcastPkts"):
        found["packets_in"] = received + values.get("ifHCInMulticastPkts", 0)
    if sent := values.get("ifHCOutUcastPkts"):
        found["packets_out"] = sent
    return found
