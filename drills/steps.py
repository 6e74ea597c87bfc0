"""The steps of a drill, one command each; `playbooks/drill.yml` runs them in order.

Each takes the run's directory, which holds run.json: drill, run, stack, forum_urls, forum_host (the name that they
are addresses of), ca_file ('' for the machine's own authorities), accounts_file, users, pace, look_every (seconds),
machines ([{name, reach: [words]}]).
"""

import argparse
import fcntl
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drills import ledger, report, tiers
from drills.accounts import AccountBook
from drills.check import read_contents
from drills.records import Attempt, Event, Record, TierSample, now, read_records

#: Seconds for which what the last look complains of may be over.
LAST_LOOKS = 30


@dataclass(frozen=True)
class Settings:
    """What run.json says."""

    run: ledger.Run
    fields: dict[str, Any]

    @classmethod
    def load(cls, directory: Path) -> "Settings":
        """Read run.json. Raises OSError or ValueError."""
        return cls(ledger.Run(directory), json.loads((directory / "run.json").read_text()))

    @property
    def plan(self) -> ledger.Plan:
        """How the ledger writes."""
        return ledger.Plan(
            tuple(self.fields["forum_urls"]),
            self.ca_file,
            self.fields["forum_host"],
            users=int(self.fields["users"]),
            pace=float(self.fields["pace"]),
        )

    @property
    def ca_file(self) -> str | None:
        """What must have signed the forum's certificate; None: an authority that this machine trusts."""
        return self.fields["ca_file"] or None

    @property
    def machines(self) -> dict[str, tiers.Machine]:
        """The swarm's machines by name."""
        return {m["name"]: tiers.Machine(m["name"], tuple(m["reach"])) for m in self.fields["machines"]}

    def look(self) -> tiers.Snapshot:
        """One look at the whole."""
        return tiers.look(
            list(self.machines.values()),
            self.fields["forum_urls"],
            self.ca_file,
            self.fields["forum_host"],
            self.fields["stack"],
        )


def say(text: str) -> None:
    """One line of progress."""
    print(text, flush=True)


