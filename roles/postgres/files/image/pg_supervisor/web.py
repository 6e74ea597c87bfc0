"""The member's ear: its report for everybody on the network, votes for sealed requests, orders from inside."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .election import Election
from .member import Member
from .orders import Orders
from .peers import HOLD_SECONDS
from .seal import Seal
from .votes import Request

log = logging.getLogger(__name__)

MAX_BODY = 4096


class Handler(BaseHTTPRequestHandler):
    """One connection. GET /alive and /state ask. POST /vote needs a seal; orders come from the own container.

    Who asks for /state and names the ETag of the last answer is answered when something has changed, or after
    HOLD_SECONDS: news travels at once, and asking without pause costs little.
    """

    member: Member
    election: Election
    orders: Orders
    seal: Seal
    is_alive: Callable[[], bool]
    timeout = 5
    # Connections are kept: a name's resolution, a handshake and a thread would cost more than the answer.
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_version = "member"
    sys_version = ""

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  # the base class's name
        """Be silent: a line per question would fill the log."""

    def do_GET(self) -> None:  # the base class's name
        """Answer a question."""
        if self.path == "/state":
            self._state(self.headers.get("If-None-Match", ""))
        elif self.path == "/alive":
            alive = type(self).is_alive()
            self._answer(HTTPStatus.OK if alive else HTTPStatus.SERVICE_UNAVAILABLE, str(alive))
        else:
            self._answer(HTTPStatus.NOT_FOUND, "")

    def _state(self, known: str) -> None:
        if known:
            self.member.wait_unlike(known, HOLD_SECONDS)
        report = self.member.refresh(max_age=1.0 if known else 0.3)
        self._answer(HTTPStatus.OK, report.dump(), ETag=report.gist)

    def do_POST(self) -> None:  # the base class's name
        """Carry out a sealed request."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "")
            return
        if self.client_address[0] == "127.0.0.1":
            self._order()
            return
        body = self.rfile.read(int(length))
        word = self.headers.get("X-Nonce", "")
        if not self.seal.holds(self.headers.get("X-Seal", ""), self.path.encode(), word.encode(), body):
            self._answer(HTTPStatus.FORBIDDEN, "")
        elif self.path == "/vote":
            try:
                request = Request.parse(body)
            except (ValueError, TypeError, KeyError):
                self._answer(HTTPStatus.BAD_REQUEST, "")
                return
            self._answer(HTTPStatus.OK, self.election.answer(request).dump())
        else:
            self._answer(HTTPStatus.NOT_FOUND, "")

    def _order(self) -> None:
        """Carry out an order of repmgrd: whoever calls from inside the container needs no seal."""
        match self.path.split("/")[1:]:
            case ["validate"]:
                done = self.orders.validate()
            case ["promote"]:
                done = self.orders.promote()
            case ["follow", number] if number.isdigit() and 0 < int(number) <= self.orders.members:
                done = self.orders.follow(int(number))
            case _:
                self._answer(HTTPStatus.NOT_FOUND, "")
                return
        self._answer(HTTPStatus.OK if done else HTTPStatus.CONFLICT, "")

    def _answer(self, status: HTTPStatus, text: str, **headers: str) -> None:
        body = text.encode()
        word = self.headers.get("X-Nonce", "")
        # Whoever asked may be gone by now.
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Seal", self.seal.sign(word.encode(), body))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)


class Listener(ThreadingHTTPServer):
    """Answers each connection in a thread of its own, which keeps no process from ending."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of a connection that broke in one line of the log; the base class would write a trace of many."""
        error = sys.exception()
        gone = isinstance(error, ConnectionError)
        level = logging.INFO if gone else logging.ERROR
        log.log(level, "the connection of %s broke: %s", client_address[0], error, exc_info=not gone)


def serve(
    port: int, member: Member, election: Election, orders: Orders, seal: Seal, is_alive: Callable[[], bool]
) -> None:
    """Answer requests for good. Raises OSError if the port is taken."""
    parts = {
        "member": member,
        "election": election,
        "orders": orders,
        "seal": seal,
        "is_alive": staticmethod(is_alive),
    }
    Listener(("0.0.0.0", port), type("MemberHandler", (Handler,), parts)).serve_forever()  # noqa: S104
