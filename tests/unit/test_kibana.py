"""Kibana: what its dashboards show of the logs, and that they are brought when they differ, and only then."""

from __future__ import annotations

import email.policy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import combinations
from pathlib import Path
from threading import Thread
from typing import Any

import certifi
import pytest
import yaml
from ansible.errors import AnsibleFilterError
from conftest import Rendered
from elasticsearch import log_fields
from kibana import kibana_marks, kibana_objects, log_dashboard_errors

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "kibana"
FIELDS = log_fields(
    yaml.safe_load(path.read_text())["fields"] for path in sorted(ROOT.glob("roles/*/files/log/log.yml"))
)
DESCRIPTIONS = [
    yaml.safe_load(path.read_text()) for path in sorted(ROOT.glob("roles/*/files/log/kibana.yml"))
]
OBJECTS = kibana_objects(DESCRIPTIONS, FIELDS, "forum-logs", "forum")
DASHBOARDS = {one["id"]: one for one in OBJECTS if one["type"] == "dashboard"}
SEARCHES = {one["id"]: one for one in OBJECTS if one["type"] == "search"}
#: Which of Kibana's types of fields an operation takes, as its definitions in Lens say.
TAKES = {
    "count": {"string", "ip", "number", "date"},
    "unique_count": {"string", "ip", "number", "date"},
    "average": {"number"},
    "median": {"number"},
    "percentile": {"number"},
    "max": {"number", "date"},
    "sum": {"number"},
    "terms": {"string", "ip", "number"},
    "date_histogram": {"date"},
}
KINDS = {
    "keyword": "string",
    "ip": "ip",
    "long": "number",
    "double": "number",
    "date": "date",
    "text": "text",
}
by_dashboard = pytest.mark.parametrize("name", DASHBOARDS)


def panels(name: str) -> list[dict[str, Any]]:
    """The panels of a dashboard."""
    found: list[dict[str, Any]] = json.loads(DASHBOARDS[name]["attributes"]["panelsJSON"])
    return found


def lenses(name: str) -> list[dict[str, Any]]:
    """Those of them that are drawn."""
    return [panel["embeddableConfig"]["attributes"] for panel in panels(name) if panel["type"] == "lens"]


def layer(lens: dict[str, Any]) -> dict[str, Any]:
    """The only layer of what is drawn."""
    (found,) = lens["state"]["datasourceStates"]["formBased"]["layers"].values()
    return dict(found)


def named(query: str) -> set[str]:
    """The fields that a query of Lucene's kind names."""
    return set(re.findall(r"([@\w.]+):", re.sub(r'"[^"]*"', "", query)))


def test_there_are_the_five_dashboards_and_the_data_view() -> None:
    assert set(DASHBOARDS) == {
        "forum-nginx", "forum-nginx-access", "forum-misago", "forum-postgres", "forum-redis"
    }  # fmt: skip
    view = OBJECTS[0]
    assert (view["type"], view["id"]) == ("index-pattern", "forum-logs")
    assert (view["attributes"]["title"], view["attributes"]["timeFieldName"]) == (
        "forum-logs-*",
        "@timestamp",
    )


def test_ids_are_different_and_the_same_each_time() -> None:
    ids = [(one["type"], one["id"]) for one in OBJECTS]
    assert len(ids) == len(set(ids))
    assert kibana_objects(DESCRIPTIONS, FIELDS, "forum-logs", "forum") == OBJECTS


def test_every_reference_leads_to_an_object() -> None:
    there = {(one["type"], one["id"]) for one in OBJECTS}
    for one in OBJECTS:
        assert {(reference["type"], reference["id"]) for reference in one["references"]} <= there
        names = [reference["name"] for reference in one["references"]]
        assert len(names) == len(set(names))


@by_dashboard
def test_every_panel_has_its_references(name: str) -> None:
    told = {reference["name"]: reference for reference in DASHBOARDS[name]["references"]}
    wanted = set()
    for panel in panels(name):
        if panel["type"] == "search":
            wanted.add(f"{panel['panelIndex']}:{panel['panelRefName']}")
            assert told[f"{panel['panelIndex']}:{panel['panelRefName']}"]["id"] in SEARCHES
        else:
            (reference,) = panel["embeddableConfig"]["attributes"]["references"]
            (layer_id,) = panel["embeddableConfig"]["attributes"]["state"]["datasourceStates"]["formBased"][
                "layers"
            ]
            assert reference["name"] == f"indexpattern-datasource-layer-{layer_id}"
            wanted.add(f"{panel['panelIndex']}:{reference['name']}")
    assert wanted == set(told)


