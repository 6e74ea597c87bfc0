"""The pages, and who may see them."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable
from importlib.resources import files
from ipaddress import ip_address
from typing import Any, ClassVar
from urllib.parse import urlsplit

import cherrypy
from jinja2 import Environment, PackageLoader

from . import charts, logs, password, words
from .board import Board
from .doors import Attempts, Sessions
from .judge import SIGNS
from .settings import Settings

COOKIE = "__Host-session"
_TYPES = {"board.css": "text/css", "board.js": "text/javascript", "icon.svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer, with which a browser tells no origin when a form is sent.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
    "Server": "board",
}


def _header(name: str) -> str:
    return str(cherrypy.request.headers.get(name, ""))


#: What an address says; a list where it says it several times.
Given = str | list[str]


def _one(given: Given) -> str:
    return given if isinstance(given, str) else given[-1]


class Site:
    """Everything the server shows; its methods are the pages."""

    def __init__(self, settings: Settings, board: Board) -> None:
        self._settings, self._board = settings, board
        self._kept = (settings.files / "password").read_text(encoding="utf-8")
        self._sessions, self._attempts = Sessions(), Attempts()
        # Each check takes a good deal of processor time and memory: one after the other.
        self._checking = threading.Lock()
        self._static = {name: (files(__package__) / "static" / name).read_bytes() for name in _TYPES}
        self._pages = Environment(
            loader=PackageLoader(__package__), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        self._pages.globals |= {
            "components": board.components, "figure": words.figure, "unit_of": words.unit_of, "spark": charts.spark,
            "signs": SIGNS, "stack": board.stack, "moment": words.moment, "longest_search": logs.LONGEST,
        }  # fmt: skip

    def admit(self) -> None:
        """Before every request: refuse strangers, forged forms, and those who aren't signed in."""
        request = cherrypy.request
        address = ip_address(request.remote.ip)
        if not any(address in network for network in self._settings.allowed_networks):
            raise cherrypy.HTTPError(403, "Your address is in none of the operators' networks.")
        if request.method not in ("GET", "HEAD", "POST"):
            raise cherrypy.HTTPError(405)
        if request.method == "POST" and not self._own_form():
            raise cherrypy.HTTPError(403, "This form isn't of this page.")
        if request.path_info == "/sign-in" or request.path_info.startswith("/static/"):
            return
        if not self._sessions.valid(self._token()):
            # What the page's own script asks for in the background must not become a page to sign in.
            if _header("X-Requested-With") == "board":
                raise cherrypy.HTTPError(401, "Signed out.")
            raise cherrypy.HTTPRedirect("/sign-in", 303)

    @staticmethod
    def _own_form() -> bool:
        """Whether a form comes from our own page: browsers tell its origin; what is no browser tells none."""
        origin, site = _header("Origin"), _header("Sec-Fetch-Site")
        return (not origin or urlsplit(origin).netloc == _header("Host")) and site in (
            "",
            "same-origin",
            "none",
        )

    @staticmethod
    def _token() -> str:
        morsel = cherrypy.request.cookie.get(COOKIE)
        return morsel.value if morsel else ""

    @staticmethod
    def _set_cookie(token: str, seconds: int) -> None:
        # Lax, so that a link in a chat leads to its page. What changes something is a form, whose origin is looked at.
        cookie = f"{COOKIE}={token}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax"
        cherrypy.response.headers["Set-Cookie"] = cookie

    def _page(self, template: str, **values: Any) -> bytes:
        cherrypy.response.headers["Content-Type"] = "text/html; charset=utf-8"
        return self._pages.get_template(template).render(**values).encode()

    @cherrypy.expose  # type: ignore[untyped-decorator]
    def index(self) -> bytes:
        """All indicators."""
        return self._page("overview.html", here="/", **self._board.overview())

    @cherrypy.expose  # type: ignore[untyped-decorator]
    def components(self, name: str, instance: str = "") -> bytes:
        """A component's graphs."""
        try:
            shown = self._board.component(name, instance)
        except KeyError:
            raise cherrypy.NotFound from None
        return self._page("component.html", here=f"/components/{name}", **shown)

    @cherrypy.expose  # type: ignore[untyped-decorator]
    def requests(self) -> bytes:
        """What visitors asked for, and how long it took."""
        return self._page("requests.html", here="/requests", **self._board.logs.requests())

    @cherrypy.expose  # type: ignore[untyped-decorator]
    def errors(self, kind: Given = "errors", search: Given = "", service: Given = "") -> bytes:
        """Lines that tell of errors."""
        try:
            shown = self._board.logs.errors(_one(kind), _one(search), _one(service))
        except KeyError:
            raise cherrypy.NotFound from None
        return self._page("errors.html", here="/errors", **shown)

    @cherrypy.expose  # type: ignore[untyped-decorator]
    def request(self, id: Given = "") -> bytes:  # noqa: A002 (its name in the address)
        """The way of one request."""
        return self._page("request.html", here="/request", **self._board.logs.request(_one(id).strip()))

    @cherrypy.expose  # type: ignore[untyped-decorator]
    def swarm(self) -> bytes:
        """Nodes and services."""
        return self._page("swarm.html", here="/swarm", **self._board.swarm())

    @cherrypy.expose  # type: ignore[untyped-decorator]
    def static(self, name: str) -> bytes:
        """Style sheet, script and icon."""
        if name not in _TYPES:
            raise cherrypy.NotFound
        cherrypy.response.headers["Content-Type"] = f"{_TYPES[name]}; charset=utf-8"
        return self._static[name]

    @cherrypy.expose("sign-in")  # type: ignore[untyped-decorator]
    def sign_in(self, user: str = "", password: str = "") -> bytes:
        """The way in."""
        if cherrypy.request.method != "POST":
            return self._page("sign_in.html", problem="")
        if wait := self._attempts.wait(cherrypy.request.remote.ip):
            cherrypy.response.status = 429
            cherrypy.response.headers["Retry-After"] = str(wait)
            return self._page("sign_in.html", problem=f"Too many wrong sign-ins: try again in {wait} s.")
        if not self._right(user, password):
            cherrypy.log(f"wrong sign-in from {cherrypy.request.remote.ip}", "BOARD")
            cherrypy.response.status = 403
            return self._page("sign_in.html", problem="Wrong name or password.")
        self._attempts.forgive(cherrypy.request.remote.ip)
        self._sessions.end(self._token())
        self._set_cookie(self._sessions.begin(), 12 * 3600)
        raise cherrypy.HTTPRedirect("/", 303)

    def _right(self, user: str, given: str) -> bool:
        """Both are always looked at, so that the time tells nothing."""
        named = hmac.compare_digest(user.encode(), self._settings.user.encode())
        with self._checking:
            known = password.matches(given[:1024], self._kept)
        return named and known

    @cherrypy.expose("sign-out")  # type: ignore[untyped-decorator]
    def sign_out(self) -> None:
        """The way out."""
        if cherrypy.request.method != "POST":
            raise cherrypy.HTTPError(405)
        self._sessions.end(self._token())
        self._set_cookie("", 0)
        raise cherrypy.HTTPRedirect("/sign-in", 303)


