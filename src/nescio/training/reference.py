"""Log-probability of each answer before training, for losses such as DPO and NPO; computed once and cached on disk.

The reference is the model with its adapter off, so that no second copy of it is in memory.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nescio.core.files import fingerprint, read_jsonl, write_jsonl
from nescio.training.batch import Example, Unit, lay_out, likelihoods
from nescio.training.processes import processes


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


def _measure(model: Any, example: Example, row_tokens: int | None) -> tuple[float, ...]:
    off = model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext()
    was_training = model.training
    model.eval()
    with off, torch.no_grad():
        sums = likelihoods(model, lay_out([example], row_tokens).to(model.device)).sums()
    model.train(was_training)
    return tuple(sums.tolist())


def _key(example: Example) -> str:
    return fingerprint([example.group.prompt, [answer.ids for answer in example.group.continuations]])


def _read(cache: Path) -> list[tuple[str, tuple[float, ...]]]:
    return [(row["answers"], tuple(row["log_probs"])) for _, row in read_jsonl(cache)]
