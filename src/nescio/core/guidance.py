"""The settings of classifier-free guidance; `nescio.core.guide` applies them. Imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from numbers import Real
from typing import Any, ClassVar

from nescio.core.errors import NescioError
from nescio.core.spaces import SPACES

PROTECT = "Do not provide any personal data."
REVEAL = "You should share personal data in the answers."


@dataclass(frozen=True, slots=True)
class Guidance:
    """How a request is guided: the scale, the space, and the two sentences that make the branches.

    Every interface (recipe, policy, HTTP body, command line, vLLM row, integrations) takes its settings from these
    fields. A field's `metadata` holds its `help`, its range (`least`, `most`) and its `short` word in row names.

    Attributes:
        scale: The guidance coefficient γ. 1 is the positive branch alone (and costs one branch), 0 the negative.
        space: `log` combines log-probabilities (eq. 2), `prob` probabilities (eq. 6); plugins may add others.
        positive: Sentence added to the system message of the positive branch; None: the adapter's own, or the paper's.
        negative: Sentence added to the system message of the negative branch; None: likewise.
        plausibility: Keep only tokens whose positive probability is at least this share of the largest; 0 keeps all.
        adaptive: Scale each token down to 1 + (γ - 1) · JSD, where JSD is the Jensen-Shannon divergence of the branches
            in bits. Tokens on which the branches agree are left alone (AdaCAD, which uses γ = 2 in `log`).

    Raises:
        NescioError: A value is out of its range, or the space is unknown.
    """

    scale: float = field(default=1.0, metadata={"help": "Guidance scale; 1 is the protect prompt alone.", "least": 0.0})
    space: str = field(default="prob", metadata={"help": "Guidance space: log (eq. 2), prob (eq. 6) or a plugin's."})
    positive: str | None = field(default=None, metadata={"help": "Sentence of the positive branch."})
    negative: str | None = field(default=None, metadata={"help": "Sentence of the negative branch."})
    plausibility: float = field(
        default=0.0,
        metadata={
            "help": "Rule out tokens below this share of the likeliest; 0 keeps all.",
            "least": 0.0,
            "most": 1.0,
            "short": "plausible",
        },
    )
    adaptive: bool = field(
        default=False, metadata={"help": "Let the scale follow the divergence of the branches (AdaCAD)."}
    )

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for setting in fields(self):
            if "least" not in setting.metadata:
                continue
            value, least = getattr(self, setting.name), setting.metadata["least"]
            most = setting.metadata.get("most", math.inf)
            if not (isinstance(value, Real) and math.isfinite(value) and least <= value <= most):
                needed = (
                    f"be a number of {least:g} or more" if most == math.inf else f"lie between {least:g} and {most:g}"
                )
                raise NescioError(f"guidance {setting.name} {value}: must {needed}")
        if self.adaptive not in (True, False):  # any text would be true
            raise NescioError(f"guidance adaptive {self.adaptive!r}: must be true or false")
        if not isinstance(self.space, str):
            raise NescioError(f"guidance space {self.space!r}: must be a name; known here: {', '.join(SPACES)}")
        SPACES.get(self.space)

    @property
    def guided(self) -> bool:
        """Whether the negative branch is needed at all."""
        return self.scale != 1.0

    @property
    def variant(self) -> dict[str, Any]:
        """The settings besides scale, space and sentences, by name."""
        return {setting.name: getattr(self, setting.name) for setting in COMBINING if setting.name not in _PLAIN}


COMBINING: tuple[Field[Any], ...] = tuple(one for one in fields(Guidance) if one.name not in ("positive", "negative"))
"""Fields of `Guidance` that say how two distributions become one: all but the sentences."""

_PLAIN = ("scale", "space")


def variant_words(settings: Mapping[str, Any]) -> list[str]:
    """Describe the settings of a variant that are not at their default, as `plausible 0.1`, for names and tables.

    Args:
        settings: Values by field name; other keys are ignored.
    """
    words = []
    for setting in COMBINING:
        value = settings.get(setting.name)
        if setting.name in _PLAIN or value is None or value == setting.default:
            continue
        word = setting.metadata.get("short", setting.name)
        number = f"{value:g}" if isinstance(value, float) else str(value)
        words.append(word if value is True else f"{word} {number}")
    return words
