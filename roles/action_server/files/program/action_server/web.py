"""The pages, and who may see them."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Mapping
from importlib.resources import files
from ipaddress import ip_address
from typing import Any, ClassVar
from urllib.parse import urlsplit

import cherrypy
from jinja2 import Environment, PackageLoader

from . import api, charts, intake, logs, pages, password, words
from .actions import Actions
from .board import Board
from .doors import Attempts, Sessions
from .intake import RefusedError
from .judge import SIGNS
from .records import ALLOW, Wish
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

    def __init__(self, settings: Settings, board: Board, actions: Actions) -> None:
        self._settings, self._board, self._actions = settings, board, actions
        self._kept = (settings.files / "password").read_text(encoding="utf-8")
        self._scaled = pages.scaled(settings.levels)
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
            "at": words.instant,
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
        shown = self._board.swarm()
        replicas = pages.replicas(self._actions.journal, self._scaled)
        return self._page("swarm.html", here="/swarm", **shown, replicas=replicas)

    @cherrypy.expose  # type: ignore[untyped-decorator]
    def alarms(self) -> bytes:
        """Alarms now and before."""
        return self._page("alarms.html", here="/alarms", **pages.alarms(self._actions, self._settings.levels))

    @cherrypy.expose  # type: ignore[untyped-decorator]
    def actions(self) -> bytes:
        """What was done and what was refused."""
        return self._page("actions.html", here="/actions", **pages.history(self._actions))

    @cherrypy.expose  # type: ignore[untyped-decorator]
    def blocked(self) -> bytes:
        """Who is blocked."""
        return self._page("blocked.html", here="/blocked", **pages.blocked(self._actions))

    @cherrypy.expose  # type: ignore[untyped-decorator]
    def allow(self, address: Given = "") -> None:
        """Let an address in again."""
        if cherrypy.request.method != "POST":
            raise cherrypy.HTTPError(405)
        try:
            wish = Wish(ALLOW, intake.address(_one(address)))
        except RefusedError as refused:
            raise cherrypy.HTTPError(refused.status, refused.reason) from None
        self._actions.ask(wish, self._settings.user)
        raise cherrypy.HTTPRedirect("/blocked", 303)

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


def _no_body() -> None:
    """Leave a body to who answers, so that nothing is made of it before."""
    cherrypy.request.process_request_body = False


def _mounted(root: object, tools: Mapping[str, Any]) -> Any:
    found = cherrypy.Application(
        root, "", {"/": {"tools.encode.on": False, "request.methods_with_bodies": ("POST",), **tools}}
    )
    found.request_class, found.response_class = _Request, _Response
    return found


def application(settings: Settings, board: Board, actions: Actions) -> Callable[..., Any]:
    """The server as a WSGI application: the pages, and what callers with a token call."""
    site = Site(settings, board, actions)
    cherrypy.config.update({"environment": "production", "log.screen": False, "checker.on": False})
    cherrypy.tools.admit = cherrypy.Tool("before_handler", site.admit, priority=1)
    cherrypy.tools.no_body = cherrypy.Tool("before_request_body", _no_body, priority=1)
    shown = _mounted(
        site, {"tools.admit.on": True, "tools.gzip.on": True, "tools.gzip.mime_types": ["text/*"]}
    )
    called = _mounted(api.Api(settings, actions), {"tools.no_body.on": True})

    def served(environment: dict[str, Any], start: Callable[..., Any]) -> Any:
        path, token = environment.get("PATH_INFO", ""), environment.get("HTTP_AUTHORIZATION", "")
        return (called if api.wanted(path, token) else shown)(environment, start)

    return served