def write(settings: Settings, options: argparse.Namespace) -> int:
    """Post until the stop file appears, but not for ever, then read everything back."""
    run, plan = settings.run, settings.plan
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    journal = run.journal("attempts")
    accounts = Path(settings.fields["accounts_file"])
    lock = accounts.with_suffix(".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return fail(f"another drill is writing ({accounts} is in use): one at a time")
    book = AccountBook(accounts)
    writers = ledger.prepare(plan, book, journal, say)
    threads = ledger.start_threads(plan, writers, str(settings.fields["run"]))
    run.ready_file.write_text(json.dumps({"threads": threads}))
    say(f"{len(writers)} users write to {len(threads)} threads, one post every {plan.pace} s")
    # Whoever should tell it to stop may have been killed.
    deadline = time.monotonic() + options.within
    ledger.write_until(
        plan,
        writers,
        threads,
        journal,
        lambda: stopping or run.stop_file.exists() or time.monotonic() > deadline,
    )
    book.count([writer.account.username for writer in writers for _ in range(writer.posts)])
    book.save()
    say("stopped; reading every thread back")
    contents = read_contents(writers[0].visitor, threads)
    run.contents_file.write_text(json.dumps(contents, indent=1))
    for writer in writers:
        writer.visitor.browser.close()
    journal.close()
    return 0


def ready(settings: Settings, options: argparse.Namespace) -> int:
    """Wait until posts are acknowledged steadily, for so many seconds."""
    deadline = time.monotonic() + options.within
    while time.monotonic() < deadline:
        attempts = [r for r in read_records(settings.run.directory) if isinstance(r, Attempt)]
        recent = [attempt.outcome.value for attempt in attempts if attempt.began > now() - options.steady]
        long_enough = any(attempt.began <= now() - options.steady for attempt in attempts)
        if long_enough and set(recent) == {"acknowledged"}:
            say(f"{len(attempts)} posts, the last {len(recent)} all acknowledged")
            return 0
        time.sleep(0.5)
    return fail(f"no {options.steady} seconds of acknowledged posts within {options.within} s")


def whole(settings: Settings, options: argparse.Namespace) -> int:
    """Look until every tier has been whole for `steady` seconds; each look goes to the journal."""
    since: float | None = None
    reasons = ""
    for reasons in looks(settings, options.within):
        since = None if reasons else (since or time.monotonic())
        if since is not None and time.monotonic() - since >= options.steady:
            return 0
    return fail(f"not whole within {options.within} s: {reasons or 'not for long enough'}")


def watch(settings: Settings, options: argparse.Namespace) -> int:
    """Look until the stop file appears, whatever is seen; each look goes to the journal.

    A complaint of the last look is looked at again for LAST_LOOKS seconds: a tier that is busy for a moment just then
    isn't one that didn't heal.
    """
    stopped: float | None = None
    for reasons in looks(settings, options.seconds):
        if not settings.run.stop_file.exists():
            continue
        stopped = stopped or time.monotonic()
        if not reasons or time.monotonic() - stopped > LAST_LOOKS:
            break
    return 0


def healed(settings: Settings, options: argparse.Namespace) -> int:
    """Wait until the looks of `watch` have shown everything whole for `steady` seconds after the last event."""
    deadline = time.monotonic() + options.within
    while time.monotonic() < deadline:
        if whole_for(read_records(settings.run.directory)) >= options.steady:
            return 0
        time.sleep(1)
    return fail(f"not whole within {options.within} s")


def whole_for(records: Sequence[Record]) -> float:
    """For how many seconds, up to the newest look, every look after the last event has shown all tiers whole."""
    begin = max((record.ended for record in records if isinstance(record, Event)), default=0.0)
    samples = [record for record in records if isinstance(record, TierSample) and record.at > begin]
    samples.sort(key=lambda sample: sample.at)
    broken = [number for number, sample in enumerate(samples) if any(sample.tiers.values())]
    whole_samples = samples[broken[-1] + 1 :] if broken else samples
    return whole_samples[-1].at - whole_samples[0].at if whole_samples else 0.0


def looks(settings: Settings, seconds: float) -> Iterator[str]:
    """For so many seconds: what is missing, in words, at every look."""
    journal = settings.run.journal("tiers")
    deadline = time.monotonic() + seconds
    told = ""
    while time.monotonic() < deadline:
        missing = tiers.what_is_missing(settings.look())
        journal.write(TierSample(now(), missing))
        reasons = "; ".join(f"{tier}: {', '.join(why)}" for tier, why in missing.items() if why)
        if reasons != told:
            say(f"{time.strftime('%H:%M:%S')} {reasons or 'whole'}")
            told = reasons
        yield reasons
        time.sleep(max(0.0, min(float(settings.fields["look_every"]), deadline - time.monotonic())))


def target(settings: Settings, options: argparse.Namespace) -> int:
    """Print which container plays a part now, as JSON: machine, id, service."""
    snapshot = settings.look()
    try:
        chosen = pick(snapshot, options.part)
    except LookupError as error:
        return fail(str(error))
    print(json.dumps({"machine": chosen.machine, "id": chosen.id, "service": chosen.service}))
    return 0


def pick(snapshot: tiers.Snapshot, part: str) -> tiers.Container:
    """The container that plays a part: postgres_primary, redis_master, or the first of a tier by name.

    Raises LookupError when there is none.
    """
    if part == "postgres_primary":
        return tiers.primary(snapshot)
    if part == "redis_master":
        return tiers.master(snapshot)
    found = snapshot.of(part)
    if not found:
        raise LookupError(f"no task of {part} runs on a machine that answers")
    return found[0]


def do(settings: Settings, options: argparse.Namespace) -> int:
    """Run a command and record it as an event with its begin and end; its exit code is this one's."""
    command = settings.machines[options.on].command(*options.command) if options.on else options.command
    began = now()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    journal = settings.run.journal("events")
    journal.write(Event(options.name, began, now(), options.what))
    return 0 if options.whatever_it_returns else done.returncode


def census(settings: Settings, _: argparse.Namespace) -> int:
    """Record which containers run: two of these tell what was replaced in between."""
    began = now()
    running = sorted(f"{one.service}:{one.id}" for one in settings.look().containers)
    settings.run.journal("events").write(Event("census", began, now(), " ".join(running)))
    return 0


def finish(settings: Settings, _: argparse.Namespace) -> int:
    """Judge the run and write its report; fails when a promise was broken or something did not heal."""
    records = read_records(settings.run.directory)
    contents = json.loads(settings.run.contents_file.read_text())
    made = report.summarise(str(settings.fields["drill"]), str(settings.fields["run"]), records, contents)
    report.write(settings.run.directory, made, records)
    say(report.summary(made))
    return 0 if made["passed"] else 1


def fail(reason: str) -> int:
    """Say why on standard error."""
    print(reason, file=sys.stderr, flush=True)
    return 1


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="drills.steps", description=__doc__)
    steps = parser.add_subparsers(required=True, metavar="STEP")
    for step in (write, ready, whole, watch, healed, target, do, census, finish):
        sub = steps.add_parser(step.__name__, help=step.__doc__)
        sub.add_argument("directory", type=Path, help="the run's directory, with run.json")
        sub.set_defaults(step=step)
        if step in (write, ready, whole, healed):
            sub.add_argument("--within", type=float, default=300.0, help="seconds to wait at most")
            sub.add_argument("--steady", type=float, default=5.0, help="seconds that it must last")
        if step is watch:
            sub.add_argument("seconds", type=float, help="how long at most")
        if step is target:
            sub.add_argument("part", help="postgres_primary, redis_master, or a tier such as pgpool")
        if step is do:
            sub.add_argument("name", help="the event's name; `failure` is time zero of the report")
            sub.add_argument("what", help="what is done, in words")
            sub.add_argument("--on", metavar="MACHINE", help="where to run it; without: here")
            sub.add_argument("--whatever-it-returns", action="store_true", help="don't fail with the command")
            sub.add_argument("command", nargs="+", help="the command and its arguments, after --")
    return parser


def main() -> int:
    """Run one step."""
    options = arguments().parse_args()
    step = options.step
    return int(step(Settings.load(options.directory), options))


if __name__ == "__main__":
    sys.exit(main())
