"""The start scripts of Redis and Sentinel, run for real between programs that only play their parts."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "roles" / "redis" / "files" / "image" / "bin"
PASSWORD = r"""a"b\c d'$e`f%#g"""
QUOTED = r'''"a\"b\\c d'$e`f%#g"'''
ASKED = "redis-0 redis-1 redis-2"
SENTINELS = ("sentinel-0", "sentinel-1", "sentinel-2")

PROGRAMS = {
    # Answers from the file replies/HOST-PORT: the whole of it, whatever is asked. What was asked is kept.
    "redis-cli": """
printf '%s\\n' "$*" >>"$PLAY/arguments"
env >>"$PLAY/environment"
while [ $# -gt 0 ]; do
  case $1 in -h) host=$2; shift ;; -p) port=$2; shift ;; esac
  shift
done
sed "s/^/$host $port /" >>"$PLAY/asked"
[ -e "$PLAY/replies/$host-$port" ] || exit 1
echo OK
cat "$PLAY/replies/$host-$port"
""",
    # Ends with the status in the file status, or runs until it is told to stop.
    "redis-server": """
printf '%s\\n' "$*" >>"$PLAY/arguments"
env >>"$PLAY/environment"
: >"$PLAY/started"
[ ! -e "$PLAY/status" ] || exit "$(cat "$PLAY/status")"
trap 'echo "server stopped" >>"$PLAY/asked"; exit 0' TERM
while :; do /bin/sleep 0.02; done
""",
    "redis-check-aof": """
[ ! -e "$PLAY/aof-broken" ]
""",
    # Time passes quickly, and something may happen meanwhile.
    "sleep": """
/bin/sleep 0.02
if [ -e "$PLAY/meanwhile" ]; then mv "$PLAY/meanwhile" "$PLAY/happening"; . "$PLAY/happening"; fi
""",
}


