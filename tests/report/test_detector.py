"""What the detector sees stands under the table, in the terminal and on the page."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nescio.core.errors import NescioError
from nescio.report import html, table, verdict
from nescio.report.detector import seen

ALL = {"pieces": 349, "recall": 0.851, "recall_ci95": [0.81, 0.885]}
SHARES = {
    "all": ALL,
    "person": {"pieces": 163, "recall": 0.95, "recall_ci95": [0.9, 0.98]},
    "phone": {"pieces": 9, "recall": 0, "recall_ci95": [0, 0.3]},
}
WORDS = (
    "Detector: one. It sees 85 % [81, 88] of 349 recorded pieces; the column PII lacks the others. "
    "Seen well: person 95 % [90, 98] of 163. Seen less: phone 0 % [0, 30] of 9."
)


def rows_with(run: Path, **fields: Any) -> list[dict[str, Any]]:
    path = run / "eval/results.json"
    rows = [row | fields for row in json.loads(path.read_text())]
    path.write_text(json.dumps(rows))
    return rows


def test_it_is_said_under_the_table(make_run: Callable[..., Path]) -> None:
    run = make_run()
    rows = rows_with(run, detector="one", detector_seen=SHARES)
    assert seen(rows) == WORDS
    assert f"|\n\n{WORDS}\n\n" in verdict.summary(rows)
    page = html.write(run).read_text()
    assert page.index('id="numbers"') < page.index(WORDS) < page.index('id="answers"')


def test_where_nothing_is_recorded_it_says_how_to_find_out(make_run: Callable[..., Path]) -> None:
    rows = rows_with(make_run(), detector="one")
    assert "how much it sees is not known; `nescio detect check" in verdict.summary(rows)


def test_runs_of_earlier_versions_have_no_such_line(make_run: Callable[..., Path]) -> None:
    run = make_run()
    assert seen(table.read(run)) is None
    assert "Detector:" not in html.write(run).read_text()


def test_what_is_not_looked_for_is_no_miss(make_run: Callable[..., Path]) -> None:
    rows = rows_with(make_run(), detector="one", detector_seen=SHARES, detector_not_looked_for={"date": 30, "money": 2})
    assert seen(rows) == f"{WORDS} Not looked for: 30 date, 2 money."
    other = make_run("other")
    rows_with(other, detector="one", detector_seen=SHARES, detector_not_looked_for={"date": "many"})
    with pytest.raises(NescioError, match="detector_not_looked_for must hold a number"):
        table.read(other)


@pytest.mark.parametrize("wrong", [[], {"person": ALL}, {"all": ALL | {"recall": "x"}}, {"all": {"pieces": 3}}])
def test_what_cannot_be_shown_is_one_line(make_run: Callable[..., Path], wrong: Any) -> None:
    run = make_run()
    rows_with(run, detector="one", detector_seen=wrong)
    with pytest.raises(NescioError, match=r"results\.json: row 1: detector_seen must hold"):
        table.read(run)
