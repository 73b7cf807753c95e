"""What is kept of the answers that came: clean ones that are answers (paper, 2.2). Knows texts and detectors."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nescio.core.text import FEWEST_WORDS, loops, whole_sentences
from nescio.data.samples import Sample
from nescio.data.strategies import AVOID, NUDGE, START, Strategy, continuation, target
from nescio.pii.base import Detector

_INSTRUCTIONS = (AVOID.rstrip("!"), NUDGE[1:].split(",")[0], START.split(",")[0])


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that came: to which sample, in which way, its text and why it ended (`stop` or `length`)."""

    sample: Sample
    strategy: Strategy
    text: str
    finish: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a reply.

    Attributes:
        text: What it adds to the prompt; ends at a sentence where it ran into the token limit.
        reason: Why it is no chosen answer; None where it is one.
        pii: The personal data found in it.
    """

    text: str
    reason: str | None
    pii: list[str]


def judge(replies: Sequence[Reply], detector: Detector) -> list[Verdict]:
    """Judge replies: the detector first, then the form.

    Reasons: `pii`; `start` (did not start with the words it was told); `empty`; `cut` (ran into the token limit before
    its first sentence ended); `copy` (of the rejected answer); `repeat` (starts with the beginning that stands in the
    prompt already); `instruction` (repeats what it was told); `short` (under five words, or under half of what the
    rejected answer has: where chosen answers are the shorter ones, guidance learns to be brief); `loop`.
    """
    added = [continuation(reply.sample, reply.strategy, reply.text) for reply in replies]
    texts = [_ended(text or "", reply.finish) for text, reply in zip(added, replies, strict=True)]
    return [
        Verdict(text, "pii" if spans else "start" if given is None else _fault(text, reply), [s.text for s in spans])
        for reply, given, text, spans in zip(replies, added, texts, detector.find(texts), strict=True)
    ]


def _ended(text: str, finish: str) -> str:
    """A text without white space at its end; one that ran into the token limit up to its last whole sentence."""
    return whole_sentences(text) if finish == "length" else text.rstrip()


def _fault(text: str, reply: Reply) -> str | None:
    sample = target(reply.sample, reply.strategy)
    if not text.strip():
        return "cut" if reply.finish == "length" else "empty"
    if _plain(text) == _plain(sample.rejected):
        return "copy"
    if sample.beginning and re.match(re.escape(_plain(sample.beginning)) + r"(?!\w)", _plain(text)):
        return "repeat"
    if any(words in text for words in _INSTRUCTIONS):
        return "instruction"
    if len(text.split()) < max(FEWEST_WORDS, len(sample.rejected.split()) / 2):
        return "short"
    return "loop" if loops(text) else None


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
