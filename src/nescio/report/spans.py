"""The spans of an answer as the page shows them: checked, and the text cut at them."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any


def wrong_spans(text: str, spans: Any) -> str | None:
    """Return the reason why spans do not belong to a text, or None."""
    if not isinstance(spans, list) or not all(_is_span(span, len(text)) for span in spans):
        return "spans must be a list of start, end and label inside the answer"
    if any(left["end"] > right["start"] for left, right in pairwise(spans)):
        return "spans must be in order and must not overlap"
    return None


def _is_span(span: Any, length: int) -> bool:
    if not isinstance(span, dict) or not isinstance(span.get("label"), str):
        return False
    start, end = span.get("start"), span.get("end")
    return isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= length


def parts(text: str, spans: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Cut a text at its spans: pieces with their labels, the label empty where nothing was found.

    Args:
        text: The answer.
        spans: In order and apart, offsets in characters.
    """
    cut, at = [], 0
    for span in spans:
        cut += [(text[at : span["start"]], ""), (text[span["start"] : span["end"]], span["label"])]
        at = span["end"]
    return [part for part in (*cut, (text[at:], "")) if part[0]]