def _plain_error(status: str, message: str, traceback: str, version: str) -> str:
    """An error's page: no version, no traceback; plain text, in which nothing can be hidden."""
    cherrypy.response.headers["Content-Type"] = "text/plain; charset=utf-8"
    return f"{status}\n{message}\n"


class _Request(cherrypy.Application.request_class):  # type: ignore[misc]
    """A request whose errors tell nothing of the inside, also before it is known what it is for."""

    error_page: ClassVar[dict[str, Any]] = {"default": _plain_error}
    show_tracebacks = False


class _Response(cherrypy.Application.response_class):  # type: ignore[misc]
    """An answer with the headers, also where CherryPy itself refuses a request."""

    def finalize(self) -> None:
        """Make it ready to be sent."""
        self.headers.update(HEADERS)
        super().finalize()


def application(settings: Settings, board: Board) -> Callable[..., Any]:
    """The server as a WSGI application."""
    site = Site(settings, board)
    cherrypy.config.update({"environment": "production", "log.screen": False, "checker.on": False})
    cherrypy.tools.admit = cherrypy.Tool("before_handler", site.admit, priority=1)
    mounted = cherrypy.Application(
        site,
        "",
        {
            "/": {
                "tools.admit.on": True,
                "tools.encode.on": False,
                "tools.gzip.on": True,
                "tools.gzip.mime_types": ["text/*"],
                "request.methods_with_bodies": ("POST",),
            }
        },
    )
    mounted.request_class, mounted.response_class = _Request, _Response
    served: Callable[..., Any] = mounted
    return served
