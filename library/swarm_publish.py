#!/usr/bin/python
"""Ansible module: secrets and configs of the swarm, with no other labels than wanted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_publish
short_description: Publish secrets and configs to the swarm
description:
  - Creates those that aren't there. A name is taken to tell its content (a versioned name), so that what is there is
    never made anew.
  - Keeps the labels as they are wanted, also those of what is in use.
  - Unlike C(community.docker.docker_secret) it leaves no hash of a secret in a label, where everybody on a manager
    could try passwords against it; and it takes all that a component has at once, where a loop over
    C(community.docker.docker_config) takes most of a second for each.
attributes:
  check_mode:
    support: full
    description: Can run in check mode without changing anything.
  diff_mode:
    support: none
    description: A new content has a new name, which is among the results; a secret has nothing to show.
options:
  secrets:
    description: Values by their versioned names; never shown.
    type: dict
    default: {}
  configs:
    description: Contents by their versioned names.
    type: dict
    default: {}
  labels:
    description: All labels of each; others are removed.
    type: dict
    default: {}
requirements:
  - Docker SDK for Python
  - A manager's engine
author:
  - Misago on a swarm
"""

EXAMPLES = r"""
- name: Publish what Redis needs
  swarm_publish:
    secrets:
      forum_redis_redis_password_0123456789ab: "{{ redis_password }}"
    configs:
      forum_redis_redis.conf_ba9876543210: "{{ lookup('ansible.builtin.template', 'redis.conf.j2') }}"
    labels:
      forum.stack: forum
"""

RETURN = r"""
published:
  description: Names of those that were created or got other labels; in a dry run, that would.
  returned: success
  type: list
  elements: str
  sample: [forum_redis_redis_password_0123456789ab]
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

try:
    import docker
    from docker.errors import DockerException
except ImportError:
    docker = None
    DockerException = Exception

KINDS = ("secrets", "configs")


def set_labels(api: Any, kind: str, item: Mapping[str, Any], labels: Mapping[str, str]) -> None:
    """Give a secret or config other labels, the only thing about it that can change. The SDK has no function for it."""
    response = api._post_json(
        api._url(f"/{kind}/{{0}}/update", item["ID"]),
        data={**item["Spec"], "Labels": dict(labels)},
        params={"version": item["Version"]["Index"]},
    )
    api._raise_for_status(response)


def publish(
    api: Any, kind: str, wanted: Mapping[str, str], labels: Mapping[str, str], *, dry: bool
) -> list[str]:
    """Have every secret or config with these labels; returns the names of those for which that is a change.

    kind: secrets or configs; wanted: contents by name; dry: only tell.
    Raises DockerException, with the name in a note, for what the swarm refuses.
    """
    if not wanted:
        return []
    there = {item["Spec"]["Name"]: item for item in getattr(api, kind)()}
    create = {"secrets": api.create_secret, "configs": api.create_config}[kind]
    changed = []
    for name, content in wanted.items():
        item = there.get(name)
        if item and (item["Spec"].get("Labels") or {}) == labels:
            continue
        changed.append(name)
        if dry:
            continue
        try:
            if item:
                set_labels(api, kind, item, labels)
            else:
                create(name, content, labels=dict(labels))
        except DockerException as error:
            error.add_note(f"The swarm refuses {name} ({kind})")
            raise
    return changed


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "configs": {"type": "dict", "default": {}},
            "labels": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    if docker is None:
        module.fail_json(msg="The Docker SDK for Python is missing: install python3-docker")
    labels = {str(key): str(value) for key, value in module.params["labels"].items()}
    published: list[str] = []
    try:
        api = docker.APIClient(version="auto")
        for kind in KINDS:
            contents = {name: str(content) for name, content in module.params[kind].items()}
            published += publish(api, kind, contents, labels, dry=module.check_mode)
    except DockerException as error:
        module.fail_json(msg=": ".join([*getattr(error, "__notes__", []), str(error)]))
    module.exit_json(changed=bool(published), published=published)


if __name__ == "__main__":
    main()
