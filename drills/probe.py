"""What one machine of the swarm can tell about the stack; sent to the machine and run there by its Python.

usage: python3 - STACK < probe.py    Prints one JSON object. Standard library only; changes nothing.
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

SECONDS = 8
# Bash alone, since a look is taken every few seconds and Python's start would be most of its cost.
POSTGRES = r"exec 3<>/dev/tcp/127.0.0.1/8008; printf 'GET /state HTTP/1.0\r\n\r\n' >&3; timeout 5 sed '1,/^\r*$/d' <&3"
# The Redis image's library hands the password over by a pipe, so that it is in no argument or environment.
REDIS = "ASK_SECONDS=5; . /usr/local/bin/redis-library.sh; ask 127.0.0.1 {port} '{command}'"
MASTERS = "INFO sentinel"


def run(*command: str) -> str:
    """A command's output; empty when it fails or takes longer than SECONDS."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def json_lines(text: str) -> list[dict[str, str]]:
    """Docker's `--format json`: one object per line."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def containers(stack: str) -> list[dict[str, str]]:
    """The stack's running containers here: id, service (without the stack's name) and task name."""
    label = "com.docker.swarm.service.name"
    pattern = f'{{{{.ID}}}} {{{{.Label "{label}"}}}} {{{{.Names}}}}'
    listing = run(
        "docker", "ps", "--filter", f"label=com.docker.stack.namespace={stack}", "--format", pattern
    )
    found = []
    for line in listing.splitlines():
        identity, service, task = line.split()
        found.append({"id": identity, "service": service.removeprefix(f"{stack}_"), "task": task})
    return found


def colon_lines(text: str) -> dict[str, str]:
    """Redis's INFO: `key:value` lines."""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def ask(container: dict[str, str]) -> dict[str, object]:
    """What the program in a container says about its role; empty when it doesn't answer or has none."""
    tier = container["service"].rsplit("-", 1)[0]
    execute = ("docker", "exec", container["id"])
    if tier == "postgres":
        answer = run(*execute, "bash", "-c", POSTGRES)
        return dict(json.loads(answer)) if answer.startswith("{") else {}
    if tier == "redis":
        return dict(
            colon_lines(run(*execute, "sh", "-c", REDIS.format(port=6379, command="INFO replication")))
        )
    if tier == "sentinel":
        return dict(colon_lines(run(*execute, "sh", "-c", REDIS.format(port=26379, command=MASTERS))))
    return {}


def main(stack: str) -> None:
    """Ask everything at once and print it."""
    with ThreadPoolExecutor(6) as pool:
        nodes = pool.submit(run, "docker", "node", "ls", "--format", "json")
        services = pool.submit(run, "docker", "service", "ls", "--format", "json")
        # What has come to its end runs no task, and that is as it should be.
        jobs = pool.submit(
            run, "docker", "service", "ls", "--filter", "label=forum.job", "--format", "{{.Name}}"
        )
        here = containers(stack)
        answers = list(pool.map(ask, here))
    ended = jobs.result().split()
    found = [{**container, "says": answer} for container, answer in zip(here, answers, strict=True)]
    print(
        json.dumps(
            {
                "containers": found,
                "nodes": json_lines(nodes.result()),
                "services": [
                    {**service, "Name": service["Name"].removeprefix(f"{stack}_")}
                    for service in json_lines(services.result())
                    if service["Name"].startswith(f"{stack}_") and service["Name"] not in ended
                ],
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
