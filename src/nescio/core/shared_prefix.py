"""Rows that hold several continuations of one prompt, and several such groups, and compute each prompt once.

A row is `[prompt, continuation, continuation, ...][prompt, continuation, ...]...`. Positions restart at each
continuation, and a mask hides continuations and groups from each other. Any causal LM of Transformers that takes a
4-D mask and `position_ids` computes such a row; `unpackable` says why another does not, and `apart` then gives each
continuation a row of its own.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nescio.core.own_attention import is_own
from nescio.core.token_log_probs import token_log_probs

_MASKED = ("sdpa", "eager", "flex_attention")  # attention implementations that heed a 4-D mask
_PROBE = (11, 23, 5, 42, 17, 31, 8, 29, 13)


@dataclass(frozen=True, slots=True)
class Continuation:
    """Token ids of a continuation, and which of them are scored (all if `wanted` is None)."""

    ids: list[int]
    wanted: list[bool] | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt (one token at least) and its continuations.

    Attributes:
        prompt: Token ids.
        continuations: The continuations.
        prompt_wanted: Whether the prompt's own tokens, except the first, are scored too.
    """

    prompt: list[int]
    continuations: list[Continuation]
    prompt_wanted: bool = False

    @property
    def tokens(self) -> int:
        """Number of tokens of this group in a row."""
        return len(self.prompt) + sum(len(continuation.ids) for continuation in self.continuations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A row of groups: n tokens, of which m are scored.

    Attributes:
        input_ids: `[1, n]`.
        position_ids: `[1, n]`.
        group_of: `[n]`: number of each token's group.
        segment_of: `[n]`: 0 in a prompt, else the continuation's number, counted from 1 through all groups.
        sources: `[m]`: position in the row whose logits predict each scored token.
        targets: `[m]`: the scored tokens.
        continuation_of: `[m]`: number of each scored token's continuation, counted from 0 through all groups. Tokens
            of a prompt belong to its first continuation.
        in_prompt: `[m]`: whether each scored token is a token of a prompt.
        continuations: Number of continuations.
    """

    input_ids: Tensor
    position_ids: Tensor
    group_of: Tensor
    segment_of: Tensor
    sources: Tensor
    targets: Tensor
    continuation_of: Tensor
    in_prompt: Tensor
    continuations: int

    def to(self, device: torch.device) -> "Packed":
        """Return the row on a device."""
        moved = {name: getattr(self, name).to(device) for name in self.__slots__ if name != "continuations"}
        return Packed(**moved, continuations=self.continuations)


def pack(groups: Sequence[Group]) -> Packed:
    """Lay groups out in one row."""
    ids: list[int] = []
    positions: list[int] = []
    group_of: list[int] = []
    segment_of: list[int] = []
    scored: list[tuple[int, int, int, bool]] = []  # (source, target, continuation, in prompt)
    number = 0  # of the continuation
    for group_number, group in enumerate(groups):
        # 1) the prompt
        start, prompt = len(ids), group.prompt
        ids += prompt
        positions += range(len(prompt))
        segment_of += [0] * len(prompt)
        if group.prompt_wanted:
            scored += [(start + k, token, number, True) for k, token in enumerate(prompt[1:])]
        # 2) its continuations; the first token of each is predicted by the prompt's last
        for continuation in group.continuations:
            first = len(ids)
            ids += continuation.ids
            positions += range(len(prompt), len(prompt) + len(continuation.ids))
            segment_of += [number + 1] * len(continuation.ids)
            for k, token in enumerate(continuation.ids):
                if continuation.wanted is None or continuation.wanted[k]:
                    scored.append((first + k - 1 if k else start + len(prompt) - 1, token, number, False))
            number += 1
        group_of += [group_number] * (len(ids) - start)
    sources, targets, continuation_of, in_prompt = torch.tensor(scored, dtype=torch.long).reshape(-1, 4).unbind(1)
    return Packed(
        input_ids=torch.tensor([ids]),
        position_ids=torch.tensor([positions]),
        group_of=torch.tensor(group_of),
        segment_of=torch.tensor(segment_of),
        sources=sources,
        targets=targets,
        continuation_of=continuation_of,
        in_prompt=in_prompt.bool(),
        continuations=number,
    )


def apart(groups: Sequence[Group]) -> list[Packed]:
    """Put each continuation into a row of its own, after a copy of its prompt, for models that can't be packed."""
    return [
        pack([Group(group.prompt, [continuation], group.prompt_wanted and number == 0)])
        for group in groups
        for number, continuation in enumerate(group.continuations)
    ]


def by_budget(groups: Sequence[Group], budget: int) -> list[list[int]]:
    """Return the numbers of each row's groups; a row of several groups stays within the token budget."""
    rows: list[list[int]] = []
    used = budget + 1
    for number, group in enumerate(groups):
        if used + group.tokens > budget:
            rows.append([])
            used = 0
        rows[-1].append(number)
        used += group.tokens
    return rows


def visible(packed: Packed, window: int | None = None) -> Tensor:
    """Return the attention mask `[1, 1, n, n]`: True where the row's token sees the column's.

    Args:
        packed: The row.
        window: For sliding attention: number of positions a token sees, itself included. Positions restart with
            each continuation, so it sees as much of its prompt as it would alone.
    """
    at = torch.arange(len(packed.group_of), device=packed.group_of.device)
    seen: Tensor = _sees(packed, window)(None, None, at[:, None], at[None, :])
    return seen[None, None]


def _sees(packed: Packed, window: int | None) -> Any:
    """Return `visible` as FlexAttention's `mask_mod(batch, head, row, column)`."""
    group, segment, position = packed.group_of, packed.segment_of, packed.position_ids[0]

    def mask_mod(batch: Any, head: Any, row: Tensor, column: Tensor) -> Tensor:
        own_continuation = (segment[column] == 0) | (segment[row] == segment[column])
        seen: Tensor = (column <= row) & (group[row] == group[column]) & own_continuation
        return seen if window is None else seen & (position[row] - position[column] < window)

    return mask_mod


def log_probs(model: Any, packed: Packed) -> Tensor:
    """Return the log-probability `[m]` of each scored token, in fp32; logits are computed at those places only."""
    return token_log_probs(logits(model, packed), packed.targets[:, None])[:, 0]


def logits(model: Any, packed: Packed) -> Tensor:
    """Return the logits `[m, vocab]` that predict the scored tokens.

    Args:
        model: A causal LM, as it is or wrapped by PEFT or accelerate.
        packed: A row on the model's device. With several continuations it needs a model for which `unpackable` is
            None; with a single one, any model.
    """
    core = core_of(model)
    how: dict[str, Any] = {}
    if packed.continuations > 1:
        how = {"position_ids": packed.position_ids, "attention_mask": _attention_mask(core, packed)}
    keeps = "logits_to_keep" in inspect.signature(core.forward).parameters
    if keeps:
        how["logits_to_keep"] = packed.sources
    # squeeze: the gradient of an index would be a second tensor of the logits' size, zeros at first
    output: Tensor = model(input_ids=packed.input_ids, use_cache=False, **how).logits.squeeze(0)
    return output if keeps else output[packed.sources]


@contextmanager
def hidden_states(model: Any, depth: float | None) -> Iterator[list[Tensor]]:
    """Collect the output `[1, n, width]` of one layer for each row computed inside the `with` block.

    Args:
        model: A causal LM, as it is or wrapped by PEFT or accelerate.
        depth: Depth of the layer, as a share of all layers; None: nothing is collected.
    """
    seen: list[Tensor] = []
    if depth is None:
        yield seen
        return
    layers = max((part for part in core_of(model).modules() if isinstance(part, torch.nn.ModuleList)), key=len)
    layer = layers[min(int(depth * len(layers)), len(layers) - 1)]
    hook = layer.register_forward_hook(
        lambda module, given, output: seen.append(output[0] if isinstance(output, tuple) else output)
    )
    try:
        yield seen
    finally:
        hook.remove()


def core_of(model: Any) -> Any:
    """Return the Transformers model inside the wrappers of accelerate and PEFT."""
    bare = getattr(model, "module", model)
    return bare.get_base_model() if hasattr(bare, "get_base_model") else bare


def _attention_mask(core: Any, packed: Packed) -> Any:
    return by_kind(core, lambda window: _row_mask(core, packed, window))


def by_kind(core: Any, made: Callable[[int | None], Any]) -> Any:
    """Return the mask in this model's form: `made(window)`, or a dict of one for each kind of layer."""
    config = core.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if not kinds:  # all layers are alike: sliding if the model has a window (Mistral, Phi)
        return made(window)
    masks = {kind: made(window if kind == "sliding_attention" else None) for kind in kinds}
    return masks if len(kinds) > 1 else next(iter(masks.values()))


def _row_mask(core: Any, packed: Packed, window: int | None) -> Any:
    """Return a row's mask for the model's attention: blocks for FlexAttention, else as `as_read`."""
    attention = core.config._attn_implementation
    if attention == "flex_attention":
        from torch.nn.attention.flex_attention import create_block_mask

        n, device = len(packed.group_of), packed.group_of.device
        return create_block_mask(_sees(packed, window), 1, None, n, n, device=device)
    return as_read(core, visible(packed, window))


def as_read(core: Any, mask: Tensor) -> Tensor:
    """Return a boolean mask, or for eager attention the numbers to add to the scores."""
    if core.config._attn_implementation != "eager":
        return mask
    return torch.zeros_like(mask, dtype=core.dtype).masked_fill(~mask, torch.finfo(core.dtype).min)


def unpackable(model: Any) -> str | None:
    """Return why several continuations can't share a row of this model; None if they can.

    Read the model's configuration first, then compute a row of two short continuations both ways.
    """
    core = core_of(model)
    config = core.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    if "position_ids" not in inspect.signature(core.forward).parameters:
        return "it takes no position_ids"
    if config._attn_implementation not in _MASKED and not is_own(config._attn_implementation):
        return f"{config._attn_implementation} takes no 4-D mask"
    if not kinds <= {"full_attention", "sliding_attention"}:
        return f"it has layers of {', '.join(sorted(kinds - {'full_attention', 'sliding_attention'}))}"
    return _probe(core)


def _probe(core: Any) -> str | None:
    vocab = core.config.get_text_config().vocab_size
    ids = [token % vocab for token in _PROBE]
    groups = [Group(ids[:4], [Continuation(ids[4:7]), Continuation(ids[7:])])]
    was_training = core.training
    core.eval()
    try:
        with torch.no_grad():
            together = log_probs(core, pack(groups).to(core.device))
            alone = torch.cat([log_probs(core, row.to(core.device)) for row in apart(groups)])
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError) as error:
        return f"it does not take a 4-D mask ({type(error).__name__})"
    finally:
        core.train(was_training)
    packed = any(getattr(module, "is_coarse", False) for module in core.modules())
    coarse = core.dtype != torch.float32 or getattr(core, "is_quantized", False) or packed
    close = 0.25 if coarse else 1e-3  # 16-bit logits, and those of int8 products, are that coarse
    return None if float((together - alone).abs().mean()) < close else "it does not heed a 4-D mask"
