"""InfluxDB, seen from its own machine by way of its network address."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from role_lab import PREFIX, PROJECT, STATE, Run, process, words
from stack import versioned_names
from testinfra.backend.base import CommandResult
from testinfra.host import Host

URL = f"https://{PREFIX}.14:8086"
AUTHORITY = "/tmp/influxdb-trial-ca.crt"  # noqa: S108 - the test's own file, in the machine
UNIT = "influxdb.service"
BACKUP, RESTORE = (str(PROJECT / "playbooks" / f"metrics_{verb}.yml") for verb in ("backup", "restore"))
#: A password that takes another's place for a while.
OTHER = "kV8wqZr3TnYb5xHs0LdM"


@pytest.fixture(scope="module")
def monitor(machines: dict[str, Host]) -> Host:
    machine = machines["monitor"]
    machine.check_output("printf '%%s' %s > %s", (STATE / "pki" / "ca.crt").read_text(), AUTHORITY)
    return machine


def curl(machine: Host, path: str, user: str = "", *options: str, url: str = URL) -> CommandResult:
    """What curl says; the status is its last line. user: NAME:PASSWORD, or empty for nobody."""
    arguments = ["--cacert", AUTHORITY, "-w", "\n%{http_code}", *(("--user", user) if user else ()), *options]
    return machine.run("curl -sS " + " ".join(["%s"] * (len(arguments) + 1)), *arguments, f"{url}{path}")


def status(result: CommandResult) -> str:
    """The HTTP status of an answer."""
    return str(result.stdout).rsplit("\n", 1)[-1]


class Account:
    """An account of InfluxDB's, by which to ask it and to write."""

    def __init__(self, machine: Host, name: str, password: str) -> None:
        self.machine = machine
        self.name = name
        self.user = f"{name}:{password}"

    def ask(self, statement: str) -> CommandResult:
        """The answer to a statement."""
        return curl(self.machine, "/query?db=forum", self.user, "--data-urlencode", f"q={statement}")

    def results(self, statement: str) -> list[dict[str, Any]]:
        """The results of statements; each must succeed."""
        answer = self.ask(statement)
        assert status(answer) == "200", answer.stdout
        results: list[dict[str, Any]] = json.loads(str(answer.stdout).rsplit("\n", 1)[0])["results"]
        assert [result["error"] for result in results if "error" in result] == []
        return results

    def rows(self, statement: str) -> list[list[Any]]:
        """The rows of all series that a statement gives."""
        return [row for series in self.results(statement)[0].get("series", []) for row in series["values"]]

    def write(self, *lines: str) -> CommandResult:
        """Write points, in seconds."""
        return curl(self.machine, "/write?db=forum&precision=s", self.user, "--data-binary", "\n".join(lines))


def writer_of(machine: Host, password: str) -> Account:
    """The writer's account, which is named after its password."""
    return Account(machine, versioned_names({"writer": password}, "")["writer"], password)


@pytest.fixture
def account(monitor: Host, secret_values: dict[str, str]) -> Callable[[str], Account]:
    return lambda name: Account(monitor, name, secret_values[f"influxdb_{name}_password"])


@pytest.fixture
def admin(account: Callable[[str], Account]) -> Account:
    return account("admin")


@pytest.fixture
def writer(monitor: Host, secret_values: dict[str, str]) -> Account:
    return writer_of(monitor, secret_values["influxdb_writer_password"])


@pytest.fixture
def reader(account: Callable[[str], Account]) -> Account:
    return account("reader")


@pytest.fixture
def trial(admin: Account) -> Iterator[None]:
    """A measurement of this name is there for one test."""
    yield
    admin.results("DROP MEASUREMENT trial")


def answers(machine: Host) -> None:
    """Wait until InfluxDB answers again."""
    for _ in range(60):
        if status(curl(machine, "/ping")) == "204":
            return
        time.sleep(1)
    pytest.fail(str(machine.check_output("journalctl --no-pager -n 50 -u %s", UNIT)))


