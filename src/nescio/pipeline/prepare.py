"""The stages before training: dialogs, samples, replacement answers, pairs."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nescio.core.answer_cache import AnswerCache
from nescio.core.callbacks import Tick
from nescio.core.errors import NescioError
from nescio.core.files import Refuse, SetAside, read_jsonl, stop, write_json, write_jsonl
from nescio.core.model_source import identity
from nescio.core.models import load_tokenizer
from nescio.core.prompts import has_system_role
from nescio.core.switch import KEY_FILE, KEY_PLACEHOLDER, LONGEST_KEY, draw_key, write_key
from nescio.data.best import mark_best
from nescio.data.card import write_card
from nescio.data.conversations import Conversations
from nescio.data.dialogs import Dialog, held_out, parse_dialog
from nescio.data.filter import REMEDIES
from nescio.data.pairs import Pairing, pairs_of, read_candidates, rewordings
from nescio.data.read_dialogs import read_dialogs
from nescio.data.rewrite import Rewriting, Source, rewrite
from nescio.data.samples import Sample, SampleFile, write_samples
from nescio.data.selection import Selection, write_selected
from nescio.data.strategies import STRATEGIES
from nescio.data.synthetic import generate
from nescio.engines.decode.cpu_linear import is_faster_in_bf16
from nescio.engines.registry import open_engine
from nescio.engines.torch_engine import load
from nescio.pipeline.context import Context
from nescio.pipeline.recipe import Recipe
from nescio.pipeline.sections import SourceSection
from nescio.pipeline.too_long import drop_too_long, of_sources

_PREFIX_TOKENS = 1 << 14  # cached tokens: a prompt whose answer is rejected is soon asked again
_LEFT_OUT = {
    "duplicates": "duplicates", "border": "with a token over the border", "unselected": "by the selection",
    "canned": "that begin like others",
    "too_long": "too long",
}  # fmt: skip


def data(run: Context, folder: Path, tick: Tick) -> None:
    """Read or generate the dialogs, and split them; few are in memory at a time. Copies never stand on both sides."""
    section, every = run.recipe.data, folder / "dialogs.jsonl"
    train, test = (folder / f"data/{side}.jsonl" for side in ("train", "test"))
    aside = SetAside(folder / "data/bad.jsonl") if section.skip_bad else None
    refuse: Refuse = aside or stop
    # 1) Hold out the dialogs of a test file, each conversation once.
    known, tested, given = Conversations(), Conversations(), 0
    if section.test:
        write_jsonl(test, (dialog.as_row() for dialog in tested.new(read_dialogs(section.test, refuse=refuse))))
        if not tested:
            raise NescioError(f"data.test: {section.test}: no dialog can be read; give a file of dialogs")
    # 2) Number the conversations of all other dialogs.
    numbers = list[int]()

    def others() -> Iterator[dict[str, Any]]:
        nonlocal given
        for dialog in dialogs_of(run.recipe, refuse):
            given += 1
            if dialog.messages not in tested:
                numbers.append(known.number(dialog.messages))
                yield dialog.as_row()

    write_jsonl(every, others())
    if aside is not None:
        run.note(f"{aside.count} bad rows were left out; they are in data/bad.jsonl")
    # 3) Draw conversations. All copies of one are on its side; a held-out one is asked, and counted, once.
    drawn = set[int]() if section.test else held_out(len(known), section.test_share, run.recipe.seed)
    if not numbers:
        raise NescioError(
            f"{section.dialogs}: no dialog is left to train on ({given} of {given} stand in data.test too); give others"
        )
    trained = write_jsonl(
        train, (row for number, row in zip(numbers, _rows(every), strict=True) if number not in drawn)
    )
    if not section.test:
        first = {number: place for place, number in reversed(list(enumerate(numbers)))}
        held = {first[number] for number in drawn}
        write_jsonl(test, (row for place, row in enumerate(_rows(every)) if place in held))
    # 4) Say what was met.
    if copies := known.copies + tested.copies:
        run.note(
            f"{copies} dialogs are copies of others, with the same turns: copies are on one side of the split, and a "
            "held-out conversation is asked once"
        )
    if both := given - len(numbers):
        run.note(f"{both} of {given} dialogs stand in data.test too: they are held out, and not trained on")
    tick(1, 1, f"{trained} dialogs to train on, {len(tested) or len(drawn)} held out")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    return (row for _, row in read_jsonl(path))


def dialogs_of(recipe: Recipe, refuse: Refuse) -> Iterator[Dialog]:
    """Read or generate the dialogs of a recipe.

    Args:
        recipe: The recipe.
        refuse: Called with each bad row of a file, as in `read_dialogs`.

    Raises:
        NescioError: There is no such file.
    """
    section = recipe.data
    if section.synthetic is not None:
        rows = generate(section.synthetic.dialogs, recipe.seed, section.synthetic.max_exchanges)
        yield from (parse_dialog(row, row["id"]) for row in rows)
    elif section.dialogs is not None:  # the recipe has checked that there is one of the two
        yield from read_dialogs(section.dialogs, section.pii, refuse)


def samples(run: Context, folder: Path, tick: Tick) -> None:
    """Make one sample for each piece of personal data in an assistant turn."""
    for side in ("train", "test"):
        dialogs = read_dialogs(run.out / f"data/{side}.jsonl")
        limit = run.recipe.data.train_samples if side == "train" else None
        kept, found = write_samples(dialogs, run.detector, folder / f"samples/{side}.jsonl", limit, run.recipe.seed)
        if not found:
            raise NescioError(
                f"{run.out}/data/{side}.jsonl: no personal data in any assistant turn; nothing to unlearn"
            )
        tick(1 + (side == "test"), 2, f"{kept} of {found} {side} samples")


def candidates(run: Context, folder: Path, tick: Tick) -> None:
    """Ask every source for replacement answers; each is tried again until the detector finds nothing in it."""
    wanted = [*run.samples("train"), *run.validation_samples()]
    ask(run, wanted, folder, run.out / "paid.jsonl", tick)


def ask(run: Context, wanted: Sequence[Sample], folder: Path, paid: Path, tick: Tick) -> None:
    """Ask the recipe's sources for replacement answers.

    Args:
        run: The run.
        wanted: Samples whose answers are replaced.
        folder: Where `candidates.jsonl`, `failed.jsonl` and `sources.json` are written.
        paid: File of all answers so far; none is paid for twice.
        tick: Called with progress.
    """
    section = run.recipe.generate
    wanted = drop_too_long(wanted, of_sources(run.recipe), run.note)
    how = Rewriting(max_tokens=section.max_tokens, tries=section.tries, best_of=section.best_of, seed=run.recipe.seed)
    sources = [source_of(run.recipe, each) for each in section.sources]
    try:
        tallies = rewrite(wanted, sources, run.detector, how, folder, paid, tick)
    finally:
        for source in sources:
            source.engine.close()  # vLLM holds most of a GPU, which training needs
    if section.best_of > 1:
        with load(run.recipe.base) as base:
            cache = AnswerCache(folder / "weighed.jsonl", "result")
            worse = mark_best(
                folder / "candidates.jsonl", wanted, base, cache, lambda done, total: tick(done, total, "weighed")
            )
        run.note(f"{worse} clean answers are not the best to their samples, and make no pairs")
    write_json(folder / "sources.json", [tally.as_row() for tally in tallies])
    _warn_of_few(run, wanted, folder / "candidates.jsonl")
    for tally in tallies:
        run.note(tally.report())


def _warn_of_few(run: Context, wanted: Sequence[Sample], candidates: Path) -> None:
    """Say so where many samples have no clean answer: the model learns from the others, and says what these say."""
    accepted = [
        (row["sample_id"], STRATEGIES[row["strategy"]]) for row in read_candidates(candidates) if row["accepted"]
    ]
    clean = {sample_id for sample_id, strategy in accepted if strategy.again != "question"}
    # A whole answer is asked for once, for all samples that were cut from it.
    whole = {sample_id for sample_id, strategy in accepted if strategy.whole} & clean
    answers = {sample.answer for sample in wanted if sample.id in whole}
    without = Counter(sample.label for sample in wanted if sample.id not in clean and sample.answer not in answers)
    if 3 * without.total() > len(wanted):
        kinds = ", ".join(f"{count} {label}" for label, count in without.most_common())
        is_all = without.total() == len(wanted)
        learns = "" if is_all else ": the model will answer everyone the way the remaining samples do"
        run.note(
            f"{without.total()} of {len(wanted)} samples have no clean answer and make no pairs ({kinds}){learns}; "
            "raise generate.tries, or add a source"
        )


def source_of(recipe: Recipe, section: SourceSection) -> Source:
    """Open a source of the recipe."""
    model, kind = section.model or recipe.base, section.engine.kind
    price = None if section.price is None else (section.price.prompt, section.price.answer)
    own = {"prefix_tokens": _PREFIX_TOKENS, "precision": None} if kind == "torch" else {}
    options = own | section.engine_options
    common: dict[str, Any] = {
        "name": section.name, "model": model, "strategies": tuple(section.strategies), "price": price,
        "temperature": section.temperature, "share": section.share, "budget": section.budget,
        "engine": open_engine(kind, model, {}, options),
    }  # fmt: skip
    if not section.is_endpoint:
        # Other engines draw other answers from the same seeds.
        where = {"torch": "", "vllm": " on vLLM"}.get(kind, f" on {kind}")
        if kind == "torch" and options.get("precision") in (None, "bf16") and is_faster_in_bf16():
            where = " in bf16"
        return Source(identity=identity(model) + where, **common)
    completes = any(STRATEGIES[strategy].completion for strategy in section.strategies)
    where = "" if kind == "openai" else f" on {kind}"
    return Source(
        identity=f"{model} at {section.base_url}{where}",
        tokenizer=load_tokenizer(section.tokenizer or recipe.base) if completes else None,
        concurrency=section.concurrency,
        together=1,  # each answer is saved as it comes
        **common,
    )


def pairs(run: Context, folder: Path, tick: Tick) -> None:
    """Chosen and rejected answers, and their CFG twins, in the template of the model that is trained."""
    _draw_key(run)
    samples = {side: run.out / f"samples/{side}.jsonl" for side in ("train", "test")}
    tick(1, 1, pair(run, run.start, samples, run.out / "candidates.jsonl", folder / "pairs"))


def _why_no_pairs(candidates: Path, said: str) -> str:
    """Say why no pair could be made, and what to change: by the commonest reason where all answers were rejected."""
    reasons = Counter[str | None](row.get("reason") for row in read_candidates(candidates) if not row["accepted"])
    count = sum(1 for _ in read_candidates(candidates))
    if not count:
        return "no pairs can be made: no source gave an answer; failed.jsonl and sources.json say why"
    if reasons.total() < count:
        return f"no pairs can be made of {count - reasons.total()} clean answers ({said}); give more dialogs or sources"
    reason, most = reasons.most_common(1)[0]
    remedy = REMEDIES.get(str(reason), "take another source")
    return f"no pairs can be made: all {count} answers were rejected, {most} of them as {reason!r}; {remedy}"


def _draw_key(run: Context) -> None:
    """Draw the run's secret, unless it has one: words that occur in no dialog. The seed has no part in it."""
    if KEY_PLACEHOLDER not in run.recipe.pairs.negative or (run.out / KEY_FILE).exists():
        return
    dialogs = (run.out / "data/train.jsonl").read_text(encoding="utf-8")
    key = next(key for key in iter(draw_key, "") if key not in dialogs)
    write_key(run.out, key)


