"""The stages of a run: what each does, reads and writes, and what decides its result."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nescio import compat
from nescio.core.adapters import adapter_base
from nescio.core.callbacks import Tick
from nescio.core.errors import NescioError
from nescio.core.files import file_hash
from nescio.core.model_source import identity, refuse_adapter
from nescio.core.switch import KEY_FILE, KEY_PLACEHOLDER
from nescio.data.read_dialogs import files_of
from nescio.pii.presets import missing_parts
from nescio.pipeline import anchors, bake, evaluate, prepare, train
from nescio.pipeline.context import Context
from nescio.pipeline.evaluate_sections import EvaluateSection
from nescio.pipeline.recipe import Recipe
from nescio.pipeline.sections import DataSection
from nescio.pipeline.stage_cache import Stage
from nescio.training.losses.registry import open_loss

Work = Callable[[Context, Path, Tick], None]
"""The work of a stage: writes its outputs into the folder that it is given."""


SPLIT, SAMPLES, PAIRS = ((f"{folder}/train.jsonl", f"{folder}/test.jsonl") for folder in ("data", "samples", "pairs"))


def stages_of(recipe: Recipe, prepared: Callable[[str, Work], Callable[[Path], None]]) -> list[Stage]:
    """Return the stages of a recipe, in order.

    A finished stage is done again when one of the files it reads changes, one of its sections of the recipe, the seed,
    or anything else that decides its result.

    Args:
        recipe: The recipe.
        prepared: Makes the work of a stage, by its name, ready to be called with a folder.

    Raises:
        NescioError: A model is an adapter, or a file of the recipe is missing.
    """
    sections = compat.stage_sections(recipe.plain(), unset().plain())
    sections["detector"] = _made_of(sections["detector"])
    # What the recipe names by its place decides by its content.
    base = identity(refuse_adapter(recipe.base, "base"))
    tuned = None if recipe.tuned is None else identity(recipe.tuned)

    def stage(name: str, work: Work, sections_read: str, more: Any, *, reads: Any, writes: Any) -> Stage:
        depends = [{section: sections[section] for section in sections_read.split()}, recipe.seed, more]
        return Stage(name, tuple(writes), depends, tuple(dict.fromkeys(reads)), prepared(name, work))

    return [
        *_models(recipe, stage, base, tuned),
        *_pairs(recipe, stage, base, tuned),
        *_adapters(recipe, stage, base, tuned),
        *_results(recipe, stage, base, tuned),
    ]


def _models(recipe: Recipe, stage: Callable[..., Stage], base: Any, tuned: Any) -> Iterator[Stage]:
    """Yield the dialogs and the model that is trained on: tuned, merged or subtracted."""
    plain, data, adapter = recipe.plain(), recipe.data, recipe.tuned_adapter
    yield stage(
        "data", prepare.data, "", [source_of_dialogs(plain), data.test_share, data.skip_bad, _dialog_hashes(data)],
        reads=(), writes=(*SPLIT, "data/bad.jsonl") if data.skip_bad else SPLIT,
    )  # fmt: skip
    if recipe.tune:
        yield stage("tune", train.tune, "tune", base, reads=SPLIT[:1], writes=("tuned",))
    if adapter:
        yield stage("merge", train.merge, "", [tuned, identity(adapter_base(adapter))], reads=(), writes=("tuned",))
    if recipe.subtract:
        yield stage(
            "subtract", train.subtract, "subtract", [base, tuned], reads=_tuned_here(recipe), writes=("subtracted",)
        )


def _pairs(recipe: Recipe, stage: Callable[..., Stage], base: Any, tuned: Any) -> Iterator[Stage]:
    """Yield the samples, their replacement answers, and the pairs of both."""
    data = recipe.data
    sources = [identity(each.model) for each in recipe.generate.sources if not each.is_endpoint and each.model]
    yield stage("samples", prepare.samples, "detector", data.train_samples, reads=SPLIT, writes=SAMPLES)
    yield stage(
        "candidates", prepare.candidates, "generate detector", [base, data.validation_samples, sources],
        reads=SAMPLES, writes=("candidates.jsonl", "failed.jsonl", "sources.json"),
    )  # fmt: skip
    yield stage(
        "pairs", prepare.pairs, "pairs", [tuned, recipe.train.max_prompt_length],
        reads=(*SAMPLES, "candidates.jsonl", *_start(recipe)), writes=(*PAIRS, "pairs/README.md"),
    )  # fmt: skip


def _adapters(recipe: Recipe, stage: Callable[..., Stage], base: Any, tuned: Any) -> Iterator[Stage]:
    """Yield the anchors, the training, and the baking."""
    plain, held = recipe.plain(), recipe.train.anchors
    anchor_files = (anchors.ROWS, anchors.TARGETS) if held else ()
    beside = (held.per_step, held.weight) if held and held.per_step else ()
    retain = [file_hash(recipe.data.retain)] if recipe.data.retain else []
    key = (KEY_FILE,) if KEY_PLACEHOLDER in recipe.pairs.negative else ()
    quantized = (recipe.train.quantize,) if recipe.train.quantize else ()
    # The detector decides about training only where it chooses the epoch or masks the answers.
    by_leakage = recipe.train.keep in ("leakage", "balanced")
    judging = [_made_of(plain["detector"]), recipe.data.validation_samples, recipe.evaluate.max_tokens]
    judging += [recipe.train.validation_questions] if recipe.train.keep == "balanced" else []
    judging = judging if by_leakage or open_loss(recipe.train.method).scrubs_chosen else []
    if held:
        yield stage(
            "anchors", anchors.anchors, "detector", [base, tuned, held.count, held.max_tokens],
            reads=(*SPLIT[:1], *SAMPLES[:1], *_tuned_here(recipe)), writes=anchor_files,
        )  # fmt: skip
    yield stage(
        "train", train.train, "train pairs", [tuned, judging, *beside, *retain],
        reads=(*PAIRS, *key, *_start(recipe), *(SAMPLES[1:] if by_leakage else ()), *(beside and anchor_files)),
        writes=(_trained(recipe),),
    )  # fmt: skip
    if recipe.bake:
        made_up = [base, held.max_tokens] if held and recipe.bake.more_anchors else []
        yield stage(
            "bake", bake.bake, "detector pairs", [tuned, plain["bake"], plain["train"]["lora"], *quantized, *made_up],
            reads=(*SPLIT[:1], *SAMPLES[:1], *anchor_files, _trained(recipe), *_start(recipe), *_tuned_here(recipe)),
            writes=("adapter",),
        )  # fmt: skip


def _results(recipe: Recipe, stage: Callable[..., Stage], base: Any, tuned: Any) -> Iterator[Stage]:
    """Yield the evaluation and its report."""
    models = dict.fromkeys((_trained(recipe), "adapter", *_tuned_here(recipe), *_start(recipe)))
    keep = recipe.train.keep
    chosen_by = [] if keep == "last" else [keep, recipe.data.validation_samples]  # samples that the table leaves out
    yield stage(
        "evaluate", evaluate.evaluate, "evaluate detector pairs", [base, tuned, _compared(recipe.evaluate), *chosen_by],
        reads=(*SAMPLES, *SPLIT, *models), writes=("eval",),
    )  # fmt: skip
    yield stage(
        "report", evaluate.report, "evaluate", None,
        reads=("eval", f"{_trained(recipe)}/log.jsonl"), writes=("figures", "report.html"),
    )  # fmt: skip


def _made_of(detector: dict[str, Any]) -> dict[str, Any]:
    """Return a detector's section with the parts that are not installed, as far as its name stands for some."""
    missing = missing_parts(detector["model"])
    return detector | ({"missing": missing} if missing else {})


