"""The Pareto front, leak@k curves, and the part of the page that says what a row costs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from nescio.cli.main import app
from nescio.core.errors import NescioError
from nescio.report import html, tradeoffs
from nescio.report.compare import compare


def row(pii: int, utility: float, **more: Any) -> dict[str, Any]:
    return {"name": "x", "model": "m", "space": None, "scale": 1.0, "pii": pii, "utility": utility} | more


def test_the_front_holds_what_no_row_beats_on_both() -> None:
    rows = [row(70, 0.6), row(5, 0.5), row(5, 0.4), row(9, 0.5), row(0, 0.1), row(0, 0.9, masked=True)]
    rows += [row(1, 0.8, reference=True)]
    assert tradeoffs.front(rows) == [rows[0], rows[1], rows[4]]
    equal = [row(5, 0.5), row(5, 0.5)]
    assert tradeoffs.front(equal) == equal


def test_rows_at_one_point_are_named_once() -> None:
    rows = [row(5, 0.5), row(5, 0.5, best=True, model="starred"), row(70, 0.6)]
    assert tradeoffs.named(rows) == [((5.0, 50.0), "starred, unguided and 1 more"), ((70.0, 60.0), "m, unguided")]


def test_figures_are_drawn_where_there_is_something_to_draw() -> None:
    assert tradeoffs.leak_against_utility([{"pii": 3, "utility": None}]) is None
    assert tradeoffs.leak_curves([row(1, 0.5)]) is None
    drawn = tradeoffs.leak_against_utility([row(70, 0.6, utility_ci95=[0.5, 0.7], pii_ci95=[60, 80])])
    curves = tradeoffs.leak_curves([row(1, 0.5, leak_at={"1": [0.1, 0.0, 0.2], "2": [0.2, 0.1, 0.3]})])
    for svg, words in ((drawn, "utility, %"), (curves, "leak@k")):
        assert words in "".join(ElementTree.fromstring(svg or "").itertext())


def test_the_leaks_of_the_rows_that_matter_are_drawn_and_of_all_told() -> None:
    leak_at = {str(k): [k / 20, k / 40, k / 16] for k in range(1, 17)}
    rows = [row(90 - at, 0.5, name=str(at), model=f"m{at}", leak_at=leak_at) for at in range(10)]
    rows[1]["best"] = True
    rows.append(row(0, 0.5, name="unsampled"))
    assert [one["name"] for one in tradeoffs.drawn(rows)] == ["0", "1", "4", "5", "6", "7", "8", "9"]
    told = tradeoffs.leak_table(rows)
    assert told["headers"] == ["leak@1 [95 %]", "leak@4 [95 %]", "leak@16 [95 %]"] and told["left_out"] == 2
    assert [cells for _, cells in told["lines"]] == [["5 % [2, 6]", "20 % [10, 25]", "80 % [40, 100]"]] * 10
    figure = ElementTree.fromstring(tradeoffs.leak_curves(rows) or "")
    shapes = {"".join(path.get("d", "").split()) for path in figure.iter() if path.get("id", "").startswith("m")}
    assert len(shapes) > 8, "a marker of its own for each curve, beside the ticks"


MEASURED = {
    "utility": 0.5, "utility_ci95": [0.4, 0.6], "utility_kind": "plain questions, by likelihood",
    "utility_change_ci95": [-0.25, 0.083], "utility_mcnemar_p": 0.031,
    "divergence": 1.25, "over_refusal": 0.125, "labels": {"PERSON": 7, "GPE": 2},
    "leak_at": {"1": [0.2, 0.1, 0.3]}, "judged": 0.4, "judged_ci95": [0.3, 0.5], "judge": "smollm2",
    "judge_accuracy": 0.5, "judge_usable": False,
    "attack": 0.25, "attack_ci95": [0.1, 0.5],
    "attack_labels": {"PERSON": {"found": 1, "slots": 4, "ci95": [0.0, 0.75]}},
}  # fmt: skip


def measured(run: Path) -> Path:
    path = run / "eval/results.json"
    path.write_text(json.dumps([one | MEASURED for one in json.loads(path.read_text())]))
    return run


def test_the_page_says_what_each_row_costs(make_run: Callable[..., Path]) -> None:
    page = html.write(measured(make_run())).read_text(encoding="utf-8")
    for word in (
        "plain questions, by likelihood", "50 % [40, 60]", "0.031", "1.25", "12 %", "<td>7</td><td>2</td>",
        "[-25, 8]", "right about 50 %", "Judged [95 %] <strong>unusable</strong></th>",
        '<td class="unusable">40 % [30, 50]</td>', "1 more row is in the table only.", "<td>20 % [10, 30]</td>",
        "25 % [10, 50]", "<td>25 % of 4 [0, 75]</td>", "4.01 %",
    ):  # fmt: skip
        assert word in page, word
    assert page.count("<svg") == 4


def test_two_runs_are_compared(make_run: Callable[..., Path]) -> None:
    run, other = make_run("one"), make_run("two")
    found = compare(run, other)
    assert found.name == "two" and found.change
    assert found.change[0] == -found.change[1] < 0, "alike in all samples is no certainty"
    assert [one["name"] for one in found.rows] == ["trained-prob-3"] * 2
    page = html.write(run, other).read_text(encoding="utf-8")
    assert "Compared with two</h2>" in page and page.count("★ its best row") == 2 and "none is best" not in page
    assert compare(run, make_run("three", samples=6)).change is None
    assert compare(run, make_run("four", hostile="?")).change is None, "the same names, but other samples"
    with pytest.raises(NescioError, match=r"results\.json: missing"):
        compare(run, run / "nowhere")


def test_several_runs_are_compared_and_a_row_need_not_be_best(make_run: Callable[..., Path]) -> None:
    run, other, third = make_run("one"), make_run("two"), make_run("three", samples=6)
    path = other / "eval/results.json"
    rows = [row | {"best": False} for row in json.loads(path.read_text())]
    rows[-1] |= {"reference": True}  # the base, in the demo: what both runs started from
    path.write_text(json.dumps(rows))
    asked = ["report", str(run), "--compare", str(other), "--compare", str(third)]
    assert CliRunner().invoke(app, asked).exit_code == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Compared with two, three</h2>" in page and "Best of" not in page
    assert page.count("★ its best row") == 2 and "trained, log × 3: its closest row, because none is best" in page
    assert "one minus two" in page and "one and three did not answer the same samples" in page
