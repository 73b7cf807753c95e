"""Whether a text fits its own conversation: it is likelier after it than after another one."""

from collections.abc import Sequence
from dataclasses import dataclass

from nescio.core.callbacks import Progress
from nescio.core.prompts import Message
from nescio.engines.base import Engine, Scoring


@dataclass(frozen=True, slots=True)
class Weighed:
    """The log-probabilities of a text's tokens, after its own conversation and after another.

    Attributes:
        own: After its own.
        other: After the other.
    """

    own: list[float]
    other: list[float]

    @property
    def on_topic(self) -> bool:
        """Whether the text is likelier after its own conversation; an empty one is not."""
        return bool(self.own) and sum(self.own) > sum(self.other)

    @property
    def gain(self) -> float:
        """What its own conversation adds to its likelihood, in nats a token; the pointwise mutual information."""
        return (sum(self.own) - sum(self.other)) / max(len(self.own), 1)


def another(dialogs: Sequence[str], index: int) -> int:
    """Return the place of the next item that is of another dialog; the item's own where all are of one dialog.

    Args:
        dialogs: The dialog of each item.
        index: The item.
    """
    following = ((index + step) % len(dialogs) for step in range(1, len(dialogs)))
    return next((at for at in following if dialogs[at] != dialogs[index]), index)


def weigh(
    model: Engine, texts: Sequence[tuple[list[Message], list[Message], str]], progress: Progress | None = None
) -> list[Weighed]:
    """Weigh texts after their own and after other conversations.

    Args:
        model: Gives the likelihoods; the base model, as a rule.
        texts: `(own conversation, another one, text)`.
        progress: Called with (texts scored, texts in all), each text counted twice.
    """
    after_own = [Scoring(own, text) for own, _, text in texts]
    after_other = [Scoring(other, text) for _, other, text in texts]
    scores = model.score_batch([*after_own, *after_other], progress)
    return [Weighed(*both) for both in zip(scores[: len(texts)], scores[len(texts) :], strict=True)]
