"""What is done about alarms: taken in, decided, carried out, told, and watched until it is over."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import cherrypy

from . import decide, intake, slack, words
from .intake import RefusedError
from .journal import Journal
from .judge import SIGNS
from .records import (
    BLOCK,
    DONE,
    FAILED,
    PARTLY,
    QUEUED,
    SCALE,
    SYNC,
    Action,
    Alarm,
    Event,
    Wish,
)
from .runner import Outcome, Runner

#: Runs of an action that fails, and seconds between them.
_TRIES, _PAUSE = 2, 2
#: Seconds until a block that a part of the machines has is tried again: the first time, and at most.
_SOON, _LATER = 10, 300
#: Seconds between two times that the edge nodes' lists are brought together.
_SYNC_EVERY = 600
_DAY = 86400
#: Seconds that the journal remembers.
_KEPT = 90 * _DAY

Clock = Callable[[], float]
#: Whether an alarm's figures are good; None where nobody knows.
Judged = Callable[[Alarm, Mapping[str, Any]], bool | None]


class Actions:
    """The alarms and what is done about them."""

    def __init__(
        self,
        journal: Journal,
        runner: Runner,
        levels: Mapping[str, Mapping[str, Any]],
        engines: Mapping[str, str],
        links: slack.Links,
        judged: Judged,
        *,
        cooldown: float,
        reminder: float,
        told: bool,
        clock: Clock = time.time,
    ) -> None:
        """levels: those that have an alarm, by name. engines: level -> who may tell of it. told: whether Slack is on.

        judged: asked without a lock, it may take a while.

        cooldown, reminder: seconds between two changes of a service, and between two messages of an alarm that goes on.
        """
        self.journal, self._runner, self._clock = journal, runner, clock
        self._levels, self._engines, self._links = levels, engines, links
        self._judged, self._cooldown, self._reminder, self._told = judged, cooldown, reminder, told
        self._news = threading.Condition()
        #: What was taken and refused since the start, by engine and answer.
        self.counted: Counter[tuple[str, int]] = Counter()
        self._counting = threading.Lock()
        for action in journal.resume():
            cherrypy.log(
                f"action {action.id} ({action.what}) ran when the server ended: it is run again", "ACTIONS"
            )

    # Intake

    def count(self, who: str, status: int) -> None:
        """Count an answer."""
        with self._counting:
            self.counted[who, status] += 1

    def take(self, engine: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Take in an event. Returns status and answer. Raises RefusedError."""
        now = self._clock()
        event = intake.event(engine, body, now)
        level = self._levels.get(event.level)
        if level is None:
            raise RefusedError(404, f"There is no alarm {event.level!r}.")
        if self._engines.get(event.level) != engine:
            carries = self._engines.get(event.level, "nobody")
            raise RefusedError(403, f"{carries} carries {event.level}, {engine} doesn't.")
        wish = (
            intake.wish_of(event, level["alarm"].get("action", {}), _reason(level, event))
            if event.firing
            else None
        )
        departed = self._departed(event, level, now)
        with self.journal.change():
            if before := self.journal.event(event):
                return 200, {"event": before[0], "decided": "a duplicate: nothing was done again"}
            number, told = self._decide(event, level, wish, departed, now)
        self._wake()
        return 202, {"event": number, "decided": told}

    def _departed(self, event: Event, level: Mapping[str, Any], now: float) -> bool:
        """Whether an engine misses what the swarm no longer wants: engines don't know what it wants, the board does."""
        if not event.firing or level["aggregation"] != "silence":
            return False
        return bool(self._judged(Alarm(0, event.level, event.instance, now, event.at), level))

    def _decide(
        self, event: Event, level: Mapping[str, Any], wish: Wish | None, departed: bool, now: float
    ) -> tuple[int, str]:
        known = decide.Known(
            self.journal.newest(event.level, event.instance),
            self.journal.alarm(event.level, event.instance),
            self.journal.about(wish) if wish else (),
            departed,
        )
        decided = decide.decide(event, wish, known, self._cooldown, now)
        number = self.journal.add_event(event, decided.told, now)
        alarm = known.alarm
        if decided.closes and alarm:
            self._close(alarm, level, f"{event.engine} says so", now)
        if decided.opens:
            alarm = self.journal.open_alarm(event, number, now)
        elif alarm and event.firing and event.at >= alarm.seen:
            self.journal.touch_alarm(alarm.id, event.at, event.value)
        todo = ""
        if decided.wish and alarm:
            # Of an alarm that goes on, only what is done is kept.
            if decided.opens or not decided.held:
                self._ask(decided.wish, event.level, alarm, decided.held, now)
            todo = f"Refused: {decided.held}." if decided.held else f"To do: {_todo(decided.wish)}."
        if decided.opens and alarm:
            self._tell(event.level, slack.alarm_text(level, alarm, todo, self._links), now)
        return number, decided.told

    def _ask(self, wish: Wish, by: str, alarm: Alarm | None, held: str, now: float) -> Action:
        action = self.journal.ask(wish, by, alarm.id if alarm else None, now, held)
        if wish.kind == SCALE and not held and wish.arguments["by"] > 0:
            self.journal.give_way(wish.target, f"{action.what} was asked for (action {action.id})", now)
        return action

    def _close(self, alarm: Alarm, level: Mapping[str, Any], why: str, now: float) -> None:
        if self.journal.close_alarm(alarm.id, why, now):
            self._tell(level["id"], slack.recovery_text(level, alarm, why, now, self._links), now)

    def _tell(self, level: str, text: str, now: float) -> None:
        if self._told:
            self.journal.post(level, text, now)

    def ask(self, wish: Wish, by: str) -> Action:
        """Put an operator's wish into the queue."""
        action = self._ask(wish, by, None, "", self._clock())
        self._wake()
        return action

    def _wake(self) -> None:
        with self._news:
            self._news.notify_all()

    # Carrying out

    def step(self) -> bool:
        """Run the next action that is due. Returns whether there was one."""
        action = self.journal.begin(self._clock())
        if action is None:
            return False
        outcome = self._runner.run(action)
        settled = self._settle(action, outcome, self._clock())
        cherrypy.log(f"action {settled.id} ({settled.what}) is {settled.state}: {settled.reason}", "ACTIONS")
        return True

    def _settle(self, action: Action, outcome: Outcome, now: float) -> Action:
        state, due, reason = outcome.state, 0.0, outcome.reason
        if state == FAILED and action.attempts < _TRIES:
            # Told when it has failed for good.
            return self.journal.settle(
                action.id, QUEUED, f"{reason}; tried once more", outcome.result, now, now + _PAUSE
            )
        # Also where a further try of it reached nobody: those that have it go on having it.
        half = state == PARTLY or (
            state == FAILED and action.kind == BLOCK and bool(action.result.get("done"))
        )
        if half:
            result = outcome.result if state == PARTLY else action.result
            until = result.get("until") if action.kind == BLOCK else action.asked + _DAY
            state, due = PARTLY, now + min(_SOON * 2 ** min(action.attempts - 1, 10), _LATER)
            if until and due >= until:
                state, reason = DONE, f"{reason}; it expires before it can be tried again"
            outcome = Outcome(state, reason, result)
        with self.journal.change():
            settled = self.journal.settle(action.id, state, reason, outcome.result, now, due)
            # A block that still lacks somewhere is said once, and again when it no longer does.
            news = state != PARTLY or not action.result.get("done")
            if action.kind == SYNC:
                if state == DONE:
                    self.journal.forget(now - _KEPT, action.id)
            elif news:
                level = action.by if action.by in self._levels else ""
                self._tell(level, slack.action_text(settled, level, self._links), now)
        return settled

    def work(self, ending: threading.Event) -> None:
        """Run actions, one after the other."""
        while not ending.is_set():
            try:
                if self.step():
                    continue
                due = self.journal.next_due()
            except Exception:  # noqa: BLE001  # whatever it is, the next action is to be run
                cherrypy.log("an action's run broke off", "ACTIONS", traceback=True)
                due = self._clock() + _PAUSE
            with self._news:
                self._news.wait(1 if due is None else min(max(due - self._clock(), 0.05), 1))

    # Watching

    def watch(self) -> None:
        """Close the alarms that are over, ask again for those that go on, and remind of them."""
        now = self._clock()
        going: dict[str, list[Alarm]] = {}
        for alarm in self.journal.open_alarms():
            level = self._levels.get(alarm.level)
            if level is None:
                self.journal.close_alarm(alarm.id, "there is no such alarm any more", now)
                continue
            if why := self._over(alarm, level, now):
                with self.journal.change():
                    self._close(alarm, level, why, now)
            else:
                going.setdefault(alarm.level, []).append(alarm)
        for name, alarms in going.items():
            self._go_on(self._levels[name], alarms, now)
        self._sync(now)

    def _over(self, alarm: Alarm, level: Mapping[str, Any], now: float) -> str:
        """Why an alarm is over; empty if it isn't."""
        if BLOCK in level["alarm"].get("action", {}):
            return "its window is past" if now > alarm.seen + words.seconds(level["lookback_window"]) else ""
        # The figures come a little later than the engine's event.
        if now < alarm.opened + 30:
            return ""
        return "the figures are good again" if self._judged(alarm, level) else ""

    def _go_on(self, level: Mapping[str, Any], alarms: list[Alarm], now: float) -> None:
        with self.journal.change():
            action = level["alarm"].get("action", {})
            for alarm in alarms:
                if BLOCK in action or not decide.again(self.journal.of_alarm(alarm.id), self._cooldown, now):
                    continue
                event = Event("", alarm.level, True, alarm.seen, alarm.instance, alarm.value)
                wish = intake.wish_of(event, action, "")
                if wish and not decide.hold(wish, self.journal.about(wish), self._cooldown, now):
                    self._ask(wish, alarm.level, alarm, "", now)
                    self._wake()
            every = (
                words.seconds(level["alarm"]["reminder"]) if "reminder" in level["alarm"] else self._reminder
            )
            since = max(self.journal.last_told(level["id"]), min(alarm.opened for alarm in alarms))
            if self._told and now - since >= every:
                self._tell(level["id"], slack.reminder_text(level, alarms, now, self._links), now)

    def _sync(self, now: float) -> None:
        """Have the edge nodes' lists brought together from time to time: one that was away learns what it missed."""
        last = self.journal.last(SYNC)
        if last is None or (last.ended is not None and now - last.ended >= _SYNC_EVERY):
            self.journal.ask(Wish(SYNC, ""), "the action server", None, now)
            self._wake()

    def blocked(self) -> list[dict[str, Any]]:
        """Who is blocked, as far as this machine knows, the longest block first."""
        lists = self.journal.last_done(SYNC)
        found = {entry["address"]: entry for entry in (lists.result.get("blocked") or [] if lists else [])}
        for action in self.journal.blocks_since(lists.began or 0 if lists else 0):
            if action.kind == BLOCK and action.result.get("entry"):
                found[action.target] = action.result["entry"]
            elif action.kind != BLOCK:
                found.pop(action.target, None)
        now = self._clock()
        left = [
            {**entry, "seconds_left": int(until - now)}
            for entry in found.values()
            if (until := intake.stamp(entry.get("until"))) > now
        ]
        return sorted(left, key=lambda entry: (-entry["seconds_left"], entry["address"]))


def _todo(wish: Wish) -> str:
    return f"{wish.target} {wish.arguments['by']:+d}" if wish.kind == SCALE else f"{wish.kind} {wish.target}"


def _reason(level: Mapping[str, Any], event: Event) -> str:
    """Why an address is blocked, for those who read the list."""
    told = f"{words.figure(event.value, level['unit'])} {words.unit_of(event.value, level['unit'])}".strip()
    alarm = level["alarm"]
    threshold = f"{SIGNS[alarm['op']]} {words.figure(alarm['threshold'])}"
    return f"{level['name']}: {told} within {level['lookback_window']} ({threshold})"
