"""Whole comparisons on a tiny model: what is trained, resumed, chosen and refused."""

import importlib
import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from tiny_benchmarks import PEOPLE, write_lume, write_unlearnpii
from tiny_run import Quiet

from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl, write_json, write_jsonl
from nescio.reproduction.benchmarks import compare as comparing
from nescio.reproduction.benchmarks.asking import ModelAnswers, kept
from nescio.reproduction.benchmarks.compare import Comparison
from nescio.reproduction.benchmarks.methods import METHODS, chosen_methods, made_with
from nescio.reproduction.benchmarks.size import QUICK, Size
from nescio.training.batch import Likelihoods, Terms
from nescio.training.losses.registry import LOSSES, PairLoss

SMALL = Size(words=4, choosing_words=4, draws=2, rates=(1.0, 3.0), seeds=(0, 1))


def recipe(world: Path, folder: Path) -> Path:
    """The tiny run's recipe, for any dialogs."""
    own: dict[str, Any] = yaml.safe_load((world / "recipe.yaml").read_text())
    own["base"] = str(world / "base")
    own["tune"] |= {"epochs": 3, "learning_rate": 3e-3}
    own["train"] |= {"epochs": 2, "learning_rate": 2e-3}
    own["evaluate"] = {"max_tokens": 12}
    del own["data"]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(own))
    return folder / "recipe.yaml"


def made(world: Path, folder: Path, data: Path, size: Size, methods: list[str], reporter: Quiet, name: str) -> str:
    return Comparison(
        name, recipe(world, folder), [], data, folder / "out", size=size, methods=methods, reporter=reporter
    ).make()


@pytest.mark.slow
def test_every_kind_of_method_is_compared_once(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "LEARNED", 0.0)  # a model this small learns little
    data, quiet = write_lume(tmp_path / "data"), Quiet()
    methods = ["nescio", "idk_dpo", "duet", "rmu", "shred", "orpo"]
    table = made(world, tmp_path, data, QUICK, methods, quiet, "lume")
    out = tmp_path / "out"
    result = json.loads((out / "result.json").read_text())
    rows = {row["method"]: row for row in result["rows"]}
    assert list(rows) == ["tuned", "retrained", *methods] and table == (out / "table.md").read_text().strip()
    assert [rows[name]["retain"] for name in methods] == [False, True, False, True, False, False]
    # 1) the unlearning sees the forget half alone, the tuned model both halves, nobody the people set aside
    ids = {
        part: {row["id"] for _, row in read_jsonl(out / f"data/{part}.jsonl")}
        for part in ("learned", "forget", "retain", "outside")
    }
    assert ids["learned"] == ids["forget"] | ids["retain"] and not ids["outside"] & ids["learned"]
    trained = {row["id"] for _, row in read_jsonl(out / "methods/nescio/rate-1/seed-0/data/train.jsonl")}
    assert trained == ids["forget"]
    assert {row["id"] for _, row in read_jsonl(out / "models/retrained/data/train.jsonl")} == ids["retain"]
    logs = {
        name: next(read_jsonl(out / f"methods/{name}/rate-1/seed-0/log.jsonl"))[1]
        for name in ("idk_dpo", "duet", "rmu")
    }
    assert "retain" in logs["idk_dpo"] and "retain" in logs["rmu"] and "retain" not in logs["duet"]
    # 2) a second time nothing is trained or asked, and the files are the same
    before, again = (out / "result.json").read_text(), Quiet()
    assert made(world, tmp_path, data, QUICK, methods, again, "lume") == table
    assert not {"tune", "train", *(name for name in again.done if name.startswith("ask"))} & set(again.done)
    assert (out / "result.json").read_text() == before
    # 3) another comparison does not go into the same folder
    with pytest.raises(NescioError, match="holds another comparison"):
        made(world, tmp_path, write_lume(tmp_path / "other", PEOPLE[::-1]), QUICK, methods, Quiet(), "lume")


@pytest.mark.slow
def test_a_comparison_made_anew_has_the_same_digits(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "LEARNED", 0.0)
    kept = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        made(world, folder, write_lume(folder / "data"), QUICK, ["simnpo_retain"], Quiet(), "lume")
        asked = {path.name: path.read_bytes() for path in (folder / "out/asked").glob("*.json")}
        kept.append((asked, json.loads((folder / "out/result.json").read_text())["rows"]))
    assert kept[0] == kept[1] and set(kept[0][0]) == {"tuned.json", "retrained.json", "simnpo_retain-seed-0.json"}


def test_settings_are_chosen_and_each_seed_is_trained(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "LEARNED", 0.0)
    data, quiet = write_unlearnpii(tmp_path / "data"), Quiet()
    table = made(world, tmp_path, data, SMALL, ["gradient_ascent"], quiet, "unlearnpii")
    result = json.loads((tmp_path / "out/result.json").read_text())
    *_, row = result["rows"]
    assert [(each["rate"], each["epoch"]) for each in row["grid"]] == [(1.0, 1), (1.0, 2), (3.0, 1), (3.0, 2)]
    assert (row["seeds"], len(row["leak_seeds"])) == (2, 2) and "leak of each seed" in table
    measured = ("leak_otherwise", "leak_inverse", "leak_drawn", "forget_quality", "truth_ratio", "model_utility")
    assert all(row[key] is not None for key in measured) and "turned round" in table
    rate = "1" if row["setting"]["learning_rate"] == pytest.approx(2e-3) else "3"
    seeds = [
        load_file(tmp_path / f"out/methods/gradient_ascent/rate-{rate}/seed-{seed}/epoch-2/adapter_model.safetensors")
        for seed in (0, 1)
    ]
    assert any(not seeds[0][name].equal(seeds[1][name]) for name in seeds[0])


