"""The status board in a real browser, at a desk and on a phone, with what the lab tells at the moment."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import presence_of_element_located
from selenium.webdriver.support.wait import WebDriverWait

from drills.elastic import Elastic
from drills.forum import Visitor
from drills.lab import ROOT, Lab, until

LEVELS = yaml.safe_load((ROOT / "inventories/shared/sla.yml").read_text())["service_levels"]
DASHBOARDS = [
    yaml.safe_load(path.read_text()) for path in sorted((ROOT / "roles").glob("*/files/dashboard.yml"))
]
PAGES = [
    *("/", "/alarms", "/actions", "/blocked", "/requests", "/errors", "/errors?kind=unparsed", "/swarm"),
    *(f"/components/{dashboard['name']}" for dashboard in DASHBOARDS),
]
#: What a browser there says of its screen. A window of Chromium can't be as narrow as a phone's.
SCREENS = {
    "desk": {"width": 1280, "height": 1000, "deviceScaleFactor": 1, "mobile": False},
    "phone": {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
}


def request_of(visitor: Visitor) -> str:
    """The id of a request that gunicorn has answered."""
    return visitor.browser.get("/api/auth/").headers["x-request-id"]


@pytest.fixture(scope="module")
def visited(lab: Lab, guest: Callable[..., Visitor]) -> str:
    """The id of a request whose lines Elasticsearch has."""
    trace = request_of(guest())
    until(30, lambda: Elastic(lab).count(f"trace.id:{trace}") >= 2)
    return trace


def assert_it_fits(board: Chrome, screen: str) -> None:
    """What doesn't fit makes a phone's page wider than its screen."""
    assert board.execute_script("return window.innerWidth") == SCREENS[screen]["width"]
    assert board.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.usefixtures("visited")
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_live_data_and_fits(
    page: str, screen: str, lab: Lab, board: Chrome, complaints: Callable[[], list[str]], artifacts: Path
) -> None:
    board.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SCREENS[screen])
    board.get(f"{lab.board.url}{page}")
    name = re.sub(r"\W+", "-", page).strip("-") or "overview"
    board.save_screenshot(str(artifacts / f"board-{name}-{screen}.png"))
    assert_it_fits(board, screen)
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


def rows(board: Chrome) -> list[WebElement]:
    """The lines that a page lists."""
    return board.find_elements(By.CSS_SELECTOR, ".lines tbody tr")


def until_there(board: Chrome, url: str, there: Callable[[], bool], seconds: float = 10) -> None:
    """Load a page again and again until something is there. Raises TimeoutError when it isn't in time."""

    def loaded() -> bool:
        board.get(url)
        return there()

    until(seconds, loaded)


def test_every_indicator_of_the_overview_has_a_value(
    lab: Lab, board: Chrome, guest: Callable[..., Visitor]
) -> None:
    # Within the shortest window of an indicator.
    request_of(guest())
    until_there(board, lab.board.url, lambda: not board.find_elements(By.CSS_SELECTOR, "tr.quiet"), 20)
    for level in LEVELS:
        row = board.find_element(By.ID, level["id"])
        assert row.get_attribute("class") not in ("silent", "unknown"), row.text
        # Of a log that has lines there may be none that are meant.
        assert re.search(r"\d", row.find_element(By.CSS_SELECTOR, "td[data-label=now]").text) or (
            level["indicator"]["source"] == "log" and "none within" in row.text
        ), row.text


def test_a_request_appears_within_10_s_and_is_followed_by_its_id_to_gunicorn(
    lab: Lab, board: Chrome, guest: Callable[..., Visitor], artifacts: Path
) -> None:
    began = time.monotonic()
    trace = request_of(guest())
    link = f'a[href="/request?id={trace}"]'
    until_there(board, f"{lab.board.url}/requests", lambda: bool(board.find_elements(By.CSS_SELECTOR, link)))
    assert time.monotonic() - began < 12, "with the time that the browser takes to load it"
    board.find_element(By.CSS_SELECTOR, link).click()
    assert board.current_url == f"{lab.board.url}/request?id={trace}"
    # The two lines come from two nodes, and one of them may be some seconds later.
    until_there(board, board.current_url, lambda: len(rows(board)) >= 2)
    told = [[cell.text for cell in row.find_elements(By.TAG_NAME, "td")] for row in rows(board)]
    assert {row[1] for row in told} == {"misago", "nginx"}
    assert [row[0] for row in told] == sorted(row[0] for row in told)
    for row in told:
        assert row[2] in {node.name for node in lab.swarm}
        assert (row[3], row[5].splitlines()[0]) == ("200", "GET /api/auth/")
        assert re.fullmatch(r"[\d.]+ s", row[4])
    for screen, metrics in SCREENS.items():
        board.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        board.save_screenshot(str(artifacts / f"board-request-{screen}.png"))
        assert_it_fits(board, screen)


def test_a_search_finds_an_error(
    lab: Lab, board: Chrome, guest: Callable[..., Visitor], artifacts: Path
) -> None:
    # What nginx doesn't let in is in its log with its size, which nobody else has.
    size = 10**12 + time.time_ns() // 1000 % 10**9
    assert guest().browser.request("POST", "/", body=b"", headers={"Content-Length": str(size)}).status == 413
    url = f"{lab.board.url}/errors?search=too+large+{size}"
    until_there(board, url, lambda: bool(rows(board)))
    (row,) = rows(board)
    assert "error" in row.text
    assert f"client intended to send too large body: {size} bytes" in row.text
    for screen, metrics in SCREENS.items():
        board.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        board.save_screenshot(str(artifacts / f"board-search-{screen}.png"))
        assert_it_fits(board, screen)
    board.get(f"{url}&service=misago")
    assert rows(board) == []


@pytest.mark.parametrize("search", ["((", '"', "a*", "-x", "[1 TO", "\\", "+ü~9 /", "x " * 99])
def test_no_search_breaks_the_page(search: str, lab: Lab, board: Chrome) -> None:
    board.get(f"{lab.board.url}/errors")
    board.find_element(By.ID, "search").send_keys(search + Keys.ENTER)
    WebDriverWait(board, 10).until(lambda page: "search=" in page.current_url)
    assert board.find_element(By.TAG_NAME, "h1").text == "Errors"
    assert not board.find_element(By.ID, "problem").is_displayed()
    told = "This search isn't understood" in board.find_element(By.ID, "main").text
    assert told is not any(letter.isalnum() for letter in search)


def test_what_is_being_typed_outlives_the_page_s_renewal(lab: Lab, board: Chrome) -> None:
    board.get(f"{lab.board.url}/errors")
    board.execute_script("document.getElementById('main').firstElementChild.dataset.old = '1'")
    board.find_element(By.ID, "search").send_keys("half a wo")
    renewed = (By.CSS_SELECTOR, "#main > :first-child:not([data-old])")
    WebDriverWait(board, 20).until(presence_of_element_located(renewed))
    assert board.find_element(By.ID, "search").get_property("value") == "half a wo"