@by_dashboard
def test_panels_stand_in_the_grid_and_not_on_each_other(name: str) -> None:
    places = []
    for panel in panels(name):
        grid = panel["gridData"]
        assert grid["i"] == panel["panelIndex"]
        places.append(
            {(grid["x"] + right, grid["y"] + down) for right in range(grid["w"]) for down in range(grid["h"])}
        )
    assert all(0 <= column < 48 for place in places for column, _ in place)
    assert not any(one & other for one, other in combinations(places, 2))


@by_dashboard
def test_every_column_is_of_a_field_of_the_logs_that_fits(name: str) -> None:
    for lens in lenses(name):
        for column in layer(lens)["columns"].values():
            operation, field = column["operationType"], column["sourceField"]
            if field == "___records___":
                assert operation == "count"
            else:
                assert KINDS[FIELDS[field]] in TAKES[operation], f"{lens['title']}: {operation} of {field}"


@by_dashboard
def test_every_query_names_fields_of_the_logs(name: str) -> None:
    queries = [lens["state"]["query"] for lens in lenses(name)]
    queries += [
        column["filter"]
        for lens in lenses(name)
        for column in layer(lens)["columns"].values()
        if "filter" in column
    ]
    for query in queries:
        assert query["language"] == "lucene"
        assert named(query["query"])
        assert named(query["query"]) <= set(FIELDS)


@by_dashboard
def test_what_is_drawn_is_made_of_its_columns(name: str) -> None:
    for lens in lenses(name):
        found, drawn = layer(lens), lens["state"]["visualization"]
        assert found["columnOrder"] == list(found["columns"])
        # Elasticsearch splits first, and measures what is left.
        buckets = [found["columns"][column]["isBucketed"] for column in found["columnOrder"]]
        assert buckets == sorted(buckets, reverse=True)
        if lens["visualizationType"] == "lnsXY":
            (shown,) = drawn["layers"]
            named = [*filter(None, [shown.get("splitAccessor")]), shown["xAccessor"], *shown["accessors"]]
        elif lens["visualizationType"] == "lnsDatatable":
            named = [column["columnId"] for column in drawn["columns"]]
        else:
            assert lens["visualizationType"] == "lnsMetric"
            named = [drawn["metricAccessor"]]
        assert named == found["columnOrder"]
        for column in found["columns"].values():
            if column["operationType"] == "terms":
                assert column["params"]["orderBy"]["columnId"] in found["columns"]


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_show_fields_of_the_logs(name: str) -> None:
    attributes = SEARCHES[name]["attributes"]
    source = json.loads(attributes["kibanaSavedObjectMeta"]["searchSourceJSON"])
    assert set(attributes["columns"]) <= set(FIELDS)
    assert named(source["query"]["query"]) <= set(FIELDS)
    assert [reference["name"] for reference in SEARCHES[name]["references"]] == [source["indexRefName"]]


def test_figures_are_shown_in_their_units() -> None:
    formats = json.loads(OBJECTS[0]["attributes"]["fieldFormatMap"])
    assert set(formats) <= set(FIELDS)
    units = {name: one["params"].get("inputFormat", one["id"]) for name, one in formats.items()}
    assert units["event.duration"] == "nanoseconds"
    assert units["postgres.duration_ms"] == "milliseconds"
    assert units["forum.upstream.seconds"] == "seconds"
    assert units["http.response.body.bytes"] == "bytes"
    assert "process.pid" not in units


def described(**panel: Any) -> list[Any]:
    """A description with one panel, as the contents of all kibana.yml."""
    return [
        [{"name": "a", "title": "a", "where": {"log.level": "error"}, "panels": [{"title": "p", **panel}]}]
    ]


@pytest.mark.parametrize(
    ("panel", "problem"),
    [
        ({"kind": "cake"}, "'cake' is not one of"),
        ({"kind": "table"}, "'per' is a required property"),
        ({"kind": "lines"}, "'columns' is a required property"),
        ({"kind": "graph", "per": ["log.level", "host.name"]}, "is too long"),
        (
            {"kind": "value", "series": [{"name": "s", "aggregation": "max"}]},
            "'field' is a required property",
        ),
        ({"kind": "graph", "per": ["no.such"]}, "the dashboard a, p: no log has the field no.such"),
        ({"kind": "graph", "per": ["message"]}, "message is text, which can't be split by"),
        ({"kind": "lines", "columns": ["messages"]}, "no log has the field messages"),
        (
            {"kind": "graph", "where": {"url.path": {"gte": 1}}},
            "url.path is keyword, which can't be compared",
        ),
        (
            {"kind": "graph", "series": [{"name": "s", "aggregation": "sum", "field": "url.path"}]},
            "url.path is keyword, which can't be aggregated by sum",
        ),
    ],
)
def test_mistakes_are_told_and_nothing_is_made_of_them(panel: dict[str, Any], problem: str) -> None:
    errors = log_dashboard_errors(described(**panel), FIELDS)
    assert [error for error in errors if problem in error], errors
    with pytest.raises(AnsibleFilterError):
        kibana_objects(described(**panel), FIELDS, "forum-logs", "forum")


