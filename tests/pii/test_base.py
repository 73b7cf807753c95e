"""Detectors: what counts, where it stands in the text, and what is refused; and the count of a file."""

import json
from pathlib import Path

import pytest
import spacy

from nescio.core.errors import NescioError
from nescio.data.texts import read_texts
from nescio.pii.base import Detector, find_behind
from nescio.pii.registry import load_detector
from nescio.pii.scan import counts, scan

TEXTS = [
    "Anna Ferrari moved from Geneva to Paris in March 2021 with three cats.",
    "",
    "The 🌳 of Maria Rossi in Rome — her first.",
    "Nothing here.",
]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector("spacy:en_core_web_sm")


def test_spans_stand_where_they_say_in_order_and_ignored_labels_are_left_out(detector: Detector) -> None:
    found = detector.find(TEXTS)
    assert len(found) == len(TEXTS)
    for text, spans in zip(TEXTS, found, strict=True):
        assert all(text[span.start : span.end] == span.text for span in spans)
        assert [span.start for span in spans] == sorted(span.start for span in spans)
    assert {"Anna Ferrari", "Geneva", "Paris"} <= {span.text for span in found[0]}
    labels = {span.label for spans in found for span in spans}
    assert not labels & {"CARDINAL", "DATE", "PRODUCT", "ORDINAL"}
    assert found[1] == []


@pytest.mark.parametrize(
    ("beginning", "text", "pieces"),
    [
        ("Ann Lee was born on", " May 21, 1992. She sings.", ["May 21, 1992"]),
        ("Ann Lee was born on", "May 21, 1992, they say.", ["May 21, 1992"]),
        ("The shop opened on", " May 21, 1992. She sings.", []),
        ("", "Ann was born on May 21, 1992.", ["May 21, 1992"]),
        ("Call 415-", "555-0101 today.", ["555-0101"]),  # begins before
        ("Visit me at 12 Baker", " street, please.", []),  # the rest tells nothing
        ("Call +1 415", " 555 0101 today.", ["555 0101"]),
        ("Call 415-555-0101", " or 415-555-0102.", ["415-555-0102"]),
        ("Call 415-555-0101", "", []),
    ],
)
def test_what_stands_before_a_text_tells_what_is_in_it(beginning: str, text: str, pieces: list[str]) -> None:
    (found,) = find_behind(load_detector("regex"), [beginning], [text])
    assert [span.text for span in found] == pieces
    assert all(text[span.start : span.end] == span.text for span in found)


def test_ignore_can_be_emptied_and_widened() -> None:
    everything = load_detector("spacy:en_core_web_sm", ignore=()).find(TEXTS[:1])[0]
    assert {"DATE", "CARDINAL", "PERSON"} <= {span.label for span in everything}
    nobody = load_detector("spacy:en_core_web_sm", ignore=("PERSON",)).find(TEXTS[:1])[0]
    assert "PERSON" not in {span.label for span in nobody}


def test_a_text_alone_gives_what_it_gives_among_others(detector: Detector) -> None:
    assert [detector.find([text])[0] for text in TEXTS] == detector.find(TEXTS)


@pytest.mark.parametrize("name", ["", "spacy", "spacy:", "regex:mail"])
def test_an_unknown_kind_is_one_line(name: str) -> None:
    with pytest.raises(NescioError, match=r"spacy:MODEL"):
        load_detector(name)


def test_a_pipeline_that_is_missing_or_has_no_recogniser_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NescioError, match="not installed"):
        load_detector("spacy:xx_none")
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(NescioError, match="no entity recogniser"):
        load_detector(f"spacy:{tmp_path / 'blank'}")


def test_a_file_is_counted_by_label(tmp_path: Path, detector: Detector) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [TEXTS[0], {"text": TEXTS[2]}, {"other": TEXTS[0], "answer": TEXTS[3]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    counted = counts(scan(read_texts(path), detector))
    assert counted["labels"]["PERSON"] >= 2
    assert counted["total"] == sum(counted["labels"].values()) == sum(map(len, detector.find(TEXTS)))
    with pytest.raises(NescioError, match=r"rows.jsonl:2: .*--field"):
        counts(scan(read_texts(path, "other"), detector))
