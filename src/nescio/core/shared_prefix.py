"""Several continuations of one prompt, and several such groups, in one row without computing a prompt twice.

The row is `[prompt, branch, branch, ...][prompt, branch, ...]...`; positions restart at each branch, and a mask hides
branches from each other and groups from each other. Works with any causal LM of Transformers that takes a 4-D mask
and `position_ids`; `unpackable` says why another does not, and `apart` lays its branches out in rows of their own.
Knows token ids and tensors only.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_MASKED = ("sdpa", "eager", "flex_attention")  # what can be told by a mask who sees whom
_PROBE = (11, 23, 5, 42, 17, 31, 8, 29, 13)


@dataclass(frozen=True, slots=True)
class Branch:
    """A continuation: its token ids, and which of them are asked for (all, where `wanted` is None)."""

    ids: list[int]
    wanted: list[bool] | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt (one token at least) and its continuations.

    Attributes:
        prompt: Token ids.
        branches: The continuations.
        prompt_wanted: Whether the prompt's own tokens, all but the first, are asked for too.
    """

    prompt: list[int]
    branches: list[Branch]
    prompt_wanted: bool = False

    @property
    def tokens(self) -> int:
        """Tokens this group takes in a row."""
        return len(self.prompt) + sum(len(branch.ids) for branch in self.branches)


@dataclass(frozen=True, slots=True)
class Packed:
    """A row of groups, n tokens long, with m tokens asked for.

    Attributes:
        input_ids: `[1, n]`.
        position_ids: `[1, n]`.
        group_of: `[n]`: the number of the group each token belongs to.
        segment_of: `[n]`: 0 in a prompt; else the number of the branch, from 1, counted through all groups.
        sources: `[m]`: where in the row the logits of each wanted token stand.
        targets: `[m]`: the wanted tokens.
        branch_of: `[m]`: the number of the branch each belongs to, from 0, counted through all groups. Tokens of a
            prompt belong to its first branch.
        in_prompt: `[m]`: whether each is a token of a prompt.
        branches: How many branches there are.
    """

    input_ids: Tensor
    position_ids: Tensor
    group_of: Tensor
    segment_of: Tensor
    sources: Tensor
    targets: Tensor
    branch_of: Tensor
    in_prompt: Tensor
    branches: int

    def to(self, device: torch.device) -> "Packed":
        """The same on a device."""
        moved = {name: getattr(self, name).to(device) for name in self.__slots__ if name != "branches"}
        return Packed(**moved, branches=self.branches)


def pack(groups: Sequence[Group]) -> Packed:
    """Lay groups out in one row."""
    ids: list[int] = []
    positions: list[int] = []
    group_of: list[int] = []
    segment_of: list[int] = []
    wanted: list[tuple[int, int, int, int]] = []
    branch_number = 0
    for number, group in enumerate(groups):
        start = len(ids)
        last_of_prompt = start + len(group.prompt) - 1
        _lay(ids, positions, group.prompt, 0)
        segment_of += [0] * len(group.prompt)
        if group.prompt_wanted:
            wanted += [(start + k, token, branch_number, True) for k, token in enumerate(group.prompt[1:])]
        for branch in group.branches:
            first = len(ids)
            _lay(ids, positions, branch.ids, len(group.prompt))
            segment_of += [branch_number + 1] * len(branch.ids)
            for k, token in enumerate(branch.ids):
                if branch.wanted is None or branch.wanted[k]:
                    wanted.append((first + k - 1 if k else last_of_prompt, token, branch_number, False))
            branch_number += 1
        group_of += [number] * (len(ids) - start)
    sources, targets, branch_of, in_prompt = torch.tensor(wanted, dtype=torch.long).reshape(-1, 4).unbind(1)
    return Packed(
        torch.tensor([ids]),
        torch.tensor([positions]),
        torch.tensor(group_of),
        torch.tensor(segment_of),
        sources,
        targets,
        branch_of,
        in_prompt.bool(),
        branch_number,
    )


def _lay(ids: list[int], positions: list[int], tokens: list[int], start: int) -> None:
    ids += tokens
    positions += range(start, start + len(tokens))


def apart(groups: Sequence[Group]) -> list[Packed]:
    """Each branch after a copy of its prompt, in a row of its own, for models that can't be packed."""
    return [
        pack([Group(group.prompt, [branch], group.prompt_wanted and number == 0)])
        for group in groups
        for number, branch in enumerate(group.branches)
    ]


