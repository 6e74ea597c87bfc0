"""What happens in a component is a line in Elasticsearch within ten seconds, with its fields, whatever visitors say."""

import json
import re
import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from drills import lines
from drills.browser import Reply
from drills.elastic import Elastic
from drills.forum import Account, ForumError, Visitor
from drills.lab import Lab, Node, until
from tests.e2e.test_edge import own_address

Guest = Callable[..., Visitor]
Member = Callable[..., tuple[Visitor, Account]]
Line = dict[str, Any]

STACK = "forum"
#: Seconds from an event to its line.
PROMISED = 10
#: What every line has, whatever it says of itself.
OF_ALL = ("@timestamp", "message", "event.id", "event.dataset", "service.name", "host.name", "container.id")
PSQL = "psql --host /tmp --username repmgr --dbname postgres --no-align --tuples-only --quiet"
ASK_REDIS = ". /usr/local/bin/redis-library.sh; ask 127.0.0.1"


def marker() -> str:
    """A word that no other line has, and that looks like no secret."""
    return f"e2e{secrets.token_hex(6)}"


def since() -> str:
    """The part of a query that leaves out what is older than now; some lines tell whole seconds."""
    return f"@timestamp:[{int(time.time()) * 1000} TO *]"


def service_of(node: Node, container: str) -> str:
    """The service of a container that a node has, without the stack's name."""
    label = '{{index .Config.Labels "com.docker.swarm.service.name"}}'
    return node.run(f"docker inspect --format '{label}' {container}").strip().removeprefix(f"{STACK}_")


class Arrivals:
    """Waits for lines, and keeps how long each took."""

    def __init__(self, lab: Lab) -> None:
        self._nodes = {node.name: node for node in lab.swarm}
        self.elastic = Elastic(lab)
        self.took: list[float] = []

    def line(self, query: str) -> Line:
        """The newest line that matches, whose event was just now; it must say truly where it comes from."""
        (found,) = self.several(query, 1)
        node = self._nodes[found["host.name"]]
        assert service_of(node, found["container.id"]) == found["service.name"]
        return found

    def several(self, query: str, count: int) -> list[Line]:
        """So many lines that match, the newest first."""
        began = time.monotonic()
        while len(found := self.elastic.lines(query, "*", most=count)) < count:
            waited = time.monotonic() - began
            assert waited < PROMISED, f"{len(found)} of {count} lines within {PROMISED} s: {query}"
            time.sleep(0.25)
        self.took.append(time.monotonic() - began)
        for line in found:
            assert all(line[name] for name in OF_ALL), line
            assert line["orchestrator.namespace"] == STACK
        return found


@pytest.fixture(scope="module")
def arrivals(lab: Lab) -> Arrivals:
    return Arrivals(lab)


def inside(node: Node, service: str, command: str, given: bytes = b"") -> str:
    """What a shell command says in the node's container of a service."""
    container = f"$(docker ps --quiet --filter name=^{STACK}_{service} | head -n 1)"
    return node.run(f"docker exec --interactive {container} sh -c {shlex.quote(command)}", given=given)


def whole_number(line: Line, name: str) -> int:
    """A field that must be a whole number."""
    value = line[name]
    assert type(value) is int, f"{name} is {value!r}"
    return value


# nginx and the forum


@pytest.fixture(scope="module")
def asked(edge: str, guest: Guest) -> tuple[str, Reply]:
    """A path that nobody has, and what a guest was answered there."""
    path = f"/{marker()}/"
    reply = guest(edge).browser.get(f"{path}?with=query", headers={"User-Agent": "Robot/1.0 (e2e)"})
    assert reply.status == 404
    return path, reply


def test_a_request_is_a_line_of_nginx(edge: str, arrivals: Arrivals, asked: tuple[str, Reply]) -> None:
    path, reply = asked
    line = arrivals.line(f'event.dataset:nginx.access AND url.path:"{path}"')
    assert line["service.name"] == "nginx"
    assert whole_number(line, "http.response.status_code") == 404
    assert whole_number(line, "http.response.body.bytes") == len(reply.body)
    # nginx counts in milliseconds.
    assert 0 < whole_number(line, "event.duration") <= (reply.seconds + 0.002) * 1e9
    assert isinstance(line["forum.upstream.seconds"], float)
    assert line["trace.id"] == reply.headers["x-request-id"]
    assert line["source.ip"] == own_address(edge)
    assert line["http.request.method"] == "GET"
    assert line["http.version"] == "1.1"
    assert line["user_agent.original"] == "Robot/1.0 (e2e)"
    assert line["event.outcome"] == "success"


