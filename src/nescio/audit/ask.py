"""Asking: every answer is on disk before it is used, so that a killed audit goes on and nothing is paid for twice."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nescio.audit.base import Question
from nescio.audit.victim import Victim
from nescio.core.answer_cache import AnswerCache
from nescio.core.callbacks import Tick
from nescio.core.errors import NescioError
from nescio.core.files import fingerprint
from nescio.engines.base import Answer, EndpointError, Engine, Request, TooLongError, UnansweredError
from nescio.evaluation.base import batches
from nescio.evaluation.candidate_search import Known, likelihoods
from nescio.evaluation.measures.slot_attack import text_request
from nescio.evaluation.setups import Setup

_TOGETHER = 32  # requests in one call of an engine on this machine, before their answers are on disk
_AT_ONCE = 8  # calls of an endpoint at the same time, of one request each
_PATIENCE = 8  # requests in a row that an endpoint may leave without an answer
_BYTES_PER_TOKEN = 4  # of common tokenizers and languages
_REFUSALS = (400, 403, 422)  # statuses of a question that a server refuses, by a filter of its own, say


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Dollars for a million tokens of prompts and of answers, and the most dollars to spend."""

    prompt: float
    answer: float
    budget: float | None = None

    def of(self, prompt_tokens: float, answer_tokens: float) -> float:
        """Return what so many tokens cost."""
        return (self.prompt * prompt_tokens + self.answer * answer_tokens) / 1e6


class BudgetSpentError(NescioError):
    """The budget is used up; a larger one goes on."""


