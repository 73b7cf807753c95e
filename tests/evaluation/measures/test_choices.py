"""Questions, where they come from, and which option is likeliest."""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nescio.core.errors import NescioError
from nescio.core.guidance import PROTECT, REVEAL, Guidance
from nescio.engines.base import Scoring
from nescio.engines.torch_engine import TorchEngine
from nescio.evaluation.base import generate
from nescio.evaluation.measures.choices import Question, choose, likeliest, mmlu_pro, plain_questions, right
from nescio.evaluation.setups import Setup

MMLU_ROW = {"question_id": 7, "question": "Which?", "options": ["one", "two"], "answer_index": 1, "category": "math"}
SHARED = Path(__file__).resolve().parents[4] / "shared/data/mmlu_pro_validation.jsonl"


def test_the_plain_set_is_whole() -> None:
    questions = plain_questions()
    assert len({question.id for question in questions}) == len(questions) == 160
    assert set(Counter(question.field for question in questions).values()) == {16}
    assert len({question.question for question in questions}) == 160
    assert all(len(set(question.options)) == 4 for question in questions)
    places = Counter(question.answer for question in questions)
    assert set(places) == {0, 1, 2, 3} and max(places.values()) < 0.35 * 160


def test_mmlu_pro_is_asked_as_the_author_asks_it(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps(MMLU_ROW) + "\n")
    (question,) = mmlu_pro(str(path))
    assert question.messages == [
        {"role": "system", "content": ""},
        {"role": "user", "content": "Provide a short answer to the question: Which?\nOptions:\n1. one\n2. two"},
    ]
    assert (question.id, question.answer) == ("7", 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no questions"),
        ("{}\n", "q.jsonl:1: not a question of MMLU-Pro"),
        (json.dumps(MMLU_ROW | {"answer_index": 2}), "answer_index 2 names none of the options"),
        (json.dumps(MMLU_ROW | {"options": "ab"}), "q.jsonl:1: options must be a list"),
        (json.dumps(MMLU_ROW | {"options": ["a", ""]}), "q.jsonl:1: options must be a list"),
        (json.dumps(MMLU_ROW | {"options": {"A": "one", "B": "two"}}), "q.jsonl:1: options must be a list"),
        (json.dumps(MMLU_ROW | {"options": ["one"], "answer_index": 0}), "q.jsonl:1: options must be a list of two"),
        (json.dumps(MMLU_ROW | {"answer_index": 0.7}), "q.jsonl:1: answer_index 0.7 names none"),
        (json.dumps(MMLU_ROW | {"answer_index": True}), "q.jsonl:1: answer_index True names none"),
        (json.dumps(MMLU_ROW | {"question": None}), "q.jsonl:1: question must be a text"),
    ],
)
def test_bad_question_files_are_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "q.jsonl").write_text(content)
    with pytest.raises(NescioError, match=message) as error:
        mmlu_pro(str(tmp_path / "q.jsonl"))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(NescioError, match=r"none\.jsonl: no such file"):
        mmlu_pro("none.jsonl")


def test_fewer_ruled_out_tokens_are_likelier() -> None:
    out = -math.inf
    assert likeliest([[out, out], [-9.0, out], [-8.0, out, out]]) == 1
    assert likeliest([[-1.0, -1.0], [-1.5]]) == 1


def question(number: int, *options: str) -> Question:
    asked = f"Question {number}?"
    return Question(id=str(number), field="x", question=asked, options=options, answer=0, listed=False)


QUESTIONS = [question(1, "Anna", "Tom in the garden", "no"), question(2, "Geneva", "live and write", "please")]


@pytest.mark.parametrize("guidance", [None, Guidance(1.0, "prob", PROTECT, REVEAL)])
def test_scale_one_is_plain_transformers(tiny: Callable[..., TorchEngine], guidance: Guidance | None) -> None:
    engine = tiny()
    (picks,) = choose(engine, [Setup("x", "x", "x", guidance=guidance)], QUESTIONS)
    for asked, pick in zip(QUESTIONS, picks, strict=True):
        prompt = engine.branches(asked.messages, guidance)[0]
        assert pick == max(range(3), key=lambda at: plainly(engine, prompt, asked.options[at]))


