"""One's own rules: what never counts, what always does, patterns; and detectors joined to one."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nescio.core.errors import NescioError
from nescio.core.text import split_long
from nescio.pii.base import Span, find_in_pieces, merge
from nescio.pii.registry import load_detector
from nescio.pii.rules import DENIED, Ruled
from nescio.pii.union import Union

TEXT = "Ask Tom Baker in Leeds about order AB-1234, or write to tom@example.com."


class Words:
    """Finds given words."""

    def __init__(self, *words: str) -> None:
        self.name, self.words = "words", words

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [[Span(text.index(w), text.index(w) + len(w), w, w) for w in self.words if w in text] for text in texts]


def test_rules_add_and_take_away() -> None:
    ruled = Ruled(Words("Tom Baker", "Leeds"), ["LEEDS"], ["ask", "or"], {"ORDER": r"[A-Z]{2}-\d{4}"})
    (found,) = ruled.find([TEXT])
    assert [(span.label, span.text) for span in found] == [
        (DENIED, "Ask"), ("Tom Baker", "Tom Baker"), ("ORDER", "AB-1234"), (DENIED, "or"),
    ]  # fmt: skip


def test_lists_hold_in_any_unicode_form() -> None:
    text = "Sean O\u2019Brien met Ann\u00a0Lee."
    ruled = Ruled(Words("Ann\u00a0Lee"), ["ann lee"], ["Sean O'Brien"], {})
    assert [span.text for span in ruled.find([text])[0]] == ["Sean O\u2019Brien"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "is not a valid regular expression"),
        ("a{99999999999}", "is not a valid regular expression"),
        ("x*", "matches the empty text"),
    ],
)
def test_a_wrong_pattern_is_one_line(pattern: str, message: str) -> None:
    with pytest.raises(NescioError, match=rf"detector\.regex\.X: .*{message}"):
        Ruled(Words(), [], [], {"X": pattern})


def test_a_union_finds_what_any_finds_once() -> None:
    union = Union([Words("Tom Baker", "Leeds"), Words("Baker in", "tom@example.com"), Words("Leeds")])
    found = union.find([TEXT, "", "Leeds"])
    assert [span.text for span in found[0]] == ["Tom Baker in", "Leeds", "tom@example.com"]
    assert [len(spans) for spans in found] == [3, 0, 1]


SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=8)


@given(SPANS)
def test_merged_spans_cover_the_same_letters_and_never_overlap(places: list[tuple[int, int]]) -> None:
    text = "".join(chr(97 + n % 26) for n in range(40))
    spans = [Span(start, start + length, "X", text[start : start + length]) for start, length in places]
    merged = merge(spans, text)
    assert all(span.text == text[span.start : span.end] for span in merged)
    assert all(one.end <= two.start for one, two in pairwise(merged))
    assert _letters(merged) == _letters(spans)


def _letters(spans: list[Span]) -> set[int]:
    return {place for span in spans for place in range(span.start, span.end)}


def test_a_merged_span_is_what_its_longest_part_is() -> None:
    text = "Call Ann Lee of Leeds."
    spans = [Span(5, 12, "X", "Ann Lee", "person"), Span(9, 21, "Y", "Lee of Leeds", "organisation")]
    assert merge(spans, text) == [Span(5, 21, "Y", "Ann Lee of Leeds", "organisation")]


def test_a_name_that_overlaps_a_number_is_cut_and_both_stay() -> None:
    text = "Ann Lee 415-555-0132 of Leeds"
    spans = [Span(0, 29, "ORG", text), Span(8, 20, "PHONE", "415-555-0132")]
    assert [(span.type, span.text) for span in merge(spans, text)] == [
        ("organisation", "Ann Lee"), ("phone", "415-555-0132"), ("organisation", "of Leeds")
    ]  # fmt: skip


@given(st.text("ab .!?\n", max_size=120), st.integers(1, 30))
def test_pieces_of_a_long_text_are_the_text(text: str, limit: int) -> None:
    pieces = split_long(text, limit)
    assert "".join(piece for _, piece in pieces) == text
    assert all(text[offset : offset + len(piece)] == piece and len(piece) <= limit for offset, piece in pieces)


def test_long_texts_are_split_after_sentences_then_after_words() -> None:
    assert split_long("a 555 01\nb 555 02\nc", 12) == [(0, "a 555 01\n"), (9, "b 555 02\nc")], "no number is cut in two"
    assert split_long("One two. Three 3.14 four", 11) == [(0, "One two."), (8, " Three "), (15, "3.14 four")]


def test_spans_of_pieces_stand_where_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nescio.pii.base.LONGEST_TEXT", 30)
    words = Words("Leeds", "Tom")
    texts = ["Nothing at all is in here. Tom went to Leeds, they say. Then Tom came back.", "Leeds"]
    found = find_in_pieces(texts, words.find)
    assert [sorted(span.text for span in spans) for spans in found] == [["Leeds", "Tom", "Tom"], ["Leeds"]]
    for text, spans in zip(texts, found, strict=True):
        assert all(text[span.start : span.end] == span.text for span in spans)


def test_presidio_with_ones_own_recogniser_and_spacy_together(tmp_path: Path) -> None:
    pytest.importorskip("presidio_analyzer")
    (tmp_path / "own.yaml").write_text(
        "recognizers:\n- name: orders\n  supported_entity: ORDER\n"
        "  patterns: [{name: order, regex: '[A-Z]{2}-[0-9]{4}', score: 0.9}]\n"
    )
    name = "spacy:en_core_web_sm + presidio:en_core_web_sm"
    detector = load_detector(name, recognizers=tmp_path / "own.yaml")
    assert detector.name == name
    (found, nothing) = detector.find([f"{TEXT} On Monday.", ""])
    assert {"Tom Baker", "Leeds", "AB-1234", "tom@example.com"} <= {span.text for span in found}
    assert "Monday" not in {span.text for span in found}, "DATE is ignored, by either name"
    assert nothing == []
    for content in ("{", "recognizers: []", "recognizers: [{name: x}]", "2024-99-99"):
        (tmp_path / "own.yaml").write_text(content)
        with pytest.raises(NescioError, match=r"own\.yaml: "):
            load_detector("presidio:en_core_web_sm", recognizers=tmp_path / "own.yaml")


def test_recognisers_need_presidio(tmp_path: Path) -> None:
    with pytest.raises(NescioError, match="has no recognizers; these have: presidio"):
        load_detector("spacy:en_core_web_sm", recognizers=tmp_path / "own.yaml")
