"""Is the stack whole? Reads every machine's own view and says, tier by tier, what is missing."""

import json
import re
import shlex
import subprocess
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drills.browser import Browser, NotSentError, Timeouts, UnansweredError

PROBE = Path(__file__).with_name("probe.py")
PROBE_SECONDS = 15
SILENCE_SECONDS = 5.0
ADDRESS = re.compile(
    r"master0:.*?status=(?P<status>[^,]+),address=(?P<address>[^,]+),.*sentinels=(?P<sentinels>\d+)"
)


@dataclass(frozen=True)
class Machine:
    """A machine of the swarm. reach: the command that runs its arguments there, as root."""

    name: str
    reach: tuple[str, ...]

    def command(self, *words: str) -> list[str]:
        """The command that runs words there; ssh hands them to a shell, so it gets them quoted."""
        return [*self.reach, shlex.join(words)] if self.reach[0] == "ssh" else [*self.reach, *words]


@dataclass(frozen=True)
class Container:
    """A running container of the stack. says: what the program in it told about its role."""

    machine: str
    id: str
    service: str
    says: Mapping[str, Any]

    @property
    def tier(self) -> str:
        """The service without its number: postgres-0 is of the tier postgres."""
        return tier_of(self.service)


@dataclass(frozen=True)
class Snapshot:
    """All machines at about one moment.

    silent: machines that told nothing. nodes: host name -> status and availability, as a manager sees it.
    services: name -> (running, wanted) replicas. edges: base URL -> why it doesn't serve, '' when it does.
    """

    containers: tuple[Container, ...]
    silent: tuple[str, ...]
    nodes: Mapping[str, str]
    services: Mapping[str, tuple[int, int]]
    edges: Mapping[str, str]

    def of(self, tier: str) -> list[Container]:
        """The running containers of a tier."""
        return [container for container in self.containers if container.tier == tier]

    def members(self, tier: str) -> int:
        """How many members a tier should have: its services' wanted replicas."""
        return sum(wanted for name, (_, wanted) in self.services.items() if tier_of(name) == tier)


def tier_of(service: str) -> str:
    """postgres-0 -> postgres, nginx -> nginx."""
    return re.sub(r"-\d+$", "", service)


def look(
    machines: Sequence[Machine], forum_urls: Sequence[str], ca_file: str | None, host: str | None, stack: str
) -> Snapshot:
    """Ask all machines and all edge addresses at once. Never raises for one that doesn't answer."""
    with ThreadPoolExecutor(len(machines) + len(forum_urls)) as pool:
        views = pool.map(lambda machine: _view(machine, stack), machines)
        edges = pool.map(lambda url: _edge(url, ca_file, host), forum_urls)
        return combine(
            dict(zip((m.name for m in machines), views, strict=True)),
            dict(zip(forum_urls, edges, strict=True)),
        )


def combine(views: Mapping[str, Mapping[str, Any]], edges: Mapping[str, str]) -> Snapshot:
    """One snapshot of the machines' views (probe.py's objects by machine name; empty for a silent one)."""
    containers = tuple(
        Container(machine, entry["id"], entry["service"], entry["says"])
        for machine, view in views.items()
        for entry in view.get("containers", [])
    )
    manager = next((view for view in views.values() if view.get("nodes") and view.get("services")), {})
    return Snapshot(
        containers=containers,
        silent=tuple(name for name, view in views.items() if not view),
        nodes={node["name"]: f"{node['state']} {node['availability']}" for node in manager.get("nodes", [])},
        services={
            service["name"]: (service["running"], service["wanted"])
            for service in manager.get("services", [])
        },
        edges=edges,
    )


