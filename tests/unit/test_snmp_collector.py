"""The collector of the nodes' figures: what it asks, what it makes of the answers, whom it forgets."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from docker.errors import DockerException

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "roles/snmp_collector/files"))

from snmp_collector.collector import Collector
from snmp_collector.events import Troubles, line
from snmp_collector.figures import INTERFACE, OBJECTS, PACKETS, Ticks, cpu_load, fields, ticks
from snmp_collector.influx import Influx, InfluxError, UselessError, point
from snmp_collector.settings import Settings, load
from snmp_collector.swarm import Nodes, Swarm, SwarmError, nodes_of, reason

ROOT = Path(__file__).resolve().parents[2]
VALUES = {
    "hrSystemUptime": 123456,
    "memTotalReal": 1000,
    "memSysAvail": 400,
    "dskTotalLow": 0,
    "dskTotalHigh": 2,
    "dskUsedLow": 0,
    "dskUsedHigh": 1,
    "ssCpuRawUser": 30,
    "ssCpuRawNice": 0,
    "ssCpuRawSystem": 10,
    "ssCpuRawIdle": 50,
    "ssCpuRawWait": 10,
    "ssCpuRawInterrupt": 0,
    "ssCpuRawSoftIRQ": 0,
    "ssCpuRawSteal": 0,
    "ssCpuNumCpus": 2,
    "ifHCInUcastPkts": 70,
    "ifHCInMulticastPkts": 7,
    "ifHCOutUcastPkts": 60,
}


def settings(**other: Any) -> Settings:
    values: dict[str, Any] = {
        "stack": "forum",
        "managers": ("https://one:2376", "https://two:2376"),
        "influxdb_url": "https://db:8086",
        "influxdb_database": "forum",
        "influxdb_writer": "writer",
        "influxdb_writer_password": "w",
        "influxdb_reader": "reader",
        "influxdb_reader_password": "r",
        "snmp_user": "monitoring",
        "snmp_port": 161,
        "snmp_auth_password": "a",
        "snmp_privacy_password": "p",
        "poll_seconds": 0.2,
    }
    return Settings(**{**values, **other})


def written(**other: Any) -> str:
    """Settings as the file that the program reads."""
    values = vars(settings(**other)).items()
    return "".join(
        f"{name} = {json.dumps(value)}\n" for name, value in values if isinstance(value, str | int | tuple)
    )


def test_the_nodes_let_read_just_what_is_asked_for() -> None:
    view = yaml.safe_load((ROOT / "roles/snmpd/defaults/main.yml").read_text())["snmpd_view"]
    assert set(view) == {*OBJECTS.values(), INTERFACE, *PACKETS.values()}


def test_every_snmp_indicator_has_its_field() -> None:
    levels = yaml.safe_load((ROOT / "inventories/shared/sla.yml").read_text())["service_levels"]
    wanted = {
        name
        for level in levels
        if level["indicator"]["source"] == "snmp"
        for name in level["indicator"]["fields"]
    }
    assert wanted
    assert wanted <= set(fields(VALUES, Ticks(0, 0)))


def test_figures() -> None:
    assert fields(VALUES, Ticks(0, 0)) == {
        "cpu_load": 40.0,
        "memory_total": 1024000,
        "ram_used": 60.0,
        "disk_total": 2 * 2**32 * 1024,
        "disk_used": 50.0,
        "uptime": 1234,
        "vcpus": 2,
        "packets_in": 77,
        "packets_out": 60,
    }


def test_the_first_answer_has_no_load() -> None:
    assert "cpu_load" not in fields(VALUES, None)


@pytest.mark.parametrize("missing", ["memTotalReal", "dskTotalHigh", "ifHCInUcastPkts", "ssCpuRawIdle"])
def test_what_a_node_lacks_is_left_out(missing: str) -> None:
    rest = {name: value for name, value in VALUES.items() if name != missing}
    found = fields(rest, Ticks(0, 0))
    gone = {
        "memTotalReal": {"memory_total", "ram_used"},
        "dskTotalHigh": {"disk_total", "disk_used"},
        "ifHCInUcastPkts": {"packets_in"},
        "ssCpuRawIdle": {"cpu_load"},
    }[missing]
    assert set(fields(VALUES, Ticks(0, 0))) - set(found) == gone


def test_a_counter_that_snmpd_has_not_read_yet_is_no_zero() -> None:
    assert "packets_in" not in fields({**VALUES, "ifHCInUcastPkts": 0}, None)


def test_load_over_a_wrap_and_over_a_restart() -> None:
    assert cpu_load(Ticks(2**32 - 50, 2**32 - 50), Ticks(50, 0)) == 50.0
    assert cpu_load(Ticks(1000, 900), Ticks(1000, 900)) is None
    assert cpu_load(Ticks(1000, 900), Ticks(10, 5)) is None
    assert ticks({}) is None


def node(
    name: str, address: str, state: str = "ready", availability: str = "active", manager: str = ""
) -> dict[str, Any]:
    known: dict[str, Any] = {
        "ID": f"id-{name}-{state}",
        "Description": {"Hostname": name},
        "Status": {"State": state, "Addr": address},
        "Spec": {"Availability": availability},
    }
    return {**known, "ManagerStatus": {"Addr": manager}} if manager else known


def task(name: str, desired: str = "running", state: str = "ready") -> dict[str, str]:
    return {"NodeID": f"id-{name}-{state}", "DesiredState": desired}


def test_nodes_that_host_the_stack() -> None:
    found = nodes_of(
        [
            node("leader", "0.0.0.0", manager="198.51.100.1:2377"),  # noqa: S104
            node("worker", "198.51.100.2"),
            node("drained", "198.51.100.3", availability="drain"),
            node("idle", "198.51.100.4"),
        ],
        [
            task("leader"),
            task("worker"),
            task("worker"),
            task("drained", "shutdown"),
            {"DesiredState": "running"},
        ],
    )
    assert found == Nodes({"leader": "198.51.100.1", "worker": "198.51.100.2"}, {})


def test_a_node_that_the_swarm_lost_has_not_departed_unless_it_was_drained_or_joined_anew() -> None:
    found = nodes_of(
        [
            node("here", "198.51.100.1"),
            node("lost", "198.51.100.2", "down"),
            node("gone", "198.51.100.3", "down", "drain"),
            node("here", "198.51.100.9", "down"),
        ],
        [task("here")],
    )
    assert found == Nodes({"here": "198.51.100.1"}, {"lost": "198.51.100.2"})
    assert found.all == {"here": "198.51.100.1", "lost": "198.51.100.2"}


def test_a_node_without_a_name_is_left_out() -> None:
    nameless = node("x", "198.51.100.2", "unknown")
    for description in ({}, {"Hostname": ""}):
        found = nodes_of(
            [node("here", "198.51.100.1"), {**nameless, "Description": description}], [task("here")]
        )
        assert found == Nodes({"here": "198.51.100.1"}, {})
    del nameless["Description"]
    assert nodes_of([nameless], []) == Nodes({}, {})


def test_the_next_manager_is_asked_and_stays_the_first(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    asked: list[str] = []

    def ask(url: str, _: Settings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        asked.append(url)
        if "one" in url:
            raise requests.ConnectionError("refused")
        return [node("n", "198.51.100.1")], [task("n")]

    swarm = Swarm(settings(), Troubles(), ask)
    for _ in range(2):
        assert swarm.nodes().hosting == {"n": "198.51.100.1"}
    assert asked == ["https://one:2376", "https://two:2376", "https://two:2376"]
    assert caplog.messages == ["event=manager-fails manager=https://one:2376 reason=refused"]


def test_no_manager_at_all_is_an_error() -> None:
    def ask(*_: object) -> Any:
        raise DockerException("no leader")

    with pytest.raises(SwarmError):
        Swarm(settings(), Troubles(), ask).nodes()


def test_a_reason_is_the_same_each_time() -> None:
    inner = OSError("<urllib3.connection.HTTPSConnection object at 0x7f01>: Failed: [Errno 111] refused")
    assert reason(requests.ConnectionError(inner)) == "Failed: [Errno 111] refused"


def test_a_line_of_the_protocol() -> None:
    assert point("node 1,a", "forum", {"vcpus": 2, "cpu_load": 1.5}, 7) == (
        "snmp,node=node\\ 1\\,a,stack=forum vcpus=2i,cpu_load=1.5 7"
    )


def test_an_event_is_one_line() -> None:
    assert line("node-fails", node="n-1", reason='it says "no"\nand more') == (
        'event=node-fails node=n-1 reason="it says \\"no\\"\\nand more"'
    )


class Answering(requests.Session):
    """InfluxDB's answers, one after the other; an exception is raised."""

    def __init__(self, *answers: tuple[int, str] | Exception) -> None:
        super().__init__()
        self.answers = list(answers)
        self.sent: list[Any] = []

    def post(self, url: Any, data: Any = None, json: Any = None, **_: Any) -> requests.Response:
        self.sent.append(data)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        response = requests.Response()
        response.status_code, text = answer
        response._content = text.encode()
        return response


