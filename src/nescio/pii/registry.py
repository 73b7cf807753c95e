"""Detectors by name: the registry, and the loading of one, of several as a union, and of a user's rules on top."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from nescio.core.errors import NescioError
from nescio.core.registry import Registry
from nescio.pii.base import IGNORED_LABELS, Detector
from nescio.pii.rules import Ruled
from nescio.pii.union import Union


class OpenDetector(Protocol):
    """What is registered: a class or function that opens a detector."""

    def __call__(self, model: str, ignore: Sequence[str]) -> Detector:
        """Open a detector.

        Args:
            model: What follows the colon of its name; empty where none does.
            ignore: Labels that do not count.
        """


DETECTORS: Registry[OpenDetector] = Registry("nescio.detectors", "detector", "nescio.pii", "*_detector")


def load_detector(
    name: str = "spacy:en_core_web_sm",
    ignore: Sequence[str] = IGNORED_LABELS,
    *,
    allow: Sequence[str] = (),
    deny: Sequence[str] = (),
    regex: Mapping[str, str] | None = None,
    recognizers: Path | None = None,
) -> Detector:
    """Load a detector.

    Args:
        name: `KIND:MODEL` or `KIND`, as in `spacy:MODEL`, `presidio:MODEL` and `rampart`; MODEL of the first two is an
            installed spaCy pipeline or a folder. Several joined by ` + ` find what any of them finds.
        ignore: Labels that do not count.
        allow: Texts that never count, whatever finds them; case does not matter.
        deny: Texts that always count, as whole words.
        regex: Label and pattern of what else counts.
        recognizers: YAML file of Presidio's own form with more recognisers.

    Raises:
        NescioError: The kind is unknown, the model is not installed or a pattern is wrong.
    """
    detectors = [_open(part.strip(), ignore, recognizers) for part in name.split(" + ")]
    if recognizers is not None and "presidio:" not in name:
        raise NescioError(f"detector {name!r}: recognizers are Presidio's; use presidio:MODEL with them")
    detector = detectors[0] if len(detectors) == 1 else Union(detectors)
    return Ruled(detector, allow, deny, regex or {}) if allow or deny or regex else detector


def _open(name: str, ignore: Sequence[str], recognizers: Path | None) -> Detector:
    kind, _, model = name.partition(":")
    if kind not in DETECTORS:
        raise NescioError(
            f"detector {name!r}: unknown; use spacy:MODEL or presidio:MODEL, for example spacy:en_core_web_sm, "
            f"or another of {', '.join(DETECTORS.names())}"
        )
    open_detector: Any = DETECTORS.get(kind)
    detector: Detector = open_detector(model, ignore, *([recognizers] if kind == "presidio" else []))
    return detector
