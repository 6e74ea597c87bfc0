#!/usr/bin/python
"""Ansible module: a secret of the swarm, with no other labels than wanted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_secret
short_description: Publish a secret to the swarm
description:
  - Creates a secret that isn't there. Its name is taken to tell its content (a versioned name), so that one that is
    there is never made anew.
  - Keeps the labels as they are wanted, also those of a secret that is in use.
  - Unlike C(community.docker.docker_secret) it leaves no hash of the value in a label, where everybody on a manager
    could try passwords against it.
attributes:
  check_mode:
    support: full
    description: Can run in check mode without changing anything.
  diff_mode:
    support: none
    description: There is nothing to show but the value.
options:
  name:
    description: Name of the secret, another one for every content.
    type: str
    required: true
  data:
    description: Value of the secret; never shown.
    type: str
    required: true
  labels:
    description: All labels of the secret; others are removed.
    type: dict
    default: {}
requirements:
  - Docker SDK for Python
  - A manager's engine
author:
  - Misago on a swarm
"""

EXAMPLES = r"""
- name: Publish the password of Redis
  swarm_secret:
    name: forum_redis_redis_password_0123456789ab
    data: "{{ redis_password }}"
    labels:
      forum.stack: forum
"""

RETURN = r"""
secret_id:
  description: The identity that the swarm gave the secret; empty where a dry run would create it.
  returned: success
  type: str
  sample: hzehrmyjigmcp2gb6nlhmjqcv
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

try:
    import docker
    from docker.errors import DockerException
except ImportError:
    docker = None
    DockerException = Exception


def find(api: Any, name: str) -> dict[str, Any] | None:
    """What the swarm knows about the secret of exactly this name; None where there is none."""
    # The filter also finds names that only begin so.
    found: list[dict[str, Any]] = api.secrets(filters={"name": name})
    return next((secret for secret in found if secret["Spec"]["Name"] == name), None)


def set_labels(api: Any, secret: dict[str, Any], labels: dict[str, str]) -> None:
    """Give a secret other labels, the only thing about it that can change. The SDK has no function for it."""
    response = api._post_json(
        api._url("/secrets/{0}/update", secret["ID"]),
        data={**secret["Spec"], "Labels": labels},
        params={"version": secret["Version"]["Index"]},
    )
    api._raise_for_status(response)


def publish(api: Any, name: str, data: str, labels: dict[str, str], *, dry: bool) -> tuple[bool, str]:
    """Have the secret with these labels. dry: only tell. Returns whether that is a change, and its identity."""
    secret = find(api, name)
    if secret is None:
        return True, "" if dry else str(api.create_secret(name, data, labels=labels)["ID"])
    changed = (secret["Spec"].get("Labels") or {}) != labels
    if changed and not dry:
        set_labels(api, secret, labels)
    return changed, str(secret["ID"])


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "data": {"type": "str", "required": True, "no_log": True},
            "labels": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    if docker is None:
        module.fail_json(msg="The Docker SDK for Python is missing: install python3-docker")
    name, labels = module.params["name"], module.params["labels"]
    try:
        changed, identity = publish(
            docker.APIClient(version="auto"),
            name,
            module.params["data"],
            {str(key): str(value) for key, value in labels.items()},
            dry=module.check_mode,
        )
    except DockerException as error:
        module.fail_json(msg=f"The swarm refuses the secret {name}: {error}")
    module.exit_json(changed=changed, secret_id=identity)


if __name__ == "__main__":
    main()
