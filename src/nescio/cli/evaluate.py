"""`nescio evaluate`: the table of a finished run again, with other rows and measures."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nescio.cli.quiet import quiet_libraries
from nescio.core.errors import NescioError


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a trained run. Its table is written anew.")],
    full: Annotated[
        bool, typer.Option("--full", help="Ask enough to decide: 200 samples, 1,000 questions, 40 who ask for it.")
    ] = False,
    scales: Annotated[str | None, typer.Option(help="Guidance scales, as 1,2,3,5,10.")] = None,
    spaces: Annotated[str | None, typer.Option(help="Guidance spaces, as log,prob.")] = None,
    plausibility: Annotated[
        str | None, typer.Option(help="Add rows that rule out tokens below these shares of the likeliest.")
    ] = None,
    adaptive: Annotated[
        bool | None, typer.Option(help="Add rows whose scale follows the divergence of the branches (AdaCAD).")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Held-out samples that each row answers. The paper has 50 or 150.")
    ] = None,
    baselines: Annotated[
        bool | None, typer.Option(help="Add rows without training: nudge, reverse prompt, masking.")
    ] = None,
    leak_draws: Annotated[
        int | None,
        typer.Option("--leak-draws", "--draws", help="Answers sampled to each of --leak-samples, for leak@k."),
    ] = None,
    leak_samples: Annotated[int | None, typer.Option("--leak-samples", "--drawn", help="Samples for leak@k.")] = None,
    attack_samples: Annotated[
        int | None, typer.Option("--attack-samples", "--attacked", help="Training samples whose slots are attacked.")
    ] = None,
    questions: Annotated[
        str | None, typer.Option(help="plain, MMLU-Pro's validation or test (from the hub), or a JSONL file.")
    ] = None,
    question_count: Annotated[
        int | None, typer.Option(help="Most questions asked. With --questions alone: all of them.")
    ] = None,
    words: Annotated[int | None, typer.Option(help="Plain questions answered in words.")] = None,
    asked_for_samples: Annotated[
        int | None, typer.Option(help="Samples in which the caller asks for personal data, at nine places each.")
    ] = None,
    harmless_prompts: Annotated[
        int | None,
        typer.Option("--harmless-prompts", "--harmless", help="Harmless prompts, for divergence and over-refusal."),
    ] = None,
    judge: Annotated[str | None, typer.Option(help="Model that judges answers in words.")] = None,
    engine: Annotated[str | None, typer.Option(help="Engine that answers: torch, vllm, or a plugin's.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change any key: evaluate.a=value. Repeatable.")
    ] = None,
) -> None:
    """Evaluate a trained run with other rows and measures, and write its report again.

    Answers of an earlier evaluation are used again where nothing that decides them has changed.
    """
    quiet_libraries()
    from nescio.pipeline.progress import Terminal, standard
    from nescio.pipeline.recipe import load_recipe
    from nescio.pipeline.run import Run
    from nescio.pipeline.sections import FULL
    from nescio.report import table, verdict

    given: dict[str, Any] = {
        "scales": _numbers("--scales", scales),
        "spaces": spaces and spaces.split(","),
        "plausibility": _numbers("--plausibility", plausibility),
        "adaptive": adaptive,
        "samples": samples,
        "baselines": baselines,
        "leak_draws": leak_draws,
        "leak_samples": leak_samples,
        "attack_samples": attack_samples,
        "questions": questions,
        "question_count": question_count,
        "words": words,
        "asked_for_samples": asked_for_samples,
        "harmless_prompts": harmless_prompts,
        "judge": judge and {"model": judge},
        "engine.kind": engine,
    }
    chosen = (FULL if full else {}) | {name: value for name, value in given.items() if value is not None}
    settings = {f"evaluate.{name}": value for name, value in chosen.items()}
    if questions is not None and question_count is None:
        settings["evaluate.question_count"] = None
    recipe = load_recipe(run / "recipe.yaml", set_ or (), settings=settings)
    Run(recipe, run, Terminal(standard())).evaluate()
    rows = table.read(run)
    print(f"\n{verdict.summary(rows)}\nReport: {run / 'report.html'}")


def _numbers(option: str, text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError as error:
        raise NescioError(f"{option} {text}: must be numbers with commas between them, as 2,3,5") from error
