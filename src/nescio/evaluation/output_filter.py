"""The output filter of a row: personal data in texts is removed before anybody sees them."""

from collections.abc import Sequence
from typing import Any

from nescio.pii.base import Detector, find_behind, mask

REMOVED = "[removed]"
"""What stands in the place of personal data; a recogniser takes "[PII]" for a name."""


def masked_texts(results: Sequence[Any], detector: Detector, beginnings: Sequence[str] = ()) -> list[Any]:
    """Return results with the personal data in their texts replaced by `[removed]`.

    Args:
        results: Texts, numbers, or lists of such.
        detector: What the filter removes.
        beginnings: What stands before the texts of each result, as the server reads it, too; empty: nothing.
    """
    texts, heads = list[str](), list[str]()

    def collect(value: Any, beginning: str) -> None:
        if isinstance(value, str):
            texts.append(value)
            heads.append(beginning)
        elif isinstance(value, list | tuple):
            for part in value:
                collect(part, beginning)

    def replaced(value: Any) -> Any:
        if isinstance(value, str):
            return next(shown)
        return [replaced(part) for part in value] if isinstance(value, list | tuple) else value

    for result, beginning in zip(results, beginnings or [""] * len(results), strict=True):
        collect(result, beginning)
    found = find_behind(detector, heads, texts)
    shown = iter(mask(text, spans, REMOVED) for text, spans in zip(texts, found, strict=True))
    return [replaced(result) for result in results]
