"""What a batch teaches: ORPO on pairs, or plain likelihood on answers. Knows packed rows and log-probabilities."""

from typing import Any

from torch import Tensor

from nescio.packing import Packed, branch_means, log_probs
from nescio.training.orpo import orpo_loss
from nescio.training.trainer import Objective


def orpo(beta: float) -> Objective:
    """ORPO over groups of two branches, chosen and rejected, its NLL over the answer only."""

    def objective(model: Any, packed: Packed) -> tuple[Tensor, dict[str, float]]:
        means = branch_means(log_probs(model, packed), packed).reshape(-1, 2)
        parts = orpo_loss(means[:, 0], means[:, 1], beta)
        margin = parts.chosen_reward - parts.rejected_reward
        measured = {
            "nll": parts.nll,
            "odds_loss": parts.odds_loss,
            "chosen_reward": parts.chosen_reward,
            "rejected_reward": parts.rejected_reward,
            "margin": margin,
            "accuracy": (margin > 0).float(),
        }
        return parts.loss, {name: float(value.detach().mean()) for name, value in measured.items()}

    return objective


def likelihood(model: Any, packed: Packed) -> tuple[Tensor, dict[str, float]]:
    """Mean negative log-likelihood of the wanted tokens."""
    return -log_probs(model, packed).mean(), {}
