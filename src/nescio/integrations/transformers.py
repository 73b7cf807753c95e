"""Guidance for code that calls Transformers' `generate`: both branches in one batch.

The batch holds the positive rows, then the negative ones. The logits processor combines each pair, chooses the token
itself, and makes both rows emit it. So the two branches cannot get out of step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.utils.generic import ModelOutput

from nescio.core.errors import NescioError
from nescio.core.guidance import COMBINING, Guidance
from nescio.core.guide import as_guidances, guide
from nescio.engines.decode import sampling
from nescio.integrations.transformers_options import (
    Processor,
    batch_options,
    check_options,
    check_sampling,
    effective,
    guided_processors,
    padding_mask,
)

How = Guidance | Sequence[Guidance] | None


@dataclass(frozen=True, slots=True)
class _Sampling:
    """How a pair's token is drawn."""

    temperature: float
    top_p: float
    top_k: int
    seed: int
    min_p: float = 0.0


class GuidanceProcessor(LogitsProcessor):
    """Chooses the next token of pairs of rows: the first half of the batch positive, the second negative.

    Put it last, and call `generate` with `do_sample=False`: the choice is made here.

    Args:
        how: Guidance of all pairs, or of each pair.
        temperature: 0 is greedy.
        top_p: Nucleus of the guided distribution to sample from.
        top_k: Most likely tokens to sample from; 0 is all.
        seed: Pair i draws with seed + i.
        processors: Called in turn as `(ids, scores)` with the positive rows' ids `[pairs, n]` and the guided
            log-probabilities `[pairs, vocab]`; they return scores.
        **settings: `scale`, `space`, `plausibility` and `adaptive` in place of those of `how`, each one value for all
            pairs, or a list or tensor of one per pair.

    Raises:
        NescioError: A setting is unknown or out of its range.
    """

    def __init__(
        self,
        how: How = None,
        *,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int = 0,
        processors: Sequence[Processor] = (),
        **settings: Any,
    ) -> None:
        check_sampling(temperature, top_p, top_k, seed)
        self.history: list[Tensor] | None = None  # set to a list to collect each step's guided scores
        self._how = _each(how, settings)
        self._processors = processors
        self._draw = (temperature, top_p, top_k)
        self._seed = seed
        self._width = 0
        self._position = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores `[2 pairs, vocab]` in which only the chosen token of each pair is possible, in both its rows.

        Raises:
            NescioError: The rows are no pairs, or the guidances are not as many as the pairs.
        """
        pairs, odd = divmod(len(scores), 2)
        if odd:
            raise NescioError(f"{len(scores)} rows are not pairs; give the positive rows, then as many negative ones")
        if len(self._how) not in (1, pairs):
            raise NescioError(f"{len(self._how)} guidance settings for {pairs} pairs; give one for all or one a pair")
        # A call that does not follow the last one by one token begins another generation.
        self._position = self._position + 1 if input_ids.shape[-1] == self._width + 1 else 0
        self._width = input_ids.shape[-1]
        # 1) combine the branches, [pairs, vocab]
        guided = guide(scores[:pairs], scores[pairs:], self._how)
        for processor in self._processors:
            guided = processor(input_ids[:pairs], guided)
        if self.history is not None:
            self.history.append(guided)
        # 2) choose a token for each pair
        draws = [_Sampling(*self._draw, seed=self._seed + pair) for pair in range(pairs)]
        chosen = sampling.choose(guided, draws, [self._position] * pairs)
        # 3) leave only this token in both of its rows
        return torch.full_like(scores, -torch.inf).scatter(1, chosen.repeat(2)[:, None], 0.0)


def generate(
    model: Any,
    input_ids: Tensor,
    negative_prompt_ids: Tensor,
    how: How = None,
    *,
    attention_mask: Tensor | None = None,
    negative_prompt_attention_mask: Tensor | None = None,
    do_sample: bool = False,
    temperature: float | None = 1.0,
    top_p: float | None = 1.0,
    top_k: int | None = 0,
    seed: int = 0,
    num_return_sequences: int = 1,
    **options: Any,
) -> Tensor | ModelOutput:
    """`model.generate` under guidance, both branches in one batch; docs/transformers.md says what each option does.

    Args:
        model: A causal LM of Transformers.
        input_ids: `[batch, n]`, left-padded.
        negative_prompt_ids: `[batch, m]`, left-padded; m need not be n.
        how: Guidance of all prompts, or of each prompt. Its sentences are not used: the prompts have theirs.
        attention_mask: `[batch, n]`, 0 at padding; None: inferred from `pad_token_id`, as in Transformers.
        negative_prompt_attention_mask: `[batch, m]`, likewise.
        do_sample: Sample, with `temperature`, `top_p`, `top_k` and `seed`; else greedy.
        temperature: Only used with `do_sample`, as are the next three; None is the default.
        top_p: Nucleus.
        top_k: Most likely tokens; 0 is all.
        seed: Row i of the result draws with seed + i.
        num_return_sequences: Rows of the result for each prompt, one after the other.
        **options: `scale`, `space`, `plausibility` and `adaptive` in place of those of `how`, each one value or one per
            prompt; and other options of `model.generate`.

    Returns:
        `[batch * num_return_sequences, n + new]`, or the output that holds it, as `model.generate` returns it.

    Raises:
        NescioError: An option cannot work with both branches in one batch, is out of range, or shapes do not fit.
    """
    settings = {setting.name: options.pop(setting.name) for setting in COMBINING if setting.name in options}
    each = _each(how, settings)
    check_options(model, options, do_sample)
    masks = (attention_mask, negative_prompt_attention_mask)
    batch = _batch(model, options, (input_ids, negative_prompt_ids), masks, num_return_sequences)
    processor = GuidanceProcessor(
        each if len(each) == 1 else [one for one in each for _ in range(num_return_sequences)],
        temperature=(1.0 if temperature is None else temperature) if do_sample else 0.0,
        top_p=1.0 if top_p is None else top_p,
        top_k=top_k or 0,
        seed=seed,
        processors=guided_processors(model, options, batch.extra),
    )
    wants_scores = all(effective(model, options, name) for name in ("output_scores", "return_dict_in_generate"))
    processor.history = [] if wants_scores else None
    own = batch_options(model, options, batch.rows, input_ids.shape[1], batch.extra)
    processors = LogitsProcessorList([processor])
    given = model.generate(batch.ids, attention_mask=batch.mask, logits_processor=processors, **own)
    return _positive_rows(given, batch, processor.history)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Both branches, padded on the left to one width.

    Attributes:
        ids: `[2 rows, width]`, the positive rows first.
        mask: `[2 rows, width]`, 0 at padding.
        rows: Number of positive rows.
        extra: Columns by which the positive rows were widened.
    """

    ids: Tensor
    mask: Tensor
    rows: int
    extra: int


