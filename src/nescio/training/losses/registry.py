"""What `train.method` chooses from: a loss, and what of the pairs it is given. Knows pairs by name only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nescio.core.shared_prefix import Group
from nescio.training.batch import Example, Loss, Unit
from nescio.training.losses.dpo import dpo
from nescio.training.losses.flat import flat
from nescio.training.losses.gradient_ascent import gradient_ascent
from nescio.training.losses.likelihood import likelihood
from nescio.training.losses.npo import npo
from nescio.training.losses.orpo import orpo
from nescio.training.losses.simnpo import simnpo
from nescio.training.settings import MethodName, NllOver

_CHOSEN, _REJECTED = 0, 1


@dataclass(frozen=True, slots=True)
class Method:
    """How pairs are learned from.

    Attributes:
        loss: What is minimised.
        answers: Which answers of a pair it looks at, by number.
        twins: Whether a pair's CFG twin is taught too. Losses of one answer leave it out: it would teach, or keep, what
            the pair unlearns.
        reference: Whether it compares with the model before training.
        scrubbed: Whether the chosen answer is the dialog's own with the personal data masked.
        prompt_wanted: Whether it looks at the prompts' likelihood too.
    """

    loss: Loss
    answers: tuple[int, ...] = (_CHOSEN, _REJECTED)
    twins: bool = True
    reference: bool = False
    scrubbed: bool = False
    prompt_wanted: bool = False


def method(name: MethodName, beta: float, nll_over: NllOver = "answer") -> Method:
    """The method of a name.

    Args:
        name: As in `train.method`.
        beta: Of the losses that have one: ORPO, DPO, NPO, SimNPO.
        nll_over: What ORPO's NLL runs over.
    """
    over_prompt = nll_over == "prompt_and_answer"
    chosen, rejected = (_CHOSEN,), (_REJECTED,)
    methods = {
        "orpo": lambda: Method(orpo(beta, over_prompt), prompt_wanted=over_prompt),
        "dpo": lambda: Method(dpo(beta), reference=True),
        "flat": lambda: Method(flat),
        "sft": lambda: Method(likelihood, chosen, twins=False),
        "sft_scrubbed": lambda: Method(likelihood, chosen, twins=False, scrubbed=True),
        "npo": lambda: Method(npo(beta), rejected, twins=False, reference=True),
        "simnpo": lambda: Method(simnpo(beta), rejected, twins=False),
        "gradient_ascent": lambda: Method(gradient_ascent, rejected, twins=False),
    }
    return methods[name]()


def restrict(units: Sequence[Unit], how: Method) -> list[Unit]:
    """The units as a method sees them: with the answers it looks at, without the twins it leaves out."""
    seen = [[_restricted(each, how.answers) for each in unit if how.twins or not each.twin] for unit in units]
    return [unit for unit in seen if unit]


def _restricted(example: Example, answers: tuple[int, ...]) -> Example:
    group = Group(example.group.prompt, [example.group.continuations[number] for number in answers])
    return replace(example, group=group)
