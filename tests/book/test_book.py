"""The book builds offline without a warning; every page opens in a real browser and loads nothing from elsewhere."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT

pytest.importorskip("sphinx", reason="the extra docs is not installed")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no chromium and chromedriver here")
pytestmark = pytest.mark.slow  # a book is built, and a browser starts


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book, built as .ci/run builds it."""
    folder = tmp_path_factory.mktemp("book")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(ROOT / "docs"), str(folder)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium that reaches no host."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    own = (f"user-data-dir={tmp_path_factory.mktemp('profile')}", "host-resolver-rules=MAP * ~NOTFOUND")
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "window-size=1400,1000",
        *own,
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@needs_browser
def test_every_page_opens_without_an_error_and_loads_nothing_from_elsewhere(book: Path, browser: Any) -> None:
    pages = sorted(book.glob("**/*.html"))
    assert len(pages) > 25
    for page in pages:
        browser.get(page.as_uri())
        assert browser.get_log("browser") == [], page.name
        loaded = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert [name for name in loaded if not name.startswith(("file:", "data:"))] == []
        broken = "return [...document.images].filter(image => !image.naturalWidth).map(image => image.src)"
        assert browser.execute_script(broken) == []


@needs_browser
def test_the_search_finds_highway_without_a_network(book: Path, browser: Any) -> None:
    browser.get((book / "search.html").as_uri() + "?q=highway")
    titles = "return [...document.querySelectorAll('#search-results li a')].map(link => link.textContent)"
    wait = WebDriverWait(browser, 20)  # they come one by one
    wait.until(lambda driver: {"What depth does", "DeepRNN"} <= set(driver.execute_script(titles)))
    assert browser.get_log("browser") == []
