"""Log-probabilities of continuations: all continuations of one prompt in one row, the prompt computed once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nescio.core.block_attention import blockwise
from nescio.core.guidance import Guidance
from nescio.core.guide import guide
from nescio.core.shared_prefix import Continuation, Group, apart, by_budget, core_of, logits, pack

_BUDGET = 1024  # tokens in a row of several groups: long enough for full speed, short enough for little attention


@dataclass(frozen=True, slots=True)
class Scored:
    """An item to score.

    Attributes:
        prompts: Token ids of the positive prompt and, if guided, of the negative one.
        continuation: Token ids to score.
        guidance: How the branches are combined.
    """

    prompts: tuple[tuple[int, ...], ...]
    continuation: list[int]
    guidance: Guidance


def score(model: Any, items: Sequence[Scored], packs: bool) -> Iterator[tuple[int, list[float]]]:
    """Yield `(item's number, log-probability of each token of its continuation)`, in the order of computation."""
    for number, log_probs in distributions(model, items, packs):
        chosen = torch.tensor(items[number].continuation, device=log_probs.device)
        yield number, log_probs.gather(1, chosen[:, None])[:, 0].tolist()


def distributions(model: Any, items: Sequence[Scored], packs: bool) -> Iterator[tuple[int, Tensor]]:
    """Yield `(item's number, log-probabilities [tokens, vocab] at each token of its continuation)`.

    The order is that of computation. Items that differ only in their guidance are computed once, and guided separately;
    one without a negative branch takes the positive one of another with the same continuation.

    Args:
        model: A causal LM.
        items: The items to score.
        packs: Whether several continuations can share a row of this model (`shared_prefix.unpackable`).
    """
    both = {(item.prompts[0], tuple(item.continuation)): item.prompts for item in items if len(item.prompts) == 2}
    by_prompt: dict[tuple[tuple[int, ...], ...], dict[tuple[int, ...], list[int]]] = {}
    for number, item in enumerate(items):
        said = tuple(item.continuation)
        branches_of = item.prompts if len(item.prompts) == 2 else both.get((item.prompts[0], said), item.prompts)
        by_prompt.setdefault(branches_of, {}).setdefault(said, []).append(number)
    prompts, numbers = list(by_prompt), [list(own.values()) for own in by_prompt.values()]
    groups = [
        [Group(list(branch), [Continuation(list(continuation)) for continuation in own]) for branch in prompt]
        for prompt, own in by_prompt.items()
    ]
    for branches in (1, 2):
        chosen = [index for index, prompt in enumerate(prompts) if len(prompt) == branches]
        for row in by_budget([groups[index][0] for index in chosen], _BUDGET // branches):
            taken = [chosen[position] for position in row]
            own = [numbers[index] for index in taken]
            yield from _score_row(model, [groups[index] for index in taken], own, items, packs)


def _score_row(
    model: Any, groups: list[list[Group]], numbers: list[list[list[int]]], items: Sequence[Scored], packs: bool
) -> Iterator[tuple[int, Tensor]]:
    # 1) logits [m, vocab] of all continuations' tokens, for each branch
    branches = [[group[branch] for group in groups] for branch in range(len(groups[0]))]
    rows = [[pack(own)] if packs else apart(own) for own in branches]
    with blockwise(core_of(model)):
        both: list[Tensor] = [torch.cat([logits(model, row.to(model.device)) for row in own]) for own in rows]
    # 2) guide each continuation's slice in the way of each of its items
    start = 0
    for equal in (equal for own in numbers for equal in own):
        end = start + len(items[equal[0]].continuation)
        negative = both[1][start:end] if len(both) > 1 else None
        for number in equal:
            how = items[number].guidance if items[number].guidance.guided else Guidance()
            yield number, guide(both[0][start:end], negative, how)
        start = end