def test_the_same_request_is_a_line_of_the_forum(
    edge: str, arrivals: Arrivals, asked: tuple[str, Reply]
) -> None:
    path, reply = asked
    line = arrivals.line(f"event.dataset:misago.access AND trace.id:{reply.headers['x-request-id']}")
    assert line["service.name"] == "misago"
    assert line["url.path"] == path
    assert whole_number(line, "http.response.status_code") == 404
    # Nanoseconds. gunicorn's clock runs on after the last byte, until Django has given its connections back.
    assert 1e6 < whole_number(line, "event.duration") < (reply.seconds + 1) * 1e9
    assert whole_number(line, "process.pid") > 0
    assert line["source.ip"] == own_address(edge)
    assert "user.name" not in line


def test_who_is_signed_in_has_his_name_in_the_forum_s_line(arrivals: Arrivals, member: Member) -> None:
    visitor, account = member()
    reply = visitor.browser.get("/api/threads/")
    line = arrivals.line(f"event.dataset:misago.access AND trace.id:{reply.headers['x-request-id']}")
    assert line["user.name"] == account.username
    assert line["forum.operation"] == "GET /api/threads/"


def test_a_failed_sign_in_is_found_and_holds_no_password(arrivals: Arrivals, guest: Guest) -> None:
    word = marker()
    with pytest.raises(ForumError) as refused:
        guest().sign_in(Account("nobody", word))
    trace = refused.value.reply.headers["x-request-id"]
    query = 'url.path:"/api/auth/" AND http.request.method:POST AND http.response.status_code:400'
    line = arrivals.line(f"event.dataset:nginx.access AND {query} AND trace.id:{trace}")
    assert whole_number(line, "http.response.status_code") == 400
    both = arrivals.several(f"trace.id:{trace}", 2)
    assert {line["event.dataset"] for line in both} == {"nginx.access", "misago.access"}
    assert word not in json.dumps(both)
    assert arrivals.elastic.count(f"message:{word}") == 0


def test_an_error_of_nginx(edge: str, arrivals: Arrivals, guest: Guest) -> None:
    word = marker()
    assert guest(edge).browser.get(f"/media/{word}").status == 404
    line = arrivals.line(f"event.dataset:nginx.error AND error.message:{word}")
    assert (line["service.name"], line["log.level"]) == ("nginx", "error")
    assert whole_number(line, "process.pid") > 0
    assert f"client: {own_address(edge)}" in line["error.message"]


# How somebody may call his browser -> what becomes of it.
AGENTS = {
    "JSON": ('"}{"url.path":"/forged","event.dataset":"misago.access","service.name":"forged","x":"\\',) * 2,
    "a syslog header": ("<14>1 2026-01-01T00:00:00Z forged forged_nginx.1.x/0123456789ab 1 - - {}",) * 2,
    "bytes that are no text": ("Robot\xff\xfe\x80/1.0", "Robot"),
    "7000 letters": ("x" * 7000, "x" * 512),
}


@pytest.mark.parametrize("name", AGENTS)
def test_what_a_visitor_calls_himself_is_one_field(name: str, arrivals: Arrivals, guest: Guest) -> None:
    word, (agent, kept) = marker(), AGENTS[name]
    browser = guest().browser
    browser.get(f"/{word}/", headers={"User-Agent": agent})
    browser.get(f"/{word}/next/", headers={"User-Agent": "Robot"})
    following = arrivals.line(f'event.dataset:nginx.access AND url.path:"/{word}/next/"')
    assert following["user_agent.original"] == "Robot"
    line = arrivals.line(f'event.dataset:nginx.access AND url.path:"/{word}/"')
    assert line["user_agent.original"] == kept
    forum = arrivals.line(f'event.dataset:misago.access AND url.path:"/{word}/"')
    assert forum["service.name"] == "misago"
    assert arrivals.elastic.count('url.path:"/forged"') == 0
    assert arrivals.elastic.count("service.name:forged*") == 0


