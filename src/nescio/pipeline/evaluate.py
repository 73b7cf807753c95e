"""The stages after training: the table of all set-ups, and the report."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from nescio.audit.measure import Attacked
from nescio.core.adapters import read_sentences
from nescio.core.callbacks import Tick
from nescio.core.errors import NescioError
from nescio.core.files import write_json, write_jsonl
from nescio.core.guidance import REVEAL, Guidance
from nescio.core.switch import KEY_PLACEHOLDER
from nescio.data.labelled import labelled_dialog
from nescio.data.read_dialogs import read_dialogs
from nescio.data.samples import Sample, subsample
from nescio.evaluation import run as evaluation
from nescio.evaluation.base import Measure, Task, fewer
from nescio.evaluation.measures.leakage import own_pieces
from nescio.evaluation.one_engine import OneEngine
from nescio.evaluation.run import open_measure
from nescio.evaluation.setups import Setup, baselines, guided_setups
from nescio.pii.check import check
from nescio.pii.registry import counted_types
from nescio.pii.rules import DENIED
from nescio.pipeline.context import Context
from nescio.pipeline.evaluate_sections import EvaluateSection, RowSection
from nescio.pipeline.recipe import Recipe
from nescio.pipeline.too_long import drop_too_long, of_setups
from nescio.report import html

_CHECKED_TURNS = 500  # of the dialogs, on which the detector is checked: some seconds


def evaluate(run: Context, folder: Path, tick: Tick) -> None:
    """Ask every set-up, score the answers, and write the table and the answers with their spans."""
    chosen = list(measures(run.recipe.evaluate))
    rows, answers = evaluation.evaluate(task(run, table_setups(run), tick), chosen)
    for name, answered in answers.items():
        write_jsonl(folder / f"eval/{name}.jsonl", answered)
    checked = check_detector(run)
    if checked is not None:
        write_json(folder / "eval/detector.json", checked)
    write_json(folder / "eval/results.json", [row | _beside_counts(run, checked) for row in rows])


def check_detector(run: Context) -> dict[str, Any] | None:
    """Check the detector on the recorded slots of the run's own dialogs, held-out ones first.

    Returns:
        What `nescio detect check` gives; None where no slot is recorded.
    """
    dialogs = chain.from_iterable(read_dialogs(run.out / f"data/{side}.jsonl") for side in ("test", "train"))
    turns = chain.from_iterable(labelled_dialog(dialog) for dialog in dialogs if dialog.pii is not None)
    section = run.recipe.detector
    counted = counted_types(section.model, section.count)
    done = check(islice(turns, _CHECKED_TURNS), run.detector, counted, [*section.regex, DENIED])
    return done.as_row() if done.all.pieces else None


def _beside_counts(run: Context, checked: Mapping[str, Any] | None) -> dict[str, Any]:
    """What stands in every row beside its counts: the detector, and the share of recorded pieces that it sees."""
    if checked is None:
        return {"detector": run.detector.name}
    tallies = {"all": checked["all"], **checked["types"]}
    seen = {
        kind: {key: tally[key] for key in ("pieces", "recall", "recall_ci95")}
        for kind, tally in tallies.items()
        if tally["pieces"]
    }
    beside = {"detector": run.detector.name, "detector_seen": seen}
    return beside | ({"detector_not_looked_for": left} if (left := checked["not_looked_for"]) else {})


def report(run: Context, folder: Path, tick: Tick) -> None:
    """Write the page, with its figures."""
    html.write(run.out)


def measures(section: EvaluateSection) -> Iterator[Measure]:
    """Make the measures that a recipe asks for; the last need an engine of another model than the rows'.

    Raises:
        NescioError: There is no such measure, or it does not take its options.
    """
    asked: dict[str, object] = {"questions": section.questions, "count": section.question_count}
    options: dict[str, dict[str, object]] = {"leakage": {}, "leakage_paper": {}, "fluency": {}, "filler": {}}
    if section.asked_for_samples:
        options["leakage_asked_for"] = {"samples": section.asked_for_samples}
    if section.key_candidates:
        options["key_search"] = {"candidates": section.key_candidates}
    if section.question_count != 0:
        options["choices"] = asked
    if section.words:
        options["words"] = {"count": section.words}
    if section.leak_draws:
        options["leak_at_k"] = {"draws": section.leak_draws, "samples": section.leak_samples}
    if section.attack_samples:
        options["slot_attack"] = {"samples": section.attack_samples}
    if section.harmless_prompts:
        options["harmless"] = {"prompts": section.harmless_prompts}
    if section.everyday:
        options["everyday"] = {"count": section.everyday}
    options["quality"] = {}
    if judge := section.judge:
        options["judge"] = asked | {"model": judge.model, "engine": judge.kind, "options": judge.engine_options}
    options |= {more.name: more.options for more in section.measures}
    yield from (open_measure(name, **own) for name, own in options.items())
    if section.attacks:
        yield Attacked(attacks=section.attacks, facts=section.attack_facts)


def task(
    run: Context, setups: Sequence[Setup], tick: Tick, *, size: int | None = None, shared: Path | None = None
) -> Task:
    """Describe an evaluation on a run's held-out samples.

    Args:
        run: The run.
        setups: The rows of the table.
        tick: Called with progress.
        size: Number of samples; None takes the recipe's.
        shared: Folder of the answers on disk; None is the run's own.

    Raises:
        NescioError: There are no held-out samples, or none fits the models' contexts.
    """
    section, seed, shared = run.recipe.evaluate, run.recipe.seed, shared or run.out
    # 1) Draw the samples, and drop those that are too long for a model.
    wanted = size or section.samples
    samples = subsample(run.table_samples(), wanted, seed)
    if not samples:
        raise NescioError(f"{run.out}/samples/test.jsonl: holds no samples; run the samples stage again")
    if len(samples) < wanted:
        run.note(fewer("samples", wanted, len(samples)))
    reveal = _public(run)
    said = reveal if section.asked_for_samples else None
    askings = of_setups(setups, section.max_tokens, section.engine.options, said)
    samples = drop_too_long(samples, askings, run.note)
    # 2) Find the pieces of personal data that could come back in the answers.
    pieces = _pieces(run, "test", samples)

    def training(count: int) -> list[tuple[Sample, Mapping[str, str]]]:
        drawn = subsample(run.samples("train"), count, seed)
        own = _pieces(run, "train", drawn)
        return [(sample, own[sample.dialog_id]) for sample in drawn]

    return Task(
        setups=setups, samples=samples, own=[pieces[sample.dialog_id] for sample in samples], training=training,
        max_tokens=section.max_tokens, base=run.recipe.base, protect=run.recipe.pairs.positive,
        reveal=reveal, detector=run.detector,
        engine=OneEngine(section.engine.kind, section.engine.options), answers=shared / "kept",
        verdicts=shared / "verdicts.jsonl", seed=seed, note=run.note, tick=tick,
    )  # fmt: skip


def _public(run: Context) -> str:
    """Return the reveal sentence that a caller may know: the run's, or the paper's where the run's is a secret."""
    sentence = run.recipe.pairs.negative
    return REVEAL if KEY_PLACEHOLDER in sentence else sentence


