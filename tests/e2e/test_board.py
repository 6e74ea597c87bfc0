"""The status board in a real browser, at a desk and on a phone, with what the lab tells at the moment."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import presence_of_element_located
from selenium.webdriver.support.wait import WebDriverWait

from drills.lab import ROOT, Lab

LEVELS = yaml.safe_load((ROOT / "inventories/shared/sla.yml").read_text())["service_levels"]
DASHBOARDS = [
    yaml.safe_load(path.read_text()) for path in sorted((ROOT / "roles").glob("*/files/dashboard.yml"))
]
PAGES = ["/", "/swarm", *(f"/components/{dashboard['name']}" for dashboard in DASHBOARDS)]
#: What a browser there says of its screen. A window of Chromium can't be as narrow as a phone's.
SCREENS = {
    "desk": {"width": 1280, "height": 1000, "deviceScaleFactor": 1, "mobile": False},
    "phone": {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
}


@pytest.fixture(scope="module")
def board(lab: Lab, chromium: Chrome) -> Chrome:
    """The browser, signed in."""
    chromium.get(lab.board.url)
    chromium.find_element(By.NAME, "user").send_keys(lab.board.operator.username)
    chromium.find_element(By.NAME, "password").send_keys(lab.board.operator.password + Keys.ENTER)
    WebDriverWait(chromium, 30).until(presence_of_element_located((By.ID, "nginx-clients")))
    return chromium


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_live_data_and_fits(
    page: str, screen: str, lab: Lab, board: Chrome, complaints: Callable[[], list[str]], artifacts: Path
) -> None:
    board.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SCREENS[screen])
    board.get(f"{lab.board.url}{page}")
    name = page.strip("/").replace("/", "-") or "overview"
    board.save_screenshot(str(artifacts / f"board-{name}-{screen}.png"))
    # What doesn't fit makes a phone's page wider than its screen.
    assert board.execute_script("return window.innerWidth") == SCREENS[screen]["width"]
    assert board.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert [
        banner.text for banner in board.find_elements(By.CSS_SELECTOR, ".banner") if banner.is_displayed()
    ] == []
    assert complaints() == []
    for panel in board.find_elements(By.CSS_SELECTOR, ".panel"):
        figures = [figure.text for figure in panel.find_elements(By.CSS_SELECTOR, ".legend b")]
        assert any(figures), f"no figure in {panel.text}"


def test_the_swarm_is_as_wanted(lab: Lab, board: Chrome) -> None:
    board.get(f"{lab.board.url}/swarm")
    states = [state.text for state in board.find_elements(By.CSS_SELECTOR, "td .state")]
    assert {state.split(" ", 1)[1] for state in states} == {"ready", "as wanted", "job"}


def test_every_metric_of_the_overview_has_a_value(lab: Lab, board: Chrome) -> None:
    board.get(lab.board.url)
    for level in LEVELS:
        row = board.find_element(By.ID, level["id"])
        state = row.get_attribute("class")
        if level["indicator"]["source"] == "log":
            assert state == "unmeasured", row.text
            continue
        assert state not in ("unmeasured", "silent", "unknown"), row.text
        assert re.search(r"\d", row.find_element(By.CSS_SELECTOR, "td[data-label=now]").text), row.text