def test_a_newline_in_a_path_begins_no_line(arrivals: Arrivals, guest: Guest) -> None:
    word = marker()
    reply = guest().browser.get(f"/{word}/%0A%7B%22event.dataset%22:%22nginx.error%22%7D")
    trace = reply.headers["x-request-id"]
    both = arrivals.several(f"trace.id:{trace} AND event.dataset:*.access", 2)
    paths = {line["event.dataset"]: line["url.path"] for line in both}
    assert paths["nginx.access"] == f"/{word}/"
    assert paths["misago.access"] == f'/{word}/\n{{"event.dataset":"nginx.error"}}'
    # Django names the path, too.
    assert arrivals.elastic.count(f"message:{word} AND NOT trace.id:{trace}") == 0


def test_a_task_of_celery(arrivals: Arrivals, notify: Callable[[], float]) -> None:
    began = since()
    notify()
    line = arrivals.line(
        f'event.dataset:celery AND forum.operation:"notifications.new-thread-reply" AND {began}'
    )
    assert (line["service.name"], line["event.action"]) == ("celery", "task")
    assert line["event.outcome"] == "success"
    assert whole_number(line, "event.duration") > 0


@pytest.mark.parametrize("operation", ["migrate", "publish static files", "configure", "administrator"])
def test_a_step_of_the_release(operation: str, arrivals: Arrivals) -> None:
    (line,) = arrivals.elastic.lines(f'event.dataset:release AND forum.operation:"{operation}"', "*", most=1)
    assert (line["service.name"], line["event.action"]) == ("release", "release")
    assert line["event.outcome"] == "success"
    assert whole_number(line, "event.duration") > 0


# The databases


@pytest.fixture(scope="module")
def primary(lab: Lab) -> Node:
    """The node of PostgreSQL's primary."""
    return next(
        node
        for node in lab.swarm
        if inside(node, "postgres-", f"{PSQL} -c 'SELECT pg_is_in_recovery()'") == "f\n"
    )


@pytest.fixture(scope="module")
def standby(lab: Lab, primary: Node) -> Node:
    """The node of one of its standbys."""
    return next(node for node in lab.swarm if node != primary)


def of_session(answer: str) -> str:
    """The part of a query that keeps to the sessions whose process ids stand in psql's answer."""
    sessions = {line for line in answer.splitlines() if line.isdigit()}
    assert sessions, answer
    return f"process.pid:({' OR '.join(sessions)})"


def test_a_slow_statement(arrivals: Arrivals, primary: Node) -> None:
    limit = "SELECT setting FROM pg_settings WHERE name = 'log_min_duration_statement'"
    milliseconds = int(inside(primary, "postgres-", f'{PSQL} -c "{limit}"'))
    word, began = marker(), since()
    statement = f"SELECT pg_sleep({(milliseconds + 100) / 1000}), '{word}'"
    answer = inside(primary, "postgres-", f'{PSQL} -c "SELECT pg_backend_pid()" -c "{statement}"')
    session = of_session(answer)
    line = arrivals.line(
        f"event.dataset:postgres AND {session} AND postgres.duration_ms:>={milliseconds} AND {began}"
    )
    assert re.fullmatch(r"postgres-\d", line["service.name"])
    assert line["host.name"] == primary.name
    assert isinstance(line["postgres.duration_ms"], float)
    assert milliseconds <= line["postgres.duration_ms"] < milliseconds + PROMISED * 1000
    assert line["postgres.statement"] == "SELECT pg_sleep(?), ?"
    assert (line["user.name"], line["postgres.database"]) == ("repmgr", "postgres")
    assert word not in json.dumps(line)


@pytest.fixture
def scratch(primary: Node) -> Iterator[str]:
    """A table of two rows in a schema of its own, which nobody else reads."""
    schema = marker()
    table = f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.pair AS SELECT 1 AS id UNION SELECT 2;"
    inside(primary, "postgres-", PSQL, table.encode())
    yield f"{schema}.pair"
    inside(primary, "postgres-", f'{PSQL} -c "DROP SCHEMA {schema} CASCADE"')


def test_a_deadlock(arrivals: Arrivals, primary: Node, scratch: str) -> None:
    def session(first: int, second: int, seconds: float) -> str:
        update = f"UPDATE {scratch} SET id = id WHERE id ="  # noqa: S608  # names of our own
        steps = [
            *("SELECT pg_backend_pid()", "BEGIN", f"{update} {first}"),
            *(f"SELECT pg_sleep({seconds})", f"{update} {second}", "COMMIT"),
        ]
        return " -c ".join([PSQL, *map(shlex.quote, steps)])

    began = since()
    # The first one waits for a while before the other one waits for it.
    answer = inside(primary, "postgres-", f"{session(1, 2, 1)} & {session(2, 1, 1.5)}; wait")
    assert "deadlock detected" in answer
    sessions = of_session(answer)
    line = arrivals.line(
        f'event.dataset:postgres AND {sessions} AND error.message:"deadlock detected" AND {began}'
    )
    assert (line["log.level"], line["user.name"]) == ("error", "repmgr")
    assert whole_number(line, "process.pid") > 0
    wait = arrivals.line(f"event.dataset:postgres AND {sessions} AND postgres.lock:* AND {began}")
    assert wait["postgres.lock"] == "ShareLock"
    assert isinstance(wait["postgres.wait_ms"], float)


