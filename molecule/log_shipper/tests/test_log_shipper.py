"""A node's shipper while there is no collector: it takes every line, and keeps it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from log_lines import SOCKET, send
from role_lab import process
from testinfra.host import Host

UNIT = "log_shipper.service"
QUEUE = "/var/lib/log_shipper"


@pytest.fixture(scope="module")
def node(machines: dict[str, Host]) -> Host:
    return machines["node-1"]


@pytest.fixture(scope="module", autouse=True)
def alone(machines: dict[str, Host]) -> Iterator[None]:
    """The lab's collector is away, if an earlier scenario left one."""
    unit, monitor = "log_collector.service", machines["monitor"]
    runs = monitor.run("systemctl is-active %s", unit).rc == 0
    if runs:
        monitor.check_output("systemctl stop %s", unit)
    yield
    if runs:
        monitor.check_output("systemctl start %s", unit)


def until(true: Callable[[], bool], what: str) -> None:
    for _ in range(60):
        if true():
            return
        time.sleep(0.5)
    pytest.fail(what)


def queued(node: Host, text: str) -> bool:
    """Whether a text is in the queue on the disk."""
    return bool(node.run("grep --quiet --recursive %s %s", text, QUEUE).rc == 0)


def test_it_runs_as_a_user_of_its_own_without_rights(node: Host) -> None:
    process_id = node.check_output("systemctl show --value --property=MainPID %s", UNIT)
    status = node.check_output("cat /proc/%s/status", process_id)
    user = node.check_output("id --user log_shipper")
    assert f"Uid:\t{user}\t{user}\t{user}\t{user}" in status
    assert "CapBnd:\t0000000000000000" in status


def test_only_root_writes_to_the_socket(node: Host) -> None:
    assert node.check_output("stat --format '%%U %%a' %s", SOCKET) == "root 600"
    assert node.check_output("systemctl is-enabled log_shipper.socket") == "enabled"


def test_debians_own_service_is_off(node: Host) -> None:
    assert node.run("systemctl is-active rsyslog.service").rc != 0
    assert node.run("systemctl is-enabled rsyslog.service").rc != 0


def test_a_line_is_on_the_disk_while_the_collector_is_away(node: Host) -> None:
    text = f"kept line {time.time_ns()}"
    send(node, "nginx", text)
    until(lambda: queued(node, text), "the line isn't in the queue")


def test_a_killed_shipper_keeps_what_it_has_and_gets_what_came_meanwhile(node: Host) -> None:
    text = str(time.time_ns())
    send(node, "nginx", f"before {text} NUMBER end", 100)
    before = process(node, UNIT)
    node.check_output("systemctl kill --signal=SIGKILL %s", UNIT)
    # Systemd holds the socket: nobody is refused.
    send(node, "nginx", f"meanwhile {text} NUMBER end", 5)
    until(lambda: process(node, UNIT) not in {before, "0", ""}, "the shipper didn't come back")
    until(lambda: queued(node, f"meanwhile {text} 4 end"), "what came meanwhile isn't in the queue")
    # The last may have been in the hand of the one that was killed.
    assert all(queued(node, f"before {text} {number} end") for number in (0, 50, 98))


def test_lines_that_have_arrived_are_not_read_again(node: Host) -> None:
    # As when a shipper is killed that has removed its place in an empty queue, and not yet the queue.
    old, new = f"arrived {time.time_ns()}", f"new {time.time_ns()}"
    node.check_output("systemctl stop log_shipper.socket %s", UNIT)
    node.check_output("rm -f %s/lines.* && yes %s | head -c 1000000 >%s/lines.00000001", QUEUE, old, QUEUE)
    node.check_output("chown log_shipper:log_shipper %s/lines.00000001", QUEUE)
    node.check_output("systemctl start log_shipper.socket %s", UNIT)
    send(node, "nginx", f"{new} NUMBER end", 50)
    until(lambda: queued(node, f"{new} 49 end"), "the lines aren't in the queue")
    assert not queued(node, old)
