"""The stage `bake`: the teacher's guided distribution becomes the adapter's own, without a sentence or a second branch.

The student is asked plainly, and by callers who want personal data; the targets are the same. Anchors hold it to the
tuned model where nothing is personal. Distilling guidance into weights is known for images (AGD, arXiv 2503.07274).
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nescio.core.answer_cache import AnswerCache
from nescio.core.end_tokens import turn_end
from nescio.core.errors import NescioError
from nescio.core.files import write_jsonl
from nescio.core.models import load_model
from nescio.core.prompts import answer_space, render, split_ids
from nescio.core.top_tokens import read_top_tokens, write_top_tokens
from nescio.data.anchors import ask
from nescio.data.answered import Answered, read_answered
from nescio.data.samples import Sample, subsample
from nescio.data.trajectories import asked_ways
from nescio.engines.base import Request, Scoring
from nescio.engines.torch_engine import load
from nescio.pipeline.anchors import TOP_TOKENS, read, starts_of_personal, taught
from nescio.pipeline.context import Context, Tick
from nescio.pipeline.too_long import Asking, drop_too_long
from nescio.pipeline.train import copy_adapter, row_tokens
from nescio.training.anchors import Anchors, AnchorSettings
from nescio.training.batch import Unit
from nescio.training.losses.distil import distil
from nescio.training.processes import processes
from nescio.training.settings import TrainingSettings
from nescio.training.trainer import fit

_LONGEST_REQUEST = 96  # tokens that a caller's words may add to a prompt
ROWS, TARGETS = "trajectories.jsonl", "trajectories.safetensors"


def bake(run: Context, folder: Path, tick: Tick) -> None:
    """Bake the teacher's guidance into an adapter that needs no sentence and one branch."""
    section, seed = run.recipe.bake, run.recipe.seed
    assert section is not None  # the stage is there only then
    # 1) the teacher answers the training samples, guided
    with processes().main_process_first():
        if not (folder / TARGETS).exists():  # written last
            _teach(run, folder, tick)
    made = list(zip(read_answered(folder / ROWS, "a trajectory"), read_top_tokens(folder / TARGETS), strict=True))
    # 2) the student's prompts: plain ones, and ones in which a caller asks for personal data; the targets are the same
    loaded = load_model(run.start)
    rows = row_tokens(run, loaded.model, section.row_tokens)
    ways = asked_ways([each.messages for each, _ in made], section.epochs * len(made), section.asked, seed)
    units: list[Unit] = [
        [taught(loaded.tokenizer, f"{made[at][0].id}/{number}", messages, made[at][0].answer, made[at][1])]
        for number, (at, messages) in enumerate(ways)
    ]
    # 3) anchors, half of them behind the same requests
    kept = read(run.out)
    ways = asked_ways([anchor.messages for anchor, _ in kept], 4 * len(kept), 0.5, seed + 1)
    held: list[Unit] = [
        [taught(loaded.tokenizer, f"{kept[at][0].id}/{number}", messages, kept[at][0].answer, kept[at][1])]
        for number, (at, messages) in enumerate(ways)
    ]
    weights = AnchorSettings(per_step=section.anchors_per_step, weight=section.anchor_weight)
    # 4) distil
    done = fit(
        loaded.model,
        units,
        loss=distil,
        settings=TrainingSettings(
            epochs=1, batch_size=section.batch_size, learning_rate=section.learning_rate, seed=seed, row_tokens=rows,
            gradient_checkpointing=section.gradient_checkpointing, save_steps=section.save_steps,
        ),
        work=folder / "checkpoints",
        progress=lambda now, total: tick(now, total, f"{len(made)} trajectories, {len(kept)} anchors"),
        anchors=Anchors(held, weights, seed=seed, row_tokens=rows),
        start=run.out / "teacher",
    )  # fmt: skip
    # 5) write the adapter, plain PEFT
    if processes().is_main_process:
        # Its sentence is the empty one, so that chat, server and drop-ins add none unless they are told to.
        notes = {
            "positive": "",
            "switch": None,
            "baked": {"teacher": section.teacher, "guidance": asdict(section.guidance)},
        }
        copy_adapter(run, done.checkpoints[-1], folder / "adapter", run.out / "adapter", **notes)
        write_jsonl(folder / "adapter/log.jsonl", done.log)


def _teach(run: Context, folder: Path, tick: Tick) -> None:
    """Write the teacher's guided answers and its likely tokens at each place of them."""
    section, seed = run.recipe.bake, run.recipe.seed
    assert section is not None
    positive, negative = run.sentences
    how = section.guidance
    guidance = replace(how, positive=how.positive or positive, negative=how.negative or negative)
    drawn = subsample(run.samples("train"), section.samples, seed)

    def longest(sample: Sample) -> Request:
        return Request(sample.messages, guidance, max_tokens=section.max_tokens + _LONGEST_REQUEST)

    samples = drop_too_long(drawn, [Asking(run.start, longest)], run.note)
    # 1) greedy answers, and sampled ones
    asked = [
        Request(sample.messages, guidance, max_tokens=section.max_tokens, temperature=min(draw, 1.0), seed=seed + draw)
        for draw in range(section.draws)
        for sample in samples
    ]
    names = [f"{sample.id}#{draw}" for draw in range(section.draws) for sample in samples]
    teacher = load(run.tuned) if section.teacher == "tuned" else load(run.start, run.out / "teacher")
    with teacher:
        tick(0, 2, f"the teacher gives {len(asked)} answers")
        answers = ask(teacher, asked, AnswerCache(folder / "asked.jsonl", "result"))
        # 2) only what is free of personal data is learned, and what is cut into the same tokens without a sentence
        end, starts = turn_end(teacher.tokenizer), starts_of_personal(run)([text for text, _ in answers])
        made = []
        for name, request, (text, finish), start in zip(names, asked, answers, starts, strict=True):
            messages: Any = request.prompt
            whole = answer_space(teacher.tokenizer, messages) + text + (end if finish == "stop" else "")
            apart = split_ids(teacher.tokenizer, render(teacher.tokenizer, messages), whole)
            if text.strip() and start is None and apart is not None:
                made.append(Answered(id=name, messages=messages, answer=whole))
        if not made:
            raise NescioError(
                f"bake: none of the teacher's {len(asked)} answers is free of personal data; raise "
                "bake.guidance.scale, train longer, or set bake: null"
            )
        run.note(f"{len(made)} of the teacher's {len(asked)} answers are free of personal data and are baked in")
        # 3) its guided distribution, at each token
        tick(1, 2, "the teacher's likely tokens")
        targets = teacher.top_tokens([Scoring(each.messages, each.answer, guidance) for each in made], TOP_TOKENS)
    write_jsonl(folder / ROWS, map(asdict, made))
    write_top_tokens(folder / TARGETS, targets)
