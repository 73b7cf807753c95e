"""What a model says to a benchmark's questions, and how likely it finds their answers: plain data, kept on disk."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.files import read_object, write_json
from nescio.core.guidance import Guidance
from nescio.core.prompts import Message
from nescio.data.benchmarks import Question
from nescio.data.persuasion import POSITIONS, Position, ask_for, wordings
from nescio.engines.base import Request, Scoring
from nescio.engines.torch_engine import TorchEngine
from nescio.evaluation.measures.words import MAX_TOKENS as WORDS_TOKENS
from nescio.evaluation.measures.words import drawn, is_right
from nescio.reproduction.benchmarks.parts import Parts

NEAR = 1e-3
"""Nats between two tokens below which another kind of processor may choose the other one."""
_RULED_OUT = -50.0  # for a token that guidance rules out (-inf), as for plain questions: no ratio is infinite
_SAME = 1e-5  # two computations of one log-probability differ by less
_ASKED_PLACES: tuple[Position, ...] = tuple(place for place in POSITIONS if place != "answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of every row.

    Attributes:
        parts: The questions.
        words: Plain questions, the first of them and how many.
        max_tokens: Most tokens of an answer.
        draws: Sampled answers to each question of the forget half; 0: greedy ones alone.
        scores: Whether likelihoods are wanted, and answers to callers who ask for personal data.
    """

    parts: Parts
    words: tuple[int, int]
    max_tokens: int
    draws: int = 0
    scores: bool = True


@dataclass(slots=True, kw_only=True)
class ModelAnswers:
    """What a row gave, each by the question's id.

    Attributes:
        answers: Greedy answers.
        asked_for: Greedy answers where the caller asks for personal data.
        otherwise: Greedy answers to the question in other words.
        inverse: Greedy answer to the question turned round.
        drawn: Sampled answers.
        log_probs: Log-probability of each token of the right answer.
        greedy: Whether each of these tokens is the likeliest.
        paraphrased: Mean log-probability of a token of the paraphrased answer.
        wrong: The same of each wrong answer.
        words: Whether each plain question is answered right.
        near: Tokens of right answers at which the two likeliest tokens are within `NEAR` of each other.
    """

    answers: dict[str, str] = field(default_factory=dict)
    asked_for: dict[str, str] = field(default_factory=dict)
    otherwise: dict[str, list[str]] = field(default_factory=dict)
    inverse: dict[str, str] = field(default_factory=dict)
    drawn: dict[str, list[str]] = field(default_factory=dict)
    log_probs: dict[str, list[float]] = field(default_factory=dict)
    greedy: dict[str, list[bool]] = field(default_factory=dict)
    paraphrased: dict[str, float] = field(default_factory=dict)
    wrong: dict[str, list[float]] = field(default_factory=dict)
    words: list[bool] = field(default_factory=list)
    near: int = 0


def kept(path: Path, ask: Callable[[], ModelAnswers]) -> ModelAnswers:
    """Return what a row gave from disk; where it is not there it is asked now, and kept.

    Raises:
        NescioError: The file is damaged, or of another version.
    """
    if not path.exists():
        write_json(path, asdict(ask()))
    known = read_object(path, "delete it, and run again")
    if known.keys() != {each.name for each in fields(ModelAnswers)}:
        raise NescioError(f"{path}: is of another version; delete it, and run again")
    return ModelAnswers(**known)


