"""What the forum's programs are made of: patience, environment, static files, release and maintenance."""

from __future__ import annotations

import datetime
import importlib
import json
import os
import sys
import threading
import zoneinfo
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# The package itself imports Celery, which is in the image only: its modules are loaded around it.
package = sys.modules.setdefault("forum", ModuleType("forum"))
package.__path__ = [str(Path(__file__).parents[2] / "roles/misago/files/image/forum")]
environment = importlib.import_module("forum.environment")
maintenance = importlib.import_module("forum.maintenance")
patience = importlib.import_module("forum.patience")
publish = importlib.import_module("forum.publish")
release = importlib.import_module("forum.release")

DAY = 86400.0


class Clock:
    """A clock that only moves when told to, or slept on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class TestPatience:
    """patience.py."""

    def test_it_lasts_from_the_first_failure(self) -> None:
        clock = Clock()
        subject = patience.Patience(4, clock)
        assert subject.failed()
        clock.now += 3.9
        assert subject.failed()
        clock.now += 0.2
        assert not subject.failed()

    def test_a_long_outage_makes_nobody_wait(self) -> None:
        clock = Clock()
        subject = patience.Patience(4, clock)
        subject.failed()
        clock.now += 3600
        assert not subject.failed()

    def test_a_success_gives_it_back(self) -> None:
        clock = Clock()
        subject = patience.Patience(4, clock)
        subject.failed()
        clock.now += 3600
        subject.succeeded()
        assert subject.failed()

    def test_every_address_comes_first_at_times(self) -> None:
        subject = patience.Addresses()
        first = Counter(
            subject.order(["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.2"])[0] for _ in range(300)
        )
        assert len(first) == 3
        assert min(first.values()) > 50

    def test_who_failed_lately_comes_last(self) -> None:
        clock = Clock()
        subject = patience.Addresses(10, clock)
        subject.failed("10.0.0.2")
        clock.now += 1
        subject.failed("10.0.0.3")
        names = ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
        assert all(subject.order(names) == ["10.0.0.4", "10.0.0.2", "10.0.0.3"] for _ in range(20))
        subject.succeeded("10.0.0.3")
        assert all(subject.order(names)[2] == "10.0.0.2" for _ in range(20))
        clock.now += 10
        assert {subject.order(names)[2] for _ in range(100)} == set(names)

    def test_pauses_grow_and_stay_short(self) -> None:
        assert 0.025 <= patience.pause(1) <= 0.05
        assert all(0.2 <= patience.pause(attempt) <= 0.4 for attempt in (4, 10, 300))


class TestEnvironment:
    """environment.py."""

    def read(self, **variables: str) -> Any:
        return environment.Environment("MISAGO_", {f"MISAGO_{k}": v for k, v in variables.items()})

    def test_values_have_types(self) -> None:
        subject = self.read(A="text", B="2.5", C="7", D="Yes", E=" a, b ,,c ", F="0")
        assert subject.text("A") == "text"
        assert subject.number("B") == 2.5
        assert subject.integer("C") == 7
        assert subject.flag("D") is True
        assert subject.flag("F") is False
        assert subject.items("E") == ["a", "b", "c"]

    def test_empty_is_absent(self) -> None:
        subject = self.read(A="")
        assert subject.text("A", "default") == "default"
        assert subject.number("A", 4) == 4
        assert subject.flag("A", True) is True
        assert subject.optional("A") == ""
        assert subject.items("A") == []

    def test_a_missing_variable_is_named(self) -> None:
        with pytest.raises(environment.EnvironmentMistake, match=r"^MISAGO_SECRET_KEY is not set$"):
            self.read().text("SECRET_KEY")

    @pytest.mark.parametrize("reader", ["number", "integer", "flag"])
    def test_a_malformed_value_is_not_shown(self, reader: str) -> None:
        with pytest.raises(environment.EnvironmentMistake) as mistake:
            getattr(self.read(A="hunter2"), reader)("A")
        assert "MISAGO_A" in str(mistake.value)
        assert "hunter2" not in str(mistake.value)


class TestPublish:
    """publish.py."""

    @pytest.fixture
    def folders(self, tmp_path: Path) -> tuple[Path, Path]:
        source, target = tmp_path / "source", tmp_path / "target"
        for folder in (source / "misago/js", target):
            folder.mkdir(parents=True)
        (source / "misago/js/misago.js").write_text("plain")
        (source / "misago/js/misago.0123456789ab.js").write_text("hashed")
        (source / "misago/js/misago.0123456789ab.js.gz").write_text("packed")
        return source, target

    @pytest.mark.parametrize(
        ("name", "hashed"),
        [
            ("misago.0123456789ab.js", True),
            ("misago.0123456789ab.js.gz", True),
            ("misago.js", False),
            ("misago.0123456789abc.js", False),
            ("misago.0123456789AB.js", False),
            ("0123456789ab", False),
        ],
    )
    def test_hashed_names(self, name: str, hashed: bool) -> None:
        assert publish.is_hashed(name) is hashed

    def test_a_second_run_copies_nothing(self, folders: tuple[Path, Path]) -> None:
        assert publish.publish(*folders, 90) == {"files": 3, "copied": 3, "removed": 0}
        assert publish.publish(*folders, 90) == {"files": 3, "copied": 0, "removed": 0}
        assert (folders[1] / "misago/js/misago.0123456789ab.js").read_text() == "hashed"

    def test_a_plain_name_follows_its_content(self, folders: tuple[Path, Path]) -> None:
        publish.publish(*folders, 90)
        (folders[0] / "misago/js/misago.js").write_text("PLAIN")
        assert publish.publish(*folders, 90)["copied"] == 1
        assert (folders[1] / "misago/js/misago.js").read_text() == "PLAIN"

    def test_a_file_cut_short_is_mended(self, folders: tuple[Path, Path]) -> None:
        publish.publish(*folders, 90)
        (folders[1] / "misago/js/misago.0123456789ab.js").write_text("has")
        assert publish.publish(*folders, 90)["copied"] == 1

    def test_the_last_releases_files_stay_for_their_days(self, folders: tuple[Path, Path]) -> None:
        source, target = folders
        now = 1e9
        publish.publish(source, target, 90, now)
        (source / "misago/js/misago.0123456789ab.js").unlink()
        assert publish.publish(source, target, 90, now + 89 * DAY)["removed"] == 0
        assert publish.publish(source, target, 90, now + 91 * DAY)["removed"] == 1
        assert sorted(path.name for path in target.rglob("*.*")) == [
            "misago.0123456789ab.js.gz",
            "misago.js",
        ]

    def test_what_is_not_ours_stays(self, folders: tuple[Path, Path]) -> None:
        stranger = folders[1] / "robots.txt"
        stranger.write_text("")
        os.utime(stranger, (0, 0))
        assert publish.publish(*folders, 90)["removed"] == 0
        assert stranger.exists()

    def test_nothing_unfinished_is_left_when_the_disk_is_full(
        self, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(source: Path, destination: Path) -> None:
            destination.write_text("half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(publish.shutil, "copyfile", fail)
        with pytest.raises(OSError, match="No space left"):
            publish.publish(*folders, 90)
        assert [path for path in folders[1].rglob("*") if path.is_file()] == []


class TestRelease:
    """release.py."""

    def test_waiting_ends_with_the_first_answer(self) -> None:
        clock = Clock()
        failures = [OSError("refused"), OSError("refused")]

        def probe() -> None:
            if failures:
                raise failures.pop()

        assert release.wait_for("Redis", probe, (OSError,), 60, clock.sleep, clock) == {"waited": 2.0}

    def test_waiting_is_bounded_and_says_for_whom(self) -> None:
        clock = Clock()

        def probe() -> None:
            raise OSError("refused")

        with pytest.raises(release.ReleaseError, match="Redis did not answer within 60 s: refused"):
            release.wait_for("Redis", probe, (OSError,), 60, clock.sleep, clock)
        assert clock.now <= 1000 + 62

    def test_a_mistake_is_not_waited_for(self) -> None:
        clock = Clock()

        def probe() -> None:
            raise ValueError("a mistake")

        with pytest.raises(ValueError, match="a mistake"):
            release.wait_for("Redis", probe, (OSError,), 60, clock.sleep, clock)
        assert clock.now == 1000

    def test_each_step_has_its_line(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert release.run_steps([("one", lambda: {"applied": 3}), ("two", dict)]) == 0
        lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        assert [line["forum.operation"] for line in lines] == ["one", "two"]
        assert [line["event.outcome"] for line in lines] == ["success"] * 2
        assert lines[0]["message"] == "one: done, applied 3"

    def test_a_failure_is_the_last_step(self, capfd: pytest.CaptureFixture[str]) -> None:
        done = []

        def fail() -> dict[str, Any]:
            raise release.ReleaseError("no room")

        def never() -> dict[str, Any]:
            done.append("three")
            return {}

        assert release.run_steps([("one", dict), ("two", fail), ("three", never)]) == 1
        lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        assert lines[-1]["error.message"] == "ReleaseError: no room"
        assert lines[-1]["event.outcome"] == "failure"
        assert (len(lines), done) == (2, [])


def moment(text: str, zone: str = "UTC") -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(zone))


class TestMaintenance:
    """maintenance.py."""

    @pytest.mark.parametrize(
        ("after", "expected"),
        [
            ("2026-11-23T04:29:59", "2026-11-23T04:30:00"),
            ("2026-11-23T04:30:00", "2026-11-24T04:30:00"),
            ("2026-12-31T23:00:00", "2027-01-01T04:30:00"),
        ],
    )
    def test_the_next_run(self, after: str, expected: str) -> None:
        assert maintenance.next_run(moment(after), datetime.time(4, 30)) == moment(expected)

    @pytest.mark.parametrize(
        ("now", "last", "due"),
        [
            ("2026-11-23T04:29:00", "2026-11-22T04:31:00", False),
            ("2026-11-23T04:30:00", "2026-11-22T04:31:00", True),
            ("2026-11-23T12:00:00", "2026-11-22T04:31:00", True),
            ("2026-11-23T12:00:00", "2026-11-23T04:31:00", False),
            ("2026-11-25T01:00:00", "2026-11-23T04:31:00", True),
        ],
    )
    def test_a_missed_day_is_made_up_for(self, now: str, last: str, due: bool) -> None:
        assert maintenance.is_due(moment(now), moment(last), datetime.time(4, 30)) is due

    def test_the_time_is_that_of_the_zone(self) -> None:
        at, last = datetime.time(4, 30), moment("2026-07-01T12:00:00")
        assert maintenance.is_due(moment("2026-07-02T04:31:00", "Europe/Lisbon"), last, at)
        assert not maintenance.is_due(moment("2026-07-02T03:31:00"), last, at)

    def test_the_twelve_commands(self) -> None:
        assert len(set(maintenance.DAILY)) == 12
        assert not set(maintenance.DAILY) & set(maintenance.FREQUENT)

    def run(self, code: str, seconds: float = 30, stopping: threading.Event | None = None) -> dict[str, Any]:
        beats: list[int] = []
        line: dict[str, Any] = maintenance.run_command(
            [sys.executable, "-c", code],
            seconds,
            stopping or threading.Event(),
            lambda: beats.append(1),
            check_every=0.05,
        )
        return {**line, "beats": len(beats)}

    def test_a_command_that_succeeds_says_little(self) -> None:
        line = self.run("print('cleared')")
        assert line["exit_code"] == 0
        assert "output" not in line

    def test_a_command_that_fails_says_why(self) -> None:
        line = self.run("raise SystemExit('no such table')")
        assert line["exit_code"] == 1
        assert line["output"] == "no such table"

    def test_a_command_that_hangs_is_ended(self) -> None:
        line = self.run("import time; time.sleep(60)", seconds=0.2)
        assert line["exit_code"] is None
        assert line["seconds"] < 10
        assert line["beats"] > 1

    def test_a_command_is_ended_when_the_program_is(self) -> None:
        stopping = threading.Event()
        stopping.set()
        assert self.run("import time; time.sleep(60)", stopping=stopping)["exit_code"] is None

    def test_one_failure_does_not_stop_the_others(self) -> None:
        lines: list[dict[str, Any]] = []

        def run(name: str) -> dict[str, Any]:
            if name == "b":
                raise OSError(12, "Cannot allocate memory")
            return {"command": name, "exit_code": 1 if name == "a" else 0}

        assert maintenance.run_all(["a", "b", "c"], run, lines.append, threading.Event()) == ("a", "b")
        assert [line["command"] for line in lines] == ["a", "b", "c"]

    def test_no_command_begins_once_the_program_stops(self) -> None:
        stopping = threading.Event()
        lines: list[dict[str, Any]] = []

        def run(name: str) -> dict[str, Any]:
            stopping.set()
            return {"command": name, "exit_code": 0}

        maintenance.run_all(["a", "b"], run, lines.append, stopping)
        assert len(lines) == 1

    @pytest.mark.parametrize(
        ("told", "message", "outcome"),
        [
            (
                {"command": "clearsessions", "exit_code": 0, "seconds": 1.5},
                "clearsessions ended with 0",
                "success",
            ),
            ({"command": "clearsessions", "exit_code": None}, "clearsessions was ended", "failure"),
            ({"finished": 12, "failed": 1}, "12 commands, 1 failed", "failure"),
            ({"finished": 12, "failed": 0}, "12 commands, 0 failed", "success"),
            ({"error": "Redis: refused"}, "Redis doesn't answer", "failure"),
        ],
    )
    def test_a_line_is_json_with_its_time(
        self, told: dict[str, Any], message: str, outcome: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        maintenance.log_line(told)
        line = json.loads(capfd.readouterr().out)
        assert (line["event.action"], line["message"], line["event.outcome"]) == (
            "maintenance",
            message,
            outcome,
        )
        assert datetime.datetime.fromisoformat(line["@timestamp"]).utcoffset() == datetime.timedelta(0)
        assert line.get("event.duration") == (1500000000 if "seconds" in told else 0)

    def test_what_a_failed_command_said_is_on_one_line(self, capfd: pytest.CaptureFixture[str]) -> None:
        maintenance.log_line({"command": "x", "exit_code": 1, "output": "first\nDETAIL:  (me@example.com)"})
        (text,) = capfd.readouterr().out.splitlines()
        assert json.loads(text)["error.message"] == "first\nDETAIL: ***"
