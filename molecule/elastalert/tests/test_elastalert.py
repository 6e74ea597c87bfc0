"""ElastAlert2 on the monitoring machine, with the databases that it reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from role_lab import PREFIX
from testinfra.host import Host

FILES = "/etc/forum/elastalert"
UNITS = ("elastalert.service", "alarm_copier.service")


@pytest.fixture(scope="module")
def monitor(machines: dict[str, Host]) -> Host:
    return machines["monitor"]


@pytest.fixture
def found(monitor: Host, secret_values: dict[str, str]) -> Callable[[str], list[dict[str, Any]]]:
    """Asks Elasticsearch as the alarms do; the newest documents of the indices."""

    def ask(index: str) -> list[dict[str, Any]]:
        answer = monitor.check_output(
            "curl -sS --cacert %s/ca.crt --user %s %s",
            FILES, f"alarms:{secret_values['elasticsearch_alarms_password']}",
            f"https://{PREFIX}.14:9200/{index}/_search?size=100&sort=@timestamp:desc&ignore_unavailable=true",
        )  # fmt: skip
        return [hit["_source"] for hit in json.loads(answer)["hits"]["hits"]]

    return ask


@pytest.mark.parametrize("unit", UNITS)
def test_it_runs_without_rights(monitor: Host, unit: str) -> None:
    assert monitor.service(unit).is_running
    assert monitor.service(unit).is_enabled
    user = monitor.check_output("systemctl show --value --property=User %s", unit)
    assert user == unit.removesuffix(".service")


def test_nobody_else_reads_password_and_token(monitor: Host, secret_values: dict[str, str]) -> None:
    for name, group in (("config.yaml", "elastalert"), ("telegraf.conf", "alarm_copier")):
        file = monitor.file(f"{FILES}/{name}")
        assert (file.user, file.group, file.mode) == ("root", group, 0o640)
    listed = monitor.check_output("ps -e -o args")
    assert secret_values["elasticsearch_alarms_password"] not in listed


def test_the_copier_listens_to_its_own_machine_alone(monitor: Host) -> None:
    assert monitor.socket("tcp://127.0.0.1:8187").is_listening
    assert not monitor.socket("tcp://0.0.0.0:8187").is_listening


def test_a_figure_that_is_written_to_influxdb_fires(
    monitor: Host, secret_values: dict[str, str], found: Callable[[str], list[dict[str, Any]]]
) -> None:
    monitor.check_output(
        "curl -sS --fail --cacert %s/ca.crt --user %s --data-binary %s %s",
        FILES, f"admin:{secret_values['influxdb_admin_password']}",
        "redis_response,host=trial,service=trial response_time=6", f"https://{PREFIX}.14:8086/write?db=forum",
    )  # fmt: skip
    end = time.monotonic() + 45
    while not (told := [one for one in found("forum-alarms-elastalert") if one["rule_name"] == "redis-time"]):
        assert time.monotonic() < end, monitor.check_output(
            "journalctl --no-pager -n 30 -u elastalert.service"
        )
        time.sleep(1)
    match = told[0]["match_body"]
    assert (match["level"], match["instance"], match["value"]) == ("redis-time", {"host": "trial"}, 6)
    (point,) = [one for one in found("forum-metrics-*") if one["tag"].get("host") == "trial"]
    assert (point["measurement_name"], point["redis_response"]) == ("redis_response", {"response_time": 6})
