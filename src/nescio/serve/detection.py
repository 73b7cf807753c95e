"""The detector of a server: loaded when first needed, in a thread of its own, with the texts of all streams batched."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from nescio.core.errors import NescioError
from nescio.core.text import split_long
from nescio.pii.base import Detector, Span
from nescio.pii.registry import load_detector

_BATCH = 64  # most texts in one call of the detector
_CHARACTERS = 20_000  # of texts in one call; with them it is full, and others' texts come next
_LONGEST = 10_000  # characters of a text that are read at once
_OVERLAP = 200  # characters that are read with two pieces, for what lies across the cut
_IDLE = 60.0  # seconds after which the thread ends; the next text starts another


class ServingDetector:
    """A detector for many threads: spaCy's pipelines are not safe for several, and one call for all costs less.

    Args:
        name: As for `load_detector`.
        patience: Most seconds that a text waits to be checked.
        settings: As for `load_detector`, such as `ignore` and `thresholds`.
    """

    def __init__(self, name: str, *, patience: float = 30.0, **settings: Any) -> None:
        self.name = name
        self._settings = settings
        self._patience = patience
        self._lock = threading.Lock()  # guards the detector and the thread
        self._detector: Detector | None = None
        self._thread: threading.Thread | None = None
        self._asked: SimpleQueue[tuple[str, Future[list[Span]]]] = SimpleQueue()

    def load(self) -> Detector:
        """Load the detector unless it is loaded.

        Raises:
            NescioError: Something that it needs is missing.
        """
        with self._lock:
            if self._detector is None:
                self._detector = load_detector(self.name, **self._settings)
            return self._detector

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Find personal data. A long text is read in pieces, between which others' texts are read.

        Raises:
            NescioError: The detector does not answer. Whatever it raises itself is raised too.
        """
        self.load()
        found: list[list[Span]] = [[] for _ in texts]
        for together in _rounds(texts):
            for piece, spans in zip(together, self._read([piece.text for piece in together]), strict=True):
                moved = (replace(s, start=s.start + piece.start, end=s.end + piece.start) for s in spans)
                found[piece.number] += [span for span in moved if span.end > piece.known]
        return [sorted(spans, key=lambda span: span.start) for spans in found]

    def _read(self, texts: Sequence[str]) -> list[list[Span]]:
        futures = [Future[list[Span]]() for _ in texts]
        for asked in zip(texts, futures, strict=True):
            self._asked.put(asked)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="detector", daemon=True)
                self._thread.start()
        try:
            return [future.result(self._patience) for future in futures]
        except TimeoutError:
            for future in futures:
                future.cancel()
            raise NescioError(f"detector {self.name}: no answer in {self._patience:g} s") from None

    def _run(self) -> None:
        detector = self.load()
        while True:
            # 1) all texts that wait; those that nobody waits for any more are left out
            batch = []
            try:
                batch.append(self._asked.get(timeout=_IDLE))
                while len(batch) < _BATCH and sum(len(text) for text, _ in batch) < _CHARACTERS:
                    batch.append(self._asked.get_nowait())
            except Empty:
                pass
            if not batch:
                with self._lock:
                    if self._asked.empty():
                        self._thread = None
                        return
            batch = [(text, future) for text, future in batch if future.set_running_or_notify_cancel()]
            # 2) one call; where it fails, each text alone, so that one text does not hold up all streams
            _answer(detector, batch)


class _Piece(NamedTuple):
    """A piece of a text: the text's number, where it starts there, and up to where the piece before it was read."""

    number: int
    start: int
    known: int
    text: str


def _rounds(texts: Sequence[str]) -> Iterator[list[_Piece]]:
    """Yield the pieces of all texts, as many at a time as one call of the detector reads."""
    together, total = list[_Piece](), 0
    for number, text in enumerate(texts):
        for cut, piece in split_long(text, _LONGEST):
            latest = max(0, cut - _OVERLAP)
            start = text.rfind(" ", max(0, latest - _OVERLAP), latest) + 1 or latest
            together.append(_Piece(number, start, cut, text[start : cut + len(piece)]))
            total += len(piece)
            if total >= _CHARACTERS:
                yield together
                together, total = [], 0
    if together:
        yield together


def _answer(detector: Detector, batch: Sequence[tuple[str, Future[list[Span]]]]) -> None:
    try:
        found = detector.find([text for text, _ in batch]) if batch else []
        for spans, (_, future) in zip(found, batch, strict=True):
            future.set_result(spans)
    except Exception as error:  # a detector may raise anything; whoever waits has to be told
        waiting = [(text, future) for text, future in batch if not future.done()]
        if len(waiting) == 1:
            waiting[0][1].set_exception(error)
            return
        for each in waiting:
            _answer(detector, [each])
