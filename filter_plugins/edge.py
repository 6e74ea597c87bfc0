"""Filters for the floating addresses of the edge."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ansible.errors import AnsibleFilterError

#: Lowest virtual router id in use; the priority at home, and how much less each further node has.
FIRST_ROUTER = 21
HIGHEST_PRIORITY = 150
STEP = 10


def vrrp_instances(addresses: Sequence[str], nodes: Sequence[str], node: str) -> list[dict[str, str | int]]:
    """What one node does for each floating address.

    addresses: the floating addresses, the n-th one at home on the n-th node. nodes: the edge nodes' own
    addresses, in the same order on every node. node: the own address of the node in question. Returns for
    each address its name, its virtual router id (1 to 255, the same on every node) and this node's priority:
    150 at home, and 10 less for each step round the ring, so that the addresses of a lost node don't all go
    to one. Raises AnsibleFilterError for an unknown node, an address given twice, or more addresses than
    nodes.
    """
    if node not in nodes:
        raise AnsibleFilterError(f"{node} is none of the edge nodes {', '.join(nodes)}")
    if len(set(addresses)) != len(addresses):
        raise AnsibleFilterError(f"a floating address is given twice: {', '.join(addresses)}")
    if len(addresses) > len(nodes):
        raise AnsibleFilterError(
            f"{len(addresses)} floating addresses need as many edge nodes, not {len(nodes)}"
        )
    place = list(nodes).index(node)
    return [
        {
            "name": f"edge_{home}",
            "address": address,
            "router": FIRST_ROUTER + home,
            "priority": HIGHEST_PRIORITY - STEP * ((place - home) % len(nodes)),
        }
        for home, address in enumerate(addresses)
    ]


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"vrrp_instances": vrrp_instances}
