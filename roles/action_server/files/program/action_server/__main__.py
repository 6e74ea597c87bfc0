"""Runs the server: python3 -m action_server SETTINGS."""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
from pathlib import Path

import cherrypy

from . import server, settings, web, workers
from .board import Board


def _tell_systemd(state: str) -> None:
    """Tell systemd, if it started us, how far we are."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.sendto(state.encode(), address.replace("@", "\0", 1))


def main(arguments: list[str]) -> int:
    """Serve until told to stop. Returns the exit status."""
    try:
        told = settings.load(Path(arguments[0]))
        board = Board(told)
        actions = workers.actions(told, board)
        adapter = server.make(told, web.application(told, board, actions))
        threads = workers.Workers(cherrypy.engine, actions, board, workers.webhook(told.files))
    except (OSError, ValueError, KeyError, TypeError, IndexError, sqlite3.Error) as error:
        sys.stderr.write(f"{' '.join(arguments)}: {error!r}\n")
        return 78
    cherrypy.log.screen = True
    cherrypy.server.unsubscribe()
    cherrypy.engine.autoreload.unsubscribe()
    cherrypy.engine.signals.subscribe()
    adapter.subscribe()
    threads.subscribe()
    cherrypy.engine.start()
    _tell_systemd("READY=1")
    cherrypy.engine.block()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
