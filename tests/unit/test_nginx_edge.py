"""PID 1 of the edge, run for real around a stand-in for nginx."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "roles" / "nginx" / "files" / "image" / "bin" / "edge"
# Writes down what it is told; ends on QUIT with 0, and with the number in a file called 'crash' once there is one.
# Not a shell script: in the background that could not catch QUIT.
NGINX = """#!{python}
import os, pathlib, signal, sys, time

state = pathlib.Path(os.environ["STATE"])

def say(name):
    draining = "yes" if (state / "draining").exists() else "no"
    keepalive = (state / "keepalive.conf").read_text().strip()
    with (state / "said").open("a") as said:
        said.write(f"{{name}} {{keepalive}} draining={{draining}}\\n")

def end(*_):
    say("QUIT")
    sys.exit(0)

signal.signal(signal.SIGHUP, lambda *_: say("HUP"))
signal.signal(signal.SIGQUIT, end)
say("START")
while not (state / "crash").exists():
    time.sleep(0.02)
sys.exit(int((state / "crash").read_text()))
"""


class Edge:
    """The script under test and the folder that it and its nginx write to."""

    def __init__(self, process: subprocess.Popen[bytes], state: Path) -> None:
        self.process = process
        self.state = state

    def said(self) -> list[str]:
        file = self.state / "said"
        return file.read_text().splitlines() if file.exists() else []

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    state = tmp_path / "state"
    nginx = tmp_path / "nginx"
    nginx.write_text(NGINX.format(python=sys.executable))
    nginx.chmod(0o755)
    script = tmp_path / "edge"
    # The path is the container's own tmpfs; the test has its own folder for it.
    script.write_text(SCRIPT.read_text().replace("state=/tmp/nginx", f"state={state}"))
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "STATE": str(state),
        "EDGE_DRAIN_CONNECTIONS": "0.3",
        "EDGE_DRAIN_ADDRESS": "0.3",
    }
    with subprocess.Popen(["sh", script], env=environment, start_new_session=True) as process:
        subject = Edge(process, state)
        subject.wait_for(lambda: subject.said() != [])
        yield subject
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_it_drains_in_order(edge: Edge) -> None:
    started = time.monotonic()
    edge.process.send_signal(signal.SIGTERM)
    assert edge.process.wait(20) == 0
    assert time.monotonic() - started >= 0.6
    assert edge.said() == [
        "START keepalive_timeout 65s; draining=no",
        "HUP keepalive_timeout 0; draining=no",
        "QUIT keepalive_timeout 0; draining=yes",
    ]


def test_a_second_signal_changes_nothing(edge: Edge) -> None:
    edge.process.send_signal(signal.SIGTERM)
    edge.wait_for(lambda: len(edge.said()) == 2)
    edge.process.send_signal(signal.SIGTERM)
    assert edge.process.wait(20) == 0
    assert [line.split()[0] for line in edge.said()] == ["START", "HUP", "QUIT"]


def test_an_nginx_that_ends_by_itself_ends_the_container(edge: Edge) -> None:
    (edge.state / "crash").write_text("3")
    assert edge.process.wait(20) == 3


def test_a_new_start_is_not_draining(edge: Edge) -> None:
    edge.process.send_signal(signal.SIGTERM)
    edge.process.wait(20)
    assert (edge.state / "draining").exists()
    again = subprocess.Popen(
        ["sh", edge.state.parent / "edge"],
        env={**os.environ, "PATH": f"{edge.state.parent}:{os.environ['PATH']}", "STATE": str(edge.state)},
        start_new_session=True,
    )
    try:
        edge.wait_for(lambda: len(edge.said()) == 4)
        assert edge.said()[3] == "START keepalive_timeout 65s; draining=no"
    finally:
        os.killpg(again.pid, signal.SIGKILL)
        again.wait()
