"""Examples laid out as rows of tokens, and the log-probabilities that the model gives to their answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from nescio.core.errors import NescioError
from nescio.core.shared_prefix import Group, Packed, apart, by_budget, hidden_states, log_probs, logits, pack
from nescio.core.token_log_probs import token_log_probs
from nescio.core.top_tokens import TopTokens


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt with the answers to it that are learned or unlearned.

    Attributes:
        name: Its name in messages: file and line, or an id.
        group: Prompt and answers; for a pair, chosen and rejected.
        twin: Whether it is the CFG twin of a pair: with the reveal sentence, and chosen and rejected swapped.
        reference: Log-probability of each answer before training, for losses that need it.
        targets: A teacher's likely tokens at each token of the answers, for losses that learn a distribution.
    """

    name: str
    group: Group
    twin: bool = False
    reference: tuple[float, ...] = ()
    targets: TopTokens | None = None


Unit = list[Example]
"""Examples of one step: a pair and its CFG twin, or a single example."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples as rows of tokens.

    Attributes:
        names: `[examples]`.
        rows: The rows; their continuations, counted through all rows, are the examples' answers in order.
        reference: `[answers]`: log-probability of each answer before training, or empty.
        targets: A teacher's likely tokens at each of the m scored tokens, if all examples have them.
        prompt_wanted: Whether the prompts are scored too.
    """

    names: list[str]
    rows: list[Packed]
    reference: Tensor
    targets: TopTokens | None = None
    prompt_wanted: bool = False

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return replace(self, rows=[row.to(device) for row in self.rows], reference=self.reference.to(device))


def lay_out(examples: Sequence[Example], row_tokens: int | None, prompt_wanted: bool = False) -> Batch:
    """Lay examples out as a batch.

    Args:
        examples: In order.
        row_tokens: Examples share a row of up to this many tokens; None: each answer has a row of its own.
        prompt_wanted: Whether the prompts' log-probabilities are computed too.
    """
    groups = [replace(example.group, prompt_wanted=prompt_wanted) for example in examples]
    if row_tokens is None:
        rows = apart(groups)
    else:
        rows = [pack([groups[n] for n in row]) for row in by_budget(groups, row_tokens)]
    reference = [value for example in examples for value in example.reference]
    kept = [example.targets for example in examples if example.targets is not None]
    targets = None
    if len(kept) == len(examples):
        targets = TopTokens(torch.cat([top.ids for top in kept]), torch.cat([top.log_probs for top in kept]))
    return Batch([example.name for example in examples], rows, torch.tensor(reference), targets, prompt_wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihoods:
    """Log-probabilities of a batch's m scored tokens, and the answer to which each belongs.

    Attributes:
        tokens: `[m]`.
        answer_of: `[m]`: number of the token's answer, from 0; tokens of a prompt belong to its first answer.
        in_prompt: `[m]`: whether the token is one of a prompt.
        answers: Number of answers.
        reference: `[answers]`: log-probability of each answer before training, or empty.
        targets: A teacher's likely tokens at each of the m tokens.
        logits: `[m, vocab]`: the model's, where there are targets; else empty.
        states: `[m, width]`: the hidden states of one layer that the tokens are predicted from; empty unless asked for.
        prompt_scored: Whether the prompts' tokens are among the m.
    """

    tokens: Tensor
    answer_of: Tensor
    in_prompt: Tensor
    answers: int
    reference: Tensor
    targets: TopTokens | None = None
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    states: Tensor = field(default_factory=lambda: torch.empty(0))
    prompt_scored: bool = True

    def sums(self, prompt: bool = False) -> Tensor:
        """Return the log-probability of each answer, `[answers]`; with `prompt`, that of prompt and answer.

        Raises:
            NescioError: The prompts are wanted and were not scored.
        """
        return self._add(self.tokens, prompt)

    def counts(self, prompt: bool = False) -> Tensor:
        """Return the number of tokens of each answer, `[answers]`; with `prompt`, of prompt and answer.

        Raises:
            NescioError: The prompts are wanted and were not scored.
        """
        return self._add(torch.ones_like(self.tokens), prompt)

    def means(self) -> Tensor:
        """Return the mean log-probability of each answer's tokens, `[answers]`."""
        return self.mean_of(self.tokens)

    def divergences(self) -> Tensor:
        """Return the mean KL from the teacher over each answer's tokens, `[answers]`.

        Raises:
            NescioError: The examples have no targets.
        """
        if self.targets is None:
            raise NescioError("training: the loss learns from a teacher, but the examples have no targets; give them")
        return self.mean_of(self.targets.divergence(self.logits))

    def mean_of(self, values: Tensor) -> Tensor:
        """Return the mean of a value for each token `[m]` over each answer's tokens, `[answers]`."""
        return self._add(values, False) / self.counts().clamp_min(1)

    def probabilities(self) -> Tensor:
        """Return the mean probability of each answer's tokens, `[answers]`."""
        return self.mean_of(self.tokens.exp())

    def _add(self, values: Tensor, prompt: bool) -> Tensor:
        if prompt and not self.prompt_scored:
            raise NescioError(
                "training: the loss looks at the prompts, which are not scored; give TrainingSettings("
                "prompt_wanted=True), in a recipe train.nll_over: prompt_and_answer"
            )
        taken = values if prompt else values.masked_fill(self.in_prompt, 0)
        return values.new_zeros(self.answers).index_add(0, self.answer_of, taken)


Terms = dict[str, Tensor]
"""`loss` and whatever else is logged, each `[examples]`; the batch's loss is the mean."""

Loss = Callable[[Likelihoods], Terms]
"""A loss with its settings fixed."""


def likelihoods(model: Any, batch: Batch, states_at: float | None = None) -> Likelihoods:
    """Compute the likelihoods of a batch that is on the model's device.

    Args:
        model: The causal LM.
        batch: The batch.
        states_at: Depth of the layer whose hidden states are wanted, as a share of all layers; None: none are.
    """
    answer_of, before = [], 0
    for row in batch.rows:
        answer_of.append(row.continuation_of + before)
        before += row.continuations
    every = torch.empty(0)
    with hidden_states(model, states_at) as seen:  # a tensor [1, n, width] for each row
        if batch.targets is None:
            tokens = torch.cat([log_probs(model, row) for row in batch.rows])
        else:
            rows = [logits(model, row).float() for row in batch.rows]
            every = torch.cat(rows) if len(rows) > 1 else rows[0]  # [m, vocab]; cat would copy a single row, too
            chosen = torch.cat([row.targets for row in batch.rows])
            tokens = token_log_probs(every, chosen[:, None])[:, 0]
    states = [layer[0, row.sources] for layer, row in zip(seen, batch.rows, strict=False)]
    return Likelihoods(
        tokens=tokens,
        answer_of=torch.cat(answer_of),
        in_prompt=torch.cat([row.in_prompt for row in batch.rows]),
        answers=before,
        reference=batch.reference,
        targets=batch.targets,
        logits=every,
        states=torch.cat(states).float() if states else torch.empty(0),
        prompt_scored=batch.prompt_wanted,
    )
