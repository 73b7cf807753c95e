"""Stand-ins of a request, put back in its answer."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from nescio.pii.base import Span
from nescio.serve.checker import Checked


class PutBack:
    """Puts what a caller wrote back for its stand-ins, in a text that comes in chunks.

    The output does not depend on how the text was cut: what may be the beginning of a stand-in waits for the rest.
    Where several stand-ins fit, the longest is taken.

    Args:
        pieces: What the caller wrote, by stand-in.
        in_json: Whether the text is JSON; what is put back is then escaped as a JSON string is.
    """

    def __init__(self, pieces: Mapping[str, str], *, in_json: bool = False) -> None:
        def written(piece: str) -> str:
            return json.dumps(piece, ensure_ascii=False)[1:-1] if in_json else piece

        self._pieces = {stand_in: written(piece) for stand_in, piece in pieces.items()}
        longest_first = sorted(pieces, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._held = ""
        self._read = 0  # characters read, up to what is held
        self._changes: list[tuple[int, int]] = []  # where a stand-in ended, and by how much it made the text longer
        self._spans: list[Span] = []

    def feed(self, text: str, spans: Iterable[Span] = (), *, last: bool = False) -> Checked:
        """Add text and the personal data marked in it; return the text that may be sent, and marks at their new places.

        Args:
            text: Checked text.
            spans: In characters of all text so far.
            last: Nothing follows.
        """
        self._held += text
        self._spans += spans
        parts, position = list[str](), 0
        # 1) what comes before the first beginning of a stand-in that is not known to be one yet
        end = len(self._held) if last else self._known()
        for match in self._pattern.finditer(self._held, 0, end):
            piece = self._pieces[match[0]]
            parts += [self._held[position : match.start()], piece]
            position = match.end()
            self._changes.append((self._read + position, len(piece) - len(match[0])))
        parts.append(self._held[position:end])
        self._held, self._read = self._held[end:], self._read + end
        # 2) marks whose text has been read
        ready = [span for span in self._spans if span.end <= self._read]
        self._spans = [span for span in self._spans if span.end > self._read]
        moved = (replace(span, start=self._moved(span.start), end=self._moved(span.end)) for span in ready)
        return Checked("".join(parts), tuple(moved))

    def _known(self) -> int:
        """Return up to where more text can change nothing."""
        position = 0
        while position < len(self._held):
            rest = self._held[position:]
            if any(len(rest) < len(stand_in) and stand_in.startswith(rest) for stand_in in self._pieces):
                return position
            match = self._pattern.match(self._held, position)
            position = match.end() if match else position + 1
        return position

    def _moved(self, place: int) -> int:
        return place + sum(longer for end, longer in self._changes if end <= place)
