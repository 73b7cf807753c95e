"""A judge: what it is asked, what counts as its word, what is kept, and how far it is believed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nescio.core.errors import NescioError
from nescio.core.files import read_appended
from nescio.engines.base import Answer, Request
from nescio.evaluation.measures.choices import Question
from nescio.evaluation.measures.judge import Judge, judged_fields, understood

QUESTIONS = [
    Question(id=str(n), field="x", question=f"Question {n}?", options=("right", "wrong"), answer=0, listed=True)
    for n in range(20)
]


class Says:
    """An engine that says what a function makes of the prompt, and breaks after some calls."""

    def __init__(self, what: Any, calls: int = 99) -> None:
        self.what, self.calls, self.prompts = what, calls, list[str]()

    def generate(self, requests: Sequence[Request], progress: Any = None) -> list[Answer]:
        self.calls -= 1
        if self.calls < 0:
            raise NescioError("judge.example: cannot be reached")
        self.prompts += [request.prompt[-1]["content"] for request in requests]  # type: ignore[index]
        return [Answer(self.what(prompt), [], "stop") for prompt in self.prompts[-len(requests) :]]


def knowing(prompt: str) -> str:
    return '"Correct"' if "Answer to check: right" in prompt else "Incorrect."


def test_the_prompt_is_appendix_bs(tmp_path: Path) -> None:
    engine = Says(knowing)
    Judge("j", lambda: engine, tmp_path / "v.jsonl").verdicts([(QUESTIONS[0], "wrong")])  # type: ignore[arg-type]
    assert engine.prompts[0] == (
        "You receive a question and two answers. The first answer is the correct one. Your task is to check if the "
        "second answer also looks correct or not.\n\nQuestion: Question 0?\nOptions:\n1. right\n2. wrong\n\n"
        "Correct answer: right\n\nAnswer to check: wrong\n\nReturn just one word:\n\n"
        '"Correct" if the answer to check is correct\n\n"Incorrect" if the answer to check is incorrect\n\n'
        '"Can\'t tell" if it is impossible to accurately judge if the answer to check is correct\n'
    )


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("Correct", "Correct"), (' "correct".', "Correct"), ("Incorrect", "Incorrect"), ("**Incorrect**", "Incorrect"),
        ("Can't tell", "Can't tell"), ("Yes, of course", "Can't tell"), ("", "Can't tell"),
        ("The second answer is Correct", "Can't tell"), ("“Correct”\n\nIt is so.", "Correct"),
        ("Correct? No.", "Can't tell"),
        ("Correct or Incorrect? Hard to say.", "Can't tell"), ("Correctness can't be judged.", "Can't tell"),
    ],
)  # fmt: skip
def test_anything_else_is_cant_tell(said: str, verdict: str) -> None:
    assert understood(said) == verdict


def test_what_a_judge_said_is_kept_and_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    cases = [(question, "right") for question in QUESTIONS]
    breaks = Says(knowing, calls=1)
    with pytest.raises(NescioError, match="cannot be reached"):
        Judge("j", lambda: breaks, path).verdicts(cases)  # type: ignore[arg-type]
    kept = read_appended(path)
    assert len(kept) == 16 and kept[0]["said"] == '"Correct"'
    kept[0]["verdict"] = "Incorrect"  # as another version may have read it: what was said decides
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in kept) + b'{"key": "half')
    again = Says(knowing)
    assert Judge("j", lambda: again, path).verdicts(cases) == ["Correct"] * 20  # type: ignore[arg-type]
    assert len(again.prompts) == 4
    other = Says(lambda _: "Hm.")
    assert Judge("k", lambda: other, path).verdicts(cases[:1]) == ["Can't tell"]  # type: ignore[arg-type]


@pytest.mark.parametrize(("what", "accuracy"), [(knowing, 1.0), (lambda _: "Correct", 0.5), (lambda _: "?", 0.0)])
def test_a_judge_is_judged(tmp_path: Path, what: Any, accuracy: float) -> None:
    says = Says(what)
    judge = Judge("j", lambda: says, tmp_path / "v.jsonl")  # type: ignore[arg-type]
    replies = [["right"] * 15 + ["wrong"] * 5, ["wrong"] * 20]
    first, second = judged_fields(judge, QUESTIONS, replies, seed=0, tick=lambda done, total, word: None)
    assert first["judge_accuracy"] == judge.accuracy(QUESTIONS) == accuracy
    assert first["judge_usable"] is (accuracy >= 0.8)
    if accuracy == 1:
        assert (first["judged"], second["judged"]) == (0.75, 0.0)
        assert (first["judged_mcnemar_p"], second["judged_mcnemar_p"]) == (1.0, pytest.approx(2 / 2**15))
        low, high = second["judged_change_ci95"]
        assert low < -0.75 < high < -0.5
