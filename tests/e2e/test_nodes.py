"""The nodes' figures follow the swarm."""

from collections.abc import Iterator

import pytest

from drills.influx import Influx
from drills.lab import Lab, Node, until
from drills.tiers import Machine, look, what_is_missing


@pytest.fixture
def drained(lab: Lab) -> Iterator[Node]:
    """A node that was told to host nothing; it is whole again afterwards."""
    node = lab.swarm[-1]
    manager = lab.swarm[0]
    manager.run(f"docker node update --availability drain {node.container}")
    yield node
    manager.run(f"docker node update --availability active {node.container}")
    until(300, lambda: not _missing(lab))


def _missing(lab: Lab) -> list[str]:
    """What keeps the stack from being whole, as the drills see it."""
    machines = [Machine(node.name, ("docker", "exec", "--interactive", node.container)) for node in lab.swarm]
    snapshot = look(machines, lab.forum_urls, lab.ca_file, None, "forum")
    return [reason for reasons in what_is_missing(snapshot).values() for reason in reasons]


def test_a_drained_node_s_series_are_dropped_and_the_others_stay(lab: Lab, drained: Node) -> None:
    influx = Influx(lab)

    def told() -> set[str]:
        return {name for (name,) in influx.told("snmp", "uptime", ["node"], "14d")}

    others = {node.container for node in lab.swarm} - {drained.container}
    # The collector asks every three minutes which nodes there are.
    until(240, lambda: told() == others)
    assert {name for (name,) in influx.told("snmp", "uptime", ["node"])} == others
