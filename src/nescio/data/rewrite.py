"""Replacement answers without personal data, from any number of sources (paper, section 2.2).

Every answer is on disk before it is used, under the key of its request: a job that was interrupted, or runs again with
another recipe, asks only for what is missing.
"""

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nescio.core.answer_cache import SourceAnswers
from nescio.core.callbacks import Tick
from nescio.core.end_tokens import turn_end
from nescio.core.errors import NescioError
from nescio.core.files import fingerprint, write_jsonl
from nescio.data.filter import Reply, Verdict, filter_replies
from nescio.data.samples import Sample
from nescio.data.strategies import STRATEGIES, StrategyName, tasks
from nescio.data.tally import Tally
from nescio.engines.base import Answer, Engine, Request, UnansweredError
from nescio.pii.base import Detector

TOGETHER = 96
"""Requests in one call of a local engine, which answers them in one batch."""

_PATIENCE = 3  # a source is given up after so many requests in a row without an answer, `concurrency` at least

_Task = tuple[Sample, StrategyName]
_Name = tuple[str, StrategyName]  # sample id and strategy of a task
_Question = tuple[str, _Task, int, Request]  # key, task, try, request


@dataclass(frozen=True, slots=True)
class Source:
    """A model that is asked for replacement answers.

    Attributes:
        name: Name in candidates, pairs and accounts.
        engine: Engine that answers.
        model: Name of the model in the accounts.
        identity: What the answers depend on besides the request: the model's hash, or its name and address.
        strategies: How to ask.
        tokenizer: The source model's tokenizer, where completion needs rendered text; None: the engine renders.
        temperature: Temperature of sampling; 0.7 in the paper.
        share: Share of the samples that it is asked about, drawn by the seed.
        concurrency: Calls at the same time.
        together: Requests in one call.
        budget: Most tokens of prompts and answers; calls that have been sent are finished.
        price: Dollars for a million tokens of prompts and of answers.
    """

    name: str
    engine: Engine
    model: str
    identity: str
    strategies: tuple[StrategyName, ...]
    tokenizer: Any | None = None
    temperature: float = 0.7
    share: float = 1.0
    concurrency: int = 1
    together: int = TOGETHER
    budget: int | None = None
    price: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Rewriting:
    """Settings of all sources.

    Attributes:
        max_tokens: Most tokens of an answer; a longer one is cut after its last whole sentence.
        tries: Most answers per sample, source and strategy until enough are accepted.
        best_of: Accepted answers that are enough; `data.best` chooses among several.
        seed: The seed of each answer is derived from this, the sample, the strategy and the try.
    """

    max_tokens: int = 128
    tries: int = 3
    best_of: int = 1
    seed: int = 0


def rewrite(
    samples: Sequence[Sample],
    sources: Sequence[Source],
    detector: Detector,
    how: Rewriting,
    folder: Path,
    cache: Path,
    progress: Tick | None = None,
) -> list[Tally]:
    """Ask each source until every sample and strategy has enough accepted answers, or its tries are used up.

    Args:
        samples: What to answer again.
        sources: Sources, asked one after the other.
        detector: Decides whether an answer is clean.
        how: Tries and lengths.
        folder: Where `candidates.jsonl` (all answers, in the order of samples, sources, strategies and tries) and
            `failed.jsonl` (requests without an answer) are written.
        cache: File of the answer cache; what it holds is not asked for again.
        progress: Called with the tasks done, all tasks, and the account in a few words.

    Returns:
        The account of each source.

    Raises:
        NescioError: A source cannot go on: its key, its model, or no answer to many requests in a row.
    """
    answers = SourceAnswers(cache)
    jobs = [_Job(source, samples, how, answers) for source in sources]
    total, done = sum(len(job.tasks) for job in jobs), 0
    for job in jobs:
        for settled in job.run(detector):
            if progress:
                progress(done + settled, total, job.tally.line())
        done += len(job.tasks)
    order = {sample.id: number for number, sample in enumerate(samples)}
    # The sort is stable: within a sample the rows stand by source, then as each job has them.
    for name, rows in (
        ("candidates", (row for job in jobs for row in job.rows())),
        ("failed", (row for job in jobs for row in job.failed.values())),
    ):
        write_jsonl(folder / f"{name}.jsonl", sorted(rows, key=lambda row: order[row["sample_id"]]))
    return [job.tally for job in jobs]


