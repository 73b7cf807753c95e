"""Several detectors as one."""

from collections.abc import Sequence

from nescio.pii.base import Detector, Span, merge


class Union:
    """What any of the detectors finds; spans that overlap become one."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self._detectors = tuple(detectors)
        self.name = " + ".join(detector.name for detector in detectors)

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text, in order of their start."""
        found = [detector.find(texts) for detector in self._detectors]
        return [
            merge((span for spans in of_text for span in spans), text)
            for text, of_text in zip(texts, zip(*found, strict=True), strict=True)
        ]
