"""What happens in each component is a line in Elasticsearch within ten seconds, taken apart into typed fields."""

import contextlib
import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from drills.browser import UnansweredError
from drills.elastic import Elastic
from drills.forum import Account, Visitor
from drills.lab import Lab, Node

#: Seconds from what happens to its line.
PROMISED = 10
COMMON = ("@timestamp", "message", "event.id", "event.dataset", "service.name", "host.name", "container.id")

Find = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def elastic(lab: Lab) -> Elastic:
    return Elastic(lab)


@pytest.fixture(scope="module")
def took() -> Iterator[list[float]]:
    """How long each line took; told at the end."""
    seconds: list[float] = []
    yield seconds
    told = sorted(seconds)
    print(
        f"\n{len(told)} lines were found after {told[len(told) // 2]:.1f} s (median), {told[-1]:.1f} s (longest)"
    )


@pytest.fixture
def find(lab: Lab, elastic: Elastic, took: list[float]) -> Find:
    """Waits for the newest line that a query finds, and looks at what every line has.

    Given the time at which it happened; without, the line's own time is that, and it must be of after the call's test.
    """
    begun = time.time()

    def newest(query: str, *fields: str, happened: float | None = None) -> dict[str, Any]:
        since = int((happened or begun) * 1000) - 2000
        deadline = time.time() + PROMISED * 6
        while not (
            lines := elastic.lines(f"({query}) AND @timestamp:[{since} TO *]", *COMMON, *fields, most=1)
        ):
            assert time.time() < deadline, f"no line of {query}"
            time.sleep(0.2)
        line = lines[0]
        seconds = time.time() - (happened or datetime.fromisoformat(line["@timestamp"]).timestamp())
        took.append(seconds)
        assert seconds <= PROMISED, line
        assert set(COMMON) <= line.keys()
        assert len(line["event.id"]) == 32
        assert line["host.name"] in {node.name for node in lab.swarm}
        assert set(fields) <= line.keys(), line
        return line

    return newest


@pytest.fixture
def marker() -> str:
    return f"marker-{secrets.token_hex(4)}"


def on(node: Node, *command: str, given: bytes = b"") -> str:
    """What a command says on a machine that is given something to read, errors included."""
    words = ["docker", "exec", "-i", node.container, *command]
    done = subprocess.run(
        words, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False
    )
    return done.stdout.decode(errors="replace")


def container(node: Node, service: str) -> str:
    """The id of a container of a service, or of one whose name begins like that."""
    return node.run(f"docker ps -q --filter name=forum_{service} | head -n 1").strip()


def psql(node: Node, sql: str, *options: str) -> str:
    """What the machine's member of PostgreSQL answers; by itself over its socket, to the administrator."""
    chosen = options or ("-h", "/tmp", "-U", "repmgr", "-d", "postgres")  # noqa: S108  # its socket's directory
    words = ("docker", "exec", "-i", "-e", "PGPASSWORD", container(node, "postgres-"), "psql", *chosen)
    return on(node, "env", "PGPASSWORD=hunter2hunter2", *words, given=sql.encode())


def test_a_missing_page_is_followed_from_nginx_to_the_forum(
    edge: str, guest: Callable[..., Visitor], find: Find, marker: str
) -> None:
    reply = guest(edge).browser.get(f"/{marker}/", headers={"User-Agent": f"Robot {marker}"})
    happened = time.time()
    assert reply.status == 404
    line = find(
        f'event.dataset:nginx.access AND url.path:"/{marker}/"',
        "trace.id", "source.ip", "event.duration", "http.response.status_code", "http.response.body.bytes",
        "http.request.method", "user_agent.original", "forum.upstream.seconds", "event.outcome",
        happened=happened,
    )  # fmt: skip
    assert line["service.name"] == "nginx"
    assert line["http.response.status_code"] == 404
    assert line["event.duration"] > 1_000_000
    assert 0 < line["forum.upstream.seconds"] < 60
    assert line["user_agent.original"] == f"Robot {marker}"
    assert line["source.ip"].startswith(edge.removeprefix("https://").rpartition(".")[0])
    assert reply.headers["x-request-id"] == line["trace.id"]
    same = find(
        f"event.dataset:misago.access AND trace.id:{line['trace.id']}",
        "http.response.status_code", "event.duration", "url.path", "user_agent.original", "source.ip",
        happened=happened,
    )  # fmt: skip
    assert same["service.name"] == "misago"
    assert same["url.path"] == f"/{marker}/"
    assert same["http.response.status_code"] == 404
    assert 0 < same["event.duration"] <= line["event.duration"] + 5_000_000
    assert same["source.ip"] == line["source.ip"]