def test_a_name_stands_for_one_dashboard() -> None:
    twice = described(kind="value") * 2
    assert log_dashboard_errors(twice, FIELDS) == ["the dashboard a is there twice"]


def test_any_change_changes_every_description() -> None:
    other = kibana_objects([*DESCRIPTIONS, *described(kind="value")], FIELDS, "forum-logs", "forum")
    marks, others = kibana_marks(OBJECTS), kibana_marks(other)
    assert {name for name in marks if marks[name] == others[name]} == {"index-pattern/forum-logs"}


def test_conditions_are_in_lucene_s_words() -> None:
    where = {
        "url.path": 'a "b"',
        "log.level": ["error", "critical"],
        "http.response.status_code": {"gte": 500},
    }
    objects = kibana_objects(described(kind="value", where=where), FIELDS, "forum-logs", "forum")
    (panel,) = json.loads(objects[-1]["attributes"]["panelsJSON"])
    assert panel["embeddableConfig"]["attributes"]["state"]["query"]["query"] == (
        'log.level:"error" AND url.path:"a \\"b\\"" AND log.level:("error" OR "critical") '
        "AND http.response.status_code:>=500"
    )


VARIABLES = {
    "ansible_managed": "Ansible managed",
    "inventory_hostname": "monitor",
    "monitoring_address": "192.0.2.14",
    "action_server_allowed_networks": ["198.51.100.0/24"],
    "elasticsearch_kibana_server_password": "password-of-kibana",
    "kibana_saved_objects_secret": "secret-of-objects",
    "kibana_session_secret": "secret-of-sessions",
    "kibana_reporting_secret": "secret-of-reports",
}


@pytest.fixture(scope="module")
def rendered(role_renderer: Callable[..., Rendered]) -> Rendered:
    """A function that renders a template of the role with what its defaults and the product say."""
    return role_renderer("kibana", **VARIABLES)


def test_its_configuration_knows_no_way_without_tls(rendered: Rendered) -> None:
    settings = yaml.safe_load(rendered("kibana.yml.j2"))
    assert settings["server.host"] == "192.0.2.14"
    assert settings["server.ssl"]["enabled"] is True
    assert settings["server.ssl"]["supportedProtocols"] == ["TLSv1.2", "TLSv1.3"]
    assert settings["elasticsearch.hosts"] == ["https://192.0.2.14:9200"]
    assert settings["elasticsearch.ssl"] == {
        "certificateAuthorities": ["/etc/kibana/ca.crt"], "verificationMode": "full"
    }  # fmt: skip
    assert settings["xpack.security.encryptionKey"] == "secret-of-sessions"


def test_no_secret_stands_in_a_file_that_others_read(rendered: Rendered) -> None:
    for template in (ROLE / "templates").iterdir():
        shown = rendered(template.name)
        assert ("-of-" in shown) is (template.name == "kibana.yml.j2"), template.name


def test_its_unit_is_for_its_own_machine_and_the_operators(rendered: Rendered) -> None:
    unit = rendered("kibana.service.conf.j2").splitlines()
    assert "IPAddressDeny=any" in unit
    assert "IPAddressAllow=localhost 192.0.2.14 198.51.100.0/24" in unit
    assert "MemoryMax=1536M" in unit
    assert "Environment=NODE_OPTIONS=--max-old-space-size=1024" in unit
    assert "NoNewPrivileges=true" in unit


