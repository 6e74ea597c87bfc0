"""The forum behind its edge."""

from __future__ import annotations

import json

import pytest
from role_lab import MANAGERS, Run, Swarm, Task, words

DOMAIN = "forum.lab.test"
FETCH = """
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=20)
connection.request("GET", sys.argv[1], headers={"Host": sys.argv[2], "X-Forwarded-Proto": "https"})
answer = connection.getresponse()
print(json.dumps([answer.status, answer.read().decode(errors="replace")]))
"""


def fetch(task: Task, path: str, host: str = DOMAIN) -> tuple[int, str]:
    """Status and body that a replica answers with."""
    status, body = json.loads(task.output("python", "-c", FETCH, path, host))
    return int(status), str(body)


def database(swarm: Swarm, statement: str) -> str:
    """What the forum's database holds, by way of Pgpool."""
    command = (
        "PGPASSWORD=$(cat /run/secrets/postgres_app_password) "
        f'psql --host=pgpool --username=misago --dbname=misago -Atc "{statement}"'
    )
    return swarm.task("postgres-1").output("bash", "-c", command).strip()


@pytest.fixture(scope="module")
def replicas(swarm: Swarm) -> list[Task]:
    return swarm.tasks("misago")


def test_every_replica_serves_the_forum(replicas: list[Task]) -> None:
    assert len(replicas) == 3
    for replica in replicas:
        assert fetch(replica, "/healthcheck/")[0] == 200
        status, body = fetch(replica, "/")
        assert status == 200
        assert "<title>Misago</title>" in body


def test_a_strange_name_is_refused(replicas: list[Task]) -> None:
    assert fetch(replicas[0], "/", host="elsewhere.test")[0] == 400


def test_the_release_ran_once_and_left_what_the_forum_needs(swarm: Swarm) -> None:
    command = "docker service ps --format '{{.CurrentState}}' forum_release"
    assert [line.split()[0] for line in swarm.manager.check_output(command).splitlines()] == ["Complete"]
    assert int(database(swarm, "SELECT count(*) FROM django_migrations")) > 100
    assert database(swarm, "SELECT count(*) FROM misago_users_user WHERE username = 'admin'") == "1"


def test_every_node_has_the_static_files_that_pages_name(swarm: Swarm, replicas: list[Task]) -> None:
    page = fetch(replicas[0], "/")[1]
    named = [
        word for word in page.split('"') if word.startswith("/static/") and word.endswith((".css", ".js"))
    ]
    assert named
    for machine in (swarm.machines[name] for name in MANAGERS):
        for path in named:
            assert machine.file(f"/srv/forum{path}").exists, path


def test_a_replica_has_no_way_out(replicas: list[Task]) -> None:
    connect = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=2)"
    assert replicas[0].run("python", "-c", connect).rc != 0
    networks = replicas[0].inspect()["NetworkSettings"]["Networks"]
    assert sorted(networks) == ["forum_misago", "forum_postgres", "forum_redis"]


def test_a_worker_takes_tasks(swarm: Swarm) -> None:
    ping = ["celery", "--app", "forum", "inspect", "ping", "--timeout", "20"]
    # What is run in a container beside its program doesn't pass by the loader.
    answer = swarm.task("celery").run("load-secrets", *ping)
    assert "pong" in answer.stdout, answer.stderr


def test_a_wrong_number_of_workers_is_refused_and_nothing_is_changed(ansible: Run) -> None:
    refused = ansible("converge.yml", misago_workers="many")
    assert refused.returncode != 0
    assert "misago_workers" in refused.stdout


def test_a_release_that_fails_stops_the_run_and_the_forum_goes_on(ansible: Run, swarm: Swarm) -> None:
    def runs() -> int:
        task = swarm.service("release")["Spec"]["TaskTemplate"]
        return int(task["ContainerSpec"]["Labels"]["forum.run"])

    before, index = runs(), swarm.service("misago")["Version"]["Index"]

    # The second variable would change Misago's own service, if the run went on.
    failed = ansible("converge.yml", misago_forum_settings={"no_such": 1}, misago_statement_timeout=29)

    assert failed.returncode != 0
    told = words(failed.stdout)
    assert "forum_release 0/1: the job failed" in told
    assert "Misago has no setting" in told
    assert "no_such" in told
    assert swarm.service("misago")["Version"]["Index"] == index
    assert all(fetch(replica, "/healthcheck/")[0] == 200 for replica in swarm.tasks("misago"))

    done = ansible("converge.yml")
    assert done.returncode == 0, done.stdout
    assert runs() == before + 2
    assert swarm.service("misago")["Version"]["Index"] == index, "nothing of it has changed"
    assert "changed=0" in ansible("converge.yml").stdout
