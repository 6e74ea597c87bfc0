"""One swarm of three managers."""

from __future__ import annotations

from pathlib import Path

from role_lab import LAB, MANAGERS, PREFIX, Run, Swarm, words


def test_every_node_manages_and_is_ready(swarm: Swarm) -> None:
    found = swarm.inspect("node", *swarm.names("node"))
    assert [node["Spec"]["Role"] for node in found] == ["manager"] * len(MANAGERS)
    assert {node["Status"]["State"] for node in found} == {"ready"}
    assert {node["Spec"]["Availability"] for node in found} == {"active"}
    assert {node["ManagerStatus"]["Reachability"] for node in found} == {"reachable"}


def test_they_speak_on_the_lab_s_network(swarm: Swarm) -> None:
    addresses = {node["ManagerStatus"]["Addr"] for node in swarm.inspect("node", *swarm.names("node"))}
    assert addresses == {f"{PREFIX}.{last}:2377" for last in (11, 12, 13)}


def test_a_silent_connection_ends_soon_also_after_a_start(swarm: Swarm) -> None:
    for machine in (swarm.machines[name] for name in MANAGERS):
        assert machine.check_output("cat /proc/sys/net/ipv4/tcp_retries2") == "5"
        assert machine.file("/etc/sysctl.d/60-swarm.conf").content_string.strip() == "net.ipv4.tcp_retries2=5"


def test_the_labels_are_those_of_the_inventory(swarm: Swarm) -> None:
    labels = {
        node["Description"]["Hostname"]: node["Spec"]["Labels"]
        for node in swarm.inspect("node", *swarm.names("node"))
    }
    assert labels == {
        f"{LAB}-node-{number}": {"postgres": str(number - 1), "redis": str(number - 1), "edge": "true"}
        for number in (1, 2, 3)
    }


def test_overlays_take_their_addresses_from_the_pool(swarm: Swarm) -> None:
    network = "trial_pool"
    swarm.manager.check_output(f"docker network create --driver overlay --internal {network}")
    try:
        subnet = swarm.inspect("network", network)[0]["IPAM"]["Config"][0]["Subnet"]
    finally:
        swarm.manager.check_output(f"docker network rm {network}")
    assert subnet.startswith("10.200."), subnet
    assert subnet.endswith("/24"), subnet


def test_a_node_is_drained_and_comes_back_and_no_token_is_told(ansible: Run, swarm: Swarm) -> None:
    def availability() -> dict[str, str]:
        return {
            node["Description"]["Hostname"]: node["Spec"]["Availability"]
            for node in swarm.inspect("node", *swarm.names("node"))
        }

    drained = ansible("converge.yml", "-vvv", "--limit", "node-3", swarm_availability="drain")
    assert drained.returncode == 0, drained.stdout
    token = swarm.manager.check_output("docker swarm join-token --quiet manager")
    assert token not in drained.stdout + drained.stderr
    assert availability() == {f"{LAB}-node-1": "active", f"{LAB}-node-2": "active", f"{LAB}-node-3": "drain"}

    back = ansible("converge.yml", "--limit", "node-3")
    assert back.returncode == 0, back.stdout
    assert set(availability().values()) == {"active"}


def test_an_unknown_availability_is_refused_and_changes_nothing(ansible: Run, swarm: Swarm) -> None:
    before = swarm.inspect("node", *swarm.names("node"))
    refused = ansible("converge.yml", swarm_availability="asleep")
    assert refused.returncode != 0
    assert "value of swarm_availability must be one of: active, pause, drain, got: asleep" in words(
        refused.stdout
    )
    after = swarm.inspect("node", *swarm.names("node"))
    assert [node["Version"] for node in after] == [node["Version"] for node in before]


def test_a_replaced_first_manager_joins_the_others_and_starts_no_second_swarm(
    ansible: Run, swarm: Swarm
) -> None:
    first, second = swarm.machines[MANAGERS[0]], swarm.machines[MANAGERS[1]]
    cluster = second.check_output("docker info --format '{{.Swarm.Cluster.ID}}'")
    lost = first.check_output("docker info --format '{{.Swarm.NodeID}}'")
    second.check_output("docker node demote %s", lost)
    first.check_output("docker swarm leave --force")
    second.check_output("docker node rm --force %s", lost)

    joined = ansible("converge.yml")

    assert joined.returncode == 0, joined.stdout
    assert first.check_output("docker info --format '{{.Swarm.Cluster.ID}}'") == cluster
    test_every_node_manages_and_is_ready(swarm)
    test_the_labels_are_those_of_the_inventory(swarm)


def test_no_second_swarm_is_started_while_a_manager_does_not_answer(
    ansible: Run, swarm: Swarm, tmp_path: Path
) -> None:
    away = tmp_path / "away.yml"
    away.write_text(
        f"swarm_managers: {{hosts: {{node-8: {{ansible_host: {PREFIX}.18, ansible_ssh_timeout: 3, "
        "ansible_ssh_retries: 0}}}\n"
    )
    before = swarm.manager.check_output("docker info --format '{{.Swarm.NodeID}}'")
    refused = ansible(
        "converge.yml", "--inventory", str(away), "--limit", "node-1", swarm_managers=["node-8"]
    )
    assert refused.returncode != 0
    assert "No manager that answers is in a swarm, and these don't answer: node-8" in words(refused.stdout)
    assert swarm.manager.check_output("docker info --format '{{.Swarm.NodeID}}'") == before


def test_the_cause_of_a_refused_join_is_told_without_the_token(ansible: Run, swarm: Swarm) -> None:
    third = swarm.machines[MANAGERS[2]]
    token = swarm.manager.check_output("docker swarm join-token --quiet manager")
    node = third.check_output("docker info --format '{{.Swarm.NodeID}}'")
    swarm.manager.check_output("docker node demote %s", node)
    third.check_output("docker swarm leave --force")
    swarm.manager.check_output("docker node rm --force %s", node)
    try:
        refused = ansible("converge.yml", "-vvv", "--limit", "node-3", swarm_address="no-such-interface")
        assert refused.returncode != 0
        assert "Can not join the Swarm Cluster" in words(refused.stdout)
        assert token not in refused.stdout + refused.stderr
    finally:
        back = ansible("converge.yml")
    assert back.returncode == 0, back.stdout
    test_every_node_manages_and_is_ready(swarm)
