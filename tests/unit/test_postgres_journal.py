"""The server's log on its way to the container's: what is left out, and that nothing else is."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import loglines
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "roles/postgres/files/image"))

from loglines import LONGEST_MESSAGE, Reader
from pg_supervisor.journal import LOST, Journal, shown

HEAD = "2026-11-26 13:28:42.123 UTC [57] misago@misago 10.0.2.7 "


def test_a_statement_of_several_lines_is_one_line_without_its_values() -> None:
    said = "LOG:  duration: 2003.123 ms  statement: INSERT INTO post VALUES (7, 'first\n\tsecond me@x.org')"
    told = "LOG:  duration: 2003.123 ms  statement: INSERT INTO post VALUES (?, ?)"
    assert shown(HEAD + said) == HEAD + told


@pytest.mark.parametrize(
    "said",
    [
        "connection received: host=10.0.2.7 port=43210",
        'connection authenticated: identity="misago" method=scram-sha-256 (/etc/postgres/pg_hba.conf:7)',
    ],
)
def test_a_connection_is_told_once(said: str) -> None:
    assert shown(f"{HEAD}LOG:  {said}") is None
    assert shown(f"{HEAD}LOG:  connection authorized: user=misago database=misago") is not None


def test_nobody_can_keep_a_statement_out_of_the_log() -> None:
    message = f"{HEAD}LOG:  duration: 2003.123 ms  statement: SELECT 1 -- LOG:  connection received: "
    assert shown(message) is not None
    head = HEAD.replace("misago@misago", "x LOG:  connection received: @misago")
    assert shown(f"{head}LOG:  duration: 2003.123 ms  statement: SELECT 1") is not None


def test_a_torn_message_shows_no_values() -> None:
    said = "LOG:  duration: 2003.123 ms  statement: INSERT INTO post VALUES ("
    other = f"{HEAD}LOG:  checkpoint starting: time\n"
    log = f"{HEAD}{said}'hunter2 {other}hunter2', 'hunter2')\n\t, ('hunter2')\n{other}"
    assert [shown(message) for message in Reader().feed(log.encode())] == [
        f"{HEAD}{said}?",
        LOST,
        other.strip(),
    ]


@pytest.mark.parametrize("said", ["postgres: could not access the server configuration file", "pg_ctl: x"])
def test_what_is_said_before_the_server_does_is_shown(said: str) -> None:
    assert shown(said) == said


def test_messages_may_come_in_any_pieces() -> None:
    text = f"{HEAD}LOG:  one\n{HEAD}LOG:  duration: 1.0 ms  statement: SELECT 'a\n\tb'\n{HEAD}ERROR:  caf\u00e9\n"
    whole = [*Reader().feed(text.encode())]
    assert len(whole) == 3
    for size in (1, 7, 64):
        reader, told = Reader(), []
        data = text.encode()
        for start in range(0, len(data), size):
            told += reader.feed(data[start : start + size])
        # Where a piece ends just behind a line's end the rest of a statement is left out: it must not stand alone.
        assert [shown(message) for message in told] in (
            [shown(m) for m in whole],
            [shown(m.split("\n")[0]) for m in whole],
        )


def test_a_message_without_an_end_is_cut_and_its_rest_is_not_shown() -> None:
    reader = Reader()
    told = reader.feed(f"{HEAD}LOG:  duration: 1.0 ms  statement: SELECT '".encode() + b"x" * LONGEST_MESSAGE)
    told += reader.feed(b"secret" * 100)
    told += reader.feed(b"secret'\n" + f"{HEAD}LOG:  next\n".encode())
    assert [message[-4:] for message in told] == ["xxxx", "next"]
    assert "secret" not in "".join(told)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    subject = Journal(tmp_path / "journal")
    subject.open()
    return subject


def test_writers_come_and_go(journal: Journal, capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        with journal.path.open("a") as pipe:
            pipe.write(
                f"{HEAD}LOG:  start {number}\n\udcff\n".encode(errors="surrogateescape").decode("latin-1")
            )
    journal.drain()
    written = capfd.readouterr().out.splitlines()
    assert [line for line in written if "start" in line] == [
        f"{HEAD}LOG:  start {number}" for number in range(3)
    ]


def test_a_storm_goes_through_whole(journal: Journal, capfd: pytest.CaptureFixture[str]) -> None:
    with journal.path.open("a") as pipe:
        for number in range(20_000):
            pipe.write(f"{HEAD}ERROR:  deadlock detected {number}\n")
            pipe.flush()
    journal.drain(10)
    written = capfd.readouterr().out.splitlines()
    assert [line.split()[-1] for line in written] == [str(number) for number in range(20_000)]


def test_a_full_pipe_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Docker doesn't take the log any more."""
    monkeypatch.setattr(loglines, "carry", lambda *_: threading.Thread())
    subject = Journal(tmp_path / "journal")
    subject.open()
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(subject._writer, b"x" * 65536)
    started = time.monotonic()
    subject.drain(0.2)
    assert time.monotonic() - started < 2
    assert not subject.is_alive()


