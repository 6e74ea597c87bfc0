#!/usr/bin/python
"""Ansible module: deploy a stack from its fragments and see it through."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_stack
short_description: Deploy a stack from its fragments, and wait until it runs as wanted
description:
  - >-
    Deploys the fragments of a directory (C(*.yml), all or some) as one stack, and waits until each service that
    it touched runs in its newest version.
  - >-
    Only services that are missing, whose definition is another one, or whose rollout ended without it, are handed to
    the swarm: the others keep what a rollback would go back to, and a job runs once per definition, and again only
    if it failed. The definition that a service runs is told by its label C(forum.definition), which goes back with it
    when the swarm or an operator rolls it back.
  - >-
    Replicas that C(forum-scale) gave a service, which its labels C(forum.scale.*) tell, are kept, within the bounds
    that its definition gives.
  - >-
    Changed services are deployed together, except members of a tier (services NAME-NUMBER of one task) that exist
    already: these follow one after the other, each when the one before it is done.
  - >-
    A rollout that the swarm rolls back, or that takes too long, fails with the service, the tasks' errors and
    their last lines. What comes after it stays as it was.
  - >-
    With all fragments, also removes the services that none declares any more. Always removes the stack's secrets
    and configs that no fragment names and no service uses, not even for a rollback.
attributes:
  check_mode:
    support: full
    description: Can run in check mode without changing anything.
  diff_mode:
    support: full
    description: Tells which services change, and why; never a value.
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  fragments_dir:
    description: >-
      Directory of the fragments. A record of what was seen through is kept in it, so that what a run left under way is
      waited for by the next one.
    type: path
    required: true
  fragments:
    description: Names of the fragments to deploy, without C(.yml); all of them when empty.
    type: list
    elements: str
    default: []
  expected:
    description:
      - Names of all fragments that the stack has, without C(.yml). When all are deployed, other files are removed.
      - While one of these is missing no service is removed; the directory may be that of a new manager.
      - When empty, every file belongs to the stack.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds that each step of the rollout may take.
    type: int
    default: 600
requirements:
  - Docker SDK for Python
  - Docker CLI 20.10 or newer, on a manager
author:
  - Misago on a swarm
"""

EXAMPLES = r"""
- name: Deploy the forum
  swarm_stack:
    name: forum
    fragments_dir: /etc/forum/stack.d
    expected: [postgres, misago, nginx]
"""

RETURN = r"""
services:
  description: Running and wanted tasks of every service of the fragments.
  returned: always
  type: dict
  sample: {forum_nginx: 3/3}
deployed:
  description: Services that were handed to the swarm (in check mode would be), each with the reason.
  returned: always
  type: dict
  sample: {forum_nginx: has another definition}
removed:
  description: Fragments, services, secrets and configs that were removed (in check mode would be).
  returned: always
  type: list
  elements: str
  sample: [forum_redis_redis.conf_0123456789ab]
"""

import json
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stack_definitions import MARK, Definition, compose, definitions, mark, steps
from ansible.module_utils.swarm_services import (
    Progress,
    progress,
    reason_to_deploy,
    remedy,
    used_names,
)

try:
    import docker
    import requests
except ImportError:
    docker = None

RECORD = ".deployed"
LABEL = "forum.stack"


