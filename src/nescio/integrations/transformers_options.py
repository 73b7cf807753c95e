"""Options of Transformers' `generate` under guidance: refused, or translated for a batch that holds both branches."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from transformers import (
    NoRepeatNGramLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from nescio.core.errors import NescioError

Processor = Callable[[Tensor, Tensor], Tensor]
"""`(ids, scores)` to scores; Transformers' logits processors are such functions."""

_SEPARATE = "would separate the two branches"
_PROMPT = "belongs to the prompts alone, but the batch holds both branches, padded to one width"
_BEFORE = "would act on each branch before guidance"
_REFUSED = {
    **dict.fromkeys(("num_beams", "num_beam_groups", "prompt_lookup_num_tokens", "assistant_model"), _SEPARATE),
    **dict.fromkeys(("assistant_early_exit", "penalty_alpha", "dola_layers", "stop_strings"), _SEPARATE),
    **dict.fromkeys(("constraints", "force_words_ids", "custom_generate"), _SEPARATE),
    **dict.fromkeys(("position_ids", "token_type_ids", "inputs", "inputs_embeds", "past_key_values"), _PROMPT),
    "cache_position": _PROMPT,
    **dict.fromkeys(("encoder_repetition_penalty", "encoder_no_repeat_ngram_size"), _BEFORE),
    **dict.fromkeys(("exponential_decay_length_penalty", "watermarking_config"), _BEFORE),
    **dict.fromkeys(("output_attentions", "output_hidden_states"), _PROMPT),
    "guidance_scale": "is Transformers' own guidance; give scale=",
}
_WARPERS = ("min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
_OWN = (
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "num_return_sequences",
    "return_dict_in_generate",
    "output_scores",
)
_NEUTRAL = {"num_beams": 1, "num_beam_groups": 1, "encoder_repetition_penalty": 1, "typical_p": 1, "guidance_scale": 1}


def check_options(model: Any, options: Mapping[str, Any], do_sample: bool) -> None:
    """Refuse options that cannot work with both branches in one batch.

    Args:
        model: A causal LM.
        options: Of the call.
        do_sample: Whether tokens are drawn: else the samplers of the model's generation config do nothing.

    Raises:
        NescioError: There is one, among the options or in a generation config.
    """
    given = options.get("generation_config")
    for name, reason in _REFUSED.items():
        if _is_on(name, effective(model, options, name)):
            raise NescioError(f"generate: {name} {reason}; leave it out, or turn it off in the generation config")
    for name in _WARPERS:
        asked = options.get(name, getattr(given, name, None))
        if _is_on(name, effective(model, options, name) if do_sample else asked):
            raise NescioError(
                f"generate: {name} is not supported under guidance; turn it off, also in the generation config, and "
                "use temperature, top_p and top_k"
            )
    for name in _OWN:
        if getattr(given, name, None):
            raise NescioError(f"generate: generation_config.{name}: give {name} to generate itself")
    for name, value in options.items():
        if isinstance(value, Tensor) and not hasattr(model.generation_config, name):
            raise NescioError(f"generate: {name} {_PROMPT}; leave it out")
    if model.config.is_encoder_decoder:
        raise NescioError("generate: guidance needs a causal language model, this one has an encoder")


def check_sampling(temperature: float, top_p: float, top_k: int, seed: Any) -> None:
    """Check the ranges of the sampling options.

    Raises:
        NescioError: A value is out of its range, or the seed is no number.
    """
    if not isinstance(seed, Integral):
        raise NescioError(f"seed {seed!r}: must be one whole number; row i draws with seed + i")
    if not (0 <= temperature < float("inf") and 0 < top_p <= 1 and top_k >= 0):
        raise NescioError(
            f"temperature {temperature}, top_p {top_p}, top_k {top_k}: temperature must be 0 (greedy) or more, "
            "top_p lie in (0, 1], and top_k be 0 (all) or more"
        )


def effective(model: Any, options: Mapping[str, Any], name: str) -> Any:
    """Return an option as Transformers resolves it: the call's, else its generation config's, else the model's."""
    for value in (
        options.get(name),
        getattr(options.get("generation_config"), name, None),
        getattr(getattr(model, "generation_config", None), name, None),
    ):
        if value is not None:
            return value
    return None


def _is_on(name: str, value: Any) -> bool:
    if isinstance(value, bool | int | float):
        return bool(value) and value != _NEUTRAL.get(name)
    return value is not None


def padding_mask(model: Any, options: Mapping[str, Any], ids: Tensor) -> Tensor:
    """Return the attention mask of prompts that have none, as Transformers infers it from the padding token."""
    pad, end = effective(model, options, "pad_token_id"), effective(model, options, "eos_token_id")
    ends = torch.as_tensor([] if end is None else end).reshape(-1).tolist()
    if pad is None or int(pad) in ends:
        return torch.ones_like(ids)
    return ids.ne(int(pad)).to(ids.dtype)


def lengths(model: Any, options: Mapping[str, Any], prompt: int) -> dict[str, int]:
    """Translate `max_length` and `min_length`, which count the prompt, into numbers of new tokens.

    Args:
        model: A causal LM.
        options: Options of the call.
        prompt: Length of the positive prompts, without the padding to the width of the negative ones.

    Raises:
        NescioError: The prompt already has `max_length` tokens.
    """
    translated = {}
    most, least = effective(model, options, "max_length"), effective(model, options, "min_length")
    if most is not None and effective(model, options, "max_new_tokens") is None:
        if most <= prompt:
            raise NescioError(f"generate: max_length {most}: the prompt has {prompt} tokens; give max_new_tokens")
        translated["max_new_tokens"] = int(most) - prompt
    if least and effective(model, options, "min_new_tokens") is None:
        translated["min_new_tokens"] = max(int(least) - prompt, 0)
    return translated


def guided_processors(model: Any, options: Mapping[str, Any], extra: int) -> list[Processor]:
    """Return the processors that depend on a row's tokens, for the guided scores; in Transformers' order.

    Args:
        model: A causal LM.
        options: Options of the call.
        extra: Columns by which the positive rows were widened; the processors do not see them.
    """
    found: list[Processor] = []
    if (penalty := effective(model, options, "repetition_penalty")) not in (None, 1):
        found.append(RepetitionPenaltyLogitsProcessor(penalty=float(penalty)))
    if size := effective(model, options, "no_repeat_ngram_size"):
        found.append(NoRepeatNGramLogitsProcessor(size))
    if (allowed := options.get("prefix_allowed_tokens_fn")) is not None:
        found.append(PrefixConstrainedLogitsProcessor(allowed, 1))
    found += [*(options.get("logits_processor") or [])]
    return [lambda ids, scores, one=one: one(ids[:, extra:], scores) for one in found]  # type: ignore[misc]


class PositiveStreamer(BaseStreamer):
    """Passes the positive rows on to a streamer.

    Args:
        streamer: Receives prompts `[rows, n]`, then tokens `[rows]`.
        rows: Number of positive rows.
        extra: Columns by which they were widened.
    """

    def __init__(self, streamer: Any, rows: int, extra: int) -> None:
        self._streamer, self._rows, self._extra = streamer, rows, extra

    def put(self, value: Tensor) -> None:
        """Pass on what `generate` emits: the prompts once, then one token per row."""
        self._streamer.put(value[: self._rows, self._extra :] if value.ndim > 1 else value[: self._rows])

    def end(self) -> None:
        """Pass on the end."""
        self._streamer.end()


class PositiveCriteria(StoppingCriteria):
    """Applies stopping criteria to the positive rows; both rows of a pair stop together.

    Args:
        criteria: As Transformers calls them.
        rows: Number of positive rows.
        extra: Columns by which they were widened.
    """

    def __init__(self, criteria: Sequence[Any], rows: int, extra: int) -> None:
        self._criteria, self._rows, self._extra = criteria, rows, extra

    def __call__(self, input_ids: Tensor, scores: Any, **others: Any) -> Tensor:
        """Return which rows are done, `[2 rows]`."""
        ids = input_ids[: self._rows, self._extra :]
        done = torch.zeros(self._rows, dtype=torch.bool, device=input_ids.device)
        for criterion in self._criteria:
            done = done | torch.as_tensor(criterion(ids, scores, **others), device=input_ids.device)
        return done.repeat(2)


def batch_options(model: Any, options: Mapping[str, Any], rows: int, prompt: int, extra: int) -> dict[str, Any]:
    """Return the options of a call, translated for the batch `[2 rows, prompt + extra]`.

    Raises:
        NescioError: The prompt already has `max_length` tokens.
    """
    kept = {
        name: value
        for name, value in options.items()
        if name not in ("logits_processor", "prefix_allowed_tokens_fn", "max_length", "min_length")
    }
    translated: dict[str, Any] = lengths(model, options, prompt)
    if effective(model, options, "repetition_penalty") is not None:
        translated["repetition_penalty"] = 1.0  # `guided_processors` applies it
    if effective(model, options, "no_repeat_ngram_size") is not None:
        translated["no_repeat_ngram_size"] = 0
    if kept.get("streamer") is not None:
        translated["streamer"] = PositiveStreamer(kept["streamer"], rows, extra)
    if kept.get("stopping_criteria"):
        criteria = PositiveCriteria(kept["stopping_criteria"], rows, extra)
        translated["stopping_criteria"] = StoppingCriteriaList([criteria])
    return {**kept, **translated, "do_sample": False}
