"""The reader of a manager's engine, seen from the monitoring machine."""

from __future__ import annotations

import json
import re
import time

import pytest
from role_lab import MANAGERS, PREFIX, STATE, Run, process
from testinfra.backend.base import CommandResult
from testinfra.host import Host

URL = f"https://{PREFIX}.11:2376"
PLACE = "/etc/trial-reader"
LISTS = ("_ping", "version", "info", "nodes", "services", "tasks")
CLIENT = ("--cert", f"{PLACE}/client.crt", "--key", f"{PLACE}/client.key")
# What curl says when the other side ends the handshake for want of a certificate that it accepts.
HANDSHAKE = (35, 56)


@pytest.fixture(scope="module")
def monitor(machines: dict[str, Host]) -> Host:
    machine = machines["monitor"]
    for suffix in ("crt", "key"):
        content = (STATE / "pki" / f"trial-other.{suffix}").read_text()
        machine.check_output("printf '%%s' %s > %s", content, f"{PLACE}/other.{suffix}")
    # A certificate with the right name, of an authority that isn't ours.
    subject = "-days 1 -nodes -subj /CN=monitoring -newkey ec -pkeyopt ec_paramgen_curve:prime256v1"
    machine.check_output(
        f"openssl req -x509 {subject} -keyout {PLACE}/stranger.key -out {PLACE}/stranger.crt"
    )
    return machine


def curl(machine: Host, path: str, *options: str, client: tuple[str, ...] = CLIENT) -> CommandResult:
    """Ask the reader. path: with its slash."""
    arguments = ("--path-as-is", "--cacert", f"{PLACE}/ca.crt", *client, *options, f"{URL}{path}")
    return machine.run("curl -sS --max-time 20 " + " ".join(["%s"] * len(arguments)), *arguments)


def status(machine: Host, path: str, *options: str, client: tuple[str, ...] = CLIENT) -> str:
    """The HTTP status that the reader answers with."""
    answer = curl(machine, path, "-o", "/dev/null", "-w", "%{http_code}", *options, client=client)
    assert answer.rc == 0, answer.stderr
    return str(answer.stdout)


def test_it_runs_and_starts_with_the_machine(machines: dict[str, Host]) -> None:
    for name in MANAGERS:
        assert machines[name].service("haproxy").is_running
        assert machines[name].service("haproxy").is_enabled


@pytest.mark.parametrize("last", LISTS)
def test_the_lists_are_read_with_and_without_a_version(monitor: Host, last: str) -> None:
    assert status(monitor, f"/{last}") == "200"
    assert status(monitor, f"/v1.44/{last}") == "200"


def test_every_manager_tells_the_nodes(monitor: Host) -> None:
    for number in (11, 12, 13):
        answer = curl(monitor, "/nodes", "--connect-to", f"::{PREFIX}.{number}:2376", "--insecure")
        assert len(json.loads(answer.stdout)) == len(MANAGERS)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/containers/json",
        "/v1.44/containers/json",
        "/secrets",
        "/v1.44/secrets",
        "/configs",
        "/swarm",
        "/swarm/unlockkey",
        "/images/json",
        "/events",
        "/nodes/",
        "/nodes/self",
        "/v1.44/nodes/../secrets",
        "/v1.44/nodes/..%2fsecrets",
        "/v1.44/nodes%2f..%2fsecrets",
        "/v1.44//nodes",
        "//secrets",
        "/v1.44/x/nodes",
        "/tasks/some-id/logs",
        "/services/forum_misago/logs?stdout=1",
    ],
)
def test_nothing_else_is_read(monitor: Host, path: str) -> None:
    assert status(monitor, path) == "403"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_nothing_is_changed(monitor: Host, method: str) -> None:
    options = ("--head",) if method == "HEAD" else ("-X", method, "-d", "{}")
    for path in ("/nodes", "/services", "/services/create", "/containers/create"):
        assert status(monitor, path, *options) == "403"


def test_who_shows_no_certificate_or_a_stranger_s_gets_no_connection(monitor: Host) -> None:
    stranger = ("--cert", f"{PLACE}/stranger.crt", "--key", f"{PLACE}/stranger.key")
    for client in ((), stranger):
        refused = curl(monitor, "/nodes", client=client)
        assert refused.rc in HANDSHAKE, f"{refused.rc} {refused.stdout}{refused.stderr}"
        assert refused.stdout == ""


