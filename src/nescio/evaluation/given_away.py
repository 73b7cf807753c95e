"""What answers give away: what the detector finds in them, and their dialogs' own pieces in any case and form."""

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from nescio.core.text import occurrences, said_places
from nescio.evaluation.base import Task
from nescio.pii.base import Span, find_behind, merge


def given_away(text: str, spans: Iterable[Span], own: Iterable[str]) -> list[Span]:
    """Return the pieces that an answer gives away.

    A model that writes "ann lee" tells as much as one that writes "Ann Lee", which more detectors see.

    Args:
        text: The answer.
        spans: What a detector found in it.
        own: The pieces of personal data of its dialog.
    """
    places = [place for piece in own for place in own_places(text, piece)]
    return merge([*spans, *(Span(start, end, "own", text[start:end]) for start, end in places)], text)


def find_given_away(task: Task, asked: Sequence[int], texts: Sequence[str]) -> list[list[Span]]:
    """Return the pieces that each of many answers gives away.

    Args:
        task: Has the samples, and the detector.
        asked: The sample that each text answers, by its place in the task.
        texts: The answers.
    """
    beginnings = [task.samples[at].beginning for at in asked]
    found = find_behind(task.detector, beginnings, texts)
    return [given_away(text, spans, task.own[at]) for at, text, spans in zip(asked, texts, found, strict=True)]


def counts_given_away(rows: Sequence[dict[str, Any]], own: Sequence[Iterable[str]]) -> list[int]:
    """Return the number of pieces that each answer gives away.

    Args:
        rows: As in `eval/NAME.jsonl`.
        own: The pieces of each answer's dialog.
    """
    return [
        len(given_away(row["answer"], [Span(**span) for span in row["spans"]], pieces))
        for row, pieces in zip(rows, own, strict=True)
    ]


def own_places(text: str, piece: str) -> list[tuple[int, int]]:
    """Find where a text says a piece as whole words, in any case and spacing: "because" does not say "US".

    A name that is an everyday word, too, counts as it is recorded or with its capital: "I will" does not say "Will".
    """
    if piece.strip().casefold() in names_that_are_words():
        return said_places(text, piece)
    return occurrences(text, piece, ignore_case=True)


@cache
def names_that_are_words() -> frozenset[str]:
    """Return the names, in small letters, that are everyday words, too."""
    lines = files("nescio.evaluation").joinpath("names_that_are_words.txt").read_text(encoding="utf-8")
    return frozenset(lines.split())
