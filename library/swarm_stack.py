#!/usr/bin/python
"""Ansible module: deploy a stack from its fragments and see it through."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_stack
short_description: Deploy a stack from its fragments, and wait until it runs as wanted
description:
  - >-
    Deploys the fragments of a directory (C(*.yml), all or some) as one stack, and waits until each service runs in
    its newest version.
  - >-
    A rollout that the swarm rolls back, or that takes too long, fails with the service, the tasks' errors and
    their last lines.
  - >-
    With all fragments, also removes the services that none declares any more, and the stack's secrets and
    configs that no service uses, not even for a rollback.
  - Does nothing when the fragments are those that were deployed last and every service exists.
attributes:
  check_mode:
    support: full
    description: Can run in check mode without changing anything.
  diff_mode:
    support: full
    description: Tells which fragments changed.
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  fragments_dir:
    description: Directory of the fragments. The record of what was deployed is kept in it.
    type: path
    required: true
  fragments:
    description: Names of the fragments to deploy, without C(.yml); all of them when empty.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds that the rollout may take.
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
"""

RETURN = r"""
services:
  description: Running and wanted tasks of every service.
  returned: always
  type: dict
  sample: {forum_nginx: 3/3}
removed:
  description: Secrets and configs that nothing used any more.
  returned: always
  type: list
  elements: str
  sample: [forum_redis_redis.conf_0123456789ab]
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.swarm_services import Progress, progress, used_names

try:
    import docker
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
        self.api = docker.APIClient(version="auto")

    def fragments(self) -> list[Path]:
        """The fragments to deploy, in the order of their names."""
        return sorted(
            path for path in self.directory.glob("*.yml") if not self.chosen or path.stem in self.chosen
        )

    def hashes(self) -> dict[str, str]:
        """File name -> hash of its content."""
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.fragments()}

    def record(self) -> dict[str, str]:
        """What was deployed last; empty when nothing was, or when the record can't be read."""
        try:
            record = json.loads((self.directory / RECORD).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {str(name): str(digest) for name, digest in record.items()}

    def recorded(self) -> dict[str, str]:
        """What was deployed last, of the fragments that are to be deployed now."""
        if not self.chosen:
            return self.record()
        return {name: digest for name, digest in self.record().items() if Path(name).stem in self.chosen}

    def declared(self) -> set[str]:
        """Names of the services that the fragments declare."""
        names: set[str] = set()
        for path in self.fragments():
            names.update(f"{self.name}_{service}" for service in yaml.safe_load(path.read_text())["services"])
        return names

    def services(self) -> list[dict[str, Any]]:
        """All services of the stack, as the swarm knows them."""
        label = f"com.docker.stack.namespace={self.name}"
        found: list[dict[str, Any]] = self.api.services(filters={"label": label})
        return found

    def missing_images(self) -> list[str]:
        """Images of the fragments that this node doesn't hold; the other nodes were given the same."""
        wanted = {
            str(service["image"])
            for path in self.fragments()
            for service in yaml.safe_load(path.read_text())["services"].values()
        }
        held = {tag for image in self.api.images() for tag in image.get("RepoTags") or []}
        return sorted(wanted - held)

    def deploy(self) -> None:
        """Hand the fragments to the swarm; the images are on the nodes already."""
        command = [
            "docker",
            "stack",
            "deploy",
            "--detach=true",
            "--with-registry-auth",
            "--resolve-image",
            "never",
        ]
        if not self.chosen:
            command.append("--prune")
        for path in self.fragments():
            command += ["--compose-file", str(path)]
        code, out, err = self.module.run_command([*command, self.name])
        if code:
            self.module.fail_json(
                msg=f"The swarm refuses the stack {self.name}: {err.strip() or out.strip()}"
            )

    def progress(self) -> list[Progress]:
        """How far each declared service is."""
        declared = self.declared()
        nodes = sum(
            node["Status"]["State"] == "ready" and node["Spec"]["Availability"] == "active"
            for node in self.api.nodes()
        )
        return [
            progress(service, self.api.tasks(filters={"service": service["ID"]}), nodes)
            for service in self.services()
            if service["Spec"]["Name"] in declared
        ]

    def last_lines(self, service: str) -> str:
        """The last lines that a service wrote."""
        code, out, err = self.module.run_command(
            ["docker", "service", "logs", "--raw", "--tail", "15", service]
        )
        return (out + err).strip()[-3000:] if code == 0 else ""

    def wait(self, timeout: float) -> list[Progress]:
        """Wait until every service is done. Ends the module when one fails for good, or time is up."""
        end, calm = time.monotonic() + timeout, 0
        while True:
            states = self.progress()
            faults = [state for state in states if state.fault]
            late = [state for state in states if not state.done]
            if faults or (late and time.monotonic() > end):
                self.fail(faults or late, bool(faults))
            calm = 0 if late else calm + 1
            # Twice in a row: a task that dies at once is running for a moment.
            if calm >= 2:
                return states
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
        """Kind and name of the secrets and configs of this stack that no service uses."""
        services = self.services()
        found: list[tuple[str, str]] = []
        for kind, existing in (("Secrets", self.api.secrets()), ("Configs", self.api.configs())):
            ours = [
                x["Spec"]["Name"] for x in existing if (x["Spec"].get("Labels") or {}).get(LABEL) == self.name
            ]
            found += [(kind, name) for name in sorted(set(ours) - used_names(services, kind))]
        return found

    def remove(self, unused: list[tuple[str, str]]) -> None:
        """Remove secrets and configs by name."""
        for kind, name in unused:
            if kind == "Secrets":
                self.api.remove_secret(name)
            else:
                self.api.remove_config(name)

    def write_record(self, hashes: dict[str, str]) -> None:
        """Note what runs now."""
        path = self.directory / RECORD
        record = {**self.record(), **hashes} if self.chosen else hashes
        path.with_suffix(".new").write_text(json.dumps(record, indent=1))
        path.with_suffix(".new").replace(path)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "fragments_dir": {"type": "path", "required": True},
            "fragments": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    if docker is None:
        module.fail_json(msg="The Docker SDK for Python is missing: install python3-docker")
    stack = Stack(module)
    wanted, recorded = stack.hashes(), stack.recorded()
    # A dry run on a new system: the fragments that would be deployed are not written yet.
    if not wanted and not module.check_mode:
        module.fail_json(msg=f"{stack.directory} holds no fragment: run the components' roles first")
    existing = {service["Spec"]["Name"] for service in stack.services()}
    changed = not wanted or wanted != recorded or not stack.declared() <= existing
    states: list[Progress] = []
    unused: list[tuple[str, str]] = []
    if changed and not module.check_mode:
        if missing := stack.missing_images():
            module.fail_json(
                msg=f"The nodes don't hold {', '.join(missing)}: run site.yml --tags images, then this again. "
                "The running stack is as it was."
            )
        stack.deploy()
        states = stack.wait(module.params["timeout"])
        unused = [] if stack.chosen else stack.unused()
        stack.remove(unused)
        stack.write_record(wanted)
    module.exit_json(
        changed=changed,
        services={state.service: f"{state.running}/{state.wanted}" for state in states or stack.progress()},
        removed=[name for _kind, name in unused],
        diff={
            "before": json.dumps(recorded, indent=1, sort_keys=True),
            "after": json.dumps(wanted, indent=1, sort_keys=True),
        },
    )


if __name__ == "__main__":
    main()