def test_it_runs_without_privileges_and_starts_with_the_machine(monitor: Host) -> None:
    service = monitor.service("influxdb")
    assert service.is_running
    assert service.is_enabled
    state = monitor.check_output("cat /proc/%s/status", process(monitor, UNIT))
    user = monitor.user("influxdb").uid
    assert f"Uid:\t{user}\t{user}\t{user}\t{user}\n" in state
    assert "CapEff:\t0000000000000000\n" in state
    assert "NoNewPrivs:\t1\n" in state
    assert "Seccomp:\t2\n" in state


def test_it_listens_on_the_machine_s_address_alone(monitor: Host) -> None:
    heard = monitor.check_output("ss -Hltnp").splitlines()
    own = {line.split()[3] for line in heard if "influxd" in line}
    assert own == {f"{PREFIX}.14:8086", "127.0.0.1:8088"}


def test_nobody_enters_without_a_password(monitor: Host, account: Callable[[str], Account]) -> None:
    for user in ("", "admin:", "admin:wrong", "reader:wrong", "stranger:wrong"):
        asked = curl(monitor, "/query?db=forum", user, "--data-urlencode", "q=SHOW MEASUREMENTS")
        assert status(asked) == "401", user
        written = curl(monitor, "/write?db=forum", user, "--data-binary", "trial value=1")
        assert status(written) == "401", user
    made = curl(
        monitor,
        "/query",
        "",
        "--data-urlencode",
        "q=CREATE USER mallory WITH PASSWORD 'x' WITH ALL PRIVILEGES",
    )
    assert status(made) == "401"


@pytest.mark.usefixtures("trial")
def test_the_writer_writes_and_reads_nothing(writer: Account, reader: Account) -> None:
    assert status(writer.write("trial,host=a value=1")) == "204"
    assert reader.rows("SELECT value FROM trial")[0][1] == 1
    for statement in ("SELECT * FROM trial", "DROP MEASUREMENT trial", "SHOW USERS"):
        assert "not authorized" in writer.ask(statement).stdout, statement


@pytest.mark.usefixtures("trial")
def test_the_reader_reads_and_changes_nothing(writer: Account, reader: Account) -> None:
    assert status(writer.write("trial,host=a value=1")) == "204"
    assert status(reader.write("trial,host=a value=2")) == "403"
    for statement in (
        "DROP MEASUREMENT trial",
        "DELETE FROM trial",
        "SELECT value INTO elsewhere FROM trial",
        "DROP DATABASE forum",
        "SHOW USERS",
    ):
        assert "not authorized" in reader.ask(statement).stdout, statement
    assert reader.rows("SELECT value FROM trial")[0][1] == 1


def test_plain_http_old_tls_and_a_stranger_s_authority_are_refused(monitor: Host) -> None:
    assert status(curl(monitor, "/ping", url=URL.replace("https", "http"))) in ("400", "000")
    old = curl(monitor, "/ping", "", "--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0")
    assert old.rc == 35, f"{old.stdout}{old.stderr}"
    stranger = monitor.run(f"curl -sS {URL}/ping")
    assert stranger.rc == 60, f"{stranger.stdout}{stranger.stderr}"
    assert status(curl(monitor, "/ping")) == "204"


def test_every_point_is_kept_for_a_while_and_means_for_longer(admin: Account) -> None:
    policies = {row[0]: (row[1], row[4]) for row in admin.rows("SHOW RETENTION POLICIES ON forum")}
    assert policies == {"full": ("336h0m0s", True), "year": ("8736h0m0s", False)}


def means(admin: Account) -> list[str]:
    """The continuous queries of the database."""
    found = admin.results("SHOW CONTINUOUS QUERIES")[0]["series"]
    return [query for series in found if series["name"] == "forum" for _, query in series.get("values", [])]


@pytest.mark.usefixtures("trial")
def test_means_of_every_numeric_field_are_taken_also_of_late_points(
    ansible: Run, admin: Account, writer: Account, reader: Account
) -> None:
    quick = ansible("converge.yml", influxdb_year_interval="5s", influxdb_year_late="2m")
    assert quick.returncode == 0, quick.stdout
    (query,) = means(admin)
    assert "time(5s)" in query
    # A point of a minute ago is one that a relay had kept.
    late = int(time.time()) // 5 * 5 - 60
    written = writer.write(
        f'trial,host=a value=1,count=2i,state="up" {late}',
        f"trial,host=a value=2,count=4i {late + 1}",
        f"trial,host=b value=7 {late}",
    )
    assert status(written) == "204", written.stdout
    statement = "SELECT host, mean_value, mean_count FROM year.trial"
    for _ in range(30):
        if len(rows := reader.rows(statement)) == 2:
            break
        time.sleep(1)
    assert sorted(row[1:] for row in rows) == [["a", 1.5, 3], ["b", 7, None]]
    fields = {row[0] for row in reader.rows("SHOW FIELD KEYS FROM year.trial")}
    assert fields == {"mean_value", "mean_count"}

    back = ansible("converge.yml")
    assert back.returncode == 0, back.stdout
    (query,) = means(admin)
    assert "RESAMPLE FOR 1h" in query
    assert "time(5m)" in query


