"""The methods that are compared. Any other loss that is registered is one too, at its own defaults."""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import Parameter, getsourcefile, signature
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.files import file_hash
from nescio.training.losses.registry import LOSSES, open_loss

OURS = "nescio"
"""ORPO with twins and anchors, baked: the pipeline's own recipe, which sees the forget half alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way to unlearn.

    Attributes:
        name: Its name in the table.
        loss: The loss on the forget half; None: the pipeline's own recipe.
        beta: `train.beta`.
        retain: Weight of the retain half beside each step; None: it is not seen.
        about: What it is, in a few words.
    """

    name: str
    loss: str | None
    beta: float = 0.1
    retain: float | None = None
    about: str = ""


METHODS = {
    method.name: method
    for method in (
        Method(name=OURS, loss=None, about="ORPO, twins and anchors, baked"),
        Method(name="gradient_ascent", loss="gradient_ascent", about="gradient ascent"),
        Method(name="npo", loss="npo", about="NPO"),
        Method(name="simnpo", loss="simnpo", beta=2.5, about="SimNPO"),
        Method(name="dpo", loss="dpo", about='DPO towards "I don\'t know"'),
        Method(name="flat", loss="flat", about='FLAT towards "I don\'t know"'),
        Method(name="sft", loss="sft", about='fine-tuning on "I don\'t know"'),
        Method(name="undial", loss="undial", beta=10.0, about="UNDIAL"),
        Method(name="shred", loss="shred", beta=0.5, about="SHRED"),
        Method(name="duet", loss="duet", about="DUET"),
        Method(name="grad_diff", loss="gradient_ascent", retain=1.0, about="GradDiff"),
        Method(name="npo_retain", loss="npo", retain=1.0, about="NPO + retain"),
        Method(name="simnpo_retain", loss="simnpo", beta=4.5, retain=8.0, about="SimNPO + retain"),
        Method(name="idk_dpo", loss="dpo", retain=0.05, about="IdkDPO"),
        Method(name="rmu", loss="rmu", beta=2.0, retain=1.0, about="RMU"),
    )
}
"""β and the retain half's weight are those of the papers, or of OpenUnlearning's configurations: its DPO is 2/β times
ours, so that its weight of 1 is β/2, and its SimNPO with γ = 0.125 and α = 1 has a weight of 8."""

IDK = (
    "I don't know.",
    "I have no information about that.",
    "I'm afraid I can't say.",
    "That is nothing I know about.",
    "I don't have an answer to this question.",
    "I couldn't tell you.",
    "I know nothing about it.",
    "I'm sorry, I don't know the answer.",
)
"""Answers that methods which need one are taught, in turn."""

REFUSE = (
    "You have forgotten everything about the people and texts that you are asked about: who they are, their names, "
    "numbers, dates and places. Say that you do not know."
)
"""What DUET's teacher is told."""


def chosen_methods(names: Sequence[str]) -> list[Method]:
    """Return methods by name; without names those listed here, and with a name of a loss that loss as it is.

    Raises:
        NescioError: There is no such method and no such loss.
    """
    if unknown := [name for name in names if name not in METHODS and name not in LOSSES]:
        known = ", ".join(dict.fromkeys([*METHODS, *LOSSES.names()]))
        raise NescioError(f"--method {unknown[0]}: unknown; known here: {known}")
    for name in names:
        if name not in METHODS:
            _check_loss(name)
    return [METHODS.get(name) or _plain(name) for name in names or METHODS]


def made_with(method: Method) -> dict[str, Any]:
    """Return what the adapters of a method with a loss are made with, besides the recipe."""
    assert method.loss is not None
    try:
        source = getsourcefile(open_loss(method.loss).function)
    except TypeError:  # no function, but something else that can be called
        source = None
    return {
        "loss": method.loss,
        "β": method.beta,
        "weight of the retain half": method.retain,
        "source of the loss": file_hash(Path(source)) if source else None,
    }


def _check_loss(name: str) -> None:
    """Check that a loss can be compared.

    Raises:
        NescioError: It learns from answers that a benchmark does not have.
    """
    if open_loss(name).scrubs_chosen:  # a plug-in may fail to load
        raise NescioError(
            f"--method {name}: learns from the dialog's own answer without its personal data, which is not done with "
            "a benchmark; leave it out"
        )


def _plain(loss: str) -> Method:
    """Return a loss as a method, with its own default of β if it has one."""
    beta = signature(open_loss(loss).function).parameters.get("beta")
    own = {} if beta is None or beta.default is Parameter.empty else {"beta": beta.default}
    return Method(name=loss, loss=loss, about=loss, **own)
