"""The recipe: what a run does, read from YAML."""

import sys
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from nescio import compat
from nescio.core.adapters import is_adapter
from nescio.core.errors import NescioError
from nescio.core.files import expanded
from nescio.core.guidance import REVEAL
from nescio.core.yaml_config import PathOrName, checked, read_yaml, yaml_value
from nescio.pipeline.evaluate_sections import EvaluateSection
from nescio.pipeline.sections import (
    DataSection,
    DetectorSection,
    GenerateSection,
    PairsSection,
    Section,
)
from nescio.pipeline.train_sections import ANCHOR_WAYS, BakeSection, SubtractSection, TrainSection, TuneSection

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "detector": {"model": "spacy:en_core_web_trf"},  # and an error where it is not installed
        "generate": {"best_of": 1},
        "pairs": {"negative": REVEAL, "paraphrases": 0, "asked": 0.0},
        "train": {"anchors": None, "validation_questions": 0},
        "bake": None,
    },
}
"""Values that a preset sets where the recipe says nothing else; `paper` is the paper to the letter."""


class Recipe(Section):
    """A whole run."""

    preset: Literal["paper"] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    base: PathOrName
    tuned: PathOrName | None = None
    detector: DetectorSection = DetectorSection()
    data: DataSection
    tune: TuneSection | None = None
    subtract: SubtractSection | None = None
    generate: GenerateSection = GenerateSection()
    pairs: PairsSection = PairsSection()
    train: TrainSection = TrainSection()
    bake: BakeSection | None = BakeSection()
    evaluate: EvaluateSection = EvaluateSection()

    @model_validator(mode="before")
    @classmethod
    def _preset_values(cls, given: Any) -> Any:
        preset = PRESETS.get(str(given.get("preset"))) if isinstance(given, Mapping) else None
        return given if preset is None else _filled(given, preset)

    @model_validator(mode="after")
    def _one_tuned_model(self) -> Self:
        if (self.tuned is None) == (self.tune is None):
            raise ValueError("give either tuned: MODEL, or tune: to make it from the base; one of the two")
        return self

    @model_validator(mode="after")
    def _anchors_to_bake_with(self) -> Self:
        if self.bake is None:
            return self
        if self.train.anchors is None:
            raise ValueError("bake: needs anchors, or the model forgets; set train.anchors, or bake: null")
        # Of what the base makes up fewer are usable: this refuses what cannot be, before the training.
        most = ANCHOR_WAYS * (self.train.anchors.count + self.bake.more_anchors)
        if self.bake.anchors_per_step > most:
            raise ValueError(
                f"bake.anchors_per_step: {self.bake.anchors_per_step} a step, but there are {most} at most; set it "
                "lower, or bake.more_anchors higher"
            )
        return self

    @model_validator(mode="after")
    def _sources_exist(self) -> Self:
        names = {source.name for source in self.generate.sources}
        balanced = [] if isinstance(self.pairs.balance, bool) else self.pairs.balance
        for field, named in (("sources", self.pairs.sources or []), ("balance", balanced)):
            if unknown := [name for name in named if name not in names]:
                raise ValueError(
                    f"pairs.{field}: {unknown[0]} is not a source; generate.sources has {', '.join(sorted(names))}"
                )
        if not self.pairs.paraphrases:
            for source in self.generate.sources:
                if "paraphrase" in source.strategies:
                    raise ValueError(f"pairs.paraphrases: 0, but source {source.name} has paraphrase; set it to 1")
        return self

    @property
    def tuned_adapter(self) -> Path | None:
        """The folder of the tuned model if it is a PEFT adapter, which the run merges into its base."""
        folder = None if self.tuned is None else expanded(self.tuned)
        return folder if folder is not None and is_adapter(folder) else None

    def plain(self) -> dict[str, Any]:
        """The recipe with every default written out, as plain data."""
        return self.model_dump(mode="json")


