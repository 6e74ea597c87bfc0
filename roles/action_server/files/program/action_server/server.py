"""TLS for CherryPy's server, such that a silent client holds up nobody else."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import cherrypy
from cheroot import errors, wsgi
from cheroot.server import HTTPConnection
from cheroot.ssl.builtin import BuiltinSSLAdapter

from .settings import Settings


class _Server(wsgi.Server):  # type: ignore[misc]
    """A server whose threads serve only those who have begun to say something."""

    #: Bytes. More than is taken, so that who sends too much is heard out and hears why; a longer one is cut off.
    max_request_body_size = 256 * 1024

    def process_conn(self, conn: HTTPConnection) -> None:
        """Serve a connection; a new one waits for its first byte among the idle ones, and ends with them in time."""
        if conn.last_used is None:
            self.put_conn(conn)
        else:
            super().process_conn(conn)


class _Connection(HTTPConnection):  # type: ignore[misc]
    """A connection that shakes hands in the thread that serves it, not in the one that accepts all of them."""

    met = False

    def communicate(self) -> bool:
        """Serve one request. Returns whether the connection goes on."""
        if not self.met:
            try:
                self.socket.do_handshake()
            except OSError:
                return False
            self.met = True
        return bool(super().communicate())


class _Tls(BuiltinSSLAdapter):  # type: ignore[misc]
    def __init__(self, settings: Settings) -> None:
        super().__init__(str(settings.files / "tls.crt"), str(settings.files / "tls.key"))
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._allowed = (*settings.allowed_networks, *settings.caller_networks)

    def wrap(self, sock: socket.socket) -> tuple[ssl.SSLSocket, dict[str, str]]:
        """The connection of an operator or a caller; strangers don't get as far as a thread."""
        try:
            address = ip_address(sock.getpeername()[0])
            if not any(address in network for network in self._allowed):
                raise errors.FatalSSLAlert("from none of the networks that are let in")
            wrapped = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError as error:
            raise errors.FatalSSLAlert(*error.args) from error
        return wrapped, {"wsgi.url_scheme": "https", "HTTPS": "on"}


def make(settings: Settings, application: Callable[..., Any]) -> Any:
    """The server, which CherryPy's engine starts and stops."""
    bind = (settings.address, settings.port)
    server = _Server(
        bind,
        application,
        numthreads=20,
        request_queue_size=128,
        timeout=5,
        shutdown_timeout=5,
        server_name="board",
    )
    server.ConnectionClass = _Connection
    server.ssl_adapter = _Tls(settings)
    server.error_log = lambda message="", level=20, traceback=False: cherrypy.log(
        message, "SERVER", severity=level, traceback=traceback
    )
    return cherrypy.process.servers.ServerAdapter(cherrypy.engine, server, bind)
