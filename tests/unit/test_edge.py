"""Every floating address has one home, and its neighbours take it over in turn."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from edge import vrrp_instances

ADDRESSES = ["192.0.2.21", "192.0.2.22", "192.0.2.23"]
NODES = ["192.0.2.11", "192.0.2.12", "192.0.2.13"]


def priorities(node: str) -> list[str | int]:
    return [instance["priority"] for instance in vrrp_instances(ADDRESSES, NODES, node)]


def test_priorities_rotate() -> None:
    assert [priorities(node) for node in NODES] == [[150, 130, 140], [140, 150, 130], [130, 140, 150]]


def test_no_two_nodes_want_an_address_equally() -> None:
    for wishes in zip(*(priorities(node) for node in NODES), strict=True):
        assert len(set(wishes)) == len(NODES)


def test_every_node_calls_an_address_the_same() -> None:
    routers = [[i["router"] for i in vrrp_instances(ADDRESSES, NODES, node)] for node in NODES]
    assert routers[0] == routers[1] == routers[2]
    assert len(set(routers[0])) == len(ADDRESSES)


@pytest.mark.parametrize(
    ("addresses", "node", "message"),
    [
        (ADDRESSES, "192.0.2.99", "none of the edge nodes"),
        (["192.0.2.21", "192.0.2.21"], NODES[0], "given twice"),
        ([*ADDRESSES, "192.0.2.24"], NODES[0], "need as many edge nodes"),
    ],
)
def test_what_cannot_work_is_refused(addresses: list[str], node: str, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        vrrp_instances(addresses, NODES, node)
