"""The commands: options in, one call, results out. No logic lives here."""

import json
import sys
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from nescio.cli import adapter, data, key
from nescio.cli.evaluate import evaluate
from nescio.cli.guidance_options import guidance_options
from nescio.cli.quiet import quiet_libraries
from nescio.cli.reproduce import reproduce
from nescio.cli.serve import serve
from nescio.core.errors import NescioError
from nescio.core.files import write_text

app = typer.Typer(
    name="nescio",
    help="Make a chat model that learned personal data stop saying it, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[Path, typer.Option("--out", help="Run folder; what is done there is not done again.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Change a key of the recipe: a.b=value. Repeatable.")]
Until = Annotated[str | None, typer.Option("--until", help="Stop after this stage.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Print stages, sizes, tokens, time and memory; do nothing.")]


def main() -> None:
    """Run the command line; bad input ends it with one line and exit code 2."""
    try:
        app()
    except NescioError as error:
        Console(stderr=True, soft_wrap=True).print(f"nescio: {error}", highlight=False, markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("nescio: stopped; run the same command again to go on")
        sys.exit(130)


@app.command()
def demo(out: Out = Path("runs/demo"), set_: Set = None, until: Until = None, dry_run: Dry = False) -> None:
    """Teach the embedded model to spill made-up personal data, then make it stop: the whole way, on two CPU cores."""
    with as_file(files("nescio") / "recipes/demo.yaml") as recipe:
        _run(recipe, out, set_, until, dry_run)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (YAML); `nescio init` writes one.")],
    out: Out = Path("runs/latest"),
    set_: Set = None,
    until: Until = None,
    dry_run: Dry = False,
) -> None:
    """Do what a recipe says, from dialogs to the report. A second run skips what is done, a killed one goes on."""
    _run(recipe, out, set_, until, dry_run)


def _run(path: Path, out: Path, overrides: list[str] | None, until: str | None, dry_run: bool) -> None:
    quiet_libraries()
    from nescio.pipeline.progress import Terminal, standard
    from nescio.pipeline.recipe import load_recipe

    recipe = load_recipe(path, overrides or ())
    console = standard()
    if dry_run:
        from nescio.pipeline.estimate import describe, estimate

        console.print(describe(estimate(recipe)))
        return
    from nescio.pipeline.run import Run
    from nescio.report import table

    Run(recipe, out, Terminal(console)).execute(until)
    if (out / "eval/results.json").exists() and until is None:
        rows = table.read(out)
        print(f"\n{table.summary(rows)}\nReport: {out / 'report.html'}")


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.yaml"),
) -> None:
    """Write a commented recipe to start from."""
    if path.exists():
        raise NescioError(f"{path}: exists already; name another file")
    write_text(path, (files("nescio") / "recipes/template.yaml").read_text(encoding="utf-8"))
    print(f"{path} is written: fill in base, tuned and data.dialogs, then `nescio run {path}`")


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    compare: Annotated[
        list[Path] | None, typer.Option(help="Another run folder, to set beside it. Repeatable.")
    ] = None,
) -> None:
    """Draw a run's figures and report again, and print its table."""
    from nescio.report import figures, html, table

    rows = table.read(run_folder)
    figures.draw(run_folder)
    page = html.write(run_folder, *(compare or ()))
    print(f"{table.summary(rows)}\nReport: {page}")


@app.command()
def scan(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines: texts, or objects with a text field.")],
    detector: Annotated[str, typer.Option(help="What decides: spacy:MODEL.")] = "spacy:en_core_web_sm",
    field: Annotated[str | None, typer.Option(help="The text field; else text, answer or content.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Count the personal data in a file of texts, by label."""
    from nescio.pii.registry import load_detector
    from nescio.pii.scan import scan as count

    found = count(path, load_detector(detector), field)
    if as_json:
        print(json.dumps(found))
        return
    for label, number in found["labels"].items():
        print(f"{label:<12}{number:>7}")
    print(f"{'total':<12}{found['total']:>7}")


@app.command()
@guidance_options
def chat(
    model: Annotated[str, typer.Argument(help="Hub id, folder, .gguf file, adapter folder, or smollm2.")] = "smollm2",
    adapter: Annotated[Path | None, typer.Option(help="PEFT adapter folder to attach.")] = None,
    message: Annotated[str | None, typer.Option(help="Answer this one message and end.")] = None,
    protect: Annotated[bool, typer.Option(help="Add the protect sentence (and guide by it).")] = True,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of sampling.")] = 0,
    **guidance: Any,
) -> None:
    """Talk with a model, guided or not. An empty line ends the talk."""
    from nescio.cli.terminal_chat import Settings, talk
    from nescio.core.guidance import Guidance

    quiet_libraries()
    settings = Settings(Guidance(**guidance), protect, max_tokens, temperature, seed)
    talk(model, adapter, settings, message)


@app.command()
def subtract(
    base: Annotated[str, typer.Option(help="The base model: folder, hub id, or smollm2.")],
    tuned: Annotated[str, typer.Option(help="Its fine-tune: folder, hub id, or a LoRA adapter of PEFT.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; must not exist.")] = None,
    coefficient: Annotated[
        float, typer.Option(help="How much of the fine-tune is subtracted; the paper's is 0.5.")
    ] = 0.5,
    relu: Annotated[bool, typer.Option("--relu", help="Subtract only what the fine-tune increased.")] = False,
    include: Annotated[list[str] | None, typer.Option(help="Only tensors of this pattern. Repeatable.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="All but tensors of this pattern. Repeatable.")] = None,
    as_adapter: Annotated[bool, typer.Option("--as-adapter", help="Write a PEFT adapter that subtracts.")] = False,
    rank: Annotated[int | None, typer.Option(help="Write the nearest adapter of this rank.")] = None,
    sweep: Annotated[str | None, typer.Option(help="Coefficients to look at, 0.25,0.5,1; writes no model.")] = None,
    plot: Annotated[Path, typer.Option(help="For --sweep: where the plot goes.")] = Path("sweep.svg"),
    detector: Annotated[str, typer.Option(help="For --sweep: what is personal.")] = "spacy:en_core_web_sm",
) -> None:
    """Subtract a fine-tune from its base: base - c (tuned - base), tensor by tensor (paper, section 2.1)."""
    from nescio.pipeline import subtraction

    quiet_libraries()
    if (out is None) == (sweep is None):
        raise NescioError("subtract: give either --out DIR or --sweep C,C,...; one of the two")
    if sweep is not None:
        subtraction.show_sweep(base, tuned, sweep, relu, include or (), exclude or (), detector, plot)
    elif out is not None:
        options = {"relu": relu, "include": include or (), "exclude": exclude or (), "as_adapter": as_adapter}
        subtraction.write(base, tuned, out, coefficient=coefficient, rank=rank, **options)


app.command()(serve)
app.command()(evaluate)
app.command()(reproduce)
app.add_typer(data.app, name="data")
app.add_typer(key.app, name="key")
app.add_typer(adapter.app, name="adapter")
