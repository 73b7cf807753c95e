"""The report in headless Chromium: on a screen, on a phone and on paper."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nescio.report import html

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium; Debian: apt-get install chromium")
SIDEWAYS = "document.body.scrollWidth > innerWidth || document.documentElement.scrollWidth > innerWidth"
CUT = "[...document.querySelectorAll('table, pre, dl')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
EVERYTHING = {
    "utility": 0.5, "utility_ci95": [0.4, 0.6], "utility_kind": "plain questions, by likelihood",
    "utility_change_ci95": [-0.25, 0.08], "utility_mcnemar_p": 0.031, "judged": 0.4, "judged_ci95": [0.3, 0.5],
    "judge": "smollm2", "judge_accuracy": 0.5, "judge_usable": False, "divergence": 1.25, "over_refusal": 0.125,
    "lower_case": 0.1, "role_confusion": 0.1, "repetition": 0.1, "answer_words": 12.5, "attack": 0.1,
    "attack_ci95": [0.05, 0.2], "filter_seconds": 0.002, "leak_at": {"1": [0.2, 0.1, 0.3], "4": [0.5, 0.4, 0.6]},
    "labels": {"PERSON": 7, "GPE": 2, "WORK_OF_ART": 1, "ORG": 1, "NORP": 1, "EVENT": 1, "LANGUAGE": 1},
}  # fmt: skip


@pytest.fixture
def report(make_run: Callable[..., Path]) -> str:
    """The address of a report in which every measure has its column."""
    run = make_run()
    path = run / "eval/results.json"
    path.write_text(json.dumps([row | EVERYTHING for row in json.loads(path.read_text())]))
    return html.write(run).as_uri()


@pytest.fixture
def page(report: str) -> Iterator["playwright.Page"]:
    """The report, opened; anything asked of the network or said on the console fails."""
    problems: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.on("request", lambda asked: None if asked.url.startswith("file:") else problems.append(asked.url))
        page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(report)
        yield page
        browser.close()
    assert problems == []


def test_no_sideways_scrolling_and_nothing_asked_of_the_network(page: "playwright.Page") -> None:
    for width, scheme in ((1280, "light"), (390, "dark")):
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme=scheme)
        for details in page.locator("summary").all():
            details.click()
        assert not page.evaluate(SIDEWAYS), width


def test_paper_cuts_no_table_and_shows_what_is_folded(page: "playwright.Page") -> None:
    page.set_viewport_size({"width": 718, "height": 1016})  # A4 at 96 dpi, within margins of 10 mm
    assert not page.get_by_text("learning_rate").is_visible()
    page.emulate_media(media="print")
    assert page.evaluate(f"{CUT}.map(e => e.innerText)") == []
    assert page.get_by_text("learning_rate").is_visible() and page.get_by_text("2.13.0+cpu").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
