"""Pgpool in front of PostgreSQL."""

from __future__ import annotations

import pytest
from role_lab import Run, Swarm
from testinfra.backend.base import CommandResult


def query(swarm: Swarm, host: str, statement: str, password: str | None = None) -> CommandResult:
    """What the forum's role is answered, from another container of the network."""
    given = f"'{password}'" if password else '"$(cat /run/secrets/postgres_app_password)"'
    command = f'PGPASSWORD={given} psql --host={host} --username=misago --dbname=misago -Atc "{statement}"'
    return swarm.task("postgres-1").run("bash", "-c", command)


@pytest.fixture(scope="module")
def addresses(swarm: Swarm) -> list[str]:
    """The replicas' addresses, as a client sees them behind the name pgpool."""
    shown = swarm.task("postgres-1").output("getent", "ahostsv4", "pgpool")
    return sorted({line.split()[0] for line in shown.splitlines()})


def test_every_replica_leads_to_the_primary(swarm: Swarm, addresses: list[str]) -> None:
    assert len(addresses) == 3
    for address in addresses:
        answer = query(swarm, address, "SELECT pg_is_in_recovery()")
        assert answer.stdout.strip() == "f", answer.stderr


def test_every_replica_sees_every_member_up(swarm: Swarm, addresses: list[str]) -> None:
    for address in addresses:
        shown = query(swarm, address, "SHOW pool_nodes").stdout.splitlines()
        members = [line.split("|") for line in shown if line]
        assert [member[1] for member in members] == ["postgres-0", "postgres-1", "postgres-2"]
        assert {member[3] for member in members} == {"up"}, shown
        assert sorted(member[6] for member in members) == ["primary", "standby", "standby"], shown


def test_what_is_written_through_one_is_read_through_another(swarm: Swarm, addresses: list[str]) -> None:
    assert query(swarm, addresses[0], "CREATE TABLE trial_pool (mark int)").rc == 0
    try:
        for mark in range(5):
            assert query(swarm, addresses[mark % 3], f"INSERT INTO trial_pool VALUES ({mark})").rc == 0  # noqa: S608
            read = query(swarm, addresses[(mark + 1) % 3], "SELECT max(mark) FROM trial_pool")
            assert read.stdout.strip() == str(mark), read.stderr
    finally:
        query(swarm, addresses[0], "DROP TABLE trial_pool")


def test_nobody_enters_with_a_wrong_password(swarm: Swarm, addresses: list[str]) -> None:
    refused = query(swarm, addresses[0], "SELECT 1", password="wrong")  # noqa: S106
    assert refused.rc != 0
    assert "authentication failed" in refused.stderr


def test_the_password_it_keeps_is_encrypted(swarm: Swarm) -> None:
    task = swarm.task("pgpool")
    assert task.run("bash", "-c", "grep -rqF -f /run/secrets/pgpool_app_password /tmp").rc == 1


def test_they_are_on_nodes_of_their_own(swarm: Swarm) -> None:
    assert len({task.machine.backend.get_hostname() for task in swarm.tasks("pgpool")}) == 3


def test_a_wrong_number_of_sessions_is_refused_and_nothing_is_changed(ansible: Run) -> None:
    refused = ansible("../shared/converge.yml", pgpool_sessions="plenty")
    assert refused.returncode != 0
    assert "pgpool_sessions" in refused.stdout
    assert "changed=0" in refused.stdout
