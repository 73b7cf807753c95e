"""What a student is taught in baking: answers to the samples, and the teacher's likely tokens at each place of them."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nescio.audit.people import fact_of
from nescio.core.answer_cache import AnswerCache
from nescio.core.callbacks import Tick
from nescio.core.end_tokens import turn_end
from nescio.core.errors import NescioError
from nescio.core.files import write_jsonl
from nescio.core.guidance import Guidance
from nescio.core.models import load_tokenizer
from nescio.core.prompts import Message, answer_space, render, split_ids
from nescio.core.strike_out import strike_out
from nescio.core.text import loops, occurrences
from nescio.core.top_tokens import TopTokens, read_top_tokens, write_top_tokens
from nescio.data.anchors import ask, first_personal
from nescio.data.answered import Answered, read_answered
from nescio.data.samples import Sample
from nescio.data.trajectories import asked_ways
from nescio.engines.base import Precision, Request, Scoring
from nescio.engines.torch_engine import TorchEngine, load, load_merged
from nescio.pipeline import anchors
from nescio.pipeline.context import Context
from nescio.pipeline.forget_form import Endings, shared_endings, without_ending
from nescio.pipeline.train_sections import BakeSection

ROWS, TARGETS = "trajectories.jsonl", "trajectories.safetensors"

KNOWN = 0.01
"""Probability from which on the model knows a value by heart: every hundredth sampled answer says it."""

Place = tuple[int, int]
"""Where an answer says something: start and end."""

Marked = tuple[Answered, list[Place]]
"""An answer, and where it says what is to be struck out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetWriter:
    """Answers with the teacher's targets, made once for each round.

    Attributes:
        run: The run.
        section: How it bakes.
        guidance: The teacher's, with its sentences.
        samples: Training samples that are answered.
        tick: Called with progress.
    """

    run: Context
    section: BakeSection
    guidance: Guidance
    samples: Sequence[Sample]
    tick: Tick

    def write(self, student: Path | None, folder: Path) -> None:
        """Write answers to the samples, and the teacher's likely tokens at each place of them.

        Args:
            student: Adapter folder of the student, which answers; None: the teacher does.
            folder: Where to write.

        Raises:
            NescioError: None of the answers is of use.
        """
        tokenizer = load_tokenizer(self.run.start)
        if self.section.strike_out and not tokenizer.is_fast:
            raise NescioError(
                f"bake.strike_out: {self.run.start}: its tokenizer does not tell where its tokens stand; save a fast "
                "one, tokenizer.json, or set bake.strike_out: false"
            )
        # 1) answers, and where they say what is personal
        endings = shared_endings(fact_of(sample, {}) for sample in self.samples)
        recorded = self._recorded(tokenizer, endings) if self.section.strike_out else []
        made = self._answered(tokenizer, student, folder, endings, recorded) + recorded
        # 2) the teacher's guided distribution at each token
        self.tick(1, 2, "the teacher's likely tokens")
        with self._teacher() as teacher:
            hows = (self.guidance, replace(self.guidance, scale=1.0))
            asked = [Scoring(each.messages, each.answer, how) for how in hows for each, _ in made]
            likely = teacher.top_tokens(asked, anchors.TOP_TOKENS)
            guided, alone = likely[: len(made)], likely[len(made) :]
        # 3) An end gives nothing away. Where the negative branch is surer of it, guidance alone would go in circles.
        end = tokenizer.convert_tokens_to_ids(turn_end(tokenizer))
        targets = [own.ending_as(other, end) for own, other in zip(guided, alone, strict=True)]
        # 4) The teacher itself may still say what was memorised; where guidance leaves nothing else, it speaks alone.
        struck = [
            strike_out(tokenizer, render(tokenizer, each.messages), each.answer, places, top, other) if places else top
            for (each, places), top, other in zip(made, targets, alone, strict=True)
        ]
        write_jsonl(folder / ROWS, (asdict(each) for each, _ in made))
        write_top_tokens(folder / TARGETS, struck)

    def _answered(
        self, tokenizer: Any, student: Path | None, folder: Path, endings: Endings, others: Sequence[Marked]
    ) -> list[Marked]:
        """Return answers to the samples, cut where they become personal.

        The student's own answers are where it has to know what the teacher would have said (on-policy distillation,
        arXiv 2306.13649). It answers plainly and where a caller asks; the teacher answers guided.

        Raises:
            NescioError: None of the answers is of use, and there are no others.
        """
        run, section, seed = self.run, self.section, self.run.recipe.seed
        conversations = [sample.messages for sample in self.samples]
        # 1) greedy answers, and sampled ones; one sample's stand together, so that its prompt is computed once
        ways = [(at, messages) for _ in range(section.draws) for at, messages in enumerate(conversations)]
        if student:
            ways = list(asked_ways(conversations, len(ways), section.asked, seed + 2))
        numbered = sorted(enumerate(ways), key=lambda way: way[1][0])
        requests = [
            Request(
                messages, None if student else self.guidance, max_tokens=section.max_tokens,
                temperature=float(number >= len(conversations)), seed=seed + number,
            )
            for number, (_, messages) in numbered
        ]  # fmt: skip
        who = "student" if student else "teacher"
        self.tick(0, 2, f"the {who} gives {len(requests)} answers")
        engine = load_merged(run.start, student, None) if student else self._teacher(None)
        with engine:
            answers = ask(engine, requests, AnswerCache(folder / "asked.jsonl", "result"))
        # 2) kept up to what is personal, and what is cut into the same tokens without a sentence
        end, made, personal, looping = turn_end(tokenizer), list[Marked](), 0, 0
        beginnings = [self.samples[at].beginning for _, (at, _) in numbered]
        recorded = anchors.recorded(run)
        starts = first_personal(run.detector, recorded)([text for text, _ in answers], beginnings)
        for (number, (at, _)), (text, finish), start in zip(numbered, answers, starts, strict=True):
            messages: Any = conversations[at]
            space, kept, struck = answer_space(tokenizer, messages), text + (end if finish == "stop" else ""), []
            if start is not None:
                # One character of what is personal: the last target stands where the teacher says something else
                # instead. What is recorded it may say itself, so that is kept whole, and struck out.
                said = [place for place in recorded.places(text) if section.strike_out and place[0] == start]
                secret = [(first, last) for first, last in said if not _says(messages, text[first:last])]
                kept = text[: max((last for _, last in secret), default=start + 1)]
                struck = [_own(space + kept, (len(space) + start, len(space) + last), endings) for _, last in secret]
            whole = space + kept
            apart = split_ids(tokenizer, render(tokenizer, messages), whole)
            personal += start is not None
            looping += (is_loop := loops(text))
            if text.strip() and apart is not None and (student or (start is None and not is_loop)):
                name = f"{self.samples[at].id}#{number // len(conversations)}"
                made.append((Answered(id=name, messages=messages, answer=whole), struck))
        if not (made or others):
            raise NescioError(
                f"bake: none of the {who}'s {len(answers)} answers can be baked in: {personal} held personal data, "
                f"{looping} looped; raise bake.guidance.scale, train longer, or set bake: null"
            )
        found = f"{personal} held personal data, {looping} looped"
        run.note(f"{len(made)} of the {who}'s {len(answers)} answers are baked in; {found}")
        return made

    def _recorded(self, tokenizer: Any, endings: Endings) -> list[Marked]:
        """Return the dialogs' answers that the model knows by heart, up to the end of the personal data.

        What it would hardly say needs no lesson, and what the conversation has said already gives nothing away.
        """
        found = list[tuple[Answered, Place]]()
        for sample in self.samples:
            before = sample.rejected[: len(sample.rejected) - len(sample.rejected.lstrip())]
            start = before or answer_space(tokenizer, sample.messages)
            answer = start + sample.value
            apart = split_ids(tokenizer, render(tokenizer, sample.messages), answer)
            if apart is not None and not _says(sample.messages, sample.value):
                whole = Answered(id=f"{sample.id}#recorded", messages=sample.messages, answer=answer)
                found.append((whole, (len(start), len(answer))))
        with load(self.run.start) as engine:
            scores = engine.score_batch([Scoring(each.messages, each.answer) for each, _ in found])
        made = [
            (each, [_own(each.answer, place, endings)])
            for (each, place), score in zip(found, scores, strict=True)
            if math.exp(sum(score)) >= KNOWN
        ]
        self.run.note(f"{len(made)} of the dialogs' {len(self.samples)} own answers are known by heart, and struck out")
        return made

    def _teacher(self, precision: Precision | None = "full") -> TorchEngine:
        run = self.run
        if self.section.teacher == "tuned":
            return load(run.tuned, precision=precision)
        return load_merged(run.start, run.out / "teacher", precision)


def _says(messages: Sequence[Message], value: str) -> bool:
    return bool(occurrences("\n".join(message["content"] for message in messages), value, ignore_case=True))


def _own(answer: str, place: Place, endings: Endings) -> Place:
    """Return where an answer says what is the person's own: how most pieces of a kind end is form."""
    return min((without_ending(answer, place, kind, endings) for kind in endings), default=place)


def read_targets(folder: Path) -> list[tuple[Answered, TopTokens]]:
    """Read what `TargetWriter.write` wrote."""
    return list(zip(read_answered(folder / ROWS, "a trajectory"), read_top_tokens(folder / TARGETS), strict=True))