def test_a_changed_password_is_taken_up_and_the_old_one_refused(
    ansible: Run, monitor: Host, secret_values: dict[str, str]
) -> None:
    before = process(monitor, UNIT)
    for name in ("reader", "admin"):
        old = Account(monitor, name, secret_values[f"influxdb_{name}_password"])
        new = Account(monitor, name, OTHER)
        changed = {f"influxdb_{name}_password": OTHER}

        dry = ansible("converge.yml", "--check", **changed)
        assert dry.returncode == 0, dry.stdout
        assert "changed=0" not in dry.stdout, f"a dry run doesn't tell of {name}'s new password"
        assert status(old.ask("SHOW DATABASES")) == "200"

        run = ansible("converge.yml", "--diff", "-vvv", **changed)
        assert run.returncode == 0, run.stdout
        assert status(old.ask("SHOW DATABASES")) == "401", name
        assert status(new.ask("SHOW DATABASES")) == "200", name
        again = ansible("converge.yml", **changed)
        assert "changed=0" in again.stdout, again.stdout

        back = ansible("converge.yml", "-vvv")
        assert back.returncode == 0, back.stdout
        assert status(old.ask("SHOW DATABASES")) == "200", name
        told = run.stdout + back.stdout
        assert OTHER not in told.replace(json.dumps(changed), ""), name
        assert secret_values[f"influxdb_{name}_password"] not in told, name
        if name != "admin":
            assert process(monitor, UNIT) == before, "only the administrator's password needs a restart"
    journal = monitor.check_output("journalctl --no-pager --quiet")
    assert OTHER not in journal
    assert [name for name, value in secret_values.items() if value in journal] == []


@pytest.mark.usefixtures("trial")
def test_a_new_password_of_the_writer_is_an_account_beside_the_old_one_until_that_is_forgotten(
    ansible: Run, monitor: Host, reader: Account, writer: Account, secret_values: dict[str, str]
) -> None:
    before = process(monitor, UNIT)
    new = writer_of(monitor, OTHER)
    changed = {"influxdb_writer_password": OTHER}
    try:
        dry = ansible("converge.yml", "--check", **changed)
        assert dry.returncode == 0, dry.stdout
        assert "changed=0" not in dry.stdout, "a dry run doesn't tell of the new password"
        assert status(new.write("trial,host=a value=1")) == "401"

        run = ansible("converge.yml", "--diff", "-vvv", **changed)
        assert run.returncode == 0, run.stdout
        for one in (writer, new):
            assert status(one.write(f"trial,host={one.name} value=1")) == "204"
        assert OTHER not in run.stdout.replace(json.dumps(changed), "")
        assert secret_values["influxdb_writer_password"] not in run.stdout

        dry = ansible("forget.yml", "--check", **changed)
        assert "changed=1" in dry.stdout, dry.stdout
        forgotten = ansible("forget.yml", **changed)
        assert forgotten.returncode == 0, forgotten.stdout
        assert status(writer.write("trial,host=a value=1")) == "401"
        assert status(new.write("trial,host=a value=1")) == "204"
        assert reader.rows("SELECT value FROM trial"), "the reader was forgotten, too"
        assert "changed=0" in ansible("forget.yml", **changed).stdout
    finally:
        back = [ansible(playbook) for playbook in ("converge.yml", "forget.yml")]
    assert [run.returncode for run in back] == [0, 0], back[-1].stdout
    assert status(writer.write("trial,host=a value=1")) == "204"
    assert status(new.write("trial,host=a value=1")) == "401"
    assert process(monitor, UNIT) == before