def test_another_certificate_of_the_authority_is_refused(monitor: Host) -> None:
    other = ("--cert", f"{PLACE}/other.crt", "--key", f"{PLACE}/other.key")
    assert status(monitor, "/nodes", client=other) == "403"


def test_what_is_refused_is_logged_and_what_is_read_is_not(machines: dict[str, Host], monitor: Host) -> None:
    began = int(time.time())
    assert status(monitor, "/version") == "200"
    assert status(monitor, "/secrets") == "403"
    curl(monitor, "/nodes", client=())
    time.sleep(1)
    shown = machines["node-1"].check_output(f"journalctl --no-pager -o cat -u haproxy --since @{began}")
    # By HTTP/2 a request has the whole address.
    assert re.search(r'"GET \S*/secrets HTTP', shown)
    assert "SSL handshake failure" in shown
    assert "/version" not in shown


def test_it_shows_a_certificate_of_the_authority_for_its_address(monitor: Host) -> None:
    refused = monitor.run(f"curl -sS --max-time 20 {' '.join(CLIENT)} {URL}/nodes")
    assert refused.rc == 60, refused.stderr


def test_clear_text_and_old_tls_are_refused(monitor: Host) -> None:
    plain = monitor.run(f"curl -sS --max-time 20 http://{PREFIX}.11:2376/nodes")
    assert plain.rc != 0 or "ID" not in plain.stdout
    old = curl(monitor, "/nodes", "--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0")
    assert old.rc == 35, old.stderr


def test_it_listens_on_the_node_s_own_address_alone(machines: dict[str, Host]) -> None:
    shown = machines["node-1"].check_output("ss -Hltnp")
    assert {line.split()[3] for line in shown.splitlines() if '"haproxy"' in line} == {f"{PREFIX}.11:2376"}


def test_it_asks_the_engine_without_being_root(machines: dict[str, Host]) -> None:
    node = machines["node-1"]
    worker = node.check_output("pgrep --parent %s", process(node, "haproxy.service")).strip()
    state = node.check_output("cat /proc/%s/status", worker)
    fields = dict(line.split(":\t", 1) for line in state.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == [str(node.user("haproxy").uid)] * 4
    assert fields["Gid"].split() == [str(node.group("docker").gid)] * 4


def test_it_starts_when_its_address_comes_late(ansible: Run, machines: dict[str, Host]) -> None:
    node, late = machines["node-1"], "198.51.100.1"
    node.check_output("sed -i 's/^  bind [0-9.]*:/  bind %s:/' /etc/haproxy/haproxy.cfg", late)
    try:
        node.check_output("systemctl restart --no-block haproxy")
        # Longer than the starts last that systemd allows by itself.
        time.sleep(15)
        node.check_output("ip address add %s/32 dev lo", late)
        time.sleep(5)
        assert f"{late}:2376" in node.check_output("ss -Hltn")
    finally:
        node.run("ip address del %s/32 dev lo", late)
        assert ansible("converge.yml").returncode == 0


def test_the_keys_are_for_those_who_use_them(machines: dict[str, Host]) -> None:
    for name, path, group in (
        ("node-1", "/etc/haproxy/docker_reader.key", "haproxy"),
        ("monitor", f"{PLACE}/client.key", "daemon"),
    ):
        assert machines[name].file(path).mode == 0o640
        assert machines[name].file(path).group == group


def test_a_run_that_changes_nothing_restarts_nothing(ansible: Run, machines: dict[str, Host]) -> None:
    before = {name: process(machines[name], "haproxy.service") for name in MANAGERS}
    again = ansible("converge.yml")
    assert again.stdout.count("changed=0") == len(MANAGERS) + 1, again.stdout
    assert {name: process(machines[name], "haproxy.service") for name in MANAGERS} == before


def test_a_wrong_port_is_refused_and_nothing_is_changed(ansible: Run) -> None:
    refused = ansible("converge.yml", docker_reader_port="many")
    assert refused.returncode != 0
    assert "docker_reader_port" in refused.stdout
    assert "changed=0" in refused.stdout
