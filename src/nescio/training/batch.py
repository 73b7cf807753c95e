"""What one step computes: examples laid out in rows, and how likely the model finds their answers.

Knows token ids and log-probabilities; nothing of what a loss makes of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nescio.core.shared_prefix import Group, Packed, apart, by_budget, log_probs, pack


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt with the answers to it that are learned or unlearned.

    Attributes:
        name: What a message calls it: file and line, or an id.
        group: Prompt and answers; of a pair, chosen and rejected.
        twin: Whether it is the CFG twin of a pair: under the reveal sentence, chosen and rejected swapped.
        reference: Log-probability of each answer before training, where a loss compares with it.
    """

    name: str
    group: Group
    twin: bool = False
    reference: tuple[float, ...] = ()


Unit = list[Example]
"""Examples that belong in one step: a pair and its CFG twin, or one that stands alone."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples as rows of tokens.

    Attributes:
        names: `[examples]`.
        rows: The rows; their branches, counted through all rows, are the examples' answers in order.
        reference: `[branches]`, or empty.
    """

    names: list[str]
    rows: list[Packed]
    reference: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return Batch(self.names, [row.to(device) for row in self.rows], self.reference.to(device))


def lay_out(examples: Sequence[Example], row_tokens: int | None, prompt_wanted: bool = False) -> Batch:
    """Examples as a batch.

    Args:
        examples: In order.
        row_tokens: Examples share a row up to so many tokens; None gives every answer a row of its own.
        prompt_wanted: Whether the prompts' log-probabilities are asked for too.
    """
    groups = [replace(example.group, prompt_wanted=prompt_wanted) for example in examples]
    if row_tokens is None:
        rows = apart(groups)
    else:
        rows = [pack([groups[n] for n in row]) for row in by_budget(groups, row_tokens)]
    reference = [value for example in examples for value in example.reference]
    return Batch([example.name for example in examples], rows, torch.tensor(reference))


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """Log-probabilities of a batch's m tokens, and to which of its answers each belongs.

    Attributes:
        tokens: `[m]`.
        branch_of: `[m]`: the number of the answer, from 0; tokens of a prompt belong to its first answer.
        in_prompt: `[m]`.
        branches: How many answers there are.
        reference: `[branches]`: log-probability of each answer before training, or empty.
    """

    tokens: Tensor
    branch_of: Tensor
    in_prompt: Tensor
    branches: int
    reference: Tensor

    def sums(self, prompt: bool = False) -> Tensor:
        """Log-probability `[branches]` of each answer; with its prompt, where that is asked."""
        return self._add(self.tokens, prompt)

    def counts(self, prompt: bool = False) -> Tensor:
        """How many tokens `[branches]` that are."""
        return self._add(torch.ones_like(self.tokens), prompt)

    def means(self) -> Tensor:
        """Mean log-probability `[branches]` of each answer's tokens."""
        return self.sums() / self.counts().clamp_min(1)

    def probabilities(self) -> Tensor:
        """Mean probability `[branches]` of each answer's tokens."""
        return self._add(self.tokens.exp(), False) / self.counts().clamp_min(1)

    def _add(self, values: Tensor, prompt: bool) -> Tensor:
        taken = values if prompt else values.masked_fill(self.in_prompt, 0)
        return values.new_zeros(self.branches).index_add(0, self.branch_of, taken)


Loss = Callable[[Likelihoods], dict[str, Tensor]]
"""From likelihoods to `loss`, and what else is logged, each `[examples]`; the batch's loss is the mean."""


def likelihoods(model: Any, batch: Batch) -> Likelihoods:
    """What the model makes of a batch on its device."""
    branch_of, before = [], 0
    for row in batch.rows:
        branch_of.append(row.continuation_of + before)
        before += row.continuations
    return Likelihoods(
        torch.cat([log_probs(model, row) for row in batch.rows]),
        torch.cat(branch_of),
        torch.cat([row.in_prompt for row in batch.rows]),
        before,
        batch.reference,
    )
