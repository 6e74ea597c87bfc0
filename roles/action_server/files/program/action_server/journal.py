"""The journal: events, alarms, actions, messages and replicas in one SQLite file, written by this process alone."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .records import (
    ALLOW,
    BLOCK,
    DONE,
    FAILED,
    PARTLY,
    QUEUED,
    REFUSED,
    RUNNING,
    SCALE,
    SYNC,
    Action,
    Alarm,
    Event,
    Message,
    Wish,
    canonical,
)

#: The form of the tables below.
VERSION = 1
#: A power loss takes back nothing that was answered.
SYNCHRONOUS = "FULL"
_TABLES = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY, received REAL NOT NULL, engine TEXT NOT NULL, level TEXT NOT NULL, state TEXT NOT NULL,
    at REAL NOT NULL, instance TEXT NOT NULL, value REAL, decided TEXT NOT NULL);
CREATE UNIQUE INDEX events_once ON events (level, instance, at, state, engine);
CREATE INDEX events_received ON events (received);
CREATE TABLE alarms (
    id INTEGER PRIMARY KEY, level TEXT NOT NULL, instance TEXT NOT NULL, opened REAL NOT NULL, seen REAL NOT NULL,
    closed REAL, value REAL, event INTEGER, why TEXT NOT NULL DEFAULT '');
CREATE UNIQUE INDEX alarms_open ON alarms (level, instance) WHERE closed IS NULL;
CREATE TABLE actions (
    id INTEGER PRIMARY KEY, alarm INTEGER, kind TEXT NOT NULL, target TEXT NOT NULL, arguments TEXT NOT NULL,
    by TEXT NOT NULL, asked REAL NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0, began REAL, ended REAL,
    result TEXT NOT NULL DEFAULT '{}');
CREATE INDEX actions_state ON actions (state, due);
CREATE INDEX actions_target ON actions (target, asked);
CREATE INDEX actions_alarm ON actions (alarm);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY, level TEXT NOT NULL, text TEXT NOT NULL, asked REAL NOT NULL, sent REAL,
    attempts INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '');
CREATE INDEX outbox_waiting ON outbox (sent) WHERE sent IS NULL;
CREATE TABLE replicas (at REAL NOT NULL, service TEXT NOT NULL, wanted INTEGER NOT NULL, running INTEGER NOT NULL);
CREATE INDEX replicas_at ON replicas (at);
"""
_ALARM = "id, level, instance, opened, seen, closed, value, why"
_ACTION = "id, alarm, kind, target, arguments, by, asked, state, reason, attempts, due, began, ended, result"


def _alarm(row: Sequence[Any]) -> Alarm:
    number, level, instance, *rest = row
    return Alarm(number, level, json.loads(instance), *rest)


def _action(row: Sequence[Any]) -> Action:
    fields = dict(zip(_ACTION.split(", "), row, strict=True))
    return Action(
        **{**fields, "arguments": json.loads(fields["arguments"]), "result": json.loads(fields["result"])}
    )


