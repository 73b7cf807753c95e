"""Replacement answers without personal data, from any number of sources (paper, section 2.2).

Every answer is on the disk before it is used, under the key of what was asked: a job that was cut off, or runs again
under another recipe, never asks for what it has. Knows samples, engines and detectors; nothing of training.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nescio.core.answer_cache import Paid
from nescio.core.end_tokens import turn_end
from nescio.core.errors import NescioError
from nescio.core.files import fingerprint, write_jsonl
from nescio.data.filter import Reply, Verdict, judge
from nescio.data.samples import Sample
from nescio.data.strategies import Strategy, prompt_for, tasks
from nescio.data.tally import Tally
from nescio.engines.base import Answer, Engine, Request, UnansweredError
from nescio.pii.base import Detector

TOGETHER = 96
"""Requests in one call of a local engine, which answers them in one batch."""

_PATIENCE = 3  # requests in a row without an answer, or as many as are on their way at once, and a source is given up

Tick = Callable[[int, int, str], None]
_Task = tuple[Sample, Strategy]
_Name = tuple[str, Strategy]  # a task's sample id and way
_Question = tuple[str, _Task, int, Request]  # key, task, try, request


@dataclass(frozen=True, slots=True)
class Source:
    """A model that is asked for replacement answers.

    Attributes:
        name: Stands in candidates, pairs and accounts.
        engine: Gives the answers.
        model: Stands in the accounts.
        identity: What the answers depend on beside the request: the model's hash, or its name and where it is.
        strategies: The ways to ask.
        tokenizer: Of the source's model, where completion needs rendered text; None: the engine renders.
        temperature: Of sampling; 0.7 in the paper.
        share: Share of the samples that it is asked about, drawn by the seed.
        concurrency: Calls on their way at once.
        together: Requests in one call.
        budget: Most tokens, prompts and answers, that it is paid for; what is on its way then still comes.
        price: Dollars for a million tokens of prompts and of answers.
    """

    name: str
    engine: Engine
    model: str
    identity: str
    strategies: tuple[Strategy, ...]
    tokenizer: Any | None = None
    temperature: float = 0.7
    share: float = 1.0
    concurrency: int = 1
    together: int = TOGETHER
    budget: int | None = None
    price: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Rewriting:
    """How replacement answers are asked for, whatever the source.

    Attributes:
        max_tokens: Most tokens of an answer; a longer one ends at its last whole sentence.
        tries: Most answers asked for per sample, source and strategy until one is accepted.
        seed: Every answer's own seed is derived from this, the sample, the strategy and the try.
    """

    max_tokens: int = 128
    tries: int = 3
    seed: int = 0


def rewrite(
    samples: Sequence[Sample],
    sources: Sequence[Source],
    detector: Detector,
    how: Rewriting,
    folder: Path,
    paid: Path,
    progress: Tick | None = None,
) -> list[Tally]:
    """Ask each source until every sample and way has an answer that is kept, or its tries are used up.

    Args:
        samples: What to answer anew.
        sources: Who is asked, one after the other.
        detector: Decides whether an answer is clean.
        how: Tries and lengths.
        folder: Where `candidates.jsonl` (all answers, in the order of samples, sources, ways and tries) and
            `failed.jsonl` (what got no answer) are written.
        paid: Where the answers are kept as they come; what stands there is not asked for again.
        progress: Called with what is done, all there is to do, and the account in a few words.

    Returns:
        The account of each source.

    Raises:
        NescioError: A source can't go on: its key, its model, or no answer to many requests in a row.
    """
    book = Paid(paid)
    jobs = [_Job(source, samples, how, book) for source in sources]
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

    def __init__(self, source: Source, samples: Sequence[Sample], how: Rewriting, paid: Paid) -> None:
        self.source, self.how, self.paid = source, how, paid
        self.tasks = list(tasks((sample for sample in samples if self._is_in_share(sample)), source.strategies))
        self.tally = Tally(source.name, source.model, source.price)
        self.failed: dict[_Name, dict[str, Any]] = {}
        self._judged: dict[_Name, list[dict[str, Any]]] = {}
        self._silent = 0  # requests without an answer since the last answer
        self._over = False  # the source can't go on: what waits is not asked any more

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows of `candidates.jsonl`, by sample, way and try."""
        return (row for task in self.tasks for row in self._judged.get(_name(task), []))

    def run(self, detector: Detector) -> Iterator[int]:
        """Do the job; tells after some calls how many tasks are settled."""
        settled, waiting, window = 0, self.tasks, max(TOGETHER, 4 * self.source.concurrency)
        for attempt in range(self.how.tries):
            again: list[_Task] = []
            for start in range(0, len(waiting), window):
                some = waiting[start : start + window]
                kept = self._judge(some, self._ask(some, attempt), attempt, detector)
                again += [task for task in some if _name(task) not in kept]
                settled += len(some) if attempt == self.how.tries - 1 else len(kept)
                self.tally.failed = len(self.failed)
                yield settled
            waiting = again

    def _ask(self, some: Sequence[_Task], attempt: int) -> list[dict[str, Any] | None]:
        """The paid rows of tasks; None where no answer came or the budget is used up."""
        asked = [self._question(task, attempt) for task in some]
        step = self.source.together
        batches = [asked[start : start + step] for start in range(0, len(asked), step)]
        # A batch that was cut off is asked for whole: its answers depend, in their last digits, on each other.
        missing = [batch for batch in batches if any(self.paid.get(key) is None for key, *_ in batch)]
        with ThreadPoolExecutor(self.source.concurrency) as pool:
            calls = {pool.submit(self._pay, batch): batch for batch in missing}
            try:
                for call in as_completed(calls):
                    self._heard(call, calls[call])
            except BaseException:
                pool.shutdown(cancel_futures=True)  # what is on its way still comes, and is kept
                raise
        return [self.paid.get(key) for key, *_ in asked]

    def _question(self, task: _Task, attempt: int) -> _Question:
        sample, strategy = task
        prompt = prompt_for(sample, strategy, self.source.tokenizer)
        seed = zlib.crc32(f"{self.how.seed}/{sample.id}/{strategy}/{attempt}".encode())
        stop = (turn_end(self.source.tokenizer),) if isinstance(prompt, str) and self.source.tokenizer else ()
        request = Request(
            prompt, max_tokens=self.how.max_tokens, temperature=self.source.temperature, seed=seed, stop=stop
        )
        key = fingerprint([self.source.identity, prompt, self.how.max_tokens, self.source.temperature, seed])
        return key, task, attempt, request

    def _pay(self, batch: Sequence[_Question]) -> None:
        budget = self.source.budget
        if self._over or (budget is not None and self.paid.tokens(self.source.name) >= budget):
            return
        try:
            answers = self.source.engine.generate([request for *_, request in batch])
        except NescioError as error:
            self._over = self._over or not isinstance(error, UnansweredError)
            raise
        self.paid.add(self._row(question, answer) for question, answer in zip(batch, answers, strict=True))

    def _row(self, question: _Question, answer: Answer) -> dict[str, Any]:
        key, (sample, strategy), attempt, _ = question
        return {
            "key": key, "source": self.source.name, "sample_id": sample.id, "strategy": strategy, "try": attempt,
            "text": answer.text, "finish": answer.finish, "prompt_tokens": answer.prompt_tokens,
            "answer_tokens": len(answer.token_ids) if answer.answer_tokens is None else answer.answer_tokens,
        }  # fmt: skip

    def _heard(self, call: Future[None], batch: Sequence[_Question]) -> None:
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
                    "run again to go on, what came is kept"
                ) from error

    def _judge(
        self, some: Sequence[_Task], paid: Sequence[dict[str, Any] | None], attempt: int, detector: Detector
    ) -> set[_Name]:
        """Judge what came, and account for all; returns the tasks that are accepted."""
        came = [(task, row) for task, row in zip(some, paid, strict=True) if row is not None]
        verdicts = judge([Reply(*task, row["text"], row["finish"]) for task, row in came], detector)
        for (task, row), verdict in zip(came, verdicts, strict=True):
            self.failed.pop(_name(task), None)
            self._account(row, verdict)
            candidate = {name: row[name] for name in ("sample_id", "source", "strategy", "try")} | {
                "text": verdict.text, "accepted": verdict.reason is None, "reason": verdict.reason, "pii": verdict.pii
            }  # fmt: skip
            self._judged.setdefault(_name(task), []).append(candidate)
        unheard = [task for task, row in zip(some, paid, strict=True) if row is None]
        if attempt == 0:
            self.tally.unasked += sum(_name(task) not in self.failed for task in unheard)
        return {_name(task) for (task, _), verdict in zip(came, verdicts, strict=True) if verdict.reason is None}

    def _account(self, row: dict[str, Any], verdict: Verdict) -> None:
        self.tally.calls += 1
        self.tally.prompt_tokens += row["prompt_tokens"]
        self.tally.answer_tokens += row["answer_tokens"]
        if verdict.reason is None:
            self.tally.accepted += 1
        else:
            self.tally.rejected[verdict.reason] += 1

    def _is_in_share(self, sample: Sample) -> bool:
        drawn = zlib.crc32(f"{self.how.seed}/{self.source.name}/{sample.id}".encode())
        return drawn < self.source.share * (1 << 32)


def _name(task: _Task) -> _Name:
    return task[0].id, task[1]
