"""The status board as a site whose sources say what a test's world tells."""

from __future__ import annotations

import hashlib
import html
import io
import json
import re
import ssl
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec
from urllib.parse import parse_qs, urlencode

import pytest
import yaml
from action_server import elastic, journal, password, records, sources, web
from action_server.actions import Actions, Judged
from action_server.board import Board
from action_server.journal import Journal
from action_server.records import Action
from action_server.runner import Outcome, Runner
from action_server.settings import Settings
from action_server.slack import Links
from action_server.sources import SourceError
from board import board_data

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "roles/action_server/files/program"
LEVELS = yaml.safe_load((ROOT / "inventories/shared/sla.yml").read_text())["service_levels"]
SECRET = "Jd83-kq0-Xw71-pp2"
DATA = board_data(LEVELS, [str(path) for path in (ROOT / "roles").glob("*/files/dashboard.yml")])

#: Which engine carries what in these tests, and each caller's token.
ENGINES = {
    each["id"]: "kapacitor" if each["indicator"]["source"] != "log" else "elastalert"
    for each in LEVELS
    if "alarm" in each
}
TOKENS = {
    caller: f"token-of-{caller}"
    for caller in ("kapacitor", "kibana", "watcher", "elastalert", "operator", "telegraf")
}


def level(name: str) -> dict[str, Any]:
    """A service level as the program reads it."""
    return next(dict(each) for each in DATA["levels"] if each["id"] == name)


SWARM: dict[str, list[dict[str, Any]]] = {
    "nodes": [
        {
            "ID": "n1",
            "Description": {"Hostname": "node-1"},
            "Spec": {"Role": "manager", "Availability": "active"},
            # As a leader may see itself.
            "Status": {"State": "ready", "Addr": "0.0.0.0"},  # noqa: S104 (nothing listens there)
            "ManagerStatus": {"Leader": True, "Addr": "192.0.2.11:2377"},
        },
        {
            "ID": "n0",
            "Description": {"Hostname": "node-1"},
            "Spec": {"Role": "worker", "Availability": "active"},
            "Status": {"State": "down", "Addr": "192.0.2.11"},
        },
        {
            "ID": "n2",
            "Description": {"Hostname": "node-2"},
            "Spec": {"Role": "manager", "Availability": "drain"},
            "Status": {"State": "down", "Addr": "192.0.2.12"},
        },
    ],
    "services": [
        {
            "Spec": {"Name": "forum_nginx", "Mode": {"Replicated": {"Replicas": 3}}},
            "ServiceStatus": {"DesiredTasks": 3, "RunningTasks": 2},
        },
        {
            "Spec": {"Name": "forum_misago", "Mode": {"Replicated": {"Replicas": 3}}},
            "ServiceStatus": {"DesiredTasks": 3, "RunningTasks": 3},
        },
        {
            "Spec": {"Name": "forum_release", "Labels": {"forum.job": "true"}},
            "ServiceStatus": {"DesiredTasks": 1, "RunningTasks": 0},
        },
    ],
}

Ask = Callable[..., tuple[int, dict[str, str], str]]


