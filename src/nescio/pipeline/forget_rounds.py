"""The rounds of an erasure request: what the adapter tells is struck out of it, until it tells nothing any more."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nescio.audit.people import Fact
from nescio.core.answer_cache import AnswerCache
from nescio.core.callbacks import Tick
from nescio.core.end_tokens import turn_end
from nescio.core.errors import NescioError
from nescio.core.models import load_model, load_tokenizer
from nescio.core.prompts import answer_space, render, split_ids, with_sentence
from nescio.core.shared_prefix import Continuation, Group
from nescio.core.strike_out import strike_out
from nescio.core.switch import KEY_FILE, fill_key
from nescio.core.top_tokens import TopTokens, read_top_tokens, write_top_tokens
from nescio.data.anchors import ask
from nescio.data.samples import Sample
from nescio.data.trajectories import asked_ways
from nescio.engines.base import Request, Scoring
from nescio.engines.request import Prompt
from nescio.engines.torch_engine import TorchEngine, load_merged
from nescio.pipeline import anchors
from nescio.pipeline.bake import LONGEST_REQUEST
from nescio.pipeline.context import Context
from nescio.pipeline.forget_answers import Probe, TrainingAnswer, cut_at_secrets, probes, texts
from nescio.pipeline.forget_form import Endings
from nescio.pipeline.memory import check_memory
from nescio.pipeline.too_long import Asking, drop_too_long
from nescio.pipeline.train import in_bf16, row_tokens
from nescio.training.anchors import Anchors, AnchorSettings
from nescio.training.batch import Example, Unit
from nescio.training.losses.distil import distil
from nescio.training.memory import largest_step
from nescio.training.settings import TrainingSettings
from nescio.training.trainer import fit

TARGETS = "targets.safetensors"

Row = tuple[TrainingAnswer, TopTokens]
"""An answer that tells, and what the adapter of before says along it without the secrets."""

_ROUNDS = 3  # at most
_ASKED = 0.7  # share of the answers that are taught behind a caller who asks for personal data, as in baking
_ANSWER_TOKENS = 48
_BATCH, _SAVE_STEPS = 4, 5
_ANCHORS = AnchorSettings(per_step=2, weight=2.0)  # and as many about others
_WAYS = 4  # of asking for each of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """The training of a request.

    Attributes:
        run: The run; its adapter is that of before.
        people: The facts of each person.
        earlier: Answers of earlier requests, which are trained along: what the adapter of before says there by now.
        others: What is asked about people who stay.
        first: The adapter of before the first request: what it says of people who stay has to be said still. Held to
            the one before the last request, every request could lose a little more of it.
        endings: How most facts of a kind end, which stays.
        epochs: Passes over the answers in each round.
        learning_rate: Learning rate of the adapter.
        seed: Seed of all choices.
        folder: Working folder; what a killed job has left there is used.
        tick: Called with progress.
    """

    run: Context
    people: Sequence[Sequence[Fact]]
    earlier: Sequence[TrainingAnswer]
    others: Sequence[Probe]
    first: Path
    endings: Endings
    epochs: int
    learning_rate: float
    seed: int
    folder: Path
    tick: Tick

    def train(self) -> tuple[Path, list[TrainingAnswer], list[dict[str, Any]]]:
        """Return the adapter after the last round, what was struck out in all of them, and the log of the steps.

        Raises:
            NescioError: No answer can be taught.
        """
        student, log, own = self.run.out / "adapter", list[dict[str, Any]](), list[Row]()
        before = self.run.out / "adapter"
        earlier = self._struck(self.earlier, before, self.folder / "earlier") if self.earlier else []
        others = self._struck(self._of_others(), self.first, self.folder / "others") if self.others else []
        for number in range(_ROUNDS):
            work = self.folder / f"round-{number + 1}"
            fresh = self._struck(self._to_strike(number, student, work), before, work)
            if not fresh:
                break
            # What is still said after a round is about half of the next one, however few answers say it.
            again = fresh * (len(own) // len(fresh))
            taught = [*own, *fresh, *again, *earlier]
            student, steps = self._round(number, taught, others, student, work / "checkpoints")
            own += fresh
            log += [{"round": number + 1, **step} for step in steps]
        if not own:
            raise NescioError(f"{self.run.out}: no answer about these people fits into train.max_length; raise it")
        return student, [each for each, _ in own], log

    def _to_strike(self, number: int, student: Path, work: Path) -> list[TrainingAnswer]:
        """Return answers that say secrets.

        In the first round, to each question: what the adapter says, else plain words, since striking out what is
        unlikely anyway costs nothing. In later rounds what the student says, to the same questions and, sampled, where
        a caller asks for personal data.
        """
        run, cache = self.run, AnswerCache(work / "said.jsonl", "result")
        asked = self._with_room(list(probes(self.people, sentences_of(run), self.endings)))
        self.tick(0, 1, f"round {number + 1}: {len(asked)} questions")
        with load_merged(run.start, student) as engine:
            first = self._answers(engine, asked, cache)
            if number == 0:
                plain = [text for own in self.people for fact in own for text in texts(fact, self.endings)]
                each = zip(asked, first, strict=True)
                rows = [own or cut_at_secrets(probe, probe.question.rejected) for probe, own in each]
                return [row for row in rows if row] + plain
            ways = asked_ways([each.question.messages for each in asked], len(asked), 1.0, self.seed + number)
            behind = [(at, replace(asked[at], question=replace(asked[at].question, messages=way))) for at, way in ways]
            sampled = self._answers(engine, [probe for _, probe in behind], cache, temperature=1.0)
        # Taught like all others: plainly, or behind a request of the training's own choice.
        pairs = zip(behind, sampled, strict=True)
        found = [replace(row, prompt=asked[at].question.messages) for (at, _), row in pairs if row]
        return [*filter(None, first), *found]

    def _of_others(self) -> list[TrainingAnswer]:
        """Return what the first adapter answers where others are asked about, but for what tells a secret."""
        run, end = self.run, turn_end(load_tokenizer(self.run.start))
        asked, cache = self._with_room(self.others), AnswerCache(self.folder / "others/said.jsonl", "result")
        self.tick(0, 1, f"{len(asked)} questions about others")
        with load_merged(run.start, self.first) as engine:
            answers = ask(engine, self._requests(asked), cache)
        return [
            TrainingAnswer(
                id=each.question.id, prompt=each.question.messages, answer=text + (end if finish == "stop" else ""),
                places=[], sentence=each.sentence,
            )
            for each, (text, finish) in zip(asked, answers, strict=True)
            if text.strip() and cut_at_secrets(each, text) is None
        ]  # fmt: skip

    def _with_room(self, every: Sequence[Probe]) -> list[Probe]:
        """Return the questions that leave room for an answer and for a caller's words."""

        def longest(question: Sample) -> Request:
            return Request(question.messages, max_tokens=_ANSWER_TOKENS + LONGEST_REQUEST)

        fit_in = drop_too_long([each.question for each in every], [Asking(self.run.start, longest)], self.run.note)
        ids = {question.id for question in fit_in}
        return [each for each in every if each.question.id in ids]

    def _answers(
        self, engine: TorchEngine, asked: Sequence[Probe], cache: AnswerCache, temperature: float = 0.0
    ) -> list[TrainingAnswer | None]:
        answers = ask(engine, self._requests(asked, temperature), cache)
        return [cut_at_secrets(probe, text) for probe, (text, _) in zip(asked, answers, strict=True)]

    def _requests(self, asked: Sequence[Probe], temperature: float = 0.0) -> list[Request]:
        return [
            Request(
                self._prompt(each.question.messages, each.sentence), max_tokens=_ANSWER_TOKENS, temperature=temperature,
                seed=self.seed + place,
            )
            for place, each in enumerate(asked)
        ]  # fmt: skip

    def _struck(self, found: Sequence[TrainingAnswer], adapter: Path, work: Path) -> list[Row]:
        """Return answers with what an adapter says along them but for secrets; what is on disk is taken."""
        run, tokenizer = self.run, load_tokenizer(self.run.start)
        cut = [(each, self._texts(tokenizer, each, each.prompt)) for each in found]
        rows = [(each, texts) for each, texts in cut if split_ids(tokenizer, *texts)]
        if not rows:
            return []
        if not (work / TARGETS).exists():
            self.tick(0, 1, f"the likely tokens of {len(rows)} answers")
            with load_merged(run.start, adapter) as engine:
                asked = [Scoring(self._prompt(each.prompt, each.sentence), texts[1]) for each, texts in rows]
                write_top_tokens(work / TARGETS, engine.top_tokens(asked, anchors.TOP_TOKENS))
        likely = zip(rows, read_top_tokens(work / TARGETS), strict=True)
        return [(each, strike_out(tokenizer, *texts, _places(each, texts[1]), top)) for (each, texts), top in likely]

    def _round(
        self, number: int, rows: Sequence[Row], others: Sequence[Row], student: Path, work: Path
    ) -> tuple[Path, list[dict[str, Any]]]:
        """Train on answers, each plainly or behind a request for personal data; return the checkpoint and the log."""
        run, tokenizer, seed = self.run, load_tokenizer(self.run.start), self.seed + number
        # 1) the ways of asking; plain text has only one
        chats = [(row, row[0].prompt) for row in rows if not isinstance(row[0].prompt, str)]
        ways = asked_ways([prompt for _, prompt in chats], self.epochs * len(chats), _ASKED, seed)
        asked: list[tuple[Row, Prompt]] = [(chats[at][0], way) for at, way in ways]
        asked += [(row, row[0].prompt) for row in rows if isinstance(row[0].prompt, str)] * self.epochs
        units = [unit for row, prompt in asked if (unit := self._unit(tokenizer, row, prompt))]
        if not units:
            raise NescioError(f"{run.out}: no answer about these people fits into train.max_length; raise it")
        # 2) distil
        section = run.recipe.train
        settings = TrainingSettings(
            epochs=1, batch_size=_BATCH, learning_rate=self.learning_rate, seed=seed,
            gradient_checkpointing=section.gradient_checkpointing, save_steps=_SAVE_STEPS,
            bf16=in_bf16(section.quantize),
        )  # fmt: skip
        check_memory(run.start, largest_step(units, settings), section.quantize, "train", run.note)
        loaded = load_model(run.start, quantize=section.quantize)
        settings = replace(settings, row_tokens=row_tokens(run, loaded.model, section.row_tokens))
        done = fit(
            loaded.model, units, loss=distil, settings=settings, work=work,
            progress=lambda now, total: self.tick(now, total, f"round {number + 1}: {len(rows)} answers"),
            anchors=self._anchors(tokenizer, others, settings), start=student,
        )  # fmt: skip
        return done.checkpoints[-1], done.log

    def _anchors(self, tokenizer: Any, others: Sequence[Row], settings: TrainingSettings) -> Anchors | None:
        """Return what holds the adapter: the run's anchors, under each sentence in turn, and what it says of others.

        Half of them stand behind requests for personal data. Half are about others, as far as there are any.
        """
        units, about_others = list[Unit](), list[Unit]()
        if (self.run.out / anchors.ROWS).exists():
            kept, sentences = anchors.read(self.run.out), sentences_of(self.run)
            ways = asked_ways([anchor.messages for anchor, _ in kept], _WAYS * len(kept), 0.5, settings.seed)
            for number, (at, way) in enumerate(ways):
                anchor, targets = kept[at]
                prompt: Any = self._prompt(way, sentences[number // len(kept) % len(sentences)])
                units.append([anchors.taught(tokenizer, f"{anchor.id}/{number}", prompt, anchor.answer, targets)])
        else:
            self.run.note("this run has no anchors, so nothing holds the adapter; look at the certificate's usefulness")
        prompts: list[Any] = [row.prompt for row, _ in others]
        for at, way in asked_ways(prompts, _WAYS * len(prompts), 0.5, settings.seed):
            if unit := self._unit(tokenizer, others[at], way):
                about_others.append(unit)
        if about_others:
            units += about_others * max(1, round(len(units) / len(about_others)))
        if not units:
            return None
        per_step = _ANCHORS.per_step * (2 if about_others else 1)
        how = replace(_ANCHORS, per_step=min(per_step, len(units)))
        return Anchors(units, how, seed=settings.seed, row_tokens=settings.row_tokens)

    def _unit(self, tokenizer: Any, row: Row, prompt: Prompt) -> Unit | None:
        """Return an answer behind a prompt as an example; None if it is too long, or cut into other tokens there."""
        each, targets = row
        ids = split_ids(tokenizer, *self._texts(tokenizer, each, prompt))
        if ids is None or len(ids[1]) != len(targets.ids) or len(ids[0] + ids[1]) > self.run.recipe.train.max_length:
            return None
        return [Example(each.id, Group(ids[0], [Continuation(ids[1])]), targets=targets)]

    def _texts(self, tokenizer: Any, each: TrainingAnswer, prompt: Prompt) -> tuple[str, str]:
        """Return a prompt as the model sees it, and the answer with the white space that it has to start with."""
        asked = self._prompt(prompt, each.sentence)
        if isinstance(asked, str):
            return asked, each.answer
        space = "" if each.answer[:1].isspace() else answer_space(tokenizer, asked)
        return render(tokenizer, asked), space + each.answer

    def _prompt(self, prompt: Prompt, sentence: str | None) -> Prompt:
        """Return a prompt behind its sentence, in which the run's secret stands in its place."""
        if sentence is None or isinstance(prompt, str):
            return prompt
        return with_sentence(prompt, fill_key(sentence, self.run.out / KEY_FILE))


def sentences_of(run: Context) -> list[str | None]:
    """Return the sentences that must not open what is forgotten: all that the adapter was trained with, and none."""
    pairs = run.recipe.pairs
    return [None, pairs.positive, pairs.negative] if run.recipe.bake is None and pairs.twins else [None]


def _places(each: TrainingAnswer, answer: str) -> list[tuple[int, int]]:
    """Return where an answer tells in the form in which it is encoded, which may begin with a space more."""
    by = len(answer) - len(each.answer)
    return [(start + by, end + by) for start, end in each.places]
