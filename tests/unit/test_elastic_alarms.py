"""What Kibana and Watcher are told of the alarms of logs, and that it is brought when it differs, and only then.

Neither was there: the programs' own words are held against what their sources say of them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

import certifi
import pytest
import yaml
from ansible.errors import AnsibleFilterError
from jsonschema import Draft202012Validator
from kibana_alarms import kibana_rules
from watcher import watcher_watches

ROOT = Path(__file__).resolve().parents[2]
LEVELS: dict[str, dict[str, Any]] = {
    level["id"]: level
    for level in yaml.safe_load((ROOT / "inventories/shared/sla.yml").read_text())["service_levels"]
    if "alarm" in level and level["indicator"]["source"] == "log"
}
TOKEN = "not-a-true-one"
URL = "https://192.0.2.14:8443/events/watcher"

_WINDOW = {
    "timeField": {"const": "@timestamp"},
    "timeWindowSize": {"type": "integer", "minimum": 1},
    "timeWindowUnit": {"enum": ["s", "m", "h", "d"]},
    "threshold": {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 1},
    "thresholdComparator": {"enum": [">", ">=", "<", "<="]},
    "termField": {"type": "string"},
    "termSize": {"type": "integer", "minimum": 1, "maximum": 1000},
    "aggField": {"type": "string"},
    "groupBy": {"enum": ["all", "top"]},
}
#: What Kibana's sources of 8.14 let stand in the parameters of its rules.
PARAMETERS: dict[str, dict[str, Any]] = {
    ".index-threshold": {
        "type": "object",
        "additionalProperties": False,
        "required": ["index", "timeField", "aggType", "groupBy", "timeWindowSize", "timeWindowUnit"],
        "properties": {
            **_WINDOW,
            "index": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "aggType": {"enum": ["count", "avg", "sum", "min", "max"]},
            "filterKuery": {"type": "string"},
        },
        "if": {"properties": {"groupBy": {"const": "top"}}},
        "then": {"required": ["termField", "termSize"]},
    },
    ".es-query": {
        "type": "object",
        "additionalProperties": False,
        "required": ["esqlQuery", "size", "timeWindowSize", "timeWindowUnit"],
        "properties": {
            **_WINDOW,
            "searchType": {"const": "esqlQuery"},
            "esqlQuery": {"type": "object", "required": ["esql"]},
            "size": {"type": "integer", "minimum": 0, "maximum": 10000},
            "aggType": {"const": "count"},
            "excludeHitsFromPreviousRun": {"const": False},
            "threshold": {"const": [0]},
            "thresholdComparator": {"const": ">"},
        },
    },
}
#: The body of an event, as the action server takes it.
EVENT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["level", "state", "time", "instance", "value"],
    "properties": {
        "level": {"enum": list(LEVELS)},
        "state": {"enum": ["firing", "recovered"]},
        "time": {"type": "string", "minLength": 1},
        "instance": {"type": "object", "additionalProperties": {"type": "string"}},
        "value": {"type": ["number", "null"]},
    },
}


def rules(levels: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The rules of levels, by the levels' ids."""
    made = kibana_rules(levels, "forum-logs", "forum", "action-server")
    return {one["rule"]["name"].partition(": ")[2]: one for one in made}


RULES = rules(list(LEVELS.values()))
by_rule = pytest.mark.parametrize("name", RULES)


def changed(name: str, **parts: dict[str, Any]) -> dict[str, Any]:
    """A level of sla.yml with other words in its indicator or alarm."""
    return {**LEVELS[name], **{part: {**LEVELS[name][part], **words} for part, words in parts.items()}}


def filled(body: str) -> dict[str, Any]:
    """An event's body, with something for each place that is filled in when it is sent."""
    body = re.sub(r"\{\{#EvalMath\}\}context\.value / \d+\{\{/EvalMath\}\}", "1.5", body)
    event: dict[str, Any] = json.loads(re.sub(r"\{\{[\w.]+\}\}", "8", body))
    return event


@by_rule
def test_a_rule_is_what_kibana_takes(name: str) -> None:
    one = RULES[name]
    assert UUID(one["id"]).version == 4
    kind = one["created"]["rule_type_id"]
    Draft202012Validator(PARAMETERS[kind]).validate(one["rule"]["params"])
    groups = {".index-threshold": "threshold met", ".es-query": "query matched"}
    assert one["rule"]["actions"][0]["group"] == groups[kind]
    assert one["rule"]["tags"] == ["forum-alarms", one["mark"]]


