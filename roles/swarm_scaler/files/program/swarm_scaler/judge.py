"""Whether a service may take a step, told from what the swarm says of it.

The functions take what Docker's API answers with, so that they can be tested without an engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

Attributes = Mapping[str, Any]

#: Labels of a service. MIN and MAX are the deployment's; the others tell of the last step.
MIN, MAX = "forum.scale.min", "forum.scale.max"
AT, BY, ACTION = "forum.scale.at", "forum.scale.by", "forum.scale.action"

_CONSTRAINT = re.compile(r"(node\.labels\.[\w.-]+|node\.role|node\.hostname)\s*(==|!=)\s*(\S+)")
_UNDER_WAY = ("updating", "rollback_started")
_STUCK = ("paused", "rollback_paused")
_ENDED = ("complete", "failed", "shutdown", "rejected", "orphaned", "remove")


@dataclass(frozen=True)
class Step:
    """What is asked for. by: 1 or -1. action: what it is known by; empty for one that isn't to be known again."""

    by: int
    action: str
    at: datetime
    cooldown: timedelta


@dataclass(frozen=True)
class Swarm:
    """What the swarm says: a service, its tasks, and all nodes with all tasks, since these take the room."""

    service: Attributes
    nodes: Sequence[Attributes]
    tasks: Sequence[Attributes]

    @property
    def own_tasks(self) -> list[Attributes]:
        """The service's tasks that are wanted or still there."""
        return [task for task in self.tasks if task.get("ServiceID") == self.service["ID"] and _there(task)]


@dataclass(frozen=True)
class Verdict:
    """before, wanted: replicas; the same where nothing is to be done. refused: why, '' where it isn't refused."""

    before: int
    wanted: int
    refused: str = ""
    repeated: bool = False


def _there(task: Attributes) -> bool:
    return task["Status"]["State"] not in _ENDED


def replicas(service: Attributes) -> int | None:
    """How many tasks a replicated service wants; None for another one."""
    mode = service["Spec"]["Mode"].get("Replicated")
    return None if mode is None else int(mode.get("Replicas", 1))


def labels(service: Attributes) -> dict[str, str]:
    """The service's labels."""
    return dict(service["Spec"].get("Labels") or {})


def judge(swarm: Swarm, step: Step) -> Verdict:
    """Whether the service may take the step."""
    told, before = labels(swarm.service), replicas(swarm.service)
    if before is None or not {MIN, MAX} <= told.keys():
        return Verdict(before or 0, before or 0, "it has no bounds: the inventory lets it not be scaled")
    if step.action and told.get(ACTION) == step.action:
        return Verdict(before, before, repeated=True)
    wanted = before + step.by
    refused = next(_hindrances(swarm, step, before, wanted), "")
    return Verdict(before, before if refused else wanted, refused)


def _hindrances(swarm: Swarm, step: Step, before: int, wanted: int) -> Iterator[str]:
    """What stands against it, what is for good first."""
    told = labels(swarm.service)
    low, high = int(told[MIN]), int(told[MAX])
    # What is out of its bounds may come back.
    if (step.by > 0 and wanted > high) or (step.by < 0 and wanted < low):
        yield f"it has {before} replicas and may have {low} to {high}"
    yield from _rollout(swarm.service)
    yield from _unfinished(swarm, before)
    yield from _too_soon(told, step)
    if step.by > 0:
        yield from _no_room(swarm, wanted)


def _rollout(service: Attributes) -> Iterator[str]:
    state = (service.get("UpdateStatus") or {}).get("State", "")
    if state in _UNDER_WAY:
        yield "a rollout of it is under way"
    if state in _STUCK:
        yield f"its rollout is {state.replace('_', ' ')}: deploy it anew, or roll it back"


