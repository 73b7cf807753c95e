"""`nescio evaluate`: a finished run's table again, with other rows and measures."""

from pathlib import Path
from typing import Annotated

import typer

from nescio.cli.quiet import quiet_libraries

_LISTS = ("scales", "spaces", "plausibility")


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, trained; its table is made anew.")],
    scales: Annotated[str | None, typer.Option(help="Guidance scales, 1,2,3,5,10.")] = None,
    spaces: Annotated[str | None, typer.Option(help="log,prob or one of them.")] = None,
    plausibility: Annotated[
        str | None, typer.Option(help="Further rows that rule out tokens below this share.")
    ] = None,
    adaptive: Annotated[
        bool | None, typer.Option(help="Further rows whose scale follows the branches (AdaCAD).")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Held-out samples answered by each row; the paper's 50 or 150.")
    ] = None,
    baselines: Annotated[
        bool | None, typer.Option(help="Rows without training: nudge, reverse prompt, masking.")
    ] = None,
    draws: Annotated[int | None, typer.Option(help="Answers sampled to each of --drawn samples, for leak@k.")] = None,
    drawn: Annotated[int | None, typer.Option(help="How many samples those are.")] = None,
    attacked: Annotated[int | None, typer.Option(help="Training samples whose slots are attacked.")] = None,
    questions: Annotated[
        str | None, typer.Option(help="plain, or MMLU-Pro: validation, test (from the hub) or a JSONL file.")
    ] = None,
    question_count: Annotated[
        int | None, typer.Option(help="At most so many questions; all, where only --questions is given.")
    ] = None,
    harmless: Annotated[int | None, typer.Option(help="Harmless prompts answered, for KL and over-refusal.")] = None,
    judge: Annotated[
        str | None, typer.Option(help="A model that judges answers in words, and is judged first.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="Whom the rows are asked of: torch or vllm.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change another key: evaluate.a=value.")] = None,
) -> None:
    """Evaluate a trained run with other rows and measures, and write its report again. Goes on where it stopped."""
    quiet_libraries()
    from nescio.pipeline.progress import Terminal, standard
    from nescio.pipeline.recipe import load_recipe
    from nescio.pipeline.run import Run
    from nescio.report import table

    given = {
        "scales": scales, "spaces": spaces, "plausibility": plausibility, "adaptive": adaptive,
        "samples": samples, "baselines": baselines,
        "draws": draws, "drawn": drawn, "attacked": attacked, "questions": questions,
        "question_count": question_count, "harmless": harmless, "judge": judge and f"{{model: {judge}}}",
        "engine": engine,
    }  # fmt: skip
    overrides = ["evaluate.question_count=null"] if questions is not None and question_count is None else []
    overrides += [
        f"evaluate.{name}={f'[{value}]' if name in _LISTS else value}"
        for name, value in given.items()
        if value is not None
    ]
    recipe = load_recipe(run / "recipe.yaml", [*overrides, *(set_ or [])])
    Run(recipe, run, Terminal(standard())).evaluate()
    rows = table.read(run)
    print(f"\n{table.summary(rows)}\nReport: {run / 'report.html'}")
