"""A container that behaves as a machine."""

from __future__ import annotations

import json
import subprocess

import pytest
import testinfra
from role_lab import LAB, PREFIX, STATE
from testinfra.host import Host


@pytest.fixture(scope="module")
def machine() -> Host:
    """The machine that this scenario made, over SSH with the lab's key."""
    known = STATE / "ssh" / "known_hosts"
    return testinfra.get_host(
        f"ssh://root@{PREFIX}.19",
        ssh_identity_file=str(STATE / "ssh" / "id_ed25519"),
        ssh_extra_args=f"-o UserKnownHostsFile={known} -o StrictHostKeyChecking=yes",
    )


def test_systemd_is_the_first_process_and_content(machine: Host) -> None:
    assert machine.process.get(pid=1).comm == "systemd"
    assert machine.run("systemctl is-system-running --wait").stdout.strip() == "running"


def test_it_has_the_name_and_address_of_the_inventory(machine: Host) -> None:
    assert machine.check_output("hostname") == f"{LAB}-node-9"
    assert f"{PREFIX}.19/24" in machine.check_output("ip -4 -oneline address show")


def test_it_has_an_engine_of_its_own(machine: Host) -> None:
    assert not machine.service("docker").is_running, "the engine waits for its role"
    machine.check_output("systemctl start docker")
    assert machine.check_output("docker ps --all --quiet") == ""
    assert machine.check_output("docker info --format '{{.Driver}}'") == "overlay2"


def test_only_the_labs_key_opens_it(machine: Host) -> None:
    keys = machine.file("/root/.ssh/authorized_keys").content_string.splitlines()
    assert keys == (STATE / "ssh" / "id_ed25519.pub").read_text().splitlines()


def test_it_shares_files_with_the_other_machines(machine: Host) -> None:
    machine.check_output("touch /srv/forum/from-node-9")
    seen = testinfra.get_host(f"docker://{LAB}-node-1").file("/srv/forum/from-node-9")
    assert seen.exists
    machine.check_output("rm /srv/forum/from-node-9")


def test_it_has_no_more_rights_on_the_outer_engine_than_it_needs() -> None:
    inspected = subprocess.run(
        ["docker", "inspect", f"{LAB}-node-9"], check=True, capture_output=True, text=True
    )
    container = json.loads(inspected.stdout)[0]
    assert not container["HostConfig"]["Privileged"]
    assert not any("docker.sock" in mount["Source"] for mount in container["Mounts"])
    assert container["Config"]["Labels"]["forum.lab"] == LAB