def test_a_wrong_password_for_postgresql(arrivals: Arrivals, standby: Node) -> None:
    began = since()
    refused = inside(standby, "postgres-", "PGPASSWORD=wrong psql --host 127.0.0.1 --username misago")
    assert "authentication failed" in refused
    line = arrivals.line(
        f'event.dataset:postgres AND error.message:"password authentication failed" AND {began}'
    )
    assert (line["log.level"], line["user.name"], line["source.ip"]) == ("error", "misago", "127.0.0.1")
    assert line["host.name"] == standby.name


def test_a_repmgrd_that_ends_and_starts(arrivals: Arrivals, standby: Node) -> None:
    began = since()
    inside(standby, "postgres-", "pkill -x repmgrd")
    ended = arrivals.line(f'event.dataset:repmgr AND message:"repmgrd terminating" AND {began}')
    assert (ended["log.level"], ended["host.name"]) == ("info", standby.name)
    told = arrivals.line(f'event.dataset:postgres.supervisor AND message:"repmgrd ended" AND {began}')
    assert (told["log.level"], told["log.logger"]) == ("warning", "supervisor")
    assert whole_number(told, "process.pid") > 0
    arrivals.line(f'event.dataset:repmgr AND message:"starting monitoring of node" AND {began}')


def test_a_connection_that_pgpool_loses(arrivals: Arrivals, lab: Lab, standby: Node) -> None:
    """Only a session of the test's own."""
    password = (lab.secrets_dir / "postgres_app_password").read_text().strip()
    words = f"{password}\nSELECT pg_terminate_backend(pg_backend_pid());\n"
    through = "read -r PGPASSWORD; export PGPASSWORD; exec psql --host pgpool --username misago"
    began = since()
    assert "administrator command" in inside(standby, "postgres-", through, words.encode())
    line = arrivals.line(f'event.dataset:pgpool AND error.message:"unable to forward message" AND {began}')
    assert (line["service.name"], line["log.level"]) == ("pgpool", "error")
    assert (line["user.name"], line["postgres.database"]) == ("misago", "misago")
    assert whole_number(line, "process.pid") > 0


def test_redis_saves(arrivals: Arrivals, lab: Lab) -> None:
    node, began = lab.swarm[0], since()
    assert "saving started" in inside(node, "redis-", f"{ASK_REDIS} 6379 BGSAVE")
    line = arrivals.line(f'event.dataset:redis AND message:"Background saving started" AND {began}')
    assert (line["host.name"], line["log.level"]) == (node.name, "notice")
    assert line["redis.role"] in ("master", "replica")
    assert whole_number(line, "process.pid") > 0
    child = arrivals.line(f'event.dataset:redis AND redis.role:child AND message:"DB saved" AND {began}')
    assert child["service.name"] == line["service.name"]


def test_a_session_through_haproxy(arrivals: Arrivals, lab: Lab) -> None:
    began = since()
    session = (
        "import socket; it = socket.create_connection(('haproxy', 6379), 5); it.sendall(b'PING\\r\\n'); "
        "it.recv(99); print(it.getsockname()[0])"
    )
    address = inside(lab.swarm[0], "misago", f'python3 -c "{session}"').strip()
    line = arrivals.line(
        f"event.dataset:haproxy AND haproxy.frontend:redis AND source.ip:{address} AND {began}"
    )
    assert re.fullmatch(r"redis-\d", line["haproxy.server"])
    for name in ("haproxy.queue_ms", "haproxy.connect_ms", "haproxy.session_ms"):
        assert whole_number(line, name) >= 0
    assert whole_number(line, "haproxy.bytes") > 0


