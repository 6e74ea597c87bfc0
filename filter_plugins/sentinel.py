"""Filters for Redis Sentinel: how many are a majority, and what HAProxy has to ask whom.

Documented for ansible-doc in sentinel_quorum.yml and sentinel_checks.yml beside this file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypedDict

from ansible.errors import AnsibleFilterError

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?")


class SentinelCheck(TypedDict):
    """What HAProxy needs to know about one Redis server."""

    server: str  # its name on the network, also of its backend
    backend: str  # the backend whose servers are the Sentinels that name it
    frontend: str  # the local frontend that answers 200 while a majority does
    port: int  # that frontend's port on 127.0.0.1
    sentinels: list[str]  # the Sentinels' names
    quorum: int  # how many of them must agree
    expect: str  # the start of a Sentinel's reply that names this server, escaped for haproxy.cfg
    min_recv: int  # its length in bytes: a shorter reply can't be judged yet


def _names(value: object, what: str) -> list[str]:
    """Return value as a list of distinct host names; AnsibleFilterError says what is wrong with it."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise AnsibleFilterError(f"{what}: a list of host names is needed, not {type(value).__name__}")
    names = [str(name) for name in value]
    for name in names:
        if not _NAME.fullmatch(name):
            raise AnsibleFilterError(f"{what}: {name!r} is not a host name")
    if len(set(names)) != len(names):
        raise AnsibleFilterError(f"{what}: a name occurs twice in {', '.join(names)}")
    return names


def sentinel_quorum(sentinels: Sequence[str]) -> int:
    """Smallest number of Sentinels that is a majority.

    sentinels: host names, one per Sentinel. Returns len // 2 + 1.
    Raises AnsibleFilterError for fewer than three (no majority survives a loss).
    Source: Redis documentation, 'High availability with Redis Sentinel'.
    """
    names = _names(sentinels, "sentinel_quorum")
    if len(names) < 3:
        raise AnsibleFilterError(
            f"sentinel_quorum: {len(names)} keep no majority when one is lost: name at least three"
        )
    return len(names) // 2 + 1


def sentinel_checks(
    redis: Sequence[str], sentinels: Sequence[str], first_port: int = 8100
) -> list[SentinelCheck]:
    """Turn the servers' and the Sentinels' names into what haproxy.cfg loops over.

    redis: host names of the Redis servers; sentinels: host names of at least three Sentinels.
    first_port: the first server's local frontend listens there, the next one above it, and so on.
    Returns one SentinelCheck per Redis server, in the given order.
    Raises AnsibleFilterError for names that are none or occur twice, too few Sentinels, ports beyond 65535.
    Source: RESP protocol; the reply to SENTINEL get-master-addr-by-name is an array of two bulk strings,
    *2 CRLF $<length> CRLF <name> CRLF $4 CRLF 6379 CRLF.
    """
    servers = _names(redis, "sentinel_checks")
    quorum = sentinel_quorum(sentinels)
    watchers = _names(sentinels, "sentinel_checks")
    if not servers:
        raise AnsibleFilterError("sentinel_checks: name at least one Redis server")
    both = sorted(set(servers) & set(watchers))
    if both:
        raise AnsibleFilterError(f"sentinel_checks: {', '.join(both)} can't be a Redis server and a Sentinel")
    if not 1 <= first_port <= 65535 - len(servers):
        raise AnsibleFilterError(f"sentinel_checks: no room for {len(servers)} ports from {first_port} on")
    checks: list[SentinelCheck] = []
    for index, name in enumerate(servers):
        reply = f"*2\r\n${len(name)}\r\n{name}\r\n"
        checks.append(
            {
                "server": name,
                "backend": f"names-{name}",
                "frontend": f"majority-{name}",
                "port": first_port + index,
                "sentinels": list(watchers),
                "quorum": quorum,
                "expect": reply.replace("$", "\\$").replace("\r", "\\r").replace("\n", "\\n"),
                "min_recv": len(reply),
            }
        )
    return checks


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Name the filters."""
        return {"sentinel_quorum": sentinel_quorum, "sentinel_checks": sentinel_checks}
