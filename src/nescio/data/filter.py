"""The filter of replacement answers: clean ones that are answers are accepted (paper, section 2.2)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nescio.core.text import FEWEST_WORDS, count_words, folded, loops, occurrences, whole_sentences
from nescio.data.samples import Sample
from nescio.data.strategies import (
    AVOID,
    NUDGE,
    PARAPHRASE,
    REWRITE,
    START,
    STRATEGIES,
    StrategyName,
    last_question,
)
from nescio.pii.base import Detector, Span, find_behind

# Reasoning models write a thought before the answer; a template that opens it leaves only the end to the model.
_TAG = r"(?:think|thinking|thought|thoughts|reasoning|reflection)"
_THOUGHT = re.compile(
    rf"\A\s*(?:<{_TAG}>.*?(?:</{_TAG}>|\Z)|\[THINK\].*?(?:\[/THINK\]|\Z)|◁think▷.*?(?:◁/think▷|\Z))", re.S | re.I
)
_THOUGHT_END = re.compile(rf"\A.*(?:</{_TAG}>|\[/THINK\]|◁/think▷)", re.S | re.I)
_INSTRUCTIONS = (
    AVOID.rstrip("!"), NUDGE[1:].split(",")[0], START.split(",")[0], REWRITE.split(".")[0], PARAPHRASE.split(".")[0]
)  # fmt: skip
_ANOTHER = "take other strategies, or another source"
REMEDIES = {
    "pii": "raise generate.tries, or add a source",
    "cut": "raise generate.max_tokens",
    "short": "take another strategy or source, which answers at length",
    "lost": "raise generate.tries",
} | dict.fromkeys(("start", "empty", "copy", "repeat", "instruction", "loop"), _ANOTHER)
"""What to change where most replies are rejected for a reason of `filter_replies`."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A source's answer: the sample and strategy it belongs to, its text, and why it ended (`stop` or `length`)."""

    sample: Sample
    strategy: StrategyName
    text: str
    finish: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The filter's decision on a reply.

    Attributes:
        text: What it adds to the prompt, without a thought; ends at a sentence where it reached the token limit.
        reason: Why it is rejected; None where it is accepted.
        pii: The personal data found in it.
        had_thought: Whether a thought (`<think>…</think>`) was removed from it.
    """

    text: str
    reason: str | None
    pii: list[str]
    had_thought: bool = False


def filter_replies(replies: Sequence[Reply], detector: Detector) -> list[Verdict]:
    """Filter replies: remove thoughts, then ask the detector, then look at the form.

    Reasons: `pii`; `start` (did not start with the words it was told); `empty`; `cut` (was cut off, as at the token
    limit, before its first sentence, or its thought, ended); `copy` (of the rejected answer); `repeat` (starts with the
    beginning that the prompt ends with); `instruction` (repeats what it was told); `short` (under five words, or under
    half of what the rejected answer has: where chosen answers are the shorter ones, guidance learns to be brief);
    `loop`; `lost` (a question in other words without the personal data of the question, which it has to keep).
    """
    targets = [STRATEGIES[reply.strategy].target(reply.sample) for reply in replies]
    spoken = [
        without_thought(reply.text, bool(target.beginning)) for reply, target in zip(replies, targets, strict=True)
    ]
    added = [
        STRATEGIES[reply.strategy].continuation(reply.sample, text) for reply, text in zip(replies, spoken, strict=True)
    ]
    texts = [_ended(text or "", reply.finish) for text, reply in zip(added, replies, strict=True)]
    found = find_behind(detector, (target.beginning for target in targets), texts)
    return [
        Verdict(text, reason, [span.text for span in spans] if reason == "pii" else [], answer != reply.text)
        for reply, answer, text, spans, reason in zip(
            replies, spoken, texts, found, _reasons(replies, added, texts, found, detector), strict=True
        )
    ]


def _reasons(
    replies: Sequence[Reply],
    added: Sequence[str | None],
    texts: Sequence[str],
    found: Sequence[Sequence[Span]],
    detector: Detector,
) -> Iterator[str | None]:
    """Yield why each reply is rejected. A question in other words may be personal, as the question is."""
    asked = [_question(reply) for reply in replies]
    named = iter(detector.find([question for question in asked if question is not None]))
    for reply, given, text, spans, question in zip(replies, added, texts, found, asked, strict=True):
        if question is not None:
            lost = any(not occurrences(text, span.text) for span in next(named))
            yield _fault(text, reply, question) or ("lost" if lost else None)
        else:
            yield "pii" if spans else "start" if given is None else _fault(text, reply, question)


def _question(reply: Reply) -> str | None:
    """Return the question that a reply says in other words; None where it is an answer."""
    again = STRATEGIES[reply.strategy].again == "question"
    return last_question(reply.sample.messages) if again else None


def without_thought(text: str, inside: bool = False) -> str:
    """Remove the thought that a reasoning model writes before its answer, also one that was cut off.

    Args:
        text: What the model wrote.
        inside: Whether it goes on inside an answer, so that a space before the first word belongs to it.
    """
    start = _THOUGHT.match(text) or _THOUGHT_END.match(text)
    if start is None:
        return text
    rest = text[start.end() :]
    return (" " if inside and rest[:1].isspace() else "") + rest.lstrip()


def _ended(text: str, finish: str) -> str:
    """Strip the end of a text; of one that was cut off, keep the whole sentences."""
    return text.rstrip() if finish == "stop" else whole_sentences(text)


def _fault(text: str, reply: Reply, question: str | None) -> str | None:
    sample = STRATEGIES[reply.strategy].target(reply.sample)
    if not text.strip():
        return "empty" if reply.finish == "stop" else "cut"
    if folded(text) == folded(question or sample.rejected):
        return "copy"
    if sample.beginning and re.match(re.escape(folded(sample.beginning)) + r"(?!\w)", folded(text)):
        return "repeat"
    if any(words in text for words in _INSTRUCTIONS):
        return "instruction"
    if question is None and count_words(text) < max(FEWEST_WORDS, count_words(sample.rejected) / 2):
        return "short"
    return "loop" if loops(text) else None
