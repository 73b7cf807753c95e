"""`nescio.fit` and `nescio.evaluate`: the stages of a run, from Python."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError
from nescio.pipeline.progress import Terminal, standard
from nescio.pipeline.recipe import load_recipe, parse_recipe, recipe_of
from nescio.pipeline.run import Run
from nescio.report import table


def fit(recipe: Mapping[str, Any] | Path | str, out: Path | str = "runs/latest") -> Path:
    """Carry out a recipe up to the adapter, as `nescio run RECIPE --until bake` does (`train` where nothing is baked).

    Finished stages are skipped, and a stage that was stopped goes on. Progress is printed.

    Args:
        recipe: The recipe's file (YAML), or its keys as a mapping: `{"base": "smollm2", "tune": {}, "data": {…}}`.
            Paths are relative to the file, in a mapping to the working directory.
        out: The run folder; created when missing.

    Returns:
        The folder of the PEFT adapter, `OUT/adapter`.

    Raises:
        NescioError: A key or value is wrong, something that the recipe names is missing, or the folder holds the run
            of another recipe.
    """
    chosen = parse_recipe(recipe) if isinstance(recipe, Mapping) else load_recipe(_path(recipe, "nescio.fit"))
    folder = _path(out, "nescio.fit: out")
    Run(chosen, folder, Terminal(standard())).execute("train" if chosen.bake is None else "bake")
    return folder / "adapter"


def evaluate(run: Path | str, **settings: Any) -> list[dict[str, Any]]:
    """Evaluate a trained run and write its table and report, as `nescio evaluate RUN` does.

    Answers that are on disk are not asked for again. Progress is printed.

    Args:
        run: The run folder, as `fit` leaves it.
        **settings: Keys of the recipe's section `evaluate`, which replace those of the run: `samples=20`,
            `scales=[1.5, 3]`, `engine={"kind": "vllm"}`. The run folder keeps them.

    Returns:
        The rows of the table, as in `RUN/eval/results.json`: one dictionary for each.

    Raises:
        NescioError: The training is not finished, or a key or value is wrong.
    """
    folder = _path(run, "nescio.evaluate")
    changed = {f"evaluate.{name}": value for name, value in settings.items()}
    given = {f"evaluate.{name}": f"nescio.evaluate: {name}" for name in settings}
    Run(recipe_of(folder, settings=changed, options=given), folder, Terminal(standard())).evaluate()
    return table.read(folder)


def _path(given: Any, place: str) -> Path:
    try:
        return Path(given)
    except TypeError as error:
        raise NescioError(f"{place}: must be a path, is {given!r}") from error