def test_a_telegraf_that_ends(arrivals: Arrivals, lab: Lab) -> None:
    node, began = lab.swarm[0], since()
    beside = f"docker top $(docker ps --quiet --filter name=^{STACK}_nginx) -eo pid,comm"
    node.run(f"kill $({beside} | awk '$2 == \"telegraf\" {{print $1}}')")
    line = arrivals.line(
        f'event.dataset:telegraf AND service.name:nginx AND message:"Telegraf ended" AND {began}'
    )
    assert line["host.name"] == node.name


# Lines that no program of ours writes


def access(path: str, **more: object) -> bytes:
    """A line as nginx writes it."""
    fields = {
        "@timestamp": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        "event.dataset": "nginx.access",
        "http.response.status_code": 200,
        "url.path": path,
    }
    return json.dumps({**fields, **more}).encode()


#: 100,000 bytes of different words of eight.
LONG = "".join(f"{number:07} " for number in range(12500))
#: What it is -> the line, and how its text is kept.
STRANGE = {
    "a forged syslog header": (
        b"<14>1 2026-01-01T00:00:00.000Z forged forged_nginx.1.x/0123456789ab 1 - [x y='z'] its text",
        "<14>1 2026-01-01T00:00:00.000Z forged forged_nginx.1.x/0123456789ab 1 - [x y='z'] its text",
    ),
    "half of a JSON object": (b'{"event.dataset":"nginx.access","url.path":"/half', None),
    "bytes that are no text": (b"be\xff\xfegin \xc3( and end", "be  gin  ( and end"),
    "control characters": (b"a\x00b\x1b[31mc\td", "a#000b#033[31mc\td"),
}