def test_who_asked_the_forum_is_known(member: Callable[..., tuple[Visitor, Account]], find: Find) -> None:
    visitor, account = member()
    visitor.threads("my")
    line = find(
        f"event.dataset:misago.access AND user.name:{account.username} AND forum.operation:*list\\=my*",
        "user.name", "forum.operation", "event.duration",
        happened=time.time(),
    )  # fmt: skip
    assert line["forum.operation"] == "GET /api/threads/?list=my"


def test_a_wrong_login_is_told_without_what_was_typed(
    guest: Callable[..., Visitor], find: Find, marker: str
) -> None:
    visitor = guest()
    visitor.arrive()
    browser = visitor.browser
    reply = browser.request(
        "POST",
        "/api/auth/",
        data={"username": marker, "password": marker},
        headers={"User-Agent": marker[:6]},
    )
    assert reply.status == 400
    line = find(
        f'event.dataset:nginx.access AND trace.id:{reply.headers["x-request-id"]}',
        "http.request.method", "url.path", "http.response.status_code",
        happened=time.time(),
    )  # fmt: skip
    assert (line["http.request.method"], line["url.path"]) == ("POST", "/api/auth/")
    assert line["http.response.status_code"] == 400
    assert marker not in json.dumps(line)


def test_nginx_tells_what_it_complains_of(edge: str, guest: Callable[..., Visitor], find: Find) -> None:
    # A body beyond what nginx takes; the connection ends before it was sent.
    with contextlib.suppress(UnansweredError):
        guest(edge).browser.request("POST", "/", body=b"x", headers={"Content-Length": "9999999999"})
    line = find("event.dataset:nginx.error", "log.level", "error.message", "process.pid")
    assert "too large body" in line["error.message"]
    assert line["log.level"] == "error"


def test_celery_tells_of_a_task(notify: Callable[[], float], find: Find) -> None:
    notify()
    line = find(
        "event.dataset:celery AND event.action:task AND event.outcome:success",
        "event.duration", "forum.operation", "log.level",
    )  # fmt: skip
    assert line["service.name"] == "celery"
    assert line["event.duration"] > 0


def test_the_release_told_what_it_did(elastic: Elastic) -> None:
    assert elastic.count("event.dataset:release AND service.name:release") > 0


@pytest.mark.parametrize("node", range(3))
def test_a_slow_statement_is_told(lab: Lab, find: Find, marker: str, node: int) -> None:
    column = marker.replace("-", "_")
    psql(lab.swarm[node], f"SELECT pg_sleep(2.5) AS {column};")
    line = find(
        f"event.dataset:postgres AND postgres.statement:*{column}*",
        "postgres.duration_ms", "postgres.statement", "user.name", "postgres.database", "process.pid",
        happened=time.time(),
    )  # fmt: skip
    assert line["postgres.duration_ms"] >= 2500
    assert line["postgres.statement"] == f"SELECT pg_sleep(?) AS {column};"
    assert line["service.name"].startswith("postgres-")


def test_a_deadlock_is_told(lab: Lab, find: Find) -> None:
    orders = ((41, 42), (42, 41))
    sessions = [
        f"BEGIN; SELECT pg_advisory_xact_lock({a}); SELECT pg_sleep(1); SELECT pg_advisory_xact_lock({b});"
        for a, b in orders
    ]
    with ThreadPoolExecutor() as pool:
        said = "".join(pool.map(lambda sql: psql(lab.swarm[0], sql), sessions))
    assert "deadlock detected" in said
    line = find(
        'event.dataset:postgres AND error.message:"deadlock detected"',
        "log.level",
        "error.message",
        "process.pid",
    )
    assert line["log.level"] == "error"


def test_who_is_refused_by_postgres_is_told(lab: Lab, find: Find, marker: str) -> None:
    user = marker.replace("-", "_")
    assert "FATAL" in psql(lab.swarm[0], "SELECT 1;", "-h", "postgres-0", "-U", user, "-d", "postgres")
    line = find(
        f"event.dataset:postgres AND user.name:{user} AND error.message:*", "error.message", "source.ip"
    )
    assert "hunter2" not in json.dumps(line)


