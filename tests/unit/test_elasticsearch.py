"""Elasticsearch: the fields of the lines, who may do what, and what is deleted when."""

from __future__ import annotations

import json
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
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from conftest import load_file
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


@pytest.mark.parametrize("source", ["maven", "path"])
def test_kibana_wants_the_vendor_s_elasticsearch(source: str) -> None:
    (problem,) = elastic_problems({"elasticsearch_source": source, "kibana_source": "path"})
    assert (
        f"elasticsearch_source is {source}, which has no module for what Kibana keeps: choose vendor"
        in problem
    )


@pytest.fixture(scope="module")
def rendered(collections: None) -> Callable[[str], str]:
    """A function that renders a template of the role, or an expression, with what its defaults and the product say."""
    loader = DataLoader()
    variables: dict[str, Any] = {}
    for path in (
        ROOT / "inventories" / "shared" / "product.yml",
        ROLE / "defaults" / "main.yml",
        ROLE / "vars" / "main.yml",
    ):
        variables |= loader.load_from_file(str(path), trusted_as_template=True)
    variables |= {
        "ansible_managed": "Ansible managed",
        "inventory_hostname": "monitor",
        "monitoring_address": "192.0.2.14",
        "action_server_allowed_networks": ["198.51.100.0/24"],
        "role_path": str(ROLE),
        "elasticsearch_source": "maven",
        "__elasticsearch_maps": {"content": "NjU1MzAK"},
    }
    for name in ("writer", "reader", "alarms", "operator", "keeper", "kibana_server", "viewer"):
        variables[f"elasticsearch_{name}_password"] = f"password of {name}"

    def render(name: str, **others: object) -> str:
        templar = Templar(loader=loader, variables={**variables, **others})
        text = (
            (ROLE / "templates" / name).read_text() if name.endswith(".j2") else f"{{{{ {name} | to_json }}}}"
        )
        return str(templar.template(trust_as_template(text)))

    return render