def _tuned_here(recipe: Recipe) -> tuple[str, ...]:
    """Return the tuned model's folder where the run makes it itself."""
    return ("tuned",) if recipe.tuned_adapter or recipe.tune else ()


def _start(recipe: Recipe) -> tuple[str, ...]:
    """Return the folder of the model that is trained on, where the run makes it itself."""
    return ("subtracted",) if recipe.subtract else _tuned_here(recipe)


def _trained(recipe: Recipe) -> str:
    return "teacher" if recipe.bake else "adapter"


def _dialog_hashes(data: DataSection) -> list[str]:
    """Return the content of the dialogs; of files that are gone nothing: a finished run no longer needs them."""
    try:
        files = [] if data.dialogs is None else files_of(data.dialogs)
    except NescioError:
        files = []
    return [file_hash(path) for path in (*files, data.pii, data.test) if path]


def _compared(section: EvaluateSection) -> list[str]:
    """Return the content of what an evaluation names by its place: models, adapters, questions, a local judge.

    Raises:
        NescioError: A row's model is an adapter.
    """
    models = [refuse_adapter(row.model, f"evaluate.rows, {row.name}: model") for row in section.rows if row.model]
    adapters = [row.adapter for row in section.rows if row.adapter]
    models += [section.judge.model] if section.judge and not section.judge.is_endpoint else []
    questions = Path(section.questions)
    return [*map(identity, models + adapters), *([file_hash(questions)] if questions.is_file() else [])]


def unset() -> Recipe:
    """Return a recipe that sets nothing, with every section and an item in every list."""
    given: dict[str, Any] = {"base": "-", "tune": {}, "subtract": {}, "data": {"synthetic": {}}}
    return Recipe.model_validate(given | {"evaluate": {"rows": [{"name": "-"}], "judge": {"model": "-"}}})


def source_of_dialogs(recipe: dict[str, Any]) -> list[Any]:
    """Return where the dialogs of a recipe, as plain data, come from."""
    data = recipe.get("data") or {}
    return [data.get("dialogs"), data.get("pii"), data.get("synthetic")]
