"""The real ElastAlert2 with the rules of sla.yml, on a real Elasticsearch, as the rooms configure both."""

from __future__ import annotations

import base64
import http.server
import json
import os
import pwd
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Rendered
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from elastalert_filters import copied_metrics, elastalert_rules

ROOT = Path(__file__).resolve().parents[2]
LEVELS = {
    level["id"]: level
    for level in yaml.safe_load((ROOT / "inventories/shared/sla.yml").read_text())["service_levels"]
    if "alarm" in level
}
_ARCHIVES = (
    ROOT / ".cache/elasticsearch/elasticsearch-8.8.2.zip",
    Path.home()
    / ".m2/repository/org/elasticsearch/distribution/integ-test-zip/elasticsearch/8.8.2/elasticsearch-8.8.2.zip",
)
ARCHIVE = next(filter(Path.exists, _ARCHIVES), None)

pytestmark = pytest.mark.skipif(
    shutil.which("java") is None or ARCHIVE is None or os.geteuid() != 0,
    reason="Java and Maven's Elasticsearch aren't here, or nobody may start it as another user",
)

ADDRESS = "127.0.0.1"
PASSWORDS = {
    name: f"password-of-{name}"
    for name in ("writer", "reader", "alarms", "operator", "keeper", "kibana_server", "viewer")
}
TOKEN = "token-of-elastalert"


def free_port() -> int:
    """A port that nobody listens on."""
    with http.server.HTTPServer((ADDRESS, 0), http.server.BaseHTTPRequestHandler) as server:
        return server.server_port


