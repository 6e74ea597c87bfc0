"""What every edge does by itself: TLS, headers, static files, the visitor's address."""

import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from drills.browser import Browser, Reply
from drills.forum import Visitor, new_account
from drills.lab import Lab, shake_hands

Guest = Callable[..., Visitor]
YEAR = 365 * 24 * 3600
HASHED = re.compile(r'["\'](/static/[^"\'?]+\.[0-9a-f]{12}\.(?:css|js))["\']')


@pytest.fixture(scope="module")
def front_page(edge: str, guest: Guest) -> Reply:
    reply = guest(edge).browser.get("/")
    assert reply.status == 200
    return reply


def test_hashed_static_files_are_kept_a_year(edge: str, front_page: Reply, guest: Guest) -> None:
    browser = guest(edge).browser
    paths = sorted(set(HASHED.findall(front_page.text)))
    assert any(path.endswith(".css") for path in paths)
    assert any(path.endswith(".js") for path in paths)
    for path in paths:
        reply = browser.get(path, headers={"Accept-Encoding": "gzip"})
        assert reply.status == 200, path
        assert f"max-age={YEAR}" in reply.headers["cache-control"], path
        assert "immutable" in reply.headers["cache-control"], path
        assert reply.headers.get("content-encoding") == "gzip", path
        assert reply.body.startswith(b"\x1f\x8b"), path
        assert "set-cookie" not in reply.headers, path


def test_static_files_are_the_same_everywhere(lab: Lab, guest: Guest) -> None:
    page = guest(lab.forum_urls[0]).browser.get("/").text
    path = min(HASHED.findall(page))
    assert len({guest(edge).browser.get(path).body for edge in lab.forum_urls}) == 1


def test_a_missing_static_file_is_404(edge: str, guest: Guest) -> None:
    assert guest(edge).browser.get("/static/missing.0123456789ab.css").status == 404


def test_pages_are_compressed(edge: str, guest: Guest) -> None:
    reply = guest(edge).browser.get("/", headers={"Accept-Encoding": "gzip"})
    assert reply.headers.get("content-encoding") == "gzip"


def test_security_headers(front_page: Reply) -> None:
    headers = front_page.headers
    assert int(re.findall(r"max-age=(\d+)", headers["strict-transport-security"])[0]) >= YEAR / 2
    assert headers["x-content-type-options"] == "nosniff"
    assert "referrer-policy" in headers
    policy = headers.get("content-security-policy", "")
    assert "frame-ancestors" in policy or "x-frame-options" in headers
    assert not re.search(r"\d", headers.get("server", "")), "the server's version is nobody's business"
    assert "x-powered-by" not in headers


def test_cookies_are_for_tls_only(edge: str, guest: Guest) -> None:
    visitor = guest(edge)
    visitor.register(new_account("e2e"))
    visitor.sign_out()
    reply = visitor.browser.post("/api/auth/", {"username": "nobody", "password": "nothing"})
    for line in [*reply.headers.get("set-cookie", "").splitlines(), *_cookies_of_a_guest(edge, guest)]:
        assert "secure" in line.lower(), line.split("=")[0]


def _cookies_of_a_guest(edge: str, guest: Guest) -> list[str]:
    lines = guest(edge).browser.get("/").headers.get("set-cookie", "").splitlines()
    assert lines, "a guest gets his CSRF cookie with the front page"
    return lines


def test_every_guest_has_his_own_csrf_token(edge: str, lab: Lab, guest: Guest) -> None:
    admin = guest(edge)
    admin.sign_in(lab.admin)
    thread = _some_thread(admin)
    tokens = []
    for _ in range(3):
        visitor = guest(edge)
        visitor.arrive()
        for _ in range(2):
            reply = visitor.browser.get(thread)
            assert reply.status == 200
            assert "sessionid" not in reply.headers.get("set-cookie", "")
        tokens.append(visitor.browser.csrf_token)
    assert len(set(tokens)) == 3


def _some_thread(visitor: Visitor) -> str:
    """The path of a thread's page; one is started when there is none."""
    listing = visitor.browser.get("/api/threads/").json()["results"]
    if not listing:
        visitor.start_thread(3, "A thread to look at", "With a post to read.")
        listing = visitor.browser.get("/api/threads/").json()["results"]
    return str(listing[0]["url"]["index"])