class World:
    """What the sources tell.

    InfluxDB and the swarm's managers: three nginx, of which one departed, and whatever else is asked. Elasticsearch:
    as many lines as are set, and for every figure the same numbers, of the instances n1 and <b>, and one without name.
    """

    def __init__(self) -> None:
        self.away = False
        self.logs_away = False
        self.refused = False
        self.empty = False
        self.lines: list[dict[str, Any]] = []
        #: What Elasticsearch was asked.
        self.searches: list[dict[str, Any]] = []

    def answer(self, url: str, _: object, __: float, body: str = "", **___: str) -> Any:
        """In the place of sources.ask."""
        if url == "https://192.0.2.9:9200/forum-logs-*/_msearch":
            return self.found(body)
        if not url.startswith("https://192.0.2.9:8086/query?"):
            return SWARM["nodes" if "/nodes" in url else "services"]
        if self.away:
            raise SourceError("192.0.2.9:8086 doesn't answer")
        statements = parse_qs(body)["q"][0].split("; ")
        return {
            "results": [{"statement_id": at, "series": self.told(text)} for at, text in enumerate(statements)]
        }

    @staticmethod
    def told(statement: str) -> list[dict[str, Any]]:
        """A series for each nginx where they're told apart; the hour is full of 50, and now there are fewer or more."""
        tags = re.findall(r'"(\w+)"', statement.rpartition(" GROUP BY ")[2])
        now = int(time.time()) // 60 * 60
        ages = {"nginx-a": 0, "<b>": 0, "nginx-old": 300} if tags else {"": 0}
        figures = {"nginx-a": 10.0, "<b>": 700.0, "nginx-old": 1000.0, "": 710.0}

        def points(name: str) -> list[list[float]]:
            if "time(1m)" in statement:
                return [[now - 60 * number, 50.0] for number in range(60, -1, -1)]
            return [[time.time() - 5 - ages[name], figures[name]]]

        def tag(key: str, name: str) -> str:
            return {"host": name, "node": name, "service": "nginx"}.get(key, "other")

        return [{"tags": {key: tag(key, name) for key in tags}, "values": points(name)} for name in ages]

    def found(self, body: str) -> dict[str, Any]:
        """What Elasticsearch answers."""
        if self.logs_away:
            raise SourceError("192.0.2.9:9200 doesn't answer")
        heads, searches = body.splitlines()[::2], [json.loads(line) for line in body.splitlines()[1::2]]
        assert set(heads) == {"{}"}
        self.searches += searches
        if self.refused:
            error = {"type": "too_many_clauses", "reason": "too many of them"}
            return {"responses": [{"error": error, "status": 400} for _ in searches]}
        hits = [{"fields": {name: [value] for name, value in line.items()}} for line in self.lines]
        return {
            "responses": [
                {
                    "timed_out": False, "_shards": {"failed": 0}, "status": 200,
                    "hits": {"hits": hits[: search["size"]]},
                    **({} if self.empty or "aggs" not in search else {"aggregations": counted(search["aggs"])}),
                }
                for search in searches
            ]
        }  # fmt: skip


def counted(aggregations: Mapping[str, Any]) -> dict[str, Any]:
    """What aggregations find in the world's lines."""
    found: dict[str, Any] = {}
    for name, told in aggregations.items():
        (kind,) = told.keys() - {"aggs", "meta"}
        inner = {"doc_count": 7, **counted(told.get("aggs", {}))}
        found[name] = {"meta": told.get("meta", {}), **_aggregation(kind, told[kind], inner)}
    return found


def _aggregation(kind: str, words: Mapping[str, Any], inner: dict[str, Any]) -> dict[str, Any]:
    minute = int(time.time()) // 60 * 60000
    if kind == "terms":
        return {"buckets": [{"key": key, **inner} for key in ("n1", "<b>", "")]}
    if kind == "date_histogram":
        return {"buckets": [{"key": minute - 60000 * number, **inner} for number in range(60, -1, -1)]}
    if kind == "filters":
        return {"buckets": {"bad": {"doc_count": 1}, "all": {"doc_count": 20}}}
    if kind == "percentiles":
        return {"values": {f"{percent:.1f}": 2e9 for percent in words["percents"]}}
    if words.get("field") == "@timestamp":
        return {"value": time.time() * 1000 - 3000}
    if kind == "filter":
        return inner
    return {"value": 3e9 if words["field"] == "event.duration" else 4}


