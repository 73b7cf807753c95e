"""The trainings behind the paper's tables, each a run of its own; what they have in common is done once.

A variant's folder begins as a copy, with hard links to the weights, of the run it shares its first stages with, so that
those are found done. Knows recipes and runs; nothing of tables.
"""

import os
import shutil
from pathlib import Path

from nescio.pipeline.recipe import Recipe
from nescio.pipeline.run import Reporter, Run
from nescio.pipeline.sections import SubtractSection

_PARENTS = {"ch": "ch-cfg", "sub-cfg": "ch-cfg", "sub": "sub-cfg", "nudge": "ch-cfg", "system": "ch-cfg"}
_TABLE2 = ("nudge", "system")
COEFFICIENT = 0.5
"""Of the subtraction (paper, section 2.1)."""


def variant_recipe(recipe: Recipe, variant: str) -> Recipe:
    """The recipe of one training; what the name says is set, whatever the recipe says of it.

    Args:
        recipe: What all have in common.
        variant: `ch`, `ch-cfg`, `sub`, `sub-cfg`, or one of Table 2's sources, which is trained with twins.
    """
    subtract = SubtractSection(coefficient=COEFFICIENT) if variant.startswith("sub") else None
    pairs = recipe.pairs.model_copy(update={"twins": variant not in ("ch", "sub")})
    own = recipe.model_copy(update={"subtract": subtract, "pairs": pairs})
    return _of_one_source(own, variant) if variant in _TABLE2 else own


def whose_answers(recipe: Recipe) -> list[str]:
    """Whose replacement answers the two trainings of Table 2 learn from."""
    sources = recipe.generate.sources
    if len(sources) == 1:
        return [f"{sources[0].name}, asked in the way {way}" for way in _TABLE2]
    return [source.name for source in sources[:2]]


def _of_one_source(recipe: Recipe, variant: str) -> Recipe:
    """Table 2's data: of the first or the second source, equally many pairs of each; of a single one, of one way."""
    sources = recipe.generate.sources
    if len(sources) == 1:
        alone = sources[0].model_copy(update={"strategies": [variant]})
        return recipe.model_copy(update={"generate": recipe.generate.model_copy(update={"sources": [alone]})})
    name = sources[_TABLE2.index(variant)].name
    pairs = recipe.pairs.model_copy(update={"sources": [name], "balance": True})
    return recipe.model_copy(update={"pairs": pairs})


def train(recipe: Recipe, variant: str, root: Path, reporter: Reporter, until: str = "train") -> Path:
    """The run folder of a training, trained now if it is not.

    Args:
        recipe: What all trainings have in common.
        variant: Which one.
        root: The folder of all of them.
        reporter: Where progress goes.
        until: The last stage that is wanted of it.
    """
    folder, parent = root / variant, _PARENTS.get(variant)
    if parent is not None and not folder.exists():
        _branch(train(recipe, parent, root, reporter, "pairs"), folder)
    reporter.note(f"-- {variant}")
    Run(variant_recipe(recipe, variant), folder, reporter).execute(until)
    return folder


def _branch(source: Path, folder: Path) -> None:
    """A copy that shares weights, which are only ever replaced whole; other files may grow, as paid.jsonl does."""
    beside = folder.with_name(f".{folder.name}")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(source, beside, copy_function=_link_weights, ignore=shutil.ignore_patterns(".*"))
    beside.replace(folder)


def _link_weights(source: str, target: str) -> None:
    (os.link if source.endswith(".safetensors") else shutil.copy2)(source, target)
