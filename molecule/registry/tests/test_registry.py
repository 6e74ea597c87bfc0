"""The registry, seen from a node."""

from __future__ import annotations

import pytest
from role_lab import PREFIX, STATE, Run, process
from testinfra.host import Host

URL = f"https://{PREFIX}.14:5000/v2/"
AUTHORITY = "/tmp/registry-trial-ca.crt"  # noqa: S108 - the test's own file, in the machine


@pytest.fixture(scope="module")
def node(machines: dict[str, Host]) -> Host:
    machine = machines["node-1"]
    machine.check_output("printf '%%s' %s > %s", (STATE / "pki" / "ca.crt").read_text(), AUTHORITY)
    return machine


def status(node: Host, *options: str, url: str = URL) -> str:
    """The HTTP status that the registry answers with."""
    arguments = ("--cacert", AUTHORITY, "-o", "/dev/null", "-w", "%{http_code}", *options, url)
    return str(node.check_output("curl -sS " + " ".join(["%s"] * len(arguments)), *arguments))


def test_it_runs_and_starts_with_the_machine(machines: dict[str, Host]) -> None:
    assert machines["monitor"].service("docker-registry").is_running
    assert machines["monitor"].service("docker-registry").is_enabled


def test_nobody_enters_without_the_password(node: Host) -> None:
    assert status(node) == "401"
    assert status(node, "--user", "forum:wrong") == "401"


def test_the_password_opens_it(node: Host, secret_values: dict[str, str]) -> None:
    assert status(node, "--user", f"forum:{secret_values['registry_password']}") == "200"


def test_old_tls_and_a_stranger_s_authority_are_refused(node: Host) -> None:
    old = node.run(
        f"curl -sS --cacert {AUTHORITY} --tlsv1.0 --tls-max 1.1 --ciphers DEFAULT@SECLEVEL=0 {URL}"
    )
    assert old.rc == 35, f"{old.stdout}{old.stderr}"
    stranger = node.run(f"curl -sS {URL}")
    assert stranger.rc == 60, f"{stranger.stdout}{stranger.stderr}"
    assert status(node, url=URL.replace("https", "http")) == "400"


def test_neither_key_nor_password_can_be_read(
    machines: dict[str, Host], secret_values: dict[str, str]
) -> None:
    monitor = machines["monitor"]
    for path in ("/etc/docker/registry/tls.key", "/etc/docker/registry/htpasswd"):
        assert monitor.file(path).mode == 0o640, path
        assert monitor.file(path).group == "docker-registry", path
    kept = monitor.file("/etc/docker/registry/htpasswd").content_string
    assert kept.startswith("forum:$2y$")
    assert secret_values["registry_password"] not in kept
    processes = monitor.check_output("ps -eo args")
    assert secret_values["registry_password"] not in processes


def test_a_wrong_port_is_refused_and_nothing_is_changed(ansible: Run) -> None:
    refused = ansible("converge.yml", registry_port="many")
    assert refused.returncode != 0
    assert "registry_port" in refused.stdout
    assert "changed=0" in refused.stdout


def test_a_configuration_that_no_restart_followed_is_taken_up_once(
    ansible: Run, machines: dict[str, Host]
) -> None:
    monitor = machines["monitor"]
    before = process(monitor, "docker-registry.service")
    monitor.check_output("touch /etc/docker/registry/config.yml")
    made_up = ansible("converge.yml")
    assert made_up.returncode == 0, made_up.stdout
    now = process(monitor, "docker-registry.service")
    assert now != before

    again = ansible("converge.yml")
    assert "changed=0" in again.stdout
    assert process(monitor, "docker-registry.service") == now
