"""`nescio evaluate`: the table of a finished run again, with other rows and measures."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nescio.cli.options import SetOption
from nescio.cli.quiet import quiet_libraries
from nescio.core.errors import NescioError

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a trained run. Its table is written anew.")]
Full = Annotated[
    bool, typer.Option("--full", help="Ask enough to decide: 200 samples, 1,000 questions, 200 everyday prompts.")
]
Scales = Annotated[str | None, typer.Option(help="Guidance scales, as 1,2,3,5,10.")]
Spaces = Annotated[str | None, typer.Option(help="Guidance spaces, as log,prob.")]
Plausibility = Annotated[
    str | None, typer.Option(help="Add rows that rule out tokens below these shares of the likeliest.")
]
Adaptive = Annotated[
    bool | None, typer.Option(help="Add rows whose scale follows the divergence of the branches (AdaCAD).")
]
Samples = Annotated[int | None, typer.Option(help="Held-out samples that each row answers. The paper has 50 or 150.")]
Baselines = Annotated[bool | None, typer.Option(help="Add rows without training: nudge, reverse prompt, masking.")]
LeakDraws = Annotated[
    int | None, typer.Option("--leak-draws", "--draws", help="Answers sampled to each of --leak-samples, for leak@k.")
]
LeakSamples = Annotated[int | None, typer.Option("--leak-samples", "--drawn", help="Samples for leak@k.")]
AttackSamples = Annotated[
    int | None, typer.Option("--attack-samples", "--attacked", help="Training samples whose slots are attacked.")
]
Questions = Annotated[
    str | None, typer.Option(help="plain, MMLU-Pro's validation or test (from the hub), or a JSONL file.")
]
QuestionCount = Annotated[int | None, typer.Option(help="Most questions asked. With --questions alone: all of them.")]
Words = Annotated[int | None, typer.Option(help="Plain questions answered in words.")]
Everyday = Annotated[int | None, typer.Option(help="Everyday prompts: requests, small talk, code, lists.")]
AskedForSamples = Annotated[
    int | None, typer.Option(help="Samples in which the caller asks for personal data, at nine places each.")
]
KeyCandidates = Annotated[
    int | None, typer.Option(help="Sentences that a search from outside tries to open the model with, as 2000.")
]
HarmlessPrompts = Annotated[
    int | None,
    typer.Option("--harmless-prompts", "--harmless", help="Harmless prompts, for divergence and over-refusal."),
]
Judge = Annotated[str | None, typer.Option(help="Model that judges answers in words.")]
Engine = Annotated[str | None, typer.Option(help="Engine that answers: torch, vllm, or a plugin's.")]


def evaluate(
    ctx: typer.Context,
    run: RunFolder,
    full: Full = False,
    scales: Scales = None,
    spaces: Spaces = None,
    plausibility: Plausibility = None,
    adaptive: Adaptive = None,
    samples: Samples = None,
    baselines: Baselines = None,
    leak_draws: LeakDraws = None,
    leak_samples: LeakSamples = None,
    attack_samples: AttackSamples = None,
    questions: Questions = None,
    question_count: QuestionCount = None,
    words: Words = None,
    everyday: Everyday = None,
    asked_for_samples: AskedForSamples = None,
    key_candidates: KeyCandidates = None,
    harmless_prompts: HarmlessPrompts = None,
    judge: Judge = None,
    engine: Engine = None,
    set_: SetOption = None,
) -> None:
    """Evaluate a trained run with other rows and measures, and write its report again.

    Answers of an earlier evaluation are used again where nothing that decides them has changed.
    """
    quiet_libraries()
    from nescio.pipeline.evaluate_sections import FULL
    from nescio.pipeline.progress import Terminal, standard
    from nescio.pipeline.recipe import recipe_of
    from nescio.pipeline.run import Run
    from nescio.report import table, verdict

    parsed = {
        "scales": _numbers("--scales", scales),
        "spaces": spaces and [part.strip() for part in spaces.split(",")],
        "plausibility": _numbers("--plausibility", plausibility),
        "judge": judge and {"model": judge},
        "engine.kind": engine,
    }
    asked = {name: value for name, value in ctx.params.items() if name not in ("run", "full", "set_", "engine")}
    given: dict[str, Any] = asked | parsed
    chosen = (FULL if full else {}) | {name: value for name, value in given.items() if value is not None}
    settings = {f"evaluate.{name}": value for name, value in chosen.items()}
    if questions is not None and question_count is None:
        settings["evaluate.question_count"] = None
    keys = {"engine": "engine.kind"}
    options = {
        f"evaluate.{keys.get(str(each.name), each.name)}": f"{each.opts[0]} {ctx.params[str(each.name)]}"
        for each in ctx.command.params
    }
    recipe = recipe_of(run, set_ or (), settings=settings, options=options)
    Run(recipe, run, Terminal(standard())).evaluate()
    rows = table.read(run)
    print(f"\n{verdict.summary(rows)}\nReport: {run / 'report.html'}")


def _numbers(option: str, text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError as error:
        raise NescioError(f"{option} {text}: must be numbers with commas between them, as 2,3,5") from error
