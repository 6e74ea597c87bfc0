"""HAProxy in front of Redis."""

from __future__ import annotations

import csv
import time

from role_lab import Run, Swarm, Task, words

LIBRARY = ". /usr/local/bin/redis-library.sh; ASK_SECONDS=5"


def through(swarm: Swarm, command: str) -> str:
    """What Redis answers to a client that knows only the name haproxy."""
    return swarm.task("redis-0").output("bash", "-c", f"{LIBRARY}; ask haproxy 6379 '{command}'").strip()


def states(task: Task) -> dict[tuple[str, str], str]:
    """Backend and server -> UP or DOWN, as one HAProxy sees it."""
    shown = task.output("sh", "-c", "echo 'show stat' | socat - UNIX-CONNECT:/tmp/haproxy.sock")
    rows = csv.DictReader(shown.lstrip("# ").splitlines())
    return {(row["pxname"], row["svname"]): row["status"].split()[0] for row in rows}


def wait_for_master(swarm: Swarm) -> None:
    end = time.monotonic() + 20
    while not through(swarm, "ROLE").startswith("master"):
        assert time.monotonic() < end, "no master behind HAProxy"
        time.sleep(0.5)


def test_a_client_reaches_the_master(swarm: Swarm) -> None:
    wait_for_master(swarm)
    written = str(time.monotonic_ns())
    assert through(swarm, f"SET trial {written} EX 60") == "OK"
    assert through(swarm, "GET trial") == written


def test_it_lets_in_nobody_whom_redis_does_not_know(swarm: Swarm) -> None:
    answer = swarm.task("redis-0").run("redis-cli", "-h", "haproxy", "PING")
    assert "NOAUTH" in answer.stdout + answer.stderr


def test_both_have_only_the_master_up_and_see_every_sentinel(swarm: Swarm) -> None:
    for task in swarm.tasks("haproxy"):
        seen = states(task)
        redis = {server: state for (backend, server), state in seen.items() if backend == server}
        assert sorted(redis.values()) == ["DOWN", "DOWN", "UP"], redis
        master = next(server for server, state in redis.items() if state == "UP")
        named = {
            server: state
            for (backend, server), state in seen.items()
            if server.startswith("sentinel-") and backend.endswith(master[-1])
        }
        assert named == {"sentinel-0": "UP", "sentinel-1": "UP", "sentinel-2": "UP"}


def test_they_are_on_nodes_of_their_own(swarm: Swarm) -> None:
    assert len({task.machine.backend.get_hostname() for task in swarm.tasks("haproxy")}) == 2


def test_too_few_sentinels_are_refused_and_nothing_is_changed(ansible: Run) -> None:
    refused = ansible("../shared/converge.yml", haproxy_sentinel_hosts=["sentinel-0", "sentinel-1"])
    assert refused.returncode != 0
    assert "keep no majority when one is lost: name at least three" in words(refused.stdout + refused.stderr)
    assert "changed=0" in refused.stdout


def test_a_changed_configuration_rolls_out_under_a_new_name(ansible: Run, swarm: Swarm) -> None:
    def configuration() -> str:
        container = swarm.service("haproxy")["Spec"]["TaskTemplate"]["ContainerSpec"]
        return str(container["Configs"][0]["ConfigName"])

    before = configuration()
    changed = ansible("../shared/converge.yml", haproxy_maxconn=1999)

    assert changed.returncode == 0, changed.stdout
    assert configuration() != before
    for task in swarm.tasks("haproxy"):
        assert "maxconn 1999" in task.output("cat", "/etc/haproxy/haproxy.cfg")
    assert before in swarm.names("config"), "a rollback needs it"
    wait_for_master(swarm)