def _batch(
    model: Any, options: Mapping[str, Any], prompts: Sequence[Tensor], masks: Sequence[Tensor | None], times: int
) -> _Batch:
    if times < 1:
        raise NescioError(f"generate: num_return_sequences {times}: must be 1 or more")
    _check_prompts(prompts)
    own = [
        padding_mask(model, options, ids) if mask is None else mask for ids, mask in zip(prompts, masks, strict=True)
    ]
    _check_masks(prompts, own)
    width = max(ids.shape[1] for ids in prompts)
    padded = [_widened(ids, mask, width, times) for ids, mask in zip(prompts, own, strict=True)]
    return _Batch(
        ids=torch.cat([ids for ids, _ in padded]),
        mask=torch.cat([mask for _, mask in padded]),
        rows=len(prompts[0]) * times,
        extra=width - prompts[0].shape[1],
    )


def _positive_rows(given: Any, batch: _Batch, history: list[Tensor] | None) -> Tensor | ModelOutput:
    """Return the positive rows of what `model.generate` returned, without the padding of `_batch`.

    Args:
        given: Sequences `[2 rows, width + new]`, or an output that holds them.
        batch: What was given to `model.generate`.
        history: Guided scores of each step, if they were asked for.
    """
    if isinstance(given, Tensor):
        return given[: batch.rows, batch.extra :]
    sequences = given.sequences[: batch.rows, batch.extra :]
    new = given.sequences.shape[1] - batch.ids.shape[1]  # a deferred stop can compute one step more
    logits = given.logits and tuple(step[: batch.rows] for step in given.logits[:new])
    scores = None if history is None else tuple(history[:new])
    return type(given)(sequences=sequences, scores=scores, logits=logits)  # type: ignore[no-any-return]


def _check_prompts(prompts: Sequence[Any]) -> None:
    for ids, name in zip(prompts, ("input_ids", "negative_prompt_ids"), strict=True):
        if not isinstance(ids, Tensor) or ids.ndim != 2:
            raise NescioError(f"generate: {name} must be a tensor [batch, length]; ask the tokenizer for tensors")
    if len(prompts[0]) != len(prompts[1]):
        raise NescioError(f"generate: {len(prompts[0])} prompts but {len(prompts[1])} negative ones")


def _check_masks(prompts: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
    for ids, mask, name in zip(prompts, masks, ("attention_mask", "negative_prompt_attention_mask"), strict=True):
        if mask.shape != ids.shape:
            raise NescioError(f"generate: {name} is {list(mask.shape)}, its prompts are {list(ids.shape)}")
        if not bool(mask[:, -1].all()):
            raise NescioError(f"generate: {name} ends in 0; pad on the left (tokenizer.padding_side = 'left')")


def _each(how: How, settings: dict[str, Any]) -> list[Guidance]:
    """Return one guidance for all rows, or one for each row."""
    known = [setting.name for setting in COMBINING]
    if unknown := settings.keys() - set(known):
        raise NescioError(f"guidance setting {min(unknown)!r}: unknown; known here: {', '.join(known)}")
    guidances = as_guidances(how)
    columns = {
        name: value.tolist() if hasattr(value, "tolist") else list(value) if isinstance(value, tuple) else value
        for name, value in settings.items()
    }
    lengths = {len(value) for value in columns.values() if isinstance(value, list)} | {len(guidances)} - {1}
    if len(lengths) > 1:
        raise NescioError(
            f"{' and '.join(map(str, sorted(lengths)))} guidance settings; give one for all or one a pair"
        )
    rows = max(lengths, default=1)
    guidances = guidances * rows if len(guidances) == 1 else guidances
    return [
        replace(guidance, **{name: value[row] if isinstance(value, list) else value for name, value in columns.items()})
        for row, guidance in enumerate(guidances)
    ]


def _widened(ids: Tensor, mask: Tensor, width: int, times: int) -> tuple[Tensor, Tensor]:
    """Pad on the left to a width, and repeat each row; padding is masked, so its token has no effect."""
    left = (width - ids.shape[1], 0)
    wide = torch.nn.functional.pad(ids, left), torch.nn.functional.pad(mask.to(ids.dtype), left)
    return wide[0].repeat_interleave(times, 0), wide[1].repeat_interleave(times, 0)