def influx(session: Answering, **other: Any) -> Influx:
    made = Influx(settings(**other))
    made._session = session
    return made


def test_what_could_not_be_written_is_written_later_in_order() -> None:
    session = Answering(requests.ConnectionError("away"), (503, ""), (204, ""))
    database = influx(session)
    for points in ("a", "b"):
        database.add(points)
        with pytest.raises(InfluxError):
            database.flush()
    database.flush()
    assert session.sent[-1] == b"a\nb"
    assert database.waiting == 0


def test_what_is_kept_is_bounded_and_the_oldest_goes() -> None:
    session = Answering((204, ""))
    database = influx(session, keep_rounds=2)
    for points in ("a", "b", "c"):
        database.add(points)
    database.flush()
    assert session.sent == [b"b\nc"]


def test_what_is_never_taken_does_not_stop_the_rest() -> None:
    session = Answering((400, '{"error": "field type conflict"}'), (204, ""))
    database = influx(session)
    database.add("bad")
    with pytest.raises(UselessError, match="field type conflict"):
        database.flush()
    database.add("good")
    database.flush()
    assert session.sent == [b"bad", b"good"]


class Slow(Answering):
    """An InfluxDB that takes its time: until `go` is set. begun: it was asked once."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        super().__init__(*answers)
        self.begun, self.go = threading.Event(), threading.Event()

    def post(self, url: Any, data: Any = None, json: Any = None, **other: Any) -> requests.Response:
        self.begun.set()
        assert self.go.wait(10)
        return super().post(url, data, json, **other)


def test_two_who_write_at_once_write_everything_once() -> None:
    session = Slow((204, ""), (204, ""))
    database = influx(session)
    database.add("a")
    first, second = threading.Thread(target=database.flush), threading.Thread(target=database.flush)
    first.start()
    assert session.begun.wait(10)
    session.begun.clear()
    second.start()
    early = session.begun.wait(0.2)
    session.go.set()
    for thread in (first, second):
        thread.join(10)
    assert not early, "the second one waits for the first"
    assert session.sent == [b"a"]
    assert database.waiting == 0


def test_nodes_with_series_and_dropping_one() -> None:
    known = '{"results": [{"series": [{"values": [["node", "a"], ["node", "b"]]}]}]}'
    session = Answering(
        (200, known), (200, '{"results": [{}]}'), (200, '{"results": [{"error": "no right"}]}')
    )
    database = influx(session)
    assert database.nodes() == {"a", "b"}
    database.drop("it's")
    assert session.sent[-1] == {
        "q": 'DROP SERIES FROM "snmp" WHERE "node" = \'it\\\'s\' AND "stack" = \'forum\''
    }
    with pytest.raises(InfluxError, match="no right"):
        database.drop("a")


class FakeAgent:
    """A node: what it answers, how long it takes."""

    def __init__(self, address: str, answer: dict[str, int] | Exception, seconds: float = 0) -> None:
        self.address = address
        self.answer = answer
        self.seconds = seconds
        self.closed = False

    async def read(self) -> dict[str, int]:
        await asyncio.sleep(self.seconds)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def close(self) -> None:
        self.closed = True


class FakeSwarm:
    """A swarm that tells what it is told."""

    def __init__(self, hosting: Mapping[str, str], away: Mapping[str, str] | None = None) -> None:
        self.known: Nodes | None = Nodes(hosting, away or {})

    def nodes(self) -> Nodes:
        if self.known is None:
            raise SwarmError("no manager answers")
        return self.known


class FakeDatabase:
    """A database that may be away."""

    def __init__(self, *nodes: str) -> None:
        self.series = set(nodes)
        self.kept: list[str] = []
        self.written: list[str] = []
        self.away = False

    @property
    def waiting(self) -> int:
        return len(self.kept)

    def add(self, points: str) -> None:
        self.kept.append(points)

    def flush(self) -> None:
        if self.away:
            raise InfluxError("it doesn't answer")
        self.written += self.kept
        self.kept.clear()

    def nodes(self) -> set[str]:
        if self.away:
            raise InfluxError("it doesn't answer")
        return self.series

    def drop(self, node: str) -> None:
        self.series = self.series - {node}


def collector(
    swarm: FakeSwarm, database: FakeDatabase, agents: Mapping[str, FakeAgent], **other: Any
) -> Collector:
    return Collector(settings(**other), swarm, database, lambda address: agents[address], Troubles())


def two() -> dict[str, FakeAgent]:
    return {"1": FakeAgent("1", VALUES), "2": FakeAgent("2", VALUES)}


def test_all_nodes_are_in_one_batch_of_the_same_second() -> None:
    database = FakeDatabase()
    made = collector(FakeSwarm({"a": "1", "b": "2"}), database, two())

    async def go() -> None:
        assert await made.discover()
        await made.poll()

    asyncio.run(go())
    (batch,) = database.written
    first, second = batch.splitlines()
    assert first.startswith("snmp,node=a,stack=forum ")
    assert second.startswith("snmp,node=b,stack=forum ")
    assert first.split()[-1] == second.split()[-1]


def test_a_node_that_does_not_answer_or_hangs_is_told_once_and_the_others_are_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    agents = {
        "1": FakeAgent("1", VALUES),
        "2": FakeAgent("2", RuntimeError("Wrong SNMP PDU digest")),
        "3": FakeAgent("3", VALUES, seconds=60),
    }
    database = FakeDatabase()
    made = collector(FakeSwarm({"a": "1", "b": "2", "c": "3"}), database, agents)

    async def go() -> None:
        await made.discover()
        await made.poll()
        await made.poll()
        agents["2"].answer = VALUES
        await made.poll()

    asyncio.run(go())
    assert [batch.count("\n") for batch in database.written] == [0, 0, 1]
    told = [message for message in caplog.messages if "node-fails" in message or "node-works" in message]
    assert told == [
        'event=node-fails node=b reason="Wrong SNMP PDU digest"',
        'event=node-fails node=c reason="no answer in time"',
        "event=node-works node=b",
    ]


def test_only_series_of_nodes_that_departed_are_dropped() -> None:
    database = FakeDatabase("a", "b", "long-gone", "lost")
    swarm, agents = FakeSwarm({"a": "1", "b": "2"}, {"lost": "3"}), {**two(), "3": FakeAgent("3", VALUES)}
    made = collector(swarm, database, agents)

    async def go() -> None:
        assert await made.discover()
        assert database.series == {"a", "b", "lost"}
        swarm.known = Nodes({"a": "1"}, {"lost": "3"})
        assert await made.discover()
        await made.poll()

    asyncio.run(go())
    assert database.series == {"a", "lost"}
    assert agents["2"].closed
    assert "node=b" not in database.written[0]


@pytest.mark.parametrize("known", [None, Nodes({}, {})])
def test_without_a_word_of_the_swarm_nothing_is_forgotten(known: Nodes | None) -> None:
    database = FakeDatabase("a", "b")
    swarm = FakeSwarm({"a": "1", "b": "2"})
    made = collector(swarm, database, two())

    async def go() -> None:
        await made.discover()
        swarm.known = known
        assert not await made.discover()
        await made.poll()

    asyncio.run(go())
    assert database.series == {"a", "b"}
    assert database.written[0].count("\n") == 1


def test_what_nobody_expected_of_the_swarm_or_the_database_is_told_and_the_rounds_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    database = FakeDatabase("a", "b")
    swarm = FakeSwarm({"a": "1"})
    made = collector(swarm, database, two())
    series = database.nodes

    def unexpected() -> Any:
        raise KeyError("results")

    async def go() -> None:
        database.nodes = unexpected  # type: ignore[method-assign]
        assert not await made.discover()
        assert not await made.discover()
        await made.poll()
        database.nodes = series  # type: ignore[method-assign]
        assert await made.discover()

    asyncio.run(go())
    assert len(database.written) == 1
    assert database.series == {"a"}
    assert [message for message in caplog.messages if "discovery" in message] == [
        "event=discovery-fails discovery=forum reason=\"KeyError: 'results'\"",
        "event=discovery-works discovery=forum",
    ]


def test_points_of_the_time_without_a_database_are_written_afterwards(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    database = FakeDatabase("a")
    made = collector(FakeSwarm({"a": "1"}), database, two())

    async def go() -> None:
        await made.discover()
        database.away = True
        for _ in range(3):
            await made.poll()
        assert not await made.discover()
        database.away = False
        await made.poll()

    asyncio.run(go())
    assert len(database.written) == 4
    assert [message.split()[0] for message in caplog.messages if "influxdb" in message] == [
        "event=influxdb-fails",
        "event=influxdb-works",
    ]


def test_it_tells_that_it_is_alive_and_writes_the_rest_when_it_stops() -> None:
    database = FakeDatabase()
    made = collector(FakeSwarm({"a": "1"}), database, two(), poll_seconds=0.02)
    beats: list[int] = []

    async def go() -> None:
        running = asyncio.create_task(made.run(lambda: beats.append(1)))
        await asyncio.sleep(0.3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        database.add("last")
        await made.stop()

    asyncio.run(go())
    assert len(beats) > 3
    assert database.written[-1] == "last"


def test_settings_are_read_and_their_mistakes_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(written())
    assert load(path).managers == settings().managers
    assert "'w'" not in repr(load(path))
    for text in (written(managers=()), written() + "unknown = 1\n", 'managers = ["x"]\n', "managers = ["):
        path.write_text(text)
        with pytest.raises((ValueError, TypeError)):
            load(path)


#: The part of the libraries that the program's start needs, by file; any name is there, and nothing encrypts.
LIBRARIES = {
    "pysnmp/hlapi/v3arch/asyncio.py": "OctetString = bytes\ndef __getattr__(name): return name",
    "pysnmp/proto/rfc1905.py": "def __getattr__(name): return name",
    "pysnmp/proto/secmod/rfc3826/priv/aes.py": (
        "class Aes:\n KEY_SIZE = 16\n def encrypt_data(self, *_): raise RuntimeError('no ciphers')"
    ),
    "systemd/daemon.py": "def notify(_): pass",
}


@pytest.fixture
def started(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Starts the program with a text of settings and with libraries that don't encrypt."""
    for name, text in LIBRARIES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    configuration = tmp_path / "config.toml"

    def start(text: str) -> subprocess.CompletedProcess[str]:
        configuration.write_text(text)
        return subprocess.run(
            [sys.executable, "-B", "-m", "snmp_collector", configuration],
            env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT / 'roles/snmp_collector/files'}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return start


def test_what_a_start_can_not_mend_is_told_and_systemd_does_not_try_again(
    started: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    unit = (ROOT / "roles/snmp_collector/templates/snmp_collector.service.j2").read_text()
    mistaken, unable = started(written(managers=())), started(written())
    assert mistaken.stdout.startswith("event=refused file="), mistaken.stderr
    assert unable.stdout.startswith("event=refused reason="), unable.stderr
    assert "pysnmp can't encrypt with the cryptography that is installed: no ciphers" in unable.stdout
    for refused in (mistaken, unable):
        assert f"\nRestartPreventExitStatus={refused.returncode}\n" in unit
