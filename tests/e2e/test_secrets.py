"""No secret's value can be read off the engine, the images, the process lists or the logs.

The environment of a process is left out: there the loader puts the values on purpose, for programs that
read nothing else, and only root of the machine can see it.
"""

import base64
import hashlib
import subprocess

import pytest

from drills.lab import ROOT, Lab, Node

PLACES = {
    "containers": "docker ps -aq | xargs -r docker inspect",
    "services": "docker service ls -q | xargs -r docker service inspect",
    "tasks": "docker service ls -q | xargs -r docker service ps -q --no-trunc | xargs -r docker inspect",
    "configs": "docker config ls -q | xargs -r docker config inspect --pretty",
    "secrets": "docker secret ls -q | xargs -r docker secret inspect",
    "images": "docker images -aq | sort -u | xargs -r docker image inspect",
    "image histories": "docker images -aq | sort -u | xargs -r -n 1 docker image history --no-trunc",
    # Health checks and the like live for milliseconds: look often.
    "processes": "for look in $(seq 40); do ps axww -o pid,args; sleep 0.2; done",
    "container logs": "docker ps -aq | xargs -r -n 1 docker logs --tail 200000",
    "journal": "journalctl --no-pager --quiet --all",
    "fragments": "cat /etc/forum/stack.d/*.yml",
}
# What runs of the playbooks wrote, if this lab was brought up by `make test`.
OUTPUTS = ROOT / "artifacts" / "again"


def values(lab: Lab) -> dict[str, list[str]]:
    """Secret's name -> the ways in which its value may be written, a fast hash of it among them.

    Short ones would be found by chance. Of a private key, the line of its file that begins the secret part.
    """
    found = {}
    for path in sorted(lab.secrets_dir.iterdir()):
        value = path.read_text().split("\n", 1)[0].strip()
        assert len(value) >= 12, f"{path.name} is too short to be a secret"
        coded = value.encode()
        hashes = [hashlib.new(name, coded).hexdigest() for name in ("md5", "sha1", "sha224", "sha256")]
        found[path.name] = [value, base64.b64encode(coded).decode().rstrip("="), *hashes]
    state = lab.secrets_dir.parent
    keys = dict.fromkeys(sorted((state / "pki").glob("*.key")), 1) | {state / "ssh" / "id_ed25519": 3}
    for path, line in keys.items():
        found[path.name] = [path.read_text().splitlines()[line]]
    for role in ("worker", "manager"):
        token = lab.swarm[0].run(f"docker swarm join-token --quiet {role}").strip()
        found[f"join token of a {role}"] = [token]
    return found


def leaks(text: str, secrets: dict[str, list[str]]) -> list[str]:
    """The names, never the values, of the secrets that a text holds."""
    return [name for name, forms in secrets.items() if any(form in text for form in forms)]


@pytest.fixture(scope="module")
def secrets(lab: Lab) -> dict[str, list[str]]:
    found = values(lab)
    assert len(found) >= 10, f"{lab.secrets_dir} should hold every secret of the lab"
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


def test_nothing_in_the_output_of_the_playbooks(secrets: dict[str, list[str]]) -> None:
    outputs = sorted(OUTPUTS.glob("*.log"))
    if not outputs:
        pytest.skip("the lab was not brought up again by tests/again: there is no output to search")
    for path in outputs:
        assert not leaks(path.read_text(), secrets), path.name


def test_the_secrets_are_used(lab: Lab, secrets: dict[str, list[str]]) -> None:
    """The search would also find nothing if the stack had no secrets."""
    mounted = container_files(lab.swarm)
    assert set(leaks(mounted, secrets)) >= {"postgres_password", "redis_password", "misago_secret_key"}


def container_files(nodes: tuple[Node, ...]) -> str:
    """All that lies in /run/secrets of the stack's containers."""
    script = "for c in $(docker ps -q); do docker exec $c sh -c 'cat /run/secrets/*' 2>/dev/null; done"
    return "".join(node.run(script) for node in nodes)
