"""The edge, asked over the network as a visitor would."""

from __future__ import annotations

import re

import pytest
from role_lab import MANAGERS, PREFIX, STATE, Run, Swarm
from testinfra.backend.base import CommandResult
from testinfra.host import Host

DOMAIN = "forum.lab.test"
AUTHORITY = "/tmp/nginx-trial-ca.crt"  # noqa: S108 - the test's own file, in the machine
ADDRESSES = dict(zip(MANAGERS, (f"{PREFIX}.11", f"{PREFIX}.12", f"{PREFIX}.13"), strict=True))


@pytest.fixture(scope="module")
def visitor(machines: dict[str, Host]) -> Host:
    machine = machines["monitor"]
    machine.check_output("printf '%%s' %s > %s", (STATE / "pki" / "ca.crt").read_text(), AUTHORITY)
    return machine


def get(visitor: Host, node: str, path: str, *options: str, scheme: str = "https") -> CommandResult:
    """Headers and body of a page from the nginx of a node, with its certificate checked."""
    port = "443" if scheme == "https" else "80"
    fixed = ("--cacert", AUTHORITY, "--resolve", f"{DOMAIN}:{port}:{ADDRESSES[node]}", "--max-time", "20")
    arguments = (*fixed, *options, f"{scheme}://{DOMAIN}{path}")
    return visitor.run(
        "curl --silent --show-error --include " + " ".join(["%s"] * len(arguments)), *arguments
    )


@pytest.mark.parametrize("node", MANAGERS)
def test_every_edge_serves_the_forum_over_http_2(visitor: Host, node: str) -> None:
    page = get(visitor, node, "/")
    assert page.stdout.startswith("HTTP/2 200"), page.stdout[:500] + page.stderr
    assert "<title>Misago</title>" in page.stdout


@pytest.mark.parametrize("node", MANAGERS)
def test_plain_http_leads_to_tls_and_tells_keepalived_that_it_is_ready(visitor: Host, node: str) -> None:
    moved = get(visitor, node, "/threads/", scheme="http").stdout
    assert moved.startswith("HTTP/1.1 308")
    assert f"Location: https://{DOMAIN}/threads/" in moved
    assert get(visitor, node, "/ready", scheme="http").stdout.startswith("HTTP/1.1 200")


def test_a_page_carries_the_headers_that_protect_its_reader(visitor: Host) -> None:
    page = get(visitor, "node-1", "/").stdout.split("\r\n\r\n")[0].lower()
    for header in (
        "strict-transport-security: max-age=31536000",
        "x-content-type-options: nosniff",
        "referrer-policy: strict-origin-when-cross-origin",
        "content-security-policy: default-src 'self'",
    ):
        assert page.count(header) == 1, header
    assert re.search(r"^server: nginx\r?$", page, re.MULTILINE), "no version"


def test_old_tls_is_refused(visitor: Host) -> None:
    old = get(visitor, "node-1", "/", "--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0")
    assert old.rc == 35, old.stderr


def test_hashed_static_files_stay_a_year_and_are_compressed(visitor: Host) -> None:
    page = get(visitor, "node-1", "/").stdout
    named = re.search(r'"(/static/[^"]+\.[0-9a-f]{12}\.css)"', page)
    assert named, "the page names a hashed style sheet"
    for node in MANAGERS:
        file = get(
            visitor, node, named.group(1), "--head", "--header", "Accept-Encoding: gzip"
        ).stdout.lower()
        assert file.startswith("http/2 200"), node
        assert "cache-control: public, max-age=31536000, immutable" in file
        assert "content-encoding: gzip" in file


def test_its_own_pages_are_not_for_visitors(visitor: Host) -> None:
    for path in ("/ready", "/alive", "/status"):
        assert get(visitor, "node-1", path).stdout.startswith("HTTP/2 404"), path


def test_it_is_alone_on_a_network_that_leads_out(swarm: Swarm) -> None:
    task = swarm.task("nginx")
    assert sorted(task.inspect()["NetworkSettings"]["Networks"]) == ["forum_edge", "forum_misago"]


def test_a_wrong_time_is_refused_and_nothing_is_changed(ansible: Run) -> None:
    refused = ansible("../shared/converge.yml", nginx_cache_seconds="long")
    assert refused.returncode != 0
    assert "nginx_cache_seconds" in refused.stdout
    assert "changed=0" in refused.stdout
