"""From a token classifier's labels to pieces of text: windows are joined, then tokens to pieces and whole words."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BATCH = 32
_WORD = re.compile(r"\w(?:[\w@.+/-]*\w)?")


@dataclass(frozen=True, slots=True)
class Piece:
    """Where a token or some of them stand in a text, their label, and its probability for the surest of them."""

    start: int
    end: int
    label: str
    score: float


Classify = Callable[[Sequence[Any]], Iterable[NDArray[np.float32]]]
"""Given windows, yields the logits `[tokens, labels]` of each."""


def labelled_tokens(
    windows: Sequence[tuple[int, Any]], classify: Classify, labels: Sequence[str], texts: int
) -> list[list[Piece]]:
    """Label the tokens of texts that are cut into windows which overlap.

    Args:
        windows: The number of its text, and a window with `ids` and `offsets`; a text's own in their order.
        classify: Called with windows of like length.
        labels: By their number.
        texts: How many texts there are.

    Returns:
        The tokens of each text. Of two windows that share tokens each decides its own half of them.
    """
    # 1) The likeliest label of each token; windows of like length are computed together.
    likeliest: dict[int, tuple[NDArray[np.intp], NDArray[np.float32]]] = {}
    order = sorted(range(len(windows)), key=lambda number: len(windows[number][1].ids))
    for start in range(0, len(order), _BATCH):
        some = order[start : start + _BATCH]
        for number, logits in zip(some, classify([windows[number][1] for number in some]), strict=True):
            odds = np.exp(logits - logits.max(-1, keepdims=True))
            likeliest[number] = logits.argmax(-1), 1 / odds.sum(-1)
    # 2) The windows of each text together.
    found: list[list[Piece]] = [[] for _ in range(texts)]
    for number, (index, window) in enumerate(windows):
        tokens = [
            Piece(start, end, labels[int(best)], float(score))
            for (start, end), best, score in zip(window.offsets, *likeliest[number], strict=True)
            if end > start
        ]
        shared = [token for token in found[index] if tokens and token.start >= tokens[0].start]
        middle = shared[len(shared) // 2].start if shared else 0
        earlier = [token for token in found[index] if not shared or token.start < middle]
        found[index] = earlier + [token for token in tokens if token.start >= middle]
    return found


def pieces(tokens: Iterable[Piece]) -> Iterator[Piece]:
    """Join neighbouring tokens of one type; a B- label opens a new piece unless it continues a word.

    Labels are of the forms `B-X` and `I-X`, with `E-`, `L-`, `S-` and `U-` where the model has them, or plain `X`.
    """
    last: Piece | None = None
    for token in tokens:
        position, dash, kind = token.label.partition("-")
        if len(position) != 1 or not dash:
            position, kind = "I", token.label
        if kind == "O":
            continue
        gap = token.start - last.end if last else 0
        if last and last.label == kind and (gap == 0 or (position in "IEL" and gap <= 2)):
            last = Piece(last.start, token.end, kind, max(last.score, token.score))
            continue
        if last:
            yield last
        last = replace(token, label=kind)
    if last:
        yield last


def whole_words(text: str, found: Iterable[Piece]) -> list[Piece]:
    """Widen pieces to whole words and numbers; what then overlaps is one piece with the label of the longest part."""
    words: list[tuple[int, int]] | None = None
    whole: list[Piece] = []
    longest = 0
    for piece in found:
        words = [match.span() for match in _WORD.finditer(text)] if words is None else words
        inside = [word for word in words if word[0] < piece.end and word[1] > piece.start]
        first, end = (
            (min(piece.start, inside[0][0]), max(piece.end, inside[-1][1])) if inside else (piece.start, piece.end)
        )
        length = piece.end - piece.start
        if whole and first < whole[-1].end:
            before = whole[-1]
            label = piece.label if length > longest else before.label
            longest = max(longest, length)
            whole[-1] = Piece(before.start, max(end, before.end), label, max(before.score, piece.score))
        else:
            longest = length
            whole.append(replace(piece, start=first, end=end))
    return whole