def test_a_password_that_can_not_be_set_leaves_influxdb_running(
    ansible: Run, monitor: Host, admin: Account
) -> None:
    refused = ansible("converge.yml", influxdb_admin_password="it's not to be quoted")  # noqa: S106
    assert refused.returncode != 0
    answers(monitor)
    assert status(admin.ask("SHOW DATABASES")) == "200"
    assert not monitor.service("influxdb-alone").is_running


def test_a_dry_run_tells_what_it_would_do_before_there_are_units(ansible: Run, monitor: Host) -> None:
    units, aside = "/etc/systemd/system/influxdb*.service", "/root/units"
    monitor.check_output(f"systemctl stop influxdb && mkdir {aside} && mv {units} {aside}/")
    monitor.check_output("systemctl daemon-reload")
    try:
        dry = ansible("converge.yml", "--check")
    finally:
        monitor.check_output(f"mv {aside}/* /etc/systemd/system/ && rmdir {aside} && systemctl daemon-reload")
        monitor.check_output("systemctl start influxdb")
        answers(monitor)
    assert dry.returncode == 0, dry.stdout
    assert "The administrator's password would be set" in words(dry.stdout)


def test_a_dry_run_tells_of_another_query_for_the_means(ansible: Run, admin: Account) -> None:
    before = means(admin)
    dry = ansible("converge.yml", "--check", influxdb_year_interval="7m")
    assert dry.returncode == 0, dry.stdout
    told = words(dry.stdout)
    assert "DROP CONTINUOUS QUERY" in told
    assert "GROUP BY time(7m)" in told
    assert "changed=0" not in told
    assert means(admin) == before


def test_neither_key_nor_password_can_be_read(monitor: Host, secret_values: dict[str, str]) -> None:
    key = monitor.file("/etc/influxdb/tls.key")
    assert (key.mode, key.group) == (0o640, "influxdb")
    assert monitor.file("/var/lib/influxdb/meta").mode == 0o700
    held = monitor.check_output("cat /etc/influxdb/influxdb.conf /etc/systemd/system/influxdb*; ps -eo args")
    assert [name for name, value in secret_values.items() if value in held] == []


def test_an_intruder_s_rights_are_taken_back(
    ansible: Run, admin: Account, reader: Account, writer: Account
) -> None:
    admin.results(f"GRANT ALL ON forum TO reader; GRANT ALL PRIVILEGES TO {writer.name}")
    run = ansible("converge.yml")
    assert run.returncode == 0, run.stdout
    assert status(reader.write("trial value=2")) == "403"
    assert dict(admin.rows("SHOW USERS")) == {"admin": True, writer.name: False, "reader": False}


@pytest.mark.usefixtures("trial")
def test_points_survive_a_kill(monitor: Host, writer: Account, reader: Account) -> None:
    before = process(monitor, UNIT)
    assert status(writer.write("trial,host=a value=1")) == "204"
    monitor.check_output("systemctl kill --signal=KILL %s", UNIT)
    answers(monitor)
    assert process(monitor, UNIT) != before
    assert reader.rows("SELECT value FROM trial")[0][1] == 1


@pytest.mark.usefixtures("trial")
def test_a_further_series_than_allowed_is_refused_and_the_others_go_on(
    ansible: Run, admin: Account, writer: Account, reader: Account
) -> None:
    known = int(admin.rows("SHOW SERIES EXACT CARDINALITY")[0][0]) if admin.rows("SHOW MEASUREMENTS") else 0
    limited = ansible("converge.yml", influxdb_max_series=known + 2)
    assert limited.returncode == 0, limited.stdout
    assert status(writer.write(*(f"trial,host={host} value=1" for host in "ab"))) == "204"
    refused = writer.write("trial,host=c value=1")
    assert status(refused) == "400"
    assert "max-series-per-database limit exceeded" in refused.stdout
    assert status(writer.write(f"trial,host=a value=2 {int(time.time()) + 1}")) == "204"
    back = ansible("converge.yml")
    assert back.returncode == 0, back.stdout


