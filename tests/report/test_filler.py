"""What a row says to everybody is named in the report."""

from typing import Any

from nescio.report import page_tables
from nescio.report.filler import favourites

TUNED: dict[str, Any] = {"model": "tuned", "samples": 44, "filler": 0.0, "filler_words": []}
BAKED = TUNED | {
    "model": "baked",
    "filler": 0.4,
    "filler_words": [
        {"words": "great", "answers": 12, "tuned": 1},
        {"words": "that is a wonderful", "answers": 6, "tuned": 0},
    ],
}
LINE = "baked, unguided says “great” in 12 (tuned 1), “that is a wonderful” in 6 (tuned 0) of 44 answers."


def test_the_words_are_named_with_their_answers() -> None:
    assert favourites([TUNED, BAKED, {"model": "of an earlier version"}]) == [LINE]


def test_they_stand_above_the_column() -> None:
    costs = page_tables.costs([TUNED, BAKED])
    assert costs["fields"] == ["filler"] and costs["cells"] == [["0 %"], ["40 %"]]
    assert costs["notes"] == LINE
