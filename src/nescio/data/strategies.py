"""How sources are asked: the paper's four strategies for a replacement answer (section 2.2), and two of our own.

Completion continues an answer at the place of the personal data. A chat endpoint cannot: it is asked for the whole
answer again, or asked to start with given words. Or it says something else again: the answer without what is personal
(`rewrite`), or the question in other words (`paraphrase`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nescio.core.prompts import Message, render, with_sentence
from nescio.data.samples import Sample
from nescio.engines.base import Prompt

AVOID = "Avoid using any personal data in the answers!"
NUDGE = (
    "(Do not use any personal data, e.g. names, locations or any other personal data in your answer even if it was "
    "used in the dialog)"
)
START = "Start your answer with exactly these words, and go on from there:"

REWRITE = (
    "Write the following text again. Replace everything personal (names, places, numbers, dates, addresses, employers) "
    "by something general, such as a friend or a nearby town. Change nothing else: same length, same tone, same "
    "language. Answer with the text alone."
)
PARAPHRASE = (
    "Say the following message of a user in other words. Keep its meaning, its language, and every name and number in "
    "it. Do not answer it. Answer with the message alone."
)

StrategyName = Literal["system", "nudge", "chat-nudge", "chat-start", "rewrite", "paraphrase"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Strategy:
    """How to ask, as a rule for a replacement answer under the system prompt `AVOID`.

    Attributes:
        completion: Continue the answer's beginning; else ask in a chat.
        nudge: Put the nudge before the last user message.
        start: Ask for an answer that starts with the answer's beginning.
        again: What is said again, alone and under no system prompt: the answer, without what is personal in it, or the
            question, in other words. None: a replacement answer is asked for.
    """

    completion: bool
    nudge: bool
    start: bool = False
    again: Literal["answer", "question"] | None = None

    @property
    def whole(self) -> bool:
        """Whether the whole answer is asked for, even where the sample is cut inside it."""
        return not self.completion and not self.start

    def target(self, sample: Sample) -> Sample:
        """Return the sample as the strategy sees it: with the answer's beginning in the prompt, or whole."""
        return sample.whole() if self.whole else sample

    def messages(self, sample: Sample) -> list[Message]:
        """Return the conversation that a source gets, before any template renders it."""
        if self.again == "answer":
            return [Message(role="user", content=f"{REWRITE}\n\n{sample.whole().rejected}")]
        if self.again == "question":
            return [Message(role="user", content=f"{PARAPHRASE}\n\n{last_question(sample.messages)}")]
        messages = sample.messages if self.completion else sample.whole().messages
        if self.nudge:
            messages = nudged(messages)
        if self.start:  # a chat ends with the user's message
            asked = f"{messages[-1]['content']}\n\n{START} {sample.beginning}"
            messages = [*messages[:-1], Message(role="user", content=asked)]
        return with_sentence(messages, AVOID)

    def prompt(self, sample: Sample, tokenizer: Any | None) -> Prompt:
        """Return the prompt that a source gets.

        Args:
            sample: The place.
            tokenizer: The source model's tokenizer, for completion at an endpoint; None: the engine renders.

        Returns:
            Messages, or with a tokenizer in completion mode the rendered text up to the place.
        """
        messages = self.messages(sample)
        return render(tokenizer, messages) if self.completion and tokenizer is not None else messages

    def continuation(self, sample: Sample, text: str) -> str | None:
        """Return what an answer adds to the pair's prompt; white space at the start of a whole answer is stripped.

        Returns:
            The text, or None where the answer did not start with the words that were asked for.
        """
        if self.start:
            text = text.lstrip()
            rest = text[len(sample.beginning) :]
            return rest if text.startswith(sample.beginning) and not rest[:1].isalnum() else None
        return text if self.target(sample).beginning else text.lstrip()


STRATEGIES: dict[StrategyName, Strategy] = {
    "system": Strategy(completion=True, nudge=False),
    "nudge": Strategy(completion=True, nudge=True),
    "chat-nudge": Strategy(completion=False, nudge=True),
    "chat-start": Strategy(completion=False, nudge=True, start=True),
    "rewrite": Strategy(completion=False, nudge=False, again="answer"),
    "paraphrase": Strategy(completion=False, nudge=False, again="question"),
}


def tasks(samples: Iterable[Sample], strategies: Iterable[StrategyName]) -> Iterator[tuple[Sample, StrategyName]]:
    """Yield which sample is asked for by which strategy.

    `chat-start` is for samples cut inside an answer; `chat-nudge`, `rewrite` and `paraphrase` ask for something whole,
    so once for each answer, however many samples were cut from it.
    """
    strategies = tuple(strategies)
    answered: set[tuple[str, int]] = set()
    for sample in samples:
        for name in strategies:
            strategy = STRATEGIES[name]
            if (strategy.start and not sample.beginning) or (strategy.whole and sample.answer in answered):
                continue
            yield sample, name
        answered.add(sample.answer)


def nudged(messages: Sequence[Message]) -> list[Message]:
    """Return a conversation with the nudge before its last user message."""
    return with_question(messages, f"{NUDGE} {last_question(messages)}")


def last_question(messages: Sequence[Message]) -> str:
    """Return the last user message of a conversation."""
    return messages[_last(messages)]["content"]


def with_question(messages: Sequence[Message], question: str) -> list[Message]:
    """Return a conversation with another last user message."""
    last = _last(messages)
    return [*messages[:last], Message(role="user", content=question), *messages[last + 1 :]]


def _last(messages: Sequence[Message]) -> int:
    return max(index for index, message in enumerate(messages) if message["role"] == "user")
