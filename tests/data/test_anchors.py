"""Anchors: what the base may make up, what is dropped, where a personal answer is cut; nothing is asked twice."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nescio.core.answer_cache import AnswerCache
from nescio.core.callbacks import Progress
from nescio.core.errors import NescioError
from nescio.core.prompts import Message, render, split_ids
from nescio.data.anchors import Recorded, answer_prompts, first_personal, make_up_prompts, open_user_turn
from nescio.data.answered import read_answered
from nescio.engines.base import Answer, Engine, Request
from nescio.pii.base import Span

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Scripted(Engine):
    """Says the next line of a script, whatever it is asked."""

    def __init__(self, *lines: tuple[str, str]) -> None:
        self.lines, self.asked = list(lines), list[Request]()

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        self.asked += requests
        return [Answer(text, [1], finish) for text, finish in (self.lines.pop(0) for _ in requests)]


class Named:
    """Finds the word Ann."""

    name = "named"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [
            [Span(text.index("Ann"), text.index("Ann") + 3, "PERSON", "Ann")] if "Ann" in text else [] for text in texts
        ]


def personal_starts(*values: str) -> Callable[[list[str]], list[int | None]]:
    return first_personal(Named(), Recorded(values))


@pytest.fixture
def tokenizer(make_tokenizer: Callable[..., Any]) -> Any:
    made = make_tokenizer()
    made.chat_template = TEMPLATE
    return made


def test_the_base_goes_on_where_a_user_would_start(tokenizer: Any) -> None:
    assert open_user_turn(tokenizer) == "<|im_start|>user\n"


def test_prompts_that_are_cut_short_repeated_or_personal_are_left_out(tokenizer: Any, tmp_path: Path) -> None:
    base = Scripted(
        ("How do I bake bread?", "stop"), (" a long one that never", "length"), ("Hello", "stop"),
        (" does 4711 stand for?", "stop"), ("Who is Ann of Leeds?", "stop"), (" a poem on rain.", "stop"),
        ("Write a poem on rain. ", "stop"), (" three magnets for me.", "stop"), ("Three are enough by now.", "stop"),
    )  # fmt: skip
    tally = Counter[str]()
    made = list(
        make_up_prompts(
            base, tokenizer, 3, max_tokens=8, seed=0, personal_starts=personal_starts("4711"), tally=tally,
            cache=AnswerCache(tmp_path / "c.jsonl", "result"),
        )
    )  # fmt: skip
    assert made == ["How do I bake bread?", "Write a poem on rain.", "List three magnets for me."]
    opened = open_user_turn(tokenizer)
    assert [str(request.prompt).removeprefix(opened) for request in base.asked[:6]] == [
        "", "Name", "", "What", "", "Write"
    ], "every second prompt begins as requests do"  # fmt: skip
    assert tally == {"asked": 9, "unfinished": 1, "short": 1, "repeated": 1, "personal": 2}
    assert len({request.seed for request in base.asked}) == 9, "every try has a seed of its own"
    assert [request.temperature for request in base.asked] == [1.0, 0.7] * 4 + [1.0]


def test_what_was_asked_is_not_asked_again(tokenizer: Any, tmp_path: Path) -> None:
    for base in (Scripted(("Write a poem on rain.", "stop")), Scripted()):
        made = make_up_prompts(
            base, tokenizer, 1, max_tokens=8, seed=0, personal_starts=personal_starts(), tally=Counter(),
            cache=AnswerCache(tmp_path / "c.jsonl", "result"),
        )  # fmt: skip
        assert list(made) == ["Write a poem on rain."]


def test_a_personal_answer_is_kept_up_to_the_sentence_before(tokenizer: Any, tmp_path: Path) -> None:
    tuned = Scripted(
        ("Mix flour and water. Then ask Ann for salt.", "stop"), ("Ann knows it well.", "stop"),
        ("Mix flour and water.", "stop"), ("Mix flour and", "length"), ("Sure, I can do that. Call 47 11 now.", "stop"),
    )  # fmt: skip
    tally = Counter[str]()
    prompts = [[Message(role="user", content=f"Prompt {number}")] for number in range(5)]
    made = answer_prompts(
        tuned, tokenizer, prompts, max_tokens=8, seed=0,
        personal_starts=personal_starts("47 11"), tally=tally, cache=AnswerCache(tmp_path / "c.jsonl", "result"),
    )  # fmt: skip
    end = tokenizer.eos_token
    assert [anchor.answer for anchor in made] == [
        "Mix flour and water.", f"Mix flour and water.{end}", "Mix flour and", "Sure, I can do that."
    ]  # fmt: skip
    assert tally == {"personal answers": 1}
    assert [request.temperature for request in tuned.asked] == [0, 1, 0, 1, 0], "greedy and sampled in turn"


def test_an_answer_starts_with_the_white_space_that_ends_the_generation_prompt(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.chat_template = TEMPLATE.replace("assistant\n", "assistant: ")
    prompt = [Message(role="user", content="How do I bake?")]
    (anchor,) = answer_prompts(
        Scripted(("Mix flour and water.", "length")), tokenizer, [prompt], max_tokens=8, seed=0, tally=Counter(),
        personal_starts=personal_starts(), cache=AnswerCache(tmp_path / "c.jsonl", "result"),
    )  # fmt: skip
    assert anchor.answer == " Mix flour and water."
    assert split_ids(tokenizer, render(tokenizer, prompt), anchor.answer) is not None


def test_recorded_values_are_found_in_any_form() -> None:
    recorded = Recorded(["Ann O'Neil", "030 1234", ""])
    assert [start for start, _ in recorded.places("Ask Ann O\u2019Neil, please")] == [4]
    assert [start for start, _ in recorded.places("Call 030\u00a01234.")] == [5]
    assert [start for start, _ in recorded.places("Annabel O'Neilson has 030 12345")] == []


def test_a_line_that_is_no_anchor(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "a"}\n')
    with pytest.raises(NescioError, match=r"a\.jsonl:1: not an anchor"):
        read_answered(tmp_path / "a.jsonl", "an anchor")