class Stack:
    """A stack on the swarm of the local engine."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.name: str = module.params["name"]
        self.directory = Path(module.params["fragments_dir"])
        self.chosen: list[str] = module.params["fragments"]
        self.expected: list[str] = module.params["expected"]
        self.api = docker.APIClient(version="auto")
        self.fragments: dict[str, dict[str, Any]] = {
            path.stem: yaml.safe_load(path.read_text()) for path in sorted(self.directory.glob("*.yml"))
        }
        #: Of the fragments to deploy: name of a service in the swarm -> its definition, and the mark of that.
        self.wanted: dict[str, Definition] = definitions(
            self.name,
            (
                fragment
                for name, fragment in self.fragments.items()
                if name not in self.strangers() and (not self.chosen or name in self.chosen)
            ),
        )
        self.marks = {name: mark(definition) for name, definition in self.wanted.items()}

    def strangers(self) -> list[str]:
        """Names of the fragments that belong to the stack no more."""
        if self.chosen or not self.expected:
            return []
        return sorted(set(self.fragments) - set(self.expected))

    def services(self) -> dict[str, dict[str, Any]]:
        """All services of the stack by their names, as the swarm knows them."""
        label = f"com.docker.stack.namespace={self.name}"
        return {service["Spec"]["Name"]: service for service in self.api.services(filters={"label": label})}

    def tasks(self, service: Mapping[str, Any]) -> list[dict[str, Any]]:
        """All tasks of a service, also those that ended."""
        found: list[dict[str, Any]] = self.api.tasks(filters={"service": service["ID"]})
        return found

    def reasons(self) -> dict[str, str]:
        """The services that must be deployed, each with the reason."""
        services = self.services()
        reasons: dict[str, str] = {}
        for name, value in self.marks.items():
            service = services.get(name)
            tasks = self.tasks(service) if service else []
            if reason := reason_to_deploy(service, tasks, MARK, value):
                reasons[name] = reason
        return reasons

    def undeclared(self) -> list[str]:
        """Services that no fragment declares any more."""
        if self.chosen or not self.wanted:
            return []
        found = sorted(set(self.services()) - set(self.marks))
        if found and (missing := sorted(set(self.expected) - set(self.fragments))):
            self.module.warn(
                f"{', '.join(found)} would be removed, but {self.directory} lacks the fragments "
                f"{', '.join(missing)}: run site.yml --tags stack, which writes all of them"
            )
            return []
        return found

    def missing_images(self, names: Iterable[str]) -> list[str]:
        """Images of these services that this node doesn't hold; the other nodes were given the same."""
        wanted = {
            str(service["image"]) for name in names for service in self.wanted[name]["services"].values()
        }
        held = {tag for image in self.api.images() for tag in image.get("RepoTags") or []}
        return sorted(wanted - held)

    def deploy(self, names: Iterable[str]) -> None:
        """Hand these services to the swarm; the images are on the nodes already.

        They are resolved to digests here, once: a node that holds the image of a digest starts a task without
        asking the registry, which may be away when the task fails over.
        """
        options = [
            "--detach=true",
            "--with-registry-auth",
            "--resolve-image",
            "changed",
            "--compose-file",
            "-",
        ]
        parts = {name: self.wanted[name] for name in names}
        code, out, err = self.module.run_command(
            ["docker", "stack", "deploy", *options, self.name], data=compose(parts, self.services())
        )
        if code:
            error = err.strip() or out.strip()
            self.module.fail_json(
                msg=f"The swarm refuses the stack {self.name}: {error}. Remedy: {remedy(error)}."
            )

    def progress(self, names: Iterable[str]) -> list[Progress]:
        """How far each of these services is that the swarm has."""
        services = self.services()
        nodes = sum(
            node["Status"]["State"] == "ready" and node["Spec"]["Availability"] == "active"
            for node in self.api.nodes()
        )
        return [
            progress(services[name], self.tasks(services[name]), nodes) for name in names if name in services
        ]

    def last_lines(self, service: str) -> str:
        """The last lines that a service wrote."""
        code, out, err = self.module.run_command(
            ["docker", "service", "logs", "--raw", "--tail", "15", service]
        )
        return (out + err).strip()[-3000:] if code == 0 else ""

    def wait(self, names: Collection[str]) -> None:
        """Wait until these services are done. Ends the module when one fails for good, or time is up."""
        end, calm = time.monotonic() + self.module.params["timeout"], 0
        # Twice in a row: a task that dies at once is running for a moment.
        while calm < 2:
            states = self.progress(names)
            faults = [state for state in states if state.fault]
            late = [state for state in states if not state.done]
            if faults or (late and time.monotonic() > end):
                self.fail(faults or late, bool(faults))
            calm = 0 if late else calm + 1
            time.sleep(1)

    def fail(self, states: list[Progress], for_good: bool) -> None:
        """End the module, naming what hinders the rollout."""
        reason = "failed" if for_good else f"not done after {self.module.params['timeout']} s"
        logs = {state.service: self.last_lines(state.service) for state in states}
        self.module.fail_json(
            msg=f"The rollout of {self.name} {reason}: {', '.join(map(str, states))}.\n"
            + "\n".join(f"Last lines of {name}:\n{lines}" for name, lines in logs.items() if lines),
            services={state.service: f"{state.running}/{state.wanted}" for state in states},
        )

    def unused(self) -> list[tuple[str, str]]:
        """Kind and name of the secrets and configs of this stack that nothing needs any more."""
        services = self.api.services()
        found: list[tuple[str, str]] = []
        for kind, existing in (("Secrets", self.api.secrets()), ("Configs", self.api.configs())):
            ours = {
                x["Spec"]["Name"] for x in existing if (x["Spec"].get("Labels") or {}).get(LABEL) == self.name
            }
            # What a fragment names was published for a deploy that is still to come.
            named = {
                name
                for fragment, content in self.fragments.items()
                if fragment not in self.strangers()
                for name in content.get(kind.lower()) or {}
            }
            found += [(kind, name) for name in sorted(ours - used_names(services, kind) - named)]
        return found

    def remove_unused(self, unused: Iterable[tuple[str, str]]) -> None:
        """Remove secrets and configs by kind and name."""
        for kind, name in unused:
            if kind == "Secrets":
                self.api.remove_secret(name)
            else:
                self.api.remove_config(name)

    def remove_undeclared(self, services: Iterable[str]) -> None:
        """Remove services, and the fragments that belong to the stack no more."""
        for name in services:
            self.api.remove_service(name)
        for name in self.strangers():
            (self.directory / f"{name}.yml").unlink()

    def read_record(self) -> dict[str, str]:
        """Service -> mark of what it was last seen to run; empty when there is no record that can be read."""
        try:
            record = json.loads((self.directory / RECORD).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {str(name): str(value) for name, value in record.items()}

    def write_record(self, record: Mapping[str, str]) -> None:
        """Note what was seen to run."""
        path = self.directory / RECORD
        path.with_suffix(".new").write_text(json.dumps(record, indent=1))
        path.with_suffix(".new").replace(path)

    def roll_out(self, changed: Collection[str]) -> None:
        """Deploy what changed and wait for it, and for what an earlier run left under way."""
        record = {
            name: value for name, value in self.read_record().items() if self.chosen or name in self.wanted
        }
        pending = {
            name: definition
            for name, definition in self.wanted.items()
            if name in changed or record.get(name) != self.marks[name]
        }
        for group in steps(pending, changed, self.services()):
            if deployed := [name for name in group if name in changed]:
                # Whatever ends this run now, the next one knows that these weren't seen to run.
                record = {name: value for name, value in record.items() if name not in deployed}
                self.write_record(record)
                self.deploy(deployed)
            self.wait(group)
            record |= {name: self.marks[name] for name in group}
            self.write_record(record)


def run(module: AnsibleModule) -> None:
    """Compare, deploy, remove, report. Raises what the Docker SDK raises."""
    stack = Stack(module)
    # A dry run on a new system: the fragments that would be deployed are not written yet.
    if not stack.wanted and not module.check_mode:
        module.fail_json(msg=f"{stack.directory} holds no fragment: run the components' roles first")
    reasons, undeclared, strangers = stack.reasons(), stack.undeclared(), stack.strangers()
    if not module.check_mode:
        if missing := stack.missing_images(reasons):
            module.fail_json(
                msg=f"The nodes don't hold {', '.join(missing)}: run site.yml --tags images, then this again. "
                "The running stack is as it was."
            )
        # First, since they may hold a port or a place that a new one needs.
        stack.remove_undeclared(undeclared)
        stack.roll_out(reasons)
    unused = stack.unused()
    if not module.check_mode:
        stack.remove_unused(unused)
    touched = {**reasons, **dict.fromkeys(undeclared, "is declared by no fragment")}
    module.exit_json(
        changed=bool(not stack.wanted or touched or strangers or unused),
        services={state.service: f"{state.running}/{state.wanted}" for state in stack.progress(stack.wanted)},
        deployed=reasons,
        removed=[*strangers, *undeclared, *(name for _kind, name in unused)],
        diff={
            "before": "".join(f"{name} {reason}\n" for name, reason in touched.items()),
            "after": "".join(f"{name} {stack.marks.get(name, 'is removed')}\n" for name in touched),
        },
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "fragments_dir": {"type": "path", "required": True},
            "fragments": {"type": "list", "elements": "str", "default": []},
            "expected": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    if docker is None:
        module.fail_json(msg="The Docker SDK for Python is missing: install python3-docker")
    try:
        run(module)
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        module.fail_json(
            msg=f"The swarm can't be asked: {error}. Remedy: {remedy(str(error))}. "
            "Then run this again, it goes on from there."
        )


if __name__ == "__main__":
    main()
