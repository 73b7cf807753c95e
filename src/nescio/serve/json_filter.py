"""The filter of JSON that a model writes: its strings and numbers are checked as text, and JSON stays JSON."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from nescio.serve.checker import Checked, Checker, Judged, Treated, moved, overlapping
from nescio.serve.output_filter import OutputFilter

TOKEN = re.compile(r'(?P<text>"(?:[^"\\]|\\.)*")(?P<key>\s*:)?|(?P<number>-?\d[\d.eE+-]*)')
"""A string or a number of a JSON text."""


class JsonFilter:
    """Filter of one JSON text, which is checked as a whole. What turns out to be no JSON is checked as running text.

    The detector reads the keys and values one a line (`phone: 555-0142`), so that a key says what its value is and a
    name in two fields is seen whole. A number that is masked becomes a string.

    Args:
        checker: The answer's detector and audit.
    """

    def __init__(self, checker: Checker) -> None:
        self.blocked = False
        self._checker = checker
        self._pending = list[str]()

    def asks_detector(self, text: str) -> bool:
        """Return False: the detector reads the whole at its end."""
        return False

    def feed(self, text: str) -> list[Checked]:
        """Add text; nothing may be sent before the end."""
        self._pending.append(text)
        return []

    def finish(self, *, cut: bool = False) -> list[Checked]:
        """End the text; return it as it may be sent.

        Args:
            cut: Whether it breaks off, as for `OutputFilter`; a number may then be a part of a longer one.

        Raises:
            FilterError: The detector failed.
        """
        text = "".join(self._pending)
        self._pending.clear()
        if not is_json(text) or (cut and text[-1:].isdigit()):
            running = OutputFilter(self._checker)
            checked = [*running.feed(text), *running.finish(cut=cut)]
            self.blocked = running.blocked
            return checked
        # 1) what the detector reads, and which part of it is which token
        tokens = list(_tokens(text))
        places, length = list[tuple[int, int]](), 0
        for token in tokens:
            places.append((length, length + len(token.read)))
            length += len(token.read) + len(token.behind)
        found = self._checker.find("".join(token.read + token.behind for token in tokens))
        # 2) change each token that holds personal data, or a part of some
        parts, marks, sent, position = list[str](), list[Treated](), 0, 0
        for token, (start, _), near in zip(tokens, places, overlapping(places, found), strict=True):
            shown, own = self._changed(token, [moved(each, -start) for each in near])
            if self.blocked:
                self._checker.withheld += marks
                return []
            before = text[position : token.start]
            sent += len(before)
            marks += [replace(span, start=sent + span.start, end=sent + span.end) for span in own]
            parts += [before, shown]
            sent, position = sent + len(shown), token.end
        return [Checked("".join([*parts, text[position:]]), tuple(marks))]

    def _changed(self, token: "_Token", judged: list[Judged]) -> tuple[str, list[Treated]]:
        """Return a token as it may be sent, and where its personal data is in it then."""
        if not judged:
            return token.written, []
        clipped = [(replace(s, start=max(s.start, 0), end=min(s.end, len(token.read))), action) for s, action in judged]
        text, marks, self.blocked = self._checker.changed(token.read, clipped)
        if not token.is_text and text == token.read:  # counted only: a number stays one
            return token.written, marks
        placed, position, length = list[Treated](), 0, 1  # behind the quotation mark
        for span in marks:
            start = length + len(written(text[position : span.start])) - 2
            position, length = span.end, start + len(written(text[span.start : span.end])) - 2
            placed.append(replace(span, start=start, end=length))
        return written(text), placed


@dataclass(frozen=True, slots=True)
class _Token:
    """A string or a number of a JSON text: its place, as it is written there, and as the detector reads it."""

    start: int
    end: int
    written: str
    read: str
    behind: str
    is_text: bool


def _tokens(text: str) -> Iterator[_Token]:
    for match in TOKEN.finditer(text):
        is_text = match["text"] is not None
        name = "text" if is_text else "number"
        value: Any = json.loads(match[name]) if is_text else match[name]
        behind = ": " if match["key"] else "\n"
        yield _Token(match.start(name), match.end(name), match[name], value, behind, is_text)


def is_json(text: str) -> bool:
    """Whether a text is JSON as a whole."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def written(value: Any) -> str:
    """Return a value as JSON."""
    # Half of a surrogate pair can stand in JSON as an escape only.
    return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode()
