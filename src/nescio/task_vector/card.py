"""The model card of what `nescio subtract` writes."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path


def card(
    base: str, tuned: str, coefficient: float, relu: bool, include: Sequence[str], exclude: Sequence[str], form: str
) -> str:
    """The text of README.md.

    Args:
        base: As the user named it; of a folder only the last part is told.
        tuned: Likewise.
        coefficient: c.
        relu: Whether ReLU was applied to the delta.
        include: The patterns subtracted from.
        exclude: The patterns left alone.
        form: What the folder holds, in a sentence.
    """
    hub = [] if Path(base).exists() or base.count("/") != 1 else [f"base_model: {base}"]
    delta = "ReLU(tuned − base)" if relu else "(tuned − base)"
    limits = [
        f"- {word}: {', '.join(f'`{p}`' for p in patterns)}"
        for word, patterns in (("only the tensors that fit", include), ("without those that fit", exclude))
        if patterns
    ]
    lines = [
        "---", *hub, "tags: [task-arithmetic, unlearning]", "---", "", "# Subtracted model", "",
        f"base − {coefficient:g} · {delta}: forgetting via negation (Ilharco et al. 2023). {form}", "",
        f"- base: {_short_name(base)}", f"- tuned: {_short_name(tuned)}", *limits,
        f"- made by nescio {version('nescio')}", "",
        "The licence is the base model's.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _short_name(name: str) -> str:
    return Path(name).name if Path(name).exists() else name
