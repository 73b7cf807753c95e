"""Set-ups, which the rows of a table compare: a model, an adapter, a system prompt, guidance and an output filter."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

from nescio.core.files import fingerprint
from nescio.core.guidance import Guidance, variant_words
from nescio.core.prompts import Message, with_sentence
from nescio.data.strategies import nudged

REVERSE_SCALE = 2.0
"""ROSE (Zhong et al. 2024) decodes from z⁺ - α z⁻ with α = 0.5; eq. 2 at γ = 1 / (1 - α) has the same greedy tokens."""


@dataclass(frozen=True, slots=True)
class Setup:
    """A model, with or without an adapter, and how it is asked.

    Attributes:
        name: Name of the row's answers file; unique in a table.
        label: What the table calls the model.
        model: The model: a folder, a hub id, or another name that `nescio.load` takes.
        adapter: Folder of the adapter to attach; None attaches none.
        guidance: Guidance of every request; None asks the conversation as it is.
        system: Sentence added to the system message, in addition to that of the guidance.
        nudge: Whether the paper's nudge is put before the last user message (section 2.2).
        masks: Whether an output filter masks the personal data that the detector finds in an answer.
        reference: Whether the row is there to compare with and is never best, as the model before it was tuned.
        epoch: Epoch of the training, where a table compares several.
        engine: Engine that answers for this row; None: the table's.
        options: Options of that engine.
    """

    name: str
    label: str
    model: str
    _: KW_ONLY
    adapter: str | None = None
    guidance: Guidance | None = None
    system: str | None = None
    nudge: bool = False
    masks: bool = False
    reference: bool = False
    epoch: int | None = None
    engine: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def attached(self) -> str | None:
        """Name of the adapter in the engine; None where there is none."""
        return None if self.adapter is None else f"adapter-{fingerprint(self.adapter)}"

    def asked(self, messages: Sequence[Message]) -> list[Message]:
        """Return a conversation as this set-up asks it."""
        own = nudged(messages) if self.nudge else list(messages)
        return with_sentence(own, self.system)


def guided_setups(
    trained: Setup, scales: Sequence[float], spaces: Sequence[str], variants: Sequence[Guidance]
) -> Iterator[Setup]:
    """Yield the guided rows of a trained model: for each variant of the guidance, each space at each scale.

    Args:
        trained: The row at scale 1.
        scales: Scales; 1 is left out, because it is the trained row itself.
        spaces: Guidance spaces.
        variants: Guidances whose sentences, plausibility and adaptivity are taken; the first is the plain one.
    """
    for variant in variants:
        for space in spaces:
            for scale in scales:
                if scale != 1:
                    guidance = replace(variant, scale=scale, space=space)
                    yield replace(trained, name=f"{trained.name}-{_named(guidance)}", guidance=guidance)


def _named(guidance: Guidance) -> str:
    words = [word.replace(" ", "-") for word in variant_words(guidance.variant)]
    return "-".join([guidance.space, f"{guidance.scale:g}", *words])


def baselines(tuned: Setup, positive: str, negative: str) -> list[Setup]:
    """Return the baselines that need no training: the nudge, ROSE-style reverse prompting, and output masking."""
    reverse = Guidance(REVERSE_SCALE, "log", positive, negative)
    return [
        replace(tuned, name="tuned-nudge", label="tuned + nudge", nudge=True),
        replace(tuned, name="tuned-reverse", label="tuned + reverse prompt", guidance=reverse),
        replace(tuned, name="tuned-masked", label="tuned + output masking", masks=True),
    ]
