"""What is done about an event: a function of the event, what the journal knows, and the time; nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .records import BLOCK, DONE, FAILED, PARTLY, QUEUED, REFUSED, RUNNING, SCALE, Action, Alarm, Event, Wish
from .words import clock

#: Seconds after which what the nodes' program refused may be asked for again, and the longest pause before that. The
#: reason may be over soon, such as a rollout, or never, such as a bound.
_SOON, _LONGEST = 30, 3600
#: Seconds after which a block that failed may be tried for another event.
_AFTER_FAILURE = 30


@dataclass(frozen=True)
class Known:
    """What the journal knows of an event's alarm.

    newest: the newest time that an event of this level and instance told. alarm: the one that is open. actions: those
    about the same target, the newest first. departed: whether what an engine misses isn't wanted any more.
    """

    newest: float | None
    alarm: Alarm | None
    actions: Sequence[Action] = ()
    departed: bool = False


@dataclass(frozen=True)
class Decision:
    """told: what was decided, in words. opens, closes: what becomes of the alarm. held: why the wish isn't granted."""

    told: str
    opens: bool = False
    closes: bool = False
    wish: Wish | None = None
    held: str = ""


def decide(event: Event, wish: Wish | None, known: Known, cooldown: float, now: float) -> Decision:
    """What is done about an event. wish: what its level asks for. cooldown: seconds between changes of a service."""
    if known.newest is not None and event.at < known.newest:
        return Decision("late: a newer event of it was taken before")
    if not event.firing:
        return Decision("recovered", closes=True) if known.alarm else Decision("no such alarm is open")
    if known.departed and not known.alarm:
        return Decision("not missed: as many tell something as the swarm wants")
    told = f"open since {clock(known.alarm.opened)}" if known.alarm else "alarm"
    # For a replica an alarm that goes on asks again in its own time, however often its engine tells of it.
    if wish is None or (known.alarm and wish.kind == SCALE):
        return Decision(told, opens=known.alarm is None)
    held = hold(wish, known.actions, cooldown, now)
    granted = f"{told}; refused: {held}" if held else f"{told}; {_words(wish)}"
    return Decision(granted, known.alarm is None, wish=wish, held=held)


def _words(wish: Wish) -> str:
    return f"{wish.target} {wish.arguments['by']:+d}" if wish.kind == SCALE else f"{wish.kind} {wish.target}"


def hold(wish: Wish, actions: Sequence[Action], cooldown: float, now: float) -> str:
    """Why a wish isn't granted; empty if it is. actions: those about its target, the newest first."""
    # What was refused here was never tried.
    tried = [action for action in actions if action.attempts or action.state in (QUEUED, RUNNING)]
    return _hold_block(wish, tried, now) if wish.kind == BLOCK else _hold_scale(wish, tried, cooldown, now)


def _hold_scale(wish: Wish, tried: Sequence[Action], cooldown: float, now: float) -> str:
    for action in tried:
        if action.kind != SCALE:
            continue
        # Up wins over down.
        if wish.arguments["by"] > 0 > action.arguments["by"]:
            continue
        if action.state in (QUEUED, RUNNING):
            return f"{action.what} is under way (action {action.id})"
        since = now - (action.ended or action.asked)
        became = f"{action.what} was {action.state} {since:.0f} s ago (action {action.id})"
        if action.state == REFUSED:
            if since < _SOON:
                return f"{became}, and it is asked for again after {_SOON} s"
        elif since < cooldown:
            return f"{became}, and there is one change in {cooldown:.0f} s"
    return ""


def _hold_block(wish: Wish, tried: Sequence[Action], now: float) -> str:
    for action in tried:
        if action.state == FAILED and now - (action.ended or now) < _AFTER_FAILURE:
            return f"{action.what} failed a moment ago (action {action.id})"
        if action.state in (REFUSED, FAILED):
            continue
        if action.kind != BLOCK:
            return ""
        if action.state in (QUEUED, RUNNING, PARTLY):
            return f"{wish.target} is being blocked (action {action.id})"
        if action.until and action.until > now:
            return f"{wish.target} is blocked until {clock(action.until)} (action {action.id})"
    return ""


def again(actions: Sequence[Action], cooldown: float, now: float) -> bool:
    """Whether an alarm that goes on asks for its scaling once more. actions: the alarm's own, the newest first.

    After each refusal in a row the pause is twice as long: at the bounds of a service there is nothing to be had.
    """
    if not actions or actions[0].state not in (DONE, REFUSED, FAILED):
        return False
    # What was refused here was never tried.
    tried = [action for action in actions if action.attempts]
    refused = next((number for number, action in enumerate(tried) if action.state != REFUSED), len(tried))
    pause = min(_SOON * 2.0 ** min(refused - 1, 10), _LONGEST) if refused else cooldown
    return now - (actions[0].ended or actions[0].asked) >= pause
