"""The playground, driven as a person would, in headless Chromium."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect, sync_playwright
from running import STAFF, Running

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium; Debian: apt-get install chromium")
CAPITALS = re.compile("[A-Z]+")


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, server: Running, tmp_path: Path) -> Iterator[Page]:
    """The page with the staff key's set-ups; anything asked of another server or said on the console fails."""
    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(color_scheme=request.param, permissions=["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.on("request", lambda asked: None if asked.url.startswith(server.url) else problems.append(asked.url))
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(server.url)
        page.get_by_label("API key").fill(STAFF)
        page.get_by_role("button", name="Use key").click()
        expect(page.locator(".setup")).to_have_count(3)
        yield page
        browser.close()
    assert [problem for problem in problems if not problem.startswith("data:")] == []


def ask(page: Page, message: str = "Hello") -> None:
    page.get_by_label("Most tokens").fill("40")
    page.get_by_label("Message", exact=True).fill(message)
    page.get_by_label("Message", exact=True).press("Enter")
    expect(page.locator("#status")).to_have_text("Done.", timeout=60_000)


def answers(page: Page) -> list[str]:
    """The answers without the labels of their marks."""
    script = "nodes => nodes.map(n => { const c = n.cloneNode(true);"
    script += " c.querySelectorAll('small').forEach(s => s.remove()); return c.textContent; })"
    found: list[str] = page.locator(".talk p.answer").evaluate_all(script)
    return found


def test_three_set_ups_answer_side_by_side_with_marks(page: Page, server: Running) -> None:
    ask(page)
    texts = answers(page)
    assert len(set(texts)) == 3
    plain = server.chat(key=STAFF, max_tokens=40).json()["choices"][0]["message"]["content"]
    assert texts[0] == plain, "the first is unguided"
    for number, text in enumerate(texts):
        found = CAPITALS.findall(text)
        setup = page.locator(".setup").nth(number)
        assert setup.locator("mark").evaluate_all("ms => ms.map(m => m.firstChild.textContent)") == found
        facts = setup.locator(".facts").inner_text()
        assert facts.startswith(f"PII {len(found)}")
        assert re.search(r" · \d+ tokens · [\d.]+ tokens/s", facts)


def test_slider_and_adapter_change_the_request(page: Page, server: Running) -> None:
    third = page.locator(".setup").nth(2)
    third.get_by_role("slider").fill("7.5")
    third.get_by_label("Model").select_option("tiny")
    ask(page)
    fields = {"model": "tiny", "max_tokens": 40, "guidance": {"scale": 7.5, "space": "log"}}
    expected = server.chat(key=STAFF, **fields).json()["choices"][0]["message"]["content"]
    assert answers(page)[2] == expected


def test_copies_run(page: Page, server: Running) -> None:
    ask(page, "It's «me»")
    second = page.locator(".setup").nth(1)
    text = answers(page)[1]
    second.get_by_role("button", name="Copy as curl").click()
    expect(page.locator("#status")).to_contain_text("Copied as curl")
    line = page.evaluate("navigator.clipboard.readText()")
    assert STAFF not in line, "a key is not copied"
    environment = {"NESCIO_API_KEY": STAFF, "PATH": "/usr/bin:/bin"}
    if shutil.which("curl"):
        told = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, env=environment).stdout
        assert json.loads(told)["choices"][0]["message"]["content"] == text
    second.get_by_role("button", name="Copy as Python").click()
    expect(page.locator("#status")).to_contain_text("Copied as Python")
    script = page.evaluate("navigator.clipboard.readText()")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.rstrip("\n") == text.rstrip("\n")


def test_stopping_with_the_keyboard_frees_the_rows(page: Page, server: Running) -> None:
    page.get_by_label("Most tokens").fill("450")
    page.get_by_label("Temperature").fill("1.5")
    page.get_by_label("Message", exact=True).fill("Hello")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Stop")).to_be_enabled()
    page.keyboard.press("Escape")
    expect(page.locator("#status")).to_have_text("Done.", timeout=60_000)
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    page.wait_for_timeout(500)
    assert (server.gateway.gate.held, server.gateway.gate.waiting) == (0, 0)


def test_a_key_gets_what_its_policy_allows(page: Page) -> None:
    expect(page.get_by_label("System message")).to_be_visible()
    page.get_by_label("API key").fill("")
    page.get_by_role("button", name="Use key").click()
    expect(page.locator("#policy")).to_contain_text("Policy default")
    expect(page.locator(".setup")).to_have_count(1)
    expect(page.get_by_label("System message")).to_be_hidden()
    assert page.get_by_label("Model").locator("option").all_inner_texts() == ["careful"]
    assert page.get_by_label("Guidance").locator("option").all_inner_texts() == ["prob space"]
    assert page.get_by_role("slider").evaluate("s => [s.min, s.max]") == ["2", "5"]


@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(page: Page, width: int, tmp_path: Path) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    ask(page)
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["help"]) for each in found if each["impact"] in ("serious", "critical")] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling"
    page.screenshot(path=tmp_path / f"playground-{width}.png", full_page=True)
