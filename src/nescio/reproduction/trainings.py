"""The trainings behind the paper's tables. Each is a run of its own; common stages are done once.

The folder of a variant begins as a copy of the run that it shares its first stages with, with hard links to the
weights, so that these stages are done already.
"""

import os
import shutil
from pathlib import Path

from nescio.pipeline.recipe import Recipe
from nescio.pipeline.run import Reporter, Run
from nescio.pipeline.train_sections import SubtractSection

_PARENTS = {"ch": "ch-cfg", "sub-cfg": "ch-cfg", "sub": "sub-cfg", "nudge": "ch-cfg", "system": "ch-cfg"}
_TABLE2 = ("nudge", "system")
COEFFICIENT = 0.5
"""Coefficient of the subtraction (paper, section 2.1)."""


def variant_recipe(recipe: Recipe, variant: str) -> Recipe:
    """Return the recipe of one training; the settings that its name stands for override the recipe's own.

    Args:
        recipe: What all trainings have in common.
        variant: `ch`, `ch-cfg`, `sub`, `sub-cfg`, or one of Table 2's sources, which is trained with twins.
    """
    subtract = SubtractSection(coefficient=COEFFICIENT) if variant.startswith("sub") else None
    pairs = recipe.pairs.model_copy(update={"twins": variant not in ("ch", "sub")})
    own = recipe.model_copy(update={"subtract": subtract, "pairs": pairs})
    return _of_one_source(own, variant) if variant in _TABLE2 else own


def whose_answers(recipe: Recipe) -> list[str]:
    """Return whose replacement answers the two trainings of Table 2 learn from."""
    sources = recipe.generate.sources
    if len(sources) == 1:
        return [f"{sources[0].name} with the strategy {way}" for way in _TABLE2]
    return [source.name for source in sources[:2]]


def _of_one_source(recipe: Recipe, variant: str) -> Recipe:
    """Use the first or the second source, equally many pairs of each, or one of the two strategies of a single one."""
    sources = recipe.generate.sources
    if len(sources) == 1:
        alone = sources[0].model_copy(update={"strategies": [variant]})
        return recipe.model_copy(update={"generate": recipe.generate.model_copy(update={"sources": [alone]})})
    name = sources[_TABLE2.index(variant)].name
    both = [source.name for source in sources[: len(_TABLE2)]]
    pairs = recipe.pairs.model_copy(update={"sources": [name], "balance": both})
    return recipe.model_copy(update={"pairs": pairs})


def train(recipe: Recipe, variant: str, root: Path, reporter: Reporter, *, until: str = "train") -> Path:
    """Return the run folder of a training; what is not done yet is done now.

    Args:
        recipe: What all trainings have in common.
        variant: Name of the training.
        root: Folder of all trainings.
        reporter: Receives progress.
        until: Last stage that is needed.
    """
    folder, parent = root / variant, _PARENTS.get(variant)
    if parent is not None and not folder.exists():
        _branch(train(recipe, parent, root, reporter, until="pairs"), folder)
    reporter.note(f"-- {variant}")
    Run(variant_recipe(recipe, variant), folder, reporter).execute(until)
    return folder


def _branch(source: Path, folder: Path) -> None:
    """Copy a run; weights are shared, because they are only ever replaced as a whole. Other files may grow."""
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(source, unfinished, copy_function=_link_weights, ignore=shutil.ignore_patterns(".*"))
    unfinished.replace(folder)


def _link_weights(source: str, target: str) -> None:
    (os.link if source.endswith(".safetensors") else shutil.copy2)(source, target)
