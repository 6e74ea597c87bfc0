"""HAProxy in front of Redis."""

from __future__ import annotations

import csv
import time

from role_lab import Run, Swarm, Task, words

LIBRARY = ". /usr/local/bin/redis-library.sh; ASK_SECONDS=5"


def through(swarm: Swarm, command: str) -> str:
    """What Redis answers to a client that knows only the name haproxy."""
    return swarm.task("redis-0").output("bash", "-c", f"{LIBRARY}; ask haproxy 6379 '{command}'").strip()


def order(task: Task, text: str) -> str:
    """What one HAProxy answers to a command."""
    return task.output("sh", "-c", f"echo '{text}' | socat - UNIX-CONNECT:/tmp/haproxy.sock")


def rows(task: Task) -> list[dict[str, str]]:
    """What one HAProxy tells of its frontends, backends and servers."""
    return list(csv.DictReader(order(task, "show stat").lstrip("# ").splitlines()))


def states(task: Task) -> dict[tuple[str, str], str]:
    """Backend and server -> UP or DOWN, as one HAProxy sees it."""
    return {(row["pxname"], row["svname"]): row["status"].split()[0] for row in rows(task)}


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


def errors(task: Task) -> int:
    """The connections that one HAProxy couldn't make, of all backends."""
    return sum(int(row["econ"] or 0) for row in rows(task) if row["svname"] == "BACKEND")


def test_who_comes_while_there_is_no_master_is_counted_among_the_errors(swarm: Swarm) -> None:
    task = swarm.tasks("haproxy")[0]
    servers = [f"redis-{number}/redis-{number}" for number in range(3)]
    before = errors(task)
    try:
        for server in servers:
            order(task, f"disable server {server}")
        command = "exec 3<>/dev/tcp/127.0.0.1/6379; cat <&3"
        assert task.run("timeout", "5", "bash", "-c", command).stdout == ""
        assert errors(task) > before
    finally:
        for server in servers:
            order(task, f"enable server {server}")
        wait_for_master(swarm)


def test_what_telegraf_tries_is_not_logged_and_what_clients_do_is(swarm: Swarm) -> None:
    logs = []
    for task in swarm.tasks("haproxy"):
        task.output("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/6379; printf 'QUIT\\r\\n' >&3; cat <&3")
        address = task.output("hostname", "--ip-address").split()[0]
        asked = swarm.task("redis-0").run("bash", "-c", f"{LIBRARY}; ask {address} 6379 PING")
        assert asked.stdout.strip() == "PONG"
        time.sleep(1)
        logs += task.machine.check_output("docker logs --since 10s %s", task.container).splitlines()
    clients = [line.partition(":")[0] for line in logs if " redis redis-" in line]
    assert clients
    assert "127.0.0.1" not in clients


def test_a_try_that_fails_at_once_is_no_fast_answer(swarm: Swarm) -> None:
    task = swarm.tasks("haproxy")[0]
    wait_for_master(swarm)

    def told(port: int) -> str:
        """What Telegraf tells of a port: 6379 answers as wanted, 8404 at once and otherwise."""
        script = (
            f"sed s/:6379/:{port}/ /etc/telegraf/telegraf.d/haproxy.conf >/tmp/trial.conf && "
            "telegraf --test --input-filter net_response --config /tmp/trial.conf; rm /tmp/trial.conf"
        )
        return task.output("sh", "-c", script)

    assert "haproxy_response" in told(6379)
    assert "haproxy_response" not in told(8404)


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
