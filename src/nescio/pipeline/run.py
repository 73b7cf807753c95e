"""The run: every stage of the way from dialogs to the report, in order, and what each of them depends on.

The work of the stages is in `steps/`; how they are skipped and resumed is in `stages.py`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import yaml

from nescio import compat
from nescio.core.errors import NescioError
from nescio.core.files import file_hash, write_text
from nescio.core.model_source import identity, whole
from nescio.core.models import release
from nescio.data.read_dialogs import files_of
from nescio.pipeline import evaluate, prepare, train
from nescio.pipeline.context import Context, Tick
from nescio.pipeline.recipe import Recipe
from nescio.pipeline.sections import EvaluateSection
from nescio.pipeline.stage_cache import Stage, Stages, order
from nescio.training.processes import processes

Work = Callable[[Context, Path, Tick], None]
"""What a stage does: makes its outputs in the folder it is given."""


class Reporter(Protocol):
    """Shows how far a run is."""

    def stage(self, name: str) -> AbstractContextManager[Tick]:
        """Open a stage; the tick is called with done, total and a word."""

    def skipped(self, name: str) -> None:
        """A stage that was done before."""

    def note(self, text: str) -> None:
        """A line worth reading."""


class Run:
    """A recipe at work in its folder.

    Args:
        recipe: What to do.
        out: The run folder.
        reporter: Where progress goes.
    """

    def __init__(self, recipe: Recipe, out: Path, reporter: Reporter) -> None:
        self.recipe, self.out, self.reporter = recipe, out, reporter
        self._context = Context(recipe, out, reporter.note)

    def execute(self, until: str | None = None) -> None:
        """Do what is not done yet, up to a stage.

        Raises:
            NescioError: The folder holds another recipe's run, or something is missing; what was finished is kept.
        """
        stages = order(self.stages(), until)
        if processes().num_processes > 1:
            self._train_together(stages)
            return
        self._claim()
        machinery = Stages(self.out, self.recipe.seed)
        for stage in stages:
            if not machinery.run(stage):
                self.reporter.skipped(stage.name)

    def evaluate(self) -> None:
        """Make the table and the report of a trained run again, as the recipe says now; nothing before is touched.

        Raises:
            NescioError: The run is not trained to its end.
        """
        last = [stage for stage in self.stages() if stage.name in ("evaluate", "report")]
        missing = [name for name in last[0].inputs if not (self.out / name).exists()]
        if missing:
            raise NescioError(
                f"{self.out}: {missing[0]} is missing; finish the run first, `nescio run … --out {self.out}`"
            )
        self._claim()
        machinery = Stages(self.out, self.recipe.seed)
        for stage in last:
            if not machinery.run(stage):
                self.reporter.skipped(stage.name)

    def _train_together(self, stages: list[Stage]) -> None:
        """One of several processes: they share the training; all else is done by one, before and after.

        Raises:
            NescioError: They are asked for anything but training, or what comes before it is not done.
        """
        machinery, (*before, last) = Stages(self.out, self.recipe.seed), stages
        missing = [stage.name for stage in before if not machinery.is_done(stage)]
        if last.name != "train" or missing:
            raise NescioError(
                f"{self.out}: several processes share the train stage only; run --until pairs in one process, then "
                "--until train in several"
            )
        folder = machinery.left(last)
        processes().wait_for_everyone()  # before the first one writes what the others look for
        if processes().is_main_process:
            machinery.run(last)
        elif folder is not None:
            last.work(folder)

    def _claim(self) -> None:
        path, mine = self.out / "recipe.yaml", self.recipe.plain()
        if path.exists():
            theirs = _plain_yaml(path)
            differs = [name for name in ("base", "tuned") if theirs.get(name) != mine[name]]
            if _source(theirs) != _source(mine):
                differs.append("data")
            if differs:
                raise NescioError(
                    f"{self.out}: holds a run of another recipe ({differs[0]} differs); give another --out"
                )
        write_text(path, yaml.safe_dump(mine, sort_keys=False, allow_unicode=True))

    def stages(self) -> list[Stage]:
        """All stages, in order, each with all that decides its result."""
        plain, seed = self.recipe.plain(), self.recipe.seed
        keyed = compat.stage_sections(plain, unset().plain())
        base = identity(whole(self.recipe.base, "base"))
        tuned = None if self.recipe.tuned is None else identity(whole(self.recipe.tuned, "tuned"))
        section = self.recipe.data
        read = [] if section.dialogs is None else [*files_of(section.dialogs), *([section.pii] if section.pii else [])]
        source = [file_hash(path) for path in read]
        samples, pairs = ("samples/train.jsonl", "samples/test.jsonl"), ("pairs/train.jsonl", "pairs/test.jsonl")
        split = ("data/train.jsonl", "data/test.jsonl")
        aside = ("data/bad.jsonl",) if section.skip_bad else ()
        answers = ("candidates.jsonl", "failed.jsonl", "sources.json")
        made = () if self.recipe.tuned else ("tuned",)
        start = made if self.recipe.subtract is None else ("subtracted",)
        checked = plain["data"]["validation_samples"]
        prompt_limit = plain["train"]["max_prompt_length"]
        # What the detector says decides about training only where it chooses the epoch or masks the answers.
        by_leakage = plain["train"]["keep"] == "leakage"
        asked = (samples[1],) if by_leakage else ()
        judging = [plain["detector"], checked, plain["evaluate"]["max_tokens"]]
        judging = judging if by_leakage or plain["train"]["method"] == "sft_scrubbed" else []

        def stage(
            name: str, work: Work, outputs: tuple[str, ...], sections: str, inputs: tuple[str, ...], more: Any
        ) -> Stage:
            depends = [{section: keyed[section] for section in sections.split()}, seed, more]
            return Stage(name, outputs, depends, tuple(dict.fromkeys(inputs)), self._reported(name, work))

        judged = (*samples, *split, "adapter", *made, *start)
        compared = _compared(self.recipe.evaluate)
        local = [each.model for each in self.recipe.generate.sources if not each.is_endpoint and each.model]
        sources = [identity(model) for model in local]
        stages = [
            stage(
                "data",
                prepare.data,
                (*split, *aside),
                "",
                (),
                [_source(plain), section.test_share, section.skip_bad, source],
            ),
            stage("tune", train.tune, ("tuned",), "tune", ("data/train.jsonl",), base),
            stage("subtract", train.subtract, ("subtracted",), "subtract", made, [base, tuned]),
            stage("samples", prepare.samples, samples, "detector", split, plain["data"]["train_samples"]),
            stage("candidates", prepare.candidates, answers, "generate detector", samples, [base, checked, sources]),
            stage(
                "pairs",
                prepare.pairs,
                (*pairs, "pairs/README.md"),
                "pairs",
                (*samples, "candidates.jsonl", *start),
                [tuned, prompt_limit],
            ),
            stage("train", train.train, ("adapter",), "train pairs", (*pairs, *start, *asked), [tuned, judging]),
            stage("evaluate", evaluate.evaluate, ("eval",), "evaluate detector pairs", judged, [base, tuned, compared]),
            stage(
                "report", evaluate.report, ("figures", "report.html"), "evaluate", ("eval", "adapter/log.jsonl"), None
            ),
        ]
        absent = {name for name in ("tune", "subtract") if getattr(self.recipe, name) is None}
        return [each for each in stages if each.name not in absent]

    def _reported(self, name: str, work: Work) -> Callable[[Path], None]:
        def wrapped(folder: Path) -> None:
            with self.reporter.stage(name) as tick:
                work(self._context, folder, tick)
            release()

        return wrapped


def _compared(section: EvaluateSection) -> list[str]:
    """The content of what an evaluation names by its place: models, adapters, questions and a local judge.

    Raises:
        NescioError: A row's model is an adapter.
    """
    models = [whole(row.model, f"evaluate.rows, {row.name}: model") for row in section.rows if row.model]
    adapters = [row.adapter for row in section.rows if row.adapter]
    models += [section.judge.model] if section.judge and not section.judge.is_endpoint else []
    questions = Path(section.questions)
    return [*map(identity, models + adapters), *([file_hash(questions)] if questions.is_file() else [])]


def unset() -> Recipe:
    """A recipe that sets nothing, with every section and an item in every list."""
    given: dict[str, Any] = {"base": "-", "tune": {}, "subtract": {}, "data": {"synthetic": {}}}
    return Recipe.model_validate(given | {"evaluate": {"rows": [{"name": "-"}], "judge": {"model": "-"}}})


def _source(recipe: dict[str, Any]) -> list[Any]:
    """Where a recipe's dialogs come from."""
    data = recipe.get("data") or {}
    return [data.get("dialogs"), data.get("pii"), data.get("synthetic")]


def _plain_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise NescioError(f"{path}: damaged; delete it to go on with the recipe you give") from error
    return content if isinstance(content, dict) else {}