class _Job:
    """One source at work."""

    def __init__(self, source: Source, samples: Sequence[Sample], how: Rewriting, answers: SourceAnswers) -> None:
        self.source, self.how, self.answers = source, how, answers
        self.tasks = list(tasks((sample for sample in samples if self._is_in_share(sample)), source.strategies))
        self.tally = Tally(source.name, source.model, source.price)
        self.failed: dict[_Name, dict[str, Any]] = {}
        self._candidates: dict[_Name, list[dict[str, Any]]] = {}
        self._silent = 0  # requests without an answer since the last answer
        self._is_over = False  # the source cannot go on: no further request is sent

    def rows(self) -> Iterator[dict[str, Any]]:
        """Return the rows of `candidates.jsonl`, by sample, strategy and try."""
        return (row for task in self.tasks for row in self._candidates.get(_name(task), []))

    def run(self, detector: Detector) -> Iterator[int]:
        """Do the job; yield the number of settled tasks after each round of calls."""
        settled, waiting, window = 0, self.tasks, max(TOGETHER, 4 * self.source.concurrency)
        for attempt in range(self.how.tries):
            again: list[_Task] = []
            for start in range(0, len(waiting), window):
                some = waiting[start : start + window]
                self._filter(some, self._ask(some, attempt), attempt, detector)
                left = [task for task in some if self._accepted(task) < self.how.best_of]
                again += left
                settled += len(some) if attempt == self.how.tries - 1 else len(some) - len(left)
                self.tally.failed = len(self.failed)
                yield settled
            waiting = again

    def _ask(self, some: Sequence[_Task], attempt: int) -> list[dict[str, Any] | None]:
        """Return the cached rows of tasks; None where no answer came or the budget is used up."""
        asked = [self._question(task, attempt) for task in some]
        step = self.source.together
        batches = [asked[start : start + step] for start in range(0, len(asked), step)]
        # An interrupted batch is asked for whole: the last digits of its answers depend on each other.
        missing = [batch for batch in batches if any(self.answers.get(key) is None for key, *_ in batch)]
        with ThreadPoolExecutor(self.source.concurrency) as pool:
            calls = {pool.submit(self._call, batch): batch for batch in missing}
            try:
                for call in as_completed(calls):
                    self._finish(call, calls[call])
            except BaseException:
                pool.shutdown(cancel_futures=True)  # answers to requests that were sent are cached
                raise
        return [self.answers.get(key) for key, *_ in asked]

    def _question(self, task: _Task, attempt: int) -> _Question:
        sample, strategy = task
        prompt = STRATEGIES[strategy].prompt(sample, self.source.tokenizer)
        seed = zlib.crc32(f"{self.how.seed}/{sample.id}/{strategy}/{attempt}".encode())
        stop = (turn_end(self.source.tokenizer),) if isinstance(prompt, str) and self.source.tokenizer else ()
        request = Request(
            prompt, max_tokens=self.how.max_tokens, temperature=self.source.temperature, seed=seed, stop=stop
        )
        return self._key(task, request), task, attempt, request

    def _key(self, task: _Task, request: Request) -> str:
        """Return the key of a request: of its messages and template, since some templates render today's date."""

        def key(prompt: Any) -> str:
            options = [self.how.max_tokens, self.source.temperature, request.seed]
            return fingerprint([self.source.identity, prompt, *options])

        # The key of 0.1.0 holds the rendered prompt. For messages the two are the same.
        rendered = key(request.prompt)
        if not self.source.tokenizer or not isinstance(request.prompt, str) or self.answers.get(rendered) is not None:
            return rendered
        return key({"messages": STRATEGIES[task[1]].messages(task[0]), "template": self.source.tokenizer.chat_template})

    def _call(self, batch: Sequence[_Question]) -> None:
        budget = self.source.budget
        if self._is_over or (budget is not None and self.answers.tokens(self.source.name) >= budget):
            return
        try:
            answers = self.source.engine.generate([request for *_, request in batch])
        except NescioError as error:
            self._is_over = self._is_over or not isinstance(error, UnansweredError)
            raise
        self.answers.add(self._row(question, answer) for question, answer in zip(batch, answers, strict=True))

    def _row(self, question: _Question, answer: Answer) -> dict[str, Any]:
        key, (sample, strategy), attempt, _ = question
        return {
            "key": key, "source": self.source.name, "sample_id": sample.id, "strategy": strategy, "try": attempt,
            "text": answer.text, "finish": answer.finish, "prompt_tokens": answer.prompt_tokens,
            "answer_tokens": answer.tokens,
        }  # fmt: skip

    def _finish(self, call: Future[None], batch: Sequence[_Question]) -> None:
        """Count a call that ended; too many in a row without an answer end the job."""
        try:
            call.result()
            self._silent = 0
        except UnansweredError as error:
            self._silent += 1
            for _, task, attempt, _ in batch:
                sample, strategy = task
                self.failed[_name(task)] = {
                    "sample_id": sample.id, "source": self.source.name, "strategy": strategy, "try": attempt,
                    "error": str(error),
                }  # fmt: skip
            if self._silent >= max(_PATIENCE, self.source.concurrency):
                raise NescioError(
                    f"source {self.source.name}: {self._silent} requests in a row got no answer, the last: {error}; "
                    "run again to go on; answers that came are kept"
                ) from error

    def _filter(
        self, some: Sequence[_Task], cached: Sequence[dict[str, Any] | None], attempt: int, detector: Detector
    ) -> None:
        """Filter the answers and account for all tasks."""
        answered = [(task, row) for task, row in zip(some, cached, strict=True) if row is not None]
        verdicts = filter_replies([Reply(*task, row["text"], row["finish"]) for task, row in answered], detector)
        for (task, row), verdict in zip(answered, verdicts, strict=True):
            self.failed.pop(_name(task), None)
            self._account(row, verdict)
            candidate = {name: row[name] for name in ("sample_id", "source", "strategy", "try")} | {
                "text": verdict.text, "accepted": verdict.reason is None, "reason": verdict.reason, "pii": verdict.pii
            }  # fmt: skip
            self._candidates.setdefault(_name(task), []).append(candidate)
        unanswered = [task for task, row in zip(some, cached, strict=True) if row is None]
        if attempt == 0:
            self.tally.unasked += sum(_name(task) not in self.failed for task in unanswered)

    def _accepted(self, task: _Task) -> int:
        return sum(row["accepted"] for row in self._candidates.get(_name(task), []))

    def _account(self, row: dict[str, Any], verdict: Verdict) -> None:
        self.tally.calls += 1
        self.tally.prompt_tokens += row["prompt_tokens"]
        self.tally.answer_tokens += row["answer_tokens"]
        if verdict.reason is None:
            self.tally.accepted += 1
        else:
            self.tally.rejected[verdict.reason] += 1
        self.tally.thoughts += verdict.had_thought

    def _is_in_share(self, sample: Sample) -> bool:
        drawn = zlib.crc32(f"{self.how.seed}/{self.source.name}/{sample.id}".encode())
        return drawn < self.source.share * (1 << 32)


def _name(task: _Task) -> _Name:
    return task[0].id, task[1]