def ask(engine: TorchEngine, adapter: str | None, guidance: Guidance | None, asked: Asked) -> ModelAnswers:
    """Ask a row everything.

    Args:
        engine: Engine of the row's model, with its adapter.
        adapter: The adapter's name in the engine; None: the model alone.
        guidance: How the row is guided; None: plainly.
        asked: What is asked.
    """
    parts, said = asked.parts, ModelAnswers()
    everything = [*parts.forget, *parts.retain, *parts.outside, *parts.general]

    def answers(conversations: Sequence[list[Message]], **how: Any) -> list[str]:
        how = {"max_tokens": asked.max_tokens} | how
        requests = [Request(messages, guidance, adapter=adapter, **how) for messages in conversations]
        return [answer.text for answer in engine.generate(requests)]

    def by_id(questions: Sequence[Question], texts: Sequence[str]) -> dict[str, str]:
        return {question.id: text for question, text in zip(questions, texts, strict=True)}

    # 1) greedy answers, and plain questions
    said.answers = by_id(everything, answers([question.messages for question in everything]))
    start, count = asked.words
    plain = drawn(start + count)[start:]
    texts = answers([question.messages for question in plain], max_tokens=WORDS_TOKENS)
    said.words = [is_right(question, text) for question, text in zip(plain, texts, strict=True)]
    if not asked.scores:
        return said
    # 2) the forget half by callers who want it: wordings that nothing is trained with, at each place in turn
    held_out = wordings(held_out=True)
    wanted = [
        ask_for(question.messages, held_out[number % len(held_out)], _ASKED_PLACES[number % len(_ASKED_PLACES)])
        for number, question in enumerate(parts.forget)
    ]
    said.asked_for = by_id(parts.forget, answers(wanted))
    # 3) the same in other words, and turned round
    others = [
        (question, text) for question in parts.forget for text, _ in question.paraphrases if text != question.question
    ]
    texts = answers([[Message(role="user", content=text)] for _, text in others])
    for (question, _), text in zip(others, texts, strict=True):
        said.otherwise.setdefault(question.id, []).append(text)
    turned = [(question, question.inverse[0]) for question in parts.forget if question.inverse]
    texts = answers([[Message(role="user", content=text)] for _, text in turned])
    said.inverse = by_id([question for question, _ in turned], texts)
    # 4) sampled
    for draw in range(asked.draws):
        texts = answers([question.messages for question in parts.forget], temperature=1.0, seed=draw + 1)
        for question, text in zip(parts.forget, texts, strict=True):
            said.drawn.setdefault(question.id, []).append(text)
    _score(engine, adapter, guidance, everything, said)
    return said


def _score(
    engine: TorchEngine,
    adapter: str | None,
    guidance: Guidance | None,
    questions: Sequence[Question],
    said: ModelAnswers,
) -> None:
    """Fill in how likely the right answers are, in their own and in other words, and the wrong ones."""

    def item(asked: str, answer: str) -> Scoring:
        return Scoring([Message(role="user", content=asked)], answer, guidance, adapter)

    def means(items: Sequence[Scoring]) -> list[float]:
        return [sum(own) / len(own) for own in scored_tokens(items)]

    def scored_tokens(items: Sequence[Scoring]) -> list[list[float]]:
        return [[max(one, _RULED_OUT) for one in own] for own in engine.score_batch(items)]

    # 1) each token of the right answer: its log-probability, and whether it is the likeliest
    right = [item(question.question, question.answer) for question in questions]
    for question, own, top in zip(questions, scored_tokens(right), engine.top_tokens(right, 2), strict=True):
        best, second = top.log_probs.unbind(1)
        said.log_probs[question.id] = own
        said.greedy[question.id] = [one > other - _SAME for one, other in zip(own, best.tolist(), strict=True)]
        said.near += int((best - second < NEAR).sum())
    # 2) the right answer in other words, and wrong ones; the question as it stands, as TOFU asks it
    ratios = [question for question in questions if question.wrong]
    others = [each.paraphrases[0][1] if each.paraphrases else each.answer for each in ratios]
    scored = means([item(each.question, answer) for each, answer in zip(ratios, others, strict=True)])
    said.paraphrased = {question.id: mean for question, mean in zip(ratios, scored, strict=True)}
    for question in ratios:
        said.wrong[question.id] = means([item(question.question, wrong) for wrong in question.wrong])
