"""The retain half in training: an option of the data, which any loss can be given and none needs.

L = L_forget + α L_retain. With gradient ascent it is GradDiff (Liu, Liu and Stone 2022, "Continual Learning and Private
Unlearning"), with NPO and SimNPO their authors' variants with a retain loss, with DPO towards "I don't know" TOFU's
IdkDPO.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from nescio.training.anchors import Anchors, AnchorSettings
from nescio.training.batch import Batch, Unit, likelihoods
from nescio.training.losses.likelihood import likelihood
from nescio.training.losses.registry import PairLoss
from nescio.training.reference import adapter_off


def retained(
    units: Sequence[Unit], settings: AnchorSettings, loss: PairLoss, *, seed: int, row_tokens: int | None
) -> Anchors:
    """Return what the model is held to: the answers of the retain half, or its hidden states where the loss moves them.

    Args:
        units: Examples of the retain half.
        settings: How many beside each step, and α.
        loss: The loss on the forget half.
        seed: Seed of the order.
        row_tokens: As for `Anchors`.
    """
    pull = unlikelihood if loss.states_at is None else partial(drift, states_at=loss.states_at)
    return Anchors(units, settings, seed=seed, row_tokens=row_tokens, pull=pull, name="retain")


def unlikelihood(model: Any, batch: Batch) -> Tensor:
    """Return the mean negative log-likelihood of a token."""
    return likelihood(likelihoods(model, batch))["loss"].mean()


def drift(model: Any, batch: Batch, states_at: float) -> Tensor:
    """Return the mean square of the change of the hidden states that training has made (RMU's retain loss)."""
    with torch.no_grad(), adapter_off(model):
        before = likelihoods(model, batch, states_at).states
    return mse_loss(likelihoods(model, batch, states_at).states, before)
