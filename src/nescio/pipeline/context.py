"""What every stage of a run can ask for: the recipe, the run folder, the detector, the samples. Does no work itself."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nescio.data.samples import Sample, read_samples, subsample
from nescio.pii.base import Detector
from nescio.pii.registry import load_detector
from nescio.pipeline.recipe import Recipe

Tick = Callable[[int, int, str], None]
"""Called with done, total and a word."""


@dataclass
class Context:
    """A recipe at work in its folder.

    Attributes:
        recipe: What to do.
        out: The run folder, with the outputs of the stages before.
        note: Says a line worth reading.
    """

    recipe: Recipe
    out: Path
    note: Callable[[str], None]

    @cached_property
    def detector(self) -> Detector:
        """The recipe's detector, loaded when it is first asked."""
        section = self.recipe.detector
        return load_detector(section.model, **section.model_dump(exclude={"model"}))

    @property
    def tuned(self) -> str:
        """The tuned model: the recipe's, or the one that the stage `tune` or `merge` made."""
        whole = self.recipe.tuned is not None and self.recipe.tuned_adapter is None
        return str(self.recipe.tuned) if whole else str(self.out / "tuned")

    @property
    def start(self) -> str:
        """The model that training starts from and the adapter belongs to: the subtracted one, if any, or the tuned."""
        return self.tuned if self.recipe.subtract is None else str(self.out / "subtracted")

    def samples(self, side: str) -> list[Sample]:
        """The samples of one side of the split, `train` or `test`."""
        return list(read_samples(self.out / f"samples/{side}.jsonl"))

    def validation_samples(self) -> list[Sample]:
        """The held-out samples that get pairs for the validation pass."""
        return subsample(self.samples("test"), self.recipe.data.validation_samples, self.recipe.seed + 1)
