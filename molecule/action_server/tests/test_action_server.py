"""The status board on the monitoring machine, asked over TLS as a browser would."""

from __future__ import annotations

import json
import time

import pytest
from role_lab import MANAGERS, PREFIX, STATE, Run, process
from testinfra.backend.base import CommandResult
from testinfra.host import Host

URL = f"https://{PREFIX}.14:8443"
AUTHORITY = "/tmp/board-trial-ca.crt"  # noqa: S108 - the test's own file, in the machine
COOKIES = "/tmp/board-trial-cookies"  # noqa: S108 - the test's own file, in the machine
UNIT = "action-server.service"


@pytest.fixture(scope="module")
def monitor(machines: dict[str, Host]) -> Host:
    machine = machines["monitor"]
    machine.check_output("printf '%%s' %s > %s", (STATE / "pki" / "ca.crt").read_text(), AUTHORITY)
    return machine


def curl(machine: Host, path: str, *options: str) -> CommandResult:
    """What the board answers; the status is the last line."""
    words = ["--cacert", AUTHORITY, "-w", "\n%{http_code}", *options, f"{URL}{path}"]
    return machine.run("curl -sS --max-time 20 " + " ".join(["%s"] * len(words)), *words)


def status(result: CommandResult) -> str:
    return str(result.stdout).rsplit("\n", 1)[-1]


def sign_in(machine: Host, password: str) -> CommandResult:
    machine.check_output("rm -f %s", COOKIES)
    form = ("-d", "user=operator", "--data-urlencode", f"password={password}")
    return curl(machine, "/sign-in", "-c", COOKIES, *form)


def test_it_runs_without_privileges_and_starts_with_the_machine(monitor: Host) -> None:
    assert monitor.service("action-server").is_running
    assert monitor.service("action-server").is_enabled
    state = monitor.check_output("cat /proc/%s/status", process(monitor, UNIT))
    assert f"Uid:\t{monitor.user('action-server').uid}" in state
    assert "CapEff:\t0000000000000000" in state
    assert monitor.check_output(f"systemctl show -P RestartPreventExitStatus {UNIT}") == "78"


def test_nobody_sees_a_page_without_signing_in(monitor: Host) -> None:
    for page in ("/", "/swarm", "/components/nginx"):
        assert status(curl(monitor, page)) == "303"
    assert status(sign_in(monitor, "wrong")) == "403"
    assert status(curl(monitor, "/", "-b", COOKIES)) == "303"


def test_the_operator_sees_the_nodes_of_the_swarm(monitor: Host, secret_values: dict[str, str]) -> None:
    assert status(sign_in(monitor, secret_values["board_password"])) == "303"
    page = curl(monitor, "/swarm", "-b", COOKIES)
    assert status(page) == "200"
    for name in MANAGERS:
        assert name in page.stdout
    assert "doesn't answer" not in page.stdout


def test_it_tells_when_influxdb_is_away(monitor: Host, secret_values: dict[str, str]) -> None:
    sign_in(monitor, secret_values["board_password"])
    monitor.check_output("systemctl stop influxdb")
    try:
        time.sleep(25)
        page = curl(monitor, "/", "-b", COOKIES).stdout
        assert "InfluxDB: " in page
        assert "doesn&#39;t answer" in page
    finally:
        monitor.check_output("systemctl start influxdb")


def test_who_says_nothing_holds_up_nobody(monitor: Host) -> None:
    connect = f"(exec 3<>/dev/tcp/{PREFIX}.14/8443; sleep 8) >/dev/null 2>&1 &"
    monitor.check_output("bash -c %s", f"for each in $(seq 40); do {connect} done; sleep 1")
    assert int(monitor.check_output("ss -Htn state established '( sport = :8443 )' | wc -l")) >= 40
    began = time.monotonic()
    assert status(curl(monitor, "/sign-in")) == "200"
    assert time.monotonic() - began < 2


def test_clear_text_and_old_tls_are_refused(monitor: Host) -> None:
    plain = monitor.run(f"curl -sS --max-time 20 http://{PREFIX}.14:8443/sign-in")
    assert plain.rc != 0 or "<form" not in plain.stdout
    old = curl(monitor, "/sign-in", "--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0")
    assert old.rc == 35, old.stderr


