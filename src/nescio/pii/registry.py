"""Detectors by name: the registry, and the loading of one, of several as a union, and of a user's rules on top."""

import inspect
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.registry import Registry
from nescio.pii.base import IGNORED_LABELS, Detector
from nescio.pii.careful import Careful
from nescio.pii.counted import Counted
from nescio.pii.presets import PRESETS, open_preset
from nescio.pii.rules import Ruled
from nescio.pii.taxonomy import checked_type
from nescio.pii.texts_only import TextsOnly
from nescio.pii.thresholds import Thresholds
from nescio.pii.union import Union

OpenDetector = Callable[..., Detector]
"""What is registered: a class or function `(model, ignore)` that opens a detector. `model` is what follows the colon of
its name, empty where none does; `ignore` holds labels that do not count. One that also has the parameter `thresholds`,
`languages` or `recognizers` gets what the user set, if anything. What it opens may have the attribute `reads`: the
languages in which it finds names."""

DETECTORS: Registry[OpenDetector] = Registry("nescio.detectors", "detector", "nescio.pii", "*_detector")

_LOG = logging.getLogger("nescio.pii")
_VOTE = re.compile(r"(\d+) of ")


def load_detector(
    name: str = "default",
    ignore: Sequence[str] | None = None,
    *,
    count: Sequence[str] | None = None,
    thresholds: Mapping[str, float] | None = None,
    languages: Sequence[str] | None = None,
    recognizers: Path | None = None,
    allow: Sequence[str] = (),
    deny: Sequence[str] = (),
    regex: Mapping[str, str] | None = None,
) -> Detector:
    """Load a detector; `find` takes a list of texts, and refuses a single one.

    Args:
        name: `default`, the best that is installed; `paper`, that of section 2.2; or `KIND:MODEL` or `KIND`, as in
            `spacy:MODEL`, `presidio`, `rampart`, `hf:MODEL` and `regex`. Several joined by ` + ` find what any of
            them finds; with `2 of ` before them, what at least two of them find.
        ignore: Labels that do not count. None: the preset's, or else the paper's four.
        count: Types that count, of `nescio.pii.taxonomy.TYPES`. None: the preset's, or else all.
        thresholds: Least score with which a piece counts, from 0 to 1, by type; `default` is that of the other types
            (0.35). For detectors that give scores, such as Presidio.
        languages: Whose recognisers Presidio asks, as `en` and `de`.
        recognizers: YAML file of Presidio's own form with more recognisers.
        allow: Texts that never count, whatever finds them; case does not matter.
        deny: Texts that always count, as whole words.
        regex: Label and pattern of what else counts.

    Raises:
        NescioError: A kind or a type is unknown, a model is not installed, a setting is none of the detector's, a
            pattern is wrong, or a text stands where a list is wanted.
    """
    for key, given in {"ignore": ignore, "allow": allow, "deny": deny}.items():
        if isinstance(given, str):  # letter by letter, it would be another rule
            raise NescioError(f"detector: {key}: got one text, and takes a list of texts; give [{given!r}]")
    settings = {"thresholds": thresholds, "languages": languages, "recognizers": recognizers}
    settings = {key: value for key, value in settings.items() if value}
    check_settings(name, settings, count)
    if (preset := PRESETS.get(name)) and preset.thresholds:
        settings["thresholds"] = {**preset.thresholds, **(thresholds or {})}
    ignored = ignored_labels(name) if ignore is None else ignore

    # 1) Of a preset take what is installed, of other names everything.
    def open_part(part: str) -> Detector:
        kind, _, model = part.partition(":")
        own = {key: value for key, value in settings.items() if key in _settings(kind)}
        detector = DETECTORS.get(kind)(model, ignored, **own)
        unread.difference_update(getattr(detector, "reads", languages or ()))
        return Careful(detector, kind in preset.english) if preset and kind in preset.careful else detector

    least, parts = _parts(name)
    unread = set(languages or ())
    detectors, called = open_preset(name, open_part) if preset else ([open_part(part) for part in parts], None)
    if unread:
        said = "detector %s: no model of it reads %s; names are not found there, what has a form is"
        _LOG.warning(said, name, ", ".join(sorted(unread)))
    # 2) Leave out what does not count, before spans are merged.
    if (types := counted_types(name, count)) is not None:
        detectors = [Counted(detector, types) for detector in detectors]
    # 3) Join the parts, and put the user's rules on top.
    detector = detectors[0] if len(detectors) == 1 and called is None else Union(detectors, least, called)
    return TextsOnly(Ruled(detector, allow, deny, regex or {}) if allow or deny or regex else detector)


def ignored_labels(name: str) -> tuple[str, ...]:
    """Return the labels that do not count where nothing else is said: the preset's, or else the paper's four."""
    return PRESETS[name].ignore if name in PRESETS else IGNORED_LABELS


def counted_types(name: str, count: Sequence[str] | None = None) -> Sequence[str] | None:
    """Return the types that count: those given, or else the preset's; None: all."""
    return PRESETS[name].count if count is None and name in PRESETS else count


def check_settings(name: str, settings: Mapping[str, Any], count: Sequence[str] | None = None) -> None:
    """Check what `load_detector` is told, without opening a detector.

    Args:
        name: The detector's name.
        settings: `thresholds`, `languages` and `recognizers`, as far as they are given.
        count: Types that count.

    Raises:
        NescioError: A kind or a type is unknown, more parts must agree than there are, a threshold is wrong, or no
            part has a setting.
    """
    least, parts = _parts(name)
    kinds = [part.partition(":")[0] for part in parts]
    for kind in kinds:
        if kind in PRESETS and kind not in DETECTORS:
            raise NescioError(f"detector {name!r}: {kind} is several already and stands alone; name its parts instead")
        if kind not in DETECTORS:
            raise NescioError(
                f"detector {kind!r} is unknown; use default, paper, spacy:MODEL or presidio:MODEL, for example "
                f"spacy:en_core_web_sm, or another of {', '.join(DETECTORS)}"
            )
    if not 1 <= least <= len(parts):
        raise NescioError(f"detector {name!r}: {least} of {len(parts)} cannot agree; give 1 to {len(parts)}")
    for setting in settings:
        if not any(setting in _settings(kind) for kind in kinds):
            fitting = [kind for kind in DETECTORS if setting in _settings(kind)]
            raise NescioError(f"detector {name!r} has no {setting}; these have: {', '.join(fitting)}")
    Thresholds(settings.get("thresholds"), "detector")
    for kind in count or ():
        checked_type(kind, "detector: count")


def _parts(name: str) -> tuple[int, list[str]]:
    """Return how many parts must agree, and the parts: 2 and `a`, `b`, `c` of `2 of a + b + c`."""
    if name in PRESETS:
        return 1, [part for alternatives in PRESETS[name].parts for part in alternatives]
    vote = _VOTE.match(name)
    return int(vote[1]) if vote else 1, [part.strip() for part in name[vote.end() if vote else 0 :].split(" + ")]


def _settings(kind: str) -> Sequence[str]:
    """The names of what a detector can be told beside its model and the ignored labels."""
    return list(inspect.signature(DETECTORS.get(kind)).parameters)[2:]
