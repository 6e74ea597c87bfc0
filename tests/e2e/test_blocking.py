"""Blocking by the playbooks that operators and the action server run: at every edge address, and nobody else."""

import http.client
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from drills.lab import ROOT, Lab, Node, until

#: Last parts of the addresses of clients.
ATTACKER, OTHER = 201, 202


def run(playbook: str, **variables: object) -> tuple[int, dict[str, Any]]:
    """Run a playbook. Returns how it ended, and the outcome that it keeps for who started it."""
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [str(program), f"playbooks/{playbook}.yml", "--extra-vars", json.dumps(variables)],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_SHOW_CUSTOM_STATS": "true",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    begin = done.stdout.find("{")
    assert begin >= 0, done.stdout + done.stderr
    told = json.loads(done.stdout[begin:])
    return done.returncode, dict(told["global_custom_stats"]["blocklist"])


@pytest.fixture
def allowed(lab: Lab, clients: dict[int, str]) -> Iterator[None]:
    """Everybody is allowed before and after the test, and has no offence to his name."""

    def allow() -> None:
        for node in lab.swarm:
            node.run("".join(f"forum-blocklist allow {clients[last]};" for last in (ATTACKER, OTHER)))

    allow()
    yield
    allow()


class Client:
    """A visitor at one edge address, who comes from an address of his own and keeps his connection."""

    def __init__(self, edge: str, source: str, ca_file: str) -> None:
        self.connection = http.client.HTTPSConnection(
            str(urlsplit(edge).hostname),
            context=ssl.create_default_context(cafile=ca_file),
            timeout=2,
            source_address=(source, 0),
        )

    def answered(self) -> bool:
        """Whether the edge answers one more request."""
        try:
            self.connection.request("GET", "/static/missing.css")
            self.connection.getresponse().read()
        except OSError:
            return False
        return True

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
def client(lab: Lab, clients: dict[int, str]) -> Iterator[Callable[[str, int], Client]]:
    made: list[Client] = []

    def make(edge: str, last: int) -> Client:
        made.append(Client(edge, clients[last], lab.ca_file))
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = Callable[[str, int], Client]


@pytest.mark.usefixtures("allowed")
def test_a_blocked_address_is_refused_at_every_edge_and_others_go_on(
    lab: Lab, clients: dict[int, str], client: Make
) -> None:
    kept = [client(edge, ATTACKER) for edge in lab.forum_urls]
    others = [client(edge, OTHER) for edge in lab.forum_urls]
    assert all(one.answered() for one in (*kept, *others))
    stop = threading.Event()
    answers: list[bool] = []

    def go_on() -> None:
        while not stop.is_set():
            answers.extend(one.answered() for one in others)
            time.sleep(0.05)

    going = threading.Thread(target=go_on)
    going.start()
    try:
        began = time.monotonic()
        code, outcome = run("block", block_address=clients[ATTACKER], block_reason="a test")
        print(f"blocked after {time.monotonic() - began:.1f} s")
        assert (code, outcome["refused"], len(outcome["done"])) == (0, "", len(lab.forum_urls))
        # Connections that were there, and new ones.
        assert [one.answered() for one in kept] == [False] * len(kept)
        assert [client(edge, ATTACKER).answered() for edge in lab.forum_urls] == [False] * len(kept)
    finally:
        stop.set()
        going.join()
    assert len(answers) > 10
    assert all(answers)
    code, outcome = run("blocked")
    (entry,) = [entry for entry in outcome["blocked"] if entry["address"] == clients[ATTACKER]]
    assert (code, entry["reason"]) == (0, "a test")
    assert 0 < entry["seconds_left"] <= 900


@pytest.mark.usefixtures("allowed")
def test_after_its_time_an_address_gets_in_again(lab: Lab, clients: dict[int, str], client: Make) -> None:
    code, outcome = run("block", block_address=clients[ATTACKER], block_seconds=12)
    assert code == 0
    assert not client(lab.forum_urls[0], ATTACKER).answered()
    until(15, lambda: all(client(edge, ATTACKER).answered() for edge in lab.forum_urls))
    assert not [entry for entry in run("blocked")[1]["blocked"] if entry["address"] == clients[ATTACKER]]
    again = run("block", block_address=clients[ATTACKER])[1]["entry"]
    assert again["offences"] == outcome["entry"]["offences"] + 1
    assert 3590 < again["seconds_left"] <= 3600


@pytest.mark.usefixtures("allowed")
def test_an_allowed_address_gets_in_at_once(lab: Lab, clients: dict[int, str], client: Make) -> None:
    run("block", block_address=clients[ATTACKER])
    assert run("allow", allow_address=clients[ATTACKER])[0] == 0
    assert all(client(edge, ATTACKER).answered() for edge in lab.forum_urls)


def test_what_must_not_be_blocked_is_refused(lab: Lab) -> None:
    own = [node.address for node in lab.nodes] + [str(urlsplit(edge).hostname) for edge in lab.forum_urls]
    control = f"{lab.swarm[0].address.rpartition('.')[0]}.1"
    for address in (
        own[0],
        own[-1],
        lab.monitor.address,
        control,
        "0.0.0.0/0",
        "1.2.3.4; reboot",
        "localhost",
    ):
        code, outcome = run("block", block_address=address)
        assert code == 0
        assert outcome["refused"], address
        assert outcome["done"] == []


@pytest.fixture
def away(lab: Lab, missing: Callable[[], list[str]]) -> Iterator[Node]:
    """A node that is switched off; afterwards it runs, and everything is whole."""
    node = lab.swarm[-1]
    subprocess.run(["docker", "stop", "--time", "0", node.container], check=True, capture_output=True)
    yield node
    subprocess.run(["docker", "start", node.container], check=True, capture_output=True)
    until(300, lambda: not missing())


@pytest.mark.usefixtures("allowed")
def test_a_block_outlives_a_restart_and_reaches_a_node_that_was_away(
    clients: dict[int, str], request: pytest.FixtureRequest
) -> None:
    assert run("block", block_address=clients[ATTACKER])[0] == 0
    node: Node = request.getfixturevalue("away")

    began = time.monotonic()
    code, outcome = run("block", block_address=clients[OTHER])
    assert time.monotonic() - began < 30
    assert (code, [*outcome["unreached"], *outcome["failed"]]) == (2, [node.name])
    assert len(outcome["done"]) == 2

    subprocess.run(["docker", "start", node.container], check=True, capture_output=True)
    show = "nft list set inet forum_blocklist ipv4"
    until(60, lambda: clients[ATTACKER] in node.run(show))
    assert clients[OTHER] not in node.run(show)
    # Before Docker has published anything.
    order = "systemctl show --value --property=ActiveEnterTimestampMonotonic forum-blocklist docker"
    until(60, lambda: "active" in node.run("systemctl is-active docker").split())
    table, engine = node.run(order).split()
    assert 0 < int(table) < int(engine)

    until(60, lambda: run("blocked")[0] == 0)
    assert clients[OTHER] in node.run(show)


@pytest.mark.parametrize(
    ("command", "works"),
    [
        ("sudo -n /usr/local/sbin/forum-blocklist list", True),
        ("sudo -n /usr/sbin/nft list ruleset", False),
        ("sudo -n cat /etc/shadow", False),
        ("sudo -n -u nobody id", False),
        ("docker ps", False),
    ],
)
def test_the_monitoring_machine_may_do_this_on_a_node_and_nothing_else(
    lab: Lab, command: str, works: bool
) -> None:
    # As root it would be refused its own key, which others may read.
    client = (
        "setpriv --reuid nobody --regid forum-actions --clear-groups ssh -F none -T -o BatchMode=yes "
        "-o UserKnownHostsFile=/etc/forum-actions/known_hosts -o StrictHostKeyChecking=yes "
        f"-i /etc/forum-actions/id_ed25519 forum-actions@{lab.swarm[0].address}"
    )
    told = lab.monitor.run(f"{client} {command!r} && echo it works")
    assert ("it works" in told) is works, told
    assert "Permission denied (publickey" not in told


def test_the_key_is_let_in_from_the_monitoring_machine_alone(lab: Lab, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(lab.monitor.run("cat /etc/forum-actions/id_ed25519"))
    words = ["ssh", "-F", "none", "-T", "-i", str(key), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]
    words += ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path}/known"]
    refused = subprocess.run(
        [*words, f"forum-actions@{lab.swarm[0].address}", "true"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 255
    assert "Permission denied" in refused.stderr
