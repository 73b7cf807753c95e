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
from nescio.core.guidance import Guidance
from nescio.core.models import load_model
from nescio.core.prompts import answer_space, render, split_ids
from nescio.core.top_tokens import TopTokens, read_top_tokens, write_top_tokens
from nescio.data.anchors import ask
from nescio.data.answered import Answered, read_answered
from nescio.data.samples import Sample, subsample
from nescio.data.trajectories import asked_ways
from nescio.engines.base import Request, Scoring
from nescio.engines.torch_engine import TorchEngine, load
from nescio.pipeline.anchors import TOP_TOKENS, read, starts_of_personal, taught
from nescio.pipeline.context import Context, Tick
from nescio.pipeline.sections import BakeSection
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
    section = run.recipe.bake
    assert section is not None  # the stage is there only then
    samples, student, log = _samples(run, section), run.out / "teacher", list[dict[str, Any]]()
    for number in range(section.rounds):
        student, steps = _round(run, section, samples, number, student, folder / f"round-{number + 1}", tick)
        log += [{"round": number + 1, **step} for step in steps]
    if processes().is_main_process:
        # Its sentence is the empty one, so that chat, server and drop-ins add none unless they are told to.
        notes = {
            "positive": "",
            "switch": None,
            "baked": {"teacher": section.teacher, "guidance": asdict(section.guidance)},
        }
        copy_adapter(run, student, folder / "adapter", run.out / "adapter", **notes)
        write_jsonl(folder / "adapter/log.jsonl", log)


def _round(
    run: Context, section: BakeSection, samples: list[Sample], number: int, student: Path, work: Path, tick: Tick
) -> tuple[Path, list[dict[str, Any]]]:
    """Return the checkpoint of the student after a round, and the log of its steps."""
    seed = run.recipe.seed + number
    # 1) answers, and the teacher's likely tokens at each place of them
    with processes().main_process_first():
        if not (work / TARGETS).exists():  # written last
            write_trajectories(run, section, samples, student if number else None, work, tick)
    made = list(zip(read_answered(work / ROWS, "a trajectory"), read_top_tokens(work / TARGETS), strict=True))
    # 2) the student's prompts: plain ones, and ones in which a caller asks for personal data; the targets are the same
    loaded = load_model(run.start)
    rows = row_tokens(run, loaded.model, section.row_tokens)
    units = _units(loaded.tokenizer, made, section.epochs * len(made), section.asked, seed)
    # 3) anchors, half of them behind the same requests
    kept = read(run.out)
    held = _units(loaded.tokenizer, kept, 4 * len(kept), 0.5, seed + 1)
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
        work=work / "checkpoints",
        progress=lambda now, total: tick(
            now, total, f"round {number + 1} of {section.rounds}: {len(made)} trajectories, {len(kept)} anchors"
        ),
        anchors=Anchors(held, weights, seed=seed, row_tokens=rows),
        start=student,
    )  # fmt: skip
    return done.checkpoints[-1], done.log


def _units(tokenizer: Any, made: list[tuple[Answered, TopTokens]], count: int, asked: float, seed: int) -> list[Unit]:
    """Return examples of answers with targets; in a share of their prompts a caller asks for personal data."""
    ways = asked_ways([each.messages for each, _ in made], count, asked, seed)
    return [
        [taught(tokenizer, f"{made[at][0].id}/{number}", messages, made[at][0].answer, made[at][1])]
        for number, (at, messages) in enumerate(ways)
    ]


def _samples(run: Context, section: BakeSection) -> list[Sample]:
    """Return the training samples that the teacher answers: those that leave room for a caller's request."""
    guidance = _guidance(run, section)

    def longest(sample: Sample) -> Request:
        return Request(sample.messages, guidance, max_tokens=section.max_tokens + _LONGEST_REQUEST)

    drawn = subsample(run.samples("train"), section.samples, run.recipe.seed)
    return drop_too_long(drawn, [Asking(run.start, longest)], run.note)


def write_trajectories(
    run: Context, section: BakeSection, samples: list[Sample], student: Path | None, folder: Path, tick: Tick
) -> None:
    """Write answers to the samples, and the teacher's likely tokens at each place of them.

    The teacher's own answers at first, then the student's, plainly and where a caller asks: what the student says
    itself is where it has to know what the teacher would have said (on-policy distillation, arXiv 2306.13649).
    """
    seed = run.recipe.seed
    guidance = _guidance(run, section)
    conversations = [sample.messages for sample in samples]
    # 1) greedy answers, and sampled ones
    if student is None:
        ways = [(at, messages) for _ in range(section.draws) for at, messages in enumerate(conversations)]
    else:
        ways = list(asked_ways(conversations, section.draws * len(samples), section.asked, seed + 2))
    requests = [
        Request(
            messages, None if student else guidance, max_tokens=section.max_tokens,
            temperature=float(number >= len(samples)), seed=seed + number,
        )
        for number, (_, messages) in enumerate(ways)
    ]  # fmt: skip
    who = "teacher" if student is None else "student"
    tick(0, 2, f"the {who} gives {len(requests)} answers")
    with load(run.start, student) if student else _teacher(run, section) as engine:
        answers = ask(engine, requests, AnswerCache(folder / "asked.jsonl", "result"))
        tokenizer = engine.tokenizer
    # 2) kept up to what is personal, and what is cut into the same tokens without a sentence
    end, made, personal = turn_end(tokenizer), list[Answered](), 0
    starts = starts_of_personal(run)([text for text, _ in answers])
    for number, ((at, _), (text, finish), start) in enumerate(zip(ways, answers, starts, strict=True)):
        messages: Any = conversations[at]
        # One character of what is personal: the last target stands where the teacher says something else instead.
        kept = text + (end if finish == "stop" else "") if start is None else text[: start + 1]
        whole = answer_space(tokenizer, messages) + kept
        apart = split_ids(tokenizer, render(tokenizer, messages), whole)
        personal += start is not None
        if text.strip() and apart is not None and (start is None or student):
            made.append(Answered(id=f"{samples[at].id}#{number // len(samples)}", messages=messages, answer=whole))
    if not made:
        raise NescioError(
            f"bake: none of the {who}'s {len(answers)} answers is free of personal data; raise "
            "bake.guidance.scale, train longer, or set bake: null"
        )
    run.note(f"{len(made)} of the {who}'s {len(answers)} answers are baked in; {personal} held personal data")
    # 3) the teacher's guided distribution, at each token
    tick(1, 2, "the teacher's likely tokens")
    with _teacher(run, section) as teacher:
        targets = teacher.top_tokens([Scoring(each.messages, each.answer, guidance) for each in made], TOP_TOKENS)
    write_jsonl(folder / ROWS, map(asdict, made))
    write_top_tokens(folder / TARGETS, targets)


def _guidance(run: Context, section: BakeSection) -> Guidance:
    (positive, negative), how = run.sentences, section.guidance
    return replace(how, positive=how.positive or positive, negative=how.negative or negative)


def _teacher(run: Context, section: BakeSection) -> TorchEngine:
    return load(run.tuned) if section.teacher == "tuned" else load(run.start, run.out / "teacher")
