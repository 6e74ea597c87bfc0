"""The blocklist of the edge nodes, with a client that has two addresses."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from role_lab import MANAGERS, PREFIX, Run, words
from testinfra.host import Host

ONE, OTHER = f"{PREFIX}.201", f"{PREFIX}.202"
TABLE = "inet forum_blocklist"


def ask(node: Host, command: str, *arguments: str) -> dict[str, Any]:
    """What the program answers on a node."""
    line = " ".join([f"forum-blocklist {command}", *["%s"] * len(arguments)])
    return dict(json.loads(node.check_output(line, *arguments)))


def reaches(machines: dict[str, Host], source: str, name: str) -> bool:
    """Whether a client with this address reaches a node."""
    url = f"http://{PREFIX}.1{MANAGERS.index(name) + 1}:8098/"
    return bool(
        machines["monitor"].run("curl -sS -o /dev/null --max-time 2 --interface %s %s", source, url).rc == 0
    )


@pytest.fixture(autouse=True)
def nobody_is_blocked(machines: dict[str, Host]) -> Iterator[None]:
    yield
    for name in MANAGERS:
        for address in (ONE, OTHER):
            ask(machines[name], "allow", address)


def test_it_starts_with_the_machine_before_docker(machines: dict[str, Host]) -> None:
    for name in MANAGERS:
        unit = machines[name].service("forum-blocklist")
        assert unit.is_enabled
        assert unit.is_running
        assert "docker.service" in unit.systemd_properties["Before"].split()


def test_a_blocked_address_reaches_nothing_and_another_one_does(machines: dict[str, Host]) -> None:
    node = machines["node-1"]
    assert reaches(machines, ONE, "node-1")
    began = time.monotonic()
    ask(node, "block", ONE, "--reason", "a trial")
    assert time.monotonic() - began < 1
    assert not reaches(machines, ONE, "node-1")
    assert reaches(machines, OTHER, "node-1")
    assert reaches(machines, ONE, "node-2")
    assert ask(node, "list")["dropped"]["ipv4"] > 0
    ask(node, "allow", ONE)
    assert reaches(machines, ONE, "node-1")


def test_a_block_ends_by_itself(machines: dict[str, Host]) -> None:
    ask(machines["node-1"], "block", ONE, "--seconds", "3")
    assert not reaches(machines, ONE, "node-1")
    time.sleep(2)
    assert reaches(machines, ONE, "node-1")


def test_no_machine_is_ever_blocked(machines: dict[str, Host]) -> None:
    bridge = machines["node-1"].interface("docker0")
    own = [f"{PREFIX}.{last}" for last in (1, 11, 12, 13, 14, 21, 22, 23)]
    for address in (*own, *(bridge.addresses if bridge.exists else ())):
        assert "never blocked" in ask(machines["node-1"], "block", address).get("refused", ""), address


def test_a_block_outlives_the_table(machines: dict[str, Host]) -> None:
    node = machines["node-1"]
    ask(node, "block", ONE)
    node.check_output("nft delete table %s %s", *TABLE.split())
    node.check_output("systemctl restart forum-blocklist")
    assert not reaches(machines, ONE, "node-1")


def test_a_run_brings_the_lists_together(ansible: Run, machines: dict[str, Host]) -> None:
    ask(machines["node-2"], "block", ONE)
    done = ansible("converge.yml")
    assert done.returncode == 0, done.stdout
    for name in MANAGERS:
        assert not reaches(machines, ONE, name)
    assert ansible("converge.yml").stdout.count("changed=0") == len(MANAGERS)


def test_a_node_that_is_away_is_told_after_the_others_did_it(ansible: Run, machines: dict[str, Host]) -> None:
    node = machines["node-3"]
    node.check_output("chmod -x /usr/local/sbin/forum-blocklist")
    try:
        done = ansible("../../playbooks/block.yml", block_address=ONE)
    finally:
        node.check_output("chmod +x /usr/local/sbin/forum-blocklist")
    assert done.returncode == 2
    assert "Not at node-3" in words(done.stdout)
    assert [reaches(machines, ONE, name) for name in MANAGERS] == [False, False, True]
    assert ansible("../../playbooks/blocked.yml").returncode == 0
    assert not reaches(machines, ONE, "node-3")


def test_wrong_settings_are_refused_and_nothing_is_changed(ansible: Run) -> None:
    for wrong in ({"ip_blocklist_allowed": ["192.0.2.7/24"]}, {"ip_blocklist_seconds": 0}):
        refused = ansible("converge.yml", **wrong)
        assert refused.returncode != 0
        assert next(iter(wrong)) in refused.stdout
        assert "changed=0" in refused.stdout
