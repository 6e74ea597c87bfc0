"""Filters that add up what the stack asks for and compare it with what there is."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import ParamSpec

from ansible.errors import AnsibleFilterError

_Arguments = ParamSpec("_Arguments")

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?", re.IGNORECASE)
#: The labels that tell between how many replicas a service may be scaled.
_BOUNDS = ("forum.scale.min", "forum.scale.max")
_CONSTRAINT = re.compile(r"node\.labels\.([\w.-]+)\s*(==|!=)\s*(\S+)")


def to_bytes(size: object) -> int:
    """Bytes of a size as Docker writes it.

    size: a number of bytes, or a text such as 512m, 1.5G or 64MB; units are powers of 1024.
    Raises AnsibleFilterError for anything else. Source: Docker's 'compose file reference', byte values.
    """
    match = _SIZE.fullmatch(str(size).strip())
    if isinstance(size, bool) or not match:
        raise AnsibleFilterError(f"{size!r} is no size: write bytes, or a number with k, m or g")
    return int(Fraction(match[1]) * _UNITS[match[2].lower()])


def to_cpus(cpus: object) -> Fraction:
    """Processors as an exact number.

    cpus: a number or a text such as "0.25". Raises AnsibleFilterError for anything else.
    """
    try:
        value = Fraction(str(cpus).strip())
    except (ValueError, ZeroDivisionError):
        value = Fraction(-1)
    if value < 0 or isinstance(cpus, bool):
        raise AnsibleFilterError(f"{cpus!r} is no number of processors: write a number such as 0.5")
    return value


def _whole(value: object, where: str, what: str) -> int:
    """A whole number of at least 0. Raises AnsibleFilterError for anything else."""
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if number < 0 or isinstance(value, bool):
        raise AnsibleFilterError(f"{where}: {what} is {value!r}: make it a whole number of at least 0")
    return number


def _count(settings: Mapping[str, object], key: str, where: str, default: int | None = None) -> int:
    """A whole number from a mapping."""
    return _whole(settings.get(key, default), where, key)


def _told(judge: Callable[_Arguments, list[str]]) -> Callable[_Arguments, list[str]]:
    """The judge, for whom figures that can't be read are a problem like any other."""

    @functools.wraps(judge)
    def judged(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> list[str]:
        try:
            return judge(*arguments, **options)
        except AnsibleFilterError as error:
            return [str(error)]

    return judged


@_told
def connection_problems(
    clients: Mapping[str, Mapping[str, object]],
    pgpool: Mapping[str, object],
    postgres: Mapping[str, object],
) -> list[str]:
    """Whether every client gets its connection to PostgreSQL, also while one Pgpool is away.

    clients: name -> {replicas, connections (of one replica, default 1), direct (default false: it goes
    through Pgpool)}. pgpool: {replicas, num_init_children, max_pool (default 1)}. postgres:
    {max_connections, reserved (for superusers, replication and repmgr; default 10)}. All are numbers of
    connections. Returns sentences that say what is wrong and how to mend it; what is no number is a problem.
    Source: Pgpool-II, 'num_init_children': max_pool * num_init_children * instances <=
    max_connections minus reserved.
    """
    wanted = {
        name: _count(client, "replicas", name, 1) * _count(client, "connections", name, 1)
        for name, client in clients.items()
    }
    direct = sum(count for name, count in wanted.items() if clients[name].get("direct"))
    pooled = {name: count for name, count in wanted.items() if not clients[name].get("direct")}
    replicas = _count(pgpool, "replicas", "pgpool")
    children = _count(pgpool, "num_init_children", "pgpool")
    pools = _count(pgpool, "max_pool", "pgpool", 1)
    maximum = _count(postgres, "max_connections", "postgres")
    reserved = _count(postgres, "reserved", "postgres", 10)

    problems = []
    total = sum(pooled.values())
    parts = " + ".join(f"{name} {count}" for name, count in pooled.items())
    left = max(replicas - 1, 1)
    if replicas < 1:
        problems.append("there is no Pgpool: set its replicas to 1 or more")
    elif total > left * children:
        state = "while one of them is away" if replicas > 1 else "with the only one"
        problems.append(
            f"the clients of Pgpool open up to {total} connections ({parts}), but {replicas} Pgpool take "
            f"{left * children} {state}: raise num_init_children to {-(-total // left)} or more, "
            "or have fewer workers"
        )
    backends = replicas * children * pools
    needed = backends + direct + reserved
    if needed > maximum:
        straight = f" and {direct} come directly" if direct else ""
        problems.append(
            f"Pgpool keeps up to {backends} connections to each PostgreSQL ({replicas} x {children} "
            f"num_init_children x {pools} max_pool){straight}, but max_connections {maximum} "
            f"minus {reserved} reserved leaves {max(maximum - reserved, 0)}: "
            f"raise max_connections to {needed} or more, or lower num_init_children"
        )
    return problems


@dataclass
class _Task:
    """One task of a service, with what it reserves."""

    service: str
    cpus: Fraction
    memory: int
    constraints: tuple[tuple[str, str, str], ...]
    per_node: int

    def may_run_on(self, labels: Mapping[str, str]) -> bool:
        """Whether the node's labels satisfy the constraints."""
        return all((labels.get(label) == value) == (sign == "==") for label, sign, value in self.constraints)


@dataclass
class _Node:
    """One node, with what is still free on it."""

    name: str
    cpus: Fraction
    memory: int
    labels: Mapping[str, str]
    services: list[str] = field(default_factory=list)

    def free_for(self, task: _Task) -> bool:
        """Whether the task may be placed here and fits."""
        return (
            task.may_run_on(self.labels)
            and task.cpus <= self.cpus
            and task.memory <= self.memory
            and not (task.per_node and self.services.count(task.service) >= task.per_node)
        )

    def take(self, task: _Task) -> None:
        """Place the task here."""
        self.cpus -= task.cpus
        self.memory -= task.memory
        self.services.append(task.service)


def _dig(mapping: Mapping[str, object], *path: str) -> object:
    """The value at a path of nested mappings, or None."""
    value: object = mapping
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _tasks_of(name: str, service: Mapping[str, object], nodes: Sequence[_Node]) -> list[_Task]:
    """The tasks that a compose service wants."""
    constraints = _dig(service, "deploy", "placement", "constraints") or []
    if not isinstance(constraints, Sequence):
        raise AnsibleFilterError(f"{name}: deploy.placement.constraints must be a list")
    found = [match.groups() for match in map(_CONSTRAINT.fullmatch, map(str, constraints)) if match]
    per_node = _dig(service, "deploy", "placement", "max_replicas_per_node") or 0
    task = _Task(
        service=name,
        cpus=to_cpus(_dig(service, "deploy", "resources", "reservations", "cpus") or 0),
        memory=to_bytes(_dig(service, "deploy", "resources", "reservations", "memory") or 0),
        constraints=tuple((label, sign, value) for label, sign, value in found),
        per_node=_whole(per_node, name, "max_replicas_per_node"),
    )
    mode = str(_dig(service, "deploy", "mode") or "replicated")
    if mode.startswith("global"):
        task.per_node = 1
        return [task] * sum(task.may_run_on(node.labels) for node in nodes)
    bounds = _bounds(name, service)
    return [task] * (bounds[1] if bounds else _replicas(name, service))


def _replicas(name: str, service: Mapping[str, object]) -> int:
    replicas = _dig(service, "deploy", "replicas")
    return 1 if replicas is None else _whole(replicas, name, "replicas")


def _bounds(name: str, service: Mapping[str, object]) -> tuple[int, int] | None:
    """Between how many replicas a service may be scaled, None for one that may not."""
    low, high = (_dig(service, "deploy", "labels", label) for label in _BOUNDS)
    if low is None or high is None:
        return None
    return _whole(low, name, _BOUNDS[0]), _whole(high, name, _BOUNDS[1])


def scalable(services: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Names of the services that may be scaled: those with bounds.

    services: name -> compose service. Raises AnsibleFilterError for a bound that is no number.
    """
    return [name for name, service in services.items() if _bounds(name, service)]


def _bound_problems(name: str, service: Mapping[str, object]) -> list[str]:
    """Bounds that are none, or that what the inventory asks for is out of."""
    if (bounds := _bounds(name, service)) is None:
        return []
    (low, high), replicas = bounds, _replicas(name, service)
    if 1 <= low <= replicas <= high:
        return []
    told = f"{name} has {replicas} replicas and may be scaled between {low} and {high}"
    return [f"{told}: have 1 ≤ {name}_replicas_min ≤ {name}_replicas ≤ {name}_replicas_max"]


def _megabytes(size: int) -> str:
    return f"{size >> 20} MB"


def with_telegraf(
    services: Mapping[str, Mapping[str, object]], share: Mapping[str, Mapping[str, object]]
) -> dict[str, dict[str, object]]:
    """The services with what the Telegraf beside each of them takes, added to their limits and reservations.

    services: name -> compose service; one with `x-telegraf: false` has none beside it and stays as it is.
    share: what one Telegraf takes, as in deploy.resources (limits and reservations of cpus and memory); what a
    service doesn't limit stays without a limit. Raises AnsibleFilterError for what is no size or number.
    """
    found = {}
    for name, service in services.items():
        deploy, given = service.get("deploy"), _dig(service, "deploy", "resources")
        accompanied = bool(share) and service.get("x-telegraf", True)
        found[name] = dict(service)
        if accompanied and isinstance(deploy, Mapping) and isinstance(given, Mapping):
            resources = {kind: _sum(own, share.get(kind, {})) for kind, own in given.items()}
            found[name]["deploy"] = {**deploy, "resources": resources}
    return found


def _sum(own: Mapping[str, object], more: Mapping[str, object]) -> dict[str, object]:
    """Limits or reservations, with more of what they name already."""
    found = dict(own)
    if "cpus" in own:
        found["cpus"] = f"{float(to_cpus(own['cpus']) + to_cpus(more.get('cpus', 0))):g}"
    if "memory" in own:
        found["memory"] = f"{to_bytes(own['memory']) + to_bytes(more.get('memory', 0)) >> 20}M"
    return found


def _nodes_of(
    nodes: Mapping[str, Mapping[str, object]], system_cpus: object, system_memory: object
) -> list[_Node]:
    """The nodes with what is left after the system's own share."""
    own_cpus, own_memory = to_cpus(system_cpus), to_bytes(system_memory)
    found = []
    for name, node in nodes.items():
        labels = node.get("labels") or {}
        if not isinstance(labels, Mapping):
            raise AnsibleFilterError(f"{name}: labels must be a mapping")
        found.append(
            _Node(
                name=name,
                cpus=max(to_cpus(node.get("cpus")) - own_cpus, Fraction(0)),
                memory=max(to_bytes(node.get("memory")) - own_memory, 0),
                labels={str(label): str(value) for label, value in labels.items()},
            )
        )
    return found


def _misfits(tasks: Sequence[_Task], nodes: Sequence[_Node], lost: str | None) -> list[_Task]:
    """The tasks that find no place.

    With a node lost, tasks that only it could have run are expected to wait for it.
    """
    left = [_Node(node.name, node.cpus, node.memory, node.labels) for node in nodes if node.name != lost]
    misfits = []
    # The narrowest and largest first, each where most is free: nearly always finds a way if there is one.
    order = sorted(tasks, key=lambda task: (sum(task.may_run_on(node.labels) for node in left), -task.memory))
    for task in order:
        candidates = [node for node in left if node.free_for(task)]
        if candidates:
            max(candidates, key=lambda node: (node.memory, node.cpus)).take(task)
            continue
        places = [node for node in left if task.may_run_on(node.labels)]
        full = [
            node for node in places if task.per_node and node.services.count(task.service) >= task.per_node
        ]
        if lost is None or len(full) < len(places):
            misfits.append(task)
    return misfits


def _limit_problems(name: str, service: Mapping[str, object]) -> list[str]:
    """Limits below reservations, or no limit at all."""
    problems = []
    measures: tuple[tuple[str, Callable[[object], Fraction | int]], ...] = (
        ("cpus", to_cpus),
        ("memory", to_bytes),
    )
    for key, convert in measures:
        reserved = _dig(service, "deploy", "resources", "reservations", key)
        limit = _dig(service, "deploy", "resources", "limits", key)
        if limit is None:
            problems.append(f"{name} has no limit of {key}: set deploy.resources.limits.{key}")
        elif reserved is not None and convert(reserved) > convert(limit):
            problems.append(
                f"{name} reserves {reserved} of {key}, more than its limit {limit}: lower the reservation"
            )
    return problems


@_told
def resource_problems(
    services: Mapping[str, Mapping[str, object]],
    nodes: Mapping[str, Mapping[str, object]],
    system_cpus: object = 0,
    system_memory: object = "512m",
) -> list[str]:
    """Whether the nodes can hold the services' reservations, all of them and also with any one lost.

    services: name -> compose service (version 3); read are deploy.mode, replicas, resources and placement
    (constraints on node.labels, max_replicas_per_node). What may be scaled counts with the most that it may have.
    nodes: name -> {cpus, memory, labels}. Sizes are bytes or texts as Docker writes them. system_cpus and
    system_memory: what each node keeps for itself. With a node lost, a task that no other node may run waits for it,
    and that is no problem.
    Returns sentences that say what is wrong, where, and how to mend it; what is no size or count is a problem.
    """
    room = _nodes_of(nodes, system_cpus, system_memory)
    problems = [
        problem
        for name, service in services.items()
        for problem in (*_limit_problems(name, service), *_bound_problems(name, service))
    ]
    tasks = [task for name in services for task in _tasks_of(name, services[name], room)]
    homeless = {task.service for task in tasks if not any(task.may_run_on(node.labels) for node in room)}
    for name in sorted(homeless):
        wanted = next(task.constraints for task in tasks if task.service == name)
        labels = ", ".join(f"{label} {sign} {value}" for label, sign, value in wanted)
        problems.append(
            f"{name} may run on no node, none is labelled {labels}: add it to swarm_labels of a node"
        )
    tasks = [task for task in tasks if task.service not in homeless]
    losses: list[str | None] = [None]
    if len(room) > 1:
        losses += [node.name for node in room]
    for lost in losses:
        misfits = _misfits(tasks, room, lost)
        if not misfits:
            continue
        state = "on all nodes together" if lost is None else f"when {lost} is lost"
        counts = Counter(sorted(task.service for task in misfits))
        names = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in counts.items())
        left = [node for node in room if node.name != lost]
        wanted_cpus = float(sum(task.cpus for task in tasks))
        offered_cpus = float(sum(node.cpus for node in left))
        problems.append(
            f"there is no room for {names} {state}: the services reserve "
            f"{_megabytes(sum(task.memory for task in tasks))} and {wanted_cpus:g} CPUs, "
            f"the nodes offer {_megabytes(sum(node.memory for node in left))} and "
            f"{offered_cpus:g} CPUs: "
            "lower the reservations, have fewer replicas, or add memory, processors or a node"
        )
        if lost is None:
            break
    return problems


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {
            "connection_problems": connection_problems,
            "resource_problems": resource_problems,
            "scalable": scalable,
            "with_telegraf": with_telegraf,
        }
