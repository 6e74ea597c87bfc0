"""The whole way of alarms: something happens, an engine sees it, the action server acts and tells, and it is over."""

import http.client
import os
import secrets
import ssl
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from drills import conditions
from drills.action_server import ActionServer
from drills.browser import Browser
from drills.forum import Visitor
from drills.lab import ROOT, Lab, until
from tests.e2e.test_board import SCREENS, assert_it_fits
from tests.e2e.test_scaling import inspect, running, unscaled, wanted

ATTACKER, SEVEN, SLOW, PAIR, GUEST = 201, 202, 203, (204, 205), 206
#: Seconds that nobody is blocked within who shouldn't be: longer than any block takes.
PATIENCE = 15


@pytest.fixture(scope="module")
def server(lab: Lab) -> ActionServer:
    return ActionServer(lab)


@pytest.fixture(scope="module")
def note(artifacts: Path) -> Callable[[str], None]:
    """Writes a figure down."""

    def write(text: str) -> None:
        with (artifacts / "alarms.txt").open("a") as report:
            report.write(f"{text}\n")

    return write


# Each once; whether it is over is looked at in the end, meanwhile the other tests go on.


@pytest.fixture(scope="module")
def fired(lab: Lab, server: ActionServer, note: Callable[[str], None]) -> Iterator[dict[str, dict[str, Any]]]:
    """For each level its alarm that was made to fire; wrong logins have a test of their own."""
    wanted = conditions.levels().keys() - {"forum-wrong-logins"}
    found: dict[str, dict[str, Any]] = {}
    with conditions.silence(lab):
        began = conditions.make_all(lab)
        while len(found) < len(wanted) and time.time() < began + 150:
            time.sleep(2)
            for level in sorted(wanted - found.keys()):
                # On a lab without visitors every nginx has few clients, long before this.
                if told := server.alarms(level, 0 if level == "nginx-idle" else began):
                    found[level] = told[0]
    for level, alarm in found.items():
        note(f"{level}: open after {alarm['opened'] - began:.1f} s")
    yield found
    # Slow answers brought a Misago more.
    unscaled(lab, 3)


@pytest.mark.parametrize("level", sorted(conditions.levels().keys() - {"forum-wrong-logins"}))
def test_every_alarm_fires(level: str, server: ActionServer, fired: dict[str, dict[str, Any]]) -> None:
    assert level in fired
    name = conditions.levels()[level]["indicator"]["name"]
    until(60, lambda: any(f": {name}" in text for text in server.told(fired[level]["opened"])))


def test_what_the_swarm_does_not_want_is_not_missed(
    server: ActionServer, fired: dict[str, dict[str, Any]]
) -> None:
    assert fired
    missed = [
        alarm["instance"] for level in ("silent-components", "silent-nodes") for alarm in server.alarms(level)
    ]
    assert not [instance for instance in missed if conditions.MADE_UP in str(instance)]


def log_in_wrongly(lab: Lab, address: str, times: int, pause: float = 0) -> float:
    """Try passwords from an address, over all edges in turn. Returns when the last one was refused."""
    visitor = Visitor(Browser(lab.forum_urls, lab.ca_file, source=address))
    visitor.arrive()
    for number in range(times):
        time.sleep(pause if number else 0)
        tried = {"username": f"nobody{address.rpartition('.')[2]}", "password": secrets.token_urlsafe(9)}
        assert visitor.browser.post("/api/auth/", tried).status == 400
    visitor.browser.close()
    return time.time()


def refused_at(edge: str, address: str, ca_file: str, until_time: float) -> float:
    """When an address that keeps asking got no answer any more from an edge. Raises TimeoutError."""
    connection = http.client.HTTPSConnection(
        str(urlsplit(edge).hostname),
        context=ssl.create_default_context(cafile=ca_file),
        timeout=3,
        source_address=(address, 0),
    )
    try:
        while time.time() < until_time:
            asked = time.time()
            try:
                connection.request("GET", "/static/missing.css")
                connection.getresponse().read()
            except OSError:
                return asked
            time.sleep(0.05)
    finally:
        connection.close()
    raise TimeoutError(f"{edge} still answers {address}")


def gets_in(lab: Lab, address: str) -> bool:
    """Whether every edge answers an address."""

    def answers(edge: str) -> bool:
        try:
            refused_at(edge, address, lab.ca_file, time.time() + 0.2)
        except TimeoutError:
            return True
        return False

    with ThreadPoolExecutor(3) as pool:
        return all(pool.map(answers, lab.forum_urls))


def allow(lab: Lab, server: ActionServer, address: str) -> None:
    """Let an address in again, by the action server."""
    assert server.call("POST", "/allow", {"address": address}).status_code == 202
    until(30, lambda: gets_in(lab, address))


