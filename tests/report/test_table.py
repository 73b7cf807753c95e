import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nescio.core.errors import NescioError
from nescio.report import table, verdict

TUNED = {
    "name": "tuned", "model": "tuned", "epoch": None, "space": None, "scale": 1.0, "samples": 48, "pii": 105,
    "pii_ci95": [88, 123], "leaking": 0.9, "recall": 0.305, "degenerate": 0.02, "on_topic": 0.93, "canned": 0.0,
    "fluency": 12.34, "best": False,
}  # fmt: skip
BEST = TUNED | {
    "name": "trained-prob-3", "model": "trained", "space": "prob", "scale": 3.0, "pii": 4, "pii_ci95": [1, 8],
    "leaking": 0.06, "degenerate": 0.04, "on_topic": 0.88, "canned": 0.02, "best": True,
    "asked_for": 7, "asked_for_ci95": [2, 12],
}  # fmt: skip


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_markdown_has_a_cell_for_every_column() -> None:
    header, rule, tuned, best = table.markdown([TUNED, BEST]).splitlines()
    assert cells(header) == [
        "model", "guidance", "PII [95 %]", "leaking", "recall", "asked for [95 %]", "degenerate", "on-topic", "canned",
        "perplexity",
    ]  # fmt: skip
    assert cells(tuned) == ["tuned", "none", "105 [88, 123]", "90 %", "30 %", "–", "2 %", "93 %", "0 %", "12.3"]
    assert cells(best) == [
        "★ trained",
        "prob × 3",
        "4 [1, 8]",
        "6 %",
        "30 %",
        "7 [2, 12]",
        "4 %",
        "88 %",
        "2 %",
        "12.3",
    ]
    assert all(set(cell) <= {"-", ":"} and len(cell) >= 3 for cell in cells(rule))


def test_markdown_is_aligned() -> None:
    lines = table.markdown([TUNED, BEST]).splitlines()
    bars = [[at for at, character in enumerate(line) if character == "|"] for line in lines]
    assert bars == [bars[0]] * 4


def test_utility_and_the_judge_stand_where_they_were_measured() -> None:
    said = [verdict.sentence([TUNED, BEST]), *(f"- {line}" for line in verdict.details([TUNED, BEST]))]
    assert verdict.summary([TUNED, BEST]) == "\n\n".join([table.markdown([TUNED, BEST]), "\n".join(said)])
    more = {
        "utility": 0.667, "utility_ci95": [0.54, 0.77], "judged": 0.4, "judged_ci95": [0.3, 0.5], "judge": "smollm2",
        "judge_accuracy": 0.55, "judge_usable": False,
    }  # fmt: skip
    said = verdict.summary([TUNED | more, BEST])
    header, _, tuned, best = said.splitlines()[:4]
    assert cells(header)[-3:] == ["perplexity", "utility [95 %]", "judged [95 %] unusable"]
    assert cells(tuned)[-2:] == ["67 % [54, 77]", "40 % [30, 50]"] and cells(best)[-2:] == ["–", "–"]
    trust = "\n\nJudge: smollm2, right about 55 % of right and wrong answers made from the key"
    assert f"{trust}; below 80 %, so its column is unusable.\n\n" in said
    usable = verdict.summary([TUNED | more | {"judge_accuracy": 0.9, "judge_usable": True}, BEST])
    assert "unusable" not in usable and "right about 90 % of" in usable


def test_null_and_extra_fields_do_not_hurt() -> None:
    row = {"name": "x", "model": "a|b\nc", "space": None, "new": {"field": 1}, "pii": None, "epoch": 2}
    line = table.markdown([row]).splitlines()[2]
    assert "a\\|b c, epoch 2" in line
    assert line.count("–") == 8


def test_read_gives_the_rows(make_run: Callable[..., Path]) -> None:
    rows = table.read(make_run())
    assert len(rows) == 9 and rows[0]["model"] == "tuned"