LISTED = [
    ("Where does Anna live?", ["Geneva", "the garden of my friend", "no", "Please write about it", "10", "100"]),
    ("What is 2 + 2 in the ring of integers modulo 3?", ["0.3", "0.33", "2 + e^-4", "1"]),
    ("Who writes a letter?", ["My friend lives in Geneva", "My friend lives in the garden", "Tom"]),
]


@pytest.mark.parametrize(
    "guidance", [None, Guidance(1.0, "log", PROTECT, REVEAL), Guidance(1.0, "prob", "No.", "Yes.")]
)
def test_mmlu_pro_at_scale_one_is_plain_transformers(
    tiny: Callable[..., TorchEngine], tmp_path: Path, guidance: Guidance | None
) -> None:
    rows = [MMLU_ROW | {"question_id": n, "question": q, "options": o} for n, (q, o) in enumerate(LISTED)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine, asked = tiny(), mmlu_pro(str(tmp_path / "q.jsonl"))
    (picks,) = choose(engine, [Setup("x", "x", "x", guidance=guidance)], asked)
    for one, pick in zip(asked, picks, strict=True):
        prompt = engine.branches(one.messages, guidance)[0]
        likelihoods = [plainly(engine, prompt, option) for option in one.options]
        scores = engine.score_batch([Scoring(one.messages, option, guidance) for option in one.options])
        assert max(map(len, scores)) > 1, "options of several tokens"
        assert list(map(sum, scores)) == pytest.approx(likelihoods, abs=1e-4)
        assert pick == likelihoods.index(max(likelihoods))


def test_an_option_that_begins_another_is_never_less_likely(tiny: Callable[..., TorchEngine]) -> None:
    engine = tiny()
    for text, options in LISTED:
        asked = [
            Question(id=text, field="x", question=text, options=(longer, shorter), answer=0, listed=True)
            for shorter in options
            for longer in options
            if longer != shorter and longer.startswith(shorter)
        ]
        assert choose(engine, [Setup("x", "x", "x")], asked) == [[1] * len(asked)]


def plainly(engine: TorchEngine, prompt: str, option: str) -> float:
    before, ids = (engine.tokenizer(text, return_tensors="pt").input_ids[0] for text in (prompt, prompt + option))
    with torch.no_grad():
        logs = engine.model(input_ids=ids[None]).logits[0].log_softmax(-1)
    return sum(float(logs[at - 1, ids[at]]) for at in range(len(before), len(ids)))


def test_rows_asked_together_choose_as_they_do_alone(tiny: Callable[..., TorchEngine]) -> None:
    engine = tiny()
    ways: list[Any] = [(3.0, "log"), (3.0, "prob"), (2.0, "log")]
    setups = [Setup("x", "x", "x", guidance=Guidance(scale, space, PROTECT, REVEAL)) for scale, space in ways]
    assert choose(engine, setups, QUESTIONS) == [choose(engine, [setup], QUESTIONS)[0] for setup in setups]


def test_replies_are_greedy_texts(tiny: Callable[..., TorchEngine]) -> None:
    engine, setup = tiny(), Setup("x", "x", "x")
    (texts,) = generate(engine, [setup], [asked.messages for asked in QUESTIONS], max_tokens=5)
    assert texts == [engine.chat(asked.messages, adapter=None, max_tokens=5) for asked in QUESTIONS]


def test_right() -> None:
    assert right(QUESTIONS, [0, 2]) == [True, False]


def test_the_embedded_model_is_clearly_above_chance(smollm2: TorchEngine) -> None:
    questions = plain_questions()[::4]
    (picks,) = choose(smollm2, [Setup("base", "base", "smollm2")], questions)
    assert sum(right(questions, picks)) / len(questions) > 0.45, "four options: chance is 0.25"


@pytest.mark.skipif(not SHARED.is_file(), reason="MMLU-Pro's validation split is not at hand")
def test_mmlu_pros_validation_split_is_read() -> None:
    questions = mmlu_pro(str(SHARED))
    assert len(questions) == 70
    assert {question.field for question in questions} >= {"math", "law", "physics"}
