"""What holds for the services of every component, of which the scenario is named after one."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from typing import Any

import pytest
import yaml
from role_lab import MANAGERS, Swarm, Task

ROLE = os.environ.get("MOLECULE_SCENARIO_NAME", "")
#: Runs a program as the Telegraf beside a service does.
AS_TELEGRAF = ("as-telegraf", "--reuid=telegraf", "--regid=telegraf", "--keep-groups")
#: Where services write.
WRITABLE = ("/tmp", "/data", "/var/lib/postgresql/data")  # noqa: S108 - in the container


@pytest.fixture(scope="module")
def services(swarm: Swarm) -> dict[str, dict[str, Any]]:
    """The component's services as its fragment declares them, without jobs."""
    fragment = yaml.safe_load(swarm.manager.file(f"/etc/forum/stack.d/{ROLE}.yml").content_string)
    return {str(name): dict(service) for name, service in fragment["services"].items()}


@pytest.fixture(scope="module")
def tasks(swarm: Swarm, services: dict[str, dict[str, Any]]) -> dict[str, list[Task]]:
    return {name: swarm.tasks(name) for name in services}


def test_every_task_runs_and_is_healthy(
    services: dict[str, dict[str, Any]], tasks: dict[str, list[Task]]
) -> None:
    assert {name: len(found) for name, found in tasks.items()} == {
        # One that says no number has a task on every node.
        name: service["deploy"].get("replicas", len(MANAGERS))
        for name, service in services.items()
    }
    health = {task.inspect()["State"]["Health"]["Status"] for found in tasks.values() for task in found}
    assert health == {"healthy"}


def test_they_run_without_any_privilege(tasks: dict[str, list[Task]]) -> None:
    for name, found in tasks.items():
        task = found[0]
        status = task.output("cat", "/proc/self/status")
        assert re.search(r"^Uid:\t10001\t10001\t", status, re.MULTILINE), name
        assert re.search(r"^CapEff:\t0000000000000000$", status, re.MULTILINE), name
        settings = task.inspect()["HostConfig"]
        assert settings["ReadonlyRootfs"], name
        assert not settings["Privileged"], name
        assert task.run("touch", "/usr/trial").rc != 0, name


def test_they_are_limited(swarm: Swarm, services: dict[str, dict[str, Any]]) -> None:
    for name in services:
        resources = swarm.service(name)["Spec"]["TaskTemplate"]["Resources"]
        assert resources["Limits"].keys() >= {"NanoCPUs", "MemoryBytes"}, name
        assert resources["Reservations"].keys() >= {"NanoCPUs", "MemoryBytes"}, name


def test_secrets_and_configs_are_versioned(swarm: Swarm, services: dict[str, dict[str, Any]]) -> None:
    for name in services:
        container = swarm.service(name)["Spec"]["TaskTemplate"]["ContainerSpec"]
        used = [entry["SecretName"] for entry in container.get("Secrets", [])]
        used += [entry["ConfigName"] for entry in container.get("Configs", [])]
        for source in used:
            assert re.fullmatch(rf"forum_{ROLE}_[a-z0-9_.-]+_[0-9a-f]{{12}}", source), source


def test_only_the_service_reads_its_secrets(tasks: dict[str, list[Task]]) -> None:
    for name, found in tasks.items():
        command = "stat --dereference --format '%n %a %u' /run/secrets/*"
        modes = dict(
            line.removeprefix("/run/secrets/").split(" ", 1)
            for line in found[0].output("sh", "-c", command).splitlines()
        )
        # The Telegraf's own; a server that lets Telegraf in reads it by its group.
        own = modes.pop("telegraf_password")
        assert own in {"400 10002", "440 10002"} or name == "relay", name
        assert set(modes.values()) <= {"400 10001"}, name


def test_the_telegraf_beside_a_service_reads_none_of_its_secrets(tasks: dict[str, list[Task]]) -> None:
    for name, found in tasks.items():
        if name == "relay":
            continue
        task = found[0]
        listed = task.output("ls", "/run/secrets").split()
        readable = [
            secret for secret in listed if task.run(*AS_TELEGRAF, "cat", f"/run/secrets/{secret}").rc == 0
        ]
        assert readable == ["telegraf_password"], name
        pid = task.output("sh", "-c", "cat /proc/1/task/1/children").split()[0]
        assert task.run("cat", f"/proc/{pid}/environ").rc == 0, name
        assert task.run(*AS_TELEGRAF, "cat", f"/proc/{pid}/environ").rc != 0, name


def test_the_group_that_telegraf_keeps_lets_it_read_nothing_more(
    tasks: dict[str, list[Task]], secret_values: dict[str, str]
) -> None:
    for name, found in tasks.items():
        of_the_group = found[0].run(
            "find", *WRITABLE, "!", "-type", "l", "-perm", "/040", "!", "-perm", "/004"
        )
        assert of_the_group.stdout == "", name
        readable = found[0].run(
            *AS_TELEGRAF, "find", *WRITABLE, "-type", "f", "-readable", "-exec", "cat", "{}", "+"
        )
        assert not [secret for secret, value in secret_values.items() if value in readable.stdout], name


def numbers(task: Task, program: str) -> list[str]:
    """The processes of a container that run a program."""
    files = task.output("sh", "-c", f"grep -lx {program} /proc/[0-9]*/comm || true").split()
    return [file.split("/")[2] for file in files]


def test_there_is_one_telegraf_which_the_kernel_takes_before_all_others(
    tasks: dict[str, list[Task]],
) -> None:
    for name, found in tasks.items():
        if name == "relay":
            continue
        task = found[0]
        # As an operator would who wants the secrets' variables.
        assert task.run("load-secrets", "true").rc == 0, name
        time.sleep(1)
        (loop,), (telegraf,) = numbers(task, "run-telegraf"), numbers(task, "telegraf")
        adjusted = [f"/proc/{number}/oom_score_adj" for number in (1, loop, telegraf)]
        first, of_the_loop, of_telegraf = task.output("cat", *adjusted).split()
        assert (of_the_loop, of_telegraf) == (first, "1000"), name


def test_every_config_says_that_it_is_managed(swarm: Swarm, services: dict[str, dict[str, Any]]) -> None:
    names = {
        entry["ConfigName"]
        for name in services
        for entry in swarm.service(name)["Spec"]["TaskTemplate"]["ContainerSpec"].get("Configs", [])
    }
    for config in swarm.inspect("config", *sorted(names)):
        head = base64.b64decode(config["Spec"]["Data"]).decode().splitlines()[0]
        assert "Ansible managed" in head, config["Spec"]["Name"]


def test_no_secret_is_told(
    swarm: Swarm,
    services: dict[str, dict[str, Any]],
    tasks: dict[str, list[Task]],
    secret_values: dict[str, str],
) -> None:
    told = {
        "the services": json.dumps([swarm.service(name) for name in services]),
        "the containers": json.dumps([task.inspect() for found in tasks.values() for task in found]),
        "the fragment": swarm.manager.file(f"/etc/forum/stack.d/{ROLE}.yml").content_string,
    }
    for node in MANAGERS:
        told[f"the processes of {node}"] = swarm.machines[node].check_output("ps -eo args")
    for name in services:
        logs = swarm.manager.run("docker service logs --raw --tail 2000 %s", f"forum_{name}")
        told[f"the log of {name}"] = logs.stdout + logs.stderr
    for where, text in told.items():
        assert not [secret for secret, value in secret_values.items() if value in text], where
