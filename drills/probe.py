"""What one machine of the swarm can tell about the stack; sent to the machine and run there by its Python.

usage: python3 - STACK < probe.py    Prints one JSON object. Standard library only; changes nothing.

A look is taken every few seconds while the forum is under load, so it must cost little: the engine is asked through its
socket, and a program in a container from within its network and files, which spares Docker's command line and a new
process of the engine each.
"""

import http.client
import json
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

SECONDS = 8
SOCKET = "/var/run/docker.sock"
SERVICE = "com.docker.swarm.service.name"
# Bash alone, since Python's start would be most of its cost.
POSTGRES = r"exec 3<>/dev/tcp/127.0.0.1/8008; printf 'GET /state HTTP/1.0\r\n\r\n' >&3; timeout 5 sed '1,/^\r*$/d' <&3"
# The Redis image's library hands the password over by a pipe, so that it is in no argument or environment.
REDIS = "ASK_SECONDS=5; . /usr/local/bin/redis-library.sh; ask 127.0.0.1 {port} '{command}'"
MASTERS = "INFO sentinel"


class Engine(http.client.HTTPConnection):
    """The machine's Docker engine."""

    def __init__(self) -> None:
        super().__init__("engine", timeout=SECONDS)

    def connect(self) -> None:
        """Reach it by its socket. Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(SECONDS)
        self.sock.connect(SOCKET)


def read(path: str) -> Any:
    """What the engine answers to a GET; None when it fails or doesn't answer in time."""
    engine = Engine()
    try:
        engine.request("GET", path)
        answer = engine.getresponse()
        return json.load(answer) if answer.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        engine.close()


def in_stack(stack: str) -> str:
    """The query that keeps to what belongs to the stack."""
    return "filters=" + quote(json.dumps({"label": [f"com.docker.stack.namespace={stack}"]}))


def run(*command: str) -> str:
    """A command's output; empty when it fails or takes longer than SECONDS."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def containers(stack: str) -> list[dict[str, str]]:
    """The stack's running containers here: id, service (without the stack's name) and task name."""
    return [
        {
            "id": found["Id"][:12],
            "service": found["Labels"].get(SERVICE, "").removeprefix(f"{stack}_"),
            "task": found["Names"][0].removeprefix("/"),
        }
        for found in read(f"/containers/json?{in_stack(stack)}") or []
    ]


def nodes() -> list[dict[str, str]]:
    """The swarm's nodes, when this machine is a manager that has a leader."""
    return [
        {
            "name": node["Description"]["Hostname"],
            "state": node["Status"]["State"],
            "availability": node["Spec"]["Availability"],
        }
        for node in read("/nodes") or []
    ]


def services(stack: str) -> list[dict[str, Any]]:
    """The stack's services with their running and wanted tasks, as a manager counts them."""
    return [
        {
            "name": service["Spec"]["Name"].removeprefix(f"{stack}_"),
            "running": service["ServiceStatus"]["RunningTasks"],
            "wanted": service["ServiceStatus"]["DesiredTasks"],
        }
        for service in read(f"/services?status=true&{in_stack(stack)}") or []
        # What has come to its end runs no task, and that is as it should be.
        if "forum.job" not in service["Spec"]["Labels"]
    ]


def colon_lines(text: str) -> dict[str, str]:
    """Redis's INFO: `key:value` lines."""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def ask(container: dict[str, str]) -> dict[str, Any]:
    """What the program in a container says about its role; empty when it doesn't answer or has none."""
    tier = container["service"].rsplit("-", 1)[0]
    if tier not in ("postgres", "redis", "sentinel"):
        return {}
    inspected = read(f"/containers/{container['id']}/json")
    if not inspected:
        return {}
    inside = ("nsenter", "--target", str(inspected["State"]["Pid"]), "--mount", "--net")
    if tier == "postgres":
        answer = run(*inside, "bash", "-c", POSTGRES)
        return dict(json.loads(answer)) if answer.startswith("{") else {}
    port, command = (6379, "INFO replication") if tier == "redis" else (26379, MASTERS)
    return dict(colon_lines(run(*inside, "sh", "-c", REDIS.format(port=port, command=command))))


def main(stack: str) -> None:
    """Ask everything at once and print it."""
    with ThreadPoolExecutor(6) as pool:
        known_nodes = pool.submit(nodes)
        known_services = pool.submit(services, stack)
        here = containers(stack)
        answers = list(pool.map(ask, here))
    found = [{**container, "says": answer} for container, answer in zip(here, answers, strict=True)]
    print(
        json.dumps({"containers": found, "nodes": known_nodes.result(), "services": known_services.result()})
    )


if __name__ == "__main__":
    main(sys.argv[1])
