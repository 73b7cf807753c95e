"""Log-probabilities of single tokens and their gradient, against PyTorch's own operations."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from nescio.core import token_log_probs as own
from nescio.core.token_log_probs import token_log_probs


def both(logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Log-probabilities and the gradient of their weighted sum: ours, and PyTorch's."""
    found = []
    for compute in (token_log_probs, lambda x, at: x.log_softmax(-1).gather(1, at)):
        given_logits = logits.clone().requires_grad_()
        chosen = compute(given_logits, ids)
        (chosen * weights).sum().backward()
        assert given_logits.grad is not None
        found.append((chosen.detach(), given_logits.grad))
    return found


@given(n=st.integers(0, 7), k=st.integers(1, 4), vocab=st.integers(1, 9), at_a_time=st.integers(1, 40))
def test_values_and_gradients_are_those_of_log_softmax(n: int, k: int, vocab: int, at_a_time: int) -> None:
    torch.manual_seed(n * 100 + vocab)
    logits, ids = torch.randn(n, vocab, dtype=torch.float64) * 5, torch.randint(vocab, (n, k))  # a token may come twice
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own, "_CPU", at_a_time)  # so that the positions are computed in several parts
        (ours, our_gradient), (theirs, their_gradient) = both(logits, ids, torch.randn(n, k, dtype=torch.float64))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(our_gradient, their_gradient)


def test_the_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: token_log_probs(x, torch.tensor([[0, 4], [2, 2], [1, 3]])), (logits,))


def test_sixteen_bit_logits_are_summed_in_fp32() -> None:
    torch.manual_seed(0)
    logits, ids = (torch.randn(4, 5000) * 3).bfloat16().requires_grad_(), torch.randint(5000, (4, 2))
    exact = logits.detach().double().log_softmax(-1)
    chosen = token_log_probs(logits, ids)
    chosen.sum().backward()
    assert chosen.dtype == torch.float32 and logits.grad is not None and logits.grad.dtype == torch.bfloat16
    torch.testing.assert_close(chosen.double(), exact.gather(1, ids), rtol=0, atol=1e-5)
    wanted = torch.zeros_like(exact).scatter_add_(1, ids, torch.ones(4, 2, dtype=torch.float64)) - 2 * exact.exp()
    torch.testing.assert_close(logits.grad.double(), wanted, rtol=0.01, atol=1e-5)


def test_an_impossible_token_has_minus_infinity_and_leaves_the_others_alone() -> None:
    logits = torch.tensor([[0.0, -torch.inf, 1.0]], requires_grad=True)
    token_log_probs(logits, torch.tensor([[2]])).sum().backward()
    assert token_log_probs(logits, torch.tensor([[1]])).item() == -torch.inf
    assert logits.grad is not None and logits.grad.isfinite().all()
