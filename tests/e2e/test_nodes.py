"""The nodes' figures follow the swarm."""

from collections.abc import Iterator

import pytest

from drills.influx import Influx
from drills.lab import Lab, Node, until


@pytest.fixture
def drained(lab: Lab) -> Iterator[Node]:
    """A node that was told to host nothing; it is whole again afterwards."""
    node = lab.swarm[-1]
    manager = lab.swarm[0]
    manager.run(f"docker node update --availability drain {node.name}")
    yield node
    manager.run(f"docker node update --availability active {node.name}")
    until(300, lambda: not _missing(manager))


def _missing(manager: Node) -> list[str]:
    """The services that run fewer tasks than they want, jobs left out."""
    listed = manager.run("docker service ls --format '{{.Name}} {{.Mode}} {{.Replicas}}'")
    found = []
    for line in listed.splitlines():
        name, mode, replicas = line.split()[:3]
        running, _, wanted = replicas.partition("/")
        if "job" not in mode and running != wanted:
            found.append(name)
    return found


def test_a_drained_node_s_series_are_dropped_and_the_others_stay(lab: Lab, drained: Node) -> None:
    influx = Influx(lab)

    def told() -> set[str]:
        return {name for (name,) in influx.told("snmp", "uptime", ["node"], "14d")}

    others = {node.name for node in lab.swarm} - {drained.name}
    # The collector asks every three minutes which nodes there are.
    until(240, lambda: told() == others)
    assert {name for (name,) in influx.told("snmp", "uptime", ["node"])} == others