@pytest.fixture
def attacker(lab: Lab, server: ActionServer, clients: dict[int, str]) -> str:
    """An address that may come in, whatever was before."""
    allow(lab, server, clients[ATTACKER])
    return clients[ATTACKER]


def done(server: ActionServer, address: str, since: float) -> Callable[[], bool]:
    """Tells whether one thing was done about an address, and nothing else."""
    return lambda: [each["state"] for each in server.actions(address, since)] == ["done"]


@pytest.fixture(scope="module")
def harmless(lab: Lab, clients: dict[int, str]) -> Iterator[tuple[float, dict[str, Future[float]]]]:
    """Too few wrong logins, meanwhile: seven; eight in more than half a minute; eight by two. Since when, by whom."""
    tries = {clients[SEVEN]: (7, 0.0), clients[SLOW]: (8, 5.5), **{clients[last]: (4, 0.0) for last in PAIR}}
    with ThreadPoolExecutor(len(tries)) as pool:
        yield (
            time.time(),
            {address: pool.submit(log_in_wrongly, lab, address, *each) for address, each in tries.items()},
        )


@pytest.mark.usefixtures("harmless")
def test_the_eighth_wrong_login_from_an_address_blocks_it_at_every_edge(
    lab: Lab, server: ActionServer, attacker: str, note: Callable[[str], None]
) -> None:
    address, took, first = attacker, [], time.time()
    for _ in range(5):
        began = time.time()
        with ThreadPoolExecutor(3) as pool:
            watched = [
                pool.submit(refused_at, edge, address, lab.ca_file, began + 60) for edge in lab.forum_urls
            ]
            eighth = log_in_wrongly(lab, address, 8)
            took.append(max(future.result() for future in watched) - eighth)
        until(10, done(server, address, began))
        assert "wrong logins" in server.blocked()[address]["reason"]
        allow(lab, server, address)
    note(f"from the 8th wrong login to refused at every edge: {', '.join(f'{each:.1f}' for each in took)} s")
    assert statistics.median(took) <= 15
    told = "\n".join(server.told(first))
    # One alarm that went on, and five blocks.
    assert told.count(f"wrong logins ({address})*\n8 attempts") == 1
    until(30, lambda: "\n".join(server.told(first)).count(f"✔ *block {address}*") == 5)


def test_nobody_is_blocked_for_less(
    lab: Lab, server: ActionServer, harmless: tuple[float, dict[str, Future[float]]]
) -> None:
    began, tries = harmless
    last = max(future.result() for future in tries.values())
    time.sleep(max(0, last + PATIENCE - time.time()))
    for address in tries:
        assert server.actions(address, began) == []
        assert gets_in(lab, address)


def test_a_block_ends_by_itself(lab: Lab, server: ActionServer, clients: dict[int, str]) -> None:
    address = clients[GUEST]
    asked = server.call("POST", "/block", {"address": address, "seconds": 15, "reason": "a test"})
    assert asked.status_code == 202
    until(15, lambda: not gets_in(lab, address))
    assert 0 < server.blocked()[address]["seconds_left"] <= 15
    until(30, lambda: gets_in(lab, address))
    assert address not in server.blocked()
    allow(lab, server, address)


def test_the_board_shows_alarms_actions_and_blocks_and_lets_in_again(
    lab: Lab,
    server: ActionServer,
    attacker: str,
    fired: dict[str, dict[str, Any]],
    board: Chrome,
    artifacts: Path,
) -> None:
    address, began = attacker, time.time()
    log_in_wrongly(lab, address, 8)
    until(30, done(server, address, began))
    shown = {
        "/alarms": [str(fired["redis-time"]["instance"]["host"]), address],
        "/actions": [f"block {address}", "misago +1", "refused"],
        "/blocked": [address, "wrong logins"],
        "/swarm": ["misago"],
    }
    for page, words in shown.items():
        for screen, size in SCREENS.items():
            board.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            board.get(lab.board.url + page)
            board.save_screenshot(str(artifacts / f"board-acts-{page[1:]}-{screen}.png"))
            text = board.find_element(By.TAG_NAME, "main").text
            assert [word for word in words if word not in text] == []
            assert_it_fits(board, screen)
    board.get(lab.board.url + "/blocked")
    board.find_element(By.XPATH, f"//input[@value='{address}']/../button").click()
    until(30, lambda: gets_in(lab, address))


# Scaling

SERVICE = "forum_nginx"
TAGS = "kapacitor,elastalert,action_server"
#: Connections held at each nginx, more than the threshold.
CROWD = 40
#: Seconds between two steps, meanwhile.
COOLDOWN = 30


