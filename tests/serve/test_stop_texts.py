"""Stop texts: the same end whatever the chunks, and no way to test what an audit takes out."""

import json
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import Running
from says import Says
from upstream import Upstream, running_upstream, stream

from nescio.engines.base import Request
from nescio.engines.openai_engine import OpenAIEngine
from nescio.serve.checker import Checked, Treated
from nescio.serve.stop_texts import StopTexts

POLICIES = "policies: {default: {base_model: true}}"
TEXT = "Sure, i know her well. Her number is KLM and no other. Bye now."
MASKED = TEXT.replace("KLM", "[PII]").replace("Sure", "[PII]ure").replace("Her", "[PII]er").replace("Bye", "[PII]ye")


def ended(chunks: Sequence[Checked], stops: Sequence[str]) -> tuple[str, list[Treated], bool]:
    stop_texts = StopTexts(stops)
    parts = [*map(stop_texts.feed, chunks), stop_texts.feed(Checked(""), last=True)]
    return "".join(part.text for part in parts), [span for part in parts for span in part.spans], stop_texts.found


@given(
    text=st.text("abc", max_size=30),
    stops=st.lists(st.text("abc", max_size=5), max_size=4),
    sizes=st.lists(st.integers(1, 5), min_size=1),
)
def test_the_end_does_not_depend_on_the_chunks(text: str, stops: list[str], sizes: list[int]) -> None:
    chunks, rest = list[Checked](), text
    for size in sizes * (len(text) + 1):
        chunks.append(Checked(rest[:size]))
        rest = rest[size:]
    sent, _, found = ended(chunks, stops)
    assert (sent, found) == ended([Checked(text)], stops)[::2] == ended([*map(Checked, text)], stops)[::2]
    assert found == any(stop in text for stop in stops if stop)
    assert text.startswith(sent) and not any(stop in sent for stop in stops if stop)
    assert found or sent == text


def test_marks_end_with_the_text() -> None:
    marks = (Treated(0, 5, "PII", "[PII]", action="mask"), Treated(9, 14, "PII", "[PII]", action="mask"))
    chunks = [Checked("[PII] is [PII] x", marks)]
    assert ended(chunks, ["] x"])[:2] == ("[PII] is [PII", [marks[0], Treated(9, 13, "PII", "[PII", action="mask")])
    assert ended(chunks, ["is"])[:2] == ("[PII] ", [marks[0]])
    assert ended([Checked("[PI"), Checked("I]", marks[:1])], ["x", "I]x"])[:2] == ("[PII]", [marks[0]])


@pytest.fixture(scope="module")
def engine() -> Says:
    return Says()


@pytest.fixture(scope="module")
def server(engine: Says) -> Iterator[Running]:
    running = Running(engine, POLICIES)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture(scope="module")
def front(upstream: Upstream) -> Iterator[Running]:
    running = Running(OpenAIEngine("m", upstream.url, None, retries=0), POLICIES, upstream="m")
    yield running
    running.stop()


def test_a_stop_text_does_not_test_what_is_masked(
    server: Running, engine: Says, front: Running, upstream: Upstream
) -> None:
    def says(request: Request) -> str:
        return next((TEXT[: TEXT.index(stop)] for stop in request.stop if stop in TEXT), TEXT)

    def until(asked: dict[str, object]) -> list[bytes]:
        stops = asked.get("stop") or ()
        assert isinstance(stops, list | tuple)
        return [stream(says(Request("x", stop=tuple(stops))))]

    engine.says, upstream.script = says, until  # both keep to stop texts that they are told
    for running, model in ((server, "tiny"), (front, "m")):
        for streamed in (False, True):
            ask = asking(running, model, streamed)
            for stop in ("number is K", "number is KL", "LM", "KLM", "H"):
                assert ask(stop) == (MASKED, "stop"), stop
            assert ask(" and no") == (MASKED[: MASKED.index(" and no")], "stop")
            assert ask("is [P") == (MASKED[: MASKED.index("is [P")], "stop"), "what leaves is no secret"


def asking(running: Running, model: str, streamed: bool) -> Callable[[str], tuple[str, str]]:
    def ask(stop: str) -> tuple[str, str]:
        got = running.chat("Her number?", model=model, stop=[stop], stream=streamed, max_tokens=99)
        assert got.status_code == 200, got.text
        if not streamed:
            choice = got.json()["choices"][0]
            return choice["message"]["content"], choice["finish_reason"]
        events = [line.removeprefix("data: ") for line in got.text.splitlines() if line]
        choices = [json.loads(each)["choices"][0] for each in events if each != "[DONE]"]
        text = "".join(choice["delta"].get("content") or "" for choice in choices)
        return text, choices[-1]["finish_reason"]

    return ask
