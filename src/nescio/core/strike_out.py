"""A secret struck out of a model's distribution, so that the model itself says what stands in its place."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nescio.core.prompts import answer_offsets, split_ids
from nescio.core.top_tokens import TopTokens

_LEAST = 1e-4  # probability that has to be left; of less, noise would be taught as if it were certain


def strike_out(
    tokenizer: Any,
    prompt: str,
    answer: str,
    places: Sequence[Sequence[int]],
    likely: TopTokens,
    otherwise: TopTokens | None = None,
) -> TopTokens:
    """Return a model's distribution along an answer without the secrets that the answer says.

    At each token of a secret, whatever begins what is left of it loses its probability, so that other ways of cutting
    it into tokens do not stay open. Its own beginnings are kept by name, even if they are not likely: a student could
    hide them among the tokens that are not kept. Cf. SHRED (arXiv 2605.07482), which strikes out the tokens that
    surprise most.

    Args:
        tokenizer: The model's.
        prompt: What the model sees before the answer; `split_ids` can split the two.
        answer: The answer, of n tokens.
        places: Where it says secrets: start and end of each.
        likely: The model's likely tokens at each token of the answer.
        otherwise: Another distribution, taken where the first one has hardly anything else to say.

    Raises:
        NescioError: The tokenizer does not know where its tokens stand.
    """
    cuts = [end for first, last in places for end in range(first + 1, last + 1)]
    tokens, *begun = (split_ids(tokenizer, prompt, answer[:end]) for end in (len(answer), *cuts))
    assert tokens is not None  # else there is no answer of n tokens
    # 1) at each token of a secret: the tokens that begin it, and what is left of it
    named = [set[int]() for _ in tokens[1]]
    rests: list[list[tuple[str, bool]]] = [[] for _ in tokens[1]]
    for at, (start, end) in enumerate(answer_offsets(tokenizer, prompt, answer)):
        for first, last in places:
            if start < last and first < end:
                rests[at].append((answer[max(start, first) : last].strip().casefold(), start <= first))
                named[at] |= {ids[1][at] for ids in begun if ids and ids[1][:at] == tokens[1][:at] and ids[1][at:]}
                named[at].add(tokens[1][at])

    # 2) strike them out
    def gone(top: TopTokens) -> Tensor:
        struck = torch.zeros_like(top.ids, dtype=torch.bool)  # [n, k]
        for at, own in enumerate(rests):
            if own:
                texts = tokenizer.batch_decode(top.ids[at, :, None])
                struck[at] = torch.tensor([any(_begins(text, *rest) for rest in own) for text in texts])
                struck[at] |= torch.isin(top.ids[at], torch.tensor(sorted(named[at])))
        return struck

    likely = likely.naming(named)
    struck = gone(likely)
    if otherwise is None:
        return likely.without(struck)
    # 3) where hardly anything is left, the other distribution speaks
    otherwise = otherwise.naming(named)
    is_left = 1 - likely.log_probs.exp().masked_fill(~struck, 0).sum(-1, keepdim=True) >= _LEAST  # [n, 1]
    return likely.without(struck).where(is_left, otherwise.without(gone(otherwise)))


def _begins(text: str, rest: str, is_start: bool) -> bool:
    """Whether a token begins what is left of a secret: so do the space before it and a part of its first letter."""
    word = text.strip().casefold()
    if not (word and rest):
        return not word and is_start
    return word.startswith(rest) or rest.startswith(word) or (word.startswith("\ufffd") and not rest[0].isascii())
