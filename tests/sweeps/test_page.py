"""The page in a real headless browser: every figure drawn, no error, sorting, filtering and brushing work."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_sweep import ODD, make_run, make_sweep

from src.sweeps.report.page import build_page
from src.sweeps.report.runs import read_runs
from src.sweeps.report.table import compare
from src.sweeps.report.view import ALL_POINTS, MOST_POINTS, curve, points_each

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)"),
    pytest.mark.skipif(DRIVER is None, reason="no chromedriver here (Debian: apt-get install chromium-driver)"),
    pytest.mark.slow,  # a browser starts
]
FIGURES = ("heat", "curves", "params", "seconds", "parallel")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One headless Chromium for all tests of this file."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    profile = tmp_path_factory.mktemp("profile")
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1500,2000"):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[[Path], Any]]:
    """``opened(folder)`` shows the page of a sweep; afterwards the console must be empty and nothing else loaded."""

    def show(folder: Path) -> Any:
        page = tmp_path / "page.html"
        page.write_text(build_page(compare(read_runs(folder)), folder.name), encoding="utf-8")
        browser.get(page.as_uri())
        return browser

    yield show
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)") == []


def column(browser: Any, name: str) -> list[str]:
    """The visible cells of a column of the table, from the top."""
    heads = [head.text.rstrip(" ▲▼") for head in browser.find_elements(By.CSS_SELECTOR, "#table thead th")]
    rows = browser.execute_script(
        "return [...document.querySelectorAll('#table tbody tr')].filter(row => !row.hidden)"
        ".map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return [row[heads.index(name)] for row in rows]


def sort_by(browser: Any, name: str) -> str:
    """Click a column's head, and return how the column is sorted then."""
    for button in browser.find_elements(By.CSS_SELECTOR, "#table thead button"):
        if button.text.rstrip(" ▲▼") == name:
            browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
            button.click()
            return str(browser.find_element(By.CSS_SELECTOR, "#table th[aria-sort]").get_attribute("aria-sort"))
    raise AssertionError(f"no column {name}")


def find(browser: Any, words: str) -> None:
    """Type into the filter."""
    field = browser.find_element(By.ID, "filter")
    field.clear()
    field.send_keys(words)


def count(browser: Any, selector: str) -> int:
    return len(browser.find_elements(By.CSS_SELECTOR, selector))


def test_every_figure_is_drawn_with_a_mark_for_each_run_that_has_a_value(opened, tmp_path):
    browser = opened(make_sweep(tmp_path / "sweep"))
    assert count(browser, "#table tbody tr") == 36
    assert count(browser, "#heat .cell") == 3 * 4 * 3
    assert count(browser, "#curves .line") == 72 - 1  # one ran out of memory at once
    assert count(browser, "#params .dot") == 72 - 4  # those that are not DONE do not know their parameters
    assert count(browser, "#seconds .dot") == 72 - 1
    assert count(browser, "#parallel .line") == 72
    for figure in FIGURES:
        box = browser.find_element(By.CSS_SELECTOR, f"#{figure} svg").rect
        assert box["width"] > 300 and box["height"] > 100
        assert count(browser, f"#{figure} text") > 5
    Select(browser.find_element(By.CSS_SELECTOR, "#curves select")).select_by_visible_text("train/loss")
    assert count(browser, "#curves .line") == 72 and count(browser, "#curves svg") == 1


def test_the_f1_of_each_class_is_a_figure_where_there_are_classes(opened, tmp_path):
    for cell, best in (("gru", 0.9), ("lstm", 0.8)):
        make_run(tmp_path / "sweep" / cell, best=best, model__cell=cell, class_f1={ODD: best, "b": best - 0.5})
    browser = opened(tmp_path / "sweep")
    cells = [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "#classes .cell")]
    assert cells == ["0.900", "0.400", "0.800", "0.300"]
    find(browser, "lstm")
    assert count(browser, "#classes .cell.dim") == 2
    make_run(tmp_path / "other" / "a")
    assert count(opened(tmp_path / "other"), "#classes") == 0


def test_a_click_on_a_head_sorts_and_a_second_one_turns_the_order(opened, tmp_path):
    browser = opened(make_sweep(tmp_path / "sweep"))
    means = [float(text) for text in column(browser, "mean")]
    assert means == sorted(means, reverse=True)  # ranked
    assert sort_by(browser, "depth") == "ascending"
    assert column(browser, "depth") == sorted(column(browser, "depth"))
    assert sort_by(browser, "depth") == "descending"
    assert column(browser, "depth") == sorted(column(browser, "depth"), reverse=True)
    assert sort_by(browser, "mean") == "descending"  # the best at the top
    browser.find_element(By.ID, "by-run").click()
    assert len(column(browser, "run")) == 72
    assert sort_by(browser, "val/accuracy") == "descending"
    values = column(browser, "val/accuracy")
    assert values[-1] == "–" and values[:-1] == sorted(values[:-1], reverse=True)


