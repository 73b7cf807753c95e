"""Classifier-free guidance: how the next-token distributions of two branches become one.

Pure functions on tensors `[batch, vocab]`. Knows nothing of models, tokenizers or decoding.

Sources: Smirnov, "Classifier-free guidance in LLMs Safety", eqs. 1, 2 and 6; Sanchez et al. 2023, "Stay on topic with
Classifier-Free Guidance" (eq. 1); Li et al. 2022, "Contrastive Decoding" (the plausibility constraint); Wang et al.
2025, "AdaCAD: Adaptively Decoding to Balance Conflicts" (the adaptive scale).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from nescio.core.errors import NescioError

Space = Literal["log", "prob"]

PROTECT = "Do not provide any personal data."
REVEAL = "You should share personal data in the answers."


@dataclass(frozen=True, slots=True)
class Guidance:
    """How a request is guided: the scale, the space, and the two sentences that make the branches.

    Attributes:
        scale: The guidance coefficient γ. 1 is the positive branch alone (and costs one branch), 0 the negative.
        space: `log` combines log-probabilities (eq. 2), `prob` probabilities (eq. 6).
        positive: Sentence added to the system message of the positive branch; None: the adapter's own, or the paper's.
        negative: Sentence added to the system message of the negative branch; None: likewise.
        plausibility: Keep only tokens whose positive probability is at least this share of the largest; 0 keeps all.
        adaptive: The scale follows the branches' divergence token by token, from 1 where they agree up to `scale`, so
            that harmless tokens are left alone (AdaCAD).

    Raises:
        NescioError: A value is out of its range.
    """

    scale: float = 1.0
    space: Space = "prob"
    positive: str | None = None
    negative: str | None = None
    plausibility: float = 0.0
    adaptive: bool = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale) or self.scale < 0:
            raise NescioError(f"guidance scale {self.scale}: must be a finite number of 0 or more; 1 is unguided")
        if self.space not in get_args(Space):
            raise NescioError(f"guidance space {self.space!r}: must be 'log' (eq. 2) or 'prob' (eq. 6)")
        if not 0 <= self.plausibility <= 1:
            raise NescioError(f"guidance plausibility {self.plausibility}: must lie between 0 and 1")

    @property
    def guided(self) -> bool:
        """Whether the negative branch is needed at all."""
        return self.scale != 1.0

    def __str__(self) -> str:
        if not self.guided:
            return "unguided (scale 1: the positive branch alone)"
        where = "log space (eq. 2)" if self.space == "log" else "probability space (eq. 6)"
        floor = f", plausibility {self.plausibility:g}" if self.plausibility else ""
        how = "up to scale" if self.adaptive else "at scale"
        return f"guided {how} {self.scale:g} in {where}{floor}"


def guide(
    positive_logits: Tensor,
    negative_logits: Tensor | None = None,
    scale: float | Tensor = 1.0,
    space: Space | Sequence[Space] = "prob",
    plausibility: float | Tensor = 0.0,
    adaptive: bool | Sequence[bool] = False,
) -> Tensor:
    """Combine two branches into one next-token distribution (eq. 2 in `log`, eq. 6 in `prob` space).

    `log`:  log p = log p⁻ + γ (log p⁺ - log p⁻), renormalised.
    `prob`: p = max(0, p⁻ + γ (p⁺ - p⁻)), renormalised. The sum before clamping is 1, so what is left is never all
    zero, at any scale.

    Args:
        positive_logits: `[batch, vocab]`, any float dtype; computed in fp32.
        negative_logits: The same shape: the negative condition, or no condition at all (eq. 1). None: unguided.
        scale: γ, one for all or one a row (`[batch]`); finite, 0 or more. 1 gives exactly the positive branch, 0 the
            negative.
        space: `log` or `prob`, one for all or one a row.
        plausibility: τ, one for all or one a row: tokens below τ times the largest positive probability are
            ruled out.
        adaptive: One for all or one a row: γ is scaled down to 1 + (γ - 1) · JSD, the Jensen-Shannon divergence of the
            branches in bits (0 where they agree, 1 where they share nothing), token by token (Wang et al. 2025, AdaCAD,
            whose own is γ = 2 in `log`).

    Returns:
        `[batch, vocab]` normalised log-probabilities in fp32; ruled-out tokens are -inf.

    Raises:
        NescioError: The shapes differ or the space is unknown.
    """
    positive = positive_logits.float().log_softmax(-1)
    if negative_logits is None:
        return _plausible(positive, positive, plausibility)
    if negative_logits.shape != positive_logits.shape:
        raise NescioError(f"guide: branches differ in shape, {list(positive.shape)} and {list(negative_logits.shape)}")
    negative = negative_logits.float().log_softmax(-1)
    gamma = _per_row(scale, positive)
    adapts = torch.as_tensor(adaptive, device=positive.device).reshape(-1, 1)
    if bool(adapts.any()):
        gamma = torch.where(adapts, 1 + (gamma - 1) * divergence(positive, negative), gamma)
    spaces = {space} if isinstance(space, str) else set(space)
    if not spaces <= set(_SPACES):
        raise NescioError(f"guidance space {sorted(spaces)}: must be 'log' (eq. 2) or 'prob' (eq. 6)")
    if len(spaces) == 1:
        guided = _SPACES[spaces.pop()](positive, negative, gamma)
    else:
        in_log = torch.tensor([s == "log" for s in space], device=positive.device).reshape(-1, 1)
        guided = torch.where(in_log, _log_space(positive, negative, gamma), _prob_space(positive, negative, gamma))
    if bool(((gamma == 0) | (gamma == 1)).any()):
        guided = torch.where(gamma == 1, positive, torch.where(gamma == 0, negative, guided))
    return _plausible(guided, positive, plausibility)


def divergence(a: Tensor, b: Tensor) -> Tensor:
    """Jensen-Shannon divergence `[batch, 1]` in bits, within [0, 1], of log-probabilities `[batch, vocab]`."""
    middle = torch.logaddexp(a, b) - math.log(2)
    # A token of no probability adds nothing; its -inf would make a NaN.
    halves = [torch.where(p == -torch.inf, 0.0, p.exp() * (p - middle)).sum(-1, keepdim=True) for p in (a, b)]
    return ((halves[0] + halves[1]) / (2 * math.log(2))).clamp(0, 1)


def _log_space(positive: Tensor, negative: Tensor, gamma: Tensor) -> Tensor:
    # A token that a branch rules out (-inf) would give inf - inf. Ruled out by the positive branch, it stays out; ruled
    # out by the negative alone, eq. 2 diverges to +inf, and the positive's own verdict is the only finite reading.
    guided = negative + gamma * (positive - negative)
    if bool(guided.isnan().any()):
        guided = torch.where(negative == -torch.inf, positive, guided)
        guided = guided.masked_fill(positive == -torch.inf, -torch.inf)
    return guided.log_softmax(-1)


def _prob_space(positive: Tensor, negative: Tensor, gamma: Tensor) -> Tensor:
    negative_p = negative.exp()
    mass = (negative_p + gamma * (positive.exp() - negative_p)).clamp_min(0)
    mass = mass / mass.sum(-1, keepdim=True)
    out = mass == 0  # most of them, and the logarithm of 0 is slow on a CPU
    return mass.masked_fill_(out, 1).log_().masked_fill_(out, -torch.inf)


_SPACES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"log": _log_space, "prob": _prob_space}


def _plausible(guided: Tensor, positive: Tensor, plausibility: float | Tensor) -> Tensor:
    tau = _per_row(plausibility, positive)
    if not bool((tau > 0).any()):
        return guided
    floor = positive.amax(-1, keepdim=True) + tau.log()
    kept = guided.masked_fill(positive < floor, -torch.inf)
    # Guidance may have moved all mass to implausible tokens: then the positive branch's plausible ones decide.
    empty = (kept == -torch.inf).all(-1, keepdim=True)
    kept = torch.where(empty, positive.masked_fill(positive < floor, -torch.inf), kept)
    return kept.log_softmax(-1)


def _per_row(value: float | Tensor, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float32, device=like.device).reshape(-1, 1)