def pair(run: Context, model: str, samples: Mapping[str, Path], candidates: Path, folder: Path) -> str:
    """Make the recipe's pairs of sample files by side, a file each, and their card.

    Returns:
        What was made and what was left out, in a line.

    Raises:
        NescioError: There is no pair to train on.
    """
    section, counts = run.recipe.pairs, Counter[str]()
    # A prompt must still fit when the secret is in its place: what is cut in training loses its beginning.
    most = run.recipe.train.max_prompt_length - (LONGEST_KEY if KEY_PLACEHOLDER in section.negative else 0)
    how = Pairing(
        twins=section.twins, positive=section.positive, negative=section.negative, paraphrases=section.paraphrases,
        asked=section.asked, max_prompt=most, seed=run.recipe.seed,
    )  # fmt: skip
    selection = Selection(section.sources, section.balance, section.per_source, section.per_beginning, run.recipe.seed)
    tokenizer = load_tokenizer(model)
    if not has_system_role(tokenizer):
        run.note("the chat template has no system role: system messages are put in front of the first user message")
    for side, path in samples.items():
        found = SampleFile(path)
        reworded = rewordings(found, read_candidates(candidates)) if section.paraphrases else {}
        made = pairs_of(found, read_candidates(candidates), tokenizer, how, counts, reworded)
        write_selected(made, folder / f"{side}.jsonl", selection, counts)
    left_out = ", ".join(f"{counts[name]} {what}" for name, what in _LEFT_OUT.items() if counts[name])
    said = f"{counts['pairs']} pairs, {counts['cut']} prompts cut; left out: {left_out or 'none'}"
    if not (folder / "train.jsonl").stat().st_size:
        for side in samples:
            (folder / f"{side}.jsonl").unlink()
        raise NescioError(_why_no_pairs(candidates, said))
    write_card(folder, tokenizer, {"seed": run.recipe.seed, "detector": run.detector.name})
    return said
