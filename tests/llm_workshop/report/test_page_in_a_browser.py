"""The joined page in a browser: entries of the contents land where they point, and the list shows where one is."""

from __future__ import annotations

import shutil

import pytest

from llm_workshop.report import Report, join_reports
from llm_workshop.report.plots import new_figure

LANDED = """(number) => {
  const link = document.querySelectorAll('nav a')[number], box = document.querySelector('nav').getBoundingClientRect();
  const target = document.getElementById(link.hash.slice(1)).getBoundingClientRect(), entry = link.getBoundingClientRect();
  const end = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
  return {placed: end ? target.bottom <= innerHeight : Math.abs(target.top - 24) < 4, marked: link.classList.contains('here'),
          seen: entry.top >= box.top - 2 && entry.bottom <= box.bottom + 2};
}"""


@pytest.fixture
def opened(tmp_path):
    """A page of forty sections, each with a picture, in a small window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright to run the browser tests")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium found: apt-get install chromium fonts-nanum to run the browser tests")
    figure, axes = new_figure(height=5)
    axes.plot([1, 2], [2, 1])
    for week in range(1, 5):
        report = Report(tmp_path, f"week{week:02}-a", f"{week}주차")
        for number in range(10):
            report.heading(f"{number}. 절").figure(figure, f"f{number}", "그림")
        report.save(quiet=True)
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1280, "height": 640})
        page.goto(join_reports(tmp_path).as_uri(), wait_until="commit")
        yield page
        chromium.close()


def test_entries_land_where_they_point_and_the_list_follows(opened):
    for number in (20, 43, 5, 0, 31):
        opened.locator("nav a").nth(number).click()
        opened.wait_for_function("(number) => document.querySelectorAll('nav a')[number].classList.contains('here')", arg=number, timeout=5000)
        assert opened.evaluate(LANDED, number) == {"placed": True, "marked": True, "seen": True}, number


def test_scrolling_moves_the_mark_to_the_last_section(opened):
    opened.wait_for_load_state()
    opened.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    opened.wait_for_function("[...document.querySelectorAll('nav a')].at(-1).classList.contains('here')", timeout=5000)
    assert opened.evaluate(LANDED, 43)["seen"]
