"""Recall and precision against counts made by hand, and a detector that sees too little is caught."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nescio.core.errors import NescioError
from nescio.core.files import write_jsonl
from nescio.pii.base import Span
from nescio.pii.check import check, few_of_each
from nescio.pii.labelled import Labelled, read_labelled


class Said:
    """A detector that finds these words, each with its label."""

    name = "said"

    def __init__(self, **words: str) -> None:
        self._words = {word.replace("_", " "): label for word, label in words.items()}

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [
            [Span(t.index(w), t.index(w) + len(w), label, w) for w, label in self._words.items() if w in t]
            for t in texts
        ]


def _labelled(text: str, **pieces: str) -> Labelled:
    words = {word.replace("_", " "): label for word, label in pieces.items()}
    return Labelled("here", text, [Span(text.index(w), text.index(w) + len(w), k, w) for w, k in words.items()])


def test_counts_by_hand() -> None:
    texts = [
        _labelled("Ask Anna Lee of Rome.", Anna_Lee="person", Rome="place"),
        _labelled("Ask Anna Lee of Oslo.", Anna_Lee="person", Oslo="place"),
        _labelled("Nobody here."),
    ]
    done = check(texts, Said(Anna="PERSON", Rome="GPE", Nobody="PERSON", Oslo="PERSON"))
    row = done.as_row()
    assert row["texts"] == 3
    person, place = row["types"]["person"], row["types"]["place"]
    assert (person["pieces"], person["seen"], person["recall"]) == (2, 0, 0)  # 4 of 8 characters are not 90 %
    assert (place["pieces"], place["seen"], place["recall"]) == (2, 2, 1)  # whatever the type
    assert (person["found"], person["right"]) == (4, 3)  # Anna of Anna Lee has an IoU of 4/8, Oslo of 1
    assert person["precision"] == pytest.approx((4 + 4 + 4) / (4 + 4 + 6 + 4))
    assert place["precision"] == place["span_precision"] == 1
    assert row["all"]["recall"] == 0.5 and row["all"]["found"] == 5
    assert row["all"]["recall_ci95"] == pytest.approx([0.15, 0.85], abs=0.005)  # Wilson, 2 of 4
    assert [example.text for example in done.missed] == ["Anna Lee", "Anna Lee"]
    assert [(e.text, e.context, e.place) for e in done.false_alarms] == [("Nobody", "[[Nobody]] here.", "here")]
    assert [example.text for example in few_of_each(done.missed, 3)] == ["Anna Lee"]


def test_what_is_not_looked_for_is_no_miss() -> None:
    text = _labelled("Ask Anna, it is 5 May and 3 euros", Anna="person", **{"5 May": "date", "3 euros": "money"})
    said = Said(Anna="PERSON", **{"5 May": "PERSON"})
    every, some = check([text], said).as_row(), check([text], said, ["person"]).as_row()
    assert (every["all"]["recall"], every["types"]["money"]["recall"], every["not_looked_for"]) == (2 / 3, 0, {})
    assert (some["all"]["recall"], some["not_looked_for"]) == (1, {"date": 1, "money": 1})
    own = check([text], said, ["person"], labels=["money"]).as_row()
    assert own["not_looked_for"] == {"date": 1} and own["types"]["money"]["pieces"] == 1, "by the user's own pattern"
    assert "money" not in some["types"] and some["types"]["person"]["precision"] == 1, "a labelled piece all the same"


def test_ninety_percent_is_the_border() -> None:
    text = _labelled("x 0123456789 y", **{"0123456789": "phone"})
    for covered, seen in ((9, 1), (8, 0)):
        assert check([text], Said(**{"0123456789"[:covered]: "PHONE"})).types["phone"].seen == seen
    assert check([text], Said(**{"01234": "AGE", "56789": "ID"})).types["phone"].seen == 1


def test_a_broken_detector_is_caught() -> None:
    texts = [_labelled(f"Call 555 010{n}.", **{f"555_010{n}": "phone"}) for n in range(10)]
    fine = check(texts, Said(**{f"555_010{n}": "PHONE_NUMBER" for n in range(10)})).as_row()["all"]
    broken = check(texts, Said(**{f"555_010{n}": "PHONE_NUMBER" for n in range(5)})).as_row()["all"]
    shouting = check(texts, Said(**{f"Call_555_010{n}.": "PHONE_NUMBER" for n in range(10)}, Call="PERSON"))
    assert fine["recall"] == fine["precision"] == fine["span_precision"] == 1
    assert broken["recall"] == 0.5 and broken["recall_ci95"][1] < 1
    assert shouting.as_row()["all"]["recall"] == 1 and shouting.as_row()["all"]["precision"] < 0.6


def test_labels_of_no_type_keep_their_row() -> None:
    row = check([_labelled("My pet is Rex.", Rex="PET")], Said()).as_row()
    assert list(row["types"]) == ["pet"] and row["all"]["precision"] is None


@given(st.text("ab ", max_size=20), st.data())
def test_what_is_labelled_is_seen_by_the_labels(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    spans = [Span(a, b, "person", text[a:b]) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]

    class Perfect:
        name = "perfect"

        def find(self, texts: Sequence[str]) -> list[list[Span]]:
            return [spans for _ in texts]

    row = check([Labelled("", text, spans)], Perfect()).as_row()
    assert row["all"]["recall"] == row["all"]["precision"] == row["all"]["span_precision"] == (1 if spans else None)


ROW = {"text": "Ask Jane Doe.", "spans": [{"start": 4, "end": 12, "label": "PERSON", "value": "Jane Doe"}]}


def test_what_is_labelled_twice_is_one_piece(tmp_path: Path) -> None:
    span = {"start": 4, "end": 7, "label": "person"}
    write_jsonl(tmp_path / "a.jsonl", [{"text": "Ask Ann.", "spans": [span, span | {"label": "place"}, span]}])
    (read,) = read_labelled(tmp_path / "a.jsonl")
    assert [piece.label for piece in read.spans] == ["person", "place"]


def test_labelled_texts_are_read(tmp_path: Path) -> None:
    rows = [ROW, {"text": "é", "spans": []}, {"text": "5 x", "spans": [{"start": 0, "end": 1, "type": "age"}]}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    one, two, three = read_labelled(tmp_path / "a.jsonl")
    assert (one.text, one.spans) == ("Ask Jane Doe.", [Span(4, 12, "PERSON", "Jane Doe")])
    assert not two.spans and three.spans == [Span(0, 1, "age", "5")]
    assert three.place == f"{tmp_path / 'a.jsonl'}:3"


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ({"end": 99}, r"a\.jsonl:1: spans\[0\]: 4 to 99 is not inside the text, which has 13 characters"),
        ({"start": 12}, r"spans\[0\]: 12 to 12 is not inside"),
        ({"start": -1}, r"spans\[0\]: -1 to 12 is not inside"),
        ({"start": 1.0}, r"spans\[0\]\.start: must be a whole number, is 1\.0"),
        ({"end": None}, r"spans\[0\]\.end: must be a whole number, is None"),
        (
            {"start": 5},
            r"spans\[0\]\.value: is 'Jane Doe', but the text has 'ane Doe' at 5 to 12; it stands at 4 to 12",
        ),
        ({"value": "Bob"}, r"spans\[0\]\.value: is 'Bob', but .* correct the value, or start and end"),
        ({"label": " "}, r"spans\[0\]\.label: missing or no text"),
    ],
)
def test_wrong_spans_are_named(tmp_path: Path, span: dict[str, object], message: str) -> None:
    row = ROW | {"spans": [ROW["spans"][0] | span]}  # type: ignore[index,operator]
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    with pytest.raises(NescioError, match=message):
        list(read_labelled(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x", "text: missing or no text"),
        ({"text": 5, "spans": []}, "text: missing or no text"),
        ({"text": "x"}, "spans: missing or no list"),
        ({"text": "x", "spans": [3]}, r"spans\[0\]: not an object"),
        ({"text": "x \ud83d", "spans": []}, "text: holds half a character at 2"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, row: object, message: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "", "spans": []}\n' + json.dumps(row))
    with pytest.raises(NescioError, match=rf"a\.jsonl:2: {message}"):
        list(read_labelled(tmp_path / "a.jsonl"))
