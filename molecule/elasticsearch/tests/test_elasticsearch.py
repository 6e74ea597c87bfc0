"""Elasticsearch, seen from its own machine by way of its network address."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from role_lab import PREFIX, PROJECT, STATE, Run, process, words
from testinfra.backend.base import CommandResult
from testinfra.host import Host

URL = f"https://{PREFIX}.14:9200"
AUTHORITY = "/tmp/elasticsearch-trial-ca.crt"  # noqa: S108 - the test's own file, in the machine
UNIT, KEEPER = "elasticsearch.service", "elasticsearch-keeper.service"
BACKUP, RESTORE = (str(PROJECT / "playbooks" / f"logs_{verb}.yml") for verb in ("backup", "restore"))
#: Of a day that the keeper leaves alone, whenever the test runs.
INDEX = f"forum-logs-{time.strftime('%Y.%m.%d', time.gmtime())}"
YESTERDAY = f"forum-logs-{time.strftime('%Y.%m.%d', time.gmtime(time.time() - 86400))}"
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
    """An account of Elasticsearch's, by which to ask it and to write."""

    def __init__(self, machine: Host, name: str, password: str) -> None:
        self.machine = machine
        self.user = f"{name}:{password}"

    def ask(self, method: str, path: str, body: object = None) -> CommandResult:
        """The answer to a request; a body is sent as JSON, a text as it is."""
        text = body if isinstance(body, str) else json.dumps(body)
        sent = ("-H", "Content-Type: application/json", "--data-binary", text) if body is not None else ()
        return curl(self.machine, path, self.user, "-X", method, *sent)

    def told(self, method: str, path: str, body: object = None) -> Any:
        """What an answer says; it must be a good one."""
        answer = self.ask(method, path, body)
        assert status(answer) in ("200", "201"), answer.stdout
        return json.loads(str(answer.stdout).rsplit("\n", 1)[0])

    def write(self, *lines: tuple[str, dict[str, Any]], index: str = INDEX) -> list[int]:
        """Write lines in the shape of Telegraf's: id and fields. Returns the status of each."""
        body = ""
        for name, fields in lines:
            tags = {"event.id": name, "service.name": "trial", "host.name": "monitor"}
            document = {
                "@timestamp": "2026-11-26T12:00:00.5Z", "measurement_name": "line", "tag": tags, "line": fields
            }  # fmt: skip
            body += json.dumps({"index": {"_index": index, "_id": name}}) + "\n" + json.dumps(document) + "\n"
        return [item["index"]["status"] for item in self.told("POST", "/_bulk", body)["items"]]

    def found(self, query: str, *fields: str) -> list[dict[str, Any]]:
        """The fields of the lines that match, by id."""
        wanted = {"query": {"query_string": {"query": query}}, "fields": list(fields), "_source": False}
        hits = self.told("POST", "/forum-logs-*/_search?size=1000", wanted)["hits"]["hits"]
        return [hit.get("fields", {}) for hit in sorted(hits, key=lambda hit: str(hit["_id"]))]


@pytest.fixture
def account(monitor: Host, secret_values: dict[str, str]) -> Callable[[str], Account]:
    return lambda name: Account(monitor, name, secret_values[f"elasticsearch_{name}_password"])


@pytest.fixture
def operator(account: Callable[[str], Account]) -> Iterator[Account]:
    """The account that this deployment uses; what a test left goes with it."""
    found = account("operator")
    yield found
    for row in found.told("GET", "/_cat/indices/forum-logs-*,restored-*?format=json&h=index"):
        found.told("DELETE", f"/{row['index']}")


@pytest.fixture
def writer(account: Callable[[str], Account]) -> Account:
    return account("writer")


@pytest.fixture
def reader(account: Callable[[str], Account]) -> Account:
    return account("reader")


def answers(account: Account) -> None:
    """Wait until Elasticsearch answers again."""
    for _ in range(120):
        if status(account.ask("GET", "/")) == "200":
            return
        time.sleep(1)
    pytest.fail(str(account.machine.check_output("journalctl --no-pager -n 50 -u %s", UNIT)))


