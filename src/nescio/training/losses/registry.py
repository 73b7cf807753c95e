"""Losses by name, and what each needs of the pairs: the registry behind `train.method`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import Parameter, signature
from typing import Any, Literal

from torch import Tensor

from nescio.core.errors import NescioError
from nescio.core.registry import Registry
from nescio.core.shared_prefix import Group
from nescio.training.batch import Example, Likelihoods, Terms, Unit

_NUMBERS = {"chosen": 0, "rejected": 1}
_SETTINGS = ("beta", "nll_over")  # of `train`, for any loss

Teacher = Callable[[Tensor, Tensor, float], Tensor]
"""From logits `[n, vocab]`, the answer's tokens `[n]` and `train.beta` to values `[n, vocab]`; the largest are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLoss:
    """A loss on pairs.

    Attributes:
        function: Called with the likelihoods and with those settings of `train` that it names as parameters, `beta` or
            `nll_over`; returns `loss` and whatever else is logged, each `[examples]`.
        answers: The answers of a pair that it looks at.
        uses_twins: Whether the pair's CFG twin is taught too. Losses on one answer leave it out: the twin would teach
            or keep what the pair unlearns.
        needs_reference: Whether it compares with the model before training (`Likelihoods.reference`).
        scrubs_chosen: Whether the chosen answer is the dialog's own with the personal data masked.
        teacher: Makes what the answers' tokens are distilled from, out of what the model before training gives there.
        is_prompted: Whether the teacher is asked with a sentence that the student does not see.
        states_at: Depth of the layer whose hidden states it looks at, as a share of all layers. A half that is to be
            kept is then held to these states; else to its answers.
    """

    function: Callable[..., Terms]
    answers: tuple[Literal["chosen", "rejected"], ...] = ("chosen", "rejected")
    uses_twins: bool = True
    needs_reference: bool = False
    scrubs_chosen: bool = False
    teacher: Teacher | None = None
    is_prompted: bool = False
    states_at: float | None = None

    def __call__(self, of: Likelihoods, **settings: Any) -> Terms:
        """Return the loss of each example and its parts."""
        return self.function(of, **settings)

    @property
    def name(self) -> str:
        """The function's name."""
        bare: Any = self.function.func if isinstance(self.function, partial) else self.function
        return str(getattr(bare, "__name__", type(bare).__name__))

    def bind(self, **settings: Any) -> "PairLoss":
        """Return the loss with its settings fixed; the function gets those that it names.

        Raises:
            NescioError: It needs one that is not given.
        """
        _, *named = signature(self.function).parameters.values()
        if missing := [p.name for p in named if p.default is Parameter.empty and p.name not in settings]:
            if not settings or missing[0] in _SETTINGS:
                raise NescioError(f"loss {self.name}: {missing[0]} is not given; give it by bind({missing[0]}=…)")
            known = ", ".join(sorted(settings))
            raise NescioError(f"loss {self.name}: parameter {missing[0]} is not a setting; use {known}")
        fixed = {p.name: settings[p.name] for p in named if p.name in settings}
        return replace(self, function=partial(self.function, **fixed))

    def check(self, units: Sequence[Unit]) -> None:
        """Check that examples have what the loss looks at.

        Raises:
            NescioError: They have other answers, no reference, or no targets.
        """
        for example in (each for unit in units for each in unit):
            count = len(example.group.continuations)
            if count != len(self.answers):
                need = f"looks at {' and '.join(self.answers)} alone, and there are {count} answers"
                fix = "restrict(units, loss)"
            elif self.needs_reference and len(example.reference) != count:
                need, fix = (
                    "compares with the model before training",
                    "with_reference(model, units, row_tokens, cache)",
                )
            elif self.teacher and example.targets is None:
                need, fix = "learns from a teacher", "with_targets(model, units, loss, beta, cache)"
            else:
                continue
            raise NescioError(f"{example.name}: loss {self.name} {need}; train on {fix}")


LOSSES: Registry[PairLoss | Callable[..., Terms]] = Registry("nescio.losses", "loss", "nescio.training.losses")


def pair_loss(**needs: Any) -> Callable[[Callable[..., Terms]], PairLoss]:
    """Return a decorator that makes a function a `PairLoss` with these attributes."""
    return lambda function: PairLoss(function=function, **needs)


def preference_terms(loss: Tensor, nll: Tensor, chosen: Tensor, rejected: Tensor) -> Terms:
    """Return what a loss on preferences logs, each `[pairs]`; the report's figures have these names.

    Args:
        loss: The loss.
        nll: Negative log-likelihood of the chosen answers.
        chosen: Rewards of the chosen answers.
        rejected: Rewards of the rejected answers.
    """
    margin = chosen - rejected
    return {
        "loss": loss,
        "nll": nll,
        "chosen_reward": chosen,
        "rejected_reward": rejected,
        "margin": margin,
        "accuracy": (margin > 0).float(),
    }


def open_loss(name: str) -> PairLoss:
    """Return the loss of a name; a plain function is one that sees both answers and the twins.

    Raises:
        NescioError: There is none of that name.
    """
    found = LOSSES.get(name)
    return found if isinstance(found, PairLoss) else PairLoss(function=found)


def restrict(units: Sequence[Unit], loss: PairLoss) -> list[Unit]:
    """Return the units as a loss sees them: with the answers it looks at, without the twins it leaves out."""
    numbers = [_NUMBERS[answer] for answer in loss.answers]

    def seen(example: Example) -> Example:
        answers = [example.group.continuations[number] for number in numbers]
        return replace(example, group=Group(example.group.prompt, answers))

    kept = [[seen(each) for each in unit if loss.uses_twins or not each.twin] for unit in units]
    return [unit for unit in kept if unit]
