"""The forum in a real browser, Debian's Chromium; screenshots are kept as artifacts."""

from collections.abc import Callable
from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import (
    element_to_be_clickable,
    presence_of_element_located,
    visibility_of_element_located,
)
from selenium.webdriver.support.wait import WebDriverWait

from drills.forum import Account, Visitor
from drills.lab import Lab

Member = Callable[..., tuple[Visitor, Account]]
Complaints = Callable[[], list[str]]
SECONDS = 30


def test_the_front_page(edge: str, chromium: Chrome, complaints: Complaints, artifacts: Path) -> None:
    chromium.get(f"{edge}/")
    wait = WebDriverWait(chromium, SECONDS)
    # The page comes with this button switched off: the forum's own script switches it on.
    wait.until(element_to_be_clickable((By.CSS_SELECTOR, ".btn-navbar-sign-in")))
    chromium.save_screenshot(str(artifacts / f"front-page-{edge.removeprefix('https://')}.png"))
    assert not complaints()
    assert chromium.execute_script("return getComputedStyle(document.body).fontFamily")
    styles = chromium.execute_script("return document.styleSheets.length")
    assert styles > 0


def test_signing_in_and_reading_a_thread(
    lab: Lab, chromium: Chrome, complaints: Complaints, member: Member, artifacts: Path
) -> None:
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
    assert not complaints()
