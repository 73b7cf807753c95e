"""The recipe: what a run does, as YAML, with the paper's numbers for defaults. Knows its own schema only."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nescio.data.rewrite import STRATEGIES, Strategy
from nescio.errors import NescioError
from nescio.guidance import PROTECT, REVEAL, Space
from nescio.pii.detector import IGNORED_LABELS

Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class DetectorSection(_Section):
    """What counts as personal data."""

    model: str = "spacy:en_core_web_trf"
    ignore: list[str] = list(IGNORED_LABELS)


class Synthetic(_Section):
    """Dialogs made up for the demo and for tests."""

    dialogs: Positive = 200
    max_exchanges: Annotated[int, Field(ge=1, le=4)] = 4


class DataSection(_Section):
    """Where the dialogs come from, and how they are split."""

    dialogs: Path | None = None
    synthetic: Synthetic | None = None
    test_share: Share = 0.1
    train_samples: Positive | None = None
    validation_samples: Positive | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.dialogs is None) == (self.synthetic is None):
            raise ValueError("give either dialogs: PATH or synthetic:, one of the two")
        return self


class LoraSection(_Section):
    """LoRA on all linear layers."""

    r: Positive = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.01


class _Fit(_Section):
    epochs: Positive = 3
    batch_size: Positive = 2
    gradient_accumulation: Positive = 1
    learning_rate: Rate = 1e-4
    max_length: Positive = 2048
    lora: LoraSection = LoraSection()


class TuneSection(_Fit):
    """Fine-tuning of the base on the training dialogs, so that there is a tuned model to mend."""


class GenerateSection(_Section):
    """Replacement answers from the base model, in completion mode (section 2.2)."""

    strategies: list[Strategy] = list(STRATEGIES)
    temperature: Annotated[float, Field(gt=0)] = 0.7
    max_tokens: Positive = 256
    tries: Positive = 3


class PairsSection(_Section):
    """Pairs, and the CFG twins of them."""

    twins: bool = True
    positive: str = PROTECT
    negative: str = REVEAL


class TrainSection(_Fit):
    """ORPO with LoRA (section 2.3)."""

    beta: Rate = 0.1
    max_prompt_length: Positive = 1900


class EvaluateSection(_Section):
    """What the table compares (section 3)."""

    samples: Positive = 50
    max_tokens: Positive = 256
    scales: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]] = [2.0, 3.0, 5.0]
    spaces: list[Space] = ["log", "prob"]


class Recipe(_Section):
    """A whole run."""

    seed: int = 0
    base: str
    tuned: str | None = None
    detector: DetectorSection = DetectorSection()
    data: DataSection
    tune: TuneSection | None = None
    generate: GenerateSection = GenerateSection()
    pairs: PairsSection = PairsSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()

    @model_validator(mode="after")
    def _one_tuned_model(self) -> Self:
        if (self.tuned is None) == (self.tune is None):
            raise ValueError("give either tuned: MODEL, or tune: to make it from the base; one of the two")
        return self

    def plain(self) -> dict[str, Any]:
        """The recipe with every default written out, as plain data."""
        return self.model_dump(mode="json")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; paths in it are relative to its folder.

    Args:
        path: YAML.
        overrides: `a.b=value`, each value as YAML.

    Raises:
        NescioError: The file, a key or a value is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NescioError(
            f"{path}: cannot be read ({_short(error)}); `nescio init` writes a recipe to start from"
        ) from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise NescioError(
            f"{place}: not YAML ({getattr(error, 'problem', None) or 'unreadable'}); mend the line"
        ) from error
    if not isinstance(content, dict):
        raise NescioError(f"{path}: not a recipe; `nescio init` writes one to start from")
    for override in overrides:
        _set(content, override)
    recipe = _checked(content, str(path), text)
    return _beside(recipe, path.parent)


def _set(content: dict[str, Any], override: str) -> None:
    name, equals, value = override.partition("=")
    if not equals or not name:
        raise NescioError(f"--set {override}: must read a.b=value")
    *parents, last = name.split(".")
    for parent in parents:
        if content.get(parent) is None:
            content[parent] = {}
        content = content[parent]
        if not isinstance(content, dict):
            raise NescioError(f"--set {override}: {parent} is not a section")
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise NescioError(f"--set {override}: the value is not YAML") from error


def _checked(content: dict[str, Any], source: str, text: str) -> Recipe:
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        # A misspelt key is often why another is missing, so it is told first.
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        names = [str(part) for part in first["loc"]]
        field = ".".join(names) or "recipe"
        if first["type"] == "extra_forbidden":
            known = ", ".join(_fields_at(names[:-1]))
            message = f"unknown key; known here: {known}"
        else:
            said = first["msg"].removeprefix("Value error, ")
            message = said[:1].lower() + said[1:]
            if not isinstance(first["input"], dict):
                message += f", is {first['input']!r}"
        raise NescioError(f"{source}{_line_of(names, text)}: {field}: {message}") from error


def _fields_at(names: Sequence[str]) -> list[str]:
    section: Any = Recipe
    for name in names:
        annotation = section.model_fields[name].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        section = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
        if section is None:
            return []
    return list(section.model_fields)


def _line_of(names: Sequence[str], text: str) -> str:
    """`:LINE` of a key in the YAML, or nothing where it came from --set."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = None
    for name in names:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        for key, value in pairs:
            if key.value == name:
                line, node = key.start_mark.line + 1, value
                break
        else:
            break
    return f":{line}" if line else ""


def _beside(recipe: Recipe, folder: Path) -> Recipe:
    """Paths as seen from the recipe's folder."""
    changes: dict[str, Any] = {}
    if recipe.data.dialogs is not None:
        changes["data"] = recipe.data.model_copy(update={"dialogs": folder / recipe.data.dialogs.expanduser()})
    for name in ("base", "tuned"):
        value = getattr(recipe, name)
        if value is not None and (folder / value).exists() and not Path(value).is_absolute():
            changes[name] = str(folder / value)
    return recipe.model_copy(update=changes)


def _short(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
