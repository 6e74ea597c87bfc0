"""The blocklist in a real packet filter: two network namespaces, a client in the one and a server in the other."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NFT = shutil.which("nft") or ""
NODE, CLIENT = f"blocklist-{os.getpid()}-n", f"blocklist-{os.getpid()}-c"
SERVER4, SERVER6 = "198.18.250.1", "fd00:250::1"
ONE, OTHER, SIX = "198.18.250.2", "198.18.250.3", "fd00:250::2"

PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
import forum_blocklist
forum_blocklist.SETTINGS, forum_blocklist.LIST = Path(sys.argv[2]), Path(sys.argv[3])
forum_blocklist.NFT = sys.argv[4]
sys.argv[1:] = sys.argv[5:]
sys.exit(forum_blocklist.main())
"""
# Answers each line with itself.
ECHO = """
import socketserver, socket
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
class Server(socketserver.ThreadingTCPServer):
    address_family, daemon_threads = socket.AF_INET6, True
Server(("::", 7), Handler).serve_forever()
"""
# Connects, and for each line of its input says whether the server answers one within a second.
TALK = """
import socket, sys
try:
    talk = socket.create_connection((sys.argv[2], 7), 1, (sys.argv[1], 0))
except OSError:
    print("refused", flush=True)
    sys.exit()
print("connected", flush=True)
for line in sys.stdin:
    try:
        talk.send(b"x\\n")
        print("answered" if talk.recv(10) else "closed", flush=True)
    except OSError:
        print("silent", flush=True)
"""


def namespaces_work() -> bool:
    """Whether this user may make one, and the packet filter works in it."""
    if not NFT or os.geteuid() != 0 or not shutil.which("ip"):
        return False
    tried = subprocess.run(["unshare", "--net", NFT, "list", "ruleset"], capture_output=True, check=False)
    return tried.returncode == 0


pytestmark = pytest.mark.skipif(
    not namespaces_work(),
    reason="needs root, nft and network namespaces: molecule/ip_blocklist tries the same",
)


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


class Talk:
    """A connection from an address of the client to the server."""

    def __init__(self, source: str) -> None:
        server = SERVER6 if ":" in source else SERVER4
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", CLIENT, sys.executable, "-c", TALK, source, server],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.began = self.heard()

    def heard(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def __call__(self) -> str:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.heard()

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate()


def reaches(source: str) -> bool:
    """Whether a new connection from this address gets through."""
    talk = Talk(source)
    talk.close()
    return talk.began == "connected"


@pytest.fixture(scope="module")
def node() -> Iterator[None]:
    """A node with an echo server, and a client with three addresses."""
    server = None
    try:
        for name in (NODE, CLIENT):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "link", "add", "v0", "netns", NODE, "type", "veth", "peer", "name", "v1", "netns", CLIENT)
        for name, device, addresses in (
            (NODE, "v0", (SERVER4, SERVER6)),
            (CLIENT, "v1", (ONE, OTHER, SIX)),
        ):
            for address in addresses:
                six = ":" in address
                words = ("address", "add", f"{address}/{64 if six else 24}", "dev", device)
                run("ip", "-n", name, *words, *(("nodad",) if six else ()))
            run("ip", "-n", name, "link", "set", device, "up")
        server = subprocess.Popen(["ip", "netns", "exec", NODE, sys.executable, "-c", ECHO])
        end = time.monotonic() + 10
        while not reaches(ONE):
            assert time.monotonic() < end, "the server doesn't answer"
            time.sleep(0.1)
        yield
    finally:
        if server:
            server.kill()
            server.wait()
        for name in (NODE, CLIENT):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