class Kibana(BaseHTTPRequestHandler):
    """Imports and exports saved objects as Kibana does: all that are asked for, or status 400."""

    objects: dict[tuple[str, str], Any]
    imports: list[str]
    refuses: bool

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.headers.get("kbn-xsrf") or not self.headers.get("Authorization"):
            self._answer(400, b"{}")
        elif self.path == "/api/saved_objects/_export":
            asked = json.loads(body)
            found = [self.objects.get((one["type"], one["id"])) for one in asked["objects"]]
            assert asked["excludeExportDetails"] is True
            if None in found:
                self._answer(400, b'{"message": "Error fetching objects to export"}')
            else:
                self._answer(200, "\n".join(map(json.dumps, found)).encode(), "application/ndjson")
        elif self.path == "/api/saved_objects/_import?overwrite=true":
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            (file,) = BytesParser(policy=email.policy.HTTP).parsebytes(head + body).iter_parts()
            assert str(file.get_filename()).endswith(".ndjson")
            assert "Content-Transfer-Encoding" not in file
            lines = bytes(file.get_payload(decode=True)).decode().splitlines()
            self.imports.append(self.path)
            if not self.refuses:
                self.objects |= {
                    (one["type"], one["id"]): one for one in map(json.loads, filter(None, lines))
                }
            self._answer(200, json.dumps({"success": not self.refuses}).encode())
        else:
            self._answer(404, b"{}")

    def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: the test tells."""


Bring = Callable[..., str]


@pytest.fixture
def server() -> Iterator[tuple[type[Kibana], int]]:
    """A server in Kibana's place, which has nothing yet, and its port."""
    Kibana.objects, Kibana.imports, Kibana.refuses = {}, [], False
    with ThreadingHTTPServer(("127.0.0.1", 0), Kibana) as listening:
        Thread(target=listening.serve_forever, daemon=True).start()
        yield Kibana, listening.server_port
        listening.shutdown()


@pytest.fixture
def bring(server: tuple[type[Kibana], int], tmp_path: Path) -> Bring:
    """Runs a part of the role, the one that brings the dashboards, without TLS; what it prints."""
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [
            {
                "ansible.builtin.include_role": {
                    "name": "kibana",
                    "tasks_from": "{{ part | default('dashboards') }}",
                }
            },
        ],
        "vars": {
            "ansible_python_interpreter": sys.executable,
            **{f"kibana_{name}_secret": "k" * 32 for name in ("saved_objects", "session", "reporting")},
            "kibana_url": f"http://127.0.0.1:{server[1]}",
            "elasticsearch_version": "8.8.2",
            "elasticsearch_operator_password": "pass-of-operator",
            "elasticsearch_index": "forum-logs",
            "stack_name": "forum",
        },
    }
    # Any authority: there is no TLS here.
    (tmp_path / "ca.crt").write_text(Path(certifi.where()).read_text())
    playbook = tmp_path / "play.yml"
    playbook.write_text(json.dumps([play]))
    environment = {
        **os.environ,
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
    }

    def run(*options: str) -> str:
        program = Path(sys.executable).with_name("ansible-playbook")
        done = subprocess.run(
            [program, "-c", "local", "-i", "localhost,", "-e", f"__kibana_files={tmp_path}", *options, playbook],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert "pass-of-operator" not in done.stdout + done.stderr
        return done.stdout

    return run


def test_dashboards_are_brought_when_they_differ_and_only_then(
    bring: Bring, server: tuple[type[Kibana], int]
) -> None:
    kibana, _ = server
    assert "changed=1" in bring("--check")
    assert kibana.imports == []
    assert "changed=1" in bring()
    assert kibana_marks(kibana.objects.values()) == kibana_marks(OBJECTS)
    assert "changed=0" in bring("--check")
    assert "changed=0" in bring()
    # What Kibana makes of it when it is a newer one changes nothing.
    kibana.objects["dashboard", "forum-redis"]["typeMigrationVersion"] = "10.2.0"
    assert "changed=0" in bring()
    kibana.objects["dashboard", "forum-redis"]["attributes"]["description"] = "of an earlier release"
    assert "changed=1" in bring()
    assert len(kibana.imports) == 2


def test_an_import_that_failed_fails_the_run(bring: Bring, server: tuple[type[Kibana], int]) -> None:
    server[0].refuses = True
    shown = bring()
    assert "failed=1" in shown
    assert "success: false" in shown
    assert len(server[0].imports) == 1


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"kibana_path": "/srv/kibana-8.8.2-amd64.deb"}, None),
        (
            {"kibana_path": "/srv/kibana-8.8.20-amd64.deb"},
            "must be the vendor's package kibana-8.8.2-ARCHITECTURE.deb",
        ),
        ({"kibana_session_secret": "k" * 31, "kibana_source": "vendor"}, "must have 32 characters or more"),
        ({"kibana_heap_mb": 1536, "kibana_source": "vendor"}, "kibana_memory_mb (1536) must be more than"),
    ],
)
def test_what_kibana_would_stumble_over_is_refused(
    bring: Bring, variables: dict[str, Any], told: str | None
) -> None:
    given = {"part": "judge", "kibana_source": "path", "kibana_memory_mb": 1536, **variables}
    shown = " ".join(bring("-e", json.dumps(given)).replace("''", "'").split())
    assert "changed=0" in shown
    assert ("failed=0" in shown) is (told is None)
    assert (told or "") in shown
