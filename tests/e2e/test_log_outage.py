"""No line is lost and none is there twice, whatever on its way is away or dies.

The monitoring machine is away for E2E_LOG_AWAY seconds (60), under E2E_LOG_RATE requests a second (60).
"""

import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import pytest
import requests

from drills import lines
from drills.browser import Browser, NotSentError, Timeouts, UnansweredError
from drills.elastic import Elastic, ElasticError, ask
from drills.forum import Account, Visitor
from drills.lab import Lab, Node, until
from tests.e2e.test_logs import marker

Guest = Callable[..., Visitor]
Member = Callable[..., tuple[Visitor, Account]]

AWAY = float(os.environ.get("E2E_LOG_AWAY", "60"))
RATE = float(os.environ.get("E2E_LOG_RATE", "60"))
VISITORS = 6
#: Seconds of requests before the machine goes, and after it was told to come back.
AROUND = 10
#: Seconds until all lines are there, beside as many as the outage took.
PATIENCE = 240
SPOOL = "/var/lib/log_collector/spool"
KEEPER = "elasticsearch-keeper.service"


@pytest.fixture(scope="module")
def elastic(lab: Lab) -> Elastic:
    return Elastic(lab)


# The monitoring machine


@dataclass(frozen=True)
class Visit:
    """One request: what its browser called itself, when it began (time.time), and the seconds to its answer, if any."""

    mark: str
    began: float
    seconds: float | None


def visit(lab: Lab, path: str, word: str, stop: threading.Event) -> list[Visit]:
    """Ask for a page as a guest, over all edges in turn, with another mark each time, until told to stop."""
    browser = Browser(lab.forum_urls, lab.ca_file, Timeouts(connect=3, answer=30))
    # nginx keeps the page for guests who have been here before: the forum itself has little to do.
    browser.get("/")
    visits: list[Visit] = []
    due = time.monotonic()
    while not stop.wait(max(0, due - time.monotonic())):
        due += VISITORS / RATE
        mark, began = f"{word}-{len(visits)}", time.time()
        try:
            seconds = browser.get(path, headers={"User-Agent": mark}).seconds
        except (NotSentError, UnansweredError):
            visits.append(Visit(mark, began, None))
        else:
            visits.append(Visit(mark, began, seconds))
    browser.close()
    return visits


def stored(elastic: Elastic, word: str) -> dict[str, int]:
    """How often each mark that begins with a word is in a line of nginx; nothing while Elasticsearch doesn't answer."""
    query = f"event.dataset:nginx.access AND user_agent.original:{word}*"
    try:
        return elastic.counts(query, "user_agent.original", most=65000)
    except (ElasticError, requests.RequestException):
        return {}


def power(node: Node, verb: str) -> None:
    """Cut a machine's power (kill), or give it again (start), as the drills do."""
    subprocess.run(["docker", verb, node.container], check=True, capture_output=True)


def told(visits: list[Visit]) -> str:
    """How long answers took."""
    took = [1000 * visit.seconds for visit in visits if visit.seconds is not None]
    return (
        f"median {median(took):.0f} ms, 95 % {quantiles(took, n=20)[18]:.0f} ms, longest {max(took):.0f} ms"
    )


@pytest.fixture
def page(member: Member) -> str:
    """The path of a thread."""
    visitor, _ = member()
    thread = visitor.start_thread(3, "A thread that many read", "While nobody counts them.")
    return str(visitor.browser.get(f"/api/threads/{thread}/").json()["url"]["index"])


@pytest.fixture
def whole_monitor(lab: Lab) -> Iterator[Node]:
    """The monitoring machine, which works again afterwards."""
    yield lab.monitor
    power(lab.monitor, "start")
    units = "systemctl is-active elasticsearch influxdb log_collector log_parser action-server"
    until(180, lambda: set(lab.monitor.run(units).split()) == {"active"})


