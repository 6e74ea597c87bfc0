"""Where lines wait: before a shipper that is away, and before an Elasticsearch whose disk is full."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from drills import lines
from drills.elastic import Elastic, ask
from drills.forum import Account, Visitor
from drills.lab import Lab, Node, until
from tests.e2e.test_logs import marker

SPOOL = "/var/lib/log_collector/spool"
KEEPER = "elasticsearch-keeper.service"
UNITS = "log_collector log_parser elasticsearch"
#: What Elasticsearch sets when its disk is full and lifts when there is room again, and what only an operator lifts.
FULL, WRITE = "index.blocks.read_only_allow_delete", "index.blocks.write"


@pytest.fixture(scope="module")
def elastic(lab: Lab) -> Elastic:
    return Elastic(lab)


@pytest.fixture
def block(lab: Lab, log_operator: Account) -> Iterator[Callable[[Mapping[str, bool | None]], None]]:
    """Sets blocks of all indices of lines, and lifts them where it is None."""

    def settings(told: Mapping[str, bool | None]) -> None:
        answer = ask(lab, f"{lab.logs.index}/_settings", log_operator, told, "PUT")
        assert answer.ok, answer.text

    yield settings
    settings({WRITE: None})


def test_lines_wait_while_the_disk_is_full_somebody_tells_and_it_is_over_by_itself(
    lab: Lab,
    elastic: Elastic,
    guest: Callable[..., Visitor],
    block: Callable[[Mapping[str, bool | None]], None],
) -> None:
    monitor, word, began = lab.monitor, marker(), int(time.time())
    processes = f"systemctl show --property=MainPID,NRestarts {UNITS}"
    query, before = f'event.dataset:nginx.access AND url.path:"/{word}/"', monitor.run(processes)
    # Since there is room, Elasticsearch would lift the one within seconds.
    block({FULL: True, WRITE: True})
    assert guest().browser.get(f"/{word}/").status == 404
    time.sleep(8)
    assert elastic.count(query) == 0
    assert monitor.run(f"grep --files-with-matches --recursive {word} {SPOOL}").startswith(SPOOL)

    def told() -> bool:
        block({FULL: True})
        monitor.run(f"systemctl start {KEEPER}")
        lines = monitor.run(f"journalctl --unit {KEEPER} --since @{began} --output cat").splitlines()
        return any("event=index-blocked" in line and "block=read_only_allow_delete" in line for line in lines)

    # It may be lifted before the keeper looks.
    until(30, told)
    assert monitor.run(f"systemctl is-failed {KEEPER}") == "failed\n"
    block({WRITE: None})
    until(60, lambda: elastic.count(query) > 0)
    assert elastic.count(query) == 1
    assert monitor.run(processes) == before
    monitor.run(f"systemctl start {KEEPER}")
    assert monitor.run(f"systemctl is-failed {KEEPER}") == "inactive\n"


def numbered(word: str, count: int) -> str:
    """A script that writes so many lines, twenty a second, as the start of a Redis could have written them."""
    return f"for number in $(seq {count}); do echo start-redis: {word} $number; sleep 0.05; done"


def all_there(elastic: Elastic, task: str, count: int) -> Counter[str]:
    """How often each line of a task is there, once there are so many or after a minute, and a moment for doubles."""

    def found() -> Counter[str]:
        told = elastic.lines(f"forum.task:{task}", "message", most=10000)
        return Counter(line["message"] for line in told)

    deadline = time.monotonic() + 60
    while len(found()) < count and time.monotonic() < deadline:
        time.sleep(1)
    time.sleep(3)
    return found()


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
        running = pool.submit(lines.write, slow, "redis-8", old, numbered(word, 800))
        time.sleep(5)
        slow.run("systemctl kill --signal=KILL log_shipper.service")
        time.sleep(10)
        lines.write(slow, "redis-9", new, numbered(word, 100))
        assert slow.run(state) == "start-pre\n", "the shipper was back too soon"
        running.result()
    until(60, lambda: slow.run(state) == "running\n")
    of_old, of_new = all_there(elastic, old, 800), all_there(elastic, new, 100)
    assert len(of_new) == 100
    # The one that it had in hand when it died.
    assert len(of_old) >= 799
    assert max(*of_old.values(), *of_new.values()) == 1
