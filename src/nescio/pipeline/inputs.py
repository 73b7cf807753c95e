"""What a recipe names and a run needs: looked for before the first stage, not after hours of the others."""

from collections.abc import Callable, Container, Mapping
from pathlib import Path

from nescio.core.adapters import read_config
from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.core.files import Refuse, stop
from nescio.core.model_size import bare_model
from nescio.core.model_source import check_model_name
from nescio.core.models import config_of
from nescio.data.read_dialogs import files_of, read_dialogs
from nescio.engines.registry import check_options, open_engine
from nescio.engines.torch_engine import load
from nescio.engines.vllm import settings as vllm
from nescio.evaluation.measures.choices import chosen
from nescio.pipeline.evaluate import check_row_names
from nescio.pipeline.recipe import Recipe
from nescio.pipeline.sections import EngineSection
from nescio.pipeline.train_sections import TrainSection, TuneSection
from nescio.training.lora import check_targets

_FROM_ELSEWHERE = ("plain", "validation", "test")  # questions that are no file
_COMPARED = {"model_type": "architecture", "hidden_size": "width", "vocab_size": "vocabulary"}  # of configurations
_FILES = ("torch", "local", "vllm", "llamacpp", "transformers")  # engines whose models are those of `resolve`


def check_inputs(recipe: Recipe, stages: Container[str], note: Callable[[str], None] = lambda line: None) -> None:
    """Check that what some stages read from outside the run folder is there.

    Args:
        recipe: The recipe.
        stages: Names of the stages that are looked after.
        note: Told what may be a mistake, and is not refused.

    Raises:
        NescioError: Something is missing; its key in the recipe is named.
    """
    if "data" in stages:
        _check_dialogs(recipe)
        _check_models({"base": recipe.base, "tuned": recipe.tuned})
        if other := _other_base(recipe):
            note(other)
    if "tune" in stages and "samples" in stages:  # else it is used at once; here its memory is free again for tuning
        detector = recipe.detector.load()
        detector.find(["Hello."])  # some load their model with the first text
    if "candidates" in stages:
        _check_sources(recipe)
    for name, section in (("tune", recipe.tune), ("train", recipe.train)):
        if section is not None and name in stages:
            _check_training(name, section, recipe.base)
    if "evaluate" in stages:
        _check_evaluation(recipe)


def _check_dialogs(recipe: Recipe) -> None:
    if recipe.data.dialogs is not None:
        files_of(recipe.data.dialogs)
    for name in ("pii", "test", "retain"):
        path = getattr(recipe.data, name)
        if path is not None and not path.exists():
            raise NescioError(f"data.{name}: {path}: no such file; correct the path")
        if path is not None and name != "pii":
            _check_readable(path, f"data.{name}", recipe.data.skip_bad)


def _check_readable(path: Path, place: str, skip_bad: bool) -> None:
    """Read a file of dialogs once: a bad row of it would stop a later stage."""
    refuse: Refuse = (lambda error, row: None) if skip_bad else stop
    if not sum(1 for _ in read_dialogs(path, refuse=refuse)):
        raise NescioError(f"{place}: {path}: no dialog can be read; give a file of dialogs")


def _other_base(recipe: Recipe) -> str | None:
    """Say in what the base differs from the tuned model; another base may be meant, so it is not refused."""
    if recipe.tuned is None:
        return None
    try:
        models = [config_of(name).get_text_config() for name in (recipe.base, recipe.tuned)]
    except NescioError:  # whoever loads the model says so
        return None
    values = {word: [getattr(model, key, None) for model in models] for key, word in _COMPARED.items()}
    differs = ", ".join(f"{word} {base} and {tuned}" for word, (base, tuned) in values.items() if base != tuned)
    if not differs:
        return None
    return f"base and tuned differ ({differs}): is the base the model before it saw the conversations?"


def _check_sources(recipe: Recipe) -> None:
    for source in recipe.generate.sources:
        if source.engine.kind == "openai":  # its key must be set; no connection is made yet
            open_engine("openai", str(source.model), {}, source.engine_options).close()
        _check_engine(source.engine, {f"generate.sources, {source.name}: model": source.model})


def _check_training(name: str, section: TuneSection | TrainSection, base: str) -> None:
    for reporter in section.report_to:
        require(reporter, reporter, f"{name}.report_to")
    if isinstance(section.lora.targets, list):
        check_targets(bare_model(config_of(base)), section.lora.targets, f"{name}.lora.targets")


def _check_evaluation(recipe: Recipe) -> None:
    section, judge = recipe.evaluate, recipe.evaluate.judge
    _check_engine(section.engine, {f"evaluate.rows, {row.name}: model": row.model for row in section.rows})
    if judge is not None and judge.kind in _FILES:
        _check_models({"evaluate.judge.model": judge.model})
    for row in section.rows:
        if row.adapter:
            read_config(Path(row.adapter))
    check_row_names(recipe)
    if section.question_count != 0 and section.questions not in _FROM_ELSEWHERE:
        chosen(section.questions, section.question_count, recipe.seed)


def _check_engine(section: EngineSection, models: Mapping[str, str | None]) -> None:
    """Check the options of an engine, and its models by their place in the recipe."""
    if section.kind in ("torch", "local"):
        check_options(section.kind, load, section.options)
    if section.kind == "vllm":
        vllm.check(section.options)
    if section.kind in _FILES:
        _check_models(models)


def _check_models(models: Mapping[str, str | None]) -> None:
    for place, name in models.items():
        if name is None:
            continue
        try:
            check_model_name(name)
        except NescioError as error:
            raise NescioError(f"{place}: {error}") from error