class Asker:
    """Asks a model, and keeps the answers in a file.

    Args:
        victim: Who is asked.
        path: File of the answers; what was scored is in `scores.jsonl` beside it.
        price: What tokens cost, and the most to spend; None: nothing.
        tick: Called with questions answered, of how many, and a word.
    """

    def __init__(self, victim: Victim, path: Path, price: Price | None, tick: Tick) -> None:
        self.victim, self.price, self.tick = victim, price, tick
        self.total = self.done = 0
        self._cache, self._path = AnswerCache(path, "text"), path
        self._scores = AnswerCache(path.with_name("scores.jsonl"), "result")
        self._counted, self._refusals = set[str](), dict[str, EndpointError]()
        self.prompt_tokens = self.answer_tokens = 0
        self._silent, self._is_over = 0, False

    @property
    def dollars(self) -> float:
        """What the answers of this audit have cost, in this run or an earlier one."""
        return self.price.of(self.prompt_tokens, self.answer_tokens) if self.price else 0.0

    @contextmanager
    def instead(self, open_other: Callable[[], Victim]) -> Iterator[None]:
        """Ask another model for a while; the first one's is closed, since two are never in memory together."""
        original = self.victim
        original.engine.close()
        self.victim = open_other()
        try:
            yield
        finally:
            self.victim.engine.close()
            self.victim = original

    def ask(self, questions: Sequence[Question], word: str) -> list[str | None]:
        """Answer questions; None where the question does not fit the model's context, or an endpoint gave no answer.

        Raises:
            NescioError: The engine cannot go on, or the budget is used up. What was answered is on disk.
        """
        self._silent, self._is_over = 0, False
        keys = [self._key(question) for question in questions]
        missing = {key: each for key, each in zip(keys, questions, strict=True) if self._cache.get(key) is None}
        self._count(key for key in keys if key not in missing)
        self.done += len(questions) - len(missing)
        size = 1 if self.victim.is_endpoint else _TOGETHER
        items = list(missing.items())
        calls = [items[start : start + size] for start in range(0, len(items), size)]
        with ThreadPoolExecutor(_AT_ONCE if self.victim.is_endpoint else 1) as pool:
            try:
                for future in as_completed([pool.submit(self._call, call) for call in calls]):
                    self.reach(self.done + future.result(), word)
                    self._check_budget()
            except BaseException:
                self._is_over = True
                pool.shutdown(cancel_futures=True)
                raise
        rows = [self._cache.get(key) for key in keys]
        return [None if row is None else str(row["text"]) for row in rows]

    def was_cut_off(self, question: Question) -> bool:
        """Whether the answer ended at the limit of tokens; one that an older version has kept does not tell."""
        return (self._cache.get(self._key(question)) or {}).get("finish") == "length"

    def refusal(self, question: Question) -> EndpointError | None:
        """Return how the endpoint refused a question; None if it did not. A later command asks it again."""
        return self._refusals.get(self._key(question))

    def likelihoods(self, items: Sequence[Known], word: str) -> list[float]:
        """Score texts after conversations.

        Raises:
            NoLikelihoodsError: The engine gives none.
        """
        scores = list[float]()
        for batch in batches(items, _TOGETHER):
            scores += self._scores.results(
                [[self.victim.identity, *item] for item in batch], partial(self._score, batch)
            )
            self.reach(self.done + len(batch), word)
        return scores

    def reach(self, done: int, word: str) -> None:
        """Report how many questions are done; what takes as long as a question counts as one."""
        self.done, self.total = done, max(self.total, done)
        self.tick(self.done, self.total, word)

    def _score(self, batch: Sequence[Known], missing: Sequence[int]) -> list[float]:
        return likelihoods(self.victim.engine, self.victim.setup, [batch[at] for at in missing])

    def _call(self, call: Sequence[tuple[str, Question]]) -> int:
        """Ask one call's questions and put the answers on disk; return how many questions are settled."""
        if self._is_over or self._is_spent:  # looked at here: workers may be far ahead of who raises
            return 0
        requests = [request_of(self.victim.setup, question) for _, question in call]
        try:
            answers = answer_all(self.victim.engine, requests, self._missed)
        except EndpointError as error:
            if error.status not in _REFUSALS or len(call) > 1:
                raise
            self._refusals[call[0][0]], self._silent, answers = error, 0, [None]
        self._silent = 0 if any(answers) else self._silent
        rows = [
            {
                "key": key, "text": answer.text, "finish": answer.finish, "prompt_tokens": answer.prompt_tokens,
                "answer_tokens": len(answer.token_ids) if answer.answer_tokens is None else answer.answer_tokens,
            }
            for (key, _), answer in zip(call, answers, strict=True)
            if answer is not None
        ]  # fmt: skip
        if rows:
            self._cache.add(rows)
        self._count(key for key, _ in call)
        return len(call)

    def _missed(self, error: UnansweredError) -> None:
        """Note a question without an answer; give up after some in a row. A refusal is an answer: it is no outage."""
        if error.status in _REFUSALS:
            raise error
        self._silent += 1
        if self._silent >= _PATIENCE:
            message = f"{error}; {self._silent} questions in a row; run the same command to go on"
            raise EndpointError(message, error.status) from error  # the status tells what the endpoint lacks

    def _key(self, question: Question) -> str:
        how = [question.max_tokens, question.temperature, question.seed]
        return fingerprint([self.victim.identity, question.prompt, how])

    def _count(self, keys: Iterator[str]) -> None:
        for key in keys:
            row = self._cache.get(key)
            if row is not None and key not in self._counted:
                self._counted.add(key)
                self.prompt_tokens += row["prompt_tokens"]
                self.answer_tokens += row["answer_tokens"]

    @property
    def _is_spent(self) -> bool:
        return self.price is not None and self.price.budget is not None and self.dollars >= self.price.budget

    def _check_budget(self) -> None:
        if self.price and self._is_spent and self.done < self.total:
            raise BudgetSpentError(
                f"--budget {self.price.budget:g}: used up after {self.done} of {self.total} questions "
                f"(${self.dollars:.2f}); the answers are in {self._path}; give more, and the same command goes on"
            )


def request_of(setup: Setup, question: Question) -> Request:
    """Return a question as a set-up asks it."""
    how: dict[str, Any] = {
        "adapter": setup.attached, "max_tokens": question.max_tokens, "temperature": question.temperature,
        "seed": question.seed,
    }  # fmt: skip
    if isinstance(question.prompt, str):
        return text_request(question.prompt, setup, **how)
    return Request(setup.asked(question.prompt), setup.guidance, **how)


def answer_all(
    engine: Engine, requests: Sequence[Request], missed: Callable[[UnansweredError], None] = lambda error: None
) -> list[Answer | None]:
    """Answer requests; None for one that is too long for the model, or that an endpoint leaves without an answer.

    Args:
        engine: Answers.
        requests: What is asked, in one call; if one of them can't be answered, by halves.
        missed: Called with the error of one that an endpoint leaves without an answer.
    """
    try:
        return list(engine.generate(requests))
    except (TooLongError, UnansweredError) as error:
        if len(requests) == 1:
            if isinstance(error, UnansweredError):
                missed(error)
            return [None]
        middle = len(requests) // 2
        return [*answer_all(engine, requests[:middle], missed), *answer_all(engine, requests[middle:], missed)]


def tokens_of(questions: Sequence[Question]) -> int:
    """Estimate the tokens of prompts, four bytes each."""
    return sum(-(-len(question.text.encode()) // _BYTES_PER_TOKEN) for question in questions)
