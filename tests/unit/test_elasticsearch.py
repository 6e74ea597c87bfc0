"""Elasticsearch: the fields of the lines, who may do what, and what is deleted when."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any

import certifi
import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.template import trust_as_template
from conftest import Rendered, load_file
from elasticsearch import elastic_problems, log_fields, log_template

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "elasticsearch"
keeper = load_file("roles/elasticsearch/files/log_keeper.py")
NOW = datetime(2026, 11, 26, 13, tzinfo=UTC)
TAGS = ["event.id", "service.name"]


def test_fields_of_several_logs_are_one_list() -> None:
    told = log_fields(
        [{"message": "text", "url.path": "keyword"}, {"event.duration": "long", "message": "text"}]
    )
    assert list(told.items()) == [("event.duration", "long"), ("message", "text"), ("url.path", "keyword")]


@pytest.mark.parametrize(
    ("lists", "problem"),
    [
        ([{"a": "integer"}], "a is integer: the types are date, double, ip, keyword, long, text"),
        ([{"a": "long"}, {"a": "double"}], "a is long in one log and double in another"),
        ([{"url": "keyword"}, {"url.path": "keyword"}], r"url is a field, so that url\.path can't be one"),
        ([{"a.b.c": "long"}, {"a.b": "long"}], r"a\.b is a field"),
    ],
)
def test_fields_that_exclude_each_other_are_refused(lists: list[dict[str, str]], problem: str) -> None:
    with pytest.raises(AnsibleFilterError, match=problem):
        log_fields(lists)


def test_similar_names_are_none_of_each_other_s_beginnings() -> None:
    assert set(log_fields([{"url": "keyword", "urls.path": "keyword", "url_path": "keyword"}])) == {
        "url", "urls.path", "url_path"
    }  # fmt: skip


FIELDS = {"@timestamp": "date", "event.id": "keyword", "event.duration": "long", "message": "text"}


def test_telegraf_s_fields_have_aliases_of_their_own_names() -> None:
    mappings = log_template(FIELDS, "forum-logs", TAGS, "telegraf")["template"]["mappings"]
    assert mappings["dynamic"] == "false"
    properties = mappings["properties"]
    assert properties["@timestamp"] == {"type": "date"}
    assert properties["tag"]["properties"] == {"event.id": {"type": "keyword", "ignore_above": 1024}}
    assert properties["line"]["properties"] == {
        "event.duration": {"type": "long"},
        "message": {"type": "text"},
    }
    for place in ("tag", "line"):
        # A name of a line is never an object, so that none stands in another's way.
        assert properties[place]["subobjects"] is False
        assert properties[place]["dynamic"] == "false"
    assert properties["message"] == {"type": "alias", "path": "line.message"}
    assert properties["event"]["properties"] == {
        "id": {"type": "alias", "path": "tag.event.id"},
        "duration": {"type": "alias", "path": "line.event.duration"},
    }


def test_logstash_s_fields_lie_under_their_own_names() -> None:
    mappings = log_template(FIELDS, "forum-logs", TAGS, "logstash")["template"]["mappings"]
    assert mappings["properties"]["event"]["properties"]["duration"] == {"type": "long"}
    assert "alias" not in json.dumps(mappings)


def test_a_template_is_of_its_indices_alone_and_takes_values_of_other_types() -> None:
    template = log_template(FIELDS, "forum-logs", TAGS, "telegraf")
    assert template["index_patterns"] == ["forum-logs-*"]
    assert template["template"]["settings"]["index"]["mapping"] == {"ignore_malformed": "true"}
    with pytest.raises(AnsibleFilterError, match="fluentd is no collector"):
        log_template(FIELDS, "forum-logs", TAGS, "fluentd")


def test_what_fits_elasticsearch_is_no_problem() -> None:
    fitting = {
        "elasticsearch_source": "vendor",
        "elasticsearch_version": "9.1.0",
        "kibana_source": "vendor",
        "kibana_version": "9.1.0",
        "log_collector_logstash_version": "9.1.0",
        "influxdb_version": "1.12",
    }
    assert elastic_problems(fitting) == []
    assert elastic_problems({"elasticsearch_source": "maven", "kibana_source": "none"}) == []


def test_elastic_s_parts_have_one_version() -> None:
    first, second = elastic_problems(
        {
            "elasticsearch_version": "9.1.0",
            "kibana_version": "9.0.0",
            "log_collector_logstash_version": "9.1.0",
            "log_shipper_filebeat_version": "8.8.2",
        }
    )
    assert first.startswith("kibana_version is 9.0.0, but elasticsearch_version is 9.1.0: remove it")
    assert second.startswith("log_shipper_filebeat_version is 8.8.2, but ")


@pytest.mark.parametrize(
    ("role", "tasks", "numbered"),
    [
        ("elasticsearch", "vendor", "9.1.0"),
        ("kibana", "vendor", "9.1.0"),
        ("log_collector", "logstash", "1:9.1.0-*"),
        ("log_shipper", "filebeat", "9.1.0"),
    ],
)
def test_elastic_s_parts_come_from_one_repository_in_one_version(
    role_renderer: Callable[..., Rendered], role: str, tasks: str, numbered: str
) -> None:
    install = yaml.safe_load((ROOT / "roles" / role / "tasks" / f"{tasks}.yml").read_text())[0]["vars"]
    assert install["vendor_package_vendor"] == "elastic"
    version = trust_as_template(install["vendor_package_version"])
    assert json.loads(role_renderer(role, elastic_version="9.1.0", version=version)("version")) == numbered


@pytest.mark.parametrize("source", ["maven", "path"])
def test_kibana_wants_the_vendor_s_elasticsearch(source: str) -> None:
    (problem,) = elastic_problems({"elasticsearch_source": source, "kibana_source": "path"})
    assert (
        f"elasticsearch_source is {source}, which has no module for what Kibana keeps: choose vendor"
        in problem
    )


@pytest.fixture(scope="module")
def rendered(role_renderer: Callable[..., Rendered]) -> Callable[..., str]:
    """A function that renders a template of the role, or an expression, with what its defaults and the product say.

    A variable that it is given besides comes before those.
    """
    variables: dict[str, object] = {
        "inventory_hostname": "monitor",
        "monitoring_address": "192.0.2.14",
        "action_server_allowed_networks": ["198.51.100.0/24"],
        "elasticsearch_source": "maven",
        "__elasticsearch_maps": {"content": "NjU1MzAK"},
    }
    for name in ("writer", "reader", "alarms", "operator", "keeper", "kibana_server", "viewer"):
        variables[f"elasticsearch_{name}_password"] = f"password of {name}"

    def render(name: str, **given: object) -> str:
        return role_renderer("elasticsearch", **variables | given)(name)

    return render


def test_its_configuration_is_one_that_nobody_enters_without_a_password(
    rendered: Callable[..., str],
) -> None:
    settings = yaml.safe_load(rendered("elasticsearch.yml.j2"))
    security = settings["xpack.security"]
    assert security["enabled"] is True
    assert security["authc"]["reserved_realm.enabled"] is False
    assert security["authc"]["realms"] == {"file.files.order": 0, "native.native.enabled": False}
    for layer in ("http", "transport"):
        assert security[f"{layer}.ssl"]["enabled"] is True
        assert security[f"{layer}.ssl"]["supported_protocols"] == ["TLSv1.3", "TLSv1.2"]
    assert security["transport.ssl"]["client_authentication"] == "required"
    assert settings["transport.host"] == "127.0.0.1"
    assert settings["http.host"] == "192.0.2.14"
    assert settings["node.store.allow_mmap"] is False


def test_the_vendor_s_programs_read_our_files(rendered: Callable[..., str]) -> None:
    tasks = yaml.safe_load((ROLE / "tasks" / "vendor.yml").read_text())
    (told,) = (
        task["ansible.builtin.copy"] for task in tasks if task.get("register") == "__elasticsearch_defaults"
    )
    variables = {"elasticsearch_source": "vendor", "text": trust_as_template(told["content"])}
    lines = json.loads(rendered("text", **variables)).splitlines()
    assert "ES_PATH_CONF=/etc/forum/elasticsearch" in lines
    read = json.loads(rendered("__elasticsearch_read", **variables))
    assert {told["dest"], "/etc/forum/elasticsearch/elasticsearch.yml"} <= set(read)
    assert told["dest"] not in json.loads(rendered("__elasticsearch_read"))


def test_what_stays_free_is_ordered_as_elasticsearch_wants_it(rendered: Callable[..., str]) -> None:
    marks = yaml.safe_load(rendered("elasticsearch.yml.j2"))["cluster.routing.allocation.disk.watermark"]
    low, high, flood = (int(marks[name].removesuffix("mb")) for name in ("low", "high", "flood_stage"))
    assert low > high > flood


def test_numbers_of_the_command_line_are_numbers_though_they_come_as_texts(
    rendered: Callable[..., str],
) -> None:
    numbers = {"heap_mb": 600, "keep_days": 3, "max_mb": 4000, "free_mb": 301}
    given = {f"elasticsearch_{name}": number for name, number in numbers.items()}
    texts = {name: str(number) for name, number in given.items()}
    templates = [path.name for path in (ROLE / "templates").glob("*.j2")]
    for name in [*templates, "elasticsearch_memory_mb"]:
        assert rendered(name, **texts).replace('"', "") == rendered(name, **given).replace('"', ""), name
    first = yaml.safe_load((ROLE / "tasks" / "main.yml").read_text())[0]
    checks = first["ansible.builtin.assert"]["that"]
    assert len(checks) == len(numbers)
    for condition in checks:
        assert rendered(condition, **texts) == "true", condition
        assert rendered(condition, **dict.fromkeys(texts, "0"), elasticsearch_memory_mb="-1") == "false", (
            condition
        )


def test_each_account_may_do_what_it_is_for_and_no_more(rendered: Callable[..., str]) -> None:
    roles = yaml.safe_load(rendered("roles.yml.j2"))
    assert set(roles) == {"writer", "reader", "alarms", "operator", "keeper"}
    for name, role in roles.items():
        told = [*role["cluster"], *(right for one in role["indices"] for right in one["privileges"])]
        assert not {"all", "manage_security", "*"} & set(told), name
        for one in role["indices"]:
            of_alarms = (
                {"forum-metrics-*", "forum-alarms-*"} if name in ("alarms", "operator", "keeper") else set()
            )
            assert set(one["names"]) <= {"forum-logs-*", "restored-*", *of_alarms}, name
    rights = {
        name: {right for one in role["indices"] for right in one["privileges"]}
        for name, role in roles.items()
    }
    assert "read" not in rights["writer"] | rights["keeper"]
    assert rights["reader"] == {"read", "view_index_metadata"}
    # Of lines the alarms read as the pages do.
    of_lines = [one for one in roles["alarms"]["indices"] if "forum-logs-*" in one["names"]]
    assert [set(one["privileges"]) for one in of_lines] == [rights["reader"]]
    assert not {"manage", "delete_index"} & rights["alarms"]
    lines = [line for line in rendered("users_roles.j2").splitlines() if not line.startswith("#")]
    assert lines == ["alarms:alarms", "keeper:keeper", "operator:operator", "reader:reader", "writer:writer"]


def test_with_kibana_there_are_its_accounts_too(rendered: Callable[..., str]) -> None:
    roles = yaml.safe_load(rendered("roles.yml.j2", elasticsearch_kibana=True))
    without = yaml.safe_load(rendered("roles.yml.j2"))
    assert set(roles) - set(without) == {"kibana_viewer"}
    viewer = roles["kibana_viewer"]
    assert viewer["indices"] == [{"names": ["forum-logs-*"], "privileges": ["read", "view_index_metadata"]}]
    assert (viewer["cluster"], [one["privileges"] for one in viewer["applications"]]) == ([], [["read"]])
    # Who brings the dashboards may do so, and what he could before.
    assert {name: roles["operator"][name] for name in without["operator"]} == without["operator"]
    assert [one["application"] for one in roles["operator"]["applications"]] == ["kibana-.kibana"]
    assert "applications" not in roles["writer"] | roles["reader"] | roles["keeper"]
    lines = rendered("users_roles.j2", elasticsearch_kibana=True).splitlines()
    assert {"kibana_system:kibana_server", "kibana_viewer:viewer"} <= set(lines)


@pytest.mark.parametrize(("writer", "asks"), [("telegraf", False), ("logstash", True)])
def test_logstash_may_ask_for_the_licence_without_which_it_sends_nothing(
    role_renderer: Callable[..., Rendered], writer: str, asks: bool
) -> None:
    roles = yaml.safe_load(role_renderer("elasticsearch", elasticsearch_collector=writer)("roles.yml.j2"))
    assert ("cluster:monitor/xpack/license/get" in roles["writer"]["cluster"]) is asks


def test_no_password_stands_in_a_file_that_others_read(rendered: Callable[..., str]) -> None:
    for template in (ROLE / "templates").iterdir():
        assert "password of" not in rendered(template.name), template.name


def test_its_unit_is_for_its_own_machine_and_the_operators(rendered: Callable[..., str]) -> None:
    unit = rendered("elasticsearch.service.j2").splitlines()
    assert "IPAddressDeny=any" in unit
    assert "IPAddressAllow=localhost 192.0.2.14 198.51.100.0/24" in unit
    assert "MemoryMax=2304M" in unit
    assert "SuccessExitStatus=143" in unit


def test_the_fields_of_all_components_go_together(rendered: Callable[..., str]) -> None:
    tags = json.loads(rendered("__elasticsearch_tags"))
    logs = [yaml.safe_load(path.read_text())["fields"] for path in ROOT.glob("roles/*/files/log/log.yml")]
    fields = log_fields(logs)
    assert {"@timestamp", "message", *tags} <= set(fields)
    properties = log_template(fields, "forum-logs", tags, "telegraf")["template"]["mappings"]["properties"]
    assert len(properties["tag"]["properties"]) == len(tags)
    assert len(properties["line"]["properties"]) == len(fields) - len(tags) - 1


def index(name: str, size: int = 1, made: datetime = NOW) -> Any:
    return keeper.Index(name, keeper.begins(name, made), size)


def gone(
    *indices: Any, keep_days: int = 14, max_bytes: int = 1000, lacking: int = 0
) -> list[tuple[str, str, bool]]:
    """Name and reason of what has to go, and whether nothing is left then."""
    found = keeper.removals(indices, NOW, keep_days, max_bytes, lacking)
    return [(one.index.name.removeprefix("forum-logs-"), one.reason, one.newest) for one in found]


def day(back: int, size: int = 1) -> Any:
    return index(f"forum-logs-{NOW - timedelta(days=back):%Y.%m.%d}", size)


def test_a_day_goes_when_all_of_it_is_too_old() -> None:
    days = [day(back) for back in (0, 14, 15, 16)]
    assert gone(*days) == [("2026.11.10", "age", False), ("2026.11.11", "age", False)]
    assert gone(*days[:2]) == []


def test_the_oldest_go_until_the_rest_takes_no_more_than_allowed() -> None:
    assert gone(day(0, 400), day(2, 300), day(1, 500)) == [("2026.11.24", "bytes", False)]
    assert gone(day(0, 400), day(1, 600)) == []
    assert gone(day(0, 1001), day(1, 5)) == [("2026.11.25", "bytes", False), ("2026.11.26", "bytes", True)]
    assert gone() == []


def test_one_index_of_a_day_never_makes_another_of_it_the_oldest() -> None:
    metrics = index(f"forum-metrics-{NOW:%Y.%m.%d}", 5)
    undated = index("forum-alarms-elastalert", 5, NOW - timedelta(hours=3))
    assert gone(day(0, 1001), metrics, undated) == [("2026.11.26", "bytes", True)]
    assert gone(day(0, 5), metrics, undated, day(1, 5), lacking=10**9) == [("2026.11.25", "disk", False)]


def test_the_oldest_go_until_enough_of_the_disk_is_free_but_never_the_newest() -> None:
    days = [day(back, 100) for back in (0, 1, 2)]
    assert gone(*days, lacking=-1) == gone(*days, lacking=0) == []
    assert gone(*days, lacking=100) == [("2026.11.24", "disk", False)]
    assert gone(*days, lacking=101) == [("2026.11.24", "disk", False), ("2026.11.25", "disk", False)]
    assert gone(*days, lacking=10**9) == gone(*days, lacking=101)
    # What goes for its age counts.
    assert gone(day(0, 100), day(1, 100), day(20, 100), lacking=100) == [("2026.11.06", "age", False)]
    assert gone(day(0), lacking=10**9) == gone(lacking=10**9) == []


@pytest.mark.parametrize(
    ("name", "made", "since"),
    [
        ("forum-logs-2026.11.24", NOW, datetime(2026, 11, 24, tzinfo=UTC)),
        # A clock that was wrong, in either direction.
        ("forum-logs-1970.01.01", NOW, datetime(1970, 1, 1, tzinfo=UTC)),
        ("forum-logs-2106.02.07", NOW, NOW),
        ("forum-logs-2026.13.41", NOW, NOW),
        ("forum-logs-nonsense", NOW, NOW),
    ],
)
def test_no_index_stays_for_good_whatever_its_name(name: str, made: datetime, since: datetime) -> None:
    assert keeper.begins(name, made) == since


#: How a new backup's name ends.
_TIME = re.compile(r"\d{8}t\d{6}z")


class Elasticsearch(BaseHTTPRequestHandler):
    """Answers as told, and remembers what it was asked."""

    #: Status and answer by method and path; of a list, one after the other.
    answers: dict[str, tuple[int, object] | list[tuple[int, object]]]
    asked: list[tuple[str, str, str]]

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        path = self.path.partition("?")[0]
        self.asked.append(
            (f"{self.command} {path}", self.rfile.read(length).decode(), self.headers["Authorization"])
        )
        told = self.answers.get(
            _TIME.sub("NOW", f"{self.command} {path}"), (404, {"error": {"reason": "no such thing"}})
        )
        status, answer = told.pop(0) if isinstance(told, list) else told
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: the test tells."""


