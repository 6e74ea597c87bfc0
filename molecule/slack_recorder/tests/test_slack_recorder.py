"""The lab's recorder in Slack's place."""

from __future__ import annotations

import json

import pytest
from role_lab import PREFIX, STATE, Run, process
from testinfra.host import Host

URL = f"https://{PREFIX}.14:8444"
AUTHORITY = "/tmp/recorder-trial-ca.crt"  # noqa: S108 - the test's own file, in the machine
UNIT = "slack-recorder.service"


@pytest.fixture(scope="module")
def monitor(machines: dict[str, Host]) -> Host:
    machine = machines["monitor"]
    machine.check_output("printf '%%s' %s > %s", (STATE / "pki" / "ca.crt").read_text(), AUTHORITY)
    return machine


def post(machine: Host, secret: str, text: str) -> str:
    body = json.dumps({"text": text})
    status: str = machine.check_output(
        "curl -sS --cacert %s -o /dev/null -w '%%{http_code}' -d %s %s",
        AUTHORITY,
        body,
        f"{URL}/hook/{secret}",
    )
    return status


def texts(machine: Host) -> list[str]:
    listed = machine.check_output("curl -sS --cacert %s %s", AUTHORITY, f"{URL}/")
    return [each["text"] for each in json.loads(listed)]


def test_it_runs_without_privileges_and_starts_with_the_machine(monitor: Host) -> None:
    assert monitor.service("slack-recorder").is_enabled
    state = monitor.check_output("cat /proc/%s/status", process(monitor, UNIT))
    assert f"Uid:\t{monitor.user('slack-recorder').uid}" in state


def test_it_keeps_what_it_is_told_and_nothing_without_the_secret(
    monitor: Host, secret_values: dict[str, str]
) -> None:
    assert post(monitor, secret_values["slack_recorder_secret"], "one") == "200"
    assert post(monitor, "wrong", "two") == "403"
    assert "one" in texts(monitor)
    monitor.check_output("systemctl restart slack-recorder && sleep 2")
    assert "one" in texts(monitor)
    assert "two" not in texts(monitor)


def test_a_run_that_changes_nothing_restarts_nothing(ansible: Run, monitor: Host) -> None:
    before = process(monitor, UNIT)
    assert "changed=0" in ansible("converge.yml").stdout
    assert process(monitor, UNIT) == before
