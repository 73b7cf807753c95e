"""The paper's four strategies to ask for a replacement answer (section 2.2).

Completion continues an answer at the place of the personal data. A chat endpoint cannot: it is asked for the whole
answer again, or asked to start with given words.
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

StrategyName = Literal["system", "nudge", "chat-nudge", "chat-start"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Strategy:
    """How to ask for a replacement answer, under the system prompt `AVOID`.

    Attributes:
        completion: Continue the answer's beginning; else ask in a chat.
        nudge: Put the nudge before the last user message.
        start: Ask for an answer that starts with the answer's beginning.
    """

    completion: bool
    nudge: bool
    start: bool = False

    @property
    def whole(self) -> bool:
        """Whether the whole answer is asked for, even where the sample is cut inside it."""
        return not self.completion and not self.start

    def target(self, sample: Sample) -> Sample:
        """Return the sample as the strategy sees it: with the answer's beginning in the prompt, or whole."""
        return sample.whole() if self.whole else sample

    def messages(self, sample: Sample) -> list[Message]:
        """Return the conversation that a source gets, before any template renders it."""
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
            tokenizer: Of the source's model, for completion at an endpoint; None leaves the rendering to the engine.

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
}


def tasks(samples: Iterable[Sample], strategies: Iterable[StrategyName]) -> Iterator[tuple[Sample, StrategyName]]:
    """Yield which sample is asked for by which strategy.

    `chat-start` is for samples cut inside an answer; `chat-nudge` asks for a whole answer, so once for each answer,
    however many samples were cut from it.
    """
    strategies = tuple(strategies)
    answered: set[tuple[str, int]] = set()
    for sample in samples:
        answer = (sample.dialog_id, len(sample.whole().messages))
        for name in strategies:
            strategy = STRATEGIES[name]
            if (strategy.start and not sample.beginning) or (strategy.whole and answer in answered):
                continue
            yield sample, name
        answered.add(answer)


def nudged(messages: Sequence[Message]) -> list[Message]:
    """Return a conversation with the nudge before its last user message."""
    last = max(index for index, message in enumerate(messages) if message["role"] == "user")
    asked = Message(role="user", content=f"{NUDGE} {messages[last]['content']}")
    return [*messages[:last], asked, *messages[last + 1 :]]