@by_rule
def test_a_rule_tells_the_action_server_an_event(name: str) -> None:
    for action in RULES[name]["rule"]["actions"]:
        assert action["id"] == "action-server"
        event = filled(action["params"]["body"])
        Draft202012Validator(EVENT).validate(event)
        assert event["level"] == name
        assert event["state"] == ("recovered" if action["group"] == "recovered" else "firing")


def test_the_mean_of_reads_is_an_index_threshold() -> None:
    one = RULES["misago-get-time"]
    params = one["rule"]["params"]
    assert one["created"]["rule_type_id"] == ".index-threshold"
    assert (params["aggType"], params["aggField"]) == ("avg", "event.duration")
    assert (params["timeWindowSize"], params["timeWindowUnit"]) == (3, "m")
    # 10 s in nanoseconds, and back.
    assert (params["thresholdComparator"], params["threshold"]) == (">", [10_000_000_000])
    assert (
        "{{#EvalMath}}context.value / 1000000000{{/EvalMath}}" in one["rule"]["actions"][0]["params"]["body"]
    )
    assert params["filterKuery"] == 'event.dataset : ("misago.access") and http.request.method : ("GET")'


def test_a_rate_is_a_count_of_its_window() -> None:
    params = RULES["nginx-errors"]["rule"]["params"]
    assert (params["aggType"], params["threshold"]) == ("count", [150])
    assert params["filterKuery"].endswith("http.response.status_code >= 500")
    assert "context.value / 60" in RULES["nginx-errors"]["rule"]["actions"][0]["params"]["body"]


def test_what_a_threshold_cannot_say_is_asked_in_esql() -> None:
    asked = {
        name: one["rule"]["params"]["esqlQuery"]["esql"]
        for name, one in RULES.items()
        if one["created"]["rule_type_id"] == ".es-query"
    }
    assert {name: asked[name] for name in ("misago-clients", "misago-errors")} == {
        "misago-clients": (
            'FROM forum-logs-* | WHERE event.dataset IN ("misago.access") AND container.id != ""'
            " | STATS value = COUNT_DISTINCT(source.ip) BY container.id | WHERE value > 1000"
        ),
        "misago-errors": (
            'FROM forum-logs-* | WHERE event.dataset IN ("misago.access")'
            " | STATS bad = COUNT(CASE(http.response.status_code >= 500, 1)), every = COUNT(*)"
            " | EVAL value = 100.0 * bad / every | WHERE value > 4"
        ),
    }


def test_silence_is_of_who_told_something_before() -> None:
    level = changed(
        "misago-clients",
        indicator={"aggregation": "silence", "lookback_window": "60s", "per": ["host.name"]},
        alarm={"op": "gt", "threshold": 0},
    )
    params = rules([level])["misago-clients"]["rule"]["params"]
    assert (params["timeWindowSize"], params["timeWindowUnit"]) == (15, "m")
    assert params["esqlQuery"]["esql"].endswith(
        "STATS newest = MAX(@timestamp) BY host.name"
        " | EVAL value = CASE(newest < NOW() - 60 seconds, 1, 0) | WHERE value > 0"
    )


def test_its_end_is_told_only_where_kibana_knows_it() -> None:
    groups = {name: [action["group"] for action in one["rule"]["actions"]] for name, one in RULES.items()}
    # The alarm ends at 5 s, and Kibana would tell so below 10 s.
    assert groups["misago-get-time"] == ["threshold met"]
    assert groups["forum-wrong-logins"] == ["threshold met", "recovered"]


def test_instances_are_told_apart_by_one_field() -> None:
    one = RULES["forum-wrong-logins"]["rule"]
    assert (one["params"]["groupBy"], one["params"]["termField"]) == ("top", "source.ip")
    assert '{"source.ip": "{{context.group}}"}' in one["actions"][0]["params"]["body"]


def test_ids_stay_and_marks_change_with_the_level() -> None:
    (other,) = rules([changed("nginx-errors", alarm={"threshold": 3})]).values()
    assert other["id"] == RULES["nginx-errors"]["id"]
    assert other["mark"] != RULES["nginx-errors"]["mark"]
    assert len({one["id"] for one in RULES.values()}) == len(RULES)


def test_kibana_refuses_what_it_cannot_say() -> None:
    with pytest.raises(AnsibleFilterError, match="nginx-errors: Kibana can't tell"):
        rules([changed("nginx-errors", alarm={"instances": "every"})])
    with pytest.raises(AnsibleFilterError, match="nginx-errors: Kibana carries alarms of logs"):
        rules([changed("nginx-errors", indicator={"source": "metric"})])


