"""What the model is held to beside each step: anchors, where nothing is personal, or a half that is to be kept."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nescio.core.errors import NescioError
from nescio.training.batch import Batch, Unit, lay_out, likelihoods

Pull = Callable[[Any, Batch], Tensor]
"""Returns how far a model is from where it is held on a batch: a scalar."""


def divergence(model: Any, batch: Batch) -> Tensor:
    """Return the mean KL from the teacher, in nats a token."""
    return likelihoods(model, batch).divergences().mean()


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorSettings:
    """How much anchors weigh.

    Attributes:
        per_step: Anchors beside each batch.
        weight: Factor of the mean that is added to the loss.
        place: Where the user wrote `per_step`, for messages.
    """

    per_step: int = 2
    weight: float = 1.0
    place: str = "train.anchors.per_step"


class Anchors:
    """Anchors, and which of them stand beside which step.

    The order depends on the seed and the step alone, so that a resumed training sees the same anchors.

    Args:
        units: One an anchor: its examples, which differ in the sentence and have targets.
        settings: How many a step, and their weight.
        seed: Seed of the order.
        row_tokens: None: each answer has a row of its own; else the anchors of a step share one.
        pull: What is added to the loss; by default the KL from the anchors' targets.
        name: What the log calls it.

    Raises:
        NescioError: There are fewer anchors than a step takes.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        settings: AnchorSettings,
        *,
        seed: int,
        row_tokens: int | None,
        pull: Pull = divergence,
        name: str = "anchor_kl",
    ) -> None:
        if len(units) < settings.per_step:
            raise NescioError(
                f"{settings.place}: {settings.per_step} anchors a step, but there are {len(units)}; "
                "lower it, or raise train.anchors.count"
            )
        self.units, self.settings, self.seed, self._row_tokens = units, settings, seed, row_tokens
        self._pull, self.name = pull, name

    def loss(self, model: Any, step: int) -> tuple[Tensor, float]:
        """Return the weighted mean over the anchors of a step, and the bare mean.

        Args:
            model: The model in training.
            step: Number of the batch, counted from 0 through all devices.
        """
        device = next(model.parameters()).device
        examples = [example for unit in self._beside(step) for example in unit]
        # Devices that share a model compute equally many rows: all anchors of a step share one, however long.
        whole = None if self._row_tokens is None else sum(example.group.tokens for example in examples)
        mean = self._pull(model, lay_out(examples, whole).to(device))
        return self.settings.weight * mean, float(mean.detach())

    def _beside(self, step: int) -> Iterator[Unit]:
        """Yield the anchors of a step: pass after pass through all of them, each pass in an order of its own."""
        for place in range(step * self.settings.per_step, (step + 1) * self.settings.per_step):
            turn, at = divmod(place, len(self.units))
            yield self.units[self._order(turn)[at]]

    def _order(self, turn: int) -> list[int]:
        order = list(range(len(self.units)))
        random.Random(f"{self.seed}/anchors/{turn}").shuffle(order)
        return order
