"""The collector, with nodes that send to it and the Elasticsearch that it writes to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from log_lines import send
from role_lab import PREFIX
from testinfra.host import Host

FILES = "/etc/forum/log_collector"
SPOOL = "/var/lib/log_collector/spool"
#: A certificate and a key of the same authority, with another name.
OTHER = "/etc/forum/elasticsearch/tls"


@pytest.fixture(scope="module")
def monitor(machines: dict[str, Host]) -> Host:
    return machines["monitor"]


@pytest.fixture(scope="module")
def node(machines: dict[str, Host]) -> Host:
    return machines["node-1"]


Find = Callable[[dict[str, Any]], list[dict[str, Any]]]


@pytest.fixture
def find(monitor: Host, secret_values: dict[str, str]) -> Find:
    """Asks Elasticsearch as the reader; the documents of a query, with the fields by their own names."""

    def ask(query: dict[str, Any]) -> list[dict[str, Any]]:
        question = {"size": 1000, "_source": False, "fields": ["*"], "query": query}
        answer = monitor.check_output(
            "curl -sS --cacert %s/ca.crt --user %s -H 'Content-Type: application/json' -d %s %s",
            FILES, f"reader:{secret_values['elasticsearch_reader_password']}", json.dumps(question),
            f"https://{PREFIX}.14:9200/forum-logs-*/_search",
        )  # fmt: skip
        return [hit["fields"] for hit in json.loads(answer)["hits"]["hits"]]

    return ask


def wait(find: Find, query: dict[str, Any], count: int = 1, seconds: float = 10) -> list[dict[str, Any]]:
    """The documents of a query, once there are that many; 10 s is what is promised for a line."""
    end = time.monotonic() + seconds
    while len(found := find(query)) < count:
        if time.monotonic() > end:
            pytest.fail(f"{len(found)} of {count} lines after {seconds:.0f} s")
        time.sleep(0.5)
    return found


def test_a_line_arrives_with_its_fields_and_types(node: Host, find: Find) -> None:
    send(node, "redis-0", "77:M 26 Nov 2026 13:28:42.123 * first line of the test")
    (line,) = wait(find, {"match_phrase": {"message": "first line of the test"}})
    assert line["event.dataset"] == ["redis"]
    assert line["service.name"] == ["redis-0"]
    assert line["host.name"] == ["node-1"]
    assert line["orchestrator.namespace"] == ["forum"]
    assert line["container.id"] == ["0123456789ab"]
    assert line["log.level"] == ["notice"]
    assert line["process.pid"] == [77]
    assert line["@timestamp"] == ["2026-11-26T13:28:42.123Z"]


def test_json_is_taken_apart_and_nothing_in_it_is_another_field(node: Host, find: Find) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    text = {
        "@timestamp": now,
        "event.dataset": "nginx.access",
        "url.path": "/t/json-of-the-test/1/",
        "http.response.status_code": 404,
        "user_agent.original": '"}{"url.path":"/forged","event.dataset":"misago.access"',
    }
    send(node, "nginx", json.dumps(text))
    (line,) = wait(find, {"term": {"url.path": "/t/json-of-the-test/1/"}})
    assert line["event.dataset"] == ["nginx.access"]
    assert line["http.response.status_code"] == [404]
    assert line["user_agent.original"] == [text["user_agent.original"]]


def test_what_nothing_takes_is_kept_whole(node: Host, find: Find) -> None:
    send(node, "redis-0", "<14>1 2026-01-01T00:00:00Z evil evil 1 - [a b='c'] whole line of the test")
    (line,) = wait(find, {"match_phrase": {"message": "whole line of the test"}})
    assert line["event.dataset"] == ["unparsed"]
    assert line["message"] == ["<14>1 2026-01-01T00:00:00Z evil evil 1 - [a b='c'] whole line of the test"]


def test_nobody_without_a_shippers_certificate_is_let_in(node: Host) -> None:
    target = f"{PREFIX}.14:20514"
    shown = node.run("timeout 5 openssl s_client -tls1_2 -connect %s </dev/null", target)
    assert "certificate required" in shown.stderr or "handshake failure" in shown.stderr or shown.rc != 0


def test_killed_receiver_and_parser_lose_nothing_and_double_nothing(
    monitor: Host, node: Host, find: Find
) -> None:
    for unit in ("log_collector.service", "log_parser.service"):
        send(node, "redis-0", f"78:M 26 Nov 2026 13:29:00.000 * {unit} NUMBER begins", 100)
        monitor.check_output("systemctl kill --signal=SIGKILL %s", unit)
        send(node, "redis-0", f"78:M 26 Nov 2026 13:29:01.000 * {unit} NUMBER ends", 100)
        lines = wait(find, {"match_phrase": {"message": unit}}, 200, seconds=60)
        assert len({line["message"][0] for line in lines}) == len(lines) == 200


def starts(node: Host) -> int:
    """How often systemd has started the shipper anew."""
    return int(node.check_output("systemctl show --value --property=NRestarts log_shipper.service"))


def test_a_receiver_of_another_name_costs_no_line(monitor: Host, node: Host, find: Find) -> None:
    unit, text = "log_collector.service", f"wrong name {time.time_ns()}"
    before = starts(node)
    monitor.check_output("mkdir /run/own && cp -a %s/tls.crt %s/tls.key /run/own", FILES, FILES)
    try:
        # Into the files that are there, with their owners.
        monitor.check_output("cat %s.crt >%s/tls.crt && cat %s.key >%s/tls.key", OTHER, FILES, OTHER, FILES)
        monitor.check_output("systemctl restart %s", unit)
        send(node, "redis-0", f"80:M 26 Nov 2026 13:31:00.000 * {text} NUMBER", 500, seconds=0.02)
        time.sleep(10)
        kills = starts(node) - before
    finally:
        monitor.check_output("cp -a /run/own/tls.crt /run/own/tls.key %s && rm -r /run/own", FILES)
        monitor.check_output("systemctl restart %s", unit)
    assert kills > 0
    # Each kill may cost the line that is in hand.
    wait(find, {"match_phrase": {"message": text}}, 500 - kills, seconds=60)


def test_the_keeper_removes_what_elasticsearch_has(monitor: Host, node: Host, find: Find) -> None:
    send(node, "redis-0", "79:M 26 Nov 2026 13:30:00.000 * line to be removed")
    wait(find, {"match_phrase": {"message": "line to be removed"}})
    # As if it were old: the file of this minute is left alone.
    monitor.check_output("systemctl stop log_collector.service")
    monitor.check_output("find %s -name '*.json' -exec touch --date='10 minutes ago' {} +", SPOOL)
    monitor.check_output("systemctl start log_keeper.service")
    assert monitor.check_output("find %s -name '*.json'", SPOOL) == ""
    # It found room on the disk, and so has started the receiver.
    time.sleep(2)
    assert monitor.check_output("systemctl is-active log_collector.service") == "active"
