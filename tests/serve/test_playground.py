"""The playground, driven as a person would, in headless Chromium."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect, sync_playwright
from running import STAFF, Running
from says import Says

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium; Debian: apt-get install chromium")
CAPITALS = re.compile("[A-Z]+")


@contextmanager
def opened(server: Running, scheme: str = "light") -> Iterator[Page]:
    """The page of a server; anything asked of another server or said on the console fails."""
    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(color_scheme=scheme, permissions=["clipboard-read", "clipboard-write"])  # type: ignore[arg-type]
        page = context.new_page()
        page.on("request", lambda asked: None if asked.url.startswith(server.url) else problems.append(asked.url))
        # A 400 is an answer that the page shows.
        page.on(
            "console",
            lambda said: (
                problems.append(said.text) if said.type == "error" and "status of 400" not in said.text else None
            ),
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(server.url)
        yield page
        browser.close()
    assert [problem for problem in problems if not problem.startswith("data:")] == []


def enter(page: Page, key: str = STAFF) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Use key").click()


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, server: Running, tmp_path: Path) -> Iterator[Page]:
    """The page with the staff key's set-ups."""
    with opened(server, request.param) as page:
        enter(page)
        expect(page.locator(".setup")).to_have_count(3)
        yield page


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
        assert not found or f"({len(found)} other sent)" in facts
        row = page.locator("#rows tr").nth(number)
        assert row.locator("td").all_inner_texts()[1:6] == ["1", str(min(1, len(found))), *[str(len(found))] * 2, "0"]
    page.get_by_role("button", name="New talk").click()
    expect(page.locator("#compare")).to_be_hidden()


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
    gate = server.gateway.gate
    for _ in range(100):  # a busy machine gives the rows back later
        if not gate.held:
            break
        page.wait_for_timeout(100)
    assert (gate.held, gate.waiting) == (0, 0)


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


def test_a_link_holds_set_ups_and_no_text(page: Page, server: Running) -> None:
    third = page.locator(".setup").nth(2)
    third.get_by_role("slider").fill("7.5")
    third.get_by_label("Model").select_option("tiny")
    page.locator(".setup").nth(0).get_by_role("button", name="Remove").click()
    page.get_by_label("System message").fill("Secretly")
    page.get_by_label("Temperature").fill("0.5")
    ask(page, "Private question")
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#status")).to_contain_text("Copied a link")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(f"{server.url}/#") and not re.search("Private|Secret|nescio-staff", link)
    other = page.context.new_page()
    other.goto(link)
    expect(other.locator("#status")).to_contain_text("This key may not have all set-ups of the link.")
    enter(other)
    expect(other.locator(".setup")).to_have_count(2)
    assert other.locator(".setup .scale").evaluate_all("each => each.map(s => s.value)") == ["3", "7.5"]
    assert other.locator(".setup .model").evaluate_all("each => each.map(s => s.value)") == ["careful", "tiny"]
    assert other.locator(".setup .space").evaluate_all("each => each.map(s => s.value)") == ["prob", "log"]
    assert other.get_by_label("Temperature").input_value() == "0.5"


def test_a_policy_is_tried(page: Page) -> None:
    page.get_by_text("Policy: what would this key get?").click()
    verdict = page.locator("#verdict")
    expect(verdict).to_contain_text("This request is answered")
    own = page.locator("#yaml").input_value()
    assert "adapters:\n- careful" in own and "sha256" not in own, "the policy, without its keys"
    page.locator("#yaml").fill("adapters: [careful]\naudit: {default: mask, types: {person: block}}\n")
    page.get_by_role("button", name="Try", exact=True).click()
    expect(verdict).to_contain_text("audit: personal data is masked; person ends the answer")
    expect(verdict).to_contain_text("This request is refused")
    expect(verdict).to_contain_text("guidance.scale")
    expect(verdict).to_contain_text("a question may be asked any number of times")
    page.locator("#yaml").fill("adapters: careful")
    page.get_by_role("button", name="Try", exact=True).click()
    expect(verdict.locator(".error")).to_contain_text("policy:1: adapters")
    page.get_by_role("button", name="Back to this key's own").click()
    expect(page.locator("#yaml")).to_have_value(own)


@pytest.fixture
def talking() -> Iterator[tuple[Running, Says]]:
    engine = Says()
    audit = "{default: mask, types: {person: replace}}"
    running = Running(
        engine,
        f"policies: {{default: {{base_model: true, allow: {{tools: true}}, audit: {audit}, guidance: {{scale: 1}}}}}}",
    )
    yield running, engine
    running.stop()


def test_tools_and_what_the_audit_did_are_shown(talking: tuple[Running, Says]) -> None:
    server, engine = talking
    call = '<tool_call>{"name": "send_mail", "arguments": {"to": "ANNA"}}</tool_call>'
    engine.says = lambda request: f"we ask ANNA. {call}" if request.tools else "fine"
    with opened(server) as page:
        page.get_by_text("Tools", exact=True).click()
        page.get_by_role("button", name="Fill in an example").click()
        ask(page)
        mark = page.locator("mark.mask")
        expect(mark).to_have_text("[PII]other masked")
        expect(page.locator(".call")).to_have_text('send_mail({"to": "[PII]"})')
        expect(page.locator(".returns")).to_have_text("done")
        page.locator("#definitions").fill("[")
        page.get_by_label("Message", exact=True).fill("And?")
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#status")).to_contain_text("Tools: no JSON")
        page.locator("#definitions").fill("")
        ask(page, "And?")
        roles = [turn["role"] for turn in engine.asked[-1].prompt]  # type: ignore[index]
        assert roles == ["user", "assistant", "tool", "user"]
        page.get_by_role("button", name="Copy as Python").click()
        expect(page.locator("#status")).to_contain_text("Copied as Python")


@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing(page: Page, width: int, tmp_path: Path) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.get_by_text("Tools", exact=True).click()
    page.get_by_text("Policy: what would this key get?").click()
    expect(page.locator("#verdict")).to_contain_text("Its callers get")
    ask(page)
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["help"]) for each in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling"
    page.screenshot(path=tmp_path / f"playground-{width}.png", full_page=True)
