"""The estimate of a run as tables for the terminal: time and memory here, and what fits which GPU."""

from rich.table import Table

from nescio.core.models import gib
from nescio.core.quantization import QUANTIZATIONS
from nescio.pipeline.estimate import Cost

_CARDS = (16, 24, 48)  # GiB of the GPUs that the estimate speaks of
_RESERVED = 1.0  # GiB that CUDA and its libraries take


def describe(costs: list[Cost]) -> Table:
    """Return the estimate as a table for the terminal."""
    table = Table("stage", "what", "tokens", "time", "memory", title="Estimate (within a factor of two)")
    for cost in costs:
        tokens = f"{cost.tokens:,.0f}" if cost.tokens else ""
        table.add_row(cost.stage, cost.items, tokens, duration(cost.seconds), _memory(cost.memory))
    seconds, memory = sum(cost.seconds for cost in costs), max(cost.memory for cost in costs)
    table.add_row("all", "", "", duration(seconds), _memory(memory))
    return table


def describe_fits(costs: list[Cost]) -> Table:
    """Return which stage fits which GPU, as a table for the terminal; a training also on a quantised base."""
    table = Table(
        "stage", "bf16", *QUANTIZATIONS, *(f"fits {card} GiB" for card in _CARDS),
        title="On a GPU (computed from the model's shapes and the longest dialogs; nothing was run)",
    )  # fmt: skip
    for cost in costs:
        if cost.on_gpu:
            needs = [_memory(cost.on_gpu.get(form, 0)) for form in ("bf16", *QUANTIZATIONS)]
            table.add_row(cost.stage, *needs, *(_forms_that_fit(cost, card) for card in _CARDS))
    return table


def _forms_that_fit(cost: Cost, card: int) -> str:
    fits = [form for form, need in cost.on_gpu.items() if need <= (card - _RESERVED) * 2**30]
    if len(fits) == len(cost.on_gpu):
        return "yes"
    return f"as {' or '.join(fits)}" if fits else "no"


def duration(seconds: float) -> str:
    """Return a time in words: `12 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _memory(size: float) -> str:
    return gib(size) if size else ""
