"""The lab under test, and visitors of its forum.

E2E_ARTIFACTS is where screenshots and reports go (default: artifacts/e2e in the repository).
"""

import base64
import hashlib
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import presence_of_element_located
from selenium.webdriver.support.wait import WebDriverWait

# `pytest` alone doesn't put the repository on the path, and these tests share their client with the drills.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from drills.browser import Browser, Timeouts
from drills.forum import Account, Visitor, new_account
from drills.lab import ROOT, Lab, read_lab, shake_hands
from drills.tiers import Machine, look, what_is_missing


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `edge` runs once for every edge address."""
    if "edge" in metafunc.fixturenames:
        metafunc.parametrize("edge", read_lab().forum_urls, scope="module")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Drills come last, before them the other tests that break what the rest looks at: nodes away, logs kept up."""
    late = [
        "test_action_server.py",
        "test_alarms.py",
        "test_blocking.py",
        "test_log_queues.py",
        "test_outages.py",
        "test_nodes.py",
        "test_drills.py",
    ]
    items.sort(key=lambda item: late.index(item.path.name) + 1 if item.path.name in late else 0)


@pytest.fixture(scope="session")
def lab() -> Lab:
    return read_lab()


@pytest.fixture(scope="session")
def artifacts() -> Path:
    directory = Path(os.environ.get("E2E_ARTIFACTS", ROOT / "artifacts" / "e2e"))
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture(scope="session")
def clients(lab: Lab) -> Iterator[dict[int, str]]:
    """Addresses of this machine on the lab's network, from which visitors can come, by their last part.

    No machine and no floating address has them.
    """
    prefix = lab.swarm[0].address.rpartition(".")[0]
    shown = subprocess.run(["ip", "-json", "-4", "address"], check=True, capture_output=True).stdout
    bridge = next(
        interface["ifname"]
        for interface in json.loads(shown)
        if any(address["local"] == f"{prefix}.1" for address in interface["addr_info"])
    )
    found = {last: f"{prefix}.{last}" for last in range(201, 207)}
    for address in found.values():
        subprocess.run(["ip", "address", "replace", f"{address}/32", "dev", bridge], check=True)
    yield found
    for address in found.values():
        subprocess.run(["ip", "address", "del", f"{address}/32", "dev", bridge], check=False)


@pytest.fixture(scope="session")
def log_operator(lab: Lab) -> Account:
    """Elasticsearch's account that may change settings, which `make endpoints` doesn't name."""
    return Account("operator", (lab.secrets_dir / "elasticsearch_operator_password").read_text().strip())


@pytest.fixture(scope="session")
def missing(lab: Lab) -> Callable[[], list[str]]:
    """Tells what keeps the stack from being whole, as the drills see it."""

    def reasons() -> list[str]:
        machines = [
            Machine(node.name, ("docker", "exec", "--interactive", node.container)) for node in lab.swarm
        ]
        snapshot = look(machines, lab.forum_urls, lab.ca_file, None, "forum")
        return [reason for told in what_is_missing(snapshot).values() for reason in told]

    return reasons


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Callable[..., Visitor]]:
    """Makes visitors who aren't signed in; without an argument they rotate over all edges."""
    browsers: list[Browser] = []

    def make(*edges: str) -> Visitor:
        browsers.append(Browser(edges or lab.forum_urls, lab.ca_file, Timeouts(connect=3, answer=60)))
        return Visitor(browsers[-1])

    yield make
    for browser in browsers:
        browser.close()


@pytest.fixture(scope="module")
def notify(member: Callable[..., tuple[Visitor, Account]]) -> Callable[[], float]:
    """Has one user answer another's thread; the seconds until Celery has told the other one of it."""

    def answer() -> float:
        author, _ = member()
        answerer, account = member()
        thread = author.start_thread(3, "Who tells me of answers?", "Somebody should.")
        author.watch(thread)
        answerer.reply(thread, "Celery does.")
        began = time.monotonic()
        while not any(account.username in message for message in author.notifications()):
            assert time.monotonic() - began < 60, "nobody was told of the answer for a minute"
            time.sleep(0.5)
        return time.monotonic() - began

    return answer


@pytest.fixture(scope="module")
def member(guest: Callable[..., Visitor]) -> Callable[..., tuple[Visitor, Account]]:
    """Makes registered visitors, signed in; without an argument they rotate over all edges."""

    def make(*edges: str) -> tuple[Visitor, Account]:
        visitor, account = guest(*edges), new_account("e2e")
        visitor.register(account)
        return visitor, account

    return make


def key_of(url: str, ca_file: str) -> str:
    """The hash of a server's public key, after its certificate was verified against the lab's authority."""
    with shake_hands(url, ssl.create_default_context(cafile=ca_file)) as connection:
        certificate = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


@pytest.fixture(scope="module")
def chromium(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Chromium that accepts the verified certificates of the lab, and no other one it doesn't know."""
    keys = ",".join(sorted({key_of(url, lab.ca_file) for url in (*lab.forum_urls, lab.board.url)}))
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "disable-dev-shm-usage",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "window-size=1280,1000",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
        f"ignore-certificate-errors-spki-list={keys}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, Service("/usr/bin/chromedriver"))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def board(lab: Lab, chromium: Chrome) -> Chrome:
    """The browser, signed in."""
    chromium.get(lab.board.url)
    chromium.find_element(By.NAME, "user").send_keys(lab.board.operator.username)
    chromium.find_element(By.NAME, "password").send_keys(lab.board.operator.password + Keys.ENTER)
    WebDriverWait(chromium, 30).until(presence_of_element_located((By.ID, "nginx-clients")))
    return chromium


@pytest.fixture
def complaints(chromium: Chrome) -> Callable[[], list[str]]:
    """Tells what the page's console says that is an error."""

    def severe() -> list[str]:
        log: list[dict[str, str]] = chromium.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]

    return severe
