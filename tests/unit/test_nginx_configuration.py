"""The edge's configuration, read as nginx would read it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import jinja2.nativetypes
import pytest
import yaml

ROLE = Path(__file__).parents[2] / "roles" / "nginx"
NETWORKS = ["198.51.100.0/24", "2001:db8::/32"]


@dataclass
class Directive:
    """One directive with its arguments and, if it has one, its block."""

    name: str
    arguments: list[str]
    block: list[Directive] = field(default_factory=list)

    def all(self, name: str) -> Iterator[Directive]:
        """The directives of this name in the block, at any depth."""
        for directive in self.block:
            if directive.name == name:
                yield directive
            yield from directive.all(name)

    def values(self, name: str) -> list[list[str]]:
        """The arguments of the directives of this name directly in the block."""
        return [directive.arguments for directive in self.block if directive.name == name]

    def location(self, *arguments: str) -> Directive:
        """The one location with these arguments."""
        (found,) = (location for location in self.all("location") if location.arguments == list(arguments))
        return found


def parse(text: str) -> Directive:
    """The configuration as a directive called main."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="{};")
    lexer.whitespace_split = True
    stack = [Directive("main", [])]
    words: list[str] = []
    for token in lexer:
        if set(token) <= set("{};"):
            for sign in token:
                if sign == "}":
                    stack.pop()
                    continue
                if words:
                    stack[-1].block.append(Directive(words[0], words[1:]))
                if sign == "{":
                    stack.append(stack[-1].block[-1])
                words = []
        else:
            words.append(token)
    assert len(stack) == 1, "a block isn't closed"
    return stack[0]


