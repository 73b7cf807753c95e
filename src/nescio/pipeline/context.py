"""What the stages of a run share: the recipe, the run folder, the detector and the samples."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nescio.core.switch import KEY_FILE, fill_key
from nescio.data.samples import Sample, read_samples, subsample
from nescio.pii.base import Detector
from nescio.pipeline.recipe import Recipe

_FEWEST_DIALOGS = 5  # with fewer, the test of the leak cannot be passed


@dataclass
class Context:
    """A recipe and its run folder.

    Attributes:
        recipe: The recipe.
        out: The run folder; it holds the outputs of the finished stages.
        note: Shows a line to the user.
    """

    recipe: Recipe
    out: Path
    note: Callable[[str], None]

    @cached_property
    def detector(self) -> Detector:
        """The recipe's detector, loaded at the first use."""
        return self.recipe.detector.load()

    @property
    def tuned(self) -> str:
        """The tuned model: the recipe's, or the output of the stage `tune` or `merge`."""
        whole = self.recipe.tuned is not None and self.recipe.tuned_adapter is None
        return str(self.recipe.tuned) if whole else str(self.out / "tuned")

    @property
    def start(self) -> str:
        """The model that is trained, the base of the adapter: the subtracted model if there is one, else the tuned."""
        return self.tuned if self.recipe.subtract is None else str(self.out / "subtracted")

    @property
    def sentences(self) -> tuple[str, str]:
        """The protect sentence, and the negative branch's with the run's secret in it.

        Raises:
            NescioError: The key's file is missing, or readable by others.
        """
        pairs = self.recipe.pairs
        return pairs.positive, fill_key(pairs.negative, self.out / KEY_FILE)

    @property
    def trained(self) -> Path:
        """The folder of what was trained on pairs: the teacher of baking; the adapter itself where nothing is baked."""
        return self.out / ("adapter" if self.recipe.bake is None else "teacher")

    def samples(self, side: str) -> list[Sample]:
        """Return the samples of one side of the split, `train` or `test`."""
        return list(read_samples(self.out / f"samples/{side}.jsonl"))

    def validation_samples(self) -> list[Sample]:
        """Return the held-out samples that become pairs of the validation pass."""
        return subsample(self.samples("test"), self.recipe.data.validation_samples, self.recipe.seed + 1)

    def table_samples(self) -> list[Sample]:
        """Return the held-out samples that the table may ask: none of a dialog by which the epoch was chosen.

        Of several epochs the one that looks best on some samples looks better on these than it is.
        """
        held, keep = self.samples("test"), self.recipe.train.keep
        if keep == "last":
            return held
        chose = {sample.dialog_id for sample in self.validation_samples()}
        others = [sample for sample in held if sample.dialog_id not in chose]
        if len({sample.dialog_id for sample in others}) >= _FEWEST_DIALOGS:
            return others
        self.note(
            f"train.keep: {keep} chose the epoch by samples that the table asks too, so its rows look better than they "
            "are: too few dialogs are left without them; lower data.validation_samples, or hold out more dialogs"
        )
        return held