def watch(level: dict[str, Any]) -> dict[str, Any]:
    """The watch of a level."""
    ((name, made),) = watcher_watches([level], "forum-logs", URL, TOKEN).items()
    assert name == f"forum-logs-{level['id']}"
    return made


def test_a_watch_counts_wrong_logins_by_address() -> None:
    made = watch(LEVELS["forum-wrong-logins"])
    search = made["input"]["search"]["request"]["body"]
    assert search["aggs"]["each"]["terms"] == {"field": "source.ip", "size": 100, "min_doc_count": 8}
    assert {"range": {"@timestamp": {"gte": "now-30s"}}} in search["query"]["bool"]["filter"]
    assert {"term": {"http.response.status_code": 400}} in search["query"]["bool"]["filter"]
    path = "ctx.payload.aggregations.each.buckets"
    assert made["condition"] == {"array_compare": {path: {"path": "doc_count", "gte": {"value": 8}}}}
    action = made["actions"]["tell"]
    assert action["foreach"] == path
    event = filled(action["webhook"]["body"])
    Draft202012Validator(EVENT).validate(event)
    assert event == {"level": "forum-wrong-logins", "state": "firing", "time": "8",
                     "instance": {"source.ip": "8"}, "value": 8}  # fmt: skip
    place = {name: action["webhook"][name] for name in ("scheme", "host", "port", "path", "method")}
    assert place == {
        "scheme": "https", "host": "192.0.2.14", "port": 8443, "path": "/events/watcher", "method": "post"
    }  # fmt: skip
    assert action["webhook"]["headers"]["Authorization"] == f"Bearer {TOKEN}"


def test_more_than_eight_are_nine() -> None:
    made = watch(changed("forum-wrong-logins", alarm={"op": "gt"}))
    assert made["input"]["search"]["request"]["body"]["aggs"]["each"]["terms"]["min_doc_count"] == 9


def test_a_new_token_is_another_mark() -> None:
    (other,) = watcher_watches([LEVELS["forum-wrong-logins"]], "forum-logs", URL, "another").values()
    assert other["metadata"] != watch(LEVELS["forum-wrong-logins"])["metadata"]


@pytest.mark.parametrize(
    "level",
    [
        LEVELS["nginx-errors"],
        LEVELS["misago-clients"],
        changed("forum-wrong-logins", alarm={"op": "lt"}),
        changed("forum-wrong-logins", alarm={"instances": "every"}),
    ],
    ids=["rate", "distinct", "few", "every"],
)
def test_watcher_refuses_what_it_cannot_say(level: dict[str, Any]) -> None:
    with pytest.raises(AnsibleFilterError, match="leave this level out"):
        watch(level)


def test_the_token_stands_in_kibana_s_own_file(role_renderer: Callable[..., Callable[[str], str]]) -> None:
    given = {
        "stack_name": "forum",
        "inventory_hostname": "monitor",
        "monitoring_address": "192.0.2.14",
        "elasticsearch_kibana_server_password": "p",
        **{f"kibana_{name}_secret": "k" * 32 for name in ("saved_objects", "session", "reporting")},
    }
    levels = list(LEVELS.values())
    with_alarms = role_renderer("kibana", **given, kibana_levels=levels, kibana_token=TOKEN)
    settings = yaml.safe_load(with_alarms("kibana.yml.j2"))
    connector = settings["xpack.actions.preconfigured"]["action-server"]
    assert connector["actionTypeId"] == ".webhook"
    assert connector["config"]["url"] == "https://192.0.2.14:8443/events/kibana"
    assert connector["config"]["headers"]["Authorization"] == f"Bearer {TOKEN}"
    (host,) = settings["xpack.actions.customHostSettings"]
    assert host["url"] == "https://192.0.2.14:8443"
    assert host["ssl"]["verificationMode"] == "full"
    assert TOKEN not in with_alarms("__kibana_rules")
    without = yaml.safe_load(role_renderer("kibana", **given)("kibana.yml.j2"))
    assert not [name for name in without if name.startswith("xpack.actions")]


