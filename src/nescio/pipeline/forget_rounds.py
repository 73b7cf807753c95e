"""The rounds of an erasure request: what the adapter tells is struck out of it, until it tells nothing any more."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nescio.audit.people import Fact
from nescio.core.answer_cache import AnswerCache
from nescio.core.files import read_jsonl, write_jsonl
from nescio.core.models import load_model, load_tokenizer
from nescio.core.prompts import render, split_ids, with_sentence
from nescio.core.shared_prefix import Continuation, Group
from nescio.core.switch import FILE, filled
from nescio.core.top_tokens import TopTokens, read_top_tokens, write_top_tokens
from nescio.data.anchors import ask
from nescio.data.trajectories import asked_ways
from nescio.engines.base import Request, Scoring
from nescio.engines.request import Prompt
from nescio.engines.torch_engine import TorchEngine, load
from nescio.pipeline import anchors
from nescio.pipeline.context import Context, Tick
from nescio.pipeline.forget_answers import Probe, Told, probes, struck, texts, told
from nescio.pipeline.memory import check_memory
from nescio.pipeline.train import row_tokens
from nescio.training.anchors import Anchors, AnchorSettings
from nescio.training.batch import Example, Unit
from nescio.training.losses.distil import distil
from nescio.training.memory import largest_step
from nescio.training.settings import TrainingSettings
from nescio.training.trainer import fit

ROWS, TARGETS = "answers.jsonl", "answers.safetensors"

Row = tuple[Told, TopTokens]
"""An answer that tells, and what the adapter of before says along it without the secrets."""

_ROUNDS = 3  # at most
_ASKED = 0.7  # share of the answers that are taught behind a caller who asks for personal data, as in baking
_ANSWER_TOKENS = 48
_BATCH, _SAVE_STEPS = 4, 5
_ANCHORS = AnchorSettings(per_step=2, weight=2.0)  # as in baking


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """The training of a request.

    Attributes:
        run: The run; its adapter is that of before.
        people: The facts of each person.
        earlier: Answers of earlier requests, which are trained along.
        epochs: Passes over the answers in each round.
        learning_rate: Of the adapter.
        seed: Of all choices.
        folder: Working folder; what a killed job has left there is used.
        tick: Called with progress.
    """

    run: Context
    people: Sequence[Sequence[Fact]]
    earlier: Sequence[Row]
    epochs: int
    learning_rate: float
    seed: int
    folder: Path
    tick: Tick

    def train(self) -> tuple[Path, list[Row], list[dict[str, Any]]]:
        """Return the adapter after the last round, what was struck out in all of them, and the log of the steps."""
        student, own, log = self.run.out / "adapter", list[Row](), list[dict[str, Any]]()
        tokenizer = load_tokenizer(self.run.start)
        for number in range(_ROUNDS):
            work = self.folder / f"round-{number + 1}"
            if not (work / TARGETS).exists():  # written last
                cut = ((each, self._ids(tokenizer, each, each.prompt)) for each in self._told(number, student, work))
                found = [(told, ids[1]) for told, ids in cut if ids is not None]
                if not found:
                    break
                self._strike(tokenizer, found, work)
            fresh = read_rows(work)
            # What is still said after a round is half of the next one, however few answers say it.
            again = fresh * (len(own) // len(fresh))
            student, steps = self._round(number, [*own, *fresh, *again, *self.earlier], student, work / "checkpoints")
            own += fresh
            log += [{"round": number + 1, **step} for step in steps]
        return student, own, log

    def _told(self, number: int, student: Path, work: Path) -> list[Told]:
        """Return answers that say secrets.

        In the first round, to each question: what the adapter says; else what the model under it says; else plain
        words, since striking out what is unlikely anyway costs nothing. In later rounds only what the student says, to
        the same questions and, sampled, where a caller asks for personal data.
        """
        asked = list(probes(self.people, sentences_of(self.run)))
        cache = AnswerCache(work / "said.jsonl", "result")
        self.tick(0, 1, f"round {number + 1}: {len(asked)} questions")
        with load(self.run.start, student) as engine:
            first = self._answers(engine, asked, cache, adapter="default")
            if number > 0:
                ways = asked_ways([each.question.messages for each in asked], len(asked), 1.0, self.seed + number)
                behind = [replace(asked[at], question=replace(asked[at].question, messages=way)) for at, way in ways]
                sampled = self._answers(engine, behind, cache, adapter="default", temperature=1.0)
                return [found for found in (*first, *sampled) if found]
            under = self._answers(engine, asked, cache, adapter=None)
        each = zip(asked, first, under, strict=True)
        plain = [text for own in self.people for fact in own for text in texts(fact)]
        return [one or other or _in_plain_words(probe) for probe, one, other in each] + plain

    def _answers(
        self, engine: TorchEngine, asked: Sequence[Probe], cache: AnswerCache, *, adapter: str | None,
        temperature: float = 0.0,
    ) -> list[Told | None]:  # fmt: skip
        requests = [
            Request(
                self._prompt(each.question.messages, each.sentence), adapter=adapter, max_tokens=_ANSWER_TOKENS,
                temperature=temperature, seed=self.seed + number,
            )
            for number, each in enumerate(asked)
        ]  # fmt: skip
        return [told(probe, text) for probe, (text, _) in zip(asked, ask(engine, requests, cache), strict=True)]

    def _strike(self, tokenizer: Any, found: Sequence[tuple[Told, list[int]]], work: Path) -> None:
        """Write answers, given with their tokens, and what the adapter of before says along them but for secrets."""
        self.tick(0, 1, f"the likely tokens of {len(found)} answers")
        with load(self.run.start, self.run.out / "adapter") as engine:
            asked = [Scoring(self._prompt(each.prompt, each.sentence), each.answer) for each, _ in found]
            likely = engine.top_tokens(asked, anchors.TOP_TOKENS)
        rows = zip(found, likely, strict=True)
        write_rows(work, [(each, struck(tokenizer, each, ids, top)) for (each, ids), top in rows])

    def _round(self, number: int, rows: Sequence[Row], student: Path, work: Path) -> tuple[Path, list[dict[str, Any]]]:
        """Train on answers, each plainly or behind a request for personal data; return the checkpoint and the log."""
        run, tokenizer, seed = self.run, load_tokenizer(self.run.start), self.seed + number
        # 1) the ways of asking; plain text has only one
        chats = [(row, row[0].prompt) for row in rows if not isinstance(row[0].prompt, str)]
        ways = asked_ways([prompt for _, prompt in chats], self.epochs * len(chats), _ASKED, seed)
        asked: list[tuple[Row, Prompt]] = [(chats[at][0], way) for at, way in ways]
        asked += [(row, row[0].prompt) for row in rows if isinstance(row[0].prompt, str)] * self.epochs
        units = [unit for row, prompt in asked if (unit := self._unit(tokenizer, row, prompt))]
        # 2) distil
        section = run.recipe.train
        settings = TrainingSettings(
            epochs=1, batch_size=_BATCH, learning_rate=self.learning_rate, seed=seed,
            gradient_checkpointing=section.gradient_checkpointing, save_steps=_SAVE_STEPS,
        )  # fmt: skip
        check_memory(run.start, largest_step(units, settings), section.quantize, "train", run.note)
        loaded = load_model(run.start, quantize=section.quantize)
        settings = replace(settings, row_tokens=row_tokens(run, loaded.model, section.row_tokens))
        done = fit(
            loaded.model, units, loss=distil, settings=settings, work=work,
            progress=lambda now, total: self.tick(now, total, f"round {number + 1}: {len(rows)} answers"),
            anchors=self._anchors(tokenizer, settings), start=student,
        )  # fmt: skip
        return done.checkpoints[-1], done.log

    def _anchors(self, tokenizer: Any, settings: TrainingSettings) -> Anchors | None:
        """Return the run's anchors, half of them behind requests for personal data, under each sentence in turn."""
        if not (self.run.out / anchors.ROWS).exists():
            self.run.note("this run has no anchors, so nothing holds the adapter; look at the certificate's usefulness")
            return None
        kept, sentences = anchors.read(self.run.out), sentences_of(self.run)
        ways = asked_ways([anchor.messages for anchor, _ in kept], 4 * len(kept), 0.5, settings.seed)
        units = list[Unit]()
        for number, (at, way) in enumerate(ways):
            anchor, targets = kept[at]
            prompt = self._prompt(way, sentences[number // len(kept) % len(sentences)])
            units.append([anchors.taught(tokenizer, f"{anchor.id}/{number}", prompt, anchor.answer, targets)])
        how = replace(_ANCHORS, per_step=min(_ANCHORS.per_step, len(units)))
        return Anchors(units, how, seed=settings.seed, row_tokens=settings.row_tokens)

    def _unit(self, tokenizer: Any, row: Row, prompt: Prompt) -> Unit | None:
        """Return an answer behind a prompt as an example; None if it is cut into other tokens there."""
        ids = self._ids(tokenizer, row[0], prompt)
        if ids is None or len(ids[1]) != len(row[1].ids):
            return None
        return [Example(row[0].id, Group(ids[0], [Continuation(ids[1])]), targets=row[1])]

    def _ids(self, tokenizer: Any, told: Told, prompt: Prompt) -> tuple[list[int], list[int]] | None:
        asked = self._prompt(prompt, told.sentence)
        return split_ids(tokenizer, asked if isinstance(asked, str) else render(tokenizer, asked), told.answer)

    def _prompt(self, prompt: Any, sentence: str | None) -> Any:
        """Return a prompt behind its sentence, in which the run's secret stands in its place."""
        return with_sentence(prompt, filled(sentence, self.run.out / FILE)) if sentence else prompt


def sentences_of(run: Context) -> list[str | None]:
    """Return the sentences that must not open what is forgotten: all that the adapter was trained with, and none."""
    pairs = run.recipe.pairs
    return [None, pairs.positive, pairs.negative] if run.recipe.bake is None and pairs.twins else [None]


def write_rows(folder: Path, rows: Sequence[Row]) -> None:
    """Write answers with their targets, the targets last."""
    write_jsonl(folder / ROWS, (asdict(told) for told, _ in rows))
    write_top_tokens(folder / TARGETS, [targets for _, targets in rows])


def read_rows(folder: Path) -> list[Row]:
    """Read what `write_rows` wrote."""
    each = [Told(**row) for _, row in read_jsonl(folder / ROWS)]
    return list(zip(each, read_top_tokens(folder / TARGETS), strict=True))


def _in_plain_words(probe: Probe) -> Told:
    found = told(probe, probe.question.rejected)
    assert found is not None  # it says the value, and the question does not
    return found