def test_a_model_that_has_not_learned_the_set_is_refused(world: Path, tmp_path: Path) -> None:
    with pytest.raises(NescioError, match=r"lume: the tuned model gives away \d+% .* raise tune.epochs") as caught:
        made(world, tmp_path, write_lume(tmp_path / "data"), QUICK, ["npo"], Quiet(), "lume")
    assert "\n" not in str(caught.value) and not (tmp_path / "out/methods").exists(), "before anything is unlearned"


def test_methods_are_named_or_any_registered_loss() -> None:
    assert [method.name for method in chosen_methods([])] == list(METHODS)
    (own,) = chosen_methods(["orpo"])
    assert (own.loss, own.retain) == ("orpo", None)
    with pytest.raises(NescioError, match="--method none: unknown; known here: nescio, gradient_ascent"):
        chosen_methods(["none"])
    with pytest.raises(NescioError, match="--method sft_scrubbed: learns from the dialog's own answer"):
        chosen_methods(["sft_scrubbed"])


def test_a_loss_with_a_default_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def wide(of: Likelihoods, beta: float = 5.0) -> Terms:
        return {"loss": of.tokens * beta}

    monkeypatch.setitem(LOSSES._items, "wide", PairLoss(function=wide))
    assert [method.beta for method in chosen_methods(["wide", "orpo", "simnpo"])] == [5.0, 0.1, 2.5]


def test_a_method_that_has_changed_is_refused_until_all_of_it_is_deleted(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its adapters and answers are kept by its name, and the table would show the new β beside them."""
    data, out, quiet = write_lume(tmp_path / "data"), tmp_path / "out", Quiet()
    adapter, answers = out / "methods/npo/rate-1/seed-0/epoch-1", out / "asked/npo-seed-0.json"

    def claim() -> None:
        Comparison(
            "lume", recipe(world, tmp_path), [], data, out, size=QUICK, methods=["npo", "npo_retain"], reporter=quiet
        )

    claim()
    changed = replace(METHODS["npo"], beta=9.0)
    monkeypatch.setitem(METHODS, "npo", changed)
    claim()  # nothing was made of it
    adapter.mkdir(parents=True)
    write_json(answers, asdict(ModelAnswers()))
    claim()
    for other in (replace(changed, beta=0.1), replace(changed, loss="simnpo"), replace(changed, retain=1.0)):
        monkeypatch.setitem(METHODS, "npo", other)
        with pytest.raises(NescioError, match=r"another npo \(its .* differs\); delete methods/npo, asked/npo-seed-\*"):
            claim()
    rmtree(out / "methods/npo")
    with pytest.raises(
        NescioError, match=r"its weight of the retain half differs\); delete asked/npo-seed-\*\.json there"
    ):
        claim()
    answers.unlink()
    claim()
    # A folder of an earlier version says nothing of its methods.
    adapter.mkdir(parents=True)
    (out / "methods.json").unlink()
    assert not quiet.notes
    claim()
    assert quiet.notes == ["made by an earlier version, without its β, and taken as it is: npo"]


def test_a_loss_whose_file_has_changed_is_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "loss_of_mine.py"
    source.write_text("def mine(of, beta=1.0):\n    return {'loss': of.tokens}\n")
    monkeypatch.syspath_prepend(tmp_path)
    loss = importlib.import_module("loss_of_mine").mine
    monkeypatch.setitem(LOSSES._items, "mine", PairLoss(function=loss))
    (method,) = chosen_methods(["mine"])
    before = made_with(method)
    assert before == made_with(method) and before["β"] == 1.0
    source.write_text("def mine(of, beta=1.0):\n    return {'loss': 2 * of.tokens}\n")
    assert made_with(method) != before
    monkeypatch.setitem(LOSSES._items, "mine", PairLoss(function=partial(loss, beta=2.0)))
    assert made_with(method)["source of the loss"] is None


def test_what_a_row_said_is_read_in_this_versions_form_only(tmp_path: Path) -> None:
    said = ModelAnswers(answers={"a": "b"}, near=2)
    assert kept(tmp_path / "said.json", lambda: said) == kept(tmp_path / "said.json", ModelAnswers) == said
    for other in ({}, asdict(said) | {"more": 1}):
        write_json(tmp_path / "said.json", other)
        with pytest.raises(NescioError, match=r"said\.json: is of another version; delete it"):
            kept(tmp_path / "said.json", ModelAnswers)


def test_a_question_without_room_for_an_answer_stops_no_comparison(world: Path, tmp_path: Path) -> None:
    data, quiet = write_lume(tmp_path / "data"), Quiet()
    rows = [row for _, row in read_jsonl(data / "forget.jsonl")]
    write_jsonl(data / "forget.jsonl", [rows[0] | {"input": "Who? " * 3000}, *rows[1:]])
    made = Comparison(
        "lume", recipe(world, tmp_path), [], data, tmp_path / "out", size=SMALL, methods=[], reporter=quiet
    )
    assert rows[0]["id"] not in {each.id for each in made.parts.learned}
    assert any("left out, because they fill train.max_length" in note and "1 question" in note for note in quiet.notes)


def test_half_a_benchmark_is_one_line(world: Path, tmp_path: Path) -> None:
    write_lume(tmp_path / "data")
    (tmp_path / "data/retain.jsonl").unlink()
    with pytest.raises(NescioError, match=r"retain.json or .jsonl is missing"):
        Comparison(
            "lume", recipe(world, tmp_path), [], tmp_path / "data", tmp_path / "out", size=QUICK, methods=[],
            reporter=Quiet(),
        )  # fmt: skip