def certificate(directory: Path) -> None:
    """A key, and a certificate that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(ADDRESS))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    text = made.public_bytes(serialization.Encoding.PEM)
    for file in ("ca.crt", "tls.crt"):
        (directory / file).write_bytes(text)
    (directory / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


@dataclass
class Elasticsearch:
    """The server that runs, with the role's accounts and templates."""

    url: str
    directory: Path
    process: int

    def ask(self, account: str, method: str, path: str, body: object = None) -> Any:
        """The answer. Raises HTTPError."""
        token = base64.b64encode(f"{account}:{PASSWORDS[account]}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)  # noqa: S310
        context = ssl.create_default_context(cafile=self.directory / "ca.crt")
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:  # noqa: S310
            return json.load(answer)

    def write(self, account: str, index: str, documents: Sequence[dict[str, Any]]) -> None:
        """Have documents of today."""
        lines = "".join(f'{{"index":{{}}}}\n{json.dumps(document)}\n' for document in documents)
        answer = self.ask(account, "POST", f"/{index}-{datetime.now(UTC):%Y.%m.%d}/_bulk", lines)
        assert not answer["errors"], answer


def given(url: str) -> dict[str, Any]:
    """What the inventory says."""
    return {
        "monitoring_address": ADDRESS,
        "elasticsearch_url": url,
        "elasticsearch_address": ADDRESS,
        "action_server_allowed_networks": [],
        "action_server_token_elastalert": TOKEN,
        "elasticsearch_source": "maven",
        "elasticsearch_heap_mb": 512,
        "elasticsearch_free_mb": 1,
        "inventory_hostname": "monitor",
        # What the inventory says comes before a role's defaults.
        "elasticsearch_metrics": copied_metrics(list(LEVELS.values())),
        "service_levels": list(LEVELS.values()),
        **{f"elasticsearch_{name}_password": password for name, password in PASSWORDS.items()},
    }


@pytest.fixture(scope="module")
def elasticsearch(role_renderer: Callable[..., Rendered]) -> Iterator[Elasticsearch]:
    assert ARCHIVE is not None
    directory = Path(tempfile.mkdtemp(prefix="elasticsearch-", dir="/tmp"))
    port = free_port()
    url = f"https://{ADDRESS}:{port}"
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(directory)
    home = next(directory.glob("elasticsearch-*"))
    certificate(directory)
    render = role_renderer(
        "elasticsearch", **given(url), elasticsearch_port=port, __elasticsearch_maps={"content": "NjU1MzAK"}
    )
    settings = yaml.safe_load(render("elasticsearch.yml.j2"))
    settings |= {
        "path.data": str(directory / "data"), "path.logs": str(directory / "logs"), "transport.port": free_port(),
    }  # fmt: skip
    del settings["path.repo"]
    config = directory / "config"
    config.mkdir()
    (directory / "tmp").mkdir()
    (config / "elasticsearch.yml").write_text(yaml.safe_dump(settings))
    for name in ("jvm.options", "log4j2.properties", "roles.yml", "users_roles"):
        (config / name).write_text(render(f"{name}.j2").replace("/var/log/elasticsearch", str(directory)))
    # What is no hash it compares as it is.
    (config / "users").write_text("".join(f"{name}:{password}\n" for name, password in PASSWORDS.items()))
    for name in ("ca.crt", "tls.crt", "tls.key"):
        shutil.copy(directory / name, config)
    nobody = pwd.getpwnam("nobody")
    for path in (directory, *directory.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    for program in (home / "bin").iterdir():
        program.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "ES_PATH_CONF": str(config), "HOME": str(directory)}
    environment["ES_TMPDIR"] = str(directory / "tmp")
    environment["ES_JAVA_HOME"] = str(Path(shutil.which("java") or "").resolve().parents[1])
    with (directory / "output").open("w") as output:
        server = subprocess.Popen(
            [home / "bin" / "elasticsearch"], env=environment, user="nobody", group="nogroup", extra_groups=[],
            stdout=output, stderr=output, cwd=directory,
        )  # fmt: skip
    found = Elasticsearch(url, directory, server.pid)
    try:
        deadline = time.monotonic() + 300
        while True:
            try:
                found.ask("reader", "GET", "/")
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail((directory / "output").read_text()[-3000:])
                time.sleep(1)
        for name, body in json.loads(render("__elasticsearch_templates")).items():
            found.ask("operator", "PUT", f"/_index_template/{name}", body)
        yield found
    finally:
        server.terminate()
        server.wait(60)
        shutil.rmtree(directory)


class ActionServer(http.server.BaseHTTPRequestHandler):
    """Takes events, and remembers when."""

    events: list[tuple[float, dict[str, Any]]]
    refuses: int

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.headers["Authorization"] == f"Bearer {TOKEN}" and self.path == "/events/elastalert"
        status = 202 if known else 401
        if known and type(self).refuses:
            type(self).refuses -= 1
            status = 503
        elif known:
            self.events.append((time.time(), body))
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: the test tells."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python with what the role installs, Debian's part of it from where pip has it."""
    directory = tmp_path_factory.mktemp("venv")
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    ours = ROOT / "roles/elastalert/files/requirements.txt"
    debian = [
        "apscheduler<4", "croniter", "envparse", "jinja2", "jsonschema", "prettytable", "prison", "prometheus-client",
        "python-dateutil", "pytz", "pyyaml", "requests", "six", "sortedcontainers", "statsd", "texttable",
    ]  # fmt: skip
    for words in (["--no-deps", "--require-hashes", "-r", str(ours)], debian):
        result = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
    return python


@dataclass
class Engine:
    """ElastAlert2 that runs, and who hears of what it finds."""

    elasticsearch: Elasticsearch
    output: Path
    process: int

    def heard(self, level: str, since: float) -> list[tuple[float, dict[str, Any]]]:
        """Events of a level, each with its time."""
        return [(at, body) for at, body in ActionServer.events if body["level"] == level and at >= since]

    def wait(self, level: str, since: float, seconds: float = 45) -> tuple[float, dict[str, Any]]:
        """The first event of a level."""
        deadline = time.monotonic() + seconds
        while not (found := self.heard(level, since)):
            assert time.monotonic() < deadline, (level, self.output.read_text()[-3000:])
            time.sleep(0.05)
        return found[0]


@pytest.fixture(scope="module")
def engine(
    elasticsearch: Elasticsearch,
    installed: Path,
    role_renderer: Callable[..., Rendered],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Engine]:
    directory = tmp_path_factory.mktemp("elastalert")
    ActionServer.events, ActionServer.refuses = [], 0
    server = http.server.ThreadingHTTPServer((ADDRESS, 0), ActionServer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(elasticsearch.directory / "tls.crt", elasticsearch.directory / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    shutil.copy(elasticsearch.directory / "ca.crt", directory)
    (directory / "rules").mkdir()
    for rule in elastalert_rules(list(LEVELS.values()), "forum-logs", "forum-metrics"):
        (directory / "rules" / f"{rule['name']}.yaml").write_text(yaml.safe_dump(rule))
    render = role_renderer(
        "elastalert",
        **given(elasticsearch.url),
        elastalert_action_server_url=f"https://{ADDRESS}:{server.server_port}",
        __elastalert_files=str(directory),
    )
    (directory / "config.yaml").write_text(render("config.yaml.j2"))
    output = directory / "output"
    with output.open("w") as told:
        process = subprocess.Popen(
            [installed, "-m", "forum_alarms", "--config", directory / "config.yaml"],
            cwd=ROOT / "roles/elastalert/files/program", stdout=told, stderr=told,
            env={"PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]},
        )  # fmt: skip
    try:
        time.sleep(5)
        assert process.poll() is None, output.read_text()
        yield Engine(elasticsearch, output, process.pid)
        assert process.poll() is None, output.read_text()
    finally:
        process.terminate()
        process.wait(30)
        server.shutdown()
        server.server_close()


def text(moment: float) -> str:
    """A time as a document has it."""
    return datetime.fromtimestamp(moment, UTC).isoformat()


def wrong_logins(address: str, moments: Sequence[float]) -> list[dict[str, Any]]:
    """Lines as the parser writes them."""
    return [
        {
            "@timestamp": text(moment),
            "measurement_name": "line",
            "tag": {"event.dataset": "nginx.access", "service.name": "nginx", "event.id": f"{address}-{moment}"},
            "line": {
                "http.request.method": "POST",
                "url.path": "/api/auth/",
                "http.response.status_code": 400,
                "source.ip": address,
            },
        }
        for moment in moments
    ]  # fmt: skip


def points(
    measurement: str, tags: dict[str, str], values: dict[float, dict[str, float]]
) -> list[dict[str, Any]]:
    """Points as the copier writes them."""
    series = " ".join(f"{name}:{value}" for name, value in sorted(tags.items()))
    return [
        {
            "@timestamp": text(moment),
            "measurement_name": measurement,
            "tag": {**tags, "series": f"map[{series}]"},
            measurement: fields,
        }
        for moment, fields in values.items()
    ]


def test_eight_wrong_logins_of_one_address_in_thirty_seconds_fire_and_no_others_do(engine: Engine) -> None:
    now = time.time()
    others = [
        *wrong_logins("192.0.2.7", [now - 20 + 2 * n for n in range(7)]),
        *wrong_logins("192.0.2.40", [now - 40 + 40 / 7 * n for n in range(8)]),
        *wrong_logins("192.0.2.50", [now - 9 + n for n in range(4)]),
        *wrong_logins("192.0.2.51", [now - 9 + n for n in range(4)]),
    ]
    engine.elasticsearch.write("writer", "forum-logs", others)
    times = []
    for number in range(5):
        address, began = f"192.0.2.{80 + number}", time.time()
        engine.elasticsearch.write(
            "writer", "forum-logs", wrong_logins(address, [began - 20 + 3 * n for n in range(7)])
        )
        time.sleep(2.3)
        began = time.time()
        engine.elasticsearch.write("writer", "forum-logs", wrong_logins(address, [began - 0.1]))
        at, event = engine.wait("forum-wrong-logins", began, 20)
        times.append(at - began)
        assert event["instance"] == {"source.ip": address}
        assert (event["state"], event["value"]) == ("firing", 8)
        assert abs(datetime.fromisoformat(event["time"]).timestamp() - (began - 0.1)) < 0.01
    print("from the 8th line's document to the POST:", [f"{seconds:.2f}" for seconds in times])
    assert sorted(times)[2] < 4
    told = {event["instance"]["source.ip"] for _, event in engine.heard("forum-wrong-logins", now)}
    assert told == {f"192.0.2.{80 + number}" for number in range(5)}


def test_what_the_action_server_does_not_take_is_told_again(engine: Engine) -> None:
    began = time.time()
    ActionServer.refuses = 1
    engine.elasticsearch.write(
        "writer", "forum-logs", wrong_logins("2001:db8::1", [began - n for n in range(8)])
    )
    _, event = engine.wait("forum-wrong-logins", began, 30)
    assert event["instance"] == {"source.ip": "2001:db8::1"}
    time.sleep(8)
    assert len(engine.heard("forum-wrong-logins", began)) == 1, "once taken, it isn't told any more"


def test_all_must_be_idle_before_one_is_too_many(engine: Engine) -> None:
    began = time.time()
    for host in ("nginx-x", "nginx-y"):
        engine.elasticsearch.write(
            "alarms",
            "forum-metrics",
            points(
                "nginx", {"host": host, "service": "nginx"}, {began - n: {"active": 9} for n in range(1, 200)}
            ),
        )
    _, event = engine.wait("nginx-idle", began)
    assert (event["instance"], event["value"]) == ({}, 9)


def test_metrics_that_cross_their_thresholds_fire_and_others_do_not(engine: Engine) -> None:
    began = time.time()
    at = [began - back for back in range(58, 0, -10)]
    busy, calm = {"host": "nginx-busy", "service": "nginx"}, {"host": "nginx-calm", "service": "nginx"}
    seconds = [began - back for back in range(12, 0, -1)]
    engine.elasticsearch.write(
        "alarms",
        "forum-metrics",
        [
            # Above the threshold for the last five seconds alone.
            *points(
                "nginx", busy, {moment: {"active": 800 if began - moment < 7 else 100} for moment in seconds}
            ),
            *points("nginx", calm, {moment: {"active": 700} for moment in seconds}),
            # 40 a second; the other one 60, and it began anew.
            *points("nginx", calm, {moment: {"requests": 40 * n * 10} for n, moment in enumerate(at)}),
            *points(
                "nginx", busy, {moment: {"requests": 60 * (n % 3) * 10 + 600} for n, moment in enumerate(at)}
            ),
            # Two fields of two instances: 4 x 0.7 errors a second.
            *(
                point
                for host in ("redis-a", "redis-b")
                for point in points(
                    "redis",
                    {"host": host, "service": "redis"},
                    {
                        moment: {"total_error_replies": 7 * n, "rejected_connections": 7 * n}
                        for n, moment in enumerate(at)
                    },
                )
            ),
            # Only a HAProxy's servers have errors, and no backend of it.
            *points(
                "haproxy",
                {"host": "haproxy-a", "type": "server"},
                {moment: {"econ": 1000 * n, "eresp": 0} for n, moment in enumerate(at)},
            ),
            *points(
                "snmp", {"node": "node-1"}, {moment: {"disk_used": 60 + 3 * n} for n, moment in enumerate(at)}
            ),
            *points(
                "snmp", {"node": "node-2"}, {moment: {"disk_used": 75 - 3 * n} for n, moment in enumerate(at)}
            ),
            *points("system", {"host": "a", "service": "misago"}, {began - 2: {"uptime": 1.0}}),
            *points("system", {"host": "b", "service": "misago"}, {began - 90: {"uptime": 1.0}}),
        ],
    )
    expected = {
        "nginx-clients": ({"host": "nginx-busy"}, 800),
        "nginx-requests": ({"host": "nginx-busy"}, 60),
        "redis-errors": ({}, 2.8),
        "nodes-disk": ({"node": "node-1"}, 75),
        "silent-components": ({"service": "misago", "host": "b"}, 1),
    }
    for level, (instance, value) in expected.items():
        fired, event = engine.wait(level, began)
        print(f"{level}: {event['value']:g} after {fired - began:.1f} s")
        assert (event["instance"], event["value"]) == (instance, pytest.approx(value, rel=0.03)), level
        assert {told["instance"].get("host") for _, told in engine.heard(level, began)} == {
            instance.get("host")
        }
    assert engine.heard("haproxy-errors", began) == []


def test_lines_whose_figures_cross_their_thresholds_fire(engine: Engine) -> None:
    began = time.time()

    def line(status: int, seconds: float, method: str, container: str, address: str) -> dict[str, Any]:
        return {
            "@timestamp": text(began - 1),
            "measurement_name": "line",
            "tag": {"event.dataset": "misago.access", "service.name": "misago", "container.id": container},
            "line": {
                "http.request.method": method, "http.response.status_code": status, "source.ip": address,
                "event.duration": int(seconds * 1e9),
            },
        }  # fmt: skip

    engine.elasticsearch.write(
        "writer",
        "forum-logs",
        [
            *(line(200, 12, "GET", "one", f"198.51.{n // 250}.{n % 250}") for n in range(1100)),
            *(line(500, 0.1, "GET", "two", "192.0.2.1") for _ in range(60)),
            line(200, 31, "POST", "two", "192.0.2.1"),
            line(200, 29, "PATCH", "two", "192.0.2.1"),
        ],
    )
    expected = {
        "misago-get-time": ({}, (1100 * 12 + 60 * 0.1) / 1160),
        "misago-post-time": ({}, 31),
        "misago-errors": ({}, 100 * 60 / 1162),
        "misago-clients": ({"container.id": "one"}, 1100),
    }
    for level, (instance, value) in expected.items():
        fired, event = engine.wait(level, began)
        print(f"{level}: {event['value']:g} after {fired - began:.1f} s")
        assert (event["instance"], event["value"]) == (instance, pytest.approx(value, rel=0.02)), level
    assert len({json.dumps(told["instance"]) for _, told in engine.heard("misago-clients", began)}) == 1


def test_it_says_nothing_that_needs_nobody_and_costs_little(engine: Engine) -> None:
    def seconds(process: int) -> float:
        """What a process and its children have had of the processors."""
        threads = Path(f"/proc/{process}/task").glob("*/children")
        children = [child for thread in threads for child in thread.read_text().split()]
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return own + sum(seconds(int(child)) for child in children)

    processes = (engine.process, engine.elasticsearch.process)
    before = [seconds(process) for process in processes]
    time.sleep(20)
    share, asked = ((seconds(process) - was) / 20 for process, was in zip(processes, before, strict=True))
    memory = next(
        int(line.split()[1]) // 1024
        for line in Path(f"/proc/{engine.process}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )
    print(f"ElastAlert2: {share:.1%} of a processor, {memory} MB; Elasticsearch: {asked:.1%}")
    assert share < 0.2
    assert memory < 200
    # An index that has just been made can't be searched yet, and the action server was told to refuse something.
    told = engine.output.read_text().splitlines()
    assert [
        line for line in told if line.startswith("ERROR") and " 503" not in line and "(503," not in line
    ] == []
    command = Path(f"/proc/{engine.process}/cmdline").read_bytes()
    assert TOKEN.encode() not in command
    with pytest.raises(urllib.error.HTTPError):
        engine.elasticsearch.ask("alarms", "DELETE", f"/forum-logs-{datetime.now(UTC):%Y.%m.%d}")
