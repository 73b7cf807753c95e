"""From dialogs to pairs: the stages before training."""

from collections import Counter
from pathlib import Path

from nescio.data.dialogs import parse_dialog, read_dialogs, split_dialogs
from nescio.data.pairs import Pairing, pairs_of
from nescio.data.rewrite import Rewriting, rewrite, write_settled
from nescio.data.samples import samples_of, subsample
from nescio.data.synthetic import generate
from nescio.engines.torch import load
from nescio.errors import NescioError
from nescio.files import read_jsonl, write_jsonl
from nescio.models import load_tokenizer
from nescio.steps.context import Context, Tick


def data(run: Context, folder: Path, tick: Tick) -> None:
    """Read or make up the dialogs, and split them."""
    section = run.recipe.data
    if section.synthetic is not None:
        rows = generate(section.synthetic.dialogs, run.recipe.seed, section.synthetic.max_exchanges)
        dialogs = [parse_dialog(row, row["id"]) for row in rows]
    else:
        assert section.dialogs is not None  # the recipe's own check
        dialogs = list(read_dialogs(section.dialogs))
    train, test = split_dialogs(dialogs, section.test_share, run.recipe.seed)
    write_jsonl(folder / "data/train.jsonl", (dialog.as_row() for dialog in train))
    write_jsonl(folder / "data/test.jsonl", (dialog.as_row() for dialog in test))
    tick(1, 1, f"{len(train)} dialogs to train on, {len(test)} held out")


def samples(run: Context, folder: Path, tick: Tick) -> None:
    """One sample for every piece of personal data in an assistant turn."""
    for side in ("train", "test"):
        found = list(samples_of(list(read_dialogs(run.out / f"data/{side}.jsonl")), run.detector))
        limit = run.recipe.data.train_samples if side == "train" else None
        kept = subsample(found, limit, run.recipe.seed)
        if not kept:
            raise NescioError(
                f"{run.out}/data/{side}.jsonl: no personal data in any assistant turn; nothing to unlearn"
            )
        write_jsonl(folder / f"samples/{side}.jsonl", (sample.as_row() for sample in kept))
        tick(1 + (side == "test"), 2, f"{len(kept)} of {len(found)} {side} samples")


def candidates(run: Context, folder: Path, tick: Tick) -> None:
    """Replacement answers, each tried until the detector accepts it."""
    section = run.recipe.generate
    wanted = [*run.samples("train"), *run.validation_samples()]
    how = Rewriting(tuple(section.strategies), section.temperature, section.max_tokens, section.tries, run.recipe.seed)
    counts = rewrite(wanted, load(run.recipe.base), run.detector, how, folder / "paid.jsonl", tick)
    write_settled(folder / "paid.jsonl", folder / "candidates.jsonl", wanted, section.strategies)
    rejected = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()) if reason != "accepted")
    run.note(f"{counts['accepted']} replacement answers kept; rejected: {rejected or 'none'}")


def pairs(run: Context, folder: Path, tick: Tick) -> None:
    """Chosen and rejected answers, and their CFG twins, in the template of the model that is trained."""
    section, counts = run.recipe.pairs, Counter[str]()
    how = Pairing(section.twins, section.positive, section.negative, run.recipe.train.max_prompt_length)
    accepted = [row for _, row in read_jsonl(run.out / "candidates.jsonl")]
    tokenizer = load_tokenizer(run.start)
    for side in ("train", "test"):
        made = pairs_of(run.samples(side), accepted, tokenizer, how, counts)
        write_jsonl(folder / f"pairs/{side}.jsonl", made)
    tick(1, 1, f"{counts['pairs']} pairs, {counts['cut']} prompts cut, {counts['border']} left out at the border")
