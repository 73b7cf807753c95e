"""A single text is refused where a list of texts is wanted: letter by letter, nothing would be found in it."""

from collections.abc import Sequence

from nescio.core.errors import NescioError
from nescio.pii.base import Detector, Span


class TextsOnly:
    """A detector that takes no bare text.

    Args:
        detector: Finds personal data.
    """

    def __init__(self, detector: Detector) -> None:
        self.name = detector.name
        self._detector = detector

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text, in order of their start.

        Raises:
            NescioError: The texts are a single one.
        """
        if isinstance(texts, str):
            raise NescioError("find: got one text, and takes a list of texts; give [text]")
        return self._detector.find(texts)
