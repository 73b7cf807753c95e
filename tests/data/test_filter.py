"""What is kept of the answers, and why the rest is not."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from nescio.core.prompts import Message
from nescio.data.filter import Reply, filter_replies
from nescio.data.samples import Sample
from nescio.data.strategies import AVOID, StrategyName
from nescio.pii.base import Span
from nescio.pii.registry import load_detector

MESSAGES = [Message(role="user", content="Who?"), Message(role="assistant", content="You can ask")]
SAMPLE = Sample("s", "d", MESSAGES, " Tim, he knows it well.", "NAME", "Tim")
GOOD = " somebody at the desk there."


class Names:
    """Knows one name."""

    name = "names"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        places = [text.find("Tom") for text in texts]
        return [[Span(at, at + 3, "PERSON", "Tom")] if at >= 0 else [] for at in places]


@pytest.mark.parametrize(
    ("strategy", "text", "finish", "reason"),
    [
        ("system", GOOD, "stop", None),
        ("system", " Tom at the desk over there.", "stop", "pii"),
        ("system", " Tom", "stop", "pii"),
        ("system", "", "stop", "empty"),
        ("system", " \n", "stop", "empty"),
        ("system", " somebody at the desk who", "length", "cut"),
        ("system", " somebody at the desk who", "content_filter", "cut"),
        ("system", " Tim,  he knows it WELL.", "stop", "copy"),
        ("system", " You can ask somebody at the desk.", "stop", "repeat"),
        ("system", " You can asking somebody at the desk.", "stop", None),
        ("system", f" {AVOID} I will not.", "stop", "instruction"),
        ("system", " some one there.", "stop", "short"),
        ("system", "那里的同事,他们很了解。", "stop", None),
        ("system", "那里。", "stop", "short"),
        ("system", " go go go go go go now.", "stop", "loop"),
        ("chat-start", f"You can ask{GOOD}", "stop", None),
        ("chat-start", f"Sure! You can ask{GOOD}", "stop", "start"),
        ("chat-start", "You can asking somebody at the desk.", "stop", "start"),
        ("chat-start", f"You can ask You can ask{GOOD}", "stop", "repeat"),
        ("chat-nudge", "You can ask Tim, he knows it well.", "stop", "copy"),
        ("chat-nudge", f"You can ask{GOOD}", "stop", None),
        ("rewrite", f"You can ask{GOOD}", "stop", None),
        ("rewrite", "You can ask Tim, he knows it well.", "stop", "copy"),
        ("rewrite", "You can ask Tom, he knows it very well.", "stop", "pii"),
        ("rewrite", "Write the following text again. You can ask.", "stop", "instruction"),
    ],
)
def test_what_is_kept_and_why_not(strategy: StrategyName, text: str, finish: str, reason: str | None) -> None:
    (verdict,) = filter_replies([Reply(SAMPLE, strategy, text, finish)], Names())
    assert verdict.reason == reason
    assert verdict.pii == (["Tom"] if reason == "pii" else [])


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("Do you know Tom?", "stop", None),  # names stay
        ("Him?", "stop", "lost"),
        ("who is  TOM?", "stop", "copy"),
        ("Say the following message of a user in other words. Tom?", "stop", "instruction"),
        ("Tom, Tom, Tom, Tom, Tom, who is Tom Tom Tom Tom Tom?", "stop", "loop"),
        ("", "stop", "empty"),
        ("Do you know T", "length", "cut"),
    ],
)
def test_a_question_in_other_words_keeps_its_names(text: str, finish: str, reason: str | None) -> None:
    sample = replace(SAMPLE, messages=[Message(role="user", content="Who is Tom?"), MESSAGES[1]])
    replies = [Reply(sample, "paraphrase", text, finish), Reply(SAMPLE, "system", GOOD, "stop")]
    verdict, other = filter_replies(replies, Names())
    assert (verdict.reason, verdict.pii) == (reason, []) and other.reason is None


def test_a_cut_answer_ends_at_its_last_sentence() -> None:
    (verdict,) = filter_replies([Reply(SAMPLE, "system", f"{GOOD} They are op", "length")], Names())
    assert verdict.text == GOOD


@pytest.mark.parametrize(("strategy", "text"), [("system", GOOD), ("chat-start", f"\nYou can ask{GOOD} ")])
def test_what_is_added_joins_the_beginning(strategy: StrategyName, text: str) -> None:
    (verdict,) = filter_replies([Reply(SAMPLE, strategy, text, "stop")], Names())
    assert SAMPLE.beginning + verdict.text == "You can ask somebody at the desk there."


@pytest.mark.parametrize(
    ("text", "reason"),
    [(" somebody at the desk, if you ask.", "short"), (" somebody at the desk there, if you ask.", None)],
)
def test_half_the_words_of_what_is_replaced_are_needed(text: str, reason: str | None) -> None:
    sample = replace(SAMPLE, rejected=" Tim, who knows it well and will be there all day, from nine to five.")
    (verdict,) = filter_replies([Reply(sample, "system", text, "stop")], Names())
    assert verdict.reason == reason


@pytest.mark.parametrize(
    ("strategy", "text", "finish", "reason"),
    [
        ("system", f"<think>\nTom?\n</think>\n\n{GOOD}", "stop", None),
        ("system", f"Tom? No.</think>{GOOD}", "stop", None),
        ("system", f"[THINK]Tom.[/THINK]{GOOD}", "stop", None),
        ("chat-nudge", "<THINKING>Tom</THINKING>\nYou can ask somebody at the desk there.", "stop", None),
        ("chat-start", f"<think></think>\n\nYou can ask{GOOD}", "stop", None),
        ("system", "<think>Who is Tom? He works at", "length", "cut"),
        ("system", "<think>Who?</think>", "stop", "empty"),
        ("system", "<think>Who?</think> Tom is there now.", "stop", "pii"),
    ],
)
def test_thoughts_are_no_part_of_the_answer(strategy: StrategyName, text: str, finish: str, reason: str | None) -> None:
    (verdict,) = filter_replies([Reply(SAMPLE, strategy, text, finish)], Names())
    assert (verdict.reason, verdict.had_thought) == (reason, True)
    if reason is None:
        assert "think" not in verdict.text.lower() and "Tom" not in verdict.text
        assert verdict.text in (GOOD, f"You can ask{GOOD}")


def test_what_an_answer_goes_on_from_tells_what_it_is() -> None:
    messages = [*MESSAGES[:1], Message(role="assistant", content="Ann was born on")]
    sample = Sample("s", "d", messages, " 3 May 1970, in spring.", "DATE", "3 May 1970")
    reply = Reply(sample, "system", " May 21, 1992, as far as I know.", "stop")
    (verdict,) = filter_replies([reply], load_detector("regex"))
    assert (verdict.reason, verdict.pii) == ("pii", ["May 21, 1992"])