def test_words_comparisons_and_states_filter_the_table_and_dim_the_figures(opened, tmp_path):
    browser = opened(make_sweep(tmp_path / "sweep"))
    find(browser, "gru depth>=3 lr<0.001")
    assert set(column(browser, "cell")) == {"gru"} and set(column(browser, "depth")) == {"3", "4"}
    assert set(column(browser, "lr")) == {"0.0001", "0.0003"}
    assert count(browser, "#curves .line:not(.dim)") == 8
    assert browser.find_element(By.ID, "count").text == "8 of 72 runs, 4 of 36 settings"
    find(browser, "memory")
    assert column(browser, "state") == ["1 DONE, 1 FAILED (out of memory)"]
    browser.find_element(By.ID, "clear").click()
    assert len(column(browser, "cell")) == 36 and count(browser, "#parallel .dim") == 0
    browser.find_element(By.ID, "by-run").click()
    browser.find_element(By.CSS_SELECTOR, "[data-state=DONE]").click()
    assert sorted(column(browser, "state")) == ["FAILED", "FAILED", "PRUNED", "cut off"]
    find(browser, "nothing is called this")
    assert column(browser, "state") == [] and count(browser, "#curves .line:not(.dim)") == 0


def test_a_brush_along_an_axis_keeps_the_runs_that_cross_it_there(opened, tmp_path):
    browser = opened(make_sweep(tmp_path / "sweep"))
    grip = browser.find_element(By.CSS_SELECTOR, '.grip[data-axis="depth"]')
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", grip)
    half = grip.rect["height"] / 2
    drag = ActionChains(browser, duration=50).move_to_element_with_offset(grip, 0, int(-half + 2)).click_and_hold()
    drag.move_by_offset(0, int(half / 3)).move_by_offset(0, int(half / 5)).release().perform()
    assert set(column(browser, "depth")) == {"4"} and count(browser, "#curves .line:not(.dim)") == 18
    ActionChains(browser).move_to_element(grip).click().perform()
    assert len(column(browser, "depth")) == 36


def test_pointing_at_a_run_lights_it_up_everywhere_and_tells_its_values_and_a_click_keeps_it(opened, tmp_path):
    browser = opened(make_sweep(tmp_path / "sweep"))
    dot = browser.find_elements(By.CSS_SELECTOR, "#params .dot")[-1]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", dot)
    ActionChains(browser).move_to_element(dot).perform()
    tip = browser.find_element(By.ID, "tip").text
    assert "cell-" in tip and "val/accuracy 0." in tip and "parameters" in tip
    assert [count(browser, f"#{figure} .hot") for figure in FIGURES] == [1] * 5
    assert count(browser, "#table tr.hot") == 1
    ActionChains(browser).click().move_by_offset(0, -200).perform()
    assert count(browser, "#curves .hot") == 1 and count(browser, "#table tr.pinned") == 1
    assert not browser.find_element(By.ID, "tip").is_displayed()


def test_odd_names_are_text_and_nothing_else(opened, tmp_path):
    folder = tmp_path / "<img src=x onerror=alert(1)> {{data}}"
    make_run(folder / "</script><script>alert(2)", model__cell=ODD, end="FAILED", why="E: </script><b>{{style}}")
    make_run(folder / "plain", model__cell="__proto__")
    browser = opened(folder)
    assert browser.find_element(By.TAG_NAME, "h1").text == folder.name == browser.title
    assert set(column(browser, "cell")) == {ODD, "__proto__"}
    browser.find_element(By.ID, "by-run").click()
    assert "</script><script>alert(2)" in column(browser, "run")
    assert "E: </script><b>{{style}}" in column(browser, "reason")
    assert count(browser, "img") == 0 and count(browser, "script") == 2 and count(browser, "b") == 0


def test_one_run_and_runs_without_a_value_make_a_page_too(opened, tmp_path):
    make_run(tmp_path / "one" / "a")
    browser = opened(tmp_path / "one")
    assert [count(browser, f"#{figure} .mark") for figure in FIGURES] == [1] * 5
    make_run(tmp_path / "none" / "a", end="FAILED", why="x", best=None, epochs=0)
    make_run(tmp_path / "none" / "b", end=None, best=None, epochs=0, depth=3)
    browser = opened(tmp_path / "none")
    assert count(browser, "#table tbody tr") == 2 and count(browser, "#curves .mark") == 0
    assert "no run has both yet" in browser.find_element(By.ID, "params").text


def test_three_hundred_runs_ranked_by_perplexity_stay_quick_and_small(opened, tmp_path):
    for number in range(300):
        choices = {"depth": 1 + number % 5, "lr": 1e-5 * 1.02**number, "dropout": 0.9 * ((number * 7) % 300) / 300}
        make_run(tmp_path / "sweep" / f"{number}", best=50.0 + number, monitor="val/perplexity", mode="min", **choices)
    browser = opened(tmp_path / "sweep")
    assert (tmp_path / "page.html").stat().st_size < 2_000_000
    assert column(browser, "mean")[0] == "50.0000" and count(browser, "#parallel .line") == 300
    assert browser.execute_script("const t = performance.now(); repaint(); return performance.now() - t") < 1000


def test_the_curves_of_very_many_runs_stay_within_a_budget() -> None:
    assert points_each(8 * 20) == MOST_POINTS
    assert 8 * 5000 * points_each(8 * 5000) <= ALL_POINTS
    lines = [{"step": step, "time": step, "val/loss": 0.5} for step in range(1000)]
    assert [len(part) for part in curve(lines, "val/loss", 10)] == [10, 10, 10]