@pytest.fixture(scope="module")
def strange(lab: Lab, arrivals: Arrivals) -> list[Line]:
    """The lines of a container that passes for an nginx: the strange ones, each followed by a good one."""
    task, good = lines.new_task(), 0
    given = b""
    for text in (*(text for text, _ in STRANGE.values()), LONG.encode()):
        given += text + b"\n" + access(f"/{task}/{good}/") + b"\n"
        good += 1
    lines.write(lab.swarm[-1], "nginx", task, "cat", given)
    # Docker cuts at 16 KiB.
    return arrivals.several(f"forum.task:{task}", len(STRANGE) + -(-len(LONG) // 16384) + good)


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_line_is_kept_as_it_is(name: str, strange: list[Line]) -> None:
    text, kept = STRANGE[name]
    (line,) = (line for line in strange if line["message"] == (kept or text.decode()))
    assert line["event.dataset"] == "unparsed"
    assert "url.path" not in line


def test_a_line_of_100_kb_is_kept_in_parts(strange: list[Line]) -> None:
    parts = sorted(line["message"] for line in strange if re.match(r"\d{7} ", line["message"]))
    assert "".join(parts) == LONG


def test_who_wrote_a_strange_line_is_what_docker_says(lab: Lab, strange: list[Line]) -> None:
    assert {(line["service.name"], line["host.name"]) for line in strange} == {("nginx", lab.swarm[-1].name)}
    assert len({line["container.id"] for line in strange}) == 1
    assert len({line["event.id"] for line in strange}) == len(strange)


def test_the_line_behind_a_strange_one_is_fine(strange: list[Line]) -> None:
    good = [line for line in strange if line["event.dataset"] == "nginx.access"]
    assert sorted(line["url.path"].split("/")[2] for line in good) == list("01234")
    assert {whole_number(line, "http.response.status_code") for line in good} == {200}


def test_a_line_can_t_say_that_another_wrote_it(lab: Lab, arrivals: Arrivals) -> None:
    task, path = lines.new_task(), f"/{marker()}/"
    shippers = ("service.name", "host.name", "container.id", "event.id", "orchestrator.namespace")
    forged = dict.fromkeys(shippers, "forged")
    of_another = access(path, **{"event.dataset": "misago.access"})
    lines.write(lab.swarm[-1], "nginx", task, "cat", access(path, **forged) + b"\n" + of_another)
    found = arrivals.several(f'url.path:"{path}"', 2)
    assert sorted(line["event.dataset"] for line in found) == ["nginx.access", "unparsed"]
    for line in found:
        assert (line["service.name"], line["host.name"]) == ("nginx", lab.swarm[-1].name)
        assert "forged" not in (line[name] for name in shippers)


# A fail-over, which all of Redis' tier has something to say of


@pytest.fixture(scope="module")
def failed_over(lab: Lab, missing: Callable[[], list[str]]) -> Iterator[str]:
    """Another Redis is the master; the part of a query that leaves out what was before. All is whole afterwards."""
    node, began = lab.swarm[0], since()

    def master() -> str:
        ask = f'{ASK_REDIS} 26379 "SENTINEL get-master-addr-by-name $MASTER_NAME"'
        return inside(node, "sentinel-", ask).split("\n")[0]

    before = master()
    assert inside(node, "sentinel-", f'{ASK_REDIS} 26379 "SENTINEL FAILOVER $MASTER_NAME"') == "OK\n"
    until(30, lambda: master() not in ("", before))
    yield began
    # What is young has told no figure.
    whole_since = time.monotonic()

    def settled() -> bool:
        nonlocal whole_since
        if missing():
            whole_since = time.monotonic()
        return time.monotonic() - whole_since > 20

    until(180, settled)


@pytest.mark.parametrize(
    ("dataset", "query", "fields"),
    [
        ("sentinel", 'message:"switch-master"', {"redis.role": "sentinel", "log.level": "warning"}),
        ("redis", 'message:"MASTER MODE enabled"', {"log.level": "notice"}),
        ("haproxy", "haproxy.status:DOWN", {}),
        ("haproxy", "haproxy.status:UP", {}),
    ],
    ids=["sentinel", "redis", "haproxy down", "haproxy up"],
)
def test_a_fail_over_of_redis(
    dataset: str, query: str, fields: Line, arrivals: Arrivals, failed_over: str
) -> None:
    line = arrivals.line(f"event.dataset:{dataset} AND {query} AND {failed_over}")
    assert line["service.name"].partition("-")[0] == dataset
    assert {name: line[name] for name in fields} == fields


def test_celery_outlives_a_fail_over_of_redis(
    lab: Lab, failed_over: str, missing: Callable[[], list[str]]
) -> None:
    (began,) = re.findall(r"\d+", failed_over)
    time.sleep(15)
    until(60, lambda: not missing())
    told = "docker inspect --format '{{.State.StartedAt}}'"
    run = f"docker ps --quiet --filter name=^{STACK}_celery | xargs -r {told}"
    (started,) = "".join(node.run(run) for node in lab.swarm).split()
    assert datetime.fromisoformat(started).timestamp() < int(began) / 1000


# All of them


def test_every_service_has_lines(arrivals: Arrivals, lab: Lab) -> None:
    services = lab.swarm[0].run("docker service ls --format '{{.Name}}'").split()
    assert len(services) > 10
    told = arrivals.elastic.counts("*", "service.name", most=1000)
    # The relays tell only of what goes wrong.
    silent = {name.removeprefix(f"{STACK}_") for name in services} - told.keys() - {"relay"}
    # It has nothing to say in its first quarter of an hour.
    process = f"docker ps -q --filter name=^{STACK}_maintenance | xargs -r docker inspect --format '{{{{.State.Pid}}}}'"
    ages = [int(node.run(f"{process} | xargs -r ps -o etimes= -p").strip() or 0) for node in lab.swarm]
    if max(ages) < 16 * 60:
        silent.discard("maintenance")
    assert not silent


def test_every_node_has_lines(arrivals: Arrivals, lab: Lab) -> None:
    told = arrivals.elastic.counts("orchestrator.namespace:forum", "host.name", most=100)
    assert told.keys() >= {node.name for node in lab.swarm}


def test_every_line_of_ours_is_taken_apart(arrivals: Arrivals) -> None:
    # In `make test` that is since the lab's start. What a drill breaks may end in the middle of a word.
    ours = f"orchestrator.namespace:{STACK} AND NOT forum.task:{lines.MADE}* AND @timestamp:[now-30m TO now]"
    strange = arrivals.elastic.lines(
        f"event.dataset:unparsed AND {ours}", "service.name", "message", most=1000
    )
    told = sorted({f"{line['service.name']}: {line['message'][:200]}" for line in strange})
    assert not told, "\n".join([f"{len(strange)} lines, such as", *told])


def test_the_typical_line_is_there_sooner(
    arrivals: Arrivals, artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if len(arrivals.took) < 10:
        pytest.skip("too few events to tell")
    told = f"{len(arrivals.took)} lines: median {median(arrivals.took):.1f} s, slowest {max(arrivals.took):.1f} s"
    (artifacts / "log-arrivals.txt").write_text(f"{told}\n")
    with capsys.disabled():
        print(f"\nfrom an event to its line, {told}")
    assert median(arrivals.took) < PROMISED / 2
