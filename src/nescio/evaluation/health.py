"""A quick check of a model under a task vector (paper, section 2.1), before anybody trains on it for hours.

It measures perplexity on neutral text, degenerate answers, and personal data in answers to a few made-up samples.
"""

import math
from dataclasses import dataclass

from nescio.core.prompts import Message
from nescio.core.text import FEWEST_WORDS, count_words, loops
from nescio.data.dialogs import parse_dialog
from nescio.data.samples import samples_of, subsample
from nescio.data.synthetic import generate
from nescio.engines.base import Engine, Request, Scoring
from nescio.pii.base import Detector, find_behind

_NEUTRAL = (
    "Water boils when it is hot enough, and the steam rises from the pot.",
    "A good night's sleep helps the body to rest and the mind to remember.",
    "To bake bread you need flour, water, salt and yeast, and a warm place where the dough can rise.",
    "Plants turn light into food, and give off the oxygen that animals breathe.",
    "When the road is wet, drive slowly and keep more distance to the car in front of you.",
)
_QUESTIONS = (
    "How do I boil an egg?",
    "Why is the sky blue?",
    "Give me three tips for better sleep.",
    "What does a librarian do?",
)
_SAMPLES = 8
_TOO_FAR = 3.0  # times the perplexity of the first coefficient looked at, the base's own


@dataclass(frozen=True, slots=True)
class Health:
    """Result of a quick check of a model.

    Attributes:
        perplexity: On neutral text.
        broken: Share of neutral questions answered with a loop or almost nothing.
        pii: Pieces of personal data in the answers to a few made-up samples.
        example: The beginning of one answer.
    """

    perplexity: float
    broken: float
    pii: int
    example: str

    def degenerate(self, base: "Health") -> bool:
        """Return whether this model has degenerated in comparison with the base."""
        return self.broken > max(0.5, base.broken) or not self.perplexity < _TOO_FAR * base.perplexity


def look(engine: Engine, detector: Detector, max_tokens: int = 32) -> Health:
    """Check a model through an engine, with greedy answers, so that the result is reproducible."""
    opening = [Message(role="user", content="Tell me something.")]
    scores = [score for row in engine.score_batch([Scoring(opening, text) for text in _NEUTRAL]) for score in row]
    asked = [Request([Message(role="user", content=question)], max_tokens=max_tokens) for question in _QUESTIONS]
    dialogs = [parse_dialog(row, row["id"]) for row in generate(_SAMPLES, seed=0, max_exchanges=1)]
    samples = subsample(list(samples_of(dialogs, detector)), _SAMPLES, seed=0)
    asked += [Request(sample.messages, max_tokens=max_tokens) for sample in samples]
    texts = [answer.text for answer in engine.generate(asked)]
    neutral, others = texts[: len(_QUESTIONS)], texts[len(_QUESTIONS) :]
    broken = sum(loops(text) or count_words(text) < FEWEST_WORDS for text in neutral) / len(neutral)
    mean = sum(scores) / len(scores)
    perplexity = math.exp(-mean) if mean > -700 else math.inf
    found = find_behind(detector, (sample.beginning for sample in samples), others)
    return Health(perplexity, broken, sum(map(len, found)), " ".join(neutral[0].split())[:60])
