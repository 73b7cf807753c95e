"""What a row of the table compares: (model, adapter, system prompt, guidance, output filter).

Anything can be compared with anything; the built-in set-ups are a run's own and the baselines that need no training.
Knows conversations and guidance; nothing of engines or answers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nescio.core.files import fingerprint
from nescio.core.guidance import Guidance, Space
from nescio.core.prompts import Message, with_sentence
from nescio.data.strategies import nudged

REVERSE_SCALE = 2.0
"""ROSE (Zhong et al. 2024) decodes from z⁺ - α z⁻ with α = 0.5; eq. 2 at γ = 1 / (1 - α) has the same greedy tokens."""


@dataclass(frozen=True, slots=True)
class Setup:
    """A model, with or without an adapter, asked in a certain way.

    Attributes:
        name: Of the row's answers file.
        model: What the table calls it.
        source: The model asked: folder, hub id, or another name that `nescio.load` takes.
        adapter: Folder of the adapter to attach; None: none.
        guidance: None: the conversation as it is.
        system: Sentence added to the system message, beside the guidance's own.
        nudge: Whether the paper's nudge is put before the last user message (section 2.2).
        masks: Whether personal data that the detector finds in an answer is masked before anyone sees it.
        epoch: Of the training, where several are compared.
    """

    name: str
    model: str
    source: str
    adapter: str | None = None
    guidance: Guidance | None = None
    system: str | None = None
    nudge: bool = False
    masks: bool = False
    epoch: int | None = None

    @property
    def attached(self) -> str | None:
        """What the engine calls the adapter."""
        return None if self.adapter is None else f"adapter-{fingerprint(self.adapter)}"

    def asked(self, messages: Sequence[Message]) -> list[Message]:
        """A conversation as this set-up asks it."""
        own = nudged(messages) if self.nudge else list(messages)
        return with_sentence(own, self.system)


def guided_setups(
    trained: Setup, scales: Sequence[float], spaces: Sequence[Space], variants: Sequence[Guidance]
) -> Iterator[Setup]:
    """A trained model's rows: each space at each scale, plainly and in each variant.

    Args:
        trained: The row at scale 1.
        scales: 1 is passed over: it is the trained row itself.
        spaces: `log`, `prob`.
        variants: Guidances whose sentences, plausibility and adaptivity are taken; the first is the plain one.
    """
    for variant in variants:
        for space in spaces:
            for scale in scales:
                if scale != 1:
                    guidance = replace(variant, scale=scale, space=space)
                    yield replace(trained, name=f"{trained.name}-{_named(guidance)}", guidance=guidance)


def _named(guidance: Guidance) -> str:
    floor = f"-plausible-{guidance.plausibility:g}" if guidance.plausibility else ""
    adaptive = "-adaptive" if guidance.adaptive else ""
    return f"{guidance.space}-{guidance.scale:g}{floor}{adaptive}"


def baselines(tuned: Setup, positive: str, negative: str) -> list[Setup]:
    """What can be had without training: the nudge, ROSE-style reverse prompting, and masking the output."""
    reverse = Guidance(REVERSE_SCALE, "log", positive, negative)
    return [
        replace(tuned, name="tuned-nudge", model="tuned + nudge", nudge=True),
        replace(tuned, name="tuned-reverse", model="tuned + reverse prompt", guidance=reverse),
        replace(tuned, name="tuned-masked", model="tuned + output masking", masks=True),
    ]
