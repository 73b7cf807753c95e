"""A user's rules on top of a detector: what never counts, what always counts, and patterns."""

import re
from collections.abc import Mapping, Sequence

from nescio.core.errors import NescioError
from nescio.core.text import folded, occurrences
from nescio.pii.base import Detector, Span, merge
from nescio.pii.plain_text import PlainText, plain_text

DENIED = "DENIED"
"""Label of texts on the deny list."""


class Ruled:
    """A detector with an allow list, a deny list and patterns.

    Args:
        detector: Detector that finds the rest.
        allow: Texts that never count, in any case and Unicode form.
        deny: Texts that always count as whole words, in any case and Unicode form.
        regex: Label and pattern of what else counts.

    Raises:
        NescioError: A pattern is wrong, or matches the empty text.
    """

    def __init__(self, detector: Detector, allow: Sequence[str], deny: Sequence[str], regex: Mapping[str, str]) -> None:
        self.name = f"{detector.name} with rules"
        self._detector = detector
        self._allow = {folded(text) for text in allow}
        self._deny = tuple(deny)
        self._patterns = {label: _compiled(label, pattern) for label, pattern in regex.items()}

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text, in order of their start."""
        return [
            merge((span for span in (*spans, *self._matches(text)) if folded(span.text) not in self._allow), text)
            for text, spans in zip(texts, self._detector.find(texts), strict=True)
        ]

    def _matches(self, text: str) -> list[Span]:
        plain = plain_text(text) if self._patterns else PlainText("")
        places = [
            (*plain.place(*match.span()), label)
            for label, pattern in self._patterns.items()
            for match in pattern.finditer(plain.text)
            if match[0]
        ]
        places += [(*place, DENIED) for denied in self._deny for place in occurrences(text, denied, ignore_case=True)]
        return [Span(start, end, label, text[start:end]) for start, end, label in places]


def _compiled(label: str, pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError) as error:
        raise NescioError(
            f"detector.regex.{label}: {pattern!r} is not a valid regular expression ({error}); correct it"
        ) from error
    if compiled.match(""):
        raise NescioError(f"detector.regex.{label}: {pattern!r} matches the empty text; make it match something")
    return compiled