def test_its_configuration_is_one_that_nobody_enters_without_a_password(
    rendered: Callable[[str], str],
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


def test_what_stays_free_is_ordered_as_elasticsearch_wants_it(rendered: Callable[[str], str]) -> None:
    marks = yaml.safe_load(rendered("elasticsearch.yml.j2"))["cluster.routing.allocation.disk.watermark"]
    low, high, flood = (int(marks[name].removesuffix("mb")) for name in ("low", "high", "flood_stage"))
    assert low > high > flood


def test_each_account_may_do_what_it_is_for_and_no_more(rendered: Callable[[str], str]) -> None:
    roles = yaml.safe_load(rendered("roles.yml.j2"))
    assert set(roles) == {"writer", "reader", "operator", "keeper"}
    for name, role in roles.items():
        told = [*role["cluster"], *(right for one in role["indices"] for right in one["privileges"])]
        assert not {"all", "manage_security", "*"} & set(told), name
        for one in role["indices"]:
            assert all("forum-logs-*" in pattern or pattern == "restored-*" for pattern in one["names"]), name
    rights = {
        name: {right for one in role["indices"] for right in one["privileges"]}
        for name, role in roles.items()
    }
    assert "read" not in rights["writer"] | rights["keeper"]
    assert rights["reader"] == {"read", "view_index_metadata"}
    lines = [line for line in rendered("users_roles.j2").splitlines() if not line.startswith("#")]
    assert lines == ["keeper:keeper", "operator:operator", "reader:reader,alarms", "writer:writer"]


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


def test_no_password_stands_in_a_file_that_others_read(rendered: Callable[[str], str]) -> None:
    for template in (ROLE / "templates").iterdir():
        assert "password of" not in rendered(template.name), template.name


def test_its_unit_is_for_its_own_machine_and_the_operators(rendered: Callable[[str], str]) -> None:
    unit = rendered("elasticsearch.service.j2").splitlines()
    assert "IPAddressDeny=any" in unit
    assert "IPAddressAllow=localhost 192.0.2.14 198.51.100.0/24" in unit
    assert "MemoryMax=2304M" in unit
    assert "SuccessExitStatus=143" in unit


def test_the_fields_of_all_components_go_together(rendered: Callable[[str], str]) -> None:
    tags = json.loads(rendered("__elasticsearch_tags"))
    logs = [yaml.safe_load(path.read_text())["fields"] for path in ROOT.glob("roles/*/files/log/log.yml")]
    fields = log_fields(logs)
    assert {"@timestamp", "message", *tags} <= set(fields)
    properties = log_template(fields, "forum-logs", tags, "telegraf")["template"]["mappings"]["properties"]
    assert len(properties["tag"]["properties"]) == len(tags)
    assert len(properties["line"]["properties"]) == len(fields) - len(tags) - 1


def index(name: str, size: int = 1, made: datetime = NOW) -> Any:
    return keeper.Index(name, keeper.begins(name, made), size)


def gone(*indices: Any, keep_days: int = 14, max_bytes: int = 1000) -> list[tuple[str, str, bool]]:
    """Name and reason of what has to go, and whether nothing is left then."""
    found = keeper.removals(indices, NOW, keep_days, max_bytes)
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


class Elasticsearch(BaseHTTPRequestHandler):
    """Answers as told, and remembers what it was asked."""

    answers: dict[str, tuple[int, object]]
    asked: list[tuple[str, str, str]]

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        path = self.path.partition("?")[0]
        self.asked.append(
            (f"{self.command} {path}", self.rfile.read(length).decode(), self.headers["Authorization"])
        )
        status, answer = self.answers.get(
            f"{self.command} {path}", (404, {"error": {"reason": "no such thing"}})
        )
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_DELETE = do_GET  # noqa: N815

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
        return self.run("retain", "--index", "forum-logs", "--keep-days", "14", "--max-bytes", "1000")


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


def holds(*rows: dict[str, str | None], blocks: dict[str, str] | None = None) -> None:
    """What the server has, and which blocks of which value are on its indices."""
    settings = {name: {"settings": {"index.blocks.write": value}} for name, value in (blocks or {}).items()}
    Elasticsearch.answers |= {
        "GET /_cat/indices/forum-logs-*": (200, list(rows)),
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


@pytest.mark.parametrize("answer", [(401, "no error"), (500, {"error": None}), (404, [])])
def test_an_answer_that_is_none_is_an_error(
    stage: Stage, answer: tuple[int, object], capsys: pytest.CaptureFixture[str]
) -> None:
    Elasticsearch.answers["GET /_cat/indices/forum-logs-*"] = answer
    assert stage.retain() == 1
    assert capsys.readouterr().out.startswith("<3>event=retain-failed reason=")


def copies(stage: Stage, *statuses: int) -> int:
    """The exit status of a copy of a page of lines, each of which is answered with a status."""
    hits = [{"_id": str(place), "_source": {"message": "x\ny"}} for place in range(len(statuses))]
    items = [{"create": {"status": status, "error": {"reason": "because"}}} for status in statuses]
    Elasticsearch.answers = {
        "POST /old/_search": (200, {"_scroll_id": "s", "hits": {"hits": hits}}),
        "POST /new/_bulk": (200, {"items": items}),
        "POST /_search/scroll": (200, {"_scroll_id": "s", "hits": {"hits": []}}),
    }
    return stage.run("copy", "old", "new", account="operator")


def test_lines_are_copied_and_those_that_are_there_left(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert copies(stage, 201, 409, 201) == 0
    assert capsys.readouterr().out == "<6>event=lines-copied source=old target=new copied=2 there=1\n"
    (body,) = [body for what, body, _ in Elasticsearch.asked if what == "POST /new/_bulk"]
    lines = [json.loads(line) for line in body.splitlines()]
    assert lines[:2] == [{"create": {"_id": "0"}}, {"message": "x\ny"}]


def test_a_line_that_is_not_taken_ends_the_copy(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert copies(stage, 201, 429) == 1
    assert (
        capsys.readouterr().out == '<3>event=copy-failed reason="a line of old isn\'t taken: 429, because"\n'
    )