def by_budget(groups: Sequence[Group], budget: int) -> list[list[int]]:
    """Numbers of the groups for each row, so that no row of several groups passes the token budget."""
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
    """What sees what, `[1, 1, n, n]`: True where the row's token may look at the column's.

    Args:
        packed: The row.
        window: For sliding attention: how many positions back a token sees, itself included. Positions restart with
            the branches, so a branch sees as much of its prompt as it would alone.
    """
    at = torch.arange(len(packed.group_of), device=packed.group_of.device)
    seen: Tensor = _sees(packed, window)(None, None, at[:, None], at[None, :])
    return seen[None, None]


def _sees(packed: Packed, window: int | None) -> Any:
    """`visible` as FlexAttention's `mask_mod(batch, head, row, column)`."""
    group, segment, position = packed.group_of, packed.segment_of, packed.position_ids[0]

    def mask_mod(batch: Any, head: Any, row: Tensor, column: Tensor) -> Tensor:
        own_branch = (segment[column] == 0) | (segment[row] == segment[column])
        seen: Tensor = (column <= row) & (group[row] == group[column]) & own_branch
        return seen if window is None else seen & (position[row] - position[column] < window)

    return mask_mod


def log_probs(model: Any, packed: Packed) -> Tensor:
    """Log-probability `[m]` of each wanted token, in fp32; logits are computed at those places only."""
    picked = logits(model, packed).float()
    chosen: Tensor = picked.gather(1, packed.targets[:, None])[:, 0] - picked.logsumexp(-1)
    return chosen


def logits(model: Any, packed: Packed) -> Tensor:
    """Logits `[m, vocab]` from which each wanted token is predicted.

    Args:
        model: A causal LM, as it is or wrapped by PEFT or accelerate.
        packed: A row on the model's device. One of several branches needs a model that `unpackable` has nothing
            against; one of a single branch goes into any.
    """
    core = core_of(model)
    how: dict[str, Any] = {}
    if packed.branches > 1:
        how = {"position_ids": packed.position_ids, "attention_mask": _attention_mask(core, packed)}
    keeps = "logits_to_keep" in inspect.signature(core.forward).parameters
    if keeps:
        how["logits_to_keep"] = packed.sources
    output: Tensor = model(input_ids=packed.input_ids, use_cache=False, **how).logits[0]
    return output if keeps else output[packed.sources]


def core_of(model: Any) -> Any:
    """The model of Transformers inside what accelerate and PEFT wrap around it."""
    bare = getattr(model, "module", model)
    return bare.get_base_model() if hasattr(bare, "get_base_model") else bare


def _attention_mask(core: Any, packed: Packed) -> Any:
    return by_kind(core, lambda window: _as_asked(core, packed, window))


def by_kind(core: Any, made: Callable[[int | None], Any]) -> Any:
    """The mask as this model takes it: what is `made` for a window, or one for each kind of its layers."""
    config = core.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if not kinds:  # all layers are alike: sliding, if the model knows of a window at all (Mistral, Phi)
        return made(window)
    masks = {kind: made(window if kind == "sliding_attention" else None) for kind in kinds}
    return masks if len(kinds) > 1 else next(iter(masks.values()))


def _as_asked(core: Any, packed: Packed, window: int | None) -> Any:
    """The mask for the model's attention: blocks for FlexAttention, numbers to add for eager, else a boolean."""
    attention = core.config._attn_implementation
    if attention == "flex_attention":
        from torch.nn.attention.flex_attention import create_block_mask

        n, device = len(packed.group_of), packed.group_of.device
        return create_block_mask(_sees(packed, window), 1, None, n, n, device=device)
    return as_read(core, visible(packed, window))


def as_read(core: Any, mask: Tensor) -> Tensor:
    """A boolean mask, for eager attention as the numbers that it adds."""
    if core.config._attn_implementation != "eager":
        return mask
    return torch.zeros_like(mask, dtype=core.dtype).masked_fill(~mask, torch.finfo(core.dtype).min)


def unpackable(model: Any) -> str | None:
    """Why several branches can't share a row of this model; None if they can.

    What the model says of itself is read first; then a row of two short branches is computed both ways.
    """
    core = core_of(model)
    config = core.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    if "position_ids" not in inspect.signature(core.forward).parameters:
        return "it takes no position_ids"
    if config._attn_implementation not in _MASKED:
        return f"{config._attn_implementation} takes no 4-D mask"
    if not kinds <= {"full_attention", "sliding_attention"}:
        return f"it has layers of {', '.join(sorted(kinds - {'full_attention', 'sliding_attention'}))}"
    return _probe(core)


def _probe(core: Any) -> str | None:
    vocab = core.config.get_text_config().vocab_size
    ids = [token % vocab for token in _PROBE]
    groups = [Group(ids[:4], [Branch(ids[4:7]), Branch(ids[7:])])]
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
    close = 1e-3 if core.dtype == torch.float32 else 0.25  # logits of half the bits are that coarse
    return None if float((together - alone).abs().mean()) < close else "it does not heed a 4-D mask"