class Stage:
    """A server in Elasticsearch's place, and the program that asks it."""

    def __init__(self, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.port = port
        self._patch = monkeypatch

    def run(self, *words: str, account: str = "keeper") -> int:
        """The exit status of the program."""
        self._patch.setattr(sys, "stdin", StringIO("secret word\n"))
        where = ("--url", f"http://127.0.0.1:{self.port}", "--authority", certifi.where())
        status: int = keeper.main([*where, "--account", account, *words])
        return status

    def retain(self) -> int:
        return self.run(
            "retain", "--index", "forum-logs", "--keep-days", "14", "--max-bytes", "1000", "--min-free", "500"
        )


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    Elasticsearch.answers, Elasticsearch.asked = {}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Elasticsearch) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield Stage(server.server_port, monkeypatch)
        server.shutdown()
        thread.join()


def row(name: str, size: str | None = "1", health: str = "green") -> dict[str, str | None]:
    """A line of _cat/indices."""
    made = str(int(datetime.now(UTC).timestamp() * 1000))
    return {"index": name, "creation.date": made, "store.size": size, "health": health}


def holds(*rows: dict[str, str | None], blocks: dict[str, str] | None = None, free: int = 500) -> None:
    """What the server has, which blocks of which value are on its indices, and the free bytes of its disk."""
    settings = {name: {"settings": {"index.blocks.write": value}} for name, value in (blocks or {}).items()}
    Elasticsearch.answers |= {
        "GET /_cat/indices/forum-logs-*": (200, list(rows)),
        "GET /_cat/allocation": (200, [{"disk.avail": None}, {"disk.avail": str(free)}]),
        "GET /forum-logs-*/_settings/index.blocks.*": (200, settings),
    }
    Elasticsearch.answers |= {f"DELETE /{one['index']}": (200, {"acknowledged": True}) for one in rows}


