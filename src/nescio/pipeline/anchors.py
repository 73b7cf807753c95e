"""The stage `anchors`: harmless prompts that the base makes up, the tuned model's answers, and its likely tokens."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nescio.core.answer_cache import AnswerCache
from nescio.core.callbacks import Tick
from nescio.core.errors import NescioError
from nescio.core.files import write_jsonl
from nescio.core.prompts import Message, render, split_ids, with_sentence
from nescio.core.shared_prefix import Continuation, Group
from nescio.core.text import loops
from nescio.core.top_tokens import TopTokens, read_top_tokens, write_top_tokens
from nescio.data.anchors import PersonalStarts, Recorded, answer_prompts, first_personal, make_up_prompts
from nescio.data.answered import Answered, read_answered
from nescio.data.read_dialogs import read_dialogs
from nescio.engines.base import Scoring
from nescio.engines.torch_engine import load
from nescio.pipeline.context import Context
from nescio.training.batch import Example, Unit

TOP_TOKENS = 64
ROWS, TARGETS = "anchors.jsonl", "anchors.safetensors"


def anchors(run: Context, folder: Path, tick: Tick) -> None:
    """Make the run's anchors: prompts of the base, answers of the tuned model, and its likeliest tokens."""
    section = run.recipe.train.anchors
    assert section is not None  # the stage is there only then
    fix = "raise train.anchors.count or max_tokens, or set train.anchors: null"
    make_anchors(
        run, folder, section.count, tick, seed=run.recipe.seed, least=max(section.per_step, 1), field="train.anchors",
        fix=fix,
    )  # fmt: skip


def make_anchors(
    run: Context, folder: Path, count: int, tick: Tick, *, seed: int, least: int, field: str, fix: str
) -> None:
    """Make anchors in a folder: prompts, answers, and the tuned model's 64 likeliest tokens at each place of them.

    Args:
        run: The run; its `train.anchors` says how long prompts and answers are.
        folder: Where to write. What a killed run has left there is used.
        count: Prompts that the base makes up.
        tick: Called with progress.
        seed: Seed of the sampling.
        least: Fewest usable anchors.
        field: Recipe key, for messages.
        fix: What to change if too few are usable.

    Raises:
        NescioError: Too few of them are usable.
    """
    section = run.recipe.train.anchors
    assert section is not None  # no anchors without this section
    tally, cache = Counter[str](), AnswerCache(folder / "asked.jsonl", "result")
    # 1) nothing that the detector finds, and no value of the training dialogs
    personal_starts = starts_of_personal(run)
    # 2) the base makes prompts up
    tick(0, 3, f"{run.recipe.base} makes up prompts")
    with load(run.recipe.base, precision=None) as base:
        prompts = list(
            make_up_prompts(
                base, base.tokenizer, count, max_tokens=section.max_tokens, seed=seed,
                personal_starts=personal_starts, cache=cache, tally=tally,
            )
        )  # fmt: skip
    # 3) the tuned model answers
    tick(1, 3, f"the tuned model answers {len(prompts)} prompts")
    with load(run.tuned, precision=None) as tuned:
        made = answer_prompts(
            tuned, tuned.tokenizer, [[Message(role="user", content=prompt)] for prompt in prompts],
            max_tokens=section.max_tokens, seed=seed, personal_starts=personal_starts, cache=cache, tally=tally,
        )  # fmt: skip
    counts = ", ".join(f"{number} {what}" for what, number in tally.items())
    if len(made) < least:
        raise NescioError(f"{field}: {len(made)} usable of {count} wanted ({counts}); {fix}")
    # 4) its likely tokens, for the adapter to be held to
    tick(2, 3, "the tuned model's likely tokens")
    write(folder, made, run.tuned)
    run.note(f"{field}: {len(made)} anchors ({counts})")


def write(folder: Path, made: Sequence[Answered], model: str) -> None:
    """Write anchors, and a model's likely tokens at each place of their answers."""
    with load(model) as tuned:
        targets = tuned.top_tokens([Scoring(anchor.messages, anchor.answer) for anchor in made], TOP_TOKENS)
    write_jsonl(folder / ROWS, map(asdict, made))
    write_top_tokens(folder / TARGETS, targets)


def starts_of_personal(run: Context) -> PersonalStarts:
    """Return the check that no model is held to, or taught, what is personal: for the detector, or as recorded."""
    return first_personal(run.detector, recorded(run))


def recorded(run: Context) -> Recorded:
    """Return the personal data of the training samples, and what is recorded of the training dialogs."""
    values = {sample.value for sample in run.samples("train")}
    values |= {value for dialog in read_dialogs(run.out / "data/train.jsonl") for value in (dialog.pii or {}).values()}
    return Recorded(values)


def read(folder: Path) -> list[tuple[Answered, TopTokens]]:
    """Read the anchors of a folder, each with the tuned model's likely tokens."""
    return list(zip(read_answered(folder / ROWS, "an anchor"), read_top_tokens(folder / TARGETS), strict=True))


def anchor_units(tokenizer: Any, made: list[tuple[Answered, TopTokens]], sentences: list[str | None]) -> list[Unit]:
    """Return a unit for each anchor under each sentence: all of an anchor have the same targets.

    So both branches agree where nothing is personal, and guidance changes nothing there. They are apart, so that a step
    holds as many different anchors as it pays for.
    """
    return [
        [taught(tokenizer, f"{anchor.id}/{number}", with_sentence(anchor.messages, sentence), anchor.answer, top)]
        for number, sentence in enumerate(sentences)
        for anchor, top in made
    ]


def taught(tokenizer: Any, name: str, messages: list[Any], answer: str, targets: TopTokens) -> Example:
    """Return an example of one answer whose tokens have a teacher's targets.

    Raises:
        NescioError: The answer has other tokens behind this prompt than the teacher saw.
    """
    ids = split_ids(tokenizer, render(tokenizer, messages), answer)
    if ids is None or len(ids[1]) != len(targets.ids):
        raise NescioError(f"{name}: its answer is cut into other tokens behind this prompt; leave this prompt out")
    # Held to what a model foresees inside a loop, a student learns to loop: in its own answers it goes there.
    targets = targets.without_repeats(ids[1]) if loops(answer) else targets
    return Example(name, Group(ids[0], [Continuation(ids[1])]), targets=targets)