def test_a_last_line_without_an_end_is_no_part_of_the_mark(
    journal: Journal, capfd: pytest.CaptureFixture[str]
) -> None:
    with journal.path.open("a") as pipe:
        pipe.write(f"{HEAD}LOG:  last")
    started = time.monotonic()
    journal.drain(10)
    assert time.monotonic() - started < 5
    assert capfd.readouterr().out == f"{HEAD}LOG:  last\n"
    assert journal.is_alive()


class Server:
    """The real PostgreSQL, with the log settings of the stack and the journal behind it."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.folder, self.journal = folder, journal
        self.user = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}

    def run(self, program: str, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            [program, *arguments],
            check=check,
            capture_output=True,
            text=True,
            cwd="/",
            **self.user,  # type: ignore[call-overload]
        )
        return str(done.stdout)

    def sql(self, *statements: str) -> None:
        commands = [part for statement in statements for part in ("-c", statement)]
        self.run(
            "psql", "-h", str(self.folder), "-U", "repmgr", "-d", "postgres", "-q", *commands, check=False
        )


def log_settings() -> Iterator[str]:
    """The lines of postgresql.conf.j2 that are about the log."""
    template = Path(__file__).parents[2] / "roles/postgres/templates/postgresql.conf.j2"
    for line in template.read_text().splitlines():
        if line.startswith(("log_", "logging_", "deadlock_timeout")):
            yield line.replace("{{ postgres_log_min_duration }}", "50")


@pytest.mark.skipif(shutil.which("initdb") is None, reason="PostgreSQL's server isn't installed here")
def test_the_real_server_tells_no_values(
    tmp_path_factory: pytest.TempPathFactory, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path_factory.mktemp("postgres")
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    folder.chmod(0o777)
    journal = Journal(folder / "journal")
    journal.open()
    journal.path.chmod(0o666)
    server = Server(folder, journal)
    data = str(folder / "data")
    server.run("initdb", "-D", data, "-U", "repmgr", "--auth=trust")
    with Path(data, "postgresql.conf").open("a") as settings:
        settings.write(
            "\n".join([*log_settings(), f"unix_socket_directories = '{folder}'", "listen_addresses = ''"])
        )
    server.run("pg_ctl", "-D", data, "-w", "-l", str(journal.path), "start")
    try:
        server.sql(
            "CREATE TABLE users (id int PRIMARY KEY, email text UNIQUE NOT NULL, password text)",
            "INSERT INTO users VALUES (1, 'me@x.org', 'pbkdf2_sha256$390000$salt$hunter2=')",
            "INSERT INTO users SELECT 2, 'you@x.org\nhunter2', 'pbkdf2_sha256$hunter2' FROM pg_sleep(0.1)",
            "INSERT INTO users VALUES (3, 'me@x.org', 'hunter2')",
            "INSERT INTO users VALUES (4, NULL, 'hunter2')",
            "SELECT 'hunter2' FRM users",
            "DO $$ BEGIN PERFORM pg_sleep(0.1); RAISE EXCEPTION 'for %', (SELECT min(email) FROM users); END $$",
            "ALTER ROLE repmgr PASSWORD 'hunter2'",
            "SELECT $q$hunter2$q$, pg_sleep(0.1) \\bind \\g",
            "SELECT 'hunter2'::int",
            "SELECT 1 'hunter2'",
            "SELECT 'hunter2",
            "CHECKPOINT",
        )
    finally:
        server.run("pg_ctl", "-D", data, "-w", "-m", "fast", "stop")
        journal.drain(5)
    written = capfd.readouterr().out
    # What psql shows of errors isn't the server's log.
    slow = [line for line in written.splitlines() if "duration: " in line]
    assert any("INSERT INTO users SELECT ?, ?, ? FROM pg_sleep(?)" in line for line in slow)
    assert "connection authorized: user=repmgr" in written
    assert "connection received" not in written
    assert "checkpoint complete" in written
    assert "duplicate key value violates unique constraint" in written
    assert "database system is shut down" in written
    assert [word for word in ("hunter2", "x.org", "pbkdf2", "FRM users") if word in written] == []
