"""The forum in a real browser, Debian's Chromium; screenshots are kept as artifacts."""

import base64
import hashlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import (
    element_to_be_clickable,
    presence_of_element_located,
    visibility_of_element_located,
)
from selenium.webdriver.support.wait import WebDriverWait

from drills.forum import Account, Visitor
from drills.lab import Lab, shake_hands

Member = Callable[..., tuple[Visitor, Account]]
SECONDS = 30


def key_of(edge: str, ca_file: str) -> str:
    """The hash of the edge's public key, after its certificate was verified against the lab's authority."""
    with shake_hands(edge, ssl.create_default_context(cafile=ca_file)) as connection:
        certificate = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


@pytest.fixture(scope="module")
def chromium(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Chromium that accepts the verified certificates of the edges, and no other one it doesn't know."""
    keys = ",".join(sorted({key_of(edge, lab.ca_file) for edge in lab.forum_urls}))
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


def complaints(driver: Chrome) -> list[str]:
    """What the page's console says that is an error."""
    log: list[dict[str, str]] = driver.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in log if entry["level"] == "SEVERE"]


def test_the_front_page(edge: str, chromium: Chrome, artifacts: Path) -> None:
    chromium.get(f"{edge}/")
    wait = WebDriverWait(chromium, SECONDS)
    # The page comes with this button switched off: the forum's own script switches it on.
    wait.until(element_to_be_clickable((By.CSS_SELECTOR, ".btn-navbar-sign-in")))
    chromium.save_screenshot(str(artifacts / f"front-page-{edge.removeprefix('https://')}.png"))
    assert not complaints(chromium)
    assert chromium.execute_script("return getComputedStyle(document.body).fontFamily")
    styles = chromium.execute_script("return document.styleSheets.length")
    assert styles > 0


def test_signing_in_and_reading_a_thread(lab: Lab, chromium: Chrome, member: Member, artifacts: Path) -> None:
    edge = lab.forum_urls[0]
    visitor, account = member(edge)
    thread = visitor.start_thread(3, "A thread for the browser", "Some **bold** words for the browser.")
    path = visitor.browser.get(f"/api/threads/{thread}/").json()["url"]["index"]

    chromium.get(f"{edge}/")
    wait = WebDriverWait(chromium, SECONDS)
    wait.until(element_to_be_clickable((By.CSS_SELECTOR, ".btn-navbar-sign-in"))).click()
    wait.until(visibility_of_element_located((By.ID, "id_username"))).send_keys(account.username)
    chromium.find_element(By.ID, "id_password").send_keys(account.password + Keys.ENTER)
    wait.until(presence_of_element_located((By.CSS_SELECTOR, "body.misago-authenticated")))

    chromium.get(f"{edge}{path}")
    bold = wait.until(visibility_of_element_located((By.CSS_SELECTOR, ".post-body strong")))
    chromium.save_screenshot(str(artifacts / "thread.png"))
    assert bold.text == "bold"
    assert not complaints(chromium)
