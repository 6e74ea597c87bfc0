"""What is told in Slack, and how it gets there."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from .journal import Journal
from .judge import SIGNS
from .records import DONE, FAILED, PARTLY, REFUSED, Action, Alarm, Message
from .words import duration, figure, unit_of

#: More messages of one level than this that wait become one.
CROWD = 20
#: Seconds after which nobody wants to read a message any more.
_TOO_OLD = 86400
_FIRST_PAUSE, _LONGEST_PAUSE = 5, 300
_SIGNS = {"info": "▽", "warning": "▲", "critical": "✖"}
_ENDED = {DONE: "✔", PARTLY: "▲", REFUSED: "○", FAILED: "✖"}


def escaped(text: str) -> str:
    """A text in which Slack finds nothing to do."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@dataclass(frozen=True)
class Links:
    """Where a message leads. board: the board's address; runbook: what the level's name is put behind."""

    board: str
    runbook: str

    def words(self, level: str) -> str:
        """The links of a level's message."""
        told = [f"<{self.board}/#{quote(level)}|board>"] if level else [f"<{self.board}/actions|board>"]
        return " · ".join(
            [*told, *([f"<{self.runbook}{quote(level)}|runbook>"] if self.runbook and level else [])]
        )


def _figure(value: float | None, unit: str) -> str:
    return f"{figure(value, unit)} {unit_of(value, unit)}".strip()


def _named(level: Mapping[str, Any], where: str) -> str:
    return escaped(f"{level['service']}: {level['name']}" + (f" ({where})" if where else ""))


def alarm_text(level: Mapping[str, Any], alarm: Alarm, todo: str, links: Links) -> str:
    """What, where, value, limit, what is done about it."""
    told, unit = level["alarm"], level["unit"]
    lines = [
        f"{_SIGNS[told['severity']]} *{_named(level, alarm.where)}*",
        f"{_figure(alarm.value, unit)}, alarm {escaped(SIGNS[told['op']])} {_figure(told['threshold'], unit)}"
        + (f", limit {escaped(SIGNS[level['objective']['op']])} {_figure(level['objective']['value'], unit)}"
           if "objective" in level else ""),
        *([escaped(todo)] if todo else []),
        links.words(level["id"]),
    ]  # fmt: skip
    return "\n".join(lines)


def recovery_text(level: Mapping[str, Any], alarm: Alarm, why: str, now: float, links: Links) -> str:
    """That an alarm is over."""
    lasted = duration(now - alarm.opened)
    return (
        f"✔ *{_named(level, alarm.where)}* is over after {lasted}: {escaped(why)}\n{links.words(level['id'])}"
    )


def reminder_text(level: Mapping[str, Any], alarms: Sequence[Alarm], now: float, links: Links) -> str:
    """That alarms of a level go on."""
    oldest = min(alarms, key=lambda alarm: alarm.opened)
    more = f" and {len(alarms) - 1} more" if len(alarms) > 1 else ""
    lasts = f"goes on since {duration(now - oldest.opened)}"
    told = f"… *{_named(level, oldest.where)}*{more} {lasts}: {_figure(oldest.value, level['unit'])}"
    return f"{told}\n{links.words(level['id'])}"


def action_text(action: Action, level: str, links: Links) -> str:
    """What became of an action."""
    tried = f" (tried {action.attempts} times)" if action.attempts > 1 else ""
    told = f"{_ENDED[action.state]} *{escaped(action.what)}* for {escaped(action.by)}: {action.state}{tried}"
    return f"{told}, {escaped(action.reason)}\n{links.words(level)}"


class Undelivered(Exception):  # noqa: N818  # it is an answer, too
    """A message that Slack didn't take. pause: seconds until it may be tried; none where it never will be taken."""

    def __init__(self, reason: str, pause: float | None = 0) -> None:
        super().__init__(reason)
        self.pause = pause


def webhook(url: str, context: ssl.SSLContext, timeout: float = 10) -> Callable[[str], None]:
    """What sends a text to an incoming webhook of Slack. It raises Undelivered, whose words don't hold the secret."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError("the address of Slack's webhook doesn't begin with https://")

    def send(text: str) -> None:
        connection = http.client.HTTPSConnection(parts.netloc, timeout=timeout, context=context)
        try:
            connection.request(
                "POST", parts.path or "/", json.dumps({"text": text}), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            answer.read(1024)
        except (OSError, http.client.HTTPException) as error:
            raise Undelivered(f"{parts.netloc} doesn't answer: {type(error).__name__}") from error
        finally:
            connection.close()
        if answer.status == 200:
            return
        wait = answer.getheader("Retry-After", "0")
        raise Undelivered(
            f"{parts.netloc} answers {answer.status}",
            None if answer.status == 400 else float(wait) if wait.isdecimal() and len(wait) < 5 else 0,
        )

    return send


class Teller:
    """Tells what waits in the journal: one message in a second, later when Slack is away."""

    def __init__(self, journal: Journal, send: Callable[[str], None]) -> None:
        self._journal, self._send = journal, send
        self._pause = 0.0

    def step(self, now: float) -> float:
        """Tell the oldest message. Returns the seconds until the next step."""
        waiting = self._gather(now)
        if not waiting:
            return 1
        message = waiting[0]
        try:
            self._send(message.text)
        except Undelivered as error:
            if error.pause is None:
                self._journal.told([message.id], now, f"given up: {error}")
                return 1
            self._journal.untold(message.id, str(error))
            self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
            return max(self._pause, error.pause)
        self._pause = 0.0
        self._journal.told([message.id], now)
        return 1

    def _gather(self, now: float) -> list[Message]:
        """What waits, without what is too old, and with one message for each crowd of them."""
        waiting = self._journal.waiting()
        old = [message.id for message in waiting if message.asked < now - _TOO_OLD]
        if old:
            self._journal.told(old, now, "given up: it waited for a day")
        for level in {message.level for message in waiting}:
            crowd = [message for message in waiting if message.level == level and message.id not in old]
            if len(crowd) > CROWD:
                with self._journal.change():
                    self._journal.told([message.id for message in crowd], now, "told together with others")
                    self._journal.post(level, _together(crowd), now)
        return self._journal.waiting()


def _together(crowd: Sequence[Message]) -> str:
    level = escaped(crowd[0].level or "the operators' actions")
    return f"*{len(crowd)} messages of {level}*, the first and the last of them:\n{crowd[0].text}\n{crowd[-1].text}"
