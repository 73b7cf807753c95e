"""Guidance for programs that call Transformers' `generate`: both branches in one batch. Knows token ids and tensors.

The batch holds the positive rows, then the negative ones. The processor makes one distribution of each pair, chooses
the token, and lets both rows say it; so it samples itself, and the two branches can't fall out of step.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from nescio.core.errors import NescioError
from nescio.core.guidance import Space, guide
from nescio.engines.decode.sampling import pick

_UNFIT = ("num_beams", "prompt_lookup_num_tokens", "assistant_model", "guidance_scale", "penalty_alpha", "stop_strings")


class GuidanceProcessor(LogitsProcessor):
    """Chooses the next token of pairs of rows: the first half of the batch positive, the second negative.

    Put it last, and call `generate` with `do_sample=False`: the choice is made here.

    Args:
        scale: γ, one for all pairs or one a pair.
        space: `log` (eq. 2) or `prob` (eq. 6), one for all pairs or one a pair.
        plausibility: Tokens below this share of the largest positive probability are ruled out; 0 keeps all.
        temperature: 0 is greedy.
        top_p: Nucleus of the guided distribution to sample from.
        top_k: Most likely tokens to sample from; 0 is all.
        seed: Pair i draws with seed + i.
    """

    def __init__(
        self,
        scale: float | list[float] = 1.0,
        space: Space | list[Space] = "prob",
        plausibility: float | list[float] = 0.0,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int = 0,
    ) -> None:
        self._scale = torch.as_tensor(scale, dtype=torch.float32)
        if not bool((self._scale.isfinite() & (self._scale >= 0)).all()):
            raise NescioError(f"guidance scale {scale}: must be finite numbers of 0 or more; 1 is unguided")
        self._space = space
        self._plausibility = torch.as_tensor(plausibility, dtype=torch.float32)
        self._sampling = (temperature, top_p, top_k)
        self._seed = seed
        self._generators: list[torch.Generator] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `[2 pairs, vocab]` in which only the chosen token of each pair is possible, in both of its rows.

        Raises:
            NescioError: The rows are no pairs, or the scales are not as many as the pairs.
        """
        pairs, odd = divmod(len(scores), 2)
        if odd:
            raise NescioError(f"{len(scores)} rows are no pairs; give the positive rows, then as many negative ones")
        for setting in (self._scale, self._plausibility):
            if setting.ndim and len(setting) != pairs:
                raise NescioError(f"{len(setting)} guidance settings for {pairs} pairs; give one for all or one a pair")
        if not self._generators:
            self._generators = [torch.Generator().manual_seed(self._seed + pair) for pair in range(pairs)]
        guided = guide(scores[:pairs], scores[pairs:], self._scale, self._space, self._plausibility)
        chosen = [
            pick(row, *self._sampling, generator) for row, generator in zip(guided, self._generators, strict=True)
        ]
        both = torch.tensor(chosen * 2, device=scores.device)
        return torch.full_like(scores, -torch.inf).scatter(1, both[:, None], 0.0)


def generate(
    model: Any,
    input_ids: Tensor,
    negative_prompt_ids: Tensor,
    *,
    attention_mask: Tensor | None = None,
    negative_prompt_attention_mask: Tensor | None = None,
    scale: float | list[float] = 1.0,
    space: Space | list[Space] = "prob",
    plausibility: float | list[float] = 0.0,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int = 0,
    num_return_sequences: int = 1,
    **options: Any,
) -> Tensor:
    """`model.generate` under guidance, both branches in one batch.

    Args:
        model: A causal LM of Transformers.
        input_ids: `[batch, n]`, left-padded.
        negative_prompt_ids: `[batch, m]`, left-padded; m need not be n.
        attention_mask: `[batch, n]`, 0 at padding; None: nothing is padded.
        negative_prompt_attention_mask: `[batch, m]`, likewise.
        scale: γ, one for all prompts or one a prompt; 1 is the positive branch alone.
        space: `log` (eq. 2, what `guidance_scale` does) or `prob` (eq. 6), one for all prompts or one a prompt.
        plausibility: As in `GuidanceProcessor`.
        do_sample: Sample, with `temperature`, `top_p`, `top_k` and `seed`; else greedy.
        temperature: Only read with `do_sample`, as the three that follow.
        top_p: Nucleus.
        top_k: Most likely tokens; 0 is all.
        seed: Row i of the result draws with seed + i.
        num_return_sequences: Rows of the result for each prompt, one after the other.
        options: Anything else that `model.generate` takes, but beams and speculation.

    Returns:
        `[batch * num_return_sequences, n + new]`, as `model.generate` gives.

    Raises:
        NescioError: An option that would part the branches, or shapes that don't fit.
    """
    unfit = [name for name in _UNFIT if options.get(name) not in (None, 1)]
    if unfit:
        raise NescioError(f"generate: {', '.join(unfit)} cannot be used with both branches in one batch; leave it out")
    if len(input_ids) != len(negative_prompt_ids):
        raise NescioError(f"generate: {len(input_ids)} prompts but {len(negative_prompt_ids)} negative ones")
    width = max(input_ids.shape[1], negative_prompt_ids.shape[1])
    pairs = [(input_ids, attention_mask), (negative_prompt_ids, negative_prompt_attention_mask)]
    padded = [_widened(ids, mask, width, num_return_sequences) for ids, mask in pairs]
    draw = (temperature if do_sample else 0.0, top_p, top_k, seed)
    repeated = [_repeated(value, num_return_sequences) for value in (scale, space, plausibility)]
    processor = GuidanceProcessor(repeated[0], repeated[1], repeated[2], *draw)
    before = options.pop("logits_processor", None) or []
    given: Tensor = model.generate(
        torch.cat([ids for ids, _ in padded]),
        attention_mask=torch.cat([mask for _, mask in padded]),
        logits_processor=LogitsProcessorList([*before, processor]),
        **options | {"do_sample": False, "return_dict_in_generate": False},
    )
    rows = len(input_ids) * num_return_sequences
    return given[:rows, width - input_ids.shape[1] :]


def _widened(ids: Tensor, mask: Tensor | None, width: int, times: int) -> tuple[Tensor, Tensor]:
    """Left-padded to a width, each row that many times. What pads is masked, so any token will do."""
    mask = torch.ones_like(ids) if mask is None else mask.to(ids.dtype)
    left = (width - ids.shape[1], 0)
    wide = torch.nn.functional.pad(ids, left), torch.nn.functional.pad(mask, left)
    return wide[0].repeat_interleave(times, 0), wide[1].repeat_interleave(times, 0)


def _repeated(value: Any, times: int) -> Any:
    return [one for one in value for _ in range(times)] if isinstance(value, list) else value
