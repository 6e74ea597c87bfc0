"""The contents of the pages of alarms and actions."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from . import charts, panels, words
from .actions import Actions
from .journal import Journal
from .records import DONE, FAILED, PARTLY, QUEUED, REFUSED, RUNNING, Action, Alarm
from .sources import HOUR, Series

#: Rows of what is over.
_MOST = 100
#: Messages that are shown.
_TOLD = 20
#: An action's state: its name in style sheets, and its sign.
_STATES = {
    DONE: ("ok", "✔"), PARTLY: ("alarm", "▲"), REFUSED: ("refused", "○"), FAILED: ("limit", "✖"),
    QUEUED: ("waiting", "…"), RUNNING: ("waiting", "…"),
}  # fmt: skip
_SEVERITIES = {"info": ("notice", "▽"), "warning": ("alarm", "▲"), "critical": ("limit", "✖")}


def _health(actions: Actions) -> panels.Health:
    waiting = actions.journal.waiting()
    late = [message for message in waiting if message.attempts]
    return panels.health(time.time(), {"Slack": f"{len(waiting)} messages wait for it"} if late else {})


def _alarm(alarm: Alarm, level: Mapping[str, Any], done: Sequence[Action], now: float) -> dict[str, Any]:
    style, sign = _SEVERITIES.get(level.get("alarm", {}).get("severity", ""), ("quiet", "·"))
    return {
        "alarm": alarm,
        "level": level,
        "style": style if alarm.closed is None else "ok",
        "sign": sign if alarm.closed is None else "✔",
        "word": "open" if alarm.closed is None else "over",
        "lasted": _lasted((alarm.closed or now) - alarm.opened),
        "actions": [_action(action) for action in done],
    }


def _lasted(seconds: float) -> str:
    return words.duration(seconds) if seconds >= 120 else f"{seconds:.0f} s"


def _message(asked: float, text: str, sent: float | None, error: str) -> dict[str, Any]:
    """A message as one reads it: what Slack makes links and bold letters of is left out."""
    said = re.sub(r"[*]|<[^>]*>(?: · )?", "", text)
    word = "waits" if sent is None else "not told" if error else "told"
    style = {"waits": ("alarm", "…"), "not told": ("quiet", "○"), "told": ("ok", "✔")}[word]
    return {
        "asked": asked,
        "said": html.unescape(said),
        "style": style[0],
        "sign": style[1],
        "word": word,
        "error": error,
    }


def _action(action: Action) -> dict[str, Any]:
    style, sign = _STATES[action.state]
    took = None if action.began is None or action.ended is None else action.ended - action.asked
    return {"action": action, "style": style, "sign": sign, "took": took}


def alarms(actions: Actions, levels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Alarms now and before, each with what was done about it."""
    now, journal = time.time(), actions.journal
    by_name = {level["id"]: level for level in levels}

    def rows(found: Sequence[Alarm]) -> list[dict[str, Any]]:
        return [
            _alarm(alarm, by_name.get(alarm.level, {}), journal.of_alarm(alarm.id, 5), now) for alarm in found
        ]

    return {
        "open": rows(journal.open_alarms()[:_MOST]),
        "closed": rows(journal.closed_alarms(_MOST)),
        "messages": [_message(*each) for each in journal.messages(_TOLD)],
        "health": _health(actions),
    }


def history(actions: Actions) -> dict[str, Any]:
    """What was done and what was refused, the newest first."""
    return {"rows": [_action(each) for each in actions.journal.history(_MOST)], "health": _health(actions)}


def blocked(actions: Actions) -> dict[str, Any]:
    """Who is blocked."""
    return {"rows": actions.blocked(), "health": _health(actions)}


def scaled(levels: Sequence[Mapping[str, Any]]) -> list[str]:
    """The services that an alarm scales."""
    actions = [level.get("alarm", {}).get("action", {}) for level in levels]
    return sorted(
        {service for action in actions for verb, service in action.items() if verb.startswith("scale_")}
    )


def replicas(journal: Journal, services: Sequence[str]) -> list[tuple[str, Markup, dict[str, int]]]:
    """Of each service its replicas of the last hour, as a graph, and the newest numbers of what is wanted and runs."""
    now = time.time()
    found: dict[str, dict[str, list[tuple[float, int]]]] = {
        name: {"wanted": [], "running": []} for name in services
    }
    for at, service, wanted, running in journal.replicas(now - HOUR):
        if service in found:
            found[service]["wanted"].append((at, wanted))
            found[service]["running"].append((at, running))
    return [
        (
            name,
            charts.graph(
                [(kind, Series({}, tuple(points))) for kind, points in lines.items()], [], "", now, name
            ),
            {kind: points[-1][1] for kind, points in lines.items() if points},
        )
        for name, lines in found.items()
    ]