def megabytes(machine: Host, column: str) -> int:
    """What df's column says of the disk of Elasticsearch."""
    told = machine.check_output("df --block-size=1M --output=%s /var/lib/elasticsearch", column)
    return int(told.split()[-1])


def refresh(operator: Account) -> None:
    """Have all that was written found."""
    operator.told("POST", "/forum-logs-*/_refresh")


def test_it_runs_without_privileges_and_starts_with_the_machine(monitor: Host) -> None:
    service = monitor.service("elasticsearch")
    assert service.is_running
    assert service.is_enabled
    state = monitor.check_output("cat /proc/%s/status", process(monitor, UNIT))
    user = monitor.user("elasticsearch").uid
    assert f"Uid:\t{user}\t{user}\t{user}\t{user}\n" in state
    assert "CapEff:\t0000000000000000\n" in state
    assert "NoNewPrivs:\t1\n" in state
    assert "Seccomp:\t2\n" in state
    assert monitor.service("elasticsearch-keeper.timer").is_running
    assert monitor.service("elasticsearch-keeper.timer").is_enabled


def test_it_listens_on_the_machine_s_address_alone(monitor: Host) -> None:
    heard = monitor.check_output("ss -Hltnp").splitlines()
    # Java's sockets are of both families.
    own = {line.split()[3].replace("[::ffff:", "").replace("]", "") for line in heard if '"java"' in line}
    assert own == {f"{PREFIX}.14:9200", "127.0.0.1:9300"}


def test_nobody_enters_without_a_password(monitor: Host, operator: Account, writer: Account) -> None:
    assert writer.write(("a", {})) == [201]
    for user in ("", "operator:", "operator:wrong", "reader:wrong", "stranger:wrong", "elastic:changeme"):
        for path in ("/", f"/{INDEX}/_search", "/_security/_authenticate"):
            assert status(curl(monitor, path, user)) == "401", (user, path)
        assert status(curl(monitor, f"/{INDEX}", user, "-X", "DELETE")) == "401", user


def test_nobody_joins_without_a_certificate(monitor: Host) -> None:
    joined = curl(monitor, "/", "", "--insecure", url="https://127.0.0.1:9300")
    assert joined.rc in (35, 56), f"{joined.stdout}{joined.stderr}"


def test_the_writer_writes_and_reads_nothing(operator: Account, writer: Account) -> None:
    # The same line that comes twice is there once: the second takes the first one's place.
    assert writer.write(("a", {"message": "one"})) == [201]
    assert writer.write(("a", {"message": "one"}), ("b", {})) == [200, 201]
    for method, path, body in (
        ("GET", f"/{INDEX}/_search", None),
        ("GET", f"/{INDEX}/_doc/a", None),
        ("DELETE", f"/{INDEX}/_doc/a", None),
        ("DELETE", f"/{INDEX}", None),
        ("PUT", f"/{INDEX}/_mapping", {"properties": {"x": {"type": "long"}}}),
        ("POST", f"/{INDEX}/_update/a", {"doc": {"x": 1}}),
        ("POST", "/elsewhere/_doc", {}),
        ("DELETE", "/_index_template/forum-logs", None),
        ("GET", "/_cluster/settings", None),
    ):
        assert status(writer.ask(method, path, body)) == "403", (method, path)


@pytest.mark.parametrize("name", ["reader", "alarms"])
def test_who_reads_changes_nothing(
    account: Callable[[str], Account], name: str, operator: Account, writer: Account
) -> None:
    assert writer.write(("a", {"message": "one"})) == [201]
    refresh(operator)
    reads = account(name)
    assert reads.found("message:one", "event.id") == [{"event.id": ["a"]}]
    for method, path, body in (
        ("POST", f"/{INDEX}/_doc", {}),
        ("DELETE", f"/{INDEX}/_doc/a", None),
        ("DELETE", f"/{INDEX}", None),
        ("PUT", f"/{INDEX}/_settings", {"index.blocks.write": True}),
        ("GET", "/_cluster/settings", None),
        ("GET", "/_snapshot", None),
    ):
        assert status(reads.ask(method, path, body)) == "403", (method, path)