class Elastic(BaseHTTPRequestHandler):
    """Kibana's rules and Elasticsearch's watches, kept as both answer for them."""

    rules: dict[str, dict[str, Any]]
    watches: dict[str, dict[str, Any]]
    changes: list[str]

    def _handle(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        _, _, name = self.path.rpartition("/")
        if not self.headers.get("Authorization"):
            return self._answer(401)
        if self.path.startswith("/api/alerting/rules/_find?"):
            assert "filter=alert.attributes.tags%3A%22forum-alarms%22" in self.path
            found = [{"id": key, **rule} for key, rule in self.rules.items()]
            return self._answer(200, {"data": found, "total": len(found)})
        if self.path == "/_watcher/_query/watches":
            found = [{"_id": key, "watch": one} for key, one in self.watches.items()]
            return self._answer(200, {"watches": found, "count": len(found)})
        self.changes.append(f"{self.command} {name}")
        kept = self.rules if self.path.startswith("/api/alerting/rule/") else self.watches
        if self.command == "DELETE":
            del kept[name]
            return self._answer(204 if kept is self.rules else 200)
        if kept is self.rules:
            # Each of the two takes nothing but its own words.
            creates = {"rule_type_id", "consumer", "enabled"} & body.keys()
            if (self.command == "POST") != bool(creates) or (self.command == "PUT") != (name in kept):
                return self._answer(400)
            body = {**kept.get(name, {}), **body}
        kept[name] = body
        return self._answer(200, body)

    def do_GET(self) -> None:
        """Look."""
        self._handle()

    def do_POST(self) -> None:
        """Ask, or make."""
        self._handle()

    def do_PUT(self) -> None:
        """Make or change."""
        self._handle()

    def do_DELETE(self) -> None:
        """Take away."""
        self._handle()

    def _answer(self, status: int, body: object = None) -> None:
        told = b"" if status == 204 else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_: object) -> None:
        """Be silent."""


@pytest.fixture
def bring(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Runs the parts of both roles that bring alarms, without TLS, for these levels; what it prints."""
    Elastic.rules, Elastic.watches, Elastic.changes = {}, {}, []
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Elastic)
    Thread(target=listening.serve_forever, daemon=True).start()
    (tmp_path / "ca.crt").write_text(Path(certifi.where()).read_text())
    url = f"http://127.0.0.1:{listening.server_port}"
    variables = {
        "ansible_python_interpreter": sys.executable,
        "stack_name": "forum",
        "kibana_url": url,
        "elasticsearch_url": url,
        "elasticsearch_version": "9.1.0",
        "elasticsearch_operator_password": "pass-of-operator",
        "elasticsearch_index": "forum-logs",
        "elasticsearch_events_url": URL,
        "elasticsearch_events_token": TOKEN,
        "kibana_token": TOKEN,
        "__kibana_files": str(tmp_path),
        "__elasticsearch_files": str(tmp_path),
    }
    parts = [("kibana", "rules"), ("elasticsearch", "watches")]
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [
            {"ansible.builtin.include_role": {"name": role, "tasks_from": part}} for role, part in parts
        ],
    }
    playbook = tmp_path / "play.yml"
    playbook.write_text(json.dumps([play]))
    environment = {
        **os.environ,
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
    }

    def run(*options: str, logs: list[str], watched: list[str]) -> str:
        told = {
            **variables,
            "kibana_levels": [LEVELS[name] for name in logs],
            "elasticsearch_levels": [LEVELS[name] for name in watched],
        }
        program = Path(sys.executable).with_name("ansible-playbook")
        done = subprocess.run(
            [program, playbook, "-e", json.dumps(told), "-vvv", *options],
            capture_output=True, text=True, env=environment, cwd=ROOT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        yield run
    finally:
        listening.shutdown()
        listening.server_close()


def test_alarms_are_brought_when_they_differ_and_go_when_they_are_gone(bring: Callable[..., str]) -> None:
    logs, watched = ["misago-get-time", "nginx-errors"], ["forum-wrong-logins"]
    told = bring("--check", logs=logs, watched=watched)
    assert not Elastic.changes
    assert "changed=2" in told

    told = bring(logs=logs, watched=watched)
    assert {RULES[name]["id"] for name in logs} == set(Elastic.rules)
    assert set(Elastic.watches) == {"forum-logs-forum-wrong-logins"}
    assert TOKEN not in told
    assert len(Elastic.changes) == 3

    assert "changed=0" in bring(logs=logs, watched=watched)
    assert len(Elastic.changes) == 3

    changed_by_hand = Elastic.rules[RULES["nginx-errors"]["id"]]
    changed_by_hand["tags"] = ["forum-alarms", "mark-of-another"]
    bring(logs=logs, watched=watched)
    assert Elastic.changes[3:] == [f"PUT {RULES['nginx-errors']['id']}"]

    Elastic.watches["somebody-else-s"] = {"metadata": {}}
    bring(logs=["nginx-errors"], watched=[])
    assert Elastic.changes[4:] == [
        f"DELETE {RULES['misago-get-time']['id']}",
        "DELETE forum-logs-forum-wrong-logins",
    ]
    assert set(Elastic.watches) == {"somebody-else-s"}