class Stage:
    """A volume, settings, a secret, and the others on the network, all in one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.replies = root / "replies"
        for folder in ("data", "replies", "bin", "settings"):
            (root / folder).mkdir()
        for script in SCRIPTS.iterdir():
            shutil.copy(script, root / "bin" / script.name)
            (root / "bin" / script.name).chmod(0o755)
        for name, body in PROGRAMS.items():
            program = root / "bin" / name
            program.write_text(f"#!/bin/sh\n{body}")
            program.chmod(0o755)
        (root / "secret").write_text(f"{PASSWORD}\n")
        (root / "settings" / "redis.conf").write_text("port 6379\n")
        (root / "settings" / "sentinel.conf").write_text(
            "port 26379\nsentinel monitor mymaster @MASTER@ 6379 2\n"
            "sentinel down-after-milliseconds mymaster @DOWN_AFTER@\n"
        )
        (root / "status").write_text("0")
        self.answer("127.0.0.1", 6379, "role:master")

    def answer(self, host: str, port: int, reply: str) -> None:
        """What that host says from now on."""
        (self.replies / f"{host}-{port}").write_text(f"{reply}\n")

    def vote(self, master: str, *sentinels: str, uptime: int = 100) -> None:
        """Sentinels that have run for so many seconds name that master."""
        for sentinel in sentinels:
            self.answer(sentinel, 26379, f"{master}\n6379\nuptime_in_seconds:{uptime}")

    def meanwhile(self, *commands: str) -> None:
        """What happens while a script sleeps for the first time."""
        (self.root / "meanwhile").write_text("".join(f"{command}\n" for command in commands))

    def file(self, name: str) -> str:
        """Content of a file of this stage, empty when it isn't there."""
        path = self.root / name
        return path.read_text() if path.exists() else ""

    def environment(self, name: str, wait: int) -> dict[str, str]:
        """What the service would set."""
        return {
            "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}",
            "PLAY": str(self.root),
            "SELF": name,
            "MASTER_NAME": "mymaster",
            "DOWN_AFTER": "1200",
            "TILT_PERIOD": "5000",
            "REDIS_HOSTS": ASKED,
            "SENTINEL_HOSTS": " ".join(SENTINELS),
            "SECRET_PATH": str(self.root / "secret"),
            "DATA_DIR": str(self.data),
            "SETTINGS_DIR": str(self.root / "settings"),
            "FAILOVER_WAIT_SECONDS": str(wait),
            "TURN_SECONDS": "3",
            "HANDOVER_SECONDS": "1",
        }

    def start(self, script: str, name: str, wait: int = 1) -> subprocess.CompletedProcess[str]:
        """Run a start script until its server has ended."""
        return subprocess.run(
            [self.root / "bin" / script],
            env=self.environment(name, wait),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def stop(self, script: str, name: str) -> int:
        """Start a script, tell it to stop as the swarm does once its server runs, and return its status."""
        (self.root / "status").unlink(missing_ok=True)
        with subprocess.Popen([self.root / "bin" / script], env=self.environment(name, 1)) as process:
            try:
                deadline = time.monotonic() + 10
                while not (self.root / "started").exists() and time.monotonic() < deadline:
                    time.sleep(0.02)
                (self.root / "asked").unlink(missing_ok=True)
                process.send_signal(signal.SIGTERM)
                return process.wait(15)
            finally:
                process.kill()

    def holds_data(self) -> None:
        """The volume has been used before."""
        (self.data / "appendonlydir").mkdir()
        (self.data / "appendonlydir" / "appendonly.aof.manifest").write_text("file x seq 1 type b\n")

    def was(self, master: str) -> None:
        """The role that Redis itself recorded, in its own spelling."""
        self.holds_data()
        (self.data / "redis.conf").write_text(f'replicaof "{master}" 6379\n' if master else "port 6379\n")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def role(stage: Stage) -> str:
    lines = stage.file("data/redis.conf").splitlines()
    return next((line.split()[1] for line in lines if line.startswith("replicaof ")), "master")


def test_the_first_of_an_empty_cluster_is_its_master(stage: Stage) -> None:
    for peer in ("redis-1", "redis-2"):
        stage.answer(peer, 6379, "# Keyspace")
    assert stage.start("start-redis", "redis-0", wait=10).returncode == 0
    assert role(stage) == "master"


def test_the_others_of_an_empty_cluster_follow_the_first(stage: Stage) -> None:
    stage.start("start-redis", "redis-2")
    assert role(stage) == "redis-0"


def test_the_named_master_is_followed_whatever_was_recorded(stage: Stage) -> None:
    stage.was("")
    stage.vote("redis-1", "sentinel-0", "sentinel-2")
    stage.start("start-redis", "redis-0")
    assert role(stage) == "redis-1"


def test_one_sentinel_is_no_majority(stage: Stage) -> None:
    stage.was("redis-2")
    stage.vote("redis-1", "sentinel-0")
    stage.vote("redis-2", "sentinel-1")
    stage.start("start-redis", "redis-0")
    assert role(stage) == "redis-2"


def test_a_restarted_master_waits_for_its_successor(stage: Stage) -> None:
    stage.was("")
    stage.vote("redis-0", *SENTINELS)
    replies = [f'"$PLAY/replies/{sentinel}-26379"' for sentinel in SENTINELS]
    stage.meanwhile(f"sed -i s/redis-0/redis-2/ {' '.join(replies)}")
    stage.start("start-redis", "redis-0", wait=10)
    assert role(stage) == "redis-2"


def test_a_restarted_master_without_a_successor_goes_on(stage: Stage) -> None:
    stage.was("")
    stage.vote("redis-0", *SENTINELS)
    began = time.monotonic()
    # The script's clock has whole seconds: the wait may be up to one shorter.
    stage.start("start-redis", "redis-0", wait=2)
    assert time.monotonic() - began >= 1
    assert role(stage) == "master"


def test_after_a_power_loss_the_recorded_master_starts_at_once(stage: Stage) -> None:
    stage.was("")
    stage.vote("redis-0", *SENTINELS, uptime=3)
    began = time.monotonic()
    stage.start("start-redis", "redis-0", wait=15)
    assert time.monotonic() - began < 10
    assert role(stage) == "master"


def test_an_empty_volume_is_no_master_while_the_data_is_elsewhere(stage: Stage) -> None:
    stage.answer("redis-1", 6379, "# Keyspace\ndb0:keys=1,expires=0")
    result = stage.start("start-redis", "redis-0")
    assert result.returncode == 1
    assert "this volume is empty" in result.stdout
    assert not (stage.root / "started").exists()


def test_an_empty_volume_follows_the_successor(stage: Stage) -> None:
    stage.vote("redis-0", *SENTINELS)
    stage.answer("redis-1", 6379, "# Keyspace\ndb0:keys=1,expires=0")
    replies = [f'"$PLAY/replies/{sentinel}-26379"' for sentinel in SENTINELS]
    stage.meanwhile(f"sed -i s/redis-0/redis-1/ {' '.join(replies)}")
    assert stage.start("start-redis", "redis-0", wait=10).returncode == 0
    assert role(stage) == "redis-1"


@pytest.mark.parametrize(("master", "aside"), [("redis-1", True), ("", False)])
def test_only_a_replica_gives_up_a_broken_file(stage: Stage, master: str, aside: bool) -> None:
    stage.was(master)
    (stage.root / "status").write_text("1")
    (stage.root / "aof-broken").touch()
    assert stage.start("start-redis", "redis-0").returncode == 1
    assert (stage.data / "appendonlydir").exists() is not aside
    assert (stage.data / "appendonlydir.broken").exists() is aside


def test_a_sound_file_stays_when_a_start_fails(stage: Stage) -> None:
    stage.was("redis-1")
    (stage.root / "status").write_text("1")
    stage.start("start-redis", "redis-0")
    assert (stage.data / "appendonlydir").exists()


@pytest.mark.parametrize(
    ("script", "name", "conf"),
    [("start-redis", "redis-1", "redis.conf"), ("start-sentinel", "sentinel-1", "sentinel.conf")],
)
def test_the_password_is_in_private_files_only(stage: Stage, script: str, name: str, conf: str) -> None:
    stage.answer("redis-0", 6379, "PONG")
    result = stage.start(script, name)
    assert f"requirepass {QUOTED}\n" in stage.file(f"data/{conf}")
    assert stat.S_IMODE((stage.data / conf).stat().st_mode) == 0o600
    assert f"AUTH {QUOTED}\n" in stage.file("asked")
    for public in (result.stdout, result.stderr, stage.file("arguments"), stage.file("environment")):
        assert PASSWORD not in public
        assert QUOTED not in public


def test_a_busy_volume_is_left_alone(stage: Stage) -> None:
    with subprocess.Popen(
        ["flock", stage.data / ".lock", "/bin/sleep", "30"], start_new_session=True
    ) as holder:
        try:
            time.sleep(0.3)
            flock = stage.root / "bin" / "flock"
            flock.write_text(f'#!/bin/sh\nshift 2\nexec {shutil.which("flock")} -n "$@"\n')
            flock.chmod(0o755)
            result = stage.start("start-redis", "redis-1")
        finally:
            os.killpg(holder.pid, signal.SIGKILL)
    assert result.returncode == 1
    assert "still uses this volume" in result.stdout
    assert not (stage.root / "started").exists()


def test_a_master_hands_over_before_it_stops(stage: Stage) -> None:
    stage.was("")
    stage.vote("redis-0", *SENTINELS, uptime=3)
    stage.answer("redis-0", 6379, "OK\nOK")
    stage.answer("127.0.0.1", 6379, "role:master\nslave0:ip=redis-1,port=6379,state=online,offset=7,lag=0")
    assert stage.stop("start-redis", "redis-0") == 0
    asked = stage.file("asked").splitlines()
    order = [
        asked.index("redis-0 6379 SET turn redis-0 NX PX 15000"),
        asked.index("127.0.0.1 6379 CLIENT PAUSE 10000 WRITE"),
        asked.index("sentinel-0 26379 SENTINEL FAILOVER mymaster"),
        asked.index("server stopped"),
    ]
    assert order == sorted(order)


def test_a_master_without_a_replica_just_stops(stage: Stage) -> None:
    stage.was("")
    stage.vote("redis-0", *SENTINELS, uptime=3)
    stage.answer("redis-0", 6379, "OK\nOK")
    assert stage.stop("start-redis", "redis-0") == 0
    assert "PAUSE" not in stage.file("asked")


def test_a_replica_only_takes_its_turn(stage: Stage) -> None:
    stage.was("redis-1")
    stage.vote("redis-1", *SENTINELS)
    stage.answer("redis-1", 6379, "OK\nOK")
    stage.answer("127.0.0.1", 6379, "role:slave\nmaster_link_status:up")
    assert stage.stop("start-redis", "redis-0") == 0
    asked = stage.file("asked")
    assert "redis-1 6379 SET turn redis-0 NX PX 15000" in asked
    assert "FAILOVER" not in asked
    assert "PAUSE" not in asked


def test_whose_turn_it_is_not_waits(stage: Stage) -> None:
    stage.was("redis-1")
    stage.vote("redis-1", *SENTINELS)
    stage.answer("redis-1", 6379, "OK\n")
    stage.answer("127.0.0.1", 6379, "role:slave\nmaster_link_status:up")
    assert stage.stop("start-redis", "redis-0") == 0
    assert stage.file("asked").count("SET turn redis-0") > 1


def test_without_a_majority_nobody_waits(stage: Stage) -> None:
    stage.was("redis-1")
    began = time.monotonic()
    assert stage.stop("start-redis", "redis-0") == 0
    assert time.monotonic() - began < 2.5
    assert "SET turn" not in stage.file("asked")


def test_a_new_sentinel_watches_whom_the_others_name(stage: Stage) -> None:
    stage.vote("redis-2", "sentinel-1", "sentinel-2")
    stage.answer("redis-2", 6379, "PONG")
    stage.start("start-sentinel", "sentinel-0")
    assert "sentinel monitor mymaster redis-2 6379 2\n" in stage.file("data/sentinel.conf")


IDENTITY = ["sentinel myid 0123456789", "sentinel current-epoch 7"]
PEERS = ["sentinel known-sentinel mymaster sentinel-2 26379 abc"]
ABOUT_THE_MASTER = [
    "sentinel config-epoch mymaster 7",
    "sentinel leader-epoch mymaster 7",
    "sentinel known-replica mymaster redis-0 6379",
]


def has_learnt(stage: Stage, master: str) -> None:
    """The volume holds the state of a Sentinel that watched that master."""
    settings = ['requirepass "old"', "sentinel down-after-milliseconds mymaster 9999"]
    monitor = [f"sentinel monitor mymaster {master} 6379 2"]
    lines = settings + monitor + IDENTITY + PEERS + ABOUT_THE_MASTER
    (stage.data / "sentinel.conf").write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize("named", ["redis-1", ""])
def test_a_sentinel_keeps_what_it_learnt_and_takes_new_settings(stage: Stage, named: str) -> None:
    has_learnt(stage, "redis-1")
    if named:
        stage.vote(named, "sentinel-1", "sentinel-2")
    stage.answer("redis-1", 6379, "PONG")
    stage.start("start-sentinel", "sentinel-0")
    now = stage.file("data/sentinel.conf").splitlines()
    assert "sentinel monitor mymaster redis-1 6379 2" in now
    assert set(IDENTITY + PEERS + ABOUT_THE_MASTER) <= set(now)
    assert "sentinel down-after-milliseconds mymaster 1200" in now
    assert not any("old" in line or "9999" in line for line in now)


def test_a_sentinel_that_was_away_follows_the_others(stage: Stage) -> None:
    has_learnt(stage, "redis-1")
    stage.vote("redis-0", "sentinel-1", "sentinel-2")
    stage.answer("redis-0", 6379, "PONG")
    stage.start("start-sentinel", "sentinel-0")
    now = stage.file("data/sentinel.conf").splitlines()
    assert "sentinel monitor mymaster redis-0 6379 2" in now
    assert set(IDENTITY + PEERS) <= set(now)
    assert not set(ABOUT_THE_MASTER) & set(now)


def runs_for(stage: Stage, seconds: float, until: str = "") -> bool:
    """Whether a Sentinel that this one's server plays runs so long, or until it was asked that, and isn't stopped."""
    (stage.root / "status").unlink()
    with subprocess.Popen(
        [stage.root / "bin" / "start-sentinel"],
        env=stage.environment("sentinel-0", 1),
        start_new_session=True,
    ) as process:
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                if process.poll() is not None:
                    return False
                if until and re.search(until, stage.file("asked")):
                    break
                time.sleep(0.05)
            return True
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_a_sentinel_that_both_others_contradict_starts_again(stage: Stage) -> None:
    stage.vote("redis-1", "sentinel-1", "sentinel-2")
    stage.answer("redis-1", 6379, "PONG")
    stage.answer("127.0.0.1", 26379, "redis-0\n6379")
    assert not runs_for(stage, 15)
    assert "server stopped" in stage.file("asked")


@pytest.mark.parametrize(
    ("own", "others"),
    [("redis-1", ("redis-1", "redis-1")), ("redis-0", ("redis-1", "redis-2")), ("redis-0", ("redis-1",))],
)
def test_a_sentinel_heeds_nothing_less_than_a_majority(
    stage: Stage, own: str, others: tuple[str, ...]
) -> None:
    for sentinel, master in zip(SENTINELS[1:], others, strict=False):
        stage.vote(master, sentinel)
    stage.answer("redis-1", 6379, "PONG")
    stage.answer("redis-0", 6379, "PONG")
    stage.answer("127.0.0.1", 26379, f"{own}\n6379")
    assert runs_for(stage, 3)


def test_a_sentinel_that_stood_still_judges_soon_again(stage: Stage) -> None:
    stage.answer("redis-0", 6379, "PONG")
    assert runs_for(stage, 20, until="tilt-period")
    assert "127.0.0.1 26379 SENTINEL DEBUG tilt-period 5000" in stage.file("asked")


def test_a_sentinel_allows_older_replicas_the_longer_a_majority_misses_the_master(stage: Stage) -> None:
    stage.answer("redis-0", 6379, "PONG")
    stage.answer("127.0.0.1", 26379, "flags\ns_down,o_down,master,disconnected")
    assert runs_for(stage, 20, until="down-after-milliseconds 10000")
    asked = stage.file("asked")
    set_to = [
        int(milliseconds)
        for milliseconds in re.findall(r"SENTINEL SET mymaster down-after-milliseconds (\d+)", asked)
    ]
    # Nothing at the first look; from then on never as long as the master has been missed for.
    assert set_to[:2] == [5000, 10000]
    assert asked.count("SENTINEL master mymaster") - len(set_to) in (1, 2)


def test_a_sentinel_is_as_strict_as_before_once_there_is_a_master(stage: Stage) -> None:
    stage.answer("redis-0", 6379, "PONG")
    stage.answer("127.0.0.1", 26379, "flags\ns_down,o_down,master")
    there_again = """
        (until grep -q 'down-after-milliseconds 5000' "$PLAY/asked"; do /bin/sleep 0.05; done
         printf "flags\\nmaster\\n" >"$PLAY/replies/127.0.0.1-26379") &
    """
    stage.meanwhile(there_again)
    # Two more looks, in which it must not be said again.
    assert runs_for(stage, 20, until=r"milliseconds 1200(?s:.*SENTINEL master mymaster){2}")
    asked = re.findall(r"down-after-milliseconds (\d+)", stage.file("asked"))
    assert asked[0] == "5000"
    assert asked[-1] == "1200"
    assert asked.count("1200") == 1


def test_one_who_alone_misses_the_master_stays_strict(stage: Stage) -> None:
    stage.answer("redis-0", 6379, "PONG")
    stage.answer("127.0.0.1", 26379, "flags\ns_down,master")
    assert runs_for(stage, 2)
    assert "down-after-milliseconds" not in stage.file("asked")


def test_a_sentinel_gives_the_recorded_master_time(stage: Stage) -> None:
    stage.meanwhile('echo LOADING >"$PLAY/replies/redis-0-6379"')
    result = stage.start("start-sentinel", "sentinel-0")
    assert "watching redis-0, waited for it 1 times" in result.stdout


@pytest.mark.parametrize(
    ("reply", "alive"),
    [
        ("PONG", True),
        ("LOADING Redis is loading the dataset in memory", True),
        ("", False),
        ("NOAUTH", False),
    ],
)
def test_alive_is_whoever_answers(stage: Stage, reply: str, alive: bool) -> None:
    stage.answer("127.0.0.1", 6379, reply)
    result = subprocess.run(
        [stage.root / "bin" / "redis-alive", "6379"], env=stage.environment("redis-0", 1), check=False
    )
    assert (result.returncode == 0) is alive
