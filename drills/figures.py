"""The figures of a drill, from its records alone. All are in seconds unless their name says otherwise."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from drills.check import Verdict
from drills.records import Attempt, Event, Outcome, Reading, Record, Sight, SignIn, Skip, TierSample

OUTAGE_BEGINS_WITHIN = 10.0
"""Seconds after the failure in which an interval without acknowledgement still counts as its effect."""


@dataclass(frozen=True)
class Gap:
    """An interval without an acknowledged post, from one acknowledgement to the next."""

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.ended - self.began


@dataclass(frozen=True)
class Figures:
    """What a drill measured.

    next_acknowledged: from the moment at which the failure has certainly happened (its injection has returned)
    to the answer of the first acknowledged post attempted after it.
    gap: the longest interval without acknowledgement that reaches past the failure and begins at most ten
    seconds after it, or after the last one where a drill has several. outage: the larger of the two, which is
    what a limit is held against.
    healed: tier -> from the failure (or from `restored`, when that is later) to when it was whole for good;
    0 when it was never seen otherwise. replaced: services whose containers changed between the first and the last
    census, if the drill took any. None everywhere: it didn't come to that.
    """

    next_acknowledged: float | None
    gap: float | None
    outage: float | None
    longest_gap_later: float | None
    attempts: int
    acknowledged: int
    failed: int
    unknown: int
    unsent: int
    errors_before: int
    skipped: int
    stale_reads: int
    failed_reads: int
    sign_ins: int
    replaced: tuple[str, ...]
    healed: dict[str, float | None]
    whole_again: float | None


def measure(records: Sequence[Record]) -> Figures:
    """Compute the figures of a run. Raises ValueError when no failure was recorded."""
    failure = the_failure(records)
    restored = event_named(records, "restored")
    attempts = [record for record in records if isinstance(record, Attempt)]
    outcomes = Counter(attempt.outcome for attempt in attempts)
    readings = Counter(record.sight for record in records if isinstance(record, Reading))
    gap = gap_around(records)
    following = next_acknowledged(attempts, failure)
    healing_from = max(failure.began, restored.ended if restored else 0.0)
    healed = healed_after([r for r in records if isinstance(r, TierSample)], failure.began, healing_from)
    return Figures(
        next_acknowledged=following,
        gap=gap.seconds if gap else None,
        outage=max(following, gap.seconds) if gap and following is not None else None,
        longest_gap_later=longest_gap_after(attempts, gap.ended) if gap else None,
        attempts=len(attempts),
        acknowledged=outcomes[Outcome.ACKNOWLEDGED],
        failed=outcomes[Outcome.FAILED],
        unknown=outcomes[Outcome.UNKNOWN],
        unsent=outcomes[Outcome.UNSENT],
        errors_before=sum(
            attempt.ended < failure.began and attempt.outcome is not Outcome.ACKNOWLEDGED
            for attempt in attempts
        ),
        skipped=sum(isinstance(record, Skip) for record in records),
        stale_reads=readings[Sight.STALE],
        failed_reads=readings[Sight.FAILED],
        sign_ins=sum(isinstance(record, SignIn) and record.accepted for record in records),
        replaced=replaced([record for record in records if isinstance(record, Event)]),
        healed=healed,
        whole_again=None if None in healed.values() else max((h for h in healed.values() if h), default=0.0),
    )


def the_failure(records: Sequence[Record]) -> Event:
    """The moment of injection. Raises ValueError when none was recorded."""
    failure = event_named(records, "failure")
    if failure is None:
        raise ValueError("the run recorded no failure, so there is nothing to measure")
    return failure


def event_named(records: Sequence[Record], name: str) -> Event | None:
    """The first event of that name."""
    return next((r for r in records if isinstance(r, Event) and r.name == name), None)


def acknowledgements(attempts: Sequence[Attempt]) -> list[float]:
    """The moments at which posts were acknowledged, in order."""
    return sorted(attempt.ended for attempt in attempts if attempt.outcome is Outcome.ACKNOWLEDGED)


def next_acknowledged(attempts: Sequence[Attempt], failure: Event) -> float | None:
    """From the end of the injection to the first answer to a post that was attempted after it."""
    moments = [
        attempt.ended
        for attempt in attempts
        if attempt.outcome is Outcome.ACKNOWLEDGED and attempt.began >= failure.ended
    ]
    return min(moments) - failure.ended if moments else None


def gap_around(records: Sequence[Record]) -> Gap | None:
    """The longest gap that reaches past the failure and begins at most OUTAGE_BEGINS_WITHIN after the last one.

    Raises ValueError when no failure was recorded.
    """
    first = the_failure(records)
    last = max(record.began for record in records if isinstance(record, Event) and record.name == first.name)
    attempts = [record for record in records if isinstance(record, Attempt)]
    gaps = [
        Gap(began, ended)
        for began, ended in pairwise(acknowledgements(attempts))
        if ended > first.began and began < last + OUTAGE_BEGINS_WITHIN
    ]
    return max(gaps, key=lambda gap: gap.seconds, default=None)


def longest_gap_after(attempts: Sequence[Attempt], moment: float) -> float | None:
    """Length of the longest gap that begins at or after a moment, such as a returning node causes."""
    moments = [when for when in acknowledgements(attempts) if when >= moment]
    return max((ended - began for began, ended in pairwise(moments)), default=None)


def healed_after(
    samples: Sequence[TierSample], failed_at: float, healing_from: float
) -> dict[str, float | None]:
    """For each tier: from `healing_from` to the first of the samples that show it whole until the end."""
    after = sorted((s for s in samples if s.at >= failed_at), key=lambda sample: sample.at)
    return {
        tier: _healed(tier, after, healing_from)
        for tier in sorted({name for sample in samples for name in sample.tiers})
    }


def _healed(tier: str, samples: Sequence[TierSample], healing_from: float) -> float | None:
    broken = [number for number, sample in enumerate(samples) if sample.tiers.get(tier, ("not seen",))]
    if not broken:
        return 0.0
    if broken[-1] + 1 == len(samples):
        return None
    return max(0.0, samples[broken[-1] + 1].at - healing_from)


def replaced(events: Sequence[Event]) -> tuple[str, ...]:
    """Services whose containers are others in the last census than in the first one."""
    taken = sorted((event for event in events if event.name == "census"), key=lambda event: event.began)
    if len(taken) < 2:
        return ()
    changed = set(taken[0].what.split()) ^ set(taken[-1].what.split())
    return tuple(sorted({container.partition(":")[0] for container in changed}))


def faults(figures: Figures, verdict: Verdict) -> list[str]:
    """What a drill must not show, in words; none when it passed."""
    found = []
    if verdict.lost:
        found.append(f"{len(verdict.lost)} acknowledged posts are missing: {', '.join(verdict.lost[:5])}")
    if verdict.doubled:
        found.append(f"{len(verdict.doubled)} posts are there twice: {', '.join(verdict.doubled[:5])}")
    if verdict.impossible:
        found.append(f"{len(verdict.impossible)} posts are there that were never sent")
    if figures.stale_reads:
        found.append(f"{figures.stale_reads} readers missed their own acknowledged post")
    if figures.next_acknowledged is None:
        found.append("no post was acknowledged after the failure")
    if figures.replaced:
        found.append(f"containers were replaced: {', '.join(figures.replaced)}")
    found.extend(f"{tier} did not heal" for tier, seconds in figures.healed.items() if seconds is None)
    return found
