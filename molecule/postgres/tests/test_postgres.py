"""PostgreSQL as one primary and two standbys."""

from __future__ import annotations

import time
import tomllib
from concurrent.futures import ThreadPoolExecutor

import pytest
from role_lab import Run, Swarm, words
from testinfra.backend.base import CommandResult

MEMBERS = ("postgres-0", "postgres-1", "postgres-2")


def sql(swarm: Swarm, member: str, statement: str, database: str = "postgres") -> str:
    """What a member answers to its superuser, over the socket."""
    return (
        swarm.task(member)
        .output("psql", "--host=/tmp", "--username=repmgr", f"--dbname={database}", "-Atc", statement)
        .strip()
    )


def as_the_forum(swarm: Swarm, host: str, statement: str, password: str | None = None) -> CommandResult:
    """The same to the forum's role over the network, from another member's container."""
    given = f"'{password}'" if password else '"$(cat /run/secrets/postgres_app_password)"'
    command = f'PGPASSWORD={given} psql --host={host} --username=misago --dbname=misago -Atc "{statement}"'
    return swarm.task("postgres-1").run("bash", "-c", command)


@pytest.fixture(scope="module")
def primary(swarm: Swarm) -> str:
    found = [name for name in MEMBERS if sql(swarm, name, "SELECT pg_is_in_recovery()") == "f"]
    assert len(found) == 1, found
    return found[0]


@pytest.fixture(scope="module")
def standbys(primary: str) -> list[str]:
    return [name for name in MEMBERS if name != primary]


def test_both_standbys_stream_and_one_of_them_confirms_every_commit(
    swarm: Swarm, primary: str, standbys: list[str]
) -> None:
    shown = sql(swarm, primary, "SELECT application_name, state, sync_state FROM pg_stat_replication")
    assert sorted(shown.splitlines()) == [f"{name}|streaming|quorum" for name in standbys]
    assert sql(swarm, primary, "SHOW synchronous_commit") == "on"


def test_a_standby_that_hears_nothing_is_not_taken_for_up_to_date(swarm: Swarm, standbys: list[str]) -> None:
    standby = standbys[0]
    asked = swarm.task(standby).output("cat", "/etc/telegraf/telegraf.d/postgres.conf")
    (extensible,) = tomllib.loads(asked)["inputs"]["postgresql_extensible"]
    (query,) = [
        query["sqlquery"] for query in extensible["query"] if query["measurement"] == "postgresql_replication"
    ]

    def lag(before: str = "") -> float:
        """Seconds, as Telegraf would be told."""
        return float(sql(swarm, standby, before + query).splitlines()[-1].split("|")[1])

    assert lag() < 5
    # Begun anew at once the first time, and later after a while: somewhere in between nothing comes.
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_wal_receiver; SELECT pg_sleep(0.2); "
    assert any(lag(cut) > 0 for _ in range(10))
    end = time.monotonic() + 60
    while "streaming" not in sql(swarm, standby, "SELECT status FROM pg_stat_wal_receiver"):
        assert time.monotonic() < end, f"{standby} doesn't stream again"
        time.sleep(0.5)


def test_repmgr_knows_the_same(swarm: Swarm, primary: str, standbys: list[str]) -> None:
    shown = sql(swarm, primary, "SELECT node_name, type, active FROM repmgr.nodes", "repmgr")
    wanted = [f"{primary}|primary|t", *(f"{name}|standby|t" for name in standbys)]
    assert sorted(shown.splitlines()) == sorted(wanted)


def test_the_forum_writes_and_every_standby_has_it(swarm: Swarm, primary: str, standbys: list[str]) -> None:
    mark = str(time.monotonic_ns())
    statement = f"CREATE TABLE trial (mark text); INSERT INTO trial VALUES ('{mark}')"  # noqa: S608
    written = as_the_forum(swarm, primary, statement)
    assert written.rc == 0, written.stderr
    try:
        for standby in standbys:
            end = time.monotonic() + 10
            while as_the_forum(swarm, standby, "SELECT mark FROM trial").stdout.strip() != mark:
                assert time.monotonic() < end, f"{standby} does not have it"
                time.sleep(0.2)
        refused = as_the_forum(swarm, standbys[0], "DELETE FROM trial")
        assert "read-only transaction" in refused.stderr
    finally:
        as_the_forum(swarm, primary, "DROP TABLE trial")


def test_nobody_enters_with_a_wrong_password(swarm: Swarm, primary: str) -> None:
    refused = as_the_forum(swarm, primary, "SELECT 1", password="wrong")  # noqa: S106
    assert refused.rc != 0
    assert "password authentication failed" in refused.stderr


def test_the_forum_is_no_superuser_and_sees_no_other_database(swarm: Swarm, primary: str) -> None:
    rights = "SELECT rolsuper, rolcreaterole, rolreplication FROM pg_roles WHERE rolname = 'misago'"
    assert sql(swarm, primary, rights) == "f|f|f"
    command = "PGPASSWORD=$(cat /run/secrets/postgres_app_password) psql --host=postgres-0 --username=misago postgres"
    assert "no pg_hba.conf entry" in swarm.task("postgres-1").run("bash", "-c", command).stderr


def test_pages_carry_checksums_and_times_are_utc(swarm: Swarm, primary: str) -> None:
    assert sql(swarm, primary, "SHOW data_checksums") == "on"
    assert sql(swarm, primary, "SHOW timezone") == "UTC"


def test_each_keeps_its_data_on_a_node_of_its_own(swarm: Swarm) -> None:
    assert len({swarm.task(name).machine.backend.get_hostname() for name in MEMBERS}) == len(MEMBERS)
    for name in MEMBERS:
        (mount,) = [
            mount
            for mount in swarm.task(name).inspect()["Mounts"]
            if mount["Destination"] == "/var/lib/postgresql/data"
        ]
        assert mount["Type"] == "volume"


def test_an_unknown_preset_is_refused_and_nothing_is_changed(ansible: Run) -> None:
    refused = ansible("../shared/converge.yml", postgres_failover="eager")
    assert refused.returncode != 0
    assert "value of postgres_failover must be one of: fast, normal, patient, got: eager" in words(
        refused.stdout
    )
    assert "changed=0" in refused.stdout


def serves(swarm: Swarm, member: str) -> bool:
    """Whether a member answers its superuser now."""
    command = ("psql", "--host=/tmp", "--username=repmgr", "--dbname=postgres", "-Atc", "SELECT 1")
    return any(task.run(*command).rc == 0 for task in swarm.tasks(member))


def test_a_changed_configuration_reaches_one_member_after_the_other(ansible: Run, swarm: Swarm) -> None:
    # Another value each time, so that there is a change also when the tests are run again.
    duration = 2001 + int(time.time()) % 998
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(ansible, "../shared/converge.yml", postgres_log_min_duration=duration)
        seen = {len(MEMBERS)}
        while not run.done():
            seen.add(sum(serves(swarm, member) for member in MEMBERS))
            time.sleep(0.3)
    assert run.result().returncode == 0, run.result().stdout
    assert seen == {2, 3}, "members that served at the same time"
    assert [sql(swarm, name, "SHOW log_min_duration_statement") for name in MEMBERS] == [f"{duration}ms"] * 3