def render(name: str, **more: Any) -> str:
    values = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    values |= {"nginx_allowed_networks": NETWORKS, "ansible_managed": "Ansible managed"} | more
    native = jinja2.nativetypes.NativeEnvironment(undefined=jinja2.StrictUndefined)
    values = {
        key: native.from_string(value).render(values) if isinstance(value, str) and "{{" in value else value
        for key, value in values.items()
    }
    environment = jinja2.Environment(  # noqa: S701 (no HTML)
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(values)


@pytest.fixture
def main() -> Directive:
    return parse(render("nginx.conf.j2"))


@pytest.fixture
def tls(main: Directive) -> Directive:
    """The server that visitors talk to."""
    (server,) = (
        s for s in main.all("server") if s.values("listen")[0][:3] == ["8443", "ssl", "default_server"]
    )
    return server


def test_the_first_line_says_who_wrote_it() -> None:
    for template in ("nginx.conf.j2", "service.yml.j2"):
        assert render(template, component_image="edge").splitlines()[0] == "# Ansible managed"


def test_the_visitors_address_is_replaced(main: Directive) -> None:
    (http,) = (d for d in main.block if d.name == "http")
    assert ["X-Forwarded-For", "$remote_addr"] in http.values("proxy_set_header")
    assert "$proxy_add_x_forwarded_for" not in render("nginx.conf.j2")


def test_a_place_with_its_own_headers_towards_the_forum_has_all_of_them(tls: Directive) -> None:
    needed = {"Host", "X-Forwarded-For", "X-Forwarded-Proto", "User-Agent", "Connection"}
    for location in tls.all("location"):
        own = {arguments[0] for arguments in location.values("proxy_set_header")}
        assert not own or needed <= own, location.arguments


def test_only_the_named_networks_are_answered(main: Directive, tls: Directive) -> None:
    expected = [["198.51.100.0/24"], ["2001:db8::/32"]]
    assert tls.values("allow") == expected
    assert tls.values("deny") == [["all"]]
    (plain,) = (s for s in main.all("server") if s.values("listen")[0][0] == "8080")
    assert plain.location("/").values("allow") == expected
    assert plain.location("=", "/ready").values("deny") == []


def test_the_administration_has_its_own_networks() -> None:
    admin = parse(render("nginx.conf.j2", nginx_admin_networks=["192.0.2.0/28"])).location("/admincp/")
    assert admin.values("allow") == [["192.0.2.0/28"]]
    assert admin.values("deny") == [["all"]]


def test_nobody_is_answered_without_networks() -> None:
    server = next(s for s in parse(render("nginx.conf.j2", nginx_allowed_networks=[])).all("server"))
    main = parse(render("nginx.conf.j2", nginx_allowed_networks=[]))
    assert server.values("listen") == [["127.0.0.1:8090"]]
    for listener in list(main.all("server"))[2:]:
        assert listener.values("allow") == []
        assert listener.values("deny") == [["all"]]


def test_security_headers_are_everywhere(tls: Directive) -> None:
    needed = {"Strict-Transport-Security", "X-Content-Type-Options", "Content-Security-Policy"}
    for place in (tls, *tls.all("location")):
        headers = {arguments[0] for arguments in place.values("add_header")}
        # One add_header of a location replaces those of its server.
        assert not headers or needed <= headers, place.arguments
        assert all(a[-1] == "always" for a in place.values("add_header") if a[0] in needed)


def test_hashed_files_are_kept_for_a_year(tls: Directive) -> None:
    hashed = tls.location("~", r"^/static/.+\.[0-9a-f]{12}\.[0-9a-z]+$")
    assert ["Cache-Control", "public, max-age=31536000, immutable"] in hashed.values("add_header")
    assert ["Cache-Control", "public, max-age=3600"] in tls.location("/static/").values("add_header")
    assert hashed.values("gzip_static") == [["on"]]


def test_uploads_can_not_run(tls: Directive) -> None:
    (policy,) = (
        a[1] for a in tls.location("/media/").values("add_header") if a[0] == "Content-Security-Policy"
    )
    assert "sandbox" in policy.split("; ")
    assert "default-src 'none'" in policy


def test_a_guests_page_knows_nothing_of_the_guest(tls: Directive) -> None:
    guests = tls.location("@guests")
    assert guests.values("proxy_pass_request_headers") == [["off"]]
    assert guests.values("proxy_hide_header") == [["Set-Cookie"]]
    assert ["X-Forwarded-For", "127.0.0.1"] in guests.values("proxy_set_header")
    assert {"Set-Cookie", "Vary"} <= set(guests.values("proxy_ignore_headers")[0])


def test_only_threads_and_translations_are_cached(tls: Directive) -> None:
    cached = [location.arguments for location in tls.all("location") if location.values("proxy_cache")]
    assert cached == [["@guests"], ["=", "/django-i18n.js"]]
    assert tls.location("/t/").values("proxy_cache") == []


def test_what_says_that_a_thread_is_gone_is_cached_too(tls: Directive) -> None:
    ((*codes, seconds),) = tls.location("@guests").values("proxy_cache_valid")
    assert {"200", "403", "404"} <= set(codes)
    assert not {code for code in codes if code.startswith("5")}
    assert seconds == "8s"


def test_the_cache_can_be_off() -> None:
    text = render("nginx.conf.j2", nginx_cache_seconds=0)
    assert "proxy_cache" not in text
    assert "$edge_guest" not in text


def test_names_are_asked_for_at_every_request(main: Directive) -> None:
    targets = [d.arguments[0] for d in main.all("proxy_pass")]
    assert targets
    assert set(targets) == {"http://$forum"}


def test_old_tls_is_refused(main: Directive) -> None:
    assert [d.arguments for d in main.all("ssl_protocols")] == [["TLSv1.2", "TLSv1.3"]]


def test_everything_written_is_in_tmp(main: Directive) -> None:
    kinds = [
        d
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        for d in main.all(f"{name}_temp_path")
    ]
    paths = [d.arguments[0] for d in (*kinds, *main.all("pid"), *main.all("proxy_cache_path"))]
    assert len(paths) == 7
    assert all(path.startswith("/tmp/nginx/") for path in paths)  # noqa: S108 (the container's own tmpfs)


@pytest.mark.parametrize(
    ("port", "target"), [(443, "https://$host$request_uri"), (8443, "https://$host:8443$request_uri")]
)
def test_plain_http_is_sent_to_tls(port: int, target: str) -> None:
    assert ["308", target] in [
        d.arguments for d in parse(render("nginx.conf.j2", nginx_https_port=port)).all("return")
    ]


def test_the_service_is_one_task_on_each_edge_node() -> None:
    service = yaml.safe_load(render("service.yml.j2", component_image="edge"))["nginx"]
    assert [port["mode"] for port in service["ports"]] == ["host", "host"]
    assert service["deploy"]["placement"] == {
        "max_replicas_per_node": 1,
        "constraints": ["node.labels.edge == true"],
    }
    assert service["stop_grace_period"] == "20s"


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx isn't installed here")
def test_nginx_itself_accepts_it(tmp_path: Path) -> None:
    text = render("nginx.conf.j2").replace("/tmp/nginx", str(tmp_path))  # noqa: S108 (the container's own tmpfs)
    text = text.replace("/run/secrets", str(tmp_path))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
         "/CN=forum.test", "-keyout", tmp_path / "nginx_tls_key", "-out", tmp_path / "nginx_tls_certificate"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    (tmp_path / "keepalive.conf").write_text("keepalive_timeout 65s;")
    (tmp_path / "edge.conf").write_text(text)
    test = subprocess.run(
        ["nginx", "-t", "-e", "stderr", "-c", tmp_path / "edge.conf"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert test.returncode == 0, test.stderr
