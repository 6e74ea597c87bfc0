"""Takes what would go to Slack on a lab, and shows it: slack_recorder.py ADDRESS PORT FILES STATE.

FILES: the directory with tls.crt, tls.key, and secret, which the hook's address ends with. STATE: where the messages
are kept. POST /hook/SECRET takes a message as Slack's incoming webhooks do; GET / lists the last thousand as JSON.
"""

from __future__ import annotations

import hmac
import json
import ssl
import sys
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_MOST, _LONGEST = 1000, 64 * 1024


class Messages:
    """The last messages, in a file of a line each."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._kept: deque[dict[str, Any]] = deque(map(json.loads, lines), _MOST)

    def add(self, text: str) -> None:
        """Keep one."""
        with self._lock:
            self._kept.append({"at": time.time(), "text": text})
            beside = self._path.with_suffix(".new")
            beside.write_text("".join(json.dumps(each) + "\n" for each in self._kept), encoding="utf-8")
            beside.replace(self._path)

    def all(self) -> list[dict[str, Any]]:
        """All that are kept, the oldest first."""
        with self._lock:
            return list(self._kept)


class Recorder(ThreadingHTTPServer):
    """The server; a silent client holds up only its own thread."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], messages: Messages, secret: str, context: ssl.SSLContext
    ) -> None:
        self.messages, self.hook, self._context = messages, f"/hook/{secret}", context
        super().__init__(address, Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands in the client's own thread."""
        request.settimeout(10)
        with self._context.wrap_socket(request, server_side=True) as connection:
            super().finish_request(connection, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who breaks off is nobody's concern."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Recorder
    server_version, sys_version = "recorder", ""

    def do_GET(self) -> None:  # its name in the library
        """List."""
        if self.path == "/":
            self._answer(200, json.dumps(self.server.messages.all()), "application/json")
        else:
            self._answer(404, "no_service")

    def do_POST(self) -> None:  # its name in the library
        """Take a message."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _LONGEST:
            self._answer(400, "invalid_payload")
            return
        body = self.rfile.read(int(length))
        if not hmac.compare_digest(self.path.encode(), self.server.hook.encode()):
            self._answer(403, "invalid_token")
            return
        try:
            text = json.loads(body)["text"]
        except (ValueError, KeyError, TypeError):
            text = None
        if not isinstance(text, str) or not text:
            self._answer(400, "invalid_payload")
            return
        self.server.messages.add(text)
        self._answer(200, "ok")

    def _answer(self, status: int, text: str, kind: str = "text/plain") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name in the library
        """Nothing: the address of a request holds the secret."""


def main(arguments: list[str]) -> int:
    """Serve for good."""
    address, port, files, state = arguments
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(Path(files) / "tls.crt", Path(files) / "tls.key")
    secret = (Path(files) / "secret").read_text(encoding="utf-8").strip()
    Recorder((address, int(port)), Messages(Path(state) / "messages.jsonl"), secret, context).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