def test_the_operator_is_no_superuser(operator: Account) -> None:
    for method, path, body in (
        ("GET", "/_security/role", None),
        ("PUT", "/_cluster/settings", {"persistent": {"action.auto_create_index": True}}),
        ("PUT", "/elsewhere", None),
    ):
        assert status(operator.ask(method, path, body)) == "403", (method, path)


def test_plain_http_old_tls_and_a_stranger_s_authority_are_refused(monitor: Host, reader: Account) -> None:
    assert status(curl(monitor, "/", url=URL.replace("https", "http"))) in ("400", "000")
    old = curl(monitor, "/", "", "--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0")
    assert old.rc == 35, f"{old.stdout}{old.stderr}"
    weak = curl(monitor, "/", "", "--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES128-SHA:AES128-SHA")
    assert weak.rc == 35, f"{weak.stdout}{weak.stderr}"
    stranger = monitor.run(f"curl -sS {URL}/")
    assert stranger.rc == 60, f"{stranger.stdout}{stranger.stderr}"
    assert status(reader.ask("GET", "/")) == "200"


def test_a_line_is_found_by_the_names_of_the_schema_and_has_their_types(
    operator: Account, writer: Account, reader: Account
) -> None:
    line = {
        "message": "GET /",
        "http.response.status_code": 200,
        "source.ip": "192.0.2.1",
        "event.duration": 5,
    }
    assert writer.write(("a", line), ("b", {**line, "http.response.status_code": 404})) == [201, 201]
    refresh(operator)
    query = "service.name:trial AND http.response.status_code:[200 TO 299] AND source.ip:192.0.2.0\\/24"
    assert reader.found(query, "@timestamp", "message", "http.response.status_code", "event.id") == [
        {
            "@timestamp": ["2026-11-26T12:00:00.500Z"],
            "message": ["GET /"],
            "http.response.status_code": [200],
            "event.id": ["a"],
        }
    ]
    wanted = {"size": 0, "aggs": {"most": {"percentiles": {"field": "event.duration", "percents": [50]}}}}
    figures = reader.told("POST", "/forum-logs-*/_search", wanted)["aggregations"]["most"]["values"]
    assert figures == {"50.0": 5.0}


