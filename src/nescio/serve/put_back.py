"""Stand-ins of a request, put back in its answer."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from nescio.serve.checker import Checked, Treated
from nescio.serve.json_filter import TOKEN, is_json, written


class PutBack:
    """Puts what a caller wrote back for its stand-ins, in a text that comes in chunks.

    The output does not depend on how the text was cut: what may be the beginning of a stand-in waits for the rest.
    Where several stand-ins fit, the longest is taken.

    Args:
        pieces: What the caller wrote, by stand-in.
        in_json: Whether the text is JSON. It waits for its end and stays JSON: a number that changes becomes a string.
    """

    def __init__(self, pieces: Mapping[str, str], *, in_json: bool = False) -> None:
        self._pieces = {stand_in: written(piece)[1:-1] if in_json else piece for stand_in, piece in pieces.items()}
        self._in_json = in_json
        self._begun = {stand_in[:end] for stand_in in pieces for end in range(1, len(stand_in))}
        self._longest = max(map(len, pieces), default=0)
        longest_first = sorted(pieces, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._held = ""
        self._read = 0  # characters read, up to what is held
        self._changes: list[tuple[int, int]] = []  # where a stand-in ended, and by how much it made the text longer
        self._spans: list[Treated] = []

    def feed(self, text: str, spans: Iterable[Treated] = (), *, last: bool = False) -> Checked:
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
        end = len(self._held) if last else 0 if self._in_json else self._known()
        for start, stop, piece in self._found(end):
            parts += [self._held[position:start], piece]
            position = stop
            self._changes.append((self._read + stop, len(piece) - (stop - start)))
        parts.append(self._held[position:end])
        self._held, self._read = self._held[end:], self._read + end
        # 2) marks whose text has been read
        ready = [span for span in self._spans if span.end <= self._read]
        self._spans = [span for span in self._spans if span.end > self._read]
        moved = (replace(span, start=self._moved(span.start), end=self._moved(span.end)) for span in ready)
        return Checked("".join(parts), tuple(moved))

    def _found(self, end: int) -> Iterator[tuple[int, int, str]]:
        """Yield where a stand-in is in the text up to a place, and what stands there then."""
        tokens: Iterable[tuple[int, int, bool]] = [(0, end, False)]
        if end and self._in_json and is_json(self._held):
            tokens = ((*token.span(), token["number"] is not None) for token in TOKEN.finditer(self._held))
        for start, stop, is_number in tokens:
            if not is_number:
                matches = self._pattern.finditer(self._held, start, stop)
                yield from ((*match.span(), self._pieces[match[0]]) for match in matches)
            elif piece := self._pieces.get(self._held[start:stop]):
                yield start, stop, f'"{piece}"'

    def _known(self) -> int:
        """Return up to where more text can change nothing."""
        # 1) what is too far from the end to be unfinished
        position, sure = 0, len(self._held) - self._longest + 1
        for match in self._pattern.finditer(self._held):
            if match.start() >= sure:
                break
            position = match.end()
        # 2) the rest
        position = max(position, sure)
        while position < len(self._held):
            if self._held[position:] in self._begun:
                return position
            match_here = self._pattern.match(self._held, position)
            position = match_here.end() if match_here else position + 1
        return position

    def _moved(self, place: int) -> int:
        return place + sum(longer for end, longer in self._changes if end <= place)
