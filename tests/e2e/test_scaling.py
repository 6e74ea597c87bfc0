"""A service takes steps up and down on the lab's swarm, within its bounds."""

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from drills.lab import ROOT, Lab, until

SERVICE = "forum_misago"
PATIENCE = 120


def scale(by: int, *options: str, service: str = "misago") -> str:
    """What the playbook tells of a step, in a line."""
    run = subprocess.run(
        ["ansible-playbook", "playbooks/scale.yml", "-e", f"scale_service={service}", "-e", f"scale_by={by}", *options],
        cwd=ROOT, env=os.environ | {"ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    (told,) = re.findall(rf"{service}: \d+ replicas .*", run.stdout)
    return str(told).rstrip("'\"")


def inspect(lab: Lab, service: str = SERVICE) -> dict[str, Any]:
    """The service as the swarm has it."""
    (found,) = json.loads(lab.swarm[0].run(f"docker service inspect {service}"))
    return dict(found)


def wanted(lab: Lab, service: str = SERVICE) -> int:
    return int(inspect(lab, service)["Spec"]["Mode"]["Replicated"]["Replicas"])


def running(lab: Lab, service: str = SERVICE) -> set[str]:
    """Containers of a service that run and are healthy, by their tasks."""
    listed = f"docker ps --filter name=^{service} --filter health=healthy --format '{{{{.Names}}}}'"
    return {name for node in lab.swarm for name in node.run(listed).split()}


#: Changes labels and replicas of a service alone. `docker service update` would replace its tasks as well: it fills in
#: what a deployment leaves out.
CHANGE = """
import docker, json, sys
name, labels, replicas = json.load(sys.stdin)
api = docker.APIClient()
(service,) = [one for one in api.services(filters={"name": name}) if one["Spec"]["Name"] == name]
spec = service["Spec"]
spec["Labels"] = {name: value for name, value in spec["Labels"].items() if name not in labels} | labels
spec["Labels"] = {name: value for name, value in spec["Labels"].items() if value is not None}
spec["Mode"]["Replicated"]["Replicas"] = replicas
url = f"{api.base_url}/v{api.api_version}/services/{service['ID']}/update"
api.post(url, params={"version": service["Version"]["Index"]}, json=spec).raise_for_status()
"""


def change(lab: Lab, replicas: int, service: str = SERVICE, **labels: str | None) -> None:
    """Give a service replicas, and labels forum.NAME; those that are None are taken away."""
    given = {f"forum.{name.replace('_', '.')}": value for name, value in labels.items()}
    said = lab.swarm[0].run(
        f"python3 -c {shlex.quote(CHANGE)} 2>&1", given=json.dumps([service, given, replicas]).encode()
    )
    assert said == ""


def unscaled(lab: Lab, replicas: int, service: str = SERVICE, **labels: str | None) -> None:
    """Give a service replicas and labels as change() does, such that nobody knows that it was ever scaled."""
    change(lab, replicas, service, scale_at=None, scale_by=None, scale_action=None, **labels)


@pytest.fixture
def three(lab: Lab, missing: Callable[[], list[str]]) -> Iterator[None]:
    """Misago has three replicas, of which nobody knows that they were scaled; so it is afterwards."""
    assert not missing()
    assert wanted(lab) == 3
    unscaled(lab, 3)
    yield
    unscaled(lab, 3)
    until(PATIENCE, lambda: not missing())


@pytest.mark.usefixtures("three")
def test_a_step_up_serves_and_leaves_the_others_alone(lab: Lab) -> None:
    before = running(lab)
    began = time.monotonic()
    assert scale(1) == "misago: 3 replicas become 4"
    told = time.monotonic() - began
    until(PATIENCE, lambda: len(running(lab)) == 4)
    print(f"told after {told:.1f} s, four replicas serve after {time.monotonic() - began:.1f} s")
    assert before < running(lab)
    assert scale(1).startswith("misago: 4 replicas stay, refused: it was changed ")
    assert wanted(lab) == 4


@pytest.mark.usefixtures("three")
def test_a_deployment_keeps_it(lab: Lab) -> None:
    scale(1, "-e", "scale_action=test-1")
    until(PATIENCE, lambda: len(running(lab)) == 4)
    # Another definition: what follows is a deployment of Misago as of every new release.
    change(lab, 4, definition="other")
    deployed = subprocess.run(
        ["ansible-playbook", "site.yml", "--tags", "misago"],
        cwd=ROOT, env=os.environ | {"ANSIBLE_STRATEGY": "mitogen_linear"},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert deployed.returncode == 0, deployed.stdout[-3000:]
    spec = inspect(lab)["Spec"]
    assert spec["Mode"]["Replicated"]["Replicas"] == 4
    assert spec["Labels"]["forum.scale.action"] == "test-1"
    assert spec["Labels"]["forum.definition"] != "other"
    # Asked for again, the step is known; nothing changes.
    assert scale(1, "-e", "scale_action=test-1") == "misago: 4 replicas stay: this step was taken before"


@pytest.mark.usefixtures("three")
def test_up_may_follow_down_at_once_and_down_may_not_follow_up(lab: Lab) -> None:
    assert scale(-1) == "misago: 3 replicas become 2"
    until(PATIENCE, lambda: len(running(lab)) == 2)
    until(PATIENCE, lambda: scale(1) == "misago: 2 replicas become 3")
    until(PATIENCE, lambda: len(running(lab)) == 3)
    assert scale(-1).startswith("misago: 3 replicas stay, refused: it was changed ")


def test_bounds_are_kept(lab: Lab) -> None:
    assert (
        scale(1, service="nginx") == "nginx: 3 replicas stay, refused: it has 3 replicas and may have 3 to 3"
    )
    assert scale(-1, service="celery").startswith("celery: 1 replicas stay, refused: it has no bounds")


@pytest.mark.usefixtures("three")
def test_a_dry_run_changes_nothing(lab: Lab) -> None:
    assert scale(1, "--check") == "misago: 3 replicas become 4"
    assert wanted(lab) == 3


@pytest.mark.usefixtures("three")
def test_of_many_at_once_one_is_taken(lab: Lab) -> None:
    def step(node: int) -> dict[str, Any]:
        return dict(json.loads(lab.swarm[node % 3].run("forum-scale misago 1")))

    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(step, range(6)))
    assert [one["changed"] for one in told].count(True) == 1
    assert all(one["refused"] for one in told if not one["changed"])
    assert wanted(lab) == 4


@pytest.mark.usefixtures("three")
def test_the_next_manager_is_asked(lab: Lab) -> None:
    first = lab.swarm[0]
    first.run("chmod a-x /usr/local/sbin/forum-scale")
    try:
        assert scale(1) == "misago: 3 replicas become 4"
    finally:
        first.run("chmod a+x /usr/local/sbin/forum-scale")
