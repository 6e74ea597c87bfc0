"""Containers that pass for tasks of the stack, so that their lines go the way of the stack's own."""

import json
import secrets
import shlex

from drills.lab import Node

MADE = "made"
"""What the ids of such tasks begin with: lines of these were written on purpose (forum.task)."""

_OF_NGINX = "docker ps --quiet --filter name=^forum_nginx | head -n 1 | xargs -r docker inspect"


def new_task() -> str:
    """An id that no task has, neither of the swarm nor of another test."""
    return MADE + secrets.token_hex(8)


def command(node: Node, service: str, task: str, script: str) -> list[str]:
    """What is to be run on a node so that a shell script's lines are those of a task of a service.

    Its container is of nginx' image, logs as nginx' own does, and takes the script's input. service: a name without the
    stack's. task: as new_task makes it. Raises RuntimeError where no nginx runs.
    """
    (nginx,) = json.loads(node.run(_OF_NGINX) or "[]") or [None]
    if nginx is None:
        raise RuntimeError(f"no nginx runs on {node.name}")
    log = nginx["HostConfig"]["LogConfig"]
    return [
        *("docker", "run", "--rm", "--interactive", "--attach", "stdin", "--network", "none"),
        f"--name=forum_{service}.1.{task}",
        f"--log-driver={log['Type']}",
        *(f"--log-opt={name}={value}" for name, value in log["Config"].items()),
        *("--entrypoint", "sh", nginx["Image"], "-c", script),
    ]


def write(node: Node, service: str, task: str, script: str, given: bytes = b"", seconds: float = 120) -> None:
    """Run a shell script in a container of a node, to its end; what it writes are lines of a task of a service.

    service, task, script: as command() takes them. given: the script's input. Raises RuntimeError when the container
    doesn't run to a good end, and TimeoutExpired.
    """
    run = shlex.join(command(node, service, task, script))
    told = node.run(f"{run} && echo ended well", seconds, given)
    if not told.endswith("ended well\n"):
        raise RuntimeError(f"a container on {node.name} failed: {told}")