def _filled(given: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with a preset's values for the keys that it does not give, however deep."""
    filled = dict(given)
    for key, value in preset.items():
        if key not in filled:
            filled[key] = value
        elif isinstance(value, Mapping) and isinstance(filled[key], Mapping):
            filled[key] = _filled(filled[key], value)
    return filled


def _print_note(note: str) -> None:
    print(note, file=sys.stderr)


def load_recipe(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    settings: Mapping[str, Any] | None = None,
    options: Mapping[str, str] | None = None,
    note: Callable[[str], None] = _print_note,
) -> Recipe:
    """Read a recipe; paths in it are relative to its folder, and absolute in what is returned.

    Args:
        path: YAML.
        overrides: `a.b=value`, each value as YAML.
        settings: Values by `a.b`, paths as texts or `Path`; `overrides` come after them.
        options: What the user wrote for some of the settings, as `--samples 0`, by `a.b`.
        note: Called with a line for each old name in it.

    Raises:
        NescioError: The file, a key or a value is wrong.
    """
    content, text = read_yaml(path, "`nescio init` writes a recipe to start from")
    # 1) Old names in the file become today's, so that a setting of the command line finds its key.
    done = compat.recipe(content)
    given = dict[tuple[str, ...], str]()
    for name, value in (settings or {}).items():
        place = _set(done.content, name, _as_in_yaml(value))
        if options and name in options:
            given[place] = options[name]
    for override in overrides:
        name, value = _parsed(override)
        place = _set(done.content, name, value)
        given.pop(place, None)  # a key that is set again comes last
        given[place] = f"--set {override}"
    # 2) Old names in the values of the command line.
    again = compat.recipe(done.content)
    for line in dict.fromkeys([*done.notes, *again.notes]):
        note(f"{path}: {line}")
    # 3) Validate.
    return checked(Recipe, again.content, str(path), text, path.parent, done.written | again.written, given)


def recipe_of(
    run: Path,
    overrides: Sequence[str] = (),
    *,
    settings: Mapping[str, Any] | None = None,
    options: Mapping[str, str] | None = None,
) -> Recipe:
    """Read the recipe of a run folder; `overrides`, `settings` and `options` are as for `load_recipe`.

    Raises:
        NescioError: It is no run folder, or a key or a value is wrong.
    """
    if not (run / "recipe.yaml").is_file():
        raise NescioError(f"{run}: no run folder, it has no recipe.yaml; name the --out of a `nescio run`")
    return load_recipe(run / "recipe.yaml", overrides, settings=settings, options=options)


def parse_recipe(keys: Mapping[str, Any]) -> Recipe:
    """Check a recipe that is given as a mapping; paths in it are relative to the working directory.

    Raises:
        NescioError: A key or a value is wrong.
    """
    return checked(Recipe, compat.recipe(_as_in_yaml(keys)).content, "nescio.fit", "", Path())


def _as_in_yaml(value: Any) -> Any:
    """Return a copy of a value, with paths as texts."""
    if isinstance(value, Mapping):
        return {key: _as_in_yaml(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_in_yaml(each) for each in value]
    return str(value) if isinstance(value, Path) else deepcopy(value)


def _parsed(override: str) -> tuple[str, Any]:
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise NescioError(f"--set {override}: must read a.b=value")
    try:
        return name, yaml_value(text)
    except yaml.YAMLError as error:
        raise NescioError(f"--set {override}: the value is not YAML") from error


def _set(content: dict[str, Any], name: str, value: Any) -> tuple[str, ...]:
    """Set a value, and return its place."""
    place = compat.recipe_place(tuple(name.split(".")), value)
    *parents, last = place
    for parent in parents:
        section = content.get(parent)
        if section is not None and not isinstance(section, dict):
            raise NescioError(f"--set {name}: {parent} is not a section")
        content[parent] = dict(section or {})  # a copy: sections that are one YAML alias are one mapping
        content = content[parent]
    content[last] = value
    return place
