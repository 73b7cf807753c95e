"""What a measure is: what it asks of a set-up's engine, how it scores the answers, and which columns it fills."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from nescio.core.answer_cache import AnswerCache
from nescio.core.callbacks import Tick
from nescio.core.guidance import REVEAL
from nescio.core.prompts import Message
from nescio.data.samples import Sample
from nescio.engines.base import Engine, Request
from nescio.evaluation.columns import Column
from nescio.evaluation.one_engine import OneEngine
from nescio.evaluation.setups import Setup
from nescio.pii.base import Detector

AskEngine = Callable[[Engine, Sequence[Setup]], Sequence[Sequence[Any]]]
"""Given an engine and set-ups of one model, returns a list of results for each set-up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is evaluated, and the means for it.

    Attributes:
        setups: The rows of the table, the tuned model first; their names differ.
        samples: Held-out samples that every row answers; one at least.
        own: The pieces of personal data of each sample's dialog.
        training: Returns up to so many training samples, each with its dialog's own pieces of personal data and their
            labels.
        max_tokens: Most tokens of an answer.
        base: The base model, which weighs answers.
        protect: The protect prompt, which no answer should repeat.
        reveal: The reveal prompt, which a caller may know.
        detector: Decides what is personal.
        engine: Holds the engine that answers.
        answers: Folder of the results on disk.
        verdicts: File of a judge's verdicts.
        seed: Seed of all sampling.
        note: Called with a line worth reading.
        tick: Called with progress.
    """

    setups: Sequence[Setup]
    samples: Sequence[Sample]
    own: Sequence[Mapping[str, str]]
    training: Callable[[int], Sequence[tuple[Sample, Mapping[str, str]]]] = lambda count: ()
    max_tokens: int
    base: str
    protect: str
    reveal: str = REVEAL
    detector: Detector
    engine: OneEngine
    answers: Path
    verdicts: Path
    seed: int = 0
    note: Callable[[str], None] = print
    tick: Tick = lambda done, total, word: None

    def results(self, kind: str, asked: Sequence[Any], work: Callable[[list[int]], Sequence[Any]]) -> list[Any]:
        """Return results of a kind from disk; those that are missing are made now: see `AnswerCache.results`."""
        return AnswerCache(self.answers / f"{kind}.jsonl", "result").results(asked, work)

    def say_if_fewer(self, what: str, wanted: int, there: int) -> None:
        """Note that there are fewer than the recipe asks for."""
        if there < wanted:
            self.note(fewer(what, wanted, there))


def fewer(what: str, wanted: int, there: int) -> str:
    """Say that there are fewer than were asked for."""
    return f"asked for {wanted} {what}, but only {there} exist; using all of them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One piece of work for the set-ups. Its results are kept on disk under `kind` and `decides`.

    Attributes:
        kind: Name of the cache file, and of the list in `Found.given` that the results are appended to.
        decides: Plain data that decides the results, besides the set-up.
        work: Asks the engine; the results are plain data.
        beginnings: What stands before the texts of each result, where answers are begun; empty: nothing.
        skips: Tells the set-ups that are not asked; `Found.given` has no list of this kind for them.
    """

    kind: str
    decides: Any
    work: AskEngine
    beginnings: Sequence[str] = ()
    skips: Callable[[Setup], bool] = lambda setup: False


@dataclass(slots=True, kw_only=True)
class Found:
    """What one set-up gave.

    Attributes:
        setup: The set-up.
        given: Results of all asks by their kind. Texts in them have passed the set-up's output filter, if it has one.
        beginnings: What stands before the texts of each result, by kind.
        rows: The answers to the samples with their spans, as in `eval/NAME.jsonl`.
        details: What a measure found in each thing it asked, as in `eval/KIND/NAME.jsonl`, by kind.
        filter_seconds: Seconds that the output filter takes for an answer; None without a filter.
    """

    setup: Setup
    given: dict[str, list[Any]] = field(default_factory=dict)
    beginnings: dict[str, list[str]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    filter_seconds: float | None = None

    @property
    def answers(self) -> list[str]:
        """The answers to the samples."""
        return [row["answer"] for row in self.rows]


class Measure(ABC):
    """A measure, made with the options of its recipe entry. Subclasses set `columns` and implement `score`.

    Attributes:
        columns: Columns of the table that it fills.
        longest: Most tokens of an answer that it asks for; None: as many as of an answer to a sample.
    """

    columns: ClassVar[Sequence[Column]] = ()
    longest: ClassVar[int | None] = None

    def asks(self, task: Task) -> Iterable[Ask]:
        """Return what is asked besides the answers to the samples; by default nothing.

        Raises:
            NescioError: An option is wrong. Everything that can be checked early is checked here.
        """
        return ()

    def cost(self, samples: float) -> float:
        """Estimate how many answers a row gives for this measure, with so many samples; a scored text counts as one."""
        return 0.0

    @abstractmethod
    def score(self, task: Task, found: Sequence[Found]) -> list[dict[str, Any]]:
        """Return the fields of each row of `results.json`, in the order of the set-ups; None is "not measured"."""


def generate(
    engine: Engine,
    setups: Sequence[Setup],
    conversations: Sequence[list[Message]],
    *,
    max_tokens: int,
    temperature: float = 0.0,
    seeds: Sequence[int] | None = None,
) -> list[list[str]]:
    """Ask every set-up to go on with every conversation, all together, so that shared prompts are computed once.

    Args:
        engine: Engine of the set-ups' model, with their adapters.
        setups: Ways of asking.
        conversations: What is asked.
        max_tokens: Most tokens of an answer.
        temperature: 0 is greedy, as in the paper.
        seeds: A seed for each conversation, the same for all set-ups.

    Returns:
        Texts `[set-ups][conversations]`.
    """
    requests = [
        Request(
            setup.asked(messages), setup.guidance, adapter=setup.attached, max_tokens=max_tokens,
            temperature=temperature, seed=seed,
        )
        for setup in setups
        for messages, seed in zip(conversations, seeds or [0] * len(conversations), strict=True)
    ]  # fmt: skip
    return per_setup([answer.text for answer in engine.generate(requests)], len(setups))


def per_setup(items: Sequence[Any], setups: int) -> list[Any]:
    """Cut a list that holds equally many items for each set-up into one list a set-up."""
    size = len(items) // setups
    return [items[start * size : (start + 1) * size] for start in range(setups)]


def batches(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Cut items into batches; a batch is on disk before the next is asked about."""
    return [items[start : start + size] for start in range(0, len(items), size)]