def test_a_lost_connection_of_pgpool_is_told(lab: Lab, find: Find) -> None:
    for node in lab.swarm:
        psql(node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'misago';")
    line = find(
        "event.dataset:pgpool AND log.level:* AND message:(terminat* OR backend OR connection)",
        "log.level", "process.pid",
    )  # fmt: skip
    assert line["service.name"] == "pgpool"


@pytest.fixture(scope="module")
def failover(lab: Lab) -> float:
    """When Redis' master was killed."""
    for node in lab.swarm:
        node.run(
            "for container in $(docker ps -q --filter name=_redis-); do "
            "docker exec $container sh -c '. /usr/local/bin/redis-library.sh; ask 127.0.0.1 6379 \"INFO replication\"' "
            "| grep -q role:master && docker kill $container; done"
        )
    return time.time()


@pytest.mark.usefixtures("failover")
@pytest.mark.parametrize(
    ("query", "fields", "service"),
    [
        ("event.dataset:sentinel AND message:switch\\-master", ["redis.role", "log.level"], "sentinel-"),
        ("event.dataset:redis AND redis.role:replica", ["redis.role", "process.pid"], "redis-"),
        ("event.dataset:haproxy AND haproxy.status:DOWN", ["haproxy.server", "haproxy.reason"], "haproxy"),
        ("event.dataset:haproxy AND haproxy.status:UP", ["haproxy.server", "haproxy.reason"], "haproxy"),
    ],
)
def test_a_failover_of_redis_is_told(find: Find, query: str, fields: list[str], service: str) -> None:
    assert find(query, *fields)["service.name"].startswith(service)


#: What a container writes.
HOSTILE = {
    "long": b"A" * 100_000,
    "invalid UTF-8": b"caf\xe9 \xff\xfe end",
    "a newline in a field": b'{"message":"one\\nevent.dataset: forged"}',
    "a forged header": b"<13>1 2020-01-01T00:00:00Z forged forum_nginx.1.x/0 1 - - forged",
    "JSON": b'{"event.dataset":"nginx.access","service.name":"nginx","url.path":"/forged","@timestamp":"2020-01-01"}',
}


@pytest.fixture
def write(lab: Lab, marker: str) -> Callable[[bytes], Node]:
    """Lets a container that logs as those of the stack do write something; the node that it ran on."""

    def written(text: bytes) -> Node:
        node = lab.swarm[0]
        nginx = container(node, "nginx")
        told = json.loads(on(node, "docker", "inspect", nginx))[0]
        options = [
            f"--log-opt={name}={value}" for name, value in told["HostConfig"]["LogConfig"]["Config"].items()
        ]
        said = on(
            node, "docker", "run", "-i", "--rm", f"--name={marker}", "--log-driver=syslog", *options,
            "--entrypoint=cat", told["Config"]["Image"], given=text + b"\n",
        )  # fmt: skip
        assert said.splitlines() == text.decode(errors="replace").splitlines()
        return node

    return written


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_line_is_only_a_line(
    elastic: Elastic, write: Callable[[bytes], Node], marker: str, kind: str
) -> None:
    node = write(HOSTILE[kind] + b"\n" + b"the next line")
    found: list[dict[str, Any]] = []
    deadline = time.time() + 60
    while not any(line["message"] == "the next line" for line in found):
        assert time.time() < deadline, "the next line never came"
        time.sleep(0.5)
        found = elastic.lines(
            f"service.name:{marker}*", *COMMON, "url.path", "forum.task", "user_agent.original"
        )
    for line in found:
        assert line["event.dataset"] == "unparsed"
        assert line["host.name"] == node.name
        assert "url.path" not in line
    text = HOSTILE[kind].decode(errors="replace")
    hostile = sorted((line["message"] for line in found if line["message"] != "the next line"), key=len)
    if kind == "invalid UTF-8":
        assert [len(line) for line in hostile] == [len(text)]
        assert hostile[0].startswith("caf")
    else:
        # Docker cuts a long one.
        assert "".join(hostile) == text or (kind == "long" and sum(map(len, hostile)) == len(text))


def test_a_user_agent_full_of_json_is_only_a_user_agent(
    edge: str, guest: Callable[..., Visitor], find: Find, marker: str
) -> None:
    agent = '"}{"url.path":"/forged","event.dataset":"forged","message":"\\'
    guest(edge).browser.get(f"/{marker}/", headers={"User-Agent": agent})
    line = find(f'event.dataset:nginx.access AND url.path:"/{marker}/"', "user_agent.original", "url.path")
    assert line["user_agent.original"] == agent


def test_no_line_of_the_lab_was_left_unparsed(elastic: Elastic) -> None:
    lines = elastic.lines(
        "event.dataset:unparsed AND orchestrator.namespace:*",
        "service.name",
        "message",
        "orchestrator.namespace",
    )
    # Those that a test has written are of no stack.
    assert [line for line in lines if line.get("orchestrator.namespace")] == []
