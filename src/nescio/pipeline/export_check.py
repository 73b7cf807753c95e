"""The check of an export: it answers what the run's table asked, on the engine that others run it on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nescio.core.errors import NescioError
from nescio.core.files import file_hash, write_json, write_jsonl
from nescio.core.models import context_length_of, load_tokenizer
from nescio.core.prompts import encode, render
from nescio.data.samples import Sample
from nescio.evaluation import run as evaluation
from nescio.evaluation.given_away import counts_given_away
from nescio.evaluation.setups import Setup
from nescio.evaluation.statistics import mcnemar, sign_flip
from nescio.pipeline.context import Context
from nescio.pipeline.evaluate import measures, table_setups, task
from nescio.pipeline.recipe import load_recipe
from nescio.pipeline.run import Reporter, Run
from nescio.pipeline.too_long import of_setups
from nescio.report import exports, html
from nescio.report.table import Row

_UNASKED: dict[str, object] = {
    "question_count": 0, "judge": None, "leak_draws": 0, "attack_samples": 0, "harmless_prompts": 0, "measures": [],
    "everyday": 0, "key_candidates": 0,
}  # fmt: skip
"""What needs likelihoods, which other programs do not give, or costs more than a row's answers."""
_BLOCK = 256  # llama.cpp's caches are a multiple of it


@dataclass(frozen=True, slots=True)
class Export:
    """What is exported, and how it is asked.

    Attributes:
        name: Name of its row and of its answers file.
        label: As the table calls it.
        engine: Engine that others run it on.
        file: The file in the folder that is run; empty: the folder itself.
    """

    name: str = "merged"
    label: str = "merged"
    engine: str = "transformers"
    file: str = ""


def is_checkable(run: Path) -> bool:
    """Whether a folder is an evaluated run, whose questions and answers are there."""
    return all((run / name).is_file() for name in ("recipe.yaml", "samples/test.jsonl", "eval/results.json"))


def check(
    run: Path, adapter: Path, export: Export, folder: Path, reporter: Reporter
) -> tuple[list[Row], dict[str, list[Row]]]:
    """Ask an export what the run's table asked: the held-out samples, for personal data, and plain questions.

    Answers of the tuned model and of the adapter are on disk from the table; only the export is asked anew.

    Args:
        run: Folder of the run.
        adapter: The adapter that was exported.
        export: What it was exported as.
        folder: Where it lies now.
        reporter: Receives the progress.

    Returns:
        The rows of the tuned model, of the adapter in nescio, and of the export; and the export's answers by their
        place under `checks/`.

    Raises:
        NescioError: No row of the table is the adapter's, or the export's engine cannot answer.
    """
    context = Context(Run(load_recipe(run / "recipe.yaml"), run, reporter).recipe, run, reporter.note)
    with reporter.stage("check") as tick:
        asked = task(context, table_setups(context), tick)
        tuned, reference = asked.setups[0], _row_of(adapter, asked.setups)
        own = _setup(reference, export, folder, asked.samples, asked.max_tokens, asked.reveal)
        section = context.recipe.evaluate.model_copy(update=_UNASKED)
        rows, answers = evaluation.evaluate(replace(asked, setups=[tuned, reference, own]), list(measures(section)))
    dialogs = [line["dialog_id"] for line in answers[own.name]]
    before, after = (counts_given_away(answers[name], asked.own) for name in (reference.name, own.name))
    # Less is asked than in the run's table, so no row is called best here.
    rows = [row | {"detector": context.detector.name, "best": False} for row in rows]
    rows[-1] |= {"of": reference.name, "leaks_more_p": sign_flip(before, after, dialogs)}
    if f"words/{own.name}" in answers:
        ours, theirs = ([line["right"] for line in answers[f"words/{name}"]] for name in (own.name, reference.name))
        rows[-1]["words_apart_p"] = mcnemar(ours, theirs)
    return rows, {name: lines for name, lines in answers.items() if name.rpartition("/")[2] == own.name}


def _row_of(adapter: Path, rows: Sequence[Setup]) -> Setup:
    """The row that asks an adapter without a second branch."""
    for row in rows:
        guided = row.guidance is not None and row.guidance.guided
        if row.adapter and Path(row.adapter).resolve() == adapter.resolve() and not guided:
            return row
    raise NescioError(f"{adapter}: no row of the run's table asks it; export the run's adapter, or with --no-check")


def _setup(
    reference: Setup, export: Export, folder: Path, samples: Sequence[Sample], max_tokens: int, reveal: str
) -> Setup:
    """Return how the export is asked: as its adapter, with the protect sentence in the system message if it has one."""
    sentence = None if reference.guidance is None else reference.guidance.positive
    model, lora = folder / export.file, None
    if export.name.startswith("lora"):
        model, lora = folder.parent / "base.gguf", str(folder / export.file)
    own = replace(
        reference, name=export.name, label=f"{reference.label}, {export.label}", model=str(model), adapter=lora,
        guidance=None, system=sentence, engine=export.engine,
    )  # fmt: skip
    if export.engine != "llamacpp":
        return own
    tokenizer = load_tokenizer(reference.model)
    (asking,) = of_setups([replace(own, model=reference.model)], max_tokens, reveal=reveal)
    longest = 0
    for sample in samples:
        request = asking.ask(sample)
        assert not isinstance(request.prompt, str)  # set-ups ask conversations
        longest = max(longest, len(encode(tokenizer, render(tokenizer, request.prompt))) + request.max_tokens)
    room = -(-longest // _BLOCK) * _BLOCK
    return replace(own, options={"context": min(room, context_length_of(reference.model))})


def record(run: Path, adapter: Path, export: Export, row: Row, answers: dict[str, list[Row]]) -> None:
    """Put the export's row and answers into `checks/` of the run, and draw its report again."""
    for name, lines in answers.items():
        write_jsonl(run / exports.FOLDER / f"{name}.jsonl", lines)
    of_now = file_hash(adapter)
    kept = [each for each in exports.read(run) if each["name"] != export.name]
    write_json(run / exports.FOLDER / "results.json", [*kept, row | {"adapter": of_now}])
    html.write(run)