def _pieces(run: Context, side: str, samples: Sequence[Sample]) -> dict[str, dict[str, str]]:
    """The pieces of personal data of the samples' dialogs, by dialog."""
    wanted = {sample.dialog_id for sample in samples}
    dialogs = read_dialogs(run.out / f"data/{side}.jsonl") if samples else []
    pieces = {dialog.id: own_pieces(dialog, run.detector) for dialog in dialogs if dialog.id in wanted}
    if missing := sorted(wanted - pieces.keys()):
        raise NescioError(
            f"{run.out}/samples/{side}.jsonl: samples of the dialog {missing[0]!r}, which data/{side}.jsonl does not "
            "have; delete the folder samples and run `nescio run` again"
        )
    return pieces


def table_setups(run: Context) -> list[Setup]:
    """Return the rows of the table, the tuned model first.

    Raises:
        NescioError: Two rows have one name, or the run's key is missing.
    """
    return _setups(run, *run.sentences)


def check_row_names(recipe: Recipe) -> None:
    """Check that the rows of a recipe's table have different names; no run, and no key of one, has to be there.

    Raises:
        NescioError: Two rows have one name.
    """
    _setups(Context(recipe, Path(), lambda line: None), recipe.pairs.positive, recipe.pairs.negative)


def _setups(run: Context, positive: str, negative: str) -> list[Setup]:
    section = run.recipe.evaluate
    plain = Guidance(1.0, "prob", positive, negative)
    variants = [plain, *(replace(plain, plausibility=tau) for tau in section.plausibility)]
    variants += [replace(plain, adaptive=True)] if section.adaptive else []
    tuned = Setup("tuned", "tuned", run.tuned)
    trained = Setup("trained", "trained", run.start, adapter=str(run.trained), guidance=plain)
    setups = [tuned, replace(tuned, name="tuned-protect", label="tuned + protect prompt", guidance=plain)]
    setups += baselines(tuned, positive, _public(run)) if section.baselines else []
    setups += [] if run.start == run.tuned else [Setup("subtracted", "subtracted", run.start)]
    setups += [trained, *guided_setups(trained, section.scales, section.spaces, variants)]
    baked = Setup("baked", "baked", run.start, adapter=str(run.out / "adapter"))
    setups += [] if run.recipe.bake is None else [baked]
    setups += [_row(run, row, positive, negative) for row in section.rows]
    names = Counter(setup.name for setup in setups)
    if (twice := names.most_common(1)[0])[1] > 1:
        if twice[0] in (row.name for row in section.rows):
            raise NescioError(f"evaluate.rows: name {twice[0]!r} is taken by another row; choose one of its own")
        raise NescioError(
            f"evaluate: two rows would be called {twice[0]!r}; give each of scales, spaces and plausibility once "
            "(numbers differ in their first six digits)"
        )
    return setups


def _row(run: Context, row: RowSection, positive: str, negative: str) -> Setup:
    """Make the set-up of a row of the recipe. A sentence that it does not name is its adapter's, else the run's."""
    named = {"positive": row.guidance.positive, "negative": row.guidance.negative}
    sentences = {"positive": positive, "negative": negative}
    sentences |= read_sentences(Path(row.adapter)) if row.adapter else {}
    sentences |= {name: sentence for name, sentence in named.items() if sentence is not None}
    guidance = replace(row.guidance, positive=sentences["positive"], negative=sentences["negative"])
    return Setup(
        row.name, row.name, row.model or run.tuned, adapter=row.adapter,
        guidance=guidance if row.protect or guidance.guided else None, system=row.system, nudge=row.nudge,
        masks=row.mask, reference=row.reference,
    )  # fmt: skip
