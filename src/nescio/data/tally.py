"""The account of each source: calls, tokens, accepted answers, reasons for the rest, and the price."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Tally:
    """The account of one source.

    Attributes:
        source: Its name.
        model: Its model.
        price: Dollars for a million tokens of prompts and of answers; None where unknown or free.
        calls: Answers, of this run or an earlier one.
        prompt_tokens: Tokens of all prompts.
        answer_tokens: Tokens of all answers.
        accepted: Accepted answers.
        rejected: Rejected answers, by reason.
        thoughts: Answers from which a thought (`<think>…</think>`) was removed.
        failed: Samples and strategies without an answer.
        unasked: Samples and strategies that the budget did not reach.
    """

    source: str
    model: str
    price: tuple[float, float] | None = None
    calls: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    thoughts: int = 0
    failed: int = 0
    unasked: int = 0

    @property
    def dollars(self) -> float | None:
        """Cost of the tokens by the given prices: an estimate, since the bill is the provider's."""
        if self.price is None:
            return None
        return (self.prompt_tokens * self.price[0] + self.answer_tokens * self.price[1]) / 1e6

    @property
    def rate(self) -> float:
        """Share of accepted answers."""
        return self.accepted / self.calls if self.calls else 0.0

    def as_row(self) -> dict[str, Any]:
        """Return the row of `sources.json`."""
        return {
            "source": self.source, "model": self.model, "calls": self.calls, "prompt_tokens": self.prompt_tokens,
            "answer_tokens": self.answer_tokens, "accepted": self.accepted, "accept_rate": round(self.rate, 4),
            "rejected": dict(self.rejected.most_common()), "thoughts": self.thoughts, "failed": self.failed,
            "unasked": self.unasked, "dollars": None if self.dollars is None else round(self.dollars, 6),
        }  # fmt: skip

    def line(self) -> str:
        """Return the account in a few words, for a progress bar."""
        paid = "" if self.dollars is None else f", ${self.dollars:.2f}"
        tokens = self.prompt_tokens + self.answer_tokens
        return f"{self.source}: {self.calls} calls, {self.rate:.0%} kept, {tokens:,} tokens{paid}"

    def report(self) -> str:
        """Return the account with rejections and failures."""
        rejected = ", ".join(f"{count} {reason}" for reason, count in self.rejected.most_common())
        counts = {
            "without an answer (failed.jsonl)": self.failed,
            "beyond the budget": self.unasked,
            "with a thought, which was removed": self.thoughts,
        }
        rest = [f"{count} {what}" for what, count in counts.items() if count]
        return "; ".join([self.line(), f"rejected: {rejected or 'none'}", *rest])
