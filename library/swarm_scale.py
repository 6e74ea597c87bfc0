#!/usr/bin/python
"""Ansible module: one step up or down for a service of the stack."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_scale
short_description: Let a service of the stack take one step up or down
description:
  - >-
    Runs C(forum-scale) on a manager, with sudo where it isn't root's. That judges the step from what the swarm says,
    and changes the service under the version that it judged, so that of two steps at once one is refused.
  - >-
    A step that is refused is no failure: C(refused) tells why. It fails where the swarm can't be asked.
attributes:
  check_mode:
    support: full
    description: Judges the step, and changes nothing.
  diff_mode:
    support: full
    description: Tells the replicas before and after.
options:
  service:
    description: Name of the service, without the stack's.
    type: str
    required: true
  by:
    description: 1 for a replica more, -1 for one less.
    type: int
    choices: [1, -1]
    required: true
  action:
    description: >-
      What the step is known by; the same one again changes nothing. Empty for a step that isn't to be known again.
    type: str
    default: ""
requirements:
  - The role swarm_scaler on this manager
author:
  - Misago on a swarm
"""

EXAMPLES = r"""
- name: Have one nginx more
  swarm_scale:
    service: nginx
    by: 1
"""

RETURN = r"""
service:
  description: Name of the service.
  returned: success
  type: str
before:
  description: Replicas that were wanted.
  returned: success
  type: int
wanted:
  description: Replicas that are wanted now (in check mode would be).
  returned: success
  type: int
repeated:
  description: Whether a step of this name was the last one, so that there was nothing to do.
  returned: success
  type: bool
refused:
  description: Why the step is refused, empty where it isn't.
  returned: success
  type: str
  sample: "it has 3 replicas and may have 2 to 3"
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule

PROGRAM = "/usr/local/sbin/forum-scale"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "service": {"type": "str", "required": True},
            "by": {"type": "int", "required": True, "choices": [1, -1]},
            "action": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    asked = module.params
    command = [PROGRAM, asked["service"], str(asked["by"]), "--action", asked["action"]]
    if module.check_mode:
        command.append("--dry")
    if os.geteuid() != 0:
        command[:0] = ["sudo", "-n"]
    _, out, err = module.run_command(command)
    try:
        told = json.loads(out)
    except ValueError:
        said = err.strip() or out.strip()
        module.fail_json(
            msg=f"{PROGRAM} can't be run: {said}. Remedy: site.yml --tags swarm_scaler installs it."
        )
    if error := told.get("error"):
        module.fail_json(msg=error)
    diff = {state: f"{asked['service']}: {told[state]} replicas\n" for state in ("before", "wanted")}
    module.exit_json(**told, diff={"before": diff["before"], "after": diff["wanted"]})


if __name__ == "__main__":
    main()
