"""Several continuations of one prompt, and several such groups, in one row without computing a prompt twice.

The row is `[prompt, branch, branch, ...][prompt, branch, ...]...`; positions restart at each branch, and a mask hides
branches from each other and groups from each other. Works with any causal LM of Transformers that takes a 4-D mask
and `position_ids`. Knows token ids and tensors only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Branch:
    """A continuation: its token ids, and which of them are asked for (all, where `wanted` is None)."""

    ids: list[int]
    wanted: list[bool] | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt (one token at least) and its continuations."""

    prompt: list[int]
    branches: list[Branch]

    @property
    def tokens(self) -> int:
        """Tokens this group takes in a row."""
        return len(self.prompt) + sum(len(branch.ids) for branch in self.branches)


@dataclass(frozen=True, slots=True)
class Packed:
    """A row of groups, n tokens long, with m tokens asked for.

    Attributes:
        input_ids: `[1, n]`.
        position_ids: `[1, n]`.
        mask: `[1, 1, n, n]`, True where the row's token may look at the column's.
        sources: `[m]`: where in the row the logits of each wanted token stand.
        targets: `[m]`: the wanted tokens.
        branch_of: `[m]`: the number of the branch each belongs to, counted through all groups.
        branches: How many branches there are.
    """

    input_ids: Tensor
    position_ids: Tensor
    mask: Tensor
    sources: Tensor
    targets: Tensor
    branch_of: Tensor
    branches: int

    def to(self, device: torch.device) -> "Packed":
        """The same on a device."""
        moved = {name: getattr(self, name).to(device) for name in self.__slots__ if name != "branches"}
        return Packed(**moved, branches=self.branches)


def pack(groups: Sequence[Group]) -> Packed:
    """Lay groups out in one row."""
    ids: list[int] = []
    positions: list[int] = []
    group_of: list[int] = []
    segment_of: list[int] = []  # 0: the group's prompt; else the number of the branch, from 1
    wanted: list[tuple[int, int, int]] = []
    branch_number = 0
    for number, group in enumerate(groups):
        start = len(ids)
        last_of_prompt = start + len(group.prompt) - 1
        _lay(ids, positions, group.prompt, 0)
        segment_of += [0] * len(group.prompt)
        for branch in group.branches:
            first = len(ids)
            _lay(ids, positions, branch.ids, len(group.prompt))
            segment_of += [branch_number + 1] * len(branch.ids)
            for k, token in enumerate(branch.ids):
                if branch.wanted is None or branch.wanted[k]:
                    wanted.append((first + k - 1 if k else last_of_prompt, token, branch_number))
            branch_number += 1
        group_of += [number] * (len(ids) - start)
    sources, targets, branch_of = torch.tensor(wanted, dtype=torch.long).reshape(-1, 3).unbind(1)
    return Packed(
        torch.tensor([ids]),
        torch.tensor([positions]),
        _visible(torch.tensor(group_of), torch.tensor(segment_of)),
        sources,
        targets,
        branch_of,
        branch_number,
    )


def _lay(ids: list[int], positions: list[int], tokens: list[int], start: int) -> None:
    ids += tokens
    positions += range(start, start + len(tokens))


def _visible(group: Tensor, segment: Tensor) -> Tensor:
    n = len(group)
    causal = torch.ones(n, n, dtype=torch.bool).tril()
    same_group = group[:, None] == group[None, :]
    own_branch = (segment[None, :] == 0) | (segment[:, None] == segment[None, :])
    return (causal & same_group & own_branch)[None, None]


def log_probs(model: Any, packed: Packed) -> Tensor:
    """Log-probability `[m]` of each wanted token, in fp32; logits are computed at those places only."""
    picked = logits(model, packed).float()
    chosen: Tensor = picked.gather(1, packed.targets[:, None])[:, 0] - picked.logsumexp(-1)
    return chosen


def logits(model: Any, packed: Packed) -> Tensor:
    """Logits `[m, vocab]` from which each wanted token is predicted."""
    mask = packed.mask
    if getattr(model.config, "_attn_implementation", "sdpa") == "eager":
        # Eager attention adds its mask to the scores; the others read a boolean one.
        floor = torch.finfo(model.dtype).min
        mask = torch.zeros_like(mask, dtype=model.dtype).masked_fill(~mask, floor)
    output: Tensor = model(
        input_ids=packed.input_ids,
        position_ids=packed.position_ids,
        attention_mask=mask,
        use_cache=False,
        logits_to_keep=packed.sources,
    ).logits[0]
    return output


def branch_means(values: Tensor, packed: Packed) -> Tensor:
    """Mean `[branches]` of the values `[m]` of each branch's wanted tokens."""
    sums = values.new_zeros(packed.branches).index_add(0, packed.branch_of, values)
    counts = values.new_zeros(packed.branches).index_add(0, packed.branch_of, torch.ones_like(values))
    return sums / counts.clamp_min(1)


def by_budget(groups: Sequence[Group], budget: int) -> list[list[int]]:
    """Numbers of the groups for each row, so that no row of several groups passes the token budget."""
    rows: list[list[int]] = []
    used = budget + 1
    for number, group in enumerate(groups):
        if used + group.tokens > budget:
            rows.append([])
            used = 0
        rows[-1].append(number)
        used += group.tokens
    return rows