def what_is_missing(snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
    """Tier -> reasons why it isn't whole; an empty tuple when it is."""
    missing: dict[str, list[str]] = defaultdict(list)
    missing["machines"] = [f"{name} doesn't answer" for name in snapshot.silent]
    missing["machines"] += [
        f"{name} is {state}" for name, state in snapshot.nodes.items() if state != "ready active"
    ]
    if not snapshot.services:
        missing["machines"].append("no manager knows the services")
    for name, (running, wanted) in snapshot.services.items():
        reasons = missing[tier_of(name)]
        if running != wanted:
            reasons.append(f"{name} runs {running} of {wanted}")
    for tier, judge in ROLES.items():
        if snapshot.members(tier):
            missing[tier] += judge(snapshot)
    missing["edge"] = [f"{url}: {why}" for url, why in snapshot.edges.items() if why]
    return {tier: tuple(reasons) for tier, reasons in missing.items()}


def primary(snapshot: Snapshot) -> Container:
    """The PostgreSQL primary's container. Raises LookupError unless there is exactly one."""
    return _only(
        "PostgreSQL primary", [c for c in snapshot.of("postgres") if c.says.get("state") == "primary"]
    )


def master(snapshot: Snapshot) -> Container:
    """The container of the Redis master. Raises LookupError unless there is exactly one."""
    return _only("Redis master", [c for c in snapshot.of("redis") if c.says.get("role") == "master"])


def _only(what: str, found: Sequence[Container]) -> Container:
    if len(found) != 1:
        raise LookupError(f"{len(found)} containers call themselves {what}")
    return found[0]


def _postgres(snapshot: Snapshot) -> list[str]:
    members, wanted = snapshot.of("postgres"), snapshot.members("postgres")
    states = [str(member.says.get("state", "silent")) for member in members]
    reasons = []
    if states.count("primary") != 1:
        reasons.append(f"{states.count('primary')} primaries")
    if states.count("standby") != wanted - 1:
        reasons.append(f"{states.count('standby')} of {wanted - 1} standbys")
    reasons += [
        f"{member.service} doesn't stream"
        for member in members
        if member.says.get("state") == "standby"
        and (not member.says.get("upstream") or float(member.says.get("silence", 0)) > SILENCE_SECONDS)
    ]
    return reasons


def _redis(snapshot: Snapshot) -> list[str]:
    members, wanted = snapshot.of("redis"), snapshot.members("redis")
    masters = [member for member in members if member.says.get("role") == "master"]
    linked = [
        m for m in members if m.says.get("role") == "slave" and m.says.get("master_link_status") == "up"
    ]
    reasons = []
    if len(masters) != 1:
        reasons.append(f"{len(masters)} masters")
    if len(linked) != wanted - 1:
        reasons.append(f"{len(linked)} of {wanted - 1} replicas linked")
    if masters and int(masters[0].says.get("connected_slaves", 0)) != wanted - 1:
        reasons.append(f"the master counts {masters[0].says.get('connected_slaves', 0)} replicas")
    return reasons


def _sentinel(snapshot: Snapshot) -> list[str]:
    members, wanted = snapshot.of("sentinel"), snapshot.members("sentinel")
    found = [ADDRESS.match(f"master0:{member.says.get('master0', '')}") for member in members]
    views = [match for match in found if match]
    reasons = []
    if len(views) != wanted:
        reasons.append(f"{len(views)} of {wanted} answer")
    if len({view["address"] for view in views}) > 1:
        reasons.append("they name different masters")
    reasons += [f"one calls the master {view['status']}" for view in views if view["status"] != "ok"]
    reasons += [
        f"one knows {view['sentinels']} Sentinels" for view in views if int(view["sentinels"]) != wanted
    ]
    return reasons


ROLES: dict[str, Callable[[Snapshot], list[str]]] = {
    "postgres": _postgres,
    "redis": _redis,
    "sentinel": _sentinel,
}


def _view(machine: Machine, stack: str) -> dict[str, Any]:
    try:
        done = subprocess.run(
            machine.command("python3", "-", stack),
            input=PROBE.read_bytes(),
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
        answer = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return {}
    return dict(answer)


def _edge(url: str, ca_file: str | None, host: str | None) -> str:
    browser = Browser([url], ca_file, Timeouts(connect=1, answer=5), host)
    try:
        reply = browser.get("/healthcheck/")
    except (NotSentError, UnansweredError) as error:
        return str(error)
    finally:
        browser.close()
    return "" if reply.status == 200 else f"HTTP {reply.status}"
