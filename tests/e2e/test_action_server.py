"""The action server on the lab: what it refuses, and what it does when much, or something bad, happens at once."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from drills.action_server import ActionServer
from drills.lab import Lab, until
from tests.e2e.test_scaling import unscaled, wanted

GUEST = 206
UNIT, RECORDER = "action-server.service", "slack-recorder.service"

#: Posts bodies, one each for a line of the input, all at once; prints each answer's status. Engines call from there.
POST = """
import concurrent.futures, ssl, sys, urllib.error, urllib.request
url, token, *bodies = sys.stdin.read().splitlines()
trust = ssl._create_unverified_context()
def post(body):
    headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers), context=trust) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
with concurrent.futures.ThreadPoolExecutor(20) as pool:
    print(*pool.map(post, bodies))
"""


@pytest.fixture(scope="module")
def server(lab: Lab) -> ActionServer:
    return ActionServer(lab)


@pytest.fixture(scope="module")
def tell(lab: Lab) -> Callable[..., list[int]]:
    """Posts bodies as ElastAlert2 does, from where it does; their answers' status."""
    token = (lab.secrets_dir / "action_server_token_elastalert").read_text().strip()

    def post(*bodies: str, engine: str = "elastalert", by: str = token) -> list[int]:
        given = "\n".join([f"{lab.action_server.url}/events/{engine}", by, *bodies])
        return [int(word) for word in lab.monitor.run(f"python3 -c '{POST}'", given=given.encode()).split()]

    return post


Tell = Callable[..., list[int]]


def event(seconds_ago: float = 0, **changed: Any) -> str:
    """An event of slow answers, of which one Misago more is the action."""
    at = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat(timespec="milliseconds")
    told = {
        "level": "misago-get-time",
        "state": "firing",
        "time": at,
        "instance": {"test": "e2e"},
        "value": 11,
    }
    return json.dumps({**told, **changed})


def login(address: str) -> str:
    return event(level="forum-wrong-logins", instance={"source.ip": address}, value=8)


#: What is sent, made when it is sent, and the status of the answer.
REFUSED: dict[str, tuple[Callable[[], str], int]] = {
    "no JSON": (lambda: "{", 400),
    "half": (lambda: '{"level": "misago-get-time"}', 400),
    "another state": (lambda: event(state="bad"), 400),
    "unknown": (lambda: event(level="none"), 404),
    "stale": (lambda: event(600), 409),
    "ahead": (lambda: event(-600), 409),
    "large": (lambda: event(instance={"x": "y" * 20000}), 413),
    "command": (lambda: login("1.2.3.4; reboot"), 422),
    "all": (lambda: login("0.0.0.0/0"), 422),
    "name": (lambda: login("localhost"), 422),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_event_is_refused_and_nothing_is_done(name: str, server: ActionServer, tell: Tell) -> None:
    began, (body, status) = time.time(), REFUSED[name]
    assert tell(body()) == [status]
    assert server.actions("misago", began) == []


def test_only_an_engine_with_its_own_token_is_heard(server: ActionServer, tell: Tell) -> None:
    assert tell(event(), by="wrong") == [401]
    assert tell(event(), engine="watcher") == [403]
    # The operator's token is for other things, and this machine is none that engines call from.
    assert server.call("POST", "/events/elastalert", json.loads(event())).status_code == 403


def test_an_own_address_is_never_blocked(lab: Lab, server: ActionServer, tell: Tell) -> None:
    own, began = lab.swarm[0].address, time.time()
    assert tell(login(own)) == [202]
    until(30, lambda: [each["state"] for each in server.actions(own, began)] == ["refused"])
    assert (
        "own" in server.actions(own, began)[0]["reason"] or "allow" in server.actions(own, began)[0]["reason"]
    )


@pytest.fixture
def three(lab: Lab) -> Iterator[None]:
    """Misago has three replicas, of which nobody knows that they were scaled; so it is afterwards."""
    unscaled(lab, 3)
    yield
    unscaled(lab, 3)


@pytest.mark.usefixtures("three")
def test_of_two_hundred_alarms_at_once_comes_one_change(lab: Lab, server: ActionServer, tell: Tell) -> None:
    began = time.time()
    instances = [{"test": f"e2e-{began}-{number}"} for number in range(200)]
    bodies = [event(instance=instance) for instance in instances]
    assert set(tell(*bodies)) == {202}
    # The same again, as after an answer that was lost.
    assert set(tell(*bodies)) == {200}
    until(60, lambda: any(each["state"] == "done" for each in server.actions("misago", began)))
    done = [each for each in server.actions("misago", began) if each["attempts"]]
    assert len(done) == 1
    assert wanted(lab) == 4
    # Left open, they would be over some time later, and push what other tests look for off the board.
    assert set(tell(*(event(instance=instance, state="recovered") for instance in instances))) == {202}
    until(30, lambda: not [alarm for alarm in server.alarms("misago-get-time") if alarm["closed"] is None])


@pytest.fixture
def guest(server: ActionServer, clients: dict[int, str]) -> Iterator[str]:
    """An address that is let in afterwards."""
    yield clients[GUEST]
    assert server.call("POST", "/allow", {"address": clients[GUEST]}).status_code == 202


def test_what_was_being_done_when_it_was_killed_is_done(lab: Lab, server: ActionServer, guest: str) -> None:
    began = time.time()
    asked = server.call("POST", "/block", {"address": guest, "seconds": 120, "reason": "a test"})
    assert asked.status_code == 202
    while server.actions(guest, began)[0]["state"] != "running":
        assert time.time() - began < 10
    lab.monitor.run(f"systemctl kill --signal=KILL {UNIT}")
    until(60, lambda: lab.monitor.run(f"systemctl is-active {UNIT}") == "active\n")
    until(60, lambda: [each["state"] for each in server.actions(guest, began)] == ["done"])
    show = "nft list set inet forum_blocklist ipv4"
    assert [guest in node.run(show) for node in lab.swarm] == [True] * len(lab.swarm)


def test_slack_s_absence_delays_nothing_else(lab: Lab, server: ActionServer, guest: str) -> None:
    began = time.time()
    lab.monitor.run(f"systemctl stop {RECORDER}")
    try:
        server.call("POST", "/block", {"address": guest, "seconds": 60, "reason": "a test"})
        until(20, lambda: [each["state"] for each in server.actions(guest, began)] == ["done"])
        # It has been tried in vain.
        time.sleep(3)
    finally:
        lab.monitor.run(f"systemctl start {RECORDER}")
    until(30, lambda: lab.monitor.run(f"curl --silent --insecure {lab.slack_url}").startswith("["))
    until(60, lambda: any(text.startswith(f"✔ *block {guest}*") for text in server.told(began)))
