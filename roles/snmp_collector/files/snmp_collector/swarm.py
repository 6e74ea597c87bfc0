"""Which nodes host the stack, by a manager's word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import docker
import requests
from docker.errors import DockerException
from docker.tls import TLSConfig

from .events import Troubles
from .settings import Settings

#: A manager's nodes, and the stack's tasks that should run, as the engine's API tells them.
Answer = tuple[list[dict[str, Any]], list[dict[str, Any]]]


class SwarmError(Exception):
    """No manager answered."""


@dataclass(frozen=True)
class Nodes:
    """Node -> address.

    hosting: those that are ready and have a task. away: those that the swarm has lost and that nobody drained; they
    host nothing, but they haven't departed.
    """

    hosting: Mapping[str, str]
    away: Mapping[str, str]

    @property
    def all(self) -> dict[str, str]:
        """Those that are to be asked."""
        return {**self.away, **self.hosting}


def _address(node: Mapping[str, Any]) -> str:
    """A node's own address; the leader may see itself as 0.0.0.0."""
    seen = str(node["Status"].get("Addr", ""))
    manager = str(node.get("ManagerStatus", {}).get("Addr", ""))
    return manager.rpartition(":")[0] or seen


def _named(nodes: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Without those that have no name: they never got as far as telling the swarm what they are."""
    names = ((node.get("Description", {}).get("Hostname"), node) for node in nodes)
    return {str(name): _address(node) for name, node in names if name}


def nodes_of(nodes: Sequence[Mapping[str, Any]], tasks: Iterable[Mapping[str, Any]]) -> Nodes:
    """The nodes that matter to the stack. nodes, tasks: as the engine's API tells them."""
    hosts = {task.get("NodeID") for task in tasks if task.get("DesiredState") == "running"}
    ready = [node for node in nodes if node["Status"]["State"] == "ready"]
    lost = [node for node in nodes if node not in ready and node["Spec"]["Availability"] == "active"]
    # A machine that joined anew is in the list a second time, under its old id.
    names = _named(ready)
    away = {name: address for name, address in _named(lost).items() if name not in names}
    return Nodes(_named(node for node in ready if node["ID"] in hosts), away)


def ask(url: str, settings: Settings) -> Answer:
    """A manager's answer through its reader. Raises DockerException or requests.RequestException."""
    place = settings.certificates
    tls = TLSConfig(
        client_cert=(str(place / "client.crt"), str(place / "client.key")),
        ca_cert=str(place / "ca.crt"),
        verify=True,
    )
    client = docker.APIClient(base_url=url, tls=tls, timeout=settings.patience_seconds * 5)
    try:
        filters = {"label": f"com.docker.stack.namespace={settings.stack}", "desired-state": "running"}
        return client.nodes(), client.tasks(filters=filters)
    finally:
        client.close()


class Swarm:
    """The swarm's managers: the one that answered last is asked first."""

    def __init__(
        self, settings: Settings, troubles: Troubles, ask_one: Callable[[str, Settings], Answer] = ask
    ) -> None:
        self._settings = settings
        self._troubles = troubles
        self._ask = ask_one
        self._managers = list(settings.managers)

    def nodes(self) -> Nodes:
        """Ask one manager after the other. Raises SwarmError when none answers."""
        for manager in list(self._managers):
            try:
                nodes, tasks = self._ask(manager, self._settings)
            except (DockerException, requests.RequestException) as error:
                self._troubles.begin("manager", manager, reason(error))
                self._managers.remove(manager)
                self._managers.append(manager)
                continue
            self._troubles.over("manager", manager)
            return nodes_of(nodes, tasks)
        raise SwarmError("no manager answers")


def reason(error: BaseException) -> str:
    """Why something failed, in a few words that are the same each time: without an object's place in memory."""
    cause: BaseException = error
    while True:
        inner = getattr(cause, "reason", None) or next(iter(cause.args), None)
        if not isinstance(inner, BaseException):
            break
        cause = inner
    text = str(cause)
    return text.partition(" object at 0x")[2].partition(": ")[2] or text
