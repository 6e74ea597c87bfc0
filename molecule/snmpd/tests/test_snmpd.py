"""What a node tells of itself, to whom, and to whom not."""

from __future__ import annotations

import re
import time

import pytest
import yaml
from role_lab import MANAGERS, PREFIX, PROJECT, Run, process
from testinfra.backend.base import CommandResult
from testinfra.host import Host

NODE = f"{PREFIX}.11"
UPTIME = ".1.3.6.1.2.1.25.1.1.0"
SYSTEM = ".1.3.6.1.2.1.1"
SILENCE = "Timeout"


def ask(
    machine: Host, options: str, *words: str, program: str = "snmpget", at: str = NODE, oid: str = UPTIME
) -> CommandResult:
    """Ask a node once. words: passwords and such, which the options name by %s."""
    return machine.run(f"{program} {options} -r 1 -t 2 -On %s %s", *words, at, oid)


def secure(
    machine: Host, secrets: dict[str, str], program: str = "snmpget", at: str = NODE, oid: str = UPTIME
) -> CommandResult:
    """Ask as the role's user with both passwords."""
    return ask(
        machine,
        "-v3 -u monitoring -l authPriv -a SHA-256 -x AES -A %s -X %s",
        secrets["snmp_auth_password"],
        secrets["snmp_privacy_password"],
        program=program,
        at=at,
        oid=oid,
    )


@pytest.fixture(scope="module")
def monitor(machines: dict[str, Host]) -> Host:
    return machines["monitor"]


def test_it_runs_and_starts_with_the_machine(machines: dict[str, Host]) -> None:
    for name in MANAGERS:
        assert machines[name].service("snmpd").is_running
        assert machines[name].service("snmpd").is_enabled


def test_it_listens_on_the_node_s_own_address_alone(machines: dict[str, Host]) -> None:
    shown = machines["node-1"].check_output("ss -Hlunp")
    listening = {line.split()[3] for line in shown.splitlines() if '"snmpd"' in line}
    assert listening == {f"{NODE}:161"}


@pytest.mark.parametrize("last", [11, 12, 13])
def test_every_node_answers_the_right_user(monitor: Host, secret_values: dict[str, str], last: int) -> None:
    answer = secure(monitor, secret_values, at=f"{PREFIX}.{last}")
    assert re.match(rf"{re.escape(UPTIME)} = Timeticks: \(\d+\)", answer.stdout), answer.stderr


def test_the_user_reads_all_parts_of_the_view_and_nothing_else(
    monitor: Host, secret_values: dict[str, str]
) -> None:
    view = yaml.safe_load((PROJECT / "roles/snmpd/defaults/main.yml").read_text())["snmpd_view"]
    shown = secure(monitor, secret_values, program="snmpbulkwalk", oid=".1.3.6.1").stdout
    told = [line.split(" = ")[0].removeprefix(".") for line in shown.splitlines() if " = No more" not in line]
    assert [part for part in view if not any(f"{oid}.".startswith(f"{part}.") for oid in told)] == []
    assert [oid for oid in told if not any(f"{oid}.".startswith(f"{part}.") for part in view)] == []


def test_the_user_changes_nothing(monitor: Host, secret_values: dict[str, str]) -> None:
    command = "snmpset -v3 -u monitoring -l authPriv -a SHA-256 -x AES -A %s -X %s -r 1 -t 2 %s "
    command += ".1.3.6.1.2.1.1.6.0 s here"
    passwords = (secret_values["snmp_auth_password"], secret_values["snmp_privacy_password"])
    refused = monitor.run(command, *passwords, NODE)
    assert refused.rc != 0
    assert "noAccess" in refused.stderr + refused.stdout


@pytest.mark.parametrize("wrong", ["snmp_auth_password", "snmp_privacy_password"])
def test_a_wrong_password_reads_nothing(monitor: Host, secret_values: dict[str, str], wrong: str) -> None:
    refused = secure(monitor, {**secret_values, wrong: "quite-another-password"})
    assert refused.rc != 0
    assert UPTIME not in refused.stdout


def test_a_user_without_authentication_or_without_encryption_is_refused(
    monitor: Host, secret_values: dict[str, str]
) -> None:
    bare = ask(monitor, "-v3 -u monitoring -l noAuthNoPriv")
    clear = ask(
        monitor, "-v3 -u monitoring -l authNoPriv -a SHA-256 -A %s", secret_values["snmp_auth_password"]
    )
    for refused in (bare, clear):
        assert refused.rc != 0
        assert "authorizationError" in refused.stderr + refused.stdout


@pytest.mark.parametrize("version", ["-v1", "-v2c"])
@pytest.mark.parametrize("oid", [UPTIME, f"{SYSTEM}.3.0"])
def test_a_community_gets_no_answer(monitor: Host, version: str, oid: str) -> None:
    refused = ask(monitor, f"{version} -c public", oid=oid)
    assert refused.rc != 0
    assert SILENCE in refused.stderr


