"""The server's threads beside those that answer: one runs actions, one tells in Slack, one watches."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cherrypy

from . import slack, words
from .actions import Actions
from .board import Board
from .journal import Journal
from .runner import Playbooks
from .settings import Settings

#: Seconds between two looks at the open alarms, and at the replicas.
_WATCH, _SAMPLE = 10, 15


def actions(settings: Settings, board: Board) -> Actions:
    """The actions of a server, with its journal. Raises OSError, ValueError, sqlite3.Error."""
    return Actions(
        Journal(settings.state / "journal.db"),
        Playbooks(
            settings.runner, settings.project, settings.inventory, settings.state, settings.run_seconds
        ),
        {level["id"]: level for level in settings.levels if "alarm" in level},
        settings.engines,
        slack.Links(settings.board_url, settings.runbook_url),
        board.recovered,
        cooldown=settings.cooldown_seconds,
        reminder=words.seconds(settings.reminder),
        told=settings.slack,
    )


def webhook(files: Path) -> Callable[[str], None] | None:
    """What sends to Slack; None where it is off. Raises ValueError for an address that is none."""
    url = (files / "slack_webhook").read_text(encoding="utf-8").strip()
    if not url:
        return None
    # Slack's own certificate is the world's, that of a lab's recorder our authority's.
    trust = ssl.create_default_context()
    trust.load_verify_locations(cafile=str(files / "ca.crt"))
    return slack.webhook(url, trust)


class Workers(cherrypy.process.plugins.SimplePlugin):  # type: ignore[misc]
    """Starts the threads with the server."""

    def __init__(self, bus: Any, done: Actions, board: Board, send: Callable[[str], None] | None) -> None:
        super().__init__(bus)
        self._actions, self._board = done, board
        self._teller = slack.Teller(done.journal, send) if send else None
        self._ending = threading.Event()

    def start(self) -> None:
        """Begin."""
        begun: list[Callable[[], None]] = [lambda: self._actions.work(self._ending), self._watch]
        if self._teller:
            begun.append(self._tell)
        for each in begun:
            threading.Thread(target=each, daemon=True).start()

    def stop(self) -> None:
        """End what can end: what runs is found as running at the next start."""
        self._ending.set()

    def _tell(self) -> None:
        pause = 0.0
        while self._teller and not self._ending.wait(pause):
            try:
                pause = self._teller.step(time.time())
            except Exception:  # noqa: BLE001  # whatever it is, the next message is to be told
                cherrypy.log("telling in Slack broke off", "SLACK", traceback=True)
                pause = 5.0

    def _watch(self) -> None:
        due = {self._actions.watch: 0.0, self._sample: 0.0}
        every = {self._actions.watch: _WATCH, self._sample: _SAMPLE}
        while not self._ending.wait(1):
            for each, at in due.items():
                if time.monotonic() < at:
                    continue
                due[each] = time.monotonic() + every[each]
                try:
                    each()
                except Exception:  # noqa: BLE001  # whatever it is, the next look is to be taken
                    cherrypy.log("watching broke off", "WATCH", traceback=True)

    def _sample(self) -> None:
        if tasks := self._board.tasks():
            self._actions.journal.sample(tasks, time.time())