class Program:
    """The program on the node, with a list of its own."""

    def __init__(self, folder: Path) -> None:
        self.settings, self.list = folder / "settings.json", folder / "list.json"
        settings = {
            "seconds": 900,
            "factor": 4,
            "maximum_seconds": 604800,
            "memory_days": 30,
            "allowed": [],
        }
        self.settings.write_text(json.dumps(settings))

    def __call__(self, *arguments: str, given: str = "") -> dict[str, Any]:
        files = (ROOT / "roles/ip_blocklist/files", self.settings, self.list, NFT)
        done = subprocess.run(
            ["ip", "netns", "exec", NODE, sys.executable, "-ISc", PROGRAM, *map(str, files), *arguments],
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(done.stdout))


@pytest.fixture
def program(node: None, tmp_path: Path) -> Program:
    made = Program(tmp_path)
    assert made("restore") == {"blocked": 0}
    return made


@pytest.fixture
def talks() -> Iterator[dict[str, Talk]]:
    """An open connection from each address of the client."""
    found = {source: Talk(source) for source in (ONE, OTHER, SIX)}
    yield found
    for talk in found.values():
        talk.close()


@pytest.mark.parametrize("blocked", [ONE, SIX])
def test_a_blocked_address_s_connections_die_and_the_others_go_on(
    program: Program, talks: dict[str, Talk], blocked: str
) -> None:
    assert {source: talk() for source, talk in talks.items()} == dict.fromkeys(talks, "answered")
    program("block", blocked)
    assert {source: talk() for source, talk in talks.items() if source != blocked} == dict.fromkeys(
        talks.keys() - {blocked}, "answered"
    )
    assert talks[blocked]() == "silent"
    assert not reaches(blocked)
    name = "ipv6" if ":" in blocked else "ipv4"
    assert program("list")["dropped"][name] > 0


def test_a_block_ends_by_itself(program: Program) -> None:
    program("block", ONE, "--seconds", "2")
    assert not reaches(ONE)
    time.sleep(1.2)
    assert reaches(ONE)


def test_another_length_takes_the_place_of_the_first_one(program: Program) -> None:
    program("block", ONE)
    program("block", ONE, "--seconds", "1")
    time.sleep(1.1)
    assert reaches(ONE)
    program("block", ONE, "--seconds", "1")
    program("block", ONE, "--seconds", "60")
    time.sleep(1.1)
    assert not reaches(ONE)


def test_an_allowed_address_gets_in_at_once(program: Program) -> None:
    program("block", ONE)
    program("allow", ONE)
    assert reaches(ONE)


@pytest.mark.parametrize("again", [("restore",), ("block", OTHER)])
def test_a_kernel_that_has_lost_the_table_gets_it_again(program: Program, again: tuple[str, ...]) -> None:
    program("block", ONE)
    run("ip", "netns", "exec", NODE, NFT, "flush", "ruleset")
    assert reaches(ONE)
    program(*again)
    assert not reaches(ONE)


def test_a_list_that_is_merged_reaches_the_kernel(program: Program, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    program("block", ONE)
    told = json.dumps(program("list"))
    other = Program(tmp_path / "other")
    other("restore")
    assert reaches(ONE)
    assert other("merge", given=told)["learned"] == [ONE]
    assert not reaches(ONE)


@pytest.mark.parametrize("own", [SERVER4, SERVER6])
def test_the_node_s_own_address_is_refused(program: Program, own: str) -> None:
    assert "an address of this node" in program("block", own)["refused"]


def test_blocks_at_the_same_time_lose_none(program: Program) -> None:
    files = (ROOT / "roles/ip_blocklist/files", program.settings, program.list, NFT)
    command = ["ip", "netns", "exec", NODE, sys.executable, "-ISc", PROGRAM, *map(str, files), "block"]
    started = [
        subprocess.Popen([*command, f"192.0.2.{number}"], stdout=subprocess.DEVNULL)
        for number in range(1, 21)
    ]
    assert [process.wait() for process in started] == [0] * 20
    assert len(program("list")["entries"]) == 20
    shown = subprocess.run(
        ["ip", "netns", "exec", NODE, NFT, "list", "set", "inet", "forum_blocklist", "ipv4"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert shown.stdout.count("timeout") == 21
