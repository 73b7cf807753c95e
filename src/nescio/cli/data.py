"""`nescio data …`: the steps from conversations to pairs, one at a time, from any file to any file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nescio.cli.options import SetOption
from nescio.cli.quiet import quiet_libraries

if TYPE_CHECKING:
    from nescio.pipeline.context import Context
    from nescio.pipeline.progress import Terminal

_HELP = "The steps from conversations to pairs, one at a time; `nescio run` does all of them."

_SOURCE = (
    "File, folder or glob of conversations: OpenAI's messages, ShareGPT, Alpaca, prompt and completion, LLM-PC or a "
    "plugin's format, in JSON, JSON lines or Parquet."
)

app = typer.Typer(help=_HELP, no_args_is_help=True)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file (YAML).")]
Samples = Annotated[Path, typer.Argument(help="Sample file (`nescio data samples`).")]


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help=_SOURCE)],
    out: Annotated[Path, typer.Argument(help="JSONL file to write.")],
    pii: Annotated[
        Path | None, typer.Option(help="LLM-PC's file of slot values, if it is not next to the dialogs.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Write bad rows to OUT's name with .bad.jsonl, and go on.")
    ] = False,
) -> None:
    """Read conversations of any format, check every row, and write them in nescio's own."""
    from nescio.core.errors import NescioError
    from nescio.core.files import SetAside, stop, write_jsonl
    from nescio.data.conversations import Conversations
    from nescio.data.read_dialogs import read_dialogs

    _check_place(out, source, pii)
    aside, known = None, Conversations()
    if skip_bad:
        bad = out.with_suffix(".bad.jsonl")
        _check_place(bad, source, pii)
        aside = SetAside(bad)

    def rows() -> Iterator[dict[str, Any]]:
        for dialog in read_dialogs(source, pii, aside or stop):
            known.number(dialog.messages)
            yield dialog.as_row()
        if not known and aside and aside.first:
            raise NescioError(f"{source}: all {aside.count} rows are bad; they are in {aside.path}; {aside.first}")
        if not known:
            raise NescioError(f"{source}: holds no dialogs; give a file that is not empty")

    count = write_jsonl(out, rows())
    print(f"{out}: {count} dialogs")
    if known.copies:
        print(f"{known.copies} of them are copies of others, with the same turns")
    if aside is not None:
        print(f"{aside.count} bad rows were left out; they are in {aside.path}")


@app.command()
def samples(
    recipe: RecipeFile,
    dialogs: Annotated[Path, typer.Argument(help="Conversations, in any format that convert reads.")],
    out: Annotated[Path, typer.Argument(help="Sample file to write.")],
    set_: SetOption = None,
) -> None:
    """Cut one sample at every piece of personal data in an assistant turn, by recorded slots or the detector."""
    from nescio.data.read_dialogs import read_dialogs
    from nescio.data.samples import write_samples

    _check_place(out, dialogs)
    run, _ = _at_work(recipe, set_)
    section = run.recipe.data
    kept, found = write_samples(
        read_dialogs(dialogs, section.pii), run.detector, out, section.train_samples, run.recipe.seed
    )
    print(f"{out}: {kept} of {found} samples")


@app.command()
def rewrite(
    recipe: RecipeFile,
    samples: Samples,
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where candidates and accounts go.")],
    set_: SetOption = None,
) -> None:
    """Ask the recipe's sources for replacement answers. Continues where it stopped; nothing is paid for twice."""
    from nescio.core.alone import alone
    from nescio.data.samples import read_samples
    from nescio.pipeline.prepare import ask

    run, terminal = _at_work(recipe, set_)
    wanted = list(read_samples(samples))
    with alone(out), terminal.stage("rewrite") as tick:  # two would pay for the same answers
        ask(run, wanted, out, out / "paid.jsonl", tick)
    print(f"{out / 'candidates.jsonl'} is written")


@app.command()
def pairs(
    recipe: RecipeFile,
    samples: Samples,
    candidates: Annotated[Path, typer.Argument(help="Candidate file (`nescio data rewrite`).")],
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where train.jsonl and the dataset card go.")],
    set_: SetOption = None,
) -> None:
    """Make preference pairs, and their twins, of samples and candidates, in the tuned model's chat template."""
    from nescio.pipeline.prepare import pair

    run, _ = _at_work(recipe, set_)
    said = pair(run, run.recipe.tuned or run.recipe.base, {"train": samples}, candidates, out)
    print(f"{out / 'train.jsonl'}: {said}")


@app.command()
def stats(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Dialogs, samples, candidates or pairs.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Count rows, dialogs, labels, sources and characters in a file of dialogs, samples, candidates or pairs.

    Dialogs may be in any format that `convert` reads, and in a folder or a glob of files.
    """
    from nescio.data.stats import stats as count

    found = count(path)
    if as_json:
        print(json.dumps(found))
        return
    of_dialogs = "" if found["kind"] == "dialogs" else f" of {found['dialogs']} dialogs"
    print(f"{found['rows']} {found['kind']}{of_dialogs}")
    for name, values in found["counts"].items():
        print(f"{name}: " + ", ".join(f"{value} {number}" for value, number in values.items()))
    for name, size in found["lengths"].items():
        print(f"{name}: {size['mean']} characters on average, {size['max']} at most")


def _check_place(out: Path, source: Path, pii: Path | None = None) -> None:
    """Check that a file to write is no folder, and none of the conversations that are read: these would be lost."""
    from nescio.core.errors import NescioError
    from nescio.core.files import check_no_folder
    from nescio.data.read_dialogs import files_of

    check_no_folder(out)
    read = [*files_of(source), *([pii] if pii else [])]
    if out.resolve() in (path.resolve() for path in read):
        raise NescioError(f"{out}: is what is read; choose another file to write to")


def _at_work(recipe: Path, overrides: list[str] | None) -> "tuple[Context, Terminal]":
    """A recipe at work on files outside any run, and where its progress goes."""
    quiet_libraries()
    from nescio.pipeline.context import Context
    from nescio.pipeline.progress import Terminal, standard
    from nescio.pipeline.recipe import load_recipe

    terminal = Terminal(standard())
    return Context(load_recipe(recipe, overrides or ()), Path(), terminal.note), terminal