def test_another_machine_gets_no_answer_with_the_right_passwords(
    machines: dict[str, Host], secret_values: dict[str, str]
) -> None:
    refused = secure(machines["node-1"], secret_values, at=f"{PREFIX}.12")
    assert refused.rc != 0
    assert SILENCE in refused.stderr


def test_only_snmpd_can_read_the_passwords(machines: dict[str, Host], secret_values: dict[str, str]) -> None:
    node = machines["node-1"]
    assert (node.file("/etc/snmp/snmpd.conf").mode, node.file("/etc/snmp/snmpd.conf").group) == (
        0o640,
        "Debian-snmp",
    )
    passwords = [secret_values[name] for name in ("snmp_auth_password", "snmp_privacy_password")]
    for password in passwords:
        assert password not in node.check_output("ps -eo args")
        found = node.run("grep -rlF --exclude=snmpd.conf %s /etc/snmp /var/lib/snmp /etc/systemd", password)
        assert found.stdout == ""
    assert node.file("/var/lib/snmp/snmpd.conf").mode == 0o600


def test_a_new_password_takes_the_place_of_the_old_one(
    ansible: Run, monitor: Host, machines: dict[str, Host], secret_values: dict[str, str]
) -> None:
    other = {"snmp_auth_password": "another-9Xq2-password", "snmp_privacy_password": "another-7Lm4-password"}
    try:
        changed = ansible("converge.yml", **other)
        assert changed.returncode == 0, changed.stdout
        for password in (*other.values(), secret_values["snmp_auth_password"]):
            assert password not in changed.stdout
        assert secure(monitor, other).rc == 0
        assert secure(monitor, secret_values).rc != 0
        # Also after a start that finds what the one before kept.
        machines["node-1"].check_output("systemctl restart snmpd")
        assert secure(monitor, other).rc == 0
    finally:
        back = ansible("converge.yml")
    assert back.returncode == 0, back.stdout
    assert secure(monitor, secret_values).rc == 0
    assert secure(monitor, other).rc != 0


def test_an_engine_keeps_its_id_and_counts_its_starts(
    machines: dict[str, Host], monitor: Host, secret_values: dict[str, str]
) -> None:
    node = machines["node-1"]
    kept = "sed -n 's/^oldEngineID //p' /var/lib/snmp/snmpd.conf"
    starts = "sed -n 's/^engineBoots //p' /var/lib/snmp/snmpd.conf"
    before = (node.check_output(kept), int(node.check_output(starts)))
    node.check_output("systemctl restart snmpd")
    assert (node.check_output(kept), int(node.check_output(starts))) == (before[0], before[1] + 1)
    assert secure(monitor, secret_values).rc == 0


def test_it_starts_when_its_address_comes_late(ansible: Run, machines: dict[str, Host]) -> None:
    node, late = machines["node-1"], "198.51.100.1"
    node.check_output("sed -i 's/^agentaddress .*/agentaddress udp:%s:161/' /etc/snmp/snmpd.conf", late)
    try:
        node.check_output("systemctl restart --no-block snmpd")
        # Longer than the starts last that systemd allows by itself.
        time.sleep(15)
        node.check_output("ip address add %s/32 dev lo", late)
        time.sleep(5)
        assert f"{late}:161" in node.check_output("ss -Hlun")
    finally:
        node.run("ip address del %s/32 dev lo", late)
        assert ansible("converge.yml").returncode == 0


def test_a_run_that_changes_nothing_restarts_nothing(ansible: Run, machines: dict[str, Host]) -> None:
    before = {name: process(machines[name], "snmpd.service") for name in MANAGERS}
    again = ansible("converge.yml")
    assert again.stdout.count("changed=0") == len(MANAGERS), again.stdout
    assert {name: process(machines[name], "snmpd.service") for name in MANAGERS} == before


def test_a_dry_run_on_a_new_machine_tells_enough(ansible: Run, machines: dict[str, Host]) -> None:
    node = machines["node-3"]
    node.check_output("apt-get purge -y snmpd")
    node.check_output("rm -r /etc/systemd/system/snmpd.service.d")
    try:
        # No Docker was installed either, whose directory this is.
        dry = ansible("converge.yml", "--check", "--limit", "node-3", snmpd_disk="/var/lib/not-there-yet")
        assert dry.returncode == 0, dry.stdout
        assert not node.package("snmpd").is_installed
    finally:
        assert ansible("converge.yml").returncode == 0
    assert node.service("snmpd").is_running


def test_a_wrong_port_is_refused_and_nothing_is_changed(ansible: Run) -> None:
    refused = ansible("converge.yml", snmp_port="many")
    assert refused.returncode != 0
    assert "snmp_port" in refused.stdout
    assert "changed=0" in refused.stdout
