"""The collector, with nodes that send to it and the Elasticsearch that it writes to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
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
        # An index that is just being made can't be searched for a moment.
        return [hit["fields"] for hit in json.loads(answer).get("hits", {}).get("hits", [])]

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
    text = f"first line {time.time_ns()}"
    send(node, "redis-0", f"77:M 26 Nov 2026 13:28:42.123 * {text}")
    (line,) = wait(find, {"match_phrase": {"message": text}})
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
    path = f"/t/json/{time.time_ns()}/"
    text = {
        "@timestamp": now,
        "event.dataset": "nginx.access",
        "url.path": path,
        "http.response.status_code": 404,
        "user_agent.original": '"}{"url.path":"/forged","event.dataset":"misago.access"',
    }
    send(node, "nginx", json.dumps(text))
    (line,) = wait(find, {"term": {"url.path": path}})
    assert line["event.dataset"] == ["nginx.access"]
    assert line["http.response.status_code"] == [404]
    assert line["user_agent.original"] == [text["user_agent.original"]]


def test_what_nothing_takes_is_kept_whole(node: Host, find: Find) -> None:
    text = f"<14>1 2026-01-01T00:00:00Z evil evil 1 - [a b='c'] whole {time.time_ns()}"
    send(node, "redis-0", text)
    (line,) = wait(find, {"match_phrase": {"message": text}})
    assert line["event.dataset"] == ["unparsed"]
    assert line["message"] == [text]


def test_a_line_without_a_time_of_its_own_has_dockers(node: Host, find: Find) -> None:
    text = f"an hour old {time.time_ns()}"
    before = datetime.now(UTC) - timedelta(hours=1)
    send(node, "redis-0", text, age=3600)
    (line,) = wait(find, {"match_phrase": {"message": text}})
    assert timedelta(0) <= datetime.fromisoformat(line["@timestamp"][0]) - before < timedelta(minutes=1)


#: Opens a session of RELP with a certificate, or with none, and prints the answer.
_RELP = """
import socket, ssl, sys
address, certificates = sys.argv[1], sys.argv[2:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
if certificates:
    context.load_cert_chain(*certificates)
offer = b"relp_version=0\\nrelp_software=test\\ncommands=syslog"
try:
    with context.wrap_socket(socket.create_connection((address, 20514), timeout=5)) as session:
        session.sendall(b"1 open %d %s\\n" % (len(offer), offer))
        print(session.recv(1000).decode() or "shut")
except OSError as error:
    print("refused", error)
"""


def relp(machine: Host, *certificates: str) -> str:
    """What the receiver answers to a machine with such a certificate and key."""
    words = [f"{PREFIX}.14", *certificates]
    return str(machine.check_output("python3 -c %s" + " %s" * len(words), _RELP, *words))


def test_nobody_without_a_shippers_certificate_is_let_in(monitor: Host, node: Host) -> None:
    own = "/etc/forum/log_shipper/tls"
    assert "200 OK" in relp(node, f"{own}.crt", f"{own}.key")
    assert "200 OK" not in relp(node)
    # Of the same authority, with another name.
    assert "200 OK" not in relp(monitor, f"{OTHER}.crt", f"{OTHER}.key")


def test_killed_receiver_and_parser_lose_nothing_and_double_nothing(
    monitor: Host, node: Host, find: Find
) -> None:
    for unit in ("log_collector.service", "log_parser.service"):
        text = f"{unit} {time.time_ns()}"
        with ThreadPoolExecutor() as pool:
            sent = pool.submit(
                send, node, "redis-0", f"78:M 26 Nov 2026 13:29:00.000 * {text} NUMBER", 500, 0.02
            )
            time.sleep(3)
            monitor.check_output("systemctl kill --signal=SIGKILL %s", unit)
            assert not sent.done(), "all was sent before anything was killed"
            sent.result()
        lines = wait(find, {"match_phrase": {"message": text}}, 500, seconds=60)
        assert len({line["message"][0] for line in lines}) == len(lines) == 500


def test_a_receiver_without_its_port_is_started_anew(monitor: Host, node: Host, find: Find) -> None:
    text = f"after the port {time.time_ns()}"
    take = f"import socket, time; s = socket.create_server(('{PREFIX}.14', 20514)); time.sleep(300)"
    monitor.check_output("systemctl stop log_collector.service")
    monitor.check_output("systemd-run --unit=taker python3 -c %s", take)
    try:
        time.sleep(2)
        assert monitor.run("systemctl start log_collector.service").rc != 0
    finally:
        monitor.check_output("systemctl stop taker.service")
    # What the shipper sends to a receiver that has gone it sends again with the next line.
    send(node, "redis-0", f"81:M 26 Nov 2026 13:32:00.000 * {text} NUMBER", 20, seconds=1)
    wait(find, {"match_phrase": {"message": text}}, 20, seconds=60)


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


def test_what_was_sent_and_not_acknowledged_dies_with_both(monitor: Host, node: Host, find: Find) -> None:
    text = f"window {time.time_ns()}"
    monitor.check_output("systemctl kill --signal=SIGSTOP log_collector.service")
    send(node, "redis-0", f"82:M 26 Nov 2026 13:33:00.000 * {text} NUMBER", 100)
    time.sleep(2)
    node.check_output("systemctl kill --signal=SIGKILL log_shipper.service")
    monitor.check_output("systemctl kill --signal=SIGKILL log_collector.service")
    # Two lines at most, as the shipper's configuration tells.
    wait(find, {"match_phrase": {"message": text}}, 98, seconds=60)


def test_the_keeper_removes_what_elasticsearch_has(monitor: Host, node: Host, find: Find) -> None:
    text = f"to be removed {time.time_ns()}"
    # Nobody else removes it.
    monitor.check_output("systemctl stop log_keeper.timer")
    try:
        send(node, "redis-0", f"79:M 26 Nov 2026 13:30:00.000 * {text}")
        wait(find, {"match_phrase": {"message": text}})
        assert monitor.check_output("find %s -name '*.json'", SPOOL) != ""
        # As if it were old: the file of this minute is left alone.
        monitor.check_output("systemctl stop log_collector.service")
        monitor.check_output("find %s -name '*.json' -exec touch --date='10 minutes ago' {} +", SPOOL)
        monitor.check_output("systemctl start log_keeper.service")
        assert monitor.check_output("find %s -name '*.json'", SPOOL) == ""
        # Who stopped the receiver starts it.
        time.sleep(15)
        assert monitor.run("systemctl is-active log_collector.service").rc != 0
    finally:
        monitor.check_output("systemctl start log_collector.service log_keeper.timer")


def test_a_disk_that_is_nearly_full_stops_the_receiver_until_there_is_room(monitor: Host) -> None:
    free = int(monitor.check_output("df --output=avail --block-size=1M %s | tail -n 1", SPOOL))
    own = "/etc/systemd/system/log_guard.service"
    monitor.check_output("cp -p %s /run/own.service", own)
    try:
        # As if it had to keep more free than there is.
        monitor.check_output(
            "sed -i 's/-lt [0-9]*/-lt %s/' %s && systemctl daemon-reload", str(free * 2), own
        )
        time.sleep(15)
        assert monitor.run("systemctl is-active log_collector.service").rc != 0
    finally:
        monitor.check_output("mv /run/own.service %s && systemctl daemon-reload", own)
    time.sleep(15)
    assert monitor.check_output("systemctl is-active log_collector.service") == "active"
