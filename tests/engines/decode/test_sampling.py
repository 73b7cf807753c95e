"""Picking one token: the ends of every range still give a token."""

import pytest
import torch

from nescio.engines.decode.sampling import pick

LOG_PROBS = torch.tensor([0.2, 0.5, 0.3]).log()


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (1e-50, 1.0), (9e-6, 0.5), (1.0, 1e-50), (1e-5, 1e-9)])
def test_the_coldest_and_the_narrowest_give_the_likeliest(temperature: float, top_p: float) -> None:
    assert {pick(LOG_PROBS, temperature, top_p, 0, torch.Generator().manual_seed(s)) for s in range(8)} == {1}
