"""The scripts that bring a lab up and remove it: who may, when, and what becomes of what is killed.

They run in a copy of the repository's scripts, with programs that only pretend and locks of their own.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAB = "unit-test"

PLAYBOOK = """
for signal in TERM HUP INT; do trap "echo $signal >>'$STUB/signals'; exit 1" "$signal"; done
echo $$ >>"$STUB/playbooks"
[ ! -e "$STUB/recap" ] || cat "$STUB/recap"
while [ -e "$STUB/hold" ]; do sleep 0.02; done
"""


class Clone:
    """A copy of the scripts, and the processes that were started in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / ".lab" / LAB
        self.stub = root / "stub"
        self.started: list[subprocess.Popen[str]] = []
        shutil.copytree(ROOT / "scripts", root / "scripts")
        (root / "tests").mkdir()
        shutil.copy(ROOT / "tests" / "again", root / "tests")
        (self.stub / "bin").mkdir(parents=True)
        self.pretend("ansible-playbook", PLAYBOOK)
        self.pretend("docker", "")
        shutil.copy(self.stub / "bin" / "docker", root / "scripts" / "setup")
        self.environment = {
            "PATH": f"{self.stub}/bin:/usr/bin:/bin",
            "STUB": str(self.stub),
            "FORUM_LOCK_DIR": str(root / "locks"),
            "LAB_NAME": LAB,
            "LAB_PREFIX": "192.0.2",
            "FORCE": "1",
        }

    def pretend(self, program: str, script: str) -> None:
        """Put a script of the shell in the place of a program."""
        file = self.stub / "bin" / program
        file.write_text(f"#!/bin/bash\n{script}\n")
        file.chmod(0o755)

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Begin a command in a session of its own, which `close` ends."""
        # Under nohup HUP would be ignored, and INT in the background; a shell can't trap what is.
        process = subprocess.Popen(
            ("env", "--default-signal=HUP,INT", *command),
            cwd=self.root,
            env={**self.environment, **environment},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            command,
            cwd=self.root,
            env={**self.environment, **environment},
            text=True,
            capture_output=True,
            timeout=20,
            check=False,
        )

    def lines(self, name: str) -> list[str]:
        """What the pretending programs wrote down."""
        file = self.stub / name
        return file.read_text().split() if file.exists() else []

    def start_lab(self) -> subprocess.Popen[str]:
        """A run of scripts/lab that is in its first playbook and stays there."""
        (self.stub / "hold").touch()
        process = self.start("scripts/lab")
        eventually(lambda: self.lines("playbooks") != [])
        return process

    def release(self) -> None:
        """Let the playbooks end."""
        (self.stub / "hold").unlink(missing_ok=True)

    def close(self) -> None:
        """End everything that was started."""
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=10)


def eventually(condition: Callable[[], bool], seconds: float = 15) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    made = Clone(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_a_second_run_is_refused_while_the_first_is_at_work(clone: Clone) -> None:
    first = clone.start_lab()
    second = clone.run("scripts/lab")
    assert second.returncode == 1
    assert f"at work on the lab {LAB} (processes " in second.stderr
    assert {str(first.pid), *clone.lines("playbooks")} <= set(second.stderr.replace(")", " ").split())
    assert "wait until it ends, or end it with kill" in second.stderr
    assert "LAB_NAME=other" in second.stderr
    assert len(clone.lines("playbooks")) == 1
    clone.release()
    assert first.wait(timeout=20) == 0
    assert clone.run("scripts/lab").returncode == 0


def test_another_lab_may_stand_beside_it(clone: Clone) -> None:
    clone.start_lab()
    clone.start("scripts/lab", LAB_NAME="unit-other")
    eventually(lambda: len(clone.lines("playbooks")) == 2)


def test_the_playbook_of_a_killed_run_still_holds_the_lock(clone: Clone) -> None:
    first = clone.start_lab()
    first.kill()
    first.wait(timeout=10)
    playbook = int(clone.lines("playbooks")[0])
    assert alive(playbook)
    second = clone.run("scripts/lab")
    assert second.returncode == 1
    assert str(playbook) in second.stderr
    clone.release()
    eventually(lambda: not alive(playbook))
    eventually(lambda: clone.run("scripts/lab").returncode == 0)


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT"])
def test_who_stops_the_run_stops_its_playbook(clone: Clone, name: str) -> None:
    run = clone.start_lab()
    number = signal.Signals[f"SIG{name}"]
    run.send_signal(number)
    assert run.wait(timeout=20) == 128 + number
    assert clone.lines("signals") == [name]
    assert not alive(int(clone.lines("playbooks")[0]))
    assert len(clone.lines("playbooks")) == 1, "the next stage must not begin"


def test_a_lab_at_work_is_not_destroyed(clone: Clone) -> None:
    clone.start_lab()
    refused = clone.run("scripts/destroy")
    assert refused.returncode == 1
    assert f"at work on the lab {LAB}" in refused.stderr
    assert clone.state.is_dir()


def test_destroy_removes_nothing_without_a_name(clone: Clone) -> None:
    kept = clone.root / ".lab" / "other"
    kept.mkdir(parents=True)
    assert clone.run("scripts/destroy", LAB_NAME="").returncode != 0
    assert kept.is_dir()


def test_who_holds_the_lock_may_have_others_work_under_it(clone: Clone) -> None:
    script = ". scripts/common.sh; lock_lab ''; scripts/lab && scripts/destroy"
    assert clone.run("bash", "-c", script).returncode == 0
    assert not clone.state.exists()


def test_nobody_is_taken_at_his_word_for_holding_it(clone: Clone) -> None:
    clone.start_lab()
    assert clone.run("scripts/lab", FORUM_LOCK_HOLDER=str(os.getpid())).returncode == 1


def test_what_a_killed_run_left_of_passwords_is_removed(clone: Clone) -> None:
    secrets = clone.state / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "redis_password").write_text("a" * 32 + "\n")
    (secrets / "pgpool_pcp_password").touch()
    (secrets / "0a1b2c.ansible_lockfile").touch()
    assert clone.run("scripts/lab").returncode == 0
    assert [path.name for path in secrets.iterdir()] == ["redis_password"]


def test_a_refused_run_leaves_passwords_alone(clone: Clone) -> None:
    clone.start_lab()
    lockfile = clone.state / "secrets" / "0a1b2c.ansible_lockfile"
    lockfile.parent.mkdir()
    lockfile.touch()
    assert clone.run("scripts/lab").returncode == 1
    assert lockfile.exists()


def test_a_stage_that_takes_too_long_has_failed(clone: Clone) -> None:
    stage = clone.run("scripts/stage", "Sleep", "sleep", "1.1", LIMIT="0")
    assert stage.returncode == 1
    # On a busy machine a second is soon two.
    assert re.search(r"Sleep took \d s, longer than the 0 s it may take", stage.stderr)
    assert "✘ Sleep" in stage.stdout


def test_the_limit_of_a_stage_is_not_that_of_those_inside(clone: Clone) -> None:
    stage = clone.run("scripts/stage", "Look", "bash", "-c", 'echo "limit: ${LIMIT-none}"', LIMIT="60")
    assert stage.returncode == 0
    assert "limit: none" in stage.stdout


def test_a_stage_ends_as_its_command_does(clone: Clone) -> None:
    assert clone.run("scripts/stage", "Fail", "bash", "-c", "exit 7").returncode == 7


@pytest.mark.parametrize("script", ["endpoints", "e2e", "status"])
def test_without_a_lab_the_remedy_is_named(clone: Clone, script: str) -> None:
    result = clone.run(f"scripts/{script}")
    assert result.returncode == 1
    assert f"lab {LAB}" in result.stderr
    assert "make lab" in result.stderr
    assert result.stdout == ""


RECAP = "node-1                     : ok=9    changed={}    unreachable=0    failed=0    skipped=4\n"


@pytest.mark.parametrize(
    ("recap", "code"), [(RECAP.format(0), 0), (RECAP.format(0) + RECAP.format(12), 1), ("", 1)]
)
def test_a_second_run_may_change_nothing(clone: Clone, recap: str, code: int) -> None:
    clone.state.mkdir(parents=True)
    (clone.state / "endpoints.json").write_text("{}")
    (clone.stub / "recap").write_text(recap)
    again = clone.run("tests/again")
    assert again.returncode == code, again.stderr
    kept = (clone.root / "artifacts" / "again" / "check.log").read_text()
    assert kept == recap
    if code == 0:
        assert "took 0 s of the 120 s" in again.stdout or "took 1 s of the 120 s" in again.stdout
        assert (clone.root / "artifacts" / "again" / "lab.log").read_text().count(recap) == 2


@pytest.mark.parametrize(("audit", "mended"), [("half-installed: git", True), ("", False)])
def test_packages_are_installed_on_what_an_interrupted_run_left(
    clone: Clone, audit: str, mended: bool
) -> None:
    clone.pretend("dpkg-query", "[ ${!#} = git ] && echo not-installed || echo installed")
    clone.pretend("ls", "")  # the journal of this machine's own packages
    clone.pretend("dpkg", f'echo "dpkg $1" >>"$STUB/calls"; [ "$1" != --audit ] || echo "{audit}"')
    clone.pretend("apt-get", 'echo "apt-get $*" >>"$STUB/calls"')
    script = "set -e; . scripts/common.sh; lock_setup; install_packages make git"
    assert clone.run("bash", "-c", script).returncode == 0
    calls = (clone.stub / "calls").read_text().splitlines()
    assert ("dpkg --configure" in calls) is mended
    assert calls[-1].endswith("-o DPkg::Lock::Timeout=120 install -y --no-install-recommends git")
    assert clone.run("bash", "-c", script.replace("make git", "make")).stdout == ""


def test_set_ups_wait_for_each_other(clone: Clone) -> None:
    lock = ". scripts/common.sh; lock_setup; touch stub/"
    (clone.stub / "hold").touch()
    first = clone.start("bash", "-c", f"{lock}first; while [ -e stub/hold ]; do sleep 0.02; done")
    eventually((clone.stub / "first").exists)
    second = clone.start("bash", "-c", f"{lock}second")
    time.sleep(0.3)
    assert not (clone.stub / "second").exists()
    clone.release()
    assert first.wait(timeout=10) == second.wait(timeout=10) == 0
