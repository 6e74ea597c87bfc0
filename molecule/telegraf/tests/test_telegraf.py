"""The relay: takes figures from those who know the password, and brings them to InfluxDB."""

from __future__ import annotations

import json
import time

import pytest
from role_lab import LAB, MANAGERS, PREFIX, Run, Swarm
from testinfra.host import Host

POINT = "trial,host=trial-1 value={value}i"


def write(swarm: Swarm, value: int, user: str) -> str:
    """The status that a relay answers to a point, written from its own container."""
    machine = swarm.tasks("relay")[0].machine
    network = f"container:{swarm.tasks('relay')[0].container}"
    image = machine.check_output("docker inspect --format %s %s", "{{.Image}}", network.partition(":")[2])
    program = (
        "exec 3<>/dev/tcp/127.0.0.1/8186; read -r account; read -r point; "
        "printf 'POST /write?db=forum HTTP/1.0\\r\\nAuthorization: Basic %s\\r\\nContent-Length: %d\\r\\n\\r\\n%s' "
        '"$(printf %s "$account" | base64 -w0)" "${#point}" "$point" >&3; read -r _ status _ <&3; echo "$status"'
    )
    command = "printf %s | docker run --rm -i --network %s --entrypoint bash %s -c %s"
    told = f"{user}\n{POINT.format(value=value)}\n"
    return str(machine.check_output(command, told, network, image.strip(), program)).strip()


def stored(monitor: Host, password: str, value: int) -> bool:
    """Whether InfluxDB has the point."""
    answer = monitor.check_output(
        # Just started, InfluxDB takes no connections yet.
        "curl -sS --retry 30 --retry-delay 1 --retry-connrefused --cacert /etc/influxdb/ca.crt --user %s "
        "--data-urlencode %s %s",
        f"reader:{password}", f"q=SELECT count(value) FROM trial WHERE value = {value}",  # noqa: S608
        f"https://{PREFIX}.14:8086/query?db=forum",
    )  # fmt: skip
    return "series" in json.loads(answer)["results"][0]


def wait_for(monitor: Host, password: str, value: int) -> None:
    for _ in range(30):
        if stored(monitor, password, value):
            return
        time.sleep(1)
    pytest.fail(f"the point {value} never came")


def test_there_is_one_on_every_node(swarm: Swarm) -> None:
    assert {task.machine.backend.get_hostname() for task in swarm.tasks("relay")} == {
        swarm.machines[name].backend.get_hostname() for name in MANAGERS
    }


def test_a_figure_reaches_influxdb(
    swarm: Swarm, machines: dict[str, Host], secret_values: dict[str, str]
) -> None:
    value = int(time.time())
    assert write(swarm, value, f"telegraf:{secret_values['telegraf_password']}") == "204"
    wait_for(machines["monitor"], secret_values["influxdb_reader_password"], value)


def test_nobody_else_writes(swarm: Swarm) -> None:
    assert write(swarm, 1, "telegraf:wrong") == "401"


def test_it_keeps_figures_while_influxdb_is_away(
    swarm: Swarm, machines: dict[str, Host], secret_values: dict[str, str]
) -> None:
    monitor, value = machines["monitor"], int(time.time())
    monitor.check_output("systemctl stop influxdb")
    try:
        assert write(swarm, value, f"telegraf:{secret_values['telegraf_password']}") == "204"
        time.sleep(10)
    finally:
        monitor.check_output("systemctl start influxdb")
    wait_for(monitor, secret_values["influxdb_reader_password"], value)


def test_a_new_password_of_its_account_loses_no_figure(
    ansible: Run, swarm: Swarm, machines: dict[str, Host], secret_values: dict[str, str]
) -> None:
    monitor, password = machines["monitor"], secret_values["influxdb_reader_password"]
    user = f"telegraf:{secret_values['telegraf_password']}"

    def arrives(value: int) -> None:
        assert write(swarm, value, user) == "204"
        wait_for(monitor, password, value)

    value = int(time.time())
    changed = {"influxdb_writer_password": "kV8wqZr3TnYb5xHs0LdM"}
    try:
        for step, playbook in enumerate(("../influxdb/converge.yml", "../shared/converge.yml")):
            run = ansible(playbook, **changed)
            assert run.returncode == 0, run.stdout
            arrives(value + step)
    finally:
        back = [ansible(playbook) for playbook in ("../shared/converge.yml", "../influxdb/forget.yml")]
    assert [run.returncode for run in back] == [0, 0], back[-1].stdout
    arrives(value + 2)


def test_it_tells_of_itself(machines: dict[str, Host], secret_values: dict[str, str]) -> None:
    answer = machines["monitor"].check_output(
        # Just started, InfluxDB takes no connections yet.
        "curl -sS --retry 30 --retry-delay 1 --retry-connrefused --cacert /etc/influxdb/ca.crt --user %s "
        "--data-urlencode %s %s",
        f"reader:{secret_values['influxdb_reader_password']}",
        'q=SELECT last(buffer_size) FROM internal_write WHERE time > now() - 60s GROUP BY "service", "node"',
        f"https://{PREFIX}.14:8086/query?db=forum",
    )
    series = json.loads(answer)["results"][0]["series"]
    assert {(one["tags"]["service"], one["tags"]["node"]) for one in series} == {
        # The swarm calls a node as its machine calls itself.
        ("relay", f"{LAB}-{name}")
        for name in MANAGERS
    }
