"""The four strategies: what is asked, of which samples, and what an answer adds to the prompt."""

from typing import Any

from nescio.core.prompts import Message
from nescio.data.samples import Sample
from nescio.data.strategies import AVOID, NUDGE, PARAPHRASE, REWRITE, START, STRATEGIES, tasks, with_question

USER, ANSWER = Message(role="user", content="Who?"), Message(role="assistant", content="Ask")
AT_START = Sample("d:1:0", "d", [USER], "Tom, or Tim.", "NAME", "Tom")
INSIDE = Sample("d:1:8", "d", [USER, Message(role="assistant", content="Tom, or")], " Tim.", "NAME", "Tim")
LATER = Sample("d:3:4", "d", [USER, ANSWER, USER, ANSWER], " Tom.", "NAME", "Tom")


def test_the_papers_four_strategies() -> None:
    papers = [(name, how) for name, how in STRATEGIES.items() if how.again is None]
    assert [(name, how.completion, how.nudge, how.start) for name, how in papers] == [
        ("system", True, False, False),
        ("nudge", True, True, False),
        ("chat-nudge", False, True, False),
        ("chat-start", False, True, True),
    ]


def test_completion_is_rendered_up_to_the_place(chatml: Any) -> None:
    assert STRATEGIES["system"].prompt(LATER, None) == [Message(role="system", content=AVOID), *LATER.messages]
    text = STRATEGIES["nudge"].prompt(LATER, chatml)
    assert text == (
        f"<|im_start|>system\n{AVOID}<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nAsk<|im_end|>\n"
        f"<|im_start|>user\n{NUDGE} Who?<|im_end|>\n<|im_start|>assistant\nAsk"
    )


def test_a_chat_is_asked_for_the_whole_answer_or_told_its_start(chatml: Any) -> None:
    system = Message(role="system", content=AVOID)
    nudged = Message(role="user", content=f"{NUDGE} Who?")
    assert STRATEGIES["chat-nudge"].prompt(LATER, chatml) == [system, USER, ANSWER, nudged]
    told = Message(role="user", content=f"{NUDGE} Who?\n\n{START} Ask")
    assert STRATEGIES["chat-start"].prompt(LATER, chatml) == [system, USER, ANSWER, told]


def test_what_is_said_again_is_asked_alone() -> None:
    answer = Message(role="user", content=f"{REWRITE}\n\nTom, or Tim.")
    question = Message(role="user", content=f"{PARAPHRASE}\n\nWho?")
    assert STRATEGIES["rewrite"].messages(INSIDE) == [answer]
    assert STRATEGIES["paraphrase"].messages(LATER) == [question]
    assert STRATEGIES["rewrite"].target(INSIDE).rejected == "Tom, or Tim."
    assert with_question(LATER.messages, "And who?") == [USER, ANSWER, {"role": "user", "content": "And who?"}, ANSWER]


def test_which_samples_are_asked_by_which_strategy() -> None:
    asked = [(sample.id, strategy) for sample, strategy in tasks([AT_START, INSIDE, LATER], STRATEGIES)]
    assert asked == [
        ("d:1:0", "system"), ("d:1:0", "nudge"), ("d:1:0", "chat-nudge"), ("d:1:0", "rewrite"), ("d:1:0", "paraphrase"),
        ("d:1:8", "system"), ("d:1:8", "nudge"), ("d:1:8", "chat-start"),
        ("d:3:4", "system"), ("d:3:4", "nudge"), ("d:3:4", "chat-nudge"), ("d:3:4", "chat-start"),
        ("d:3:4", "rewrite"), ("d:3:4", "paraphrase"),
    ]  # fmt: skip


def test_a_whole_answer_stands_against_the_whole_answer() -> None:
    whole = STRATEGIES["chat-nudge"].target(INSIDE)
    assert (whole.messages, whole.rejected, whole.beginning) == ([USER], "Tom, or Tim.", "")
    assert STRATEGIES["chat-start"].target(INSIDE) is INSIDE
    assert AT_START.whole() is AT_START
