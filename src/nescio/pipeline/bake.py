"""The stage `bake`: the teacher's guided distribution becomes the adapter's own, without a sentence or a second branch.

The student is asked plainly, and by callers who want personal data; the targets are the same. Anchors hold it to the
tuned model where nothing is personal. Distilling guidance into weights is known for images (AGD, arXiv 2503.07274).
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from nescio.core.answer_cache import AnswerCache
from nescio.core.callbacks import Tick
from nescio.core.errors import NescioError
from nescio.core.files import write_jsonl
from nescio.core.models import load_model, load_tokenizer, release
from nescio.core.text import loops
from nescio.core.top_tokens import TopTokens
from nescio.data.anchors import answer_prompts
from nescio.data.answered import Answered
from nescio.data.samples import Sample, subsample
from nescio.data.trajectories import asked_ways
from nescio.engines.base import Request
from nescio.engines.torch_engine import load_merged
from nescio.pipeline import anchors
from nescio.pipeline.bake_targets import TARGETS, TargetWriter, read_targets
from nescio.pipeline.context import Context
from nescio.pipeline.memory import check_memory
from nescio.pipeline.too_long import Asking, drop_too_long
from nescio.pipeline.train import copy_adapter, in_bf16, row_tokens
from nescio.pipeline.train_sections import ANCHOR_WAYS, BakeSection
from nescio.training.anchors import Anchors, AnchorSettings
from nescio.training.batch import Unit
from nescio.training.losses.distil import distil
from nescio.training.memory import largest_step
from nescio.training.processes import processes
from nescio.training.settings import TrainingSettings
from nescio.training.trainer import fit

LONGEST_REQUEST = 96  # tokens that a caller's words may add to a prompt
_LOOPING = 0.25  # share of the anchors up to which the student's loops are repeated
_OTHER_PROMPTS = 1_000  # added to the seed of anchors for baking alone, which else begin as the run's do
_MOST_REPEATS = 16  # of each loop: else a single one could be that whole share


def bake(run: Context, folder: Path, tick: Tick) -> None:
    """Bake the teacher's guidance into an adapter that needs no sentence and one branch."""
    section = run.recipe.bake
    assert section is not None  # the stage is there only then
    baking = Baking.of(run, section, tick).with_more_anchors(folder / "anchors")
    student, log = None, list[dict[str, Any]]()
    for number in range(section.rounds):
        student, steps = baking.round(number, student, folder / f"round-{number + 1}")
        release()
        log += [{"round": number + 1, **step} for step in steps]
    assert student is not None  # there is a round
    if processes().is_main_process:
        # Its sentence is the empty one, so that chat, server and drop-ins add none unless they are told to.
        notes = {
            "positive": "",
            "switch": None,
            "baked": {"teacher": section.teacher, "guidance": asdict(section.guidance)},
        }
        copy_adapter(run, student, folder / "adapter", run.out / "adapter", **notes)
        write_jsonl(folder / "adapter/log.jsonl", log)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baking:
    """What the rounds of a baking share.

    Attributes:
        run: The run.
        section: How it bakes.
        targets: Writes what is taught in a round.
        held: The anchors, each with the tuned model's likely tokens.
        tick: Called with progress.
    """

    run: Context
    section: BakeSection
    targets: TargetWriter
    held: list[tuple[Answered, TopTokens]]
    tick: Tick

    @classmethod
    def of(cls, run: Context, section: BakeSection, tick: Tick) -> Self:
        """Return the baking of a run, with the training samples that leave room for a caller's request."""
        (positive, negative), how = run.sentences, section.guidance
        guidance = replace(how, positive=how.positive or positive, negative=how.negative or negative)

        def longest(sample: Sample) -> Request:
            return Request(sample.messages, guidance, max_tokens=section.max_tokens + LONGEST_REQUEST)

        drawn = subsample(run.samples("train"), section.samples, run.recipe.seed)
        samples = drop_too_long(drawn, [Asking(run.start, longest)], run.note)
        targets = TargetWriter(run=run, section=section, guidance=guidance, samples=samples, tick=tick)
        return cls(run=run, section=section, targets=targets, held=anchors.read(run.out), tick=tick)

    def with_more_anchors(self, folder: Path) -> Self:
        """Return the same with the anchors that are made up for baking alone, in a folder."""
        run, count = self.run, self.section.more_anchors
        if not count:
            return self
        with processes().main_process_first():
            if not (folder / anchors.TARGETS).exists():  # written last
                anchors.make_anchors(
                    run, folder, count, self.tick, seed=run.recipe.seed + _OTHER_PROMPTS, least=1,
                    field="bake.more_anchors",
                    fix="raise bake.more_anchors or train.anchors.max_tokens, or set bake.more_anchors: 0",
                )  # fmt: skip
        return replace(self, held=self.held + anchors.read(folder))

    def round(self, number: int, student: Path | None, work: Path) -> tuple[Path, list[dict[str, Any]]]:
        """Return the checkpoint of the student after a round, and the log of its steps.

        Args:
            number: Number of the round, from 0.
            student: Adapter folder that the round starts from. None, the first round: a fresh adapter, so that what the
                teacher's training spoiled elsewhere is not carried on; the teacher answers.
            work: Folder of the round; what a killed round has left there is used.
        """
        run, section, seed = self.run, self.section, self.run.recipe.seed + number
        # 1) answers, and the teacher's likely tokens at each place of them
        with processes().main_process_first():
            if student and not (work / anchors.TARGETS).exists():  # written last
                self.write_own_anchors(student, work)
            if not (work / TARGETS).exists():
                self.targets.write(student, work)
        made = read_targets(work)
        # 2) the student's prompts: plain, and with a caller who asks for personal data; the targets are the same
        tokenizer = load_tokenizer(run.start)
        ways = asked_ways([each.messages for each, _ in made], section.epochs * len(made), section.asked, seed)
        units = answer_units(tokenizer, made, ways)
        # 3) anchors, half of them behind the same requests
        own = anchors.read(work) if student else []
        # Few of the student's own answers loop, and only these show it the way out.
        kept = self.held + own
        kept += repeated([each for each in own if loops(each[0].answer)], len(kept))
        held = asked_ways([anchor.messages for anchor, _ in kept], ANCHOR_WAYS * len(kept), 0.5, seed + 1)
        weights = AnchorSettings(
            per_step=section.anchors_per_step, weight=section.anchor_weight, place="bake.anchors_per_step"
        )
        # 4) distil, on the base in the form in which the teacher was trained
        settings = TrainingSettings(
            epochs=1, batch_size=section.batch_size, learning_rate=section.learning_rate, seed=seed,
            gradient_checkpointing=section.gradient_checkpointing, save_steps=section.save_steps,
            lora=run.recipe.train.lora.settings, bf16=in_bf16(run.recipe.train.quantize),
        )  # fmt: skip
        quantize = run.recipe.train.quantize
        check_memory(run.start, largest_step(units, settings), quantize, "bake", run.note)
        loaded = load_model(run.start, quantize=quantize)
        rows = row_tokens(run, loaded.model, section.row_tokens)
        word = f"round {number + 1} of {section.rounds}: {len(made)} trajectories, {len(kept)} anchors with repeats"
        done = fit(
            loaded.model,
            units,
            loss=distil,
            settings=replace(settings, row_tokens=rows),
            work=work / "checkpoints",
            progress=lambda now, total: self.tick(now, total, word),
            anchors=Anchors(answer_units(tokenizer, kept, held), weights, seed=seed, row_tokens=rows),
            start=student,
        )
        return done.checkpoints[-1], done.log

    def write_own_anchors(self, student: Path, folder: Path) -> None:
        """Write the student's own answers to the anchors' prompts, and the tuned model's likely tokens in them.

        So it is held to the tuned model where it goes by itself, not only where the tuned model goes.

        Raises:
            NescioError: The student answers no harmless prompt any more.
        """
        run, held, seed = self.run, self.run.recipe.train.anchors, self.run.recipe.seed
        assert held is not None  # the recipe has anchors where it bakes
        prompts = [anchor.messages for anchor, _ in self.held]
        self.tick(0, 2, f"the student answers the prompts of {len(prompts)} anchors")
        with load_merged(run.start, student, None) as engine:
            made = answer_prompts(
                engine, engine.tokenizer, prompts, max_tokens=held.max_tokens, seed=seed, tally=Counter(),
                personal_starts=anchors.starts_of_personal(run), cache=AnswerCache(folder / "anchored.jsonl", "result"),
            )  # fmt: skip
        if not made:
            raise NescioError(
                f"bake: the student answers none of {len(prompts)} harmless prompts without personal data; train its "
                "teacher at a lower train.learning_rate or with a higher train.anchors.weight, or set bake: null"
            )
        anchors.write(folder, made, run.tuned)


def repeated(looping: Sequence[Any], total: int) -> list[Any]:
    """Return the repeats with which looping anchors make up `_LOOPING` of all; `_MOST_REPEATS` of each at most.

    Args:
        looping: The anchors that loop.
        total: Number of all anchors, with these.
    """
    missing = (_LOOPING * total - len(looping)) / (1 - _LOOPING)  # m, where looping + m = _LOOPING * (total + m)
    times = math.ceil(missing / len(looping)) if looping else 0
    return [*looping] * min(max(times, 0), _MOST_REPEATS)


def answer_units(tokenizer: Any, made: list[tuple[Answered, TopTokens]], ways: Iterable[tuple[int, Any]]) -> list[Unit]:
    """Return an example for each way of asking: `(number of the answer, messages)`."""
    return [
        [anchors.taught(tokenizer, f"{made[at][0].id}/{number}", messages, made[at][0].answer, made[at][1])]
        for number, (at, messages) in enumerate(ways)
    ]
