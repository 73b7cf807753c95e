"""Anchors: prompts that the base model makes up itself, with the tuned model's answers, free of personal data."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from nescio.core.answer_cache import AnswerCache
from nescio.core.end_tokens import turn_end
from nescio.core.errors import NescioError
from nescio.core.prompts import Message, answer_space, render, split_ids
from nescio.core.text import count_words, fold, folded, occurrences, said_places, whole_sentences
from nescio.data.answered import Answered
from nescio.engines.base import Engine, Request
from nescio.pii.base import Detector, find_behind

_LEAST_WORDS = 3
_TOGETHER = 256  # requests whose answers are on disk before the next are asked; more than an engine has rows
_ROUNDS = 4  # times the wanted number of prompts that are tried at most
_SHORT = 16  # tokens of a request that begins with a common word
_MARK = "\u2042mark\u2042"
_OPENERS = (
    "Name", "What", "Write", "List", "How", "Explain", "Why", "Give me", "Suggest", "Describe", "Which", "Tell me",
    "Is", "Compare", "Recommend", "Plan", "Translate", "Complete",
)  # fmt: skip
"""How requests begin. A small model left alone begins two of three with "Can you" or "I'm", and users do not."""


class PersonalStarts(Protocol):
    """Finds where personal data starts in texts."""

    def __call__(self, texts: Sequence[str], beginnings: Sequence[str] = (), /) -> list[int | None]:
        """Return where the first piece of each text starts, or None; `beginnings` is what stands before each text."""


class Recorded:
    """Values of personal data that no anchor may hold.

    Args:
        values: The values, in any order and form.
        ignore_case: In any case; else as `said_places` finds them.
    """

    def __init__(self, values: Iterable[str], ignore_case: bool = False) -> None:
        self._by_word: dict[str, set[str]] = {}
        self._ignore_case = ignore_case
        for value in values:
            if words := folded(value).split():
                self._by_word.setdefault(words[0], set()).add(value)

    def places(self, text: str) -> list[tuple[int, int]]:
        """Return where the values occur in a text, `(start, end)`: as whole words in any Unicode form and spacing."""
        plain = folded(text)
        near = (value for word, values in self._by_word.items() if word in plain for value in values)
        if self._ignore_case:
            return [place for value in near for place in occurrences(text, value, ignore_case=True)]
        return [place for value in near for place in said_places(text, value)]


def open_user_turn(tokenizer: Any) -> str:
    """Return the chat template up to where a user's first message starts.

    Raises:
        NescioError: The tokenizer has no chat template, or the template changes the message.
    """
    before, mark, _ = render(tokenizer, [Message(role="user", content=_MARK)]).partition(_MARK)
    if not mark:
        raise NescioError("the chat template changes the user's words, so no anchors can be made up; set anchors: null")
    return before


def make_up_prompts(
    base: Engine, tokenizer: Any, count: int, *, max_tokens: int, seed: int, personal_starts: PersonalStarts,
    cache: AnswerCache, tally: Counter[str],
) -> Iterator[str]:  # fmt: skip
    """Yield up to `count` different prompts that the base model writes into an open user turn.

    It begins every second one itself; the others begin with a word that is common in requests, and are short.

    Args:
        base: The base model.
        tokenizer: Its tokenizer.
        count: How many are wanted.
        max_tokens: Longest prompt; longer ones are left out.
        seed: Seed of the sampling, at top-p 0.95 and temperature 1, or 0.7 where the beginning is given.
        personal_starts: Finds the first piece of personal data in each text.
        cache: Keeps what was written.
        tally: Receives `asked`, and how many were left out as `unfinished`, `short`, `repeated` and `personal`.
    """
    opened, seen, made = open_user_turn(tokenizer), set[str](), 0
    for start in range(0, _ROUNDS * count, count):
        begun = [_OPENERS[number // 2 % len(_OPENERS)] if number % 2 else "" for number in range(start, start + count)]
        asked = [
            Request(
                opened + words, max_tokens=min(_SHORT, max_tokens) if words else max_tokens,
                temperature=0.7 if words else 1.0, top_p=0.95, seed=seed * 1_000_003 + number,
            )
            for number, words in enumerate(begun, start)
        ]  # fmt: skip
        written = ask(base, asked, cache)
        tally["asked"] += len(written)
        texts = []
        for words, (rest, finish) in zip(begun, written, strict=True):
            text = f"{words}{rest}".strip()
            if finish != "stop":
                tally["unfinished"] += 1
            elif count_words(text) < _LEAST_WORDS:
                tally["short"] += 1
            elif fold(text)[0] in seen:
                tally["repeated"] += 1
            else:
                seen.add(fold(text)[0])
                texts.append(text)
        for text, personal in zip(texts, personal_starts(texts), strict=True):
            if personal is not None:
                tally["personal"] += 1
            elif made < count:
                made += 1
                yield text
        if made == count:
            return


def ask(engine: Engine, requests: Sequence[Request], cache: AnswerCache) -> list[tuple[str, str]]:
    """Return the text of each answer and how it finished; those that are on disk are not asked for again."""

    def work(start: int, missing: list[int]) -> list[list[str]]:
        asked = [requests[start + number] for number in missing]
        return [[answer.text, answer.finish] for answer in engine.generate(asked)]

    decides = [[each.prompt, each.max_tokens, each.temperature, each.top_p, each.seed] for each in requests]
    return [
        (text, finish)
        for start in range(0, len(requests), _TOGETHER)
        for text, finish in cache.results(decides[start : start + _TOGETHER], partial(work, start))
    ]


def answer_prompts(
    model: Engine, tokenizer: Any, conversations: Sequence[list[Message]], *, max_tokens: int, seed: int,
    personal_starts: PersonalStarts, cache: AnswerCache, tally: Counter[str],
) -> list[Answered]:  # fmt: skip
    """Answer prompts, every second one sampled and the others greedy.

    Greedy answers are what users see; sampled ones also show the model where it could go. An answer that becomes
    personal is kept up to the sentence before.

    Args:
        model: Answers, with its adapter if it has one.
        tokenizer: Its tokenizer.
        conversations: The prompts.
        max_tokens: Longest answer.
        seed: Seed of the sampling.
        personal_starts: Finds the first piece of personal data in each text.
        cache: Keeps the answers.
        tally: Receives how many were left out as `unanswered`, as `personal answers`, and as `joined to their
            prompt`: their first token would begin in it, so that they cannot be taught.
    """
    requests = [
        Request(messages, max_tokens=max_tokens, temperature=float(number % 2), seed=seed + number)
        for number, messages in enumerate(conversations)
    ]
    answers = ask(model, requests, cache)
    end = turn_end(tokenizer)
    kept = list[Answered]()
    for number, ((text, finish), start) in enumerate(
        zip(answers, personal_starts([text for text, _ in answers]), strict=True)
    ):
        messages = conversations[number]
        clean = text if start is None else whole_sentences(text[:start])
        whole = answer_space(tokenizer, messages) + clean + (end if start is None and finish == "stop" else "")
        if start is not None and count_words(clean) < _LEAST_WORDS:
            tally["personal answers"] += 1
        elif not clean.strip():
            tally["unanswered"] += 1
        elif split_ids(tokenizer, render(tokenizer, messages), whole) is None:
            tally["joined to their prompt"] += 1
        else:
            kept.append(Answered(id=f"anchor-{number}", messages=messages, answer=whole))
    return kept


def first_personal(detector: Detector, recorded: Recorded) -> PersonalStarts:
    """Return the check for personal data: what is detected, and recorded values, also where no detector sees them."""

    def starts(texts: Sequence[str], beginnings: Sequence[str] = ()) -> list[int | None]:
        found = find_behind(detector, beginnings or [""] * len(texts), texts)
        return [
            min([*(span.start for span in spans), *(start for start, _ in recorded.places(text))], default=None)
            for text, spans in zip(texts, found, strict=True)
        ]

    return starts
