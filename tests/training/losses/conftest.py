"""Likelihoods made of given log-probabilities."""

from collections.abc import Callable, Sequence

import pytest
import torch

from nescio.training.batch import Likelihoods


def build(answers: Sequence[Sequence[float]], reference: Sequence[float] = ()) -> Likelihoods:
    tokens = torch.tensor([value for answer in answers for value in answer], dtype=torch.float64, requires_grad=True)
    answer_of = torch.tensor([number for number, answer in enumerate(answers) for _ in answer])
    in_prompt = torch.zeros(len(tokens), dtype=torch.bool)
    return Likelihoods(
        tokens=tokens,
        answer_of=answer_of,
        in_prompt=in_prompt,
        answers=len(answers),
        reference=torch.tensor(reference, dtype=torch.float64),
    )


@pytest.fixture(scope="session")
def answers() -> Callable[..., Likelihoods]:
    """Make likelihoods of answers: `answers([[log p, log p], [log p]], reference)`."""
    return build
