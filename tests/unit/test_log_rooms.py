"""The ways of a log line: what services say about their log, and the keeper of the collector's spool."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest
from conftest import load_file
from stack import stack_fragment

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def keeper() -> ModuleType:
    return load_file(ROOT / "roles" / "log_collector" / "files" / "spool_keeper.py")


def spooled(spool: Path, name: str, ids: Sequence[str], age: float = 600) -> Path:
    """A file of the spool, as the receiver writes it: an empty line before each."""
    file = spool / f"{name}.json"
    file.write_text("".join(f"\n{json.dumps({'event.id': one, 'message': 'x'})}\n" for one in ids))
    os.utime(file, (NOW - age, NOW - age))
    return file


def having(*ids: str) -> Callable[[Sequence[str]], set[str]]:
    """An Elasticsearch that has some ids."""
    return lambda asked: set(asked) & set(ids)


def keep(keeper: ModuleType, spool: Path, known: Callable[[Sequence[str]], set[str]], *bounds: float) -> bool:
    """What the collector's keeper does; whether all is well."""
    collector = keeper.Spool(spool, "collector", "Elasticsearch")
    return bool(keeper.keep(collector, keeper.by_elasticsearch(known), *bounds))


def test_what_elasticsearch_has_goes(keeper: ModuleType, tmp_path: Path) -> None:
    had, waiting = spooled(tmp_path, "1", ["a", "b", "a"]), spooled(tmp_path, "2", ["c", "d"])
    assert keep(keeper, tmp_path, having("a", "b", "c"), 24, 10**6, NOW)
    assert not had.exists()
    assert waiting.exists()


def test_a_file_that_is_being_written_stays(keeper: ModuleType, tmp_path: Path) -> None:
    file = spooled(tmp_path, "1", ["a"], age=30)
    assert keep(keeper, tmp_path, having("a"), 24, 0, NOW)
    assert file.exists()


def test_elasticsearch_is_asked_in_parts(keeper: ModuleType, tmp_path: Path) -> None:
    asked: list[int] = []

    def known(ids: Sequence[str]) -> set[str]:
        asked.append(len(ids))
        return set(ids)

    file = spooled(tmp_path, "1", [str(number) for number in range(9000)])
    assert keep(keeper, tmp_path, known, 24, 10**9, NOW)
    assert asked == [4000, 4000, 1000]
    assert not file.exists()


def test_a_line_that_was_broken_off_holds_nothing_up(
    keeper: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = spooled(tmp_path, "1", ["a"])
    with file.open("a") as end:
        end.write('\n{"event.id": "b", "mess')
    os.utime(file, (NOW - 600, NOW - 600))
    assert keep(keeper, tmp_path, having("a"), 24, 10**6, NOW)
    assert not file.exists()
    assert "event=not_a_line" in capsys.readouterr().out


def test_nothing_goes_while_elasticsearch_is_away(keeper: ModuleType, tmp_path: Path) -> None:
    def away(_: Sequence[str]) -> set[str]:
        raise keeper.UnknownError("connection refused")

    file = spooled(tmp_path, "1", ["a"])
    assert not keep(keeper, tmp_path, away, 24, 10**6, NOW)
    assert file.exists()


@pytest.mark.parametrize(
    ("age", "hours", "size", "gone"),
    [(7200, 1, 10**6, ["1", "2"]), (600, 1, 10**6, []), (600, 1, 50, ["1"]), (600, 1, 0, ["1", "2"])],
)
def test_what_is_too_old_or_too_much_goes_and_is_told(
    keeper: ModuleType, tmp_path: Path, age: float, hours: float, size: int, gone: list[str]
) -> None:
    for name in ("1", "2"):
        spooled(tmp_path, name, [name], age=age)
    assert keep(keeper, tmp_path, having(), hours, size, NOW) is not bool(gone)
    told = list(tmp_path.glob("*-keeper.json"))
    assert sorted({"1", "2"} - {path.stem for path in tmp_path.glob("*.json")}) == gone
    assert len(told) == bool(gone)
    if told:
        line = json.loads(told[0].read_text())
        assert line["service.name"] == "log_collector"
        text = json.loads(line["message"])
        assert (text["event.dataset"], text["forum.lost"]) == ("collector", len(gone))


def test_services_log_to_the_shippers_socket_and_never_wait() -> None:
    own = {"image": "i", "logging": {"driver": "none"}}
    made = stack_fragment({"a": {"image": "i"}, "b": own}, {}, {}, {}, {}, log_socket="/run/x")["services"]
    options = made["a"]["logging"]["options"]
    assert made["a"]["logging"]["driver"] == "syslog"
    assert (options["syslog-address"], options["mode"]) == ("unixgram:///run/x", "non-blocking")
    assert made["b"]["logging"] == {"driver": "none"}
    assert "logging" not in stack_fragment({"a": {"image": "i"}}, {}, {}, {}, {})["services"]["a"]


@pytest.mark.parametrize(
    ("tag", "parts"),
    [
        ("forum_redis-0.1.0ibdepx8jqq8o3dzx3c9t2cga/0123456789ab", ("redis-0", "0ibdepx8jqq8o3dzx3c9t2cga")),
        ("forum_relay.x7k2.0ibdepx8jqq8o3dzx3c9t2cga/0123456789ab", ("relay", "0ibdepx8jqq8o3dzx3c9t2cga")),
        ("other_redis.1.0ibdepx8jqq8o3dzx3c9t2cga/0123456789ab", None),
        ("builder/0123456789ab", None),
    ],
)
def test_the_shipper_finds_service_and_task_in_the_tag(tag: str, parts: tuple[str, str] | None) -> None:
    text = (ROOT / "roles/log_shipper/templates/rsyslog.conf.j2").read_text()
    found = re.search(r'set swarm = "\^" ~ stack_name ~ "(.*)\\\\\$" %', text)
    assert found
    match = re.fullmatch("forum" + found[1], tag)
    assert (match and match.groups()[:2]) == parts