def test_every_request_is_there_once_after_the_monitoring_machine_was_away(
    lab: Lab,
    elastic: Elastic,
    page: str,
    whole_monitor: Node,
    artifacts: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    word, stop = marker(), threading.Event()
    with ThreadPoolExecutor(VISITORS) as pool:
        crowd = [pool.submit(visit, lab, page, f"{word}-{number}", stop) for number in range(VISITORS)]
        try:
            time.sleep(AROUND)
            power(whole_monitor, "kill")
            gone = time.time()
            time.sleep(AWAY)
            power(whole_monitor, "start")
            back = time.time()
            time.sleep(AROUND)
        finally:
            stop.set()
    visits = [visit for visitor in crowd for visit in visitor.result()]
    answered = {visit.mark for visit in visits if visit.seconds is not None}
    patience = time.time() + PATIENCE + AWAY
    while not answered <= (found := stored(elastic, word)).keys() and time.time() < patience:
        time.sleep(1)
    complete = time.time()
    # What comes a second time comes later.
    time.sleep(5)
    found = stored(elastic, word)
    figures = {
        "away": round(back - gone, 1),
        "sent": len(visits),
        "answered": len(answered),
        "stored": len(found),
        "missing": len(answered - found.keys()),
        "doubled": sum(count > 1 for count in found.values()),
        "without an answer, and stored": len(found.keys() - answered),
        "seconds from the machine's start until all were there": round(complete - back, 1),
        "answers before": told([visit for visit in visits if visit.began < gone]),
        "answers meanwhile": told([visit for visit in visits if gone <= visit.began < back]),
    }
    (artifacts / "log-outage.json").write_text(json.dumps(figures, indent=2) + "\n")
    with capsys.disabled():
        print("", *(f"{name}: {value}" for name, value in figures.items()), sep="\n")
    assert len(answered) > RATE * AWAY / 2, "that was no load"
    assert figures["missing"] == 0
    assert figures["doubled"] == 0
    # The forum never knew.
    assert len(answered) == len(visits)


# Elasticsearch


@pytest.fixture
def order(lab: Lab) -> Iterator[Callable[[str, bool], None]]:
    """Sets a block of all indices, as Elasticsearch itself does when its disk is full, or lifts it."""
    operator = Account("operator", (lab.secrets_dir / "elasticsearch_operator_password").read_text().strip())
    ordered = set()

    def block(name: str, value: bool) -> None:
        answer = ask(lab, f"{lab.logs.index}/_settings", operator, {f"index.blocks.{name}": value}, "PUT")
        assert answer.ok, answer.text
        ordered.add(name)

    yield block
    for name in ordered:
        block(name, False)


def processes(node: Node, *units: str) -> str:
    """The processes of some units, and how often systemd started them anew."""
    return node.run(f"systemctl show --property=MainPID,NRestarts {' '.join(units)}")


def kill(node: Node, unit: str) -> None:
    """Kill a unit's process, and wait for the next one."""
    before = processes(node, unit)
    node.run(f"systemctl kill --signal=KILL {unit}.service")
    until(30, lambda: processes(node, unit) != before)


@pytest.mark.parametrize("name", ["write", "read_only_allow_delete"])
def test_lines_wait_while_elasticsearch_takes_none_and_somebody_tells(
    name: str, lab: Lab, elastic: Elastic, guest: Guest, order: Callable[[str, bool], None]
) -> None:
    monitor, word = lab.monitor, marker()
    query = f'event.dataset:nginx.access AND url.path:"/{word}/"'
    before = processes(monitor, "log_parser", "log_collector", "elasticsearch")
    order(name, True)
    assert guest().browser.get(f"/{word}/").status == 404
    for _ in range(8):
        # There is room: Elasticsearch would lift this one by itself.
        order(name, True)
        time.sleep(1)
    assert elastic.count(query) == 0
    assert monitor.run(f"grep --files-with-matches --recursive {word} {SPOOL}").startswith(SPOOL)
    monitor.run(f"systemctl start {KEEPER}")
    assert monitor.run(f"systemctl is-failed {KEEPER}") == "failed\n"
    assert f"block={name}" in monitor.run(f"journalctl --unit {KEEPER} --since -1m --output cat")
    if name == "write":
        order(name, False)
    until(60, lambda: elastic.count(query) > 0)
    assert elastic.count(query) == 1
    assert processes(monitor, "log_parser", "log_collector", "elasticsearch") == before
    monitor.run(f"systemctl start {KEEPER}")
    assert monitor.run(f"systemctl is-failed {KEEPER}") == "inactive\n"


# A node's shipper, and the collector


def numbered(word: str, count: int, pause: float) -> str:
    """A script that writes so many lines, as the start of a Redis could have written them, with a pause behind each."""
    return f"for number in $(seq {count}); do echo start-redis: {word} $number; sleep {pause}; done"


def found_of(elastic: Elastic, task: str) -> Counter[str]:
    """How often each line of a task is there."""
    return Counter(line["message"] for line in elastic.lines(f"forum.task:{task}", "message", most=10000))


def all_there(elastic: Elastic, task: str, count: int) -> Counter[str]:
    """What is there of a task that has written so many lines, at the latest after a minute; a moment for doubles."""
    deadline = time.monotonic() + 60
    while len(found_of(elastic, task)) < count and time.monotonic() < deadline:
        time.sleep(1)
    time.sleep(3)
    return found_of(elastic, task)


@pytest.fixture
def slow(lab: Lab) -> Iterator[Node]:
    """A node whose shipper needs half a minute to start."""
    node, place = lab.swarm[-1], "/run/systemd/system/log_shipper.service.d"
    pause = "[Service]\\nExecStartPre=/bin/sleep 30\\n"
    node.run(f"mkdir -p {place}; printf '{pause}' >{place}/pause.conf; systemctl daemon-reload")
    yield node
    node.run(f"rm -r {place}; systemctl daemon-reload")


def test_containers_run_on_and_start_while_a_killed_shipper_is_away(elastic: Elastic, slow: Node) -> None:
    state = "systemctl show --value --property=SubState log_shipper.service"
    old, new, word = lines.new_task(), lines.new_task(), marker()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lines.write, slow, "redis-8", old, numbered(word, 800, 0.05))
        time.sleep(5)
        slow.run("systemctl kill --signal=KILL log_shipper.service")
        time.sleep(10)
        lines.write(slow, "redis-9", new, numbered(word, 100, 0.05))
        assert slow.run(state) == "start-pre\n", "the shipper was back too soon"
        running.result()
    until(60, lambda: slow.run(state) == "running\n")
    of_old, of_new = all_there(elastic, old, 800), all_there(elastic, new, 100)
    assert len(of_new) == 100
    # The one that it had in hand when it died.
    assert len(of_old) >= 799
    assert max(*of_old.values(), *of_new.values()) == 1


def test_a_killed_receiver_and_a_killed_parser_lose_and_double_nothing(lab: Lab, elastic: Elastic) -> None:
    task, monitor = lines.new_task(), lab.monitor
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lines.write, lab.swarm[0], "redis-8", task, numbered(marker(), 500, 0.02))
        for unit in ("log_collector", "log_parser"):
            time.sleep(4)
            kill(monitor, unit)
        running.result()
    found = all_there(elastic, task, 500)
    assert len(found) == 500
    assert max(found.values()) == 1
    until(30, lambda: monitor.run("systemctl is-active log_collector log_parser") == "active\nactive\n")
