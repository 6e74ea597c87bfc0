"""Redis as one master with replicas, and Sentinels that agree about it."""

from __future__ import annotations

import time

from role_lab import Run, Swarm, words

REDIS = ("redis-0", "redis-1", "redis-2")
SENTINELS = ("sentinel-0", "sentinel-1", "sentinel-2")
LIBRARY = ". /usr/local/bin/redis-library.sh; ASK_SECONDS=5"


def ask(swarm: Swarm, service: str, command: str) -> str:
    """What a Redis or a Sentinel answers, asked in its own container with the password of the secret."""
    port = "26379" if service in SENTINELS else "6379"
    return swarm.task(service).output("bash", "-c", f"{LIBRARY}; ask 127.0.0.1 {port} '{command}'").strip()


def roles(swarm: Swarm) -> dict[str, str]:
    return {name: ask(swarm, name, "ROLE").splitlines()[0] for name in REDIS}


def test_one_is_master_and_the_others_follow_it(swarm: Swarm) -> None:
    assert sorted(roles(swarm).values()) == ["master", "slave", "slave"]
    master = next(name for name, role in roles(swarm).items() if role == "master")
    assert "connected_slaves:2" in ask(swarm, master, "INFO replication")


def test_the_sentinels_agree_who_is_master_by_name(swarm: Swarm) -> None:
    master = next(name for name, role in roles(swarm).items() if role == "master")
    named = {ask(swarm, name, "SENTINEL get-master-addr-by-name mymaster") for name in SENTINELS}
    assert named == {f"{master}\n6379"}
    assert ask(swarm, SENTINELS[0], "SENTINEL ckquorum mymaster").startswith("OK 3 usable Sentinels")


def test_a_sentinel_that_stood_still_judges_soon_again(swarm: Swarm) -> None:
    # Set at the first look after the start, ten seconds later.
    deadline = time.monotonic() + 30
    for name in SENTINELS:
        while "TILT-PERIOD\n5000" not in (told := ask(swarm, name, "SENTINEL DEBUG")):
            assert time.monotonic() < deadline, f"{name}: {told}"
            time.sleep(1)


def test_nobody_enters_without_the_password(swarm: Swarm) -> None:
    for service, port in ((REDIS[0], "6379"), (SENTINELS[0], "26379")):
        answer = swarm.task(service).run("redis-cli", "-p", port, "PING")
        assert "NOAUTH" in answer.stdout + answer.stderr


def test_what_the_master_takes_a_replica_has(swarm: Swarm) -> None:
    master, replica = (
        next(name for name, role in roles(swarm).items() if role == wanted) for wanted in ("master", "slave")
    )
    written = str(time.monotonic_ns())
    assert ask(swarm, master, f"SET trial {written} EX 60") == "OK"
    assert int(ask(swarm, master, "WAIT 2 2000")) == 2
    assert ask(swarm, replica, "GET trial") == written
    assert ask(swarm, replica, "SET trial no").startswith("READONLY")


def test_each_keeps_its_data_on_a_node_of_its_own(swarm: Swarm) -> None:
    machines = {name: swarm.task(name).machine.backend.get_hostname() for name in REDIS}
    assert len(set(machines.values())) == len(REDIS)
    for name in REDIS:
        (mount,) = [
            mount for mount in swarm.task(name).inspect()["Mounts"] if mount["Destination"] == "/data"
        ]
        assert mount["Type"] == "volume"


def test_sentinels_without_a_majority_are_refused_and_nothing_is_changed(ansible: Run) -> None:
    refused = ansible("../shared/converge.yml", redis_sentinel_hosts=["sentinel-0", "sentinel-1"])
    assert refused.returncode != 0
    assert "keep no majority when one is lost: name at least three" in words(refused.stdout + refused.stderr)
    assert "changed=0" in refused.stdout
