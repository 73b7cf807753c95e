"""The page of an audit: readable on a screen and on a phone, and nothing leaves it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted import Scripted, known, last_turn

from nescio.audit.page import HEADERS, cells, in_a_line, sentence, warnings, worst_first, write
from nescio.audit.people import Fact

Facts = list[list[Fact]]
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
SIDEWAYS = "document.body.scrollWidth > innerWidth || document.documentElement.scrollWidth > innerWidth"
ATTACKS = ("as_in_dialog", "inverse", "slot", "many_draws", "completion", "spelled_out")


@pytest.fixture
def result(people: Facts, carry_out: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """An audit in which the plain question finds little, completion everything, and one attack does not fit."""

    def answer(request: Any) -> str:
        said = known(last_turn(request)) or ""
        return said if isinstance(request.prompt, str) or "Ferrari" in said else "<script>alert(1)</script>"

    return carry_out(Scripted(answer), people, *ATTACKS, draws=4)


def test_the_sentence_says_what_came_out(result: dict[str, Any]) -> None:
    said = sentence(result)
    assert said.startswith("Asked plainly, 2 of 10 facts come out (20 % [0, 60]); of made-up people 0 % would.")
    assert "The attack that finds most is “completion”: 10 of 10 facts come out" in said
    assert "All attacks together: 10 of 10 facts, of 5 of 5 people; at 95 %, at most 100 % of such people" in said
    assert worst_first(result)[0]["name"] == "completion"
    assert in_a_line(result["attacks"][0]) == "as in the dialog       2 of 10 facts, 0 % guessed"


def test_one_is_not_told_as_many(people: Facts, carry_out: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    one = carry_out(Scripted(lambda request: "no idea"), [people[0][:1]], "as_in_dialog")
    assert sentence(one).startswith("Asked plainly, 0 of 1 fact comes out")
    assert "All attacks together: 0 of 1 fact, of 0 of 1 person; at 95 %, at most 95 % of such people" in sentence(one)
    assert "1 fact of 1 person was asked for in" in write(one, tmp_path).read_text(encoding="utf-8")
    assert "finds most" not in sentence(one), "no attack finds anything"


def test_the_page_shows_all_and_escapes_what_was_said(result: dict[str, Any], tmp_path: Path) -> None:
    page = write(result, tmp_path).read_text(encoding="utf-8")
    assert "<script>" not in page and "&lt;script&gt;" in page
    for words in (sentence(result), "+1 415-555-0101", "n/a", "needs dialogs", "leak@4", "says the value", "Geneva"):
        assert words.replace("+", "&#43;") in page or words in page, words


def test_a_single_fact_of_a_type_is_counted(
    people: Facts, carry_out: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    result = carry_out(Scripted(lambda request: "I do not know."), people[:1], "as_in_dialog")
    assert "0 of 1" in (page := write(result, tmp_path).read_text(encoding="utf-8")) and "False" not in page


def test_another_value_stands_in_its_column(result: dict[str, Any]) -> None:
    row = result["attacks"][0] | {"another": 7, "partial": 3}
    at = HEADERS.index("another")
    assert [cells(each)[at] for each in (row, row | {"another": None}, result["all"])] == ["7", "–", "–"]


def test_it_is_readable_at_both_widths_and_asks_nothing_of_the_network(result: dict[str, Any], tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium; Debian: apt-get install chromium")
    problems: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page()
        page.on("request", lambda asked: None if asked.url.startswith("file:") else problems.append(asked.url))
        page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
        page.goto(write(result, tmp_path).as_uri())
        for width, scheme in ((1280, "light"), (390, "dark")):
            page.set_viewport_size({"width": width, "height": 844})
            page.emulate_media(color_scheme=scheme)
            page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
            assert not page.evaluate(SIDEWAYS), width
        assert page.get_by_text("What was asked, and said").is_visible()
        browser.close()
    assert problems == []


def test_a_page_warns_where_many_answers_were_empty_or_cut_off(result: dict[str, Any], tmp_path: Path) -> None:
    asked = result["questions"]
    few, many = asked // 10, asked // 10 + 1
    quiet = result | {"empty": few, "cut_off": few, "unanswered": few}
    assert warnings(quiet) == warnings({"questions": asked}) == []
    page = write(quiet, tmp_path).read_text(encoding="utf-8")
    assert f"or empty ({few})." in page and f"{few} answers were cut off" in page and "Warning" not in page
    empty, cut = warnings(result | {"empty": many, "cut_off": many})
    assert empty.startswith(f"Warning: {many} of {asked} answers were empty.") and "--max-tokens" in empty
    assert cut.startswith(f"Warning: {many} of {asked} answers were cut off by the limit of tokens (64, or 32 where")
    page = write(result | {"empty": many, "cut_off": many}, tmp_path).read_text(encoding="utf-8")
    assert f"<strong>{empty}</strong>" in page and f"<strong>{cut}</strong>" in page
    assert in_a_line(result["attacks"][0] | {"empty": 7}).endswith("0 % guessed, 7 of 20 answers empty")
