"""Classifier-free guidance: combine the next-token distributions of two branches into one.

Sources: Smirnov, "Classifier-free guidance in LLMs Safety", eqs. 1, 2 and 6; Sanchez et al. 2023, "Stay on topic with
Classifier-Free Guidance" (eq. 1); Li et al. 2022, "Contrastive Decoding" (the plausibility constraint); Wang et al.
2025, "AdaCAD: Adaptively Decoding to Balance Conflicts" (the adaptive scale).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nescio.core.errors import NescioError
from nescio.core.guidance import COMBINING, Guidance
from nescio.core.spaces import SPACES


def guide(
    positive_logits: Tensor,
    negative_logits: Tensor | None = None,
    how: Guidance | Sequence[Guidance] | None = None,
    **settings: Any,
) -> Tensor:
    """Combine two branches into one next-token distribution (eq. 2 in `log`, eq. 6 in `prob` space).

    Args:
        positive_logits: `[batch, vocab]`, any float dtype; computed in fp32.
        negative_logits: The same shape: the negative condition, or no condition at all (eq. 1). None: unguided.
        how: Guidance of all rows, or of each row; its sentences are not used here.
        **settings: `scale`, `space`, `plausibility` and `adaptive`, in place of those of `how`; each is one value for
            all rows, or a list or tensor `[batch]`. Scale 1 gives exactly the positive branch, 0 the negative.

    Returns:
        `[batch, vocab]` normalised log-probabilities in fp32; ruled-out tokens are -inf.

    Raises:
        NescioError: The shapes differ or are others, a setting is unknown or out of its range, or the rows have another
            number of settings.
    """
    if not isinstance(positive_logits, Tensor) or positive_logits.ndim != 2:
        raise NescioError("guide: positive_logits must be a tensor [batch, vocab]; flatten all but the last dimension")
    values = _values(how, settings, len(positive_logits))
    # 1) normalise both branches
    positive = positive_logits.float().log_softmax(-1)
    if negative_logits is None:
        return _plausible(positive, positive, values["plausibility"])
    if not isinstance(negative_logits, Tensor):
        kind = type(negative_logits).__name__
        raise NescioError(f"guide: negative_logits must be a tensor of the same shape, is {kind}")
    if negative_logits.shape != positive_logits.shape:
        raise NescioError(f"guide: branches differ in shape, {list(positive.shape)} and {list(negative_logits.shape)}")
    negative = negative_logits.float().log_softmax(-1)
    # 2) the scale of each row, [batch, 1] or [1, 1]
    gamma = _per_row(values["scale"], positive)
    adapts = torch.as_tensor(values["adaptive"], dtype=torch.bool, device=positive.device).reshape(-1, 1)
    if bool(adapts.any()):
        gamma = torch.where(adapts, 1 + (gamma - 1) * divergence(positive, negative), gamma)
    # 3) combine in each row's space
    guided = _combined(positive, negative, gamma, values["space"])
    # 4) scales 1 and 0 are a branch alone, to the bit
    if bool(((gamma == 0) | (gamma == 1)).any()):
        guided = torch.where(gamma == 1, positive, torch.where(gamma == 0, negative, guided))
    # 5) rule out implausible tokens
    return _plausible(guided, positive, values["plausibility"])


def divergence(a: Tensor, b: Tensor) -> Tensor:
    """Jensen-Shannon divergence `[batch, 1]` in bits, within [0, 1], of log-probabilities `[batch, vocab]`."""
    middle = torch.logaddexp(a, b) - math.log(2)
    # A token of no probability adds nothing; its -inf would make a NaN.
    halves = [torch.where(p == -torch.inf, 0.0, p.exp() * (p - middle)).sum(-1, keepdim=True) for p in (a, b)]
    return ((halves[0] + halves[1]) / (2 * math.log(2))).clamp(0, 1)


def as_guidances(how: Guidance | Sequence[Guidance] | None) -> list[Guidance]:
    """Return the guidance of all rows, or those of each row, as a list.

    Raises:
        NescioError: It is something else.
    """
    each = [how] if isinstance(how, Guidance) else list(how) if isinstance(how, Sequence) else None
    if how is None:
        return [Guidance()]
    if each is None or not all(isinstance(one, Guidance) for one in each):
        raise NescioError(f"guidance {how!r}: must be a Guidance, or one for each row; give a scale by name, scale=3")
    return each


def _values(how: Guidance | Sequence[Guidance] | None, settings: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Each setting's value for all rows, or its list or tensor of one value per row."""
    names = [setting.name for setting in COMBINING]
    if unknown := settings.keys() - set(names):
        raise NescioError(f"guide: unknown setting {min(unknown)!r}; known here: {', '.join(names)}")
    each = as_guidances(how)
    if len(each) not in (1, rows):
        raise NescioError(f"guide: {len(each)} guidances for {rows} rows; give one for all or one for each")
    values: dict[str, Any] = {}
    for name in names:
        column = [getattr(one, name) for one in each]
        values[name] = column[0] if column.count(column[0]) == len(column) else column
    for name, value in settings.items():
        _check_setting(name, value, rows)
    return {**values, **settings}


def _check_setting(name: str, value: Any, rows: int) -> None:
    """Check the number and the range of a setting's values; `Guidance` knows the range."""
    column = value.reshape(-1).tolist() if hasattr(value, "reshape") else value  # a tensor or an array
    column = list(column) if isinstance(column, Sequence) and not isinstance(column, str) else [column]
    if len(column) not in (1, rows):
        raise NescioError(f"guide: {len(column)} values of {name} for {rows} rows; give one for all or one for each")
    for one in column:
        setting: dict[str, Any] = {name: one.item() if isinstance(one, Tensor) else one}
        Guidance(**setting)


def _combined(positive: Tensor, negative: Tensor, gamma: Tensor, space: str | Sequence[str]) -> Tensor:
    names = [space] if isinstance(space, str) else list(space)
    first, *others = dict.fromkeys(names)
    guided = SPACES.get(first)(positive, negative, gamma)
    for other in others:
        mine = torch.tensor([name == other for name in names], device=positive.device).reshape(-1, 1)
        guided = torch.where(mine, SPACES.get(other)(positive, negative, gamma), guided)
    return guided


def _plausible(guided: Tensor, positive: Tensor, plausibility: float | Sequence[float] | Tensor) -> Tensor:
    tau = _per_row(plausibility, positive)
    if not bool((tau > 0).any()):
        return guided
    floor = positive.amax(-1, keepdim=True) + tau.log()
    kept = guided.masked_fill(positive < floor, -torch.inf)
    # Guidance may have moved all mass to implausible tokens: then the positive branch's plausible ones decide.
    empty = (kept == -torch.inf).all(-1, keepdim=True)
    kept = torch.where(empty, positive.masked_fill(positive < floor, -torch.inf), kept)
    return kept.log_softmax(-1)


def _per_row(value: float | Sequence[float] | Tensor, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float32, device=like.device).reshape(-1, 1)
