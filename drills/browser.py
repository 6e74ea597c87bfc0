"""An HTTPS client that knows whether a request was sent, and tries the next address as a browser does.

Written on http.client because the ledger must tell three cases apart that the usual clients fold into
one exception: no address took the connection (the post can't exist), the request was sent and never
answered (it may exist), and an answer (it is known).
"""

import http.client
import json
import select
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOST_WHILE_WAITING = (OSError, http.client.HTTPException)


class NotSentError(Exception):
    """No edge address took the connection: the request never left, so it has no effect."""


class UnansweredError(Exception):
    """The request left and no complete answer came: whether it had an effect is unknown."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds: `connect` for TCP and TLS together, `answer` for each wait on the answer."""

    connect: float = 1.0
    answer: float = 10.0


@dataclass(frozen=True)
class Reply:
    """A complete HTTP answer. `headers` has lower-case names; repeated headers are joined by a newline."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    edge: str
    seconds: float

    def json(self) -> Any:
        """Decode the body. Raises ValueError when it isn't JSON."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text; bytes that aren't UTF-8 are replaced."""
        return self.body.decode(errors="replace")


@dataclass
class Browser:
    """One visitor's browser: cookies shared by all edge addresses, one kept-alive connection to each.

    edges: base URLs such as `https://198.18.0.21`; each request starts with the next one in turn.
    last_edge: the address that took the last request.
    ca_file: PEM file that must have signed the forum's certificate; None trusts the machine's store.
    host: the forum's name, when the base URLs are the addresses that it would resolve to.
    source: the address of this machine that it comes from; None leaves that to the machine.
    """

    edges: Sequence[str]
    ca_file: str | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    host: str | None = None
    source: str | None = None
    turn: int = 0
    cookies: dict[str, str] = field(default_factory=dict)
    last_edge: str = ""
    _kept: dict[str, http.client.HTTPConnection] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.edges:
            raise ValueError("a browser needs at least one edge address")
        self._tls = ssl.create_default_context(cafile=self.ca_file)

    def request(
        self,
        method: str,
        path: str,
        *,
        data: Any = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        edge: str | None = None,
    ) -> Reply:
        """Send one request and return its answer, whatever its status; redirects are not followed.

        data: sent as JSON; body: sent as it is (name its Content-Type in headers). edge: pin the address.
        Raises NotSentError when no address takes the connection, UnansweredError when no answer comes.
        """
        payload = json.dumps(data).encode() if data is not None else body
        refusals = []
        for address in [edge] if edge else self._addresses():
            try:
                connection, reused = self._connection(address)
            except OSError as error:
                refusals.append(f"{address}: {error or type(error).__name__}")
                continue
            self.last_edge = address
            sent = self._headers(address, data is not None, payload, headers)
            try:
                return self._exchange(connection, address, method, path, payload, sent)
            except LOST_WHILE_WAITING as error:
                self._forget(address)
                if reused and method in SAFE_METHODS and not isinstance(error, TimeoutError):
                    return self.request(method, path, data=data, body=body, headers=headers, edge=address)
                raise UnansweredError(f"{address}: {error or type(error).__name__}") from error
        raise NotSentError("; ".join(refusals))

    def get(self, path: str, *, edge: str | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """GET a path; see request()."""
        return self.request("GET", path, edge=edge, headers=headers)

    def post(self, path: str, data: Any, *, edge: str | None = None) -> Reply:
        """POST JSON; see request()."""
        return self.request("POST", path, data=data, edge=edge)

    @property
    def csrf_token(self) -> str | None:
        """The token of Django's CSRF cookie, whatever name the settings gave it."""
        return next((value for name, value in self.cookies.items() if "csrf" in name.lower()), None)

    def close(self) -> None:
        """Close the kept connections; cookies stay."""
        for address in list(self._kept):
            self._forget(address)

    def _addresses(self) -> list[str]:
        first = self.turn % len(self.edges)
        self.turn += 1
        return [*self.edges[first:], *self.edges[:first]]

    def _connection(self, address: str) -> tuple[http.client.HTTPConnection, bool]:
        """An open connection and whether it was kept from before. Raises OSError."""
        kept = self._kept.get(address)
        if kept is not None and not _closed_by_peer(kept):
            return kept, True
        self._forget(address)
        where = urlsplit(address)
        timeout, source = self.timeouts.connect, (self.source, 0) if self.source else None
        connection: http.client.HTTPConnection
        if where.scheme == "https":
            connection = _NamedConnection(
                where.hostname or "",
                where.port,
                timeout=timeout,
                source_address=source,
                context=self._tls,
                name=self.host,
            )
        else:
            connection = http.client.HTTPConnection(
                where.hostname or "", where.port, timeout=timeout, source_address=source
            )
        try:
            connection.connect()
        except OSError:
            connection.close()
            raise
        connection.sock.settimeout(self.timeouts.answer)
        self._kept[address] = connection
        return connection, False

    def _headers(
        self, address: str, is_json: bool, payload: bytes | None, extra: Mapping[str, str] | None
    ) -> dict[str, str]:
        origin = f"{urlsplit(address).scheme}://{self.host}" if self.host else address
        headers = {"Accept": "application/json, text/html", "Referer": f"{origin}/"}
        if self.host:
            headers["Host"] = self.host
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if is_json:
            headers["Content-Type"] = "application/json"
        if payload is not None and self.csrf_token:
            headers["X-CSRFToken"] = self.csrf_token
        return {**headers, **(extra or {})}

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        address: str,
        method: str,
        path: str,
        payload: bytes | None,
        headers: Mapping[str, str],
    ) -> Reply:
        began = time.monotonic()
        connection.request(method, path, body=payload, headers=dict(headers))
        answer = connection.getresponse()
        content = answer.read()
        self._store_cookies(answer.headers.get_all("Set-Cookie") or [])
        if answer.will_close:
            self._forget(address)
        return Reply(answer.status, _fold(answer.getheaders()), content, address, time.monotonic() - began)

    def _store_cookies(self, lines: Sequence[str]) -> None:
        for line in lines:
            try:
                morsels = SimpleCookie(line).values()
            except CookieError:
                continue
            for morsel in morsels:
                if not morsel.value or morsel["max-age"] == "0":
                    self.cookies.pop(morsel.key, None)
                else:
                    self.cookies[morsel.key] = morsel.value

    def _forget(self, address: str) -> None:
        connection = self._kept.pop(address, None)
        if connection is not None:
            connection.close()


class _NamedConnection(http.client.HTTPSConnection):
    """A connection to an address that must prove to be the server of a name, as after a look-up of that name."""

    def __init__(self, *args: Any, name: str | None, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(*args, context=context, **options)
        self._name = name
        self._tls = context

    def connect(self) -> None:
        """TCP to the address, TLS with the name. Raises OSError."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name or self.host)


def _closed_by_peer(connection: http.client.HTTPConnection) -> bool:
    """Whether a kept connection can't be used again: closed here, or readable before anything was asked."""
    if connection.sock is None:
        return True
    readable, _, _ = select.select([connection.sock], [], [], 0)
    return bool(readable)


def _fold(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    folded: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        folded[key] = f"{folded[key]}\n{value}" if key in folded else value
    return folded
