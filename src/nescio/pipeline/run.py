"""A run: a recipe carried out in a folder, from dialogs to the report."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import yaml

from nescio import compat
from nescio.core.alone import alone
from nescio.core.callbacks import Tick
from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.core.files import write_text
from nescio.core.guidance import REVEAL
from nescio.core.models import best_device, release
from nescio.core.quantization import check_quantization
from nescio.core.yaml_config import yaml_value
from nescio.pipeline.context import Context
from nescio.pipeline.forget import CERTIFICATES, Erasure, erasure_stage, holds, refuse_retraining
from nescio.pipeline.inputs import check_inputs
from nescio.pipeline.recipe import Recipe
from nescio.pipeline.stage_cache import Stage, StageCache, is_run, order, read_manifest
from nescio.pipeline.stages import Work, source_of_dialogs, stages_of
from nescio.pipeline.teacher import check_not_baked, keep_teacher, stages_done
from nescio.training.processes import processes


class Reporter(Protocol):
    """Receives the progress of a run."""

    def stage(self, name: str) -> AbstractContextManager[Tick]:
        """Open a stage; the tick takes done, total and a word."""

    def skipped(self, name: str) -> None:
        """Report a stage that was done before."""

    def note(self, text: str) -> None:
        """Show a line worth reading."""


class Run:
    """A run: a recipe and its folder.

    Args:
        recipe: What to do.
        out: The run folder.
        reporter: Receives the progress.
    """

    def __init__(self, recipe: Recipe, out: Path, reporter: Reporter) -> None:
        self.recipe, self.out, self.reporter = _as_trained(recipe, out, reporter.note), out, reporter
        self._context = Context(self.recipe, out, reporter.note)

    def execute(self, until: str | None = None) -> None:
        """Do what is not done yet, up to a stage.

        Raises:
            NescioError: The folder holds another recipe's run, or something is missing. Finished stages stay finished.
        """
        stages = order(self.stages(), until)
        if processes().num_processes > 1:
            self._train_together(stages)
        else:
            self._do(stages)

    def check(self, until: str | None = None) -> set[str]:
        """Look for all that the recipe names, up to a stage, as if nothing was done yet; nothing is written.

        Returns:
            The names of these stages.

        Raises:
            NescioError: Something is missing.
        """
        names = {stage.name for stage in order(self.stages(), until)}
        check_inputs(self.recipe, names, self.reporter.note)
        return names

    def evaluate(self) -> None:
        """Do the evaluate and report stages of a trained run, as the recipe says now; no other stage is touched.

        Raises:
            NescioError: The training is not finished.
        """
        self._do_last("evaluate", "report", writes="evaluate")

    def bake(self) -> None:
        """Bake the adapter of a trained run, as the recipe says now, and evaluate; no stage before is touched.

        Raises:
            NescioError: The training is not finished.
        """
        with alone(self.out):
            keep_teacher(self.out)
        self._do_last("anchors", "bake", "evaluate", "report", writes="bake")

    def forget(self, erasure: Erasure) -> Path:
        """Carry out an erasure request on the adapter of a trained run; return the folder of its certificate.

        Raises:
            NescioError: The training is not finished, or the request is wrong.
        """
        with alone(self.out):
            stage = erasure_stage(self._context, erasure, self._reported)
            self._check_same_run()
            self._write_recipe()
            stages = StageCache(self.out, self.recipe.seed)
            if moving := stages.moving("forget-*", but=stage):  # the only copy of an adapter may be in there
                raise NescioError(
                    f"{moving[0]}: another request was stopped while its adapter was put in place; repeat that command "
                    "first, with the same people and options"
                )
            if not holds(self.out, stage):
                stages.drop(stage)
            if not stages.run(stage):
                self.reporter.skipped(stage.name)
        return next(self.out / name for name in stage.outputs if name.startswith(CERTIFICATES))

    def _do_last(self, *names: str, writes: str) -> None:
        last = [stage for stage in self.stages() if stage.name in names]
        made = {name for stage in last for name in stage.outputs}
        missing = [
            name for stage in last for name in stage.inputs if name not in made and not (self.out / name).exists()
        ]
        if missing:
            raise NescioError(
                f"{self.out}: {missing[0]} is missing; finish the run first, `nescio run … --out {self.out}`"
            )
        self._do(last, writes)

    def _do(self, stages: list[Stage], writes: str | None = None) -> None:
        """Do stages.

        Args:
            stages: Those that are not finished are done.
            writes: The stage behind which the recipe is written: until then the folder holds what another one made, and
                this one may fail. None: it is written first.
        """
        # Before hours of training, not after.
        names = {stage.name for stage in stages}
        if "report" in names:
            require("matplotlib", "figures", "the report")
        done = read_manifest(self.out / "manifest.json")["stages"]
        left = {name for name in names if name == "evaluate" or name not in done}
        check_inputs(self.recipe, left, self.reporter.note)
        for name, section in (("tune", self.recipe.tune), ("train", self.recipe.train)):
            if section and section.quantize and name in names:
                check_quantization(section.quantize, best_device(), f"{name}.quantize")
        self._check_place(stages)
        with alone(self.out):
            self._check_same_run()
            if self.recipe.bake is None:
                check_not_baked(self.out, stages)
            if writes is None:
                self._write_recipe()
            cache = stages_done(self.out, self.recipe.seed)
            self._keep_forgotten(stages, cache)
            for stage in stages:
                if not cache.run(stage):
                    self.reporter.skipped(stage.name)
                if stage.name == writes:
                    self._write_recipe()

    def _keep_forgotten(self, stages: Sequence[Stage], cache: StageCache) -> None:
        """Refuse to make the adapter again after an erasure request, before anything is done for it.

        Raises:
            NescioError: One of the stages would.
        """
        names = [stage.name for stage in self.stages()]
        making = names[: 1 + next(names.index(stage.name) for stage in self.stages() if "adapter" in stage.outputs)]
        for stage in stages:
            if stage.name in making and not cache.is_done(stage):
                refuse_retraining(self.out, f"the stage {stage.name}")

    def _train_together(self, stages: list[Stage]) -> None:
        """Take part in the train stage as one of several processes; one process alone does all other stages.

        Raises:
            NescioError: Another stage is asked for, or the stages before training are not done.
        """
        cache, (*before, last) = stages_done(self.out, self.recipe.seed), stages
        missing = [stage.name for stage in before if not cache.is_done(stage)]
        if last.name != "train" or missing:
            before_it = "pairs" if self.recipe.train.anchors is None else "anchors"
            raise NescioError(
                f"{self.out}: several processes share the train stage only; run --until {before_it} in one process, "
                "then --until train in several"
            )
        self._keep_forgotten([last], cache)
        folder = cache.working_folder(last)
        processes().wait_for_everyone()  # before the first writes what the others look for
        if processes().is_main_process:
            with alone(self.out):
                cache.run(last)
        elif folder is not None:
            last.work(folder)

    def _check_place(self, stages: Sequence[Stage]) -> None:
        """Refuse a folder that holds other files where the run would write, as a project's own data/ and recipe.yaml.

        Raises:
            NescioError: It does.
        """
        path = self.out / "recipe.yaml"
        # Only a run writes every key; one that was stopped early has no finished stage yet.
        if is_run(self.out) or (path.exists() and self.recipe.plain().keys() <= _plain_yaml(path).keys()):
            return
        places = ["recipe.yaml", *(output for stage in stages for output in stage.outputs)]
        if there := next((place for place in places if (self.out / place).exists()), None):
            raise NescioError(
                f"{self.out / there}: is not of a run, and would be replaced; give another --out, such as runs/mine"
            )

    def _check_same_run(self) -> None:
        """Refuse a folder that holds what was made with other models or dialogs.

        Raises:
            NescioError: It does.
        """
        path, mine = self.out / "recipe.yaml", self.recipe.plain()
        if path.exists():
            theirs, is_begun = _plain_yaml(path), bool(read_manifest(self.out / "manifest.json")["stages"])
            differs = [name for name in ("base", "tuned") if theirs.get(name) != mine[name]]
            if source_of_dialogs(theirs) != source_of_dialogs(mine):
                differs.append("data")
            if differs and is_begun:
                raise NescioError(
                    f"{self.out}: holds a run of another recipe ({differs[0]} differs); give another --out"
                )

    def _write_recipe(self) -> None:
        text = yaml.safe_dump(self.recipe.plain(), sort_keys=False, allow_unicode=True)
        write_text(self.out / "recipe.yaml", text)

    def stages(self) -> list[Stage]:
        """Return the stages of the recipe, in order."""
        return stages_of(self.recipe, self._reported)

    def _reported(self, name: str, work: Work) -> Callable[[Path], None]:
        def done(folder: Path) -> None:
            with self.reporter.stage(name) as tick:
                work(self._context, folder, tick)
            release()

        return done


def _as_trained(recipe: Recipe, out: Path, note: Callable[[str], None]) -> Recipe:
    """Return a recipe without anchors and baking, unless it names them, for a run that was trained without them."""
    path, named = out / "manifest.json", recipe.model_fields_set
    if not path.exists() or not compat.trained_before_anchors(read_manifest(path)["stages"]):
        return recipe
    if "anchors" in recipe.train.model_fields_set or "bake" in named:
        return recipe
    note(f"{out} was trained before anchors and baking were the default, and stays so; add them: `nescio bake {out}`")
    train = recipe.train.model_copy(update={"anchors": None})
    public = {} if "negative" in recipe.pairs.model_fields_set else {"negative": REVEAL}
    pairs = recipe.pairs.model_copy(update=public)
    return recipe.model_copy(update={"train": train, "bake": None, "pairs": pairs})


def _plain_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml_value(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise NescioError(f"{path}: damaged; delete it to go on with the recipe you give") from error
    return content if isinstance(content, dict) else {}
