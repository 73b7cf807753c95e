"""The output filter of a row: personal data in texts is removed before anybody sees them."""

from typing import Any

from nescio.pii.base import Detector, mask

REMOVED = "[removed]"
"""What stands in the place of personal data; a recogniser takes "[PII]" for a name."""


def masked_texts(results: Any, detector: Detector) -> Any:
    """Return results with the personal data in their texts replaced by `[removed]`.

    Args:
        results: Lists of texts, of numbers, or of such lists.
        detector: What the filter removes.
    """
    texts: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list | tuple):
            for part in value:
                collect(part)

    def replaced(value: Any) -> Any:
        if isinstance(value, str):
            return next(shown)
        return [replaced(part) for part in value] if isinstance(value, list | tuple) else value

    collect(results)
    shown = iter(mask(text, spans, REMOVED) for text, spans in zip(texts, detector.find(texts), strict=True))
    return replaced(results)
