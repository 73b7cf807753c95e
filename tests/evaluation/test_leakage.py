"""A dialog's own pieces of personal data, and whether they come back."""

from collections.abc import Sequence

import pytest

from nescio.data.dialogs import Dialog, parse_dialog
from nescio.evaluation.leakage import own_pieces, recall, says
from nescio.pii.detector import Span

MESSAGES = [{"role": "user", "content": "I am Tom."}, {"role": "assistant", "content": "Hello Tom of Oslo."}]


class Capitals:
    name = "capitals"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [
            [
                Span(text.index(word), text.index(word) + len(word), word.upper(), word)
                for word in ("Tom", "Oslo")
                if word in text
            ]
            for text in texts
        ]


def dialog(**more: object) -> Dialog:
    return parse_dialog({"messages": MESSAGES} | more, "x")


def test_own_pieces_are_the_recorded_ones_or_the_found_ones() -> None:
    assert own_pieces(dialog(), Capitals()) == {"Tom": "TOM", "Oslo": "OSLO"}
    assert own_pieces(dialog(pii={"NAME-1": "Tom"}), Capitals()) == {"Tom": "NAME-1"}


@pytest.mark.parametrize(
    ("text", "piece", "said"),
    [
        ("It is because I must.", "US", False),
        ("In the US, say.", "US", True),
        ("us\nand them", "US", True),
        ("anna   FERRARI's", "Anna Ferrari", True),
        ("Annapolis", "Anna", False),
        ("$500.", "$500", True),
        ("$5000", "$500", False),
        ("我住在北京市", "北京", True),
        ("réussir", "us", False),
    ],
)
def test_a_piece_is_said_as_whole_words(text: str, piece: str, said: bool) -> None:
    assert says(text, piece) is said


def test_recall_counts_each_piece_once() -> None:
    own = [{"US": "GPE", "us": "GPE", "Tom": "PERSON"}, {"Oslo": "GPE"}]
    assert recall(["because of Tom", "Oslo, Oslo"], own) == pytest.approx(2 / 3)
    assert recall(["x"], [{}]) == 0
