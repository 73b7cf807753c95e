"""What the model says of each answer before training, for losses that need it; computed once and cached on disk.

The reference is the model with its adapter off, so that no second copy of it is in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nescio.core.errors import NescioError
from nescio.core.files import fingerprint, read_jsonl, write_jsonl
from nescio.core.shared_prefix import Group, logits, pack
from nescio.core.top_tokens import TopTokens, read_top_tokens, write_top_tokens
from nescio.training.batch import Example, Unit, lay_out, likelihoods
from nescio.training.losses.registry import PairLoss
from nescio.training.processes import processes

_LIKELY = 64  # tokens of a teacher that are kept at each place


def with_reference(model: Any, units: Sequence[Unit], row_tokens: int | None, cache: Path) -> list[Unit]:
    """Return the units, each answer with its log-probability under the model without its adapter.

    Args:
        model: The causal LM.
        units: Examples without references.
        row_tokens: As for `lay_out`.
        cache: JSON lines; read if it holds these answers, else written. With several processes the first one computes.
    """
    with processes().main_process_first():
        known = dict(_read(cache)) if cache.exists() else {}
        keys = {_key(example) for unit in units for example in unit}
        if not keys <= known.keys():
            known = {_key(each): _measure(model, each, row_tokens) for unit in units for each in unit}
            write_jsonl(cache, ({"answers": key, "log_probs": list(values)} for key, values in known.items()))
    return [[replace(example, reference=known[_key(example)]) for example in unit] for unit in units]


def with_targets(
    model: Any,
    units: Sequence[Unit],
    loss: PairLoss,
    beta: float,
    cache: Path,
    asked: Callable[[Example], list[int]] | None = None,
) -> list[Unit]:
    """Return the units, each example with its teacher's likely tokens: the loss's own teacher, made of the model.

    Args:
        model: The causal LM.
        units: Examples of one answer.
        loss: A loss with a teacher.
        beta: `train.beta`.
        cache: Safetensors; read if it is there, else written. With several processes the first one computes.
        asked: Returns the prompt that the teacher sees of an example; None: the example's own.

    Raises:
        NescioError: The cache is that of another loss, β or other answers, or a teacher with a prompt of its own gets
            none.
    """
    if asked is None and loss.is_prompted:
        raise NescioError(f"loss {loss.name}: its teacher has prompts of its own; give with_targets(asked=…)")
    examples = [example for unit in units for example in unit]
    prompts = [each.group.prompt if asked is None else asked(each) for each in examples]
    made_of = f"{loss.name}, beta {beta:g}, {fingerprint([prompts, *map(_key, examples)])}"
    with processes().main_process_first():
        if not cache.exists():
            each = zip(examples, prompts, strict=True)
            write_top_tokens(cache, [_taught(model, *one, loss, beta) for one in each], made_of)
    kept = iter(read_top_tokens(cache, made_of))
    return [[replace(example, targets=next(kept)) for example in unit] for unit in units]


def _taught(model: Any, example: Example, prompt: list[int], loss: PairLoss, beta: float) -> TopTokens:
    assert loss.teacher is not None  # whoever asks has looked
    (answer,) = example.group.continuations
    row = pack([Group(prompt, [answer])]).to(model.device)
    with adapter_off(model), torch.no_grad():
        return TopTokens.of(loss.teacher(logits(model, row).float(), row.targets, beta), _LIKELY)


@contextmanager
def adapter_off(model: Any) -> Iterator[None]:
    """Make a model what it was before training, inside the `with` block: without its adapter and without dropout."""
    inner = getattr(model, "module", model)  # DDP's wrapper, where several processes train
    off = inner.disable_adapter() if hasattr(inner, "disable_adapter") else nullcontext()
    was_training = model.training
    model.eval()
    try:
        with off:
            yield
    finally:
        model.train(was_training)


def _measure(model: Any, example: Example, row_tokens: int | None) -> tuple[float, ...]:
    with adapter_off(model), torch.no_grad():
        sums = likelihoods(model, lay_out([example], row_tokens).to(model.device)).sums()
    return tuple(sums.tolist())


def _key(example: Example) -> str:
    return fingerprint([example.group.prompt, [answer.ids for answer in example.group.continuations]])


def _read(cache: Path) -> list[tuple[str, tuple[float, ...]]]:
    return [(row["answers"], tuple(row["log_probs"])) for _, row in read_jsonl(cache)]