def test_the_machine_has_only_a_hash_of_the_password(monitor: Host, secret_values: dict[str, str]) -> None:
    kept = monitor.file("/etc/action-server/password")
    assert kept.content_string.startswith("scrypt$")
    assert (kept.mode, kept.group) == (0o640, "action-server")
    found = monitor.run(
        "grep -rlF %s /etc/action-server /usr/local/lib/action-server", secret_values["board_password"]
    )
    assert found.stdout == ""


def test_a_run_that_changes_nothing_restarts_nothing(ansible: Run, monitor: Host) -> None:
    before = process(monitor, UNIT)
    assert "changed=0" in ansible("converge.yml").stdout
    assert process(monitor, UNIT) == before


def test_only_its_own_files_are_there(ansible: Run, monitor: Host) -> None:
    place = "/usr/local/lib/action-server/action_server"
    monitor.check_output(f"mkdir -p {place}/__pycache__")
    monitor.check_output(f"touch {place}/__pycache__/stale.pyc {place}/stale.py")
    assert ansible("converge.yml").returncode == 0
    files = monitor.check_output(f"find {place} -type f")
    assert "stale" not in files
    assert f"{place}/templates/base.html" in files


def call(machine: Host, path: str, token: str, body: object = None) -> tuple[str, str]:
    """Status and text of what the server answers to a caller with a token."""
    posted = () if body is None else ("-d", json.dumps(body))
    answer = curl(machine, path, "-H", f"Authorization: Bearer {token}", *posted)
    text, _, code = str(answer.stdout).rpartition("\n")
    return code, text


def test_the_machine_has_only_hashes_of_the_tokens(monitor: Host, secret_values: dict[str, str]) -> None:
    tokens = [value for name, value in secret_values.items() if name.startswith("action_server_token_")]
    assert len(tokens) == 6
    for token in tokens:
        assert monitor.run("grep -rlF %s /etc/action-server /var/lib/action-server", token).stdout == ""
        assert token not in monitor.check_output("journalctl -u action-server --no-pager")


def test_a_caller_without_the_right_is_refused(monitor: Host, secret_values: dict[str, str]) -> None:
    assert call(monitor, "/history", "wrong")[0] == "401"
    assert call(monitor, "/history", secret_values["action_server_token_kapacitor"])[0] == "403"
    assert call(monitor, "/history", secret_values["action_server_token_operator"])[0] == "200"
    assert call(monitor, "/events/kibana", secret_values["action_server_token_kibana"], [])[0] == "400"


def test_what_is_asked_for_is_run_told_and_recorded(monitor: Host, secret_values: dict[str, str]) -> None:
    operator = secret_values["action_server_token_operator"]
    before = monitor.check_output("date +%s.%N")
    assert call(monitor, "/scale", operator, {"service": "nothing-here", "by": 1})[0] == "202"
    for _ in range(60):
        newest = json.loads(call(monitor, "/history?limit=1", operator)[1])["actions"][0]
        if newest["state"] in ("refused", "failed"):
            break
        time.sleep(1)
    # There is no such service: refused where the nodes' program is, failed where it isn't; never done.
    assert newest["state"] in ("refused", "failed"), newest
    recorder = f"https://{PREFIX}.14:8444/"
    for _ in range(20):
        told = json.loads(monitor.check_output("curl -sS --cacert %s %s", AUTHORITY, recorder))
        if any("nothing-here" in each["text"] for each in told if each["at"] > float(before)):
            break
        time.sleep(1)
    else:
        pytest.fail(f"nothing was told: {told}")


def test_ansible_runner_works_within_the_unit_s_bounds(monitor: Host) -> None:
    """What the unit forbids must not be what Ansible needs: only a failure to reach the nodes is let pass."""
    log = monitor.check_output("journalctl -u action-server --no-pager")
    assert "couldn't be run" not in log


def test_a_wrong_port_is_refused_and_nothing_is_changed(ansible: Run) -> None:
    refused = ansible("converge.yml", action_server_port="many")
    assert refused.returncode != 0
    assert "action_server_port" in refused.stdout
    assert "changed=0" in refused.stdout
