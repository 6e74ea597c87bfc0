"""Kapacitor's tasks in the real Kapacitor, which asks a real InfluxDB: every alarm begins, holds, and ends.

Each level has a database of its own, so that bad figures of one are no good ones of another. Points lie as far back as
the longest window, and are overwritten when the figures change, so that nobody waits for a window to pass.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from kapacitor import kapacitor_tasks
from test_certificates import make

ROOT = Path(__file__).resolve().parents[2]
MISSING = [name for name in ("kapacitord", "influxd") if not shutil.which(name)]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on the PATH: {', '.join(MISSING)}")

FIGURES = logging.getLogger(__name__)
TOKEN = "not-a-true-one"
SILENT: dict[str, Any] = {
    "source": "metric", "measurement": "system", "fields": ["uptime"], "per": ["service", "host"],
    "aggregation": "silence", "lookback_window": "60s",
}  # fmt: skip
LEVELS: dict[str, dict[str, Any]] = {
    level["id"]: level
    for level in [
        *yaml.safe_load((ROOT / "inventories/shared/sla.yml").read_text())["service_levels"],
        {"id": "silent", "indicator": SILENT, "alarm": {"op": "gt", "threshold": 0, "severity": "critical"}},
    ]
    if "alarm" in level and level["indicator"]["source"] != "log"
}
SILENCES = [name for name, level in LEVELS.items() if level["indicator"]["aggregation"] == "silence"]
#: Seconds of points that are written, more than the longest window and what is waited for.
PAST = 400
#: Seconds within which an alarm begins or ends: points may be late, the next question, and another one for a rate.
SOON = 45
#: The levels of Kapacitor's events, by what sla.yml calls them.
SEVERITIES = {"info": "INFO", "warning": "WARNING", "critical": "CRITICAL"}
#: What an event has, as Kapacitor 1.8 posted the examples after which the action server was made.
KEYS = {
    "id", "message", "details", "time", "duration", "level", "data", "previousLevel", "recoverable"
}  # fmt: skip


class Recorder(BaseHTTPRequestHandler):
    """The action server's place."""

    events: list[dict[str, Any]]
    refused: list[str]

    def do_POST(self) -> None:
        """Keep an event."""
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.headers["Authorization"] == f"Bearer {TOKEN}" and self.path == "/events/kapacitor"
        if known:
            self.events.append({**event, "came": time.time()})
        else:
            self.refused.append(f"{self.path} {self.headers}")
        self.send_response(202 if known else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be silent."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def request(port: int, method: str, path: str, body: str = "") -> Any:
    """What a program answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body.encode())
        answer = connection.getresponse()
        told = answer.read()
        assert answer.status < 300, told
        return json.loads(told) if told else None
    finally:
        connection.close()


@contextmanager
def program(arguments: list[str], port: int, ping: str, log: Path, **environment: str) -> Iterator[int]:
    """A program that answers; its process."""
    with log.open("w") as output:
        started = subprocess.Popen(arguments, stdout=output, stderr=output, env={**os.environ, **environment})
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                request(port, "GET", ping)
                break
            except OSError:
                assert started.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        yield started.pid
    finally:
        started.terminate()
        started.wait(10)


def figures(level: Mapping[str, Any]) -> dict[str, float]:
    """A figure that is bad, one that is good, and one between the two ends of the alarm."""
    alarm = level["alarm"]
    recovery = alarm.get("recovery", alarm["threshold"])
    sign = 1 if alarm["op"] in ("gt", "gte") else -1
    return {
        "bad": alarm["threshold"] * (1 + 0.2 * sign),
        "between": (alarm["threshold"] + recovery) / 2,
        "good": recovery * (1 - 0.2 * sign),
    }


class Points:
    """The figures of two instances, a and b, of every level, second by second."""

    def __init__(self, port: int) -> None:
        self._port, self._lock, self._end = port, Lock(), Event()
        self._phase = ("good", "good")
        self._began = int(time.time()) - PAST
        for name in LEVELS:
            made = f'CREATE DATABASE "{name}" WITH NAME "full"'
            request(port, "POST", f"/query?q={quote(made)}")
        self.write(self._began)
        self._thread = Thread(target=self._go_on)
        self._thread.start()

    def become(self, a: str, b: str) -> None:
        """Let the instances have such figures, as far back as anybody asks."""
        with self._lock:
            self._phase = (a, b)
            for name in SILENCES:
                dropped = quote(f'DROP MEASUREMENT "{LEVELS[name]["indicator"]["measurement"]}"')
                request(self._port, "POST", f"/query?db={name}&q={dropped}")
            self.write(int(time.time()) - PAST)

    def close(self) -> None:
        """Write no more."""
        self._end.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._end.wait(1):
            with self._lock:
                self.write(int(time.time()) - 2)

    def write(self, since: int) -> None:
        """Write all points of a time up to now."""
        now = int(time.time())
        for name, level in LEVELS.items():
            lines = [
                f"{level['indicator']['measurement']},{self._tags(level, host)} {fields} {second}"
                for host, kind in zip(
                    "ab", self._phase if "per" in level["indicator"] else self._phase[:1] * 2, strict=True
                )
                for second in range(since, now + 1)
                if (fields := self._fields(level, kind, second, now))
            ]
            if lines:
                path = f"/write?db={quote(name)}&rp=full&precision=s"
                request(self._port, "POST", path, "\n".join(lines))

    def _tags(self, level: Mapping[str, Any], host: str) -> str:
        indicator = level["indicator"]
        tags = {"host": host, **indicator.get("where", {}), **dict.fromkeys(indicator.get("per", ()), host)}
        return ",".join(f"{tag}={value}" for tag, value in tags.items())

    def _fields(self, level: Mapping[str, Any], kind: str, second: int, now: int) -> str:
        """The fields of a point; none where there is none."""
        indicator = level["indicator"]
        if indicator["aggregation"] == "silence":
            return "" if kind == "bad" and second > now - 90 else f"{indicator['fields'][0]}={second}"
        value = figures(level)[kind]
        if indicator["aggregation"] == "rate":
            value *= second - self._began + PAST
        share = value / len(indicator["fields"]) / (1 if "per" in indicator else 2)
        return ",".join(f"{field}={share:.3f}" for field in indicator["fields"])


def instances(level: Mapping[str, Any], *hosts: str) -> list[str]:
    """The ids of a level's events for some instances."""
    tags = level["indicator"].get("per", ())
    if not tags or level["alarm"].get("instances") == "every":
        return [f"{level['id']}/all"]
    return ["/".join((level["id"], *([host] * len(tags)))) for host in hosts]


class Lab:
    """All of it: points, InfluxDB, Kapacitor with the role's configuration, and the action server's place."""

    def __init__(self, points: Points, port: int, process: int, folder: Path) -> None:
        self.points, self.port, self.process, self.folder = points, port, process, folder

    def become(self, a: str, b: str) -> float:
        """Let the instances have such figures; when that began."""
        since = time.time()
        self.points.become(a, b)
        return since

    def told(self, since: float) -> list[dict[str, Any]]:
        """The events that came since then."""
        return [event for event in list(Recorder.events) if event["came"] >= since]

    def wait(self, since: float, wanted: Mapping[str, str]) -> dict[str, float]:
        """Wait until such events came: id -> level. Returns how many seconds each took."""
        while True:
            took: dict[str, float] = {}
            for event in self.told(since):
                if wanted.get(event["id"]) == event["level"]:
                    took.setdefault(event["id"], event["came"] - since)
            if took.keys() == wanted.keys():
                return took
            if time.time() > since + SOON:
                log = (self.folder / "kapacitor.log").read_text()
                pytest.fail(f"{sorted(wanted.keys() - took.keys())} weren't told: {log[-4000:]}")
            time.sleep(0.2)


@pytest.fixture(scope="module")
def lab(
    role_renderer: Callable[..., Callable[[str], str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """It runs, and all figures are good."""
    folder = tmp_path_factory.mktemp("kapacitor")
    tasks = folder / "etc/load/tasks"
    tasks.mkdir(parents=True)
    certificate, key = make("localhost")
    (folder / "etc/ca.crt").write_text(certificate)
    (folder / "key").write_text(key)
    for name, level in LEVELS.items():
        (tasks / f"{name}.tick").write_text(kapacitor_tasks([level], name, "full", "action-server")[name])
    Recorder.events, Recorder.refused = [], []
    with ExitStack() as stack:
        recorder = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "etc/ca.crt", folder / "key")
        recorder.socket = context.wrap_socket(recorder.socket, server_side=True)
        stack.callback(recorder.server_close)
        stack.callback(recorder.shutdown)
        Thread(target=recorder.serve_forever).start()
        database, port = free_port(), free_port()
        (folder / "influxdb.conf").write_text(f"""
reporting-disabled = true
bind-address = "127.0.0.1:{free_port()}"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
[http]
bind-address = "127.0.0.1:{database}"
log-enabled = false
[monitor]
store-enabled = false
""")
        stack.enter_context(
            program(
                ["influxd", "-config", str(folder / "influxdb.conf")],
                database,
                "/ping",
                folder / "influxdb.log",
            )
        )
        points = Points(database)
        stack.callback(points.close)
        rendered = role_renderer(
            "kapacitor",
            stack_name="forum",
            influxdb_url=f"http://127.0.0.1:{database}",
            influxdb_reader_password="",
            kapacitor_port=port,
            kapacitor_levels=list(LEVELS.values()),
            kapacitor_events_url=f"https://localhost:{recorder.server_port}/events/kapacitor",
            kapacitor_token=TOKEN,
        )("kapacitor.conf.j2")
        (folder / "kapacitor.conf").write_text(
            rendered.replace("/var/lib/kapacitor", f"{folder}/var").replace("/etc/kapacitor", f"{folder}/etc")
        )
        process = stack.enter_context(
            program(
                ["kapacitord", "-config", str(folder / "kapacitor.conf")],
                port,
                "/kapacitor/v1/ping",
                folder / "kapacitor.log",
                SSL_CERT_FILE=str(folder / "etc/ca.crt"),
            )
        )
        yield Lab(points, port, process, folder)


def running(lab: Lab) -> dict[str, dict[str, Any]]:
    """Kapacitor's tasks."""
    listed = request(
        lab.port, "GET", "/kapacitor/v1/tasks?fields=executing&fields=error&fields=script&fields=dbrps"
    )
    return {task["id"]: task for task in listed["tasks"]}


def test_it_takes_every_task(lab: Lab) -> None:
    deadline = time.monotonic() + 20
    # It answers before it has read them all.
    while (tasks := running(lab)).keys() != LEVELS.keys() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert tasks.keys() == LEVELS.keys(), (lab.folder / "kapacitor.log").read_text()
    for name, task in tasks.items():
        assert task["executing"], task
        assert task["dbrps"] == [{"db": name, "rp": "full"}]


def test_every_alarm_begins_holds_and_ends(lab: Lab) -> None:
    severity = {name: SEVERITIES[level["alarm"]["severity"]] for name, level in LEVELS.items()}
    for_every = {name for name, level in LEVELS.items() if level["alarm"].get("instances") == "every"}

    # Beyond the recovery, and not beyond the threshold.
    since = lab.become("between", "between")
    time.sleep(25)
    assert lab.told(since) == []

    since = lab.become("bad", "good")
    wanted = {
        one: severity[name]
        for name, level in LEVELS.items()
        if name not in for_every
        for one in instances(level, "a")
    }
    began = lab.wait(since, wanted)
    assert {event["id"] for event in lab.told(since)} == wanted.keys()

    since = lab.become("bad", "bad")
    wanted = {
        one: severity[name]
        for name, level in LEVELS.items()
        if "per" in level["indicator"]
        for one in instances(level, "b")
    }
    began |= lab.wait(since, wanted)

    since = lab.become("between", "between")
    time.sleep(25)
    over = {event["id"] for event in lab.told(since) if event["level"] == "OK"}
    assert over == {one for name in SILENCES for one in instances(LEVELS[name], "a", "b")}

    since = lab.become("good", "good")
    everything = {one for level in LEVELS.values() for one in instances(level, "a", "b")} - over
    ended = lab.wait(since, dict.fromkeys(everything, "OK"))
    for name, took in (("began", began), ("ended", ended)):
        for one, seconds in sorted(took.items()):
            FIGURES.info("%s %s after %.1f s", one, name, seconds)

    assert Recorder.refused == []
    for event in Recorder.events:
        name = event["id"].partition("/")[0]
        assert event.keys() - {"came"} == KEYS
        (series,) = event["data"]["series"]
        (row,) = series["values"]
        value = dict(zip(series["columns"], row, strict=True))["value"]
        assert isinstance(value, int | float)
        wanted_tags = [] if event["id"].endswith("/all") else LEVELS[name]["indicator"]["per"]
        assert sorted(series.get("tags", {})) == sorted(wanted_tags), event
        # Fresh enough for the action server, which takes none that is older than 300 s or 60 s ahead.
        age = event["came"] - datetime.fromisoformat(event["time"]).astimezone(UTC).timestamp()
        assert -5 < age < 60, event


def test_an_alarm_that_goes_on_is_told_again_with_its_figure(lab: Lab) -> None:
    """So one that nobody took isn't lost."""
    since = lab.become("bad", "good")
    time.sleep(95)
    for level in LEVELS.values():
        if level["alarm"].get("instances") == "every":
            continue
        (one,) = instances(level, "a")
        first, again = (event for event in lab.told(since) if event["id"] == one)
        assert first["level"] == again["level"] == SEVERITIES[level["alarm"]["severity"]]
        assert again["came"] - first["came"] == pytest.approx(60, abs=12)
        (series,) = again["data"]["series"]
        value = dict(zip(series["columns"], series["values"][0], strict=True))["value"]
        wanted = 1 if level["id"] in SILENCES else figures(level)["bad"]
        assert value == pytest.approx(wanted, rel=0.02), one
    lab.wait(lab.become("good", "good"), {"nginx-clients/a": "OK"})


def test_the_token_is_nowhere_but_in_the_request(lab: Lab) -> None:
    for path in ("tasks", "config", "debug/vars", "logs?lvl=debug"):
        connection = http.client.HTTPConnection("127.0.0.1", lab.port, timeout=5)
        connection.request("GET", f"/kapacitor/v1/{path}", headers={"Accept": "application/json"})
        answer = connection.getresponse()
        try:
            told = answer.read(20_000)
        except TimeoutError:
            told = b""
        finally:
            connection.close()
        assert TOKEN.encode() not in told, path
    assert TOKEN not in (lab.folder / "kapacitor.log").read_text()


def test_a_task_whose_file_is_gone_goes(lab: Lab) -> None:
    (lab.folder / "etc/load/tasks/redis-time.tick").unlink()
    os.kill(lab.process, signal.SIGHUP)
    deadline = time.monotonic() + 20
    while "redis-time" in running(lab) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert running(lab).keys() == LEVELS.keys() - {"redis-time"}
