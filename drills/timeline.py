"""The picture of a drill: every attempt of every user over time, the state of every tier, and the events."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from drills.records import Attempt, Event, Outcome, Reading, Record, Sight, TierSample

WIDTH = 1200
LEFT = 120
TOP = 46
ROW = 9
BAND = 13
GAP = 26
TICKS = (1, 2, 5, 10, 20, 30, 60, 120)
MOST_TICKS = 24


@dataclass(frozen=True)
class Scale:
    """Seconds since the epoch to pixels. zero is the failure."""

    begin: float
    end: float
    zero: float

    def x(self, moment: float) -> float:
        """The horizontal position of a moment, kept inside the picture."""
        inside = min(max(moment, self.begin), self.end)
        return LEFT + (WIDTH - LEFT - 10) * (inside - self.begin) / max(self.end - self.begin, 1e-9)

    def ticks(self) -> list[int]:
        """Whole seconds relative to the failure that get a mark."""
        span = self.end - self.begin
        step = next((tick for tick in TICKS if span / tick <= MOST_TICKS), 300)
        first = -int((self.zero - self.begin) // step)
        return [number * step for number in range(first, int((self.end - self.zero) // step) + 1)]


def draw(records: Sequence[Record], marks: Sequence[Event]) -> str:
    """An SVG element. marks: events drawn as vertical lines; the first one is the failure and time zero.

    Raises ValueError without an attempt or without a mark.
    """
    attempts = [record for record in records if isinstance(record, Attempt)]
    if not attempts or not marks:
        raise ValueError("a timeline needs attempts and the failure")
    samples = sorted((r for r in records if isinstance(r, TierSample)), key=lambda sample: sample.at)
    scale = Scale(
        min(attempt.began for attempt in attempts), max(attempt.ended for attempt in attempts), marks[0].began
    )
    users = sorted({attempt.user for attempt in attempts})
    tiers = sorted({tier for sample in samples for tier in sample.tiers})
    tiers_top = TOP + ROW * len(users) + GAP
    height = tiers_top + BAND * len(tiers) + GAP
    stale = {r.marker for r in records if isinstance(r, Reading) and r.sight is Sight.STALE}
    parts = [
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Posts and tiers">',
        *_axis(scale, height),
        f'<text x="0" y="{TOP - 4}">users</text>',
        *_attempts(attempts, users, scale, stale),
        f'<text x="0" y="{tiers_top - 6}">tiers</text>' if tiers else "",
        *_tiers(samples, tiers, scale, tiers_top),
        *_marks(marks, scale, height),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part)


def _axis(scale: Scale, height: int) -> Iterator[str]:
    for tick in scale.ticks():
        x = scale.x(scale.zero + tick)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 2}" y2="{height - GAP + 6}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{height - 8}">{tick:+d} s</text>'


def _attempts(
    attempts: Sequence[Attempt], users: Sequence[str], scale: Scale, stale: set[str]
) -> Iterator[str]:
    for attempt in attempts:
        x = scale.x(attempt.began)
        width = max(scale.x(attempt.ended) - x, 2)
        y = TOP + ROW * users.index(attempt.user)
        look = "stale" if attempt.marker in stale else attempt.outcome.value
        seconds = attempt.ended - attempt.began
        told = (
            f"{attempt.user}, {attempt.began - scale.zero:+.2f} s: {look} after {seconds:.2f} s {attempt.why}"
        )
        yield (
            f'<rect class="{look}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 2}">'
            f"<title>{escape(told)}</title></rect>"
        )


def _tiers(samples: Sequence[TierSample], tiers: Sequence[str], scale: Scale, top: int) -> Iterator[str]:
    for row, tier in enumerate(tiers):
        y = top + BAND * row
        yield f'<text x="0" y="{y + BAND - 4}">{escape(tier)}</text>'
        for sample, following in zip(samples, [*samples[1:], None], strict=True):
            x = scale.x(sample.at)
            width = scale.x(following.at if following else scale.end) - x
            reasons = sample.tiers.get(tier, ("not seen",))
            told = f"{sample.at - scale.zero:+.1f} s: {'; '.join(reasons) or 'whole'}"
            yield (
                f'<rect class="{"broken" if reasons else "whole"}" x="{x:.1f}" y="{y}" width="{width:.1f}"'
                f' height="{BAND - 3}"><title>{escape(told)}</title></rect>'
            )


def _marks(marks: Sequence[Event], scale: Scale, height: int) -> Iterator[str]:
    for number, mark in enumerate(marks):
        x = scale.x(mark.began)
        y = 12 + 12 * (number % 3)
        anchor, text_x = ("end", x - 4) if x > WIDTH * 0.85 else ("start", x + 4)
        told = f"{mark.name} {mark.began - scale.zero:+.1f} s"
        yield f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 8}" y2="{height - GAP + 6}"/>'
        yield f'<text class="mark" x="{text_x:.1f}" y="{y}" text-anchor="{anchor}">{escape(told)}</text>'


LEGEND = (
    (Outcome.ACKNOWLEDGED.value, "acknowledged"),
    (Outcome.FAILED.value, "answered with an error"),
    (Outcome.UNKNOWN.value, "never answered"),
    (Outcome.UNSENT.value, "no address took it"),
    ("stale", "acknowledged, then not seen by its author"),
    ("whole", "tier whole"),
    ("broken", "tier not whole"),
)
