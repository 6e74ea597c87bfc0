"""The nodes' figures follow the swarm."""

from collections.abc import Callable, Iterator

import pytest

from drills.influx import Influx
from drills.lab import Lab, Node, until


@pytest.fixture
def drained(lab: Lab, missing: Callable[[], list[str]]) -> Iterator[Node]:
    """A node that was told to host nothing; it is whole again afterwards."""
    node = lab.swarm[-1]
    manager = lab.swarm[0]
    manager.run(f"docker node update --availability drain {node.container}")
    yield node
    manager.run(f"docker node update --availability active {node.container}")
    until(300, lambda: not missing())


def test_a_drained_node_s_series_are_dropped_and_the_others_stay(lab: Lab, drained: Node) -> None:
    influx = Influx(lab)

    def told() -> set[str]:
        return {name for (name,) in influx.told("snmp", "uptime", ["node"], "14d")}

    others = {node.container for node in lab.swarm} - {drained.container}
    # On a lab the collector asks every minute which nodes there are.
    until(240, lambda: told() == others)
    assert {name for (name,) in influx.told("snmp", "uptime", ["node"])} == others
