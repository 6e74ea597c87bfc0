"""No secret's value can be read off the engine, the images, the process lists or the logs.

The environment of a process is left out: there the loader puts the values on purpose, for programs that
read nothing else, and only root of the machine can see it.
"""

import base64
import subprocess
from pathlib import Path

import pytest

from drills.lab import Lab, Node

PLACES = {
    "containers": "docker ps -aq | xargs -r docker inspect",
    "services": "docker service ls -q | xargs -r docker service inspect",
    "tasks": "docker service ls -q | xargs -r docker service ps -q --no-trunc | xargs -r docker inspect",
    "configs": "docker config ls -q | xargs -r docker config inspect --pretty",
    "secrets": "docker secret ls -q | xargs -r docker secret inspect",
    "images": "docker images -aq | sort -u | xargs -r docker image inspect",
    "image histories": "docker images -aq | sort -u | xargs -r -n 1 docker image history --no-trunc",
    "processes": "ps axww -o pid,args",
    "container logs": "docker ps -aq | xargs -r -n 1 docker logs --tail 200000",
    "journal": "journalctl --no-pager --quiet --all",
    "fragments": "cat /etc/forum/stack.d/*.yml",
}


def values(directory: Path) -> dict[str, list[str]]:
    """Secret's name -> the ways in which its value may be written. Short ones would be found by chance."""
    found = {}
    for path in sorted(directory.iterdir()):
        if path.is_file():
            value = path.read_text().split("\n", 1)[0].strip()
            assert len(value) >= 12, f"{path.name} is too short to be a secret"
            found[path.name] = [value, base64.b64encode(value.encode()).decode().rstrip("=")]
    return found


def leaks(text: str, secrets: dict[str, list[str]]) -> list[str]:
    """The names, never the values, of the secrets that a text holds."""
    return [name for name, forms in secrets.items() if any(form in text for form in forms)]


@pytest.fixture(scope="module")
def secrets(lab: Lab) -> dict[str, list[str]]:
    found = values(lab.secrets_dir)
    assert len(found) >= 5, f"{lab.secrets_dir} should hold every secret of the lab"
    return found


@pytest.mark.parametrize("place", PLACES)
def test_nothing_on_the_machines(place: str, lab: Lab, secrets: dict[str, list[str]]) -> None:
    found = {}
    for node in lab.nodes:
        text = node.run(PLACES[place], seconds=300)
        if node in lab.swarm and place != "fragments":
            assert len(text) > 100, f"the search of {place} on {node.name} saw nothing: {text}"
        if held := leaks(text, secrets):
            found[node.name] = held
    assert not found


def test_nothing_on_the_machine_of_the_lab(lab: Lab, secrets: dict[str, list[str]]) -> None:
    names = [node.container for node in lab.nodes]
    commands = [["docker", "inspect", *names], ["docker", "logs", names[0]], ["ps", "axww", "-o", "args"]]
    images = subprocess.run(
        ["docker", "images", "-q"], capture_output=True, text=True, check=True
    ).stdout.split()
    commands += [["docker", "image", "history", "--no-trunc", image] for image in sorted(set(images))]
    commands += [["docker", "image", "inspect", *sorted(set(images))]]
    for command in commands:
        text = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace").stdout
        assert not leaks(text, secrets), command[:3]


def test_the_secrets_are_used(lab: Lab, secrets: dict[str, list[str]]) -> None:
    """The search would also find nothing if the stack had no secrets."""
    mounted = container_files(lab.swarm)
    assert set(leaks(mounted, secrets)) >= {"postgres_password", "redis_password", "misago_secret_key"}


def container_files(nodes: tuple[Node, ...]) -> str:
    """All that lies in /run/secrets of the stack's containers."""
    script = "for c in $(docker ps -q); do docker exec $c sh -c 'cat /run/secrets/*' 2>/dev/null; done"
    return "".join(node.run(script) for node in nodes)