def test_what_is_old_is_deleted_and_told(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    today = f"forum-logs-{datetime.now(UTC):%Y.%m.%d}"
    holds(row(today), row("forum-logs-2020.01.01", None), blocks={today: "false"})
    assert stage.retain() == 0
    assert [what for what, _, _ in Elasticsearch.asked if "DELETE" in what] == [
        "DELETE /forum-logs-2020.01.01"
    ]
    told = capsys.readouterr().out
    assert told == "<6>event=index-deleted index=forum-logs-2020.01.01 reason=age bytes=0\n"
    # Of the account that the command line names, with the password of standard input.
    assert {account for _, _, account in Elasticsearch.asked} == {"Basic a2VlcGVyOnNlY3JldCB3b3Jk"}


def test_a_full_disk_costs_the_oldest(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    today, before = (f"forum-logs-{datetime.now(UTC) - timedelta(days=back):%Y.%m.%d}" for back in (0, 1))
    holds(row(today, "7"), row(before, "9"), free=499)
    assert stage.retain() == 0
    assert capsys.readouterr().out == f"<6>event=index-deleted index={before} reason=disk bytes=9\n"


def test_an_index_that_takes_no_line_is_an_error(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    today, other = f"forum-logs-{datetime.now(UTC):%Y.%m.%d}", "forum-logs-x"
    holds(row(today), row(other, None, "red"), blocks={today: "true"})
    assert stage.retain() == 1
    assert capsys.readouterr().out.splitlines() == [
        f"<3>event=index-blocked index={other} block=unassigned",
        f"<3>event=index-blocked index={today} block=write",
    ]


def test_today_s_lines_that_alone_are_too_much_go_and_are_an_error(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    holds(row("forum-logs-x", "1001"))
    assert stage.retain() == 1
    assert capsys.readouterr().out == "<3>event=index-deleted index=forum-logs-x reason=bytes bytes=1001\n"


def test_what_can_not_be_deleted_is_an_error(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    holds(row("forum-logs-2020.01.01"))
    Elasticsearch.answers["DELETE /forum-logs-2020.01.01"] = (503, {"error": {"reason": "no master"}})
    assert stage.retain() == 1
    reason = '"DELETE /forum-logs-2020.01.01: 503, no master"'
    assert capsys.readouterr().out == f"<3>event=retain-failed reason={reason}\n"


def test_what_a_backup_reads_is_left_to_a_later_run_and_the_rest_goes(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    holds(row("forum-logs-2020.01.01"), row("forum-logs-2020.01.02"))
    error = {
        "type": "snapshot_in_progress_exception",
        "reason": "Cannot delete indices that are being snapshotted",
    }
    Elasticsearch.answers["DELETE /forum-logs-2020.01.01"] = (400, {"error": error})
    assert stage.retain() == 0
    assert capsys.readouterr().out.splitlines() == [
        "<6>event=index-in-backup index=forum-logs-2020.01.01 reason=age",
        "<6>event=index-deleted index=forum-logs-2020.01.02 reason=age bytes=1",
    ]


@pytest.mark.parametrize(
    "answer", [(401, "no error"), (400, {"error": "text"}), (500, {"error": None}), (404, [])]
)
def test_an_answer_that_is_none_is_an_error(
    stage: Stage, answer: tuple[int, object], capsys: pytest.CaptureFixture[str]
) -> None:
    Elasticsearch.answers["GET /_cat/indices/forum-logs-*"] = answer
    assert stage.retain() == 1
    assert capsys.readouterr().out.startswith("<3>event=retain-failed reason=")


def copies(stage: Stage, *pages: tuple[int, ...]) -> int:
    """The exit status of a copy of pages of lines, each of which is answered with a status."""
    found, taken = [], []
    for number, statuses in enumerate((*pages, ())):
        hits = [
            {"_id": f"{number}-{place}", "_source": {"message": "x\ny"}} for place in range(len(statuses))
        ]
        found.append((200, {"_scroll_id": f"after {number}", "hits": {"hits": hits}}))
        items = [{"create": {"status": status, "error": {"reason": "because"}}} for status in statuses]
        taken.append((200, {"items": items}))
    Elasticsearch.answers = {
        "POST /old/_search": found[0],
        "POST /_search/scroll": [*found[1:]],
        "POST /new/_bulk": [*taken],
    }
    return stage.run("copy", "old", "new", account="operator")


def sent(path: str) -> list[list[Any]]:
    """The lines of JSON of each request to a path."""
    return [
        [json.loads(line) for line in body.splitlines()]
        for what, body, _ in Elasticsearch.asked
        if what == path
    ]


def test_lines_are_copied_and_those_that_are_there_left(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert copies(stage, (201, 409, 201)) == 0
    assert capsys.readouterr().out == "<6>event=lines-copied source=old target=new copied=2 there=1\n"
    (lines,) = sent("POST /new/_bulk")
    assert lines[:2] == [{"create": {"_id": "0-0"}}, {"message": "x\ny"}]


def test_all_pages_of_lines_are_copied(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert copies(stage, (201, 409), (409, 201)) == 0
    assert capsys.readouterr().out == "<6>event=lines-copied source=old target=new copied=2 there=2\n"
    assert [[line["create"]["_id"] for line in lines[::2]] for lines in sent("POST /new/_bulk")] == [
        ["0-0", "0-1"],
        ["1-0", "1-1"],
    ]
    # Each page is asked for by what the one before said.
    assert [lines[0]["scroll_id"] for lines in sent("POST /_search/scroll")] == ["after 0", "after 1"]


def test_a_line_that_is_not_taken_ends_the_copy(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert copies(stage, (201, 429)) == 1
    assert (
        capsys.readouterr().out == '<3>event=copy-failed reason="a line of old isn\'t taken: 429, because"\n'
    )


SNAPSHOTS = "/_snapshot/backup"


@pytest.fixture
def play(stage: Stage, tmp_path: Path) -> Callable[..., str]:
    """A function that runs a playbook of the logs against the server, and gives back what Ansible says."""
    shutil.copy(certifi.where(), tmp_path / "ca.crt")
    machine = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        "elasticsearch_url": f"http://127.0.0.1:{stage.port}",
        "elasticsearch_index": "forum-logs",
        "elasticsearch_operator_password": "secret word",
        "__elasticsearch_files": str(tmp_path),
    }
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"monitoring": {"hosts": {"monitor": None}}}))
    ends = {"snapshot": {"state": "SUCCESS", "shards": {"failed": 0}}}
    states = {"1": "SUCCESS", "2": "FAILED", "3": "IN_PROGRESS", "4": "SUCCESS", "5": "PARTIAL"}
    backups = [
        {"snapshot": f"forum-logs-{number}", "state": state, "indices": ["forum-logs-x"]}
        for number, state in states.items()
    ]
    Elasticsearch.answers = {
        f"PUT {SNAPSHOTS}": (200, {}),
        f"PUT {SNAPSHOTS}/forum-logs-NOW": (200, ends),
        f"GET {SNAPSHOTS}/forum-logs-*": (200, {"snapshots": backups}),
        f"POST {SNAPSHOTS}/forum-logs-4/_restore": (200, ends),
        "GET /forum-logs-*/_settings/index.uuid": (200, {}),
        "GET /restored-forum-logs-*/_settings/index.uuid": (200, {"restored-forum-logs-old": {}}),
        "DELETE /restored-forum-logs-old": (200, {}),
        **{f"DELETE {SNAPSHOTS}/{one['snapshot']}": (200, {}) for one in backups},
    }

    def run(verb: str, *arguments: str, **variables: object) -> str:
        ended = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                *("-i", str(inventory), "-e", json.dumps(machine | variables), *arguments),
                f"playbooks/logs_{verb}.yml",
            ],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return " ".join(ended.stdout.split())

    return run


def asked(*methods: str) -> list[str]:
    """What the server was asked by these methods."""
    return [what for what, _, _ in Elasticsearch.asked if what.partition(" ")[0] in methods]


def test_a_dry_run_of_a_backup_tells_and_does_nothing(play: Callable[..., str]) -> None:
    told = play("backup", "--check", elasticsearch_backups_kept=2)
    assert "removed: forum-logs-2, forum-logs-5, forum-logs-1." in told
    assert "changed=1 " in told
    # A new machine has no place for backups yet.
    Elasticsearch.answers[f"GET {SNAPSHOTS}/forum-logs-*"] = (404, {"error": {}})
    assert "removed: none." in play("backup", "--check")
    assert asked("PUT", "POST", "DELETE") == []


def test_a_backup_removes_broken_and_surplus_ones_and_none_that_is_being_made(
    play: Callable[..., str],
) -> None:
    play("backup", elasticsearch_backups_kept="2")
    assert asked("DELETE") == [f"DELETE {SNAPSHOTS}/forum-logs-{number}" for number in (2, 5, 1)]


def test_a_dry_run_of_a_restore_tells_and_does_nothing(play: Callable[..., str]) -> None:
    told = play("restore", "--check")
    assert "Of forum-logs-4 would be restored: forum-logs-x;" in told
    assert "changed=1 " in told
    assert asked("PUT", "POST", "DELETE") == []


def test_a_restore_removes_first_what_a_killed_one_left(play: Callable[..., str]) -> None:
    play("restore")
    assert asked("DELETE", "POST") == [
        "DELETE /restored-forum-logs-old",
        f"POST {SNAPSHOTS}/forum-logs-4/_restore",
    ]