class Journal:
    """The journal. Its methods may be called by any thread; what is done within change() is one change."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it. Raises ValueError for one of a later version, sqlite3.Error where it can't be read."""
        self._lock = threading.RLock()
        self._depth = 0
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._database.executescript(f"BEGIN; {_TABLES} PRAGMA user_version={VERSION}; COMMIT;")
        elif version != VERSION:
            self._database.close()
            raise ValueError(
                f"{path} has form {version}, this program knows {VERSION}: install the program that made it"
            )

    def close(self) -> None:
        """Close it."""
        with self._lock:
            self._database.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Everything within is written, or nothing of it; no other thread comes between."""
        with self._lock:
            if not self._depth:
                self._database.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if not self._depth:
                    self._database.execute("ROLLBACK")
                raise
            self._depth -= 1
            if not self._depth:
                self._database.execute("COMMIT")

    def _write(self, statement: str, *values: Any) -> int:
        with self.change():
            cursor = self._database.execute(statement, values)
            return int((cursor.lastrowid if statement.startswith("INSERT") else cursor.rowcount) or 0)

    def _read(self, statement: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()

    # Events and alarms

    def event(self, event: Event) -> tuple[int, str] | None:
        """Number and decision of the same event, if it was taken before."""
        rows = self._read(
            "SELECT id, decided FROM events WHERE level=? AND instance=? AND at=? AND state=? AND engine=?",
            event.level, canonical(event.instance), event.at, _state(event), event.engine,
        )  # fmt: skip
        return (rows[0][0], rows[0][1]) if rows else None

    def newest(self, level: str, instance: Mapping[str, str]) -> float | None:
        """The newest time that an event of an alarm told."""
        rows = self._read(
            "SELECT max(at) FROM events WHERE level=? AND instance=?", level, canonical(instance)
        )
        value: float | None = rows[0][0]
        return value

    def add_event(self, event: Event, decided: str, now: float) -> int:
        """Keep an event. Returns its number."""
        return self._write(
            "INSERT INTO events (received, engine, level, state, at, instance, value, decided)"
            " VALUES (?,?,?,?,?,?,?,?)",
            now, event.engine, event.level, _state(event), event.at, canonical(event.instance), event.value, decided,
        )  # fmt: skip

    def open_alarm(self, event: Event, number: int, now: float) -> Alarm:
        """Open an alarm by an event with that number."""
        self._write(
            "INSERT INTO alarms (level, instance, opened, seen, value, event) VALUES (?,?,?,?,?,?)",
            event.level, canonical(event.instance), now, event.at, event.value, number,
        )  # fmt: skip
        found = self.alarm(event.level, event.instance)
        if found is None:
            raise LookupError("an alarm that was just opened isn't open")
        return found

    def touch_alarm(self, alarm: int, seen: float, value: float | None) -> None:
        """Note that an alarm goes on."""
        self._write("UPDATE alarms SET seen=max(seen, ?), value=? WHERE id=?", seen, value, alarm)

    def close_alarm(self, alarm: int, why: str, now: float) -> bool:
        """Close an alarm. Returns whether it was open."""
        return bool(
            self._write("UPDATE alarms SET closed=?, why=? WHERE id=? AND closed IS NULL", now, why, alarm)
        )

    def alarm(self, level: str, instance: Mapping[str, str]) -> Alarm | None:
        """The open alarm of a level and instance."""
        rows = self._read(
            f"SELECT {_ALARM} FROM alarms WHERE level=? AND instance=? AND closed IS NULL",  # noqa: S608
            level, canonical(instance),
        )  # fmt: skip
        return _alarm(rows[0]) if rows else None

    def open_alarms(self) -> list[Alarm]:
        """The alarms that are open, the newest first."""
        rows = self._read(f"SELECT {_ALARM} FROM alarms WHERE closed IS NULL ORDER BY opened DESC, id DESC")  # noqa: S608
        return [_alarm(row) for row in rows]

    def closed_alarms(self, most: int) -> list[Alarm]:
        """The alarms that were closed last."""
        rows = self._read(
            f"SELECT {_ALARM} FROM alarms WHERE closed IS NOT NULL ORDER BY closed DESC, id DESC LIMIT ?",  # noqa: S608
            most,
        )
        return [_alarm(row) for row in rows]

    # Actions

    def ask(self, wish: Wish, by: str, alarm: int | None, now: float, refused: str = "") -> Action:
        """Put a wish into the queue, or keep that it was refused and why."""
        number = self._write(
            "INSERT INTO actions (alarm, kind, target, arguments, by, asked, state, reason, ended)"
            " VALUES (?,?,?,?,?,?,?,?,?)",
            alarm, wish.kind, wish.target, json.dumps(dict(wish.arguments)), by, now,
            REFUSED if refused else QUEUED, refused, now if refused else None,
        )  # fmt: skip
        return self.action(number)

    def action(self, number: int) -> Action:
        """An action. Raises LookupError for an unknown one."""
        rows = self._read(f"SELECT {_ACTION} FROM actions WHERE id=?", number)  # noqa: S608
        if not rows:
            raise LookupError(f"there is no action {number}")
        return _action(rows[0])

    def _actions(self, condition: str, *values: Any) -> list[Action]:
        return [_action(row) for row in self._read(f"SELECT {_ACTION} FROM actions {condition}", *values)]  # noqa: S608

    def about(self, wish: Wish, most: int = 50) -> list[Action]:
        """The last actions about a wish's target that were tried, or wait for it; the newest first."""
        return self._actions(
            "WHERE target=? AND (kind=? OR kind=?) AND (attempts > 0 OR state != ?) ORDER BY id DESC LIMIT ?",
            wish.target, wish.kind, ALLOW if wish.kind == BLOCK else wish.kind, REFUSED, most,
        )  # fmt: skip

    def of_alarm(self, alarm: int, most: int = 20) -> list[Action]:
        """An alarm's actions, the newest first."""
        return self._actions("WHERE alarm=? ORDER BY id DESC LIMIT ?", alarm, most)

    def history(self, most: int) -> list[Action]:
        """The last actions, without those that only bring the lists together; the newest first."""
        return self._actions("WHERE kind != ? ORDER BY id DESC LIMIT ?", SYNC, most)

    def last(self, kind: str) -> Action | None:
        """The newest action of a kind."""
        return next(iter(self._actions("WHERE kind=? ORDER BY id DESC LIMIT 1", kind)), None)

    def last_done(self, kind: str) -> Action | None:
        """The newest action of a kind that was done."""
        return next(
            iter(self._actions("WHERE kind=? AND state=? ORDER BY id DESC LIMIT 1", kind, DONE)), None
        )

    def blocks_since(self, at: float) -> list[Action]:
        """What was blocked and allowed since a time, in the order in which it was asked."""
        return self._actions(
            "WHERE began >= ? AND kind IN (?, ?) AND state IN (?, ?) ORDER BY id",
            at,
            BLOCK,
            ALLOW,
            DONE,
            PARTLY,
        )

    def next_due(self) -> float | None:
        """When the next action is to be run; None where none waits."""
        rows = self._read("SELECT min(due) FROM actions WHERE state IN (?, ?)", QUEUED, PARTLY)
        value: float | None = rows[0][0]
        return value

    def begin(self, now: float) -> Action | None:
        """Take the next action that is due, new ones before what is tried again, lists last; it runs from now on."""
        with self.change():
            found = self._actions(
                "WHERE state IN (?, ?) AND due <= ? ORDER BY state=?, kind=?, id LIMIT 1",
                QUEUED,
                PARTLY,
                now,
                PARTLY,
                SYNC,
            )
            if not found:
                return None
            self._write(
                "UPDATE actions SET state=?, began=?, attempts=attempts+1 WHERE id=?",
                RUNNING,
                now,
                found[0].id,
            )
            return self.action(found[0].id)

    def settle(
        self, action: int, state: str, reason: str, result: Mapping[str, Any], now: float, due: float = 0.0
    ) -> Action:
        """Note what became of an action that ran. due: when it is tried again, where it is."""
        ended = now if state in (DONE, REFUSED, FAILED) else None
        self._write(
            "UPDATE actions SET state=?, reason=?, result=?, due=?, ended=? WHERE id=?",
            state, reason, json.dumps(dict(result)), due, ended, action,
        )  # fmt: skip
        return self.action(action)

    def give_way(self, service: str, why: str, now: float) -> None:
        """Refuse what waits to take a replica away from a service."""
        for action in self._actions("WHERE state=? AND kind=? AND target=?", QUEUED, SCALE, service):
            if action.arguments["by"] < 0:
                self.settle(action.id, REFUSED, why, {}, now)

    def resume(self) -> list[Action]:
        """Put back what ran when the server ended: under the same name it ends as the one thing that it was."""
        with self.change():
            found = self._actions("WHERE state=?", RUNNING)
            self._write(
                "UPDATE actions SET state=?, reason=?, attempts=attempts-1 WHERE state=?",
                QUEUED, "the server was restarted while it ran", RUNNING,
            )  # fmt: skip
        return found

    # Messages

    def post(self, level: str, text: str, now: float) -> None:
        """Have something told."""
        self._write("INSERT INTO outbox (level, text, asked) VALUES (?,?,?)", level, text, now)

    def waiting(self) -> list[Message]:
        """What waits to be told, the oldest first."""
        rows = self._read(
            "SELECT id, level, text, asked, attempts FROM outbox WHERE sent IS NULL ORDER BY id"
        )
        return [Message(*row) for row in rows]

    def messages(self, most: int) -> list[tuple[float, str, float | None, str]]:
        """The newest messages: when they were written, their text, when they were told, and why not or not alone."""
        return self._read("SELECT asked, text, sent, error FROM outbox ORDER BY id DESC LIMIT ?", most)

    def told(self, messages: Sequence[int], now: float, error: str = "") -> None:
        """Note that messages were told, or given up for a reason."""
        with self.change():
            for number in messages:
                self._write("UPDATE outbox SET sent=?, error=? WHERE id=?", now, error, number)

    def untold(self, message: int, error: str) -> None:
        """Note that a message couldn't be told."""
        self._write("UPDATE outbox SET attempts=attempts+1, error=? WHERE id=?", error, message)

    def last_told(self, level: str) -> float:
        """When something was last to be told of a level."""
        rows = self._read("SELECT max(asked) FROM outbox WHERE level=?", level)
        return float(rows[0][0] or 0)

    # Replicas

    def sample(self, replicas: Mapping[str, tuple[int, int]], now: float) -> None:
        """Note how many tasks of each service are wanted and run, where that differs from before or a minute passed."""
        with self.change():
            for service, (wanted, running) in replicas.items():
                rows = self._read(
                    "SELECT at, wanted, running FROM replicas WHERE service=? AND at > ? ORDER BY at DESC LIMIT 1",
                    service, now - 45,
                )  # fmt: skip
                if not rows or tuple(rows[0][1:]) != (wanted, running):
                    self._write("INSERT INTO replicas VALUES (?,?,?,?)", now, service, wanted, running)

    def replicas(self, since: float) -> list[tuple[float, str, int, int]]:
        """Time, service, wanted and running tasks."""
        return self._read(
            "SELECT at, service, wanted, running FROM replicas WHERE at >= ? ORDER BY at", since
        )

    # All of it

    def counts(self) -> dict[str, int]:
        """What there is of each kind."""
        counted = {f"actions_{state}": 0 for state in (QUEUED, RUNNING, PARTLY, DONE, REFUSED, FAILED)}
        for state, number in self._read(
            "SELECT state, count(*) FROM actions WHERE kind != ? GROUP BY state", SYNC
        ):
            counted[f"actions_{state}"] = number
        for name, statement in {
            "events": "SELECT count(*) FROM events",
            "alarms_open": "SELECT count(*) FROM alarms WHERE closed IS NULL",
            "messages_waiting": "SELECT count(*) FROM outbox WHERE sent IS NULL",
        }.items():
            counted[name] = self._read(statement)[0][0]
        return counted

    def forget(self, before: float, lists_before: int) -> None:
        """Remove what is older than a time, replicas and told messages included, and all older lists but the last."""
        with self.change():
            self._write("DELETE FROM events WHERE received < ?", before)
            self._write("DELETE FROM alarms WHERE closed < ?", before)
            self._write("DELETE FROM actions WHERE ended < ?", before)
            self._write(
                "DELETE FROM actions WHERE kind=? AND ended IS NOT NULL AND id < ?", SYNC, lists_before
            )
            self._write("DELETE FROM outbox WHERE sent < ?", before)
            self._write("DELETE FROM replicas WHERE at < ?", before)


def _state(event: Event) -> str:
    return "firing" if event.firing else "recovered"