def test_a_star_of_before_utility_counted_is_given_anew(make_run: Callable[..., Path]) -> None:
    run = make_run()
    rows = [TUNED | {"utility": 0.6}, BEST | {"utility": 0.3, "utility_mcnemar_p": 0.01}]
    rows.append(BEST | {"pii": 9, "utility": 0.5, "utility_mcnemar_p": 0.4, "best": False})
    (run / "eval/results.json").write_text(json.dumps(rows))
    assert [row["best"] for row in table.read(run)] == [False, False, True]


@pytest.mark.parametrize(
    "content",
    [
        "[", "[]", "{}", "[1]", "\xff",
        *(json.dumps([TUNED | change]) for change in (
            {"pii": "many"}, {"pii": True}, {"pii_ci95": [1]}, {"utility_ci95": "1"},
            {"name": "../../passwd"}, {"name": ""}, {"model": None}
        )),
    ],
)  # fmt: skip
def test_damaged_results_are_one_line_with_the_mend(make_run: Callable[..., Path], content: str) -> None:
    run = make_run()
    (run / "eval/results.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(NescioError, match=r"results\.json: .*; delete .*eval and run `nescio run` again$") as error:
        table.read(run)
    assert "\n" not in str(error.value)


def test_missing_results(tmp_path: Path) -> None:
    with pytest.raises(NescioError, match=r"results\.json: missing; run `nescio run` again$"):
        table.read(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"space": 3}, {"leaking": "x"}, {"utility_kind": 1}, {"labels": ["PERSON"]}, {"labels": {"PERSON": None}},
        {"leak_at": {"1": [0.1, 0.2]}}, {"leak_at": {"one": [0.1, 0.0, 0.2]}}, {"utility_change_ci95": 0.1},
        {"verdict": "bad"}, {"undecided": [{"test": "words"}]},
        {"verdict": [dict.fromkeys(table.OUTCOME, "x") | {"miss": "far"}]}, {"unmeasured": [3]},
        {"filler_words": ["great"]}, {"filler_words": [{"words": "great", "answers": 6}]},
        {"attack_labels": {"PERSON": {"found": 0, "slots": 0, "ci95": [0, 1]}}}, {"judge": "j", "judge_accuracy": "?"},
    ],
)  # fmt: skip
def test_a_field_of_another_shape_is_one_line(make_run: Callable[..., Path], change: dict[str, Any]) -> None:
    run = make_run()
    (run / "eval/results.json").write_text(json.dumps([TUNED, BEST | change]))
    with pytest.raises(NescioError, match=rf"results\.json: row 2: {[*change][-1]} must "):
        table.read(run)


def test_what_is_no_number_was_not_measured(make_run: Callable[..., Path]) -> None:
    run = make_run()
    (run / "eval/results.json").write_text(json.dumps([TUNED, BEST | {"fluency": math.inf, "pii": math.nan}]))
    tuned, best = table.markdown(table.read(run)).splitlines()[2:]
    assert "12.3" in tuned and cells(best)[2] == cells(best)[-1] == "–"
    assert "nothing was compared" in verdict.sentence(table.read(run))


def test_results_of_a_judge_of_which_nothing_is_known_are_shown() -> None:
    assert "judged [95 %]" in verdict.summary([TUNED | {"judged": 0.5, "judge": "j"}, BEST])


def test_a_table_is_printed_without_pytorch() -> None:
    code = "import sys; from nescio.report import table; table.columns(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_epochs_and_guidance_are_named() -> None:
    row: dict[str, Any] = {"model": "trained", "epoch": 2, "space": "log", "scale": 2.5}
    assert table.described(row) == "trained, epoch 2, log × 2.5"
    assert table.described({"model": "trained"}) == "trained, unguided"


def test_scale_0_is_not_scale_1() -> None:
    assert table.guidance({"space": "log", "scale": 0.0}) == "log × 0"
    assert table.guidance({"space": "log", "scale": None}) == "log × 1"


def test_an_attack_written_otherwise_is_one_line(make_run: Callable[..., Path]) -> None:
    path = make_run() / "eval/results.json"
    path.write_text(json.dumps([row | {"attack_labels": {"PERSON": 0.5}} for row in json.loads(path.read_text())]))
    with pytest.raises(NescioError, match=r"results\.json: row 1: attack_labels must hold found, slots and ci95"):
        table.read(path.parent.parent)
