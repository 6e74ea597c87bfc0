"""The lab under test: what `make endpoints` says, and ways to look at its machines.

LAB_ENDPOINTS names the file that `make endpoints` prints; without it `make -s endpoints` is asked.
"""

import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from drills.forum import Account

ROOT = Path(__file__).resolve().parents[1]
"""The repository."""


@dataclass(frozen=True)
class Node:
    """A machine of the lab and the container that it is made of, whose name is also its host name."""

    name: str
    address: str
    container: str

    def run(self, script: str, seconds: float = 120, given: bytes = b"") -> str:
        """The output of a shell script on the machine, errors included. given: its input. Raises TimeoutExpired."""
        command = ["docker", "exec", "--interactive", self.container, "sh", "-c", script]
        done = subprocess.run(command, input=given, capture_output=True, timeout=seconds, check=False)
        return (done.stdout + done.stderr).decode(errors="replace")


@dataclass(frozen=True)
class Metrics:
    """Where the figures are, and the account that may read them."""

    url: str
    database: str
    reader: Account


@dataclass(frozen=True)
class Logs:
    """Where the log lines are, the pattern of all their indices, and the account that may read them."""

    url: str
    index: str
    reader: Account


@dataclass(frozen=True)
class Board:
    """Where the status board is, and the operators' account."""

    url: str
    operator: Account


@dataclass(frozen=True)
class Server:
    """Where the action server is, and the operators' token."""

    url: str
    token: str


@dataclass(frozen=True)
class Lab:
    """What `make endpoints` says."""

    forum_urls: tuple[str, ...]
    ca_file: str
    admin: Account
    secrets_dir: Path
    metrics: Metrics
    logs: Logs
    board: Board
    action_server: Server
    slack_url: str
    nodes: tuple[Node, ...]

    @property
    def swarm(self) -> tuple[Node, ...]:
        """The machines that run the stack: all but the monitoring one."""
        return tuple(node for node in self.nodes if node.name != "monitor")

    @property
    def monitor(self) -> Node:
        """The machine that watches."""
        return next(node for node in self.nodes if node.name == "monitor")


def _account(fields: dict[str, str]) -> Account:
    return Account(fields["user"], Path(fields["password_file"]).read_text().strip())


@cache
def read_lab() -> Lab:
    """The lab's endpoints. Raises what reading them raises."""
    path = os.environ.get("LAB_ENDPOINTS")
    text = (
        Path(path).read_text()
        if path
        else subprocess.run(["make", "-s", "endpoints"], cwd=ROOT, check=True, capture_output=True).stdout
    )
    fields = json.loads(text)
    password_file = Path(fields["admin_password_file"])
    influxdb, elasticsearch, board = fields["influxdb"], fields["elasticsearch"], fields["board"]
    server = fields["action_server"]
    return Lab(
        forum_urls=tuple(fields["forum_urls"]),
        ca_file=fields["ca_file"],
        admin=Account(fields["admin_user"], password_file.read_text().strip()),
        secrets_dir=password_file.parent,
        metrics=Metrics(influxdb["url"], influxdb["database"], _account(influxdb)),
        logs=Logs(elasticsearch["url"], elasticsearch["index"], _account(elasticsearch)),
        board=Board(board["url"], _account(board)),
        action_server=Server(server["url"], Path(server["token_file"]).read_text().strip()),
        slack_url=fields["slack"]["url"],
        nodes=tuple(Node(node["name"], node["address"], node["container"]) for node in fields["nodes"]),
    )


def until(seconds: float, true: Callable[[], bool]) -> float:
    """Seconds until it is true. Raises TimeoutError when it isn't in time."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(1)
    return time.monotonic() - began


def shake_hands(edge: str, context: ssl.SSLContext) -> ssl.SSLSocket:
    """An open TLS connection to an edge. Raises ssl.SSLError."""
    where = urlsplit(edge)
    raw = socket.create_connection((where.hostname, where.port or 443), timeout=5)
    try:
        return context.wrap_socket(raw, server_hostname=where.hostname)
    except BaseException:
        raw.close()
        raise
