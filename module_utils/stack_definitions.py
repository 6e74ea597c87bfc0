"""The fragments of a stack, taken apart into their services and put together again for a rollout.

A definition is what one service says, with the networks, secrets, configs and volumes that it names: the smallest
Compose file that deploys it. It is known by its mark, which the service carries as a label, so that the swarm itself
tells which definition a service runs, also after it was rolled back.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible.module_utils.swarm_services import RUN, run_of, wanted_tasks

Definition = dict[str, dict[str, Any]]

#: The label of a service that holds the mark of its definition.
MARK = "forum.definition"

#: What the labels begin with that tell how a service is scaled, and those of its bounds, which a definition gives.
_SCALE = "forum.scale."
_LOW, _HIGH = f"{_SCALE}min", f"{_SCALE}max"

_SECTIONS = ("networks", "secrets", "configs", "volumes")
_MEMBER = re.compile(r".+-\d+")


def definitions(stack: str, fragments: Iterable[Mapping[str, Any]]) -> dict[str, Definition]:
    """Name of a service in the swarm (STACK_SERVICE) -> its definition, in the order of the fragments.

    fragments: contents of Compose files, with services and the sections that they need.
    """
    return {
        f"{stack}_{name}": {"services": {name: dict(service)}, **_sections(service, fragment)}
        for fragment in fragments
        for name, service in fragment["services"].items()
    }


def _sections(service: Mapping[str, Any], fragment: Mapping[str, Any]) -> Definition:
    found: Definition = {}
    for section in _SECTIONS:
        declared: Mapping[str, Any] = fragment.get(section) or {}
        named = [_source(entry) for entry in service.get(section) or ()]
        if used := {name: declared[name] for name in sorted(set(named) & set(declared))}:
            found[section] = used
    return found


def _source(entry: str | Mapping[str, Any]) -> str:
    return str(entry.get("source", "")) if isinstance(entry, Mapping) else entry.split(":")[0]


def mark(definition: Definition) -> str:
    """What a definition is known by: 16 hexadecimal digits, other ones as soon as anything in it differs."""
    text = json.dumps(definition, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def compose(parts: Mapping[str, Definition], existing: Mapping[str, Mapping[str, Any]]) -> str:
    """One Compose file of several definitions, each service labelled with its mark.

    parts: name of a service in the swarm -> its definition. existing: names -> services that the swarm has, as its API
    tells them; what was scaled keeps its replicas, and a job, whose tasks are never restarted, gets its next run. As
    JSON, which is YAML without its ambiguities.
    """
    merged: Definition = {"services": {}}
    for known_as, part in parts.items():
        for section, content in part.items():
            merged.setdefault(section, {}).update(content)
        for name, service in part["services"].items():
            labelled = _scaled(_labelled(service, mark(part)), existing.get(known_as))
            if labelled["deploy"].get("restart_policy", {}).get("condition") == "none":
                labelled["labels"] = {
                    **(service.get("labels") or {}),
                    RUN: str(run_of(existing.get(known_as)) + 1),
                }
            merged["services"][name] = labelled
    return json.dumps(merged, ensure_ascii=False, default=str)


def _labelled(service: Mapping[str, Any], value: str) -> dict[str, Any]:
    deploy = dict(service.get("deploy") or {})
    labels = deploy.get("labels") or {}
    # Compose knows both forms.
    deploy["labels"] = [*labels, f"{MARK}={value}"] if isinstance(labels, list) else {**labels, MARK: value}
    return {**service, "deploy": deploy}


def _scaled(service: dict[str, Any], live: Mapping[str, Any] | None) -> dict[str, Any]:
    """The service with the replicas that forum-scale gave it, within its bounds, and what is told of that."""
    deploy, labels, bounds = service["deploy"], service["deploy"]["labels"], {_LOW, _HIGH}
    held = (live["Spec"].get("Labels") if live else None) or {}
    told = {name: value for name, value in held.items() if name.startswith(_SCALE)}
    if live is None or isinstance(labels, list) or not bounds <= labels.keys() or not told.keys() - bounds:
        return service
    replicas = min(max(wanted_tasks(live, 0), int(labels[_LOW])), int(labels[_HIGH]))
    return {**service, "deploy": {**deploy, "replicas": replicas, "labels": {**told, **labels}}}


def steps(
    pending: Mapping[str, Definition], changed: Collection[str], existing: Collection[str]
) -> list[list[str]]:
    """Names of pending services, in the groups that are rolled out one after the other.

    pending: what isn't known to run as wanted. changed: those of them that must be deployed; the others are only
    waited for. existing: services that the swarm has. Services NAME-NUMBER of a single task are the members of one
    tier, which is lost without a majority of them, so each that exists is a group of its own. What doesn't exist
    yet comes first and together: at its first boot a tier needs all its members. What is only waited for comes last,
    since it may need the rest.
    """
    alone = [
        name for name, definition in pending.items() if name in existing and _is_member(name, definition)
    ]
    others = [name for name in pending if name not in alone]
    together = [name for name in others if name in changed]
    waiting = [name for name in others if name not in changed]
    return [group for group in (together, *([name] for name in alone), waiting) if group]


def _is_member(name: str, definition: Definition) -> bool:
    (service,) = definition["services"].values()
    deploy = service.get("deploy") or {}
    single = deploy.get("mode", "replicated") == "replicated" and deploy.get("replicas", 1) == 1
    return single and _MEMBER.fullmatch(name) is not None
