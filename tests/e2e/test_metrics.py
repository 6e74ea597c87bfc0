"""Every indicator of the service levels has a live series, from every instance, and loses nothing on the way."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from drills.influx import Influx
from drills.lab import ROOT, Lab, Node, until

STACK = "forum"
LEVELS: list[dict[str, Any]] = yaml.safe_load((ROOT / "inventories/shared/sla.yml").read_text())[
    "service_levels"
]
METRICS = {level["id"]: level for level in LEVELS if level["indicator"]["source"] == "metric"}
SNMP = {level["id"]: level for level in LEVELS if level["indicator"]["source"] == "snmp"}
#: Beside the indicators: what every container tells, and what has no limit of its own. Measurement -> field, services.
OTHERS = {
    "cpu": ("usage_user", r".*"),
    "system": ("load1", r".*"),
    "mem": ("used_percent", r".*"),
    "disk": ("used_percent", r".*"),
    "net": ("bytes_recv", r".*"),
    "redis_sentinel_masters": ("quorum", r"sentinel-\d"),
    "postgresql_replication": ("lag_seconds", r"postgres-\d"),
    "pgpool": ("up", r"pgpool"),
    "gunicorn_requests": ("value", r"misago"),
}
#: The services of a component, and of all of it.
SERVICES = {
    "nginx": r"nginx", "redis": r"redis-\d", "haproxy": r"haproxy", "postgres": r"postgres-\d", "misago": r"misago",
    "forum": r".*",
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A container of a service, and the host tags that its addresses make."""

    service: str
    node: Node
    container: str
    hosts: frozenset[str]


def tasks(lab: Lab) -> list[Task]:
    """Every running container of the stack."""
    found = []
    for node in lab.swarm:
        text = node.run(
            f"docker ps -q --filter label=com.docker.stack.namespace={STACK} | xargs -r docker inspect"
        )
        for told in json.loads(text or "[]"):
            service = told["Config"]["Labels"]["com.docker.swarm.service.name"].removeprefix(f"{STACK}_")
            variables = dict(line.partition("=")[::2] for line in told["Config"]["Env"])
            base = variables.get("HOST_MONITORING_BASE_TAG", "")
            addresses = [network["IPAddress"] for network in told["NetworkSettings"]["Networks"].values()]
            hosts = frozenset(f"{base}{address}" for address in addresses)
            found.append(Task(service, node, told["Id"], hosts))
    return found


@pytest.fixture(scope="module")
def influx(lab: Lab) -> Influx:
    return Influx(lab)


@pytest.fixture(scope="module")
def running(lab: Lab) -> list[Task]:
    return tasks(lab)


def missing(
    influx: Influx, measurement: str, field: str, wanted: list[Task], window: str = "30s"
) -> list[Task]:
    """The tasks of which no point with the right tags is as young as that."""
    told = influx.told(measurement, field, ("stack", "service", "node", "host"), window)
    return [
        task for task in wanted
        # The swarm calls a node as its machine calls itself.
        if not any((STACK, task.service, task.node.container, host) in told for host in task.hosts)
    ]  # fmt: skip


@pytest.mark.parametrize("level", METRICS)
def test_every_instance_tells_every_indicator(level: str, influx: Influx, running: list[Task]) -> None:
    indicator = METRICS[level]["indicator"]
    wanted = [task for task in running if re.fullmatch(SERVICES[METRICS[level]["service"]], task.service)]
    assert wanted
    for field in indicator["fields"]:
        assert missing(influx, indicator["measurement"], field, wanted) == []


@pytest.mark.parametrize("measurement", OTHERS)
def test_every_instance_tells_the_rest(measurement: str, influx: Influx, running: list[Task]) -> None:
    field, services = OTHERS[measurement]
    wanted = [task for task in running if re.fullmatch(services, task.service)]
    assert wanted
    # gunicorn tells a number only when somebody asks it something.
    window = "30s" if measurement != "gunicorn_requests" else "10m"
    assert missing(influx, measurement, field, wanted, window) == []


@pytest.mark.parametrize("level", SNMP)
def test_every_node_tells_every_indicator(level: str, influx: Influx, lab: Lab) -> None:
    indicator = SNMP[level]["indicator"]
    for field in indicator["fields"]:
        told = influx.told(indicator["measurement"], field, ("stack", "node"))
        assert told == {(STACK, node.container) for node in lab.swarm}


@pytest.fixture
def third_haproxy(lab: Lab) -> Iterator[None]:
    lab.swarm[0].run("docker service scale --detach=false forum_haproxy=3", seconds=300)
    yield
    lab.swarm[0].run("docker service scale --detach=false forum_haproxy=2", seconds=300)


@pytest.mark.usefixtures("third_haproxy")
def test_one_more_replica_appears_by_itself(influx: Influx, lab: Lab) -> None:
    wanted = [task for task in tasks(lab) if task.service == "haproxy"]
    assert len(wanted) == 3
    until(60, lambda: missing(influx, "haproxy", "active_servers", wanted) == [])


def telegrafs(task: Task) -> list[str]:
    """The process ids of the Telegrafs in a container, as its machine knows them."""
    listed = task.node.run(f"docker top {task.container} -eo pid,comm")
    return [line.split()[0] for line in listed.splitlines() if line.split()[-1:] == ["telegraf"]]


def started(task: Task) -> str:
    """When the container was started, and the process id that it is known by."""
    template = "{{.State.StartedAt}} {{.State.Pid}} {{.RestartCount}}"
    return task.node.run(f"docker inspect --format '{template}' {task.container}").strip()


@pytest.mark.parametrize("service", ["nginx", "postgres-1", "misago"])
def test_a_killed_telegraf_is_back_and_its_service_never_knew(service: str, running: list[Task]) -> None:
    task = next(task for task in running if task.service == service)
    before, (killed,) = started(task), telegrafs(task)
    task.node.run(f"kill -9 {killed}")
    until(10, lambda: telegrafs(task) not in ([], [killed]))
    assert started(task) == before
