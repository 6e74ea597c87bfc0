#!/usr/bin/python
"""Ansible module: the blocklist of an edge node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_blocklist
short_description: Block and allow addresses at an edge node, and bring its list up to date
description:
  - Calls the program of the role C(ip_blocklist) on an edge node, by C(sudo) where it isn't root itself. What is an
    address, who is never blocked and for how long a block lasts is the program's to say.
  - What the program refuses is no failure; the result tells it.
  - >-
    A block of an address that is blocked counts as the same offence, and begins anew. The same O(at) again changes
    nothing.
attributes:
  check_mode:
    support: full
    description: Can run in check mode without changing anything.
  diff_mode:
    support: full
    description: Tells the entry of the address, or the addresses of which the list learned.
options:
  state:
    description:
      - C(blocked) and C(allowed) are about O(address).
      - C(merged) takes up what O(entries) has that came later than what this node's list has.
      - C(listed) changes nothing.
    type: str
    choices: [blocked, allowed, merged, listed]
    default: listed
  address:
    description: A single address of IPv4 or IPv6.
    type: str
  at:
    description:
      - When the address was reported or allowed, in UTC as in 2026-11-26T20:00:00.000Z; now, when it is left out.
      - The same for all nodes, so that their lists are the same afterwards.
    type: str
  seconds:
    description: How long it is blocked, instead of what its offences make of it.
    type: int
  reason:
    description: Why, for those who read the list.
    type: str
    default: ""
  by:
    description: Who asked for it.
    type: str
    default: ""
  entries:
    description: Entries of other nodes' lists, as this module returns them.
    type: list
    elements: dict
    default: []
author:
  - Misago on a swarm
"""

EXAMPLES = r"""
- name: Block an address for as long as its offences make it
  edge_blocklist:
    state: blocked
    address: 192.0.2.77
    reason: 8 wrong logins within 30 s
"""

RETURN = r"""
refused:
  description: Why the program didn't do it; empty when it did.
  returned: always
  type: str
  sample: "192.0.2.11 is never blocked: the settings allow it (192.0.2.11)"
entry:
  description: What the list says of the address now; in a dry run, what it would say.
  returned: with O(state=blocked) and O(state=allowed), unless it was refused
  type: dict
  sample:
    address: 192.0.2.77
    at: "2026-11-26T20:00:00.000Z"
    until: "2026-11-26T20:15:00.000Z"
    offences: 1
    reason: 8 wrong logins within 30 s
    by: forum-wrong-logins
    seconds_left: 900
entries:
  description: The whole list; of an address whose block is over it remembers the offences.
  returned: with O(state=merged) and O(state=listed)
  type: list
  elements: dict
dropped:
  description: Packets that were dropped since the table was made, by the version of IP; empty when there is no table.
  returned: with O(state=listed)
  type: dict
  sample: {ipv4: 12, ipv6: 0}
learned:
  description: Addresses of which the list learned something.
  returned: with O(state=merged)
  type: list
  elements: str
ignored:
  description: What was wrong with entries that weren't taken up.
  returned: with O(state=merged)
  type: list
  elements: str
checksum:
  description: The same on two nodes whose lists are the same.
  returned: unless it was refused
  type: str
  sample: 2a09e892
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

PROGRAM = "/usr/local/sbin/forum-blocklist"
COMMANDS = {"blocked": "block", "allowed": "allow", "merged": "merge", "listed": "list"}


def command(params: Mapping[str, Any], *, root: bool, dry: bool) -> list[str]:
    """The command line of the program. params: the module's; root: whether it may be called without C(sudo)."""
    state = params["state"]
    line = [] if root else ["sudo", "-n"]
    line += [PROGRAM, COMMANDS[state]]
    if state in ("blocked", "allowed"):
        # One by one with =: what begins with a dash is a value, too.
        line += [f"--{name}={params[name]}" for name in ("at", "reason", "by") if params[name]]
        if state == "blocked" and params["seconds"] is not None:
            line.append(f"--seconds={params['seconds']}")
    if dry and state != "listed":
        line.append("--dry-run")
    return [*line, "--", params["address"]] if state in ("blocked", "allowed") else line


def shown(entry: Mapping[str, Any] | None) -> str:
    """An entry as a line of the diff, without what changes by itself."""
    if entry is None:
        return ""
    fields = {name: value for name, value in entry.items() if name != "seconds_left"}
    return json.dumps(fields) + "\n"


def difference(answer: Mapping[str, Any]) -> dict[str, str]:
    """What the program changed, as Ansible shows it."""
    if "entry" in answer:
        before = shown(answer["before"])
        return {"before": before, "after": shown(answer["entry"]) if answer["changed"] else before}
    return {"before": "", "after": "".join(f"{address}\n" for address in answer.get("learned", []))}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": [*COMMANDS], "default": "listed"},
            "address": {"type": "str"},
            "at": {"type": "str"},
            "seconds": {"type": "int"},
            "reason": {"type": "str", "default": ""},
            "by": {"type": "str", "default": ""},
            "entries": {"type": "list", "elements": "dict", "default": []},
        },
        required_if=[("state", "blocked", ["address"]), ("state", "allowed", ["address"])],
        supports_check_mode=True,
    )
    line = command(module.params, root=os.geteuid() == 0, dry=module.check_mode)
    given = json.dumps({"entries": module.params["entries"]}) if module.params["state"] == "merged" else ""
    code, out, err = module.run_command(line, data=given)
    try:
        answer = json.loads(out)
    except ValueError:
        hint = f"is it installed (site.yml --tags ip_blocklist), and allowed to {os.environ.get('USER', 'this user')}?"
        module.fail_json(msg=f"{PROGRAM} ended with {code}: {(err or out).strip()}; {hint}")
    if code or "error" in answer:
        module.fail_json(msg=f"{PROGRAM}: {answer.get('error', err.strip())}")
    result = {name: value for name, value in answer.items() if name not in ("before", "changed")}
    module.exit_json(
        **{"refused": "", "changed": answer.get("changed", False), "diff": difference(answer), **result}
    )


if __name__ == "__main__":
    main()
