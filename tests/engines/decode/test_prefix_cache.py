"""The cache of computed prompts is bounded, by tokens and by entries."""

import torch

from nescio.engines.decode.prefix_cache import PrefixCache


def test_many_short_prompts_are_bounded_too() -> None:
    cache = PrefixCache(4096)
    for token in range(200):
        cache.add(None, (token,), [], torch.zeros(8))
    found = [token for token in range(200) if cache.find(None, (token,))]
    assert found == list(range(200 - 64, 200)), "the latest; each holds logits of the whole vocabulary"


def test_long_prompts_are_bounded_by_their_tokens() -> None:
    cache = PrefixCache(100)
    for first in range(4):
        cache.add(None, (first, *range(100, 139)), [], torch.zeros(8))
    assert [first for first in range(4) if cache.find(None, (first, 100))] == [2, 3]
