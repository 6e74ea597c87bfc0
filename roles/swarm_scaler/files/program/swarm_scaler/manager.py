"""The swarm, by way of this manager's engine."""

from __future__ import annotations

from typing import Any

import docker
from docker.errors import APIError

from .judge import Attributes, Step, Swarm, Verdict, changed, judge

#: How often another change may come first.
_TRIES = 5
#: What the swarm answers when the service has changed since it was read.
_OUT_OF_SEQUENCE = "out of sequence"


class UnknownServiceError(LookupError):
    """There is no such service."""


class Manager:
    """Raises docker.errors.DockerException, of a machine that manages no swarm as well, and requests' errors."""

    def __init__(self, stack: str) -> None:
        self._stack = stack
        self._api = docker.APIClient(version="auto", timeout=20)

    def read(self, name: str) -> Swarm:
        """What the swarm says of a service, named without the stack's name. Raises UnknownServiceError."""
        known_as = f"{self._stack}_{name}"
        found = [
            one for one in self._api.services(filters={"name": known_as}) if one["Spec"]["Name"] == known_as
        ]
        if not found:
            raise UnknownServiceError(f"the stack {self._stack} has no service {name}")
        return Swarm(found[0], self._api.nodes(), self._api.tasks())

    def take(self, name: str, step: Step, *, dry: bool) -> Verdict:
        """Have a service take a step, under the version that was judged: if another change comes first, that is judged.

        dry: only judge. Raises UnknownServiceError.
        """
        for _ in range(_TRIES):
            swarm = self.read(name)
            verdict = judge(swarm, step)
            if dry or verdict.refused or verdict.wanted == verdict.before:
                return verdict
            if self._update(swarm.service, changed(swarm.service, verdict, step)):
                return verdict
        return Verdict(verdict.before, verdict.before, f"others changed it {_TRIES} times meanwhile")

    def _update(self, service: Attributes, spec: dict[str, Any]) -> bool:
        """Whether the swarm took it. The SDK's own update writes defaults into the tasks' specification: a rollout."""
        api = self._api
        answer = api.post(
            f"{api.base_url}/v{api.api_version}/services/{service['ID']}/update",
            params={"version": service["Version"]["Index"]},
            json=spec,
            timeout=20,
        )
        if not answer.ok and _OUT_OF_SEQUENCE in answer.text:
            return False
        if not answer.ok:
            raise APIError("the swarm refuses the step", response=answer, explanation=answer.text.strip())
        return True