def settings(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The server's settings, with its files in a directory."""
    # Signing in is meant to be slow, and nearly every test here does it.
    monkeypatch.setattr(password, "_COST", 2**4)
    # No test loses its power.
    monkeypatch.setattr(journal, "SYNCHRONOUS", "OFF")
    (directory / "password").write_text(password.hashed(SECRET))
    hashed = {caller: hashlib.sha256(token.encode()).hexdigest() for caller, token in TOKENS.items()}
    (directory / "tokens.json").write_text(json.dumps(hashed))
    (directory / "slack_webhook").write_text("https://slack.test/hook")
    for database in ("influxdb", "elasticsearch"):
        (directory / f"{database}_password").write_text("reader")
    return Settings(
        address="127.0.0.1", port=0, user="operator", allowed_networks=(ip_network("192.0.2.0/24"),),
        files=directory, influxdb_url="https://192.0.2.9:8086", influxdb_database="forum", influxdb_user="reader",
        elasticsearch_url="https://192.0.2.9:9200", elasticsearch_index="forum-logs", elasticsearch_user="reader",
        managers=("192.0.2.11:2376",), stack="forum", caller_networks=(ip_network("192.0.2.9/32"),), engines=ENGINES,
        project=directory, inventory=directory, state=directory, runner=("false",), run_seconds=60,
        cooldown_seconds=300,
        reminder="1h", board_url="https://board:8443", runbook_url="https://runbook/", slack=True,
        **{name: tuple(DATA[name]) for name in ("levels", "dashboards", "requests")},
    )  # fmt: skip


class FakeRunner:
    """Runs nothing: notes what it was to run, and answers what it is told to."""

    def __init__(self) -> None:
        self.ran: list[Action] = []
        self.answers: list[Outcome] = []
        #: Those to what only brings the lists together.
        self.listed: list[Outcome] = []

    def run(self, action: Action) -> Outcome:
        self.ran.append(action)
        answers = self.listed if action.kind == records.SYNC else self.answers
        return answers.pop(0) if answers else Outcome(records.DONE, "done", {})


def actions(
    told: Settings,
    runner: Runner,
    clock: Callable[[], float] = time.time,
    judged: Judged = lambda alarm, level: None,
) -> Actions:
    """The actions of a server with these settings."""
    return Actions(
        Journal(told.state / "journal.db"), runner, {each["id"]: each for each in told.levels if "alarm" in each},
        told.engines, Links(told.board_url, told.runbook_url), judged,
        cooldown=300, reminder=3600, told=True, clock=clock,
    )  # fmt: skip


def site(directory: Path, world: World, monkeypatch: pytest.MonkeyPatch, done: Actions | None = None) -> Ask:
    """Asks the server as WSGI, in which the sources say what world tells."""
    for module in (sources, elastic):
        monkeypatch.setattr(module, "ask", world.answer)
    monkeypatch.setattr("ssl.create_default_context", lambda **_: create_autospec(ssl.SSLContext))
    told = settings(directory, monkeypatch)
    application = web.application(told, Board(told), done or actions(told, FakeRunner()))

    def request(
        path: str, form: Mapping[str, str] | None = None, address: str = "192.0.2.1", **headers: str
    ) -> tuple[int, dict[str, str], str]:
        path, _, query = path.partition("?")
        body = urlencode(form or {}).encode()
        environment: dict[str, Any] = {
            "REQUEST_METHOD": "GET" if form is None else "POST", "PATH_INFO": path, "QUERY_STRING": query,
            "SCRIPT_NAME": "", "SERVER_NAME": "board", "SERVER_PORT": "8443", "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": address, "REMOTE_PORT": "1", "HTTP_HOST": "board:8443", "wsgi.url_scheme": "https",
            "wsgi.input": io.BytesIO(body), "wsgi.errors": io.StringIO(), "wsgi.version": (1, 0),
            "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
            **{f"HTTP_{name.upper()}": value for name, value in headers.items()},
        }  # fmt: skip
        if form is not None:
            environment |= {
                "CONTENT_TYPE": "application/x-www-form-urlencoded", "CONTENT_LENGTH": str(len(body))
            }  # fmt: skip
        told: dict[str, Any] = {}

        def start(status: str, found: list[tuple[str, str]], error: object = None) -> Callable[..., None]:
            told.update(status=int(status.partition(" ")[0]), headers=dict(found))
            return lambda data: None

        answer = application(environment, start)
        content = b"".join(answer).decode()
        answer.close()
        return told["status"], told["headers"], content

    return request


def sign_in(ask: Ask) -> str:
    status, headers, _ = ask("/sign-in", {"user": "operator", "password": SECRET})
    assert status == 303
    return headers["Set-Cookie"].partition(";")[0]


def read(part: str) -> str:
    """A part of a page as one reads it."""
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", part).split()))


def row_of(content: str, name: str) -> str:
    """An indicator's row."""
    (row,) = re.findall(rf'<tr id="{name}".*?</tr>', content, re.DOTALL)
    return read(row)


def legends(content: str) -> dict[str, list[str]]:
    """Title of a panel -> its legend's lines."""
    return {
        read(title): [read(line) for line in re.findall(r"<li>(.*?)</li>", panel, re.DOTALL)]
        for title, panel in re.findall(r"<h2>(.*?)</h2>(.*?)</section>", content, re.DOTALL)
    }
