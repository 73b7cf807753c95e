"""A sweep shows what each coefficient does: a table, a plot, a warning where the model comes apart."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from nescio.core.errors import NescioError
from nescio.pipeline.subtraction import show_sweep, write
from nescio.report.sweep import curves


@pytest.fixture(scope="module")
def pair(make_model: Any, make_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny base and a fine-tune that is far from it."""
    folder = tmp_path_factory.mktemp("pair")
    model, tokenizer = make_model("llama"), make_tokenizer()
    model.save_pretrained(folder / "base")
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    model.save_pretrained(folder / "tuned")
    for side in ("base", "tuned"):
        tokenizer.save_pretrained(folder / side)
    return folder / "base", folder / "tuned"


def test_a_sweep_prints_a_row_for_each_coefficient_and_draws_them(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, tuned = map(str, pair)
    show_sweep(base, tuned, "0.5,1", False, [], [], "spacy:en_core_web_sm", tmp_path / "sweep.svg")
    printed = capsys.readouterr().out
    assert [word in printed for word in ("0 is the base", "0.5", "perplexity")] == [True] * 3
    assert str(tmp_path / "sweep.svg") in printed.replace("\n", "")
    drawn = ElementTree.parse(tmp_path / "sweep.svg").getroot()
    assert "coefficient c" in {element.text for element in drawn.iter()}
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(("coefficients", "plot"), [("0.5,much", "sweep.svg"), ("0.5", "sweep.png")])
def test_what_is_no_number_and_no_svg_is_one_line(pair: tuple[Path, Path], coefficients: str, plot: str) -> None:
    base, tuned = map(str, pair)
    with pytest.raises(NescioError, match=r"--sweep 0\.5,much|--plot sweep\.png"):
        show_sweep(base, tuned, coefficients, False, [], [], "spacy:en_core_web_sm", Path(plot))


def test_the_figure_survives_a_model_that_says_nothing_finite() -> None:
    drawn = curves([0, 1, 0.5], [20.0, float("inf"), 40.0], [0, 1, 0.25], [3, 0, 1], [False, True, False])
    ElementTree.fromstring(drawn)
    assert drawn == curves([0, 1, 0.5], [20.0, float("inf"), 40.0], [0, 1, 0.25], [3, 0, 1], [False, True, False])


def test_a_refusal_is_one_line_and_a_written_model_has_a_bar(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, tuned = map(str, pair)
    with pytest.raises(NescioError, match="rank 0"):
        write(base, tuned, tmp_path / "out", rank=0)
    assert not capsys.readouterr().out
    (pair[0] / "chats.json").write_text("[]")
    write(base, tuned, tmp_path / "out")
    assert "bytes" in (said := capsys.readouterr().out) or "kB" in said
    assert "left behind in base, as no part of a model: chats.json;" in said


@pytest.mark.parametrize("coefficient", [0.0, 0.5])
def test_a_subtraction_that_changes_nothing_says_so(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], coefficient: float
) -> None:
    base, tuned = map(str, pair)
    write(base, base if coefficient else tuned, tmp_path / "out", coefficient=coefficient)
    assert "0 of 21 tensors changed" in (said := capsys.readouterr().out) and "\n! this is the base: " in said
