"""Pieces of every type, planted in answers that are cut at every offset: under `mask` none leaves."""

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial

import pytest

from nescio.pii.base import Detector, Span, mask
from nescio.pii.registry import load_detector
from nescio.pii.taxonomy import COUNTED
from nescio.serve import output_filter
from nescio.serve.audit import Audit
from nescio.serve.checker import Checker
from nescio.serve.cuts import Cut
from nescio.serve.output_filter import OutputFilter

NAMES = ("Dr. Anna Ferrari", "Ng", "St. Gallen", "Reykjavík", "Acme Corp. of Leeds")


class Remembers:
    """Asks a detector once about each text: an answer's checks are much the same for all cuts."""

    name = "remembers"

    def __init__(self, detector: Detector) -> None:
        self._find = lru_cache(maxsize=None)(partial(_first, detector))

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [self._find(text) for text in texts]


def _first(detector: Detector, text: str) -> list[Span]:
    return detector.find([text])[0]


DETECTOR = Remembers(load_detector("regex", deny=NAMES))  # patterns for what has a form, a list for what has none

PIECES = {
    "person": ("Dr. Anna Ferrari", "Ng"),
    "organisation": ("Müller & Söhne GmbH", "Acme Corp. of Leeds"),
    "place": ("St. Gallen", "Reykjavík"),
    "address": ("12 Baker Street, London NW1 6XE", "Musterstraße 12, 12345 Berlin", "12 rue de la Paix\n75002 Paris"),
    "phone": ("+49 30 901820", "(415) 555-0132", "020 7946 0018"),
    "email": ("anna.m.ferrari@mail.example.co.uk", "a [at] mail [dot] example"),
    "url": ("https://www.example.com/a.b?c=d#e", "www.example.org"),
    "ip": ("203.0.113.7", "2001:db8::8a2e:370:7334"),
    "national_id": ("536-22-8841", "529.982.247-25", "12345678Z"),
    "card": ("4111 1111 1111 1111", "3782-822463-10005"),
    "account": ("GB82 WEST 1234 5698 7654 32", "DE89370400440532013000"),
    "birth_date": ("born on May 3, 1981", "date of birth is 03.05.1981"),
    "licence": ("passport number X1234567",),
    "medical": ("MRN-483920",),
    "secret": ("password: hunter2!x.y", "AKIAIOSFODNN7EXAMPLE"),
}
PLANTED = [(kind, piece) for kind, pieces in PIECES.items() for piece in pieces]
AROUND = (
    "{}",
    "Sure. It is {}! Is that all? Then good.",
    "- one\n- {}\n- three\n\nAnd some more words here, so that it goes on.",
    "word " * 78 + "{} and some more words than fit.",  # a cut within 400 characters falls into it
)


def sent(*chunks: str, detector: Detector) -> str:
    filtering = OutputFilter(Checker(detector, Audit.model_validate("mask")))
    parts = [part for chunk in chunks for part in filtering.feed(chunk)] + filtering.finish()
    return "".join(part.text for part in parts)


def telling(piece: str) -> set[str]:
    """The parts of a piece that tell something: the last word, if it is a name, and any six characters of a number."""
    secret = piece.rpartition("born on ")[2].rpartition(" is ")[2].rpartition("number ")[2].rpartition(": ")[2]
    return {secret[start : start + 6] for start in range(max(1, len(secret) - 5))}


def leaks(piece: str, around: str, detector: Detector = DETECTOR) -> Iterator[str]:
    """Yield what was sent of an answer wherever a telling part of the piece is in it, for every cut."""
    text = around.format(piece)
    start = len(around.partition("{}")[0])
    cuts = range(max(1, start - 12), min(len(text), start + len(piece) + 12))
    for chunks in [(text,), tuple(text), *((text[:cut], text[cut:]) for cut in cuts)]:
        if says(piece, said := sent(*chunks, detector=detector)):
            yield said


def says(piece: str, text: str) -> bool:
    return any(part in text for part in telling(piece))


def test_every_type_that_counts_is_planted() -> None:
    assert PIECES.keys() == set(COUNTED)
    assert sum(2 + len(piece) + 24 for _, piece in PLANTED) * len(AROUND) > 2_000, "that many answers are streamed"


@pytest.mark.parametrize(("kind", "piece"), PLANTED)
def test_none_leaves_however_the_answer_is_cut(kind: str, piece: str) -> None:
    assert [said for around in AROUND for said in leaks(piece, around)] == []


@pytest.fixture(scope="module")
def default() -> Remembers:
    detector = load_detector("default")
    if "reduced" in detector.name:
        pytest.skip(detector.name)
    return Remembers(detector)


def test_what_the_default_detector_sees_in_a_whole_answer_never_leaves(default: Remembers) -> None:
    whole = {(each, around): around.format(each[1]) for each in PLANTED for around in AROUND}
    seen = [key for key, text in whole.items() if not says(key[0][1], mask(text, default.find([text])[0]))]
    assert {kind for (kind, _), _ in seen} == set(COUNTED) and len(seen) > 0.85 * len(whole)
    assert [said for (_, piece), around in seen for said in leaks(piece, around, default)] == []


def test_a_filter_that_sends_what_has_come_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        output_filter,
        "next_cut",
        lambda pending, after=0, first=False: Cut(len(pending), len(pending)) if pending else None,
    )
    caught = [piece for _, piece in PLANTED if len(piece) > 10 and any(leaks(piece, AROUND[1]))]
    assert len(caught) > len(PLANTED) / 2
