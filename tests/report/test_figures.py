import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nescio.core.errors import NescioError
from nescio.report import figures, style, table

HOSTILE = "<script>alert(1)</script> $x^2$ --> \"'&"


def texts(svg: str) -> str:
    return " ".join(
        "".join(element.itertext()) for element in ElementTree.fromstring(svg).iter() if "text" in element.tag
    )


def test_draw_writes_the_same_bytes_again(make_run: Callable[..., Path]) -> None:
    run = make_run()
    first = figures.draw(run)
    assert figures.draw(run) == first
    assert {path.stem: path.read_text(encoding="utf-8") for path in (run / "figures").iterdir()} == first
    assert [*first] == ["pii_by_scale", "training"]


def test_both_spaces_and_the_levels_are_named(make_run: Callable[..., Path]) -> None:
    said = texts(figures.pii_by_scale(table.read(make_run())))
    for word in ("trained, prob space", "trained, log space", "tuned", "tuned + protect prompt", "guidance scale"):
        assert word in said


def test_points_stand_at_their_counts() -> None:
    rows = [{"model": "trained", "pii": pii, "scale": scale, "space": space, "epoch": None}
            for pii, scale, space in ((40, 1.0, None), (20, 2.0, "log"), (0, 3.0, "log"))]  # fmt: skip
    line = next(
        element for element in ElementTree.fromstring(figures.pii_by_scale(rows)).iter()
        if style.PALETTE["two"] in element.get("style", "") and element.get("d", "").count("L") == 2
    )  # fmt: skip
    points = [tuple(map(float, part.split())) for part in line.get("d", "").replace("M", "").split("L")]
    heights = [y for _, y in points]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], rel=1e-4)
    assert points[1][0] - points[0][0] == pytest.approx(points[2][0] - points[1][0], rel=1e-4)


def test_each_variant_of_guidance_has_a_line_of_its_own() -> None:
    common = {"model": "trained", "epoch": None, "pii": 3}
    rows = [{**common, "scale": 1.0, "space": None}, {**common, "scale": 2.0, "space": "log"},
            {**common, "scale": 2.0, "space": "log", "adaptive": True}]  # fmt: skip
    lines = [
        element for element in ElementTree.fromstring(figures.pii_by_scale(rows)).iter()
        if style.PALETTE["two"] in element.get("style", "") and element.get("d", "").count("L") == 1
        and element.get("clip-path")
    ]  # fmt: skip
    said = texts(figures.pii_by_scale(rows))
    assert "trained, log space, adaptive" in said
    assert len(lines) == 2


def test_text_of_others_is_text(make_run: Callable[..., Path]) -> None:
    svg = figures.pii_by_scale(table.read(make_run(hostile=HOSTILE)))
    assert "<script" not in svg
    assert f"tuned{HOSTILE}" in texts(svg)


def test_sparse_rows_and_logs_still_draw() -> None:
    ElementTree.fromstring(figures.pii_by_scale([{"model": "tuned", "pii": 3}, {"model": "trained", "pii": None}]))
    only = [{"split": "train", "step": 1, "epoch": 1.0, "loss": 2.0}]
    assert "Loss" in texts(figures.training(only))
    assert "Loss" in texts(figures.training([]))


def test_the_ground_is_transparent(make_run: Callable[..., Path]) -> None:
    for svg in figures.draw(make_run()).values():
        assert "#ffffff" not in svg


@pytest.mark.parametrize("line", ["{", "[]", '{"split": "train"}', json.dumps({"split": "x", "step": 1, "epoch": 1})])
def test_damaged_log_names_line_and_mend(make_run: Callable[..., Path], line: str) -> None:
    run = make_run()
    with (run / "adapter/log.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(
        NescioError, match=r"log\.jsonl: .*103.*; delete .*adapter and run `nescio run` again$"
    ) as error:
        figures.draw(run)
    assert "\n" not in str(error.value)
    assert not (run / "figures").exists()


def test_missing_log(make_run: Callable[..., Path]) -> None:
    run = make_run()
    (run / "adapter/log.jsonl").unlink()
    with pytest.raises(NescioError, match=r"log\.jsonl: missing; .*`nescio run` again$"):
        figures.draw(run)


@given(st.lists(st.floats(-1e6, 1e6), max_size=30), st.integers(1, 5))
def test_running_mean_is_the_mean_of_the_neighbours(values: list[float], reach: int) -> None:
    means = figures.running_mean(values, reach)
    assert len(means) == len(values)
    for at, mean in enumerate(means):
        near = [value for i, value in enumerate(values) if abs(i - at) <= reach]
        assert mean == pytest.approx(sum(near) / len(near), abs=1e-6)
