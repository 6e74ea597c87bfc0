"""What a swarm says about the services of a stack, as plain facts.

The functions take what Docker's API answers with, so that they can be tested without an engine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Attributes = Mapping[str, Any]

#: States of a rollout that end it without the wanted version running.
ROLLED_BACK = ("paused", "rollback_started", "rollback_paused", "rollback_completed")


@dataclass(frozen=True)
class Progress:
    """How far one is. running and wanted count tasks; fault is empty unless something is wrong for good."""

    service: str
    running: int
    wanted: int
    fault: str = ""
    errors: tuple[str, ...] = field(default=())

    @property
    def done(self) -> bool:
        """Whether every wanted task of the newest version runs (or, of a job, has ended well)."""
        return not self.fault and self.running >= self.wanted

    def __str__(self) -> str:
        words = f"{self.service} {self.running}/{self.wanted}"
        if self.fault:
            words += f": {self.fault}"
        if self.errors and not self.done:
            words += f" ({'; '.join(self.errors)})"
        return words


#: The label of a job's containers that counts its runs: another number makes the swarm start it again.
RUN = "forum.run"


def is_job(service: Attributes) -> bool:
    """Whether a service runs to an end instead of for ever: its tasks are never restarted.

    The swarm's own jobs are not used: a manager that leads for a second time has two orchestrators of jobs (swarmkit's
    becomeFollower doesn't stop the first one), which start each job twice, and then without end, since both count
    more completions than were wanted.
    """
    return bool(service["Spec"]["TaskTemplate"].get("RestartPolicy", {}).get("Condition") == "none")


def run_of(service: Attributes | None) -> int:
    """How often a job has been run, 0 for one that the swarm doesn't know."""
    container = service["Spec"]["TaskTemplate"]["ContainerSpec"] if service else {}
    return int((container.get("Labels") or {}).get(RUN, 0))


def wanted_tasks(service: Attributes, nodes: int) -> int:
    """How many tasks a service should have. nodes: how many nodes a global service runs on."""
    mode = service["Spec"]["Mode"]
    if "Replicated" in mode:
        return int(mode["Replicated"].get("Replicas", 1))
    return nodes


def _task_error(task: Attributes) -> str:
    status = task.get("Status", {})
    code = status.get("ContainerStatus", {}).get("ExitCode")
    error = status.get("Err") or status.get("Message") or status.get("State", "")
    return f"{error} (exit code {code})" if code and f"({code})" not in error else str(error)


def is_current(service: Attributes, task: Attributes) -> bool:
    """Whether a task is of the service's newest version: the same specification, and so the same run of a job."""
    wanted, given = service["Spec"]["TaskTemplate"], task.get("Spec", {})
    keys = ("ContainerSpec", "Resources", "ForceUpdate")
    return all(_without_digest(wanted.get(key)) == _without_digest(given.get(key)) for key in keys)


def _without_digest(value: Any) -> Any:
    # The swarm may pin an image by digest in a task but not in the service.
    if isinstance(value, Mapping) and "Image" in value:
        return {**value, "Image": value["Image"].partition("@")[0]}
    return value


def progress(service: Attributes, tasks: Sequence[Attributes], nodes: int) -> Progress:
    """How far one service is.

    service, tasks: what the API answers for the service and all its tasks. nodes: how many nodes are up.
    """
    name, wanted = service["Spec"]["Name"], wanted_tasks(service, nodes)
    current = [task for task in tasks if is_current(service, task)]
    update = service.get("UpdateStatus", {})
    good = "complete" if is_job(service) else "running"
    running = sum(task["Status"]["State"] == good for task in current)
    # What was rolled back is no longer the service's newest version, but its tasks tell why.
    suspects = _since(tasks, update.get("StartedAt", "")) if update.get("State") in ROLLED_BACK else current
    failed = [task for task in suspects if _has_failed(task, is_job(service))]
    failed.sort(key=lambda task: task["Status"].get("Timestamp", ""), reverse=True)
    waiting = [task for task in current if task["Status"].get("Err") and task["Status"]["State"] == "pending"]
    errors = tuple(dict.fromkeys(_task_error(task) for task in (failed + waiting)[:3]))
    fault = ""
    if update.get("State") in ROLLED_BACK:
        fault = f"{update['State'].replace('_', ' ')}: {update.get('Message', '')}"
    elif is_job(service) and running < wanted and failed:
        fault = "the job failed"
    elif update.get("State") == "updating":
        running = min(running, max(wanted - 1, 0))
    return Progress(name, running, wanted, fault, errors)


def _since(tasks: Sequence[Attributes], moment: str) -> list[Attributes]:
    # Times of the API are in UTC with the same form throughout, and sort as text.
    return [task for task in tasks if task["Status"].get("Timestamp", "") >= moment]


def _has_failed(task: Attributes, is_jobs: bool) -> bool:
    """Whether a task ended badly; one of a job also when the swarm gave it up, since its node is gone."""
    given_up = task.get("DesiredState") in ("shutdown", "remove") and task["Status"]["State"] != "complete"
    return task["Status"]["State"] in ("failed", "rejected") or (is_jobs and given_up)


def reason_to_deploy(service: Attributes | None, tasks: Sequence[Attributes], label: str, value: str) -> str:
    """Why a service must be deployed, '' if the swarm holds it as wanted.

    service, tasks: what the API answers, None for a service that it doesn't know. label, value: what tells the
    wanted definition; it goes back with the service when that is rolled back, by the swarm or by an operator.
    """
    if service is None:
        return "is missing"
    if (service["Spec"].get("Labels") or {}).get(label) != value:
        return "has another definition"
    state = service.get("UpdateStatus", {}).get("State", "")
    if state in ROLLED_BACK:
        return str(state).replace("_", " ")
    if not is_job(service):
        return ""
    # The swarm forgets the tasks of a node that was removed.
    if not any(is_current(service, task) for task in tasks):
        return "has no run to show"
    return progress(service, tasks, 0).fault


def used_names(services: Sequence[Attributes], kind: str) -> set[str]:
    """Names of the secrets or configs that services use, also those that a rollback would need.

    kind: Secrets or Configs, as Docker's API spells it.
    """
    names: set[str] = set()
    for service in services:
        for spec in (service.get("Spec"), service.get("PreviousSpec")):
            container = (spec or {}).get("TaskTemplate", {}).get("ContainerSpec", {})
            names.update(entry[f"{kind[:-1]}Name"] for entry in container.get(kind) or [])
    return names


#: What Docker says -> what to do.
_REMEDIES = (
    (
        "not have a leader|no leader|raft|quorum",
        "more than half of the managers must be up: start those that are down ('docker info' on each tells its view)",
    ),
    ("not a swarm manager", "run this on a manager of the swarm: site.yml --tags swarm makes it one"),
    ("permission denied", "run this as root (ansible_become)"),
    (
        "connection|cannot connect|timed out",
        "start the engine of this machine: 'systemctl status docker' tells why it is away",
    ),
)


def remedy(error: str) -> str:
    """What to do about an error of Docker; a sentence's end, the same for whatever isn't known."""
    for pattern, advice in _REMEDIES:
        if re.search(pattern, error, re.IGNORECASE):
            return advice
    return "'journalctl -u docker' on this machine tells more"