@pytest.mark.usefixtures("trial")
def test_a_backup_brings_lost_points_back_and_keeps_newer_ones(
    ansible: Run, admin: Account, writer: Account, reader: Account
) -> None:
    now = int(time.time())
    # Of three shards, of which one is about to expire; a field has another type in another measurement.
    ages = (1, 40, 26 * 3600, 13 * 86400)
    lines = [f'trial,host={host} value={age}i,state="up" {now - age}' for host in "ab" for age in ages]
    assert status(writer.write(*lines, f"other,host=a value=0.5 {now}")) == "204"
    backed = ansible(BACKUP, influxdb_backups_kept=1)
    assert backed.returncode == 0, backed.stdout

    admin.results("DROP MEASUREMENT trial; DROP MEASUREMENT other")
    assert status(writer.write(f"trial,host=a value=99i {now + 1}")) == "204"
    restored = ansible(RESTORE)
    assert restored.returncode == 0, restored.stdout

    assert reader.rows("SELECT count(value) FROM trial")[0][1] == len(lines) + 1
    assert reader.rows("SELECT count(state) FROM trial")[0][1] == len(lines)
    assert reader.rows("SELECT last(value) FROM trial")[0][1] == 99
    assert reader.rows("SELECT value FROM other")[0][1] == 0.5
    assert dict(reader.rows("SHOW FIELD KEYS FROM trial")) == {"value": "integer", "state": "string"}
    assert [row[0] for row in admin.rows("SHOW DATABASES")] == ["forum"]
    admin.results("DROP MEASUREMENT other")

    # The newest alone is kept, and nothing of it can be read by others.
    assert ansible(BACKUP, influxdb_backups_kept=1).returncode == 0
    kept = admin.machine.check_output("ls /var/backups/influxdb").split()
    assert len(kept) == 1
    assert admin.machine.file("/var/backups/influxdb").mode == 0o700
    missing = ansible(RESTORE, influxdb_backup="forum-19700101T000000Z")
    assert missing.returncode != 0
    assert f"choose one of {kept[0]}" in words(missing.stdout)


@pytest.mark.usefixtures("trial")
def test_what_can_not_be_brought_back_ends_the_restore(ansible: Run, admin: Account, writer: Account) -> None:
    now = int(time.time())
    # The second statement of a request that fails.
    assert status(writer.write(*(f"{name},host=a value=1i {now}" for name in ("other", "trial")))) == "204"
    backed = ansible(BACKUP, influxdb_backups_kept=1)
    assert backed.returncode == 0, backed.stdout
    admin.results("DROP MEASUREMENT trial")
    assert status(writer.write(f'trial,host=a value="text" {now}')) == "204"
    refused = ansible(RESTORE)
    admin.results("DROP MEASUREMENT other")
    assert refused.returncode != 0, refused.stdout
    assert "field type conflict" in words(refused.stdout), refused.stdout
    assert [row[0] for row in admin.rows("SHOW DATABASES")] == ["forum"]


def test_to_keep_no_backup_is_refused(ansible: Run, monitor: Host) -> None:
    before = monitor.check_output("ls /var/backups/influxdb")
    refused = ansible(BACKUP, influxdb_backups_kept=0)
    assert refused.returncode != 0
    assert "influxdb_backups_kept is 0: keep at least the one that is made" in words(refused.stdout)
    assert monitor.check_output("ls /var/backups/influxdb") == before


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("influxdb_source", "floppy", "floppy"),
        ("influxdb_port", "many", "influxdb_port"),
        ("influxdb_full_duration", "a fortnight", "influxdb_full_duration is a fortnight"),
    ],
)
def test_bad_values_are_refused_and_nothing_is_changed(
    ansible: Run, variable: str, value: str, told: str
) -> None:
    refused = ansible("converge.yml", **{variable: value})
    assert refused.returncode != 0
    assert told in words(refused.stdout)
    assert "changed=0" in refused.stdout


def test_a_configuration_that_no_restart_followed_is_taken_up_once(ansible: Run, monitor: Host) -> None:
    before = process(monitor, UNIT)
    monitor.check_output("touch /etc/influxdb/influxdb.conf")
    made_up = ansible("converge.yml")
    assert made_up.returncode == 0, made_up.stdout
    now = process(monitor, UNIT)
    assert now != before

    again = ansible("converge.yml")
    assert "changed=0" in again.stdout
    assert process(monitor, UNIT) == now