@pytest.mark.parametrize(
    "fields",
    [
        {"http.response.status_code": "two hundred", "source.ip": "nowhere", "event.duration": "x"},
        {"message": "x" * 100_000},
        {"user_agent.original": "y" * 40_000, "url.path": "/" + "z" * 50_000},
        {"url": "text where other lines have url.path", "http": 1, "event": True},
        {".": "dot", ".x": "dot", "x.": "dot", "a..b": "dots", "a" + ".b" * 200: "deep"},
        {"message": 7, "url.path": False, "http.response.status_code": 1e30, "process.pid": 10**20},
        {"message": "\x00\x1b[31m\u202e\ufffd", "user_agent.original": '{"user.name": "forged"}'},
        {f"field{number}": number for number in range(3000)},
        {"_id": "b", "_source": "b", "@timestamp": "b", "message": None},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_no_line_is_refused_for_what_it_holds(
    fields: dict[str, Any], operator: Account, writer: Account, reader: Account
) -> None:
    assert writer.write(("a", fields)) == [201]
    refresh(operator)
    source = reader.told("GET", f"/{INDEX}/_doc/a")["_source"]
    assert source["line"] == fields
    assert reader.found("_exists_:user.name") == []


def test_a_changed_password_is_taken_up_without_a_restart_and_the_old_one_refused(
    ansible: Run, monitor: Host, secret_values: dict[str, str]
) -> None:
    before = process(monitor, UNIT)
    for name in ("reader", "operator"):
        old = Account(monitor, name, secret_values[f"elasticsearch_{name}_password"])
        new = Account(monitor, name, OTHER)
        changed = {f"elasticsearch_{name}_password": OTHER}

        dry = ansible("converge.yml", "--check", **changed)
        assert dry.returncode == 0, dry.stdout
        assert "changed=0" not in dry.stdout, f"a dry run doesn't tell of {name}'s new password"
        assert status(old.ask("GET", "/")) == "200"

        run = ansible("converge.yml", "--diff", "-vvv", **changed)
        assert run.returncode == 0, run.stdout
        assert status(old.ask("GET", "/")) == "401", name
        assert status(new.ask("GET", "/")) == "200", name
        again = ansible("converge.yml", **changed)
        assert "changed=0" in again.stdout, again.stdout

        back = ansible("converge.yml", "-vvv")
        assert back.returncode == 0, back.stdout
        assert status(old.ask("GET", "/")) == "200", name
        told = run.stdout + back.stdout
        assert OTHER not in told.replace(json.dumps(changed), ""), name
        assert secret_values[f"elasticsearch_{name}_password"] not in told, name
    assert process(monitor, UNIT) == before
    journal = monitor.check_output("journalctl --no-pager --quiet")
    assert OTHER not in journal
    assert [name for name, value in secret_values.items() if value in journal] == []


def test_neither_key_nor_password_can_be_read(monitor: Host, secret_values: dict[str, str]) -> None:
    key = monitor.file("/etc/forum/elasticsearch/tls.key")
    assert (key.mode, key.group) == (0o640, "elasticsearch")
    assert monitor.file("/etc/forum/elasticsearch").mode == 0o750
    assert monitor.file("/etc/forum/elasticsearch-private").mode == 0o700
    assert monitor.file("/var/lib/elasticsearch").mode == 0o700
    shown = monitor.run("cat /etc/forum/elasticsearch/* /etc/systemd/system/elasticsearch*; ps -eo args")
    # Its keystore is no text.
    held = shown.stdout_bytes.decode(errors="replace")
    assert "node.name" in held
    assert [name for name, value in secret_values.items() if value in held] == []


def test_an_intruder_s_account_and_rights_are_taken_back(
    ansible: Run, monitor: Host, reader: Account
) -> None:
    private, files = "/etc/forum/elasticsearch-private/accounts", "/etc/forum/elasticsearch"
    monitor.check_output(
        f"htpasswd -cbB {private}/mallory mallory {OTHER} && cat {private}/mallory >> {files}/users"
    )
    monitor.check_output(f"echo superuser:mallory,reader >> {files}/users_roles")
    mallory = Account(monitor, "mallory", OTHER)
    answers(mallory)
    run = ansible("converge.yml")
    assert run.returncode == 0, run.stdout
    # It reads its files every five seconds.
    time.sleep(6)
    assert status(mallory.ask("GET", "/")) == "401"
    assert status(reader.ask("GET", "/_cluster/settings")) == "403"


def test_another_template_is_put_once_and_fields_come_to_the_day_s_index(
    ansible: Run, monitor: Host, operator: Account, writer: Account, reader: Account
) -> None:
    assert writer.write(("a", {})) == [201]
    template = operator.told("GET", "/_index_template/forum-logs")["index_templates"][0]["index_template"]
    less = json.loads(json.dumps(template))
    del less["template"]["mappings"]["properties"]["trace"]
    operator.told("PUT", "/_index_template/forum-logs", less)
    operator.told("DELETE", f"/{INDEX}")
    assert writer.write(("a", {"trace.id": "one"})) == [201]

    dry = ansible("converge.yml", "--check")
    assert "changed=1" in dry.stdout, dry.stdout
    run = ansible("converge.yml")
    assert run.returncode == 0, run.stdout
    found = operator.told("GET", "/_index_template/forum-logs")["index_templates"][0]["index_template"]
    assert found == template
    assert writer.write(("b", {"trace.id": "one"})) == [201]
    refresh(operator)
    assert len(reader.found("trace.id:one")) == 2
    assert "changed=0" in ansible("converge.yml").stdout


def test_what_is_old_or_too_much_is_deleted(
    ansible: Run, monitor: Host, operator: Account, writer: Account
) -> None:
    for index in ("forum-logs-1999.12.31", YESTERDAY, INDEX):
        assert writer.write(("a", {"message": "x" * 5000}), index=index) == [201]
    monitor.check_output("systemctl start %s", KEEPER)
    left = {row["index"] for row in operator.told("GET", "/_cat/indices/forum-logs-*?format=json")}
    assert left == {YESTERDAY, INDEX}
    journal = monitor.check_output("journalctl --no-pager -o cat -u %s", KEEPER)
    assert "event=index-deleted index=forum-logs-1999.12.31 reason=age" in journal

    for number in range(40):
        writer.write((str(number), {"message": secrets.token_hex(30_000)}), index=YESTERDAY)
    operator.told("POST", "/forum-logs-*/_flush")
    limited = ansible("converge.yml", elasticsearch_max_mb=1)
    assert limited.returncode == 0, limited.stdout
    monitor.check_output("systemctl start %s", KEEPER)
    left = {row["index"] for row in operator.told("GET", "/_cat/indices/forum-logs-*?format=json")}
    assert left == {INDEX}
    back = ansible("converge.yml")
    assert back.returncode == 0, back.stdout


def test_a_disk_that_gets_full_costs_the_oldest_day(
    ansible: Run, monitor: Host, operator: Account, writer: Account
) -> None:
    for index in (YESTERDAY, INDEX):
        assert writer.write(("a", {}), index=index) == [201]
    # So that twice as many aren't free, and Elasticsearch takes lines all the while.
    narrow = ansible(
        "converge.yml", elasticsearch_max_mb=100, elasticsearch_free_mb=megabytes(monitor, "avail") // 2 + 500
    )
    assert narrow.returncode == 0, narrow.stdout
    try:
        monitor.check_output("systemctl start %s", KEEPER)
        left = {row["index"] for row in operator.told("GET", "/_cat/indices/forum-logs-*?format=json")}
        assert left == {INDEX}
        journal = monitor.check_output("journalctl --no-pager -o cat -u %s", KEEPER)
        assert f"event=index-deleted index={YESTERDAY} reason=disk" in journal
    finally:
        back = ansible("converge.yml")
    assert back.returncode == 0, back.stdout


def test_a_full_disk_keeps_lines_out_is_told_and_is_over_by_itself(
    ansible: Run, monitor: Host, operator: Account, writer: Account
) -> None:
    assert writer.write(("a", {})) == [201]
    # More than is free can't stay free. The role itself may refuse as much, by the size of the disk.
    marks = f"s/(low|high|flood_stage): .*/\\1: {megabytes(monitor, 'avail') + 1000}mb/"
    monitor.check_output("sed -Ei %s /etc/forum/elasticsearch/elasticsearch.yml", marks)
    monitor.check_output("systemctl restart %s", UNIT)
    answers(operator)
    try:
        for _ in range(60):
            if (refused := writer.write(("b", {}))) == [429]:
                break
            time.sleep(1)
        assert refused == [429]
        assert monitor.run("systemctl start %s", KEEPER).rc != 0
        journal = monitor.check_output("journalctl --no-pager -o cat -u %s", KEEPER)
        assert f"event=index-blocked index={INDEX} block=read_only_allow_delete" in journal
    finally:
        back = ansible("converge.yml")
    assert back.returncode == 0, back.stdout
    for _ in range(60):
        # 200 where one was taken before the disk was full.
        if (taken := writer.write(("b", {}))) in ([200], [201]):
            break
        time.sleep(1)
    assert taken in ([200], [201])
    assert monitor.run("systemctl start %s", KEEPER).rc == 0


def test_lines_survive_a_kill(monitor: Host, operator: Account, writer: Account, reader: Account) -> None:
    before = process(monitor, UNIT)
    assert writer.write(*((f"{number:03}", {"message": "kept"}) for number in range(100))) == [201] * 100
    monitor.check_output("systemctl kill --signal=KILL %s", UNIT)
    answers(reader)
    assert process(monitor, UNIT) != before
    operator.told("GET", "/_cluster/health?wait_for_status=green&timeout=60s")
    refresh(operator)
    assert len(reader.found("message:kept")) == 100


def test_a_backup_brings_lost_lines_back_once_and_keeps_newer_ones(
    ansible: Run, operator: Account, writer: Account, reader: Account
) -> None:
    for index in (YESTERDAY, INDEX):
        assert writer.write(("a", {"message": "first"}), ("b", {"message": "first"}), index=index) == [
            201,
            201,
        ]
    dry = ansible(BACKUP, "--check")
    assert dry.returncode == 0, dry.stdout
    assert "changed=1" in dry.stdout, dry.stdout
    backed = ansible(BACKUP, elasticsearch_backups_kept=1)
    assert backed.returncode == 0, backed.stdout

    for index in (YESTERDAY, INDEX):
        operator.told("DELETE", f"/{index}")
    assert writer.write(("b", {"message": "second"}), ("c", {"message": "second"})) == [201, 201]
    # As a restore that was killed leaves it.
    operator.told("PUT", "/restored-forum-logs-1999.12.31")
    dry = ansible(RESTORE, "--check")
    assert dry.returncode == 0, dry.stdout
    assert f"would be restored: {YESTERDAY}" in words(dry.stdout)
    restored = ansible(RESTORE, "-vvv")
    assert restored.returncode == 0, restored.stdout
    refresh(operator)
    lines = reader.found("*", "event.id", "message")
    assert sorted((line["event.id"][0], line["message"][0]) for line in lines) == [
        ("a", "first"), ("a", "first"), ("b", "first"), ("b", "second"), ("c", "second")
    ]  # fmt: skip
    names = {row["index"] for row in operator.told("GET", "/_cat/indices/*?format=json")}
    assert names == {YESTERDAY, INDEX}
    assert operator.user.partition(":")[2] not in restored.stdout

    # The newest alone is kept, and nothing of it can be read by others.
    assert ansible(BACKUP, elasticsearch_backups_kept=1).returncode == 0
    (kept,) = operator.told("GET", "/_snapshot/backup/*")["snapshots"]
    assert operator.machine.file("/var/backups/elasticsearch").mode == 0o700
    missing = ansible(RESTORE, elasticsearch_backup="forum-logs-19700101t000000z")
    assert missing.returncode != 0
    assert f"choose one of {kept['snapshot']}" in words(missing.stdout)


def test_to_keep_no_backup_is_refused(ansible: Run) -> None:
    refused = ansible(BACKUP, elasticsearch_backups_kept=0)
    assert refused.returncode != 0
    assert "elasticsearch_backups_kept is 0: keep at least the one that is made" in words(refused.stdout)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("elasticsearch_source", "floppy", "floppy"),
        ("elasticsearch_port", "many", "elasticsearch_port"),
        ("elasticsearch_keep_days", 0, "elasticsearch_keep_days (0)"),
        ("elasticsearch_free_mb", "0", "elasticsearch_free_mb (0)"),
        ("elasticsearch_max_mb", 10**9, "lower elasticsearch_max_mb, or mount a larger disk there"),
        ("elasticsearch_memory_mb", 512, "at least one and a half times"),
        ("elasticsearch_kibana", True, "Kibana needs the vendor's Elasticsearch"),
    ],
)
def test_bad_values_are_refused_and_nothing_is_changed(
    ansible: Run, variable: str, value: object, told: str
) -> None:
    refused = ansible("converge.yml", **{variable: value})
    assert refused.returncode != 0
    assert told in words(refused.stdout)
    assert "changed=0" in refused.stdout


def test_an_archive_that_is_another_one_is_refused(ansible: Run, tmp_path: Path, monitor: Host) -> None:
    refused = ansible(
        "converge.yml",
        elasticsearch_version="8.8.1",
        elasticsearch_maven_artifact="junit:junit:4.13.2:jar",
        elasticsearch_maven_dir=str(tmp_path),
    )
    assert refused.returncode != 0
    assert "has the SHA-256 of nothing and should have" in words(refused.stdout)
    assert monitor.service("elasticsearch").is_running


def test_a_configuration_that_no_restart_followed_is_taken_up_once(
    ansible: Run, monitor: Host, reader: Account
) -> None:
    before = process(monitor, UNIT)
    monitor.check_output("touch /etc/forum/elasticsearch/elasticsearch.yml")
    made_up = ansible("converge.yml")
    assert made_up.returncode == 0, made_up.stdout
    now = process(monitor, UNIT)
    assert now != before
    assert status(reader.ask("GET", "/")) == "200"

    again = ansible("converge.yml")
    assert "changed=0" in again.stdout
    assert process(monitor, UNIT) == now
