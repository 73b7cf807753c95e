"""What each source gave and took: calls, tokens, what was kept, why the rest was not, and the price. Knows numbers."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Tally:
    """The account of one source.

    Attributes:
        source: Its name.
        model: Its model.
        price: Dollars for a million tokens of prompts and of answers; None where unknown, or nothing is paid.
        calls: Answers that came, now or in an earlier run.
        prompt_tokens: In all prompts.
        answer_tokens: In all answers.
        accepted: Answers kept.
        rejected: Answers not kept, by reason.
        failed: Samples and ways for which no answer could be had.
        unasked: Samples and ways that the budget did not reach.
    """

    source: str
    model: str
    price: tuple[float, float] | None = None
    calls: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    unasked: int = 0

    @property
    def dollars(self) -> float | None:
        """What the tokens cost by the given prices: an estimate, the bill is the provider's."""
        if self.price is None:
            return None
        return (self.prompt_tokens * self.price[0] + self.answer_tokens * self.price[1]) / 1e6

    @property
    def rate(self) -> float:
        """Share of the answers that were kept."""
        return self.accepted / self.calls if self.calls else 0.0

    def as_row(self) -> dict[str, Any]:
        """The account as it is written down."""
        return {
            "source": self.source, "model": self.model, "calls": self.calls, "prompt_tokens": self.prompt_tokens,
            "answer_tokens": self.answer_tokens, "accepted": self.accepted, "accept_rate": round(self.rate, 4),
            "rejected": dict(self.rejected.most_common()), "failed": self.failed, "unasked": self.unasked,
            "dollars": None if self.dollars is None else round(self.dollars, 6),
        }  # fmt: skip

    def line(self) -> str:
        """The account in a few words, for a progress bar."""
        paid = "" if self.dollars is None else f", ${self.dollars:.2f}"
        tokens = self.prompt_tokens + self.answer_tokens
        return f"{self.source}: {self.calls} calls, {self.rate:.0%} kept, {tokens:,} tokens{paid}"

    def report(self) -> str:
        """The account with all that was not kept, and why."""
        rejected = ", ".join(f"{count} {reason}" for reason, count in self.rejected.most_common())
        missing = {"without an answer (failed.jsonl)": self.failed, "beyond the budget": self.unasked}
        rest = [f"{count} {what}" for what, count in missing.items() if count]
        return "; ".join([self.line(), f"rejected: {rejected or 'none'}", *rest])
