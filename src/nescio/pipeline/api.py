"""`nescio.fit` and `nescio.evaluate`: a run, from Python."""

from pathlib import Path
from typing import Any

from nescio.pipeline.progress import Terminal, standard
from nescio.pipeline.recipe import Recipe, load_recipe
from nescio.pipeline.run import Run
from nescio.report import table


def fit(recipe: Recipe | Path | str, out: Path | str = "runs/latest") -> Path:
    """Carry out a recipe up to the training. Finished stages are skipped, as in `nescio run`.

    Args:
        recipe: A recipe, or its file.
        out: The run folder.

    Returns:
        The folder of the PEFT adapter.

    Raises:
        NescioError: The recipe is wrong, or something that it names is missing.
    """
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(Path(recipe))
    Run(chosen, Path(out), Terminal(standard())).execute("train")
    return Path(out) / "adapter"


def evaluate(run: Path | str, **settings: Any) -> list[dict[str, Any]]:
    """Evaluate a trained run, and write its table and report.

    Args:
        run: The run folder.
        **settings: Keys of the recipe's `evaluate` section that differ from those of the run.

    Returns:
        The rows of the table, as in `eval/results.json`.

    Raises:
        NescioError: The training is not finished, or a setting is wrong.
    """
    changed = {f"evaluate.{name}": value for name, value in settings.items()}
    Run(load_recipe(Path(run) / "recipe.yaml", settings=changed), Path(run), Terminal(standard())).evaluate()
    return table.read(Path(run))