def test_plain_http_is_sent_to_https(edge: str) -> None:
    where = urlsplit(edge)
    plain = Browser([f"http://{where.hostname}"])
    reply = plain.get("/some/page?with=query")
    plain.close()
    assert reply.status in (301, 308)
    assert reply.headers["location"] == f"https://{where.hostname}/some/page?with=query"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"])
def test_old_tls_is_refused(edge: str, lab: Lab, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=lab.ca_file)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = version
    context.maximum_version = version
    with pytest.raises(ssl.SSLError) as refused:
        shake_hands(edge, context)
    assert refused.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION", "refused by the edge, not by this client"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_tls_with_http2(edge: str, lab: Lab, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=lab.ca_file)
    context.minimum_version = version
    context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with shake_hands(edge, context) as connection:
        assert connection.selected_alpn_protocol() == "h2"


def test_the_certificate_is_signed_by_the_labs_authority_only(edge: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(edge, ssl.create_default_context())


def test_a_forged_address_is_not_believed(edge: str, lab: Lab, guest: Guest) -> None:
    visitor, account = guest(edge), new_account("e2e")
    visitor.arrive()
    data = {"username": account.username, "email": account.email, "password": account.password}
    forged = {"X-Forwarded-For": "203.0.113.77", "X-Real-IP": "203.0.113.77", "Forwarded": "for=203.0.113.77"}
    reply = visitor.browser.request("POST", "/api/users/", data=data, headers=forged)
    assert reply.status == 200, reply.text
    admin = guest(edge)
    admin.sign_in(lab.admin)
    details = admin.browser.get(f"/api/users/{visitor.who()['id']}/details/").json()
    shown = [field["text"] for group in details["groups"] for field in group["fields"]]
    addresses = [text for text in shown if re.fullmatch(r"[0-9a-f.:]+", text)]
    assert addresses, f"the administrator sees no address among {shown}"
    assert "203.0.113.77" not in addresses
    assert addresses == [own_address(edge)]


def own_address(edge: str) -> str:
    """The address that this machine has towards an edge."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as towards:
        towards.connect((urlsplit(edge).hostname, 443))
        return str(towards.getsockname()[0])


@pytest.fixture
def homeless(lab: Lab) -> Iterator[str]:
    """A floating address that no machine holds; at the end all are at home again."""
    address = str(urlsplit(lab.forum_urls[-1]).hostname)
    monitor = lab.monitor
    for node in lab.swarm:
        node.run("systemctl stop keepalived")
    try:
        assert all(f" {address}/" not in node.run("ip -4 address show") for node in lab.swarm)
        yield address
    finally:
        for node in lab.swarm:
            node.run(f"ip address delete {address}/24 dev eth0; systemctl start keepalived")
        monitor.run(f"ip neighbour delete {address} dev eth0")
        for edge in lab.forum_urls:
            answer = monitor.run(
                f"curl -skf --retry 60 --retry-all-errors --retry-delay 1 {edge}/healthcheck/"
            )
            assert answer, f"{edge} didn't come back"


def test_a_visitor_who_knocked_before_the_address_was_there_is_known(lab: Lab, homeless: str) -> None:
    node, monitor = lab.swarm[-1], lab.monitor
    mac = node.run("cat /sys/class/net/eth0/address").strip()
    monitor.run(f"ip neighbour replace {homeless} lladdr {mac} dev eth0 nud permanent")
    with ThreadPoolExecutor(1) as pool:
        knock = (
            f"curl -sk --max-time 20 -o /dev/null -w '%{{http_code}} %{{time_connect}}' https://{homeless}/"
        )
        answer = pool.submit(monitor.run, knock)
        time.sleep(0.6)
        node.run(f"ip address add {homeless}/24 dev eth0")
        status, connected = answer.result().split()
    assert float(connected) > 0.5, "the address was there before the visitor"
    assert status == "200", "nginx saw another address than the visitor's"


def test_another_host_name_is_refused(edge: str, guest: Guest) -> None:
    reply = guest(edge).browser.get("/", headers={"Host": "elsewhere.example.com"})
    assert reply.status in (400, 404, 421)


@pytest.mark.parametrize("path", ["/alive", "/ready", "/status", "/server-status", "/.git/config"])
def test_what_is_internal_stays_inside(edge: str, guest: Guest, path: str) -> None:
    assert guest(edge).browser.get(path).status == 404
