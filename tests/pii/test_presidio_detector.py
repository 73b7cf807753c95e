"""Presidio's recognisers: thresholds by type, languages, and a pipeline's entities beside them."""

import socket
from typing import Any

import pytest

from nescio.core.errors import NescioError
from nescio.pii.registry import load_detector

pytest.importorskip("presidio_analyzer")
TEXT = "Ask Tom Baker in Leeds: tom@example.com, card 4111 1111 1111 1111, phone 415-555-0132."


def found(name: str, text: str, **settings: Any) -> set[tuple[str, str]]:
    spans = load_detector(name, **settings).find([text])[0]
    assert all(text[span.start : span.end] == span.text for span in spans)
    return {(span.type, span.text) for span in spans}


def test_recognisers_need_no_pipeline_and_find_numbers_alone() -> None:
    assert found("presidio", TEXT) >= {
        ("email", "tom@example.com"), ("card", "4111 1111 1111 1111"), ("phone", "415-555-0132")
    }  # fmt: skip
    assert not found("presidio", TEXT) & {("person", "Tom Baker"), ("place", "Leeds")}
    assert found("presidio:en_core_web_sm", TEXT) >= {("person", "Tom Baker"), ("place", "Leeds")}


def test_a_number_without_right_check_digits_or_context_stays_below_the_threshold() -> None:
    text = "The values are 4111111111111112 and 123456789."
    assert found("presidio", text) == set()
    assert found("presidio", text, thresholds={"default": 0.0}) != set()


def test_a_language_without_a_model_is_said_once_and_patterns_still_work(caplog: pytest.LogCaptureFixture) -> None:
    text = "Proszę pisać na anna@example.com, PESEL 44051401359."
    with caplog.at_level("WARNING"):
        detector = load_detector("presidio:en_core_web_sm + regex", languages=["en", "pl"])
        kinds = {span.type for _ in range(2) for span in detector.find([text])[0]}
    assert kinds == {"email", "national_id"}
    assert [record.getMessage() for record in caplog.records] == [
        "detector presidio:en_core_web_sm + regex: no model of it reads pl; "
        "names are not found there, what has a form is"
    ]
    caplog.clear()
    load_detector("presidio:en_core_web_sm", languages=["en"])
    assert not caplog.records, "what is read is not said"


def test_thresholds_are_by_type() -> None:
    kinds = {kind for kind, _ in found("presidio", TEXT, thresholds={"phone": 0.95})}
    assert "phone" not in kinds and {"email", "card"} <= kinds
    kinds = {kind for kind, _ in found("presidio", TEXT, thresholds={"default": 1.0, "phone": 0.2})}
    assert "phone" in kinds


def test_each_languages_recognisers_are_asked() -> None:
    text = "El NIF de Ana es 12345678Z."
    assert ("national_id", "12345678Z") in found("presidio", text, languages=["en", "es"])
    assert found("presidio:en_core_web_sm", "Tom Baker is here.", languages=["es", "en"]) == {("person", "Tom Baker")}


@pytest.mark.parametrize(
    ("name", "languages", "message"),
    [
        ("presidio", "en", r"languages: 'en' is not a list; write it as \[en, de\]"),
        ("presidio", ["english"], "languages: 'english' is none that spaCy knows"),
        ("presidio", ["en", "ko"], "languages: 'ko': The Korean tokenizer .*; install that, or leave it out"),
        ("presidio:en_core_web_sm", ["de"], "the pipeline reads 'en', which languages lacks"),
    ],
)
def test_wrong_languages_are_one_line(name: str, languages: Any, message: str) -> None:
    with pytest.raises(NescioError, match=message):
        load_detector(name, languages=languages)


def test_it_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **more: Any) -> None:
        raise AssertionError("a detector makes no requests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert ("email", "tom@example.com") in found("presidio", TEXT)
