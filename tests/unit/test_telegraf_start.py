"""How a Telegraf is started beside a service, by scripts between programs that only play their parts; what it tries."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import jinja2
import pytest

ROLES = Path(__file__).resolve().parents[2] / "roles"
PROGRAM = ROLES / "telegraf/files/program"
LOAD_SECRETS = ROLES / "component/files/base/load-secrets"
SHARE = 64 << 20

PROGRAMS = {
    # What it runs with: its own adjustment and the loop's, its limit in KB, its priority.
    "start-telegraf": """
cat /proc/$$/oom_score_adj /proc/$PPID/oom_score_adj
ulimit -d
nice
exit 7
""",
    # The loop's pause, which ends it.
    "sleep": """
echo "pause $1"
kill $PPID
""",
    "hostname": "echo 192.0.2.5 198.51.100.5",
    "cat": 'echo "content of $1"',
    "telegraf": """
echo "$HOST_ID $GOMEMLIMIT $TELEGRAF_PASSWORD"
echo "$*"
""",
    "setsid": 'echo "$*"',
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory for programs that come before the machine's own."""
    return tmp_path


def run(path: Path, script: Path, *arguments: str, plays: tuple[str, ...], **variables: str) -> list[str]:
    """The lines that a script prints."""
    for name in plays:
        (path / name).write_text(f"#!/bin/sh\n{PROGRAMS[name]}\n")
        (path / name).chmod(0o755)
    environment = {"PATH": f"{path}:/usr/bin:/bin", **variables}
    done = subprocess.run(
        ["sh", script, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20, env=environment, check=False,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_telegraf_is_taken_first_and_the_loop_is_not(path: Path) -> None:
    own = Path("/proc/self/oom_score_adj").read_text().strip()
    lines = run(path, PROGRAM / "run-telegraf", plays=("start-telegraf", "sleep"), TELEGRAF_MEMORY=str(SHARE))
    telegraf, loop, limit, priority, ended, pause = lines
    assert (telegraf, loop) == ("1000", own)
    # Its share, and what Go maps without touching it.
    assert int(limit) << 10 == SHARE + (40 << 20)
    assert int(priority) == min(os.nice(0) + 10, 19)
    assert ended == "run-telegraf: Telegraf ended with 7, the next one starts in 1 s"
    assert pause == "pause 1"


def test_telegraf_knows_its_name_its_password_and_its_share(path: Path) -> None:
    named, arguments = run(
        path,
        PROGRAM / "start-telegraf",
        plays=("hostname", "cat", "telegraf"),
        HOST_MONITORING_BASE_TAG="redis-0-",
        TELEGRAF_MEMORY=str(SHARE),
    )
    assert named == f"redis-0-192.0.2.5 {SHARE * 8 // 10}B content of /run/secrets/telegraf_password"
    assert "--strict-env-handling" in arguments


def test_a_program_that_is_brought_into_a_container_starts_no_second_telegraf(path: Path) -> None:
    # The first one is a child of the container's PID 1, which this isn't.
    lines = run(path, LOAD_SECRETS, "echo", "done", plays=("setsid",), HOST_MONITORING_BASE_TAG="redis-0-")
    assert lines == ["done"]


@pytest.mark.parametrize(
    ("template", "measurement"),
    [
        ("haproxy/templates/telegraf.conf.j2", "haproxy_response"),
        ("redis/templates/telegraf-redis.conf.j2", "redis_response"),
    ],
)
def test_a_try_that_fails_is_told_only_when_it_was_awaited_to_the_end(
    template: str, measurement: str
) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([ROLES, ROLES / "component/templates"]),
        trim_blocks=True,
        autoescape=False,  # noqa: S701  # no page for a browser
    )
    rendered = environment.get_template(template).render(ansible_managed="made by Ansible")
    (probe,) = tomllib.loads(rendered)["inputs"]["net_response"]
    assert probe["name_override"] == measurement
    awaited = float(probe["read_timeout"].removesuffix("s"))
    assert probe["metricpass"] == (
        f'tags.result == "success" || (has(fields.response_time) && fields.response_time >= {awaited})'
    )
