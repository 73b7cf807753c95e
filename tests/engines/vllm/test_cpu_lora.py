"""vLLM's shrink operation on CPUs, as it is in 0.32, with and without the fix; needs no vLLM."""

import torch
from torch import Tensor

from nescio.engines.vllm.cpu_lora import without_negative_indices


def bgmv_shrink(inputs: Tensor, weights: Tensor, output: Tensor, indices: Tensor, scaling: float = 1.0) -> None:
    chosen = weights[indices].squeeze(dim=1)
    output[:, : chosen.shape[1]] = scaling * torch.einsum("bi, boi -> bo", inputs, chosen)


def test_a_token_without_an_adapter_gets_none_and_the_others_are_as_before() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, weights = torch.randn(5, 6, generator=generator), torch.randn(2, 1, 3, 6, generator=generator)
    indices = torch.tensor([0, -1, 1, -1, -1])
    theirs, ours = torch.zeros(5, 3), torch.full((5, 3), 7.0)
    bgmv_shrink(inputs, weights, theirs, indices, 2.0)
    without_negative_indices(bgmv_shrink)(inputs, weights, ours, indices, 2.0)
    assert torch.equal(ours[indices >= 0], theirs[indices >= 0])
    assert theirs[indices < 0].all(), "the last slot's, or there is nothing to fix any more"
    assert not ours[indices < 0].any()