def _unfinished(swarm: Swarm, before: int) -> Iterator[str]:
    """A step that isn't finished, whoever took it: fewer tasks run than are wanted, or more are there."""
    there = swarm.own_tasks
    running = sum(
        task["Status"]["State"] == "running" and task.get("DesiredState") == "running" for task in there
    )
    if running < before:
        yield f"{running} of its {before} replicas run: the step before isn't finished"
    elif len(there) > before:
        yield f"{len(there)} of its tasks are there where {before} are wanted: the step before isn't finished"


def _too_soon(told: Mapping[str, str], step: Step) -> Iterator[str]:
    try:
        last = datetime.fromisoformat(told[AT])
    except (KeyError, ValueError):
        return
    # Clocks of two managers may differ.
    since = max(step.at - last, timedelta())
    # Up wins over down.
    if since < step.cooldown and not (step.by > 0 and told.get(BY) == "-1"):
        left = step.cooldown - since
        yield (
            f"it was changed {since.total_seconds():.0f} s ago, at {told[AT]}: the next step may come in "
            f"{left.total_seconds():.0f} s"
        )


def _no_room(swarm: Swarm, wanted: int) -> Iterator[str]:
    task = swarm.service["Spec"]["TaskTemplate"]
    placement = task.get("Placement") or {}
    eligible = [
        node for node in swarm.nodes if _ready(node) and _fits(node, placement.get("Constraints") or [])
    ]
    per_node = int(placement.get("MaxReplicas") or 0)
    if per_node and wanted > per_node * len(eligible):
        yield f"{len(eligible)} nodes may run it, {per_node} each: {wanted} replicas have no place"
        return
    needed = _reserved(task)
    held = [one.get("NodeID") for one in swarm.own_tasks]
    places = [node for node in eligible if not per_node or held.count(node["ID"]) < per_node]
    if not any(_holds(_free(node, swarm.tasks), needed) for node in places):
        cpus, memory = needed
        yield f"no node has {cpus / 1e9:g} processors and {memory >> 20} MB left that it reserves"


def _ready(node: Attributes) -> bool:
    return bool(node["Status"]["State"] == "ready" and node["Spec"]["Availability"] == "active")


def _fits(node: Attributes, constraints: Sequence[str]) -> bool:
    """Whether the constraints let a task run there; one in other words than ours is left to the swarm."""
    known = {f"node.labels.{key}": value for key, value in (node["Spec"].get("Labels") or {}).items()}
    known |= {"node.role": node["Spec"]["Role"], "node.hostname": node["Description"]["Hostname"]}
    found = filter(None, map(_CONSTRAINT.fullmatch, constraints))
    return all((known.get(match[1]) == match[3]) == (match[2] == "==") for match in found)


def _reserved(task: Attributes) -> tuple[int, int]:
    """What a task reserves: billionths of processors, and bytes."""
    given = (task.get("Resources") or {}).get("Reservations") or {}
    return int(given.get("NanoCPUs") or 0), int(given.get("MemoryBytes") or 0)


def _free(node: Attributes, tasks: Sequence[Attributes]) -> tuple[int, int]:
    """What a node has that no task of it reserves."""
    has = node["Description"]["Resources"]
    taken = [_reserved(task["Spec"]) for task in tasks if task.get("NodeID") == node["ID"] and _there(task)]
    return (
        int(has["NanoCPUs"]) - sum(cpus for cpus, _ in taken),
        int(has["MemoryBytes"]) - sum(memory for _, memory in taken),
    )


def _holds(free: tuple[int, int], needed: tuple[int, int]) -> bool:
    return all(has >= wants for has, wants in zip(free, needed, strict=True))


def changed(service: Attributes, verdict: Verdict, step: Step) -> dict[str, Any]:
    """The service's specification after the step: the tasks' own is as it was, so none of them is replaced."""
    spec = dict(service["Spec"])
    told = labels(service) | {AT: step.at.astimezone(UTC).isoformat(timespec="seconds"), BY: str(step.by)}
    told.pop(ACTION, None)
    if step.action:
        told[ACTION] = step.action
    spec["Labels"] = told
    spec["Mode"] = {"Replicated": {**spec["Mode"]["Replicated"], "Replicas": verdict.wanted}}
    return spec