@pytest.fixture
def lowered(lab: Lab, missing: Callable[[], list[str]], tmp_path: Path) -> Iterator[None]:
    """Two nginx, of which one is allowed to be away, and levels that a few connections cross."""
    levels = yaml.safe_load((ROOT / "inventories/shared/sla.yml").read_text())["service_levels"]
    for level in levels:
        if level["id"] == "nginx-clients":
            level["alarm"] |= {"threshold": 30, "recovery": 20}
        if level["id"] == "nginx-idle":
            level["indicator"]["lookback_window"] = "10s"
            level["alarm"] |= {"threshold": 15, "recovery": 20}
    given = tmp_path / "lowered.yml"
    given.write_text(yaml.safe_dump({"service_levels": levels, "swarm_scaler_cooldown": COOLDOWN}))
    shorten = f'sed -i.own \'s/"cooldown": [0-9]*/"cooldown": {COOLDOWN}/\' /etc/swarm-scaler.json'
    assert not missing()
    deploy("-e", f"@{given}")
    for node in lab.swarm:
        node.run(shorten)
    unscaled(lab, 2, SERVICE, scale_min="2")
    yield
    unscaled(lab, 3, SERVICE, scale_min="3")
    for node in lab.swarm:
        node.run("mv /etc/swarm-scaler.json.own /etc/swarm-scaler.json")
    deploy()
    until(120, lambda: not missing())


def deploy(*options: str) -> None:
    """Bring up again what alarms are made of, and what decides about them."""
    run = subprocess.run(
        ["ansible-playbook", "playbooks/monitoring.yml", "--skip-tags", "always", "--tags", TAGS, *options],
        cwd=ROOT, env=os.environ | {"ANSIBLE_STRATEGY": "mitogen_linear"},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:]


class Crowd:
    """Clients that keep connections open to some edges, each opened anew when it is closed."""

    def __init__(self, edges: list[str], ca_file: str) -> None:
        self._browsers = [Browser([edge], ca_file) for edge in edges for _ in range(CROWD)]
        self._pool = ThreadPoolExecutor(16)

    def ask(self) -> None:
        """Every client asks once."""
        list(self._pool.map(lambda browser: browser.get("/static/missing.css"), self._browsers))

    def leave(self) -> None:
        """Everybody goes."""
        for browser in self._browsers:
            browser.close()
        self._pool.shutdown()


@pytest.mark.usefixtures("lowered")
def test_more_clients_bring_an_nginx_more_and_fewer_take_it_away(
    lab: Lab, server: ActionServer, note: Callable[[str], None]
) -> None:
    until(60, lambda: len(running(lab, SERVICE)) == 2)
    began = time.time()
    crowd = Crowd(list(lab.forum_urls), lab.ca_file)
    try:
        crowd.ask()
        crossed = time.time()
        while len(running(lab, SERVICE)) < 3:
            assert time.time() - crossed < 120
            crowd.ask()
            time.sleep(0.5)
        note(f"from crossing the threshold to the new nginx serving: {time.time() - crossed:.1f} s")
        assert wanted(lab, SERVICE) == 3
        # Both nginx have too many; the second one's alarm finds that something has just been done.
        until(30, lambda: len(ups(server, began)) > 1)
    finally:
        crowd.leave()
    first, *refused = ups(server, began)
    assert (first["state"], first["reason"]) == ("done", "2 → 3")
    assert refused[0]["state"] == "refused"
    assert "is under way" in refused[0]["reason"] or f"one change in {COOLDOWN} s" in refused[0]["reason"]
    until(30, lambda: any(text.startswith("✔ *nginx +1*") for text in server.told(began)))
    told = server.told(began)
    assert any("clients per instance" in text and "To do: nginx +1" in text for text in told)
    # And down again, never below the bound.
    until(180, lambda: wanted(lab, SERVICE) == 2)
    until(30, lambda: any(text.startswith("✔ *nginx -1*") for text in server.told(began)))
    assert inspect(lab, SERVICE)["Spec"]["Labels"]["forum.scale.by"] == "-1"


def ups(server: ActionServer, since: float) -> list[dict[str, Any]]:
    """What was done and refused of nginx' steps up."""
    return [each for each in server.actions("nginx", since) if each["arguments"]["by"] == 1]


@pytest.mark.parametrize("level", sorted(conditions.levels().keys() - {"forum-wrong-logins", "nginx-idle"}))
def test_every_alarm_is_over(
    level: str, server: ActionServer, fired: dict[str, dict[str, Any]], note: Callable[[str], None]
) -> None:
    name, opened = conditions.levels()[level]["indicator"]["name"], fired[level]["opened"]

    def closed() -> float | None:
        found = next(alarm for alarm in server.alarms(level) if alarm["id"] == fired[level]["id"])
        return found["closed"]  # type: ignore[no-any-return]  # JSON says what it is

    until(max(1, opened + 420 - time.time()), lambda: closed() is not None)
    note(f"{level}: over after {(closed() or 0) - opened:.0f} s")
    until(60, lambda: any(f": {name}" in text and "is over after" in text for text in server.told(opened)))
