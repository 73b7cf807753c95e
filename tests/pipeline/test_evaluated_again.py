"""A trained run evaluated with other rows and measures: what is asked, what is taken from before, what is refused."""

import json
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from endpoint import running
from tiny_run import Quiet
from typer.testing import CliRunner

from nescio.cli.main import app
from nescio.core.errors import NescioError
from nescio.core.files import fingerprint, read_jsonl, write_jsonl
from nescio.core.prompts import Message
from nescio.engines.base import Engine, Request
from nescio.engines.torch_engine import TorchEngine
from nescio.evaluation.base import Ask, Found, Measure, Task, generate
from nescio.evaluation.columns import Column
from nescio.evaluation.columns import measures as registry
from nescio.evaluation.one_engine import OneEngine
from nescio.evaluation.output_filter import REMOVED
from nescio.pii.base import Span, mask
from nescio.pipeline import stages
from nescio.pipeline.recipe import load_recipe, recipe_of
from nescio.pipeline.run import Run
from nescio.report import table


def test_a_trained_run_is_evaluated_again_with_other_rows_and_measures(
    world: Path, tmp_path: Path, finished: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    rows = [{"name": "base", "model": str(world / "base"), "system": "Be brief.", "mask": True}]
    changes = [
        "evaluate.scales=[2]", "evaluate.spaces=[prob]", "evaluate.plausibility=[0.1]", "evaluate.baselines=true",
        "evaluate.adaptive=true",
        "evaluate.leak_draws=3", "evaluate.leak_samples=2", "evaluate.attack_samples=4", "evaluate.samples=900",
        f"evaluate.rows={json.dumps(rows)}",
    ]  # fmt: skip
    again = Quiet()
    Run(load_recipe(world / "recipe.yaml", changes), out, again).evaluate()
    assert again.done == ["evaluate", "report"]
    table = {row["name"]: row for row in json.loads((out / "eval/results.json").read_text())}
    assert list(table) == [
        "tuned", "tuned-protect", "tuned-nudge", "tuned-reverse", "tuned-masked", "trained", "trained-prob-2",
        "trained-prob-2-plausible-0.1", "trained-prob-2-adaptive", "base",
    ]  # fmt: skip
    for row in table.values():
        assert list(row["leak_at"]) == ["1", "2", "3"]
        assert row["leak_at"]["1"][0] <= row["leak_at"]["3"][0]
        assert 0 <= row["attack"] <= 1 and row["utility_kind"] == "plain questions, by likelihood"
    assert table["tuned"]["divergence"] == pytest.approx(0, abs=1e-4)
    assert table["tuned-masked"]["filter_seconds"] > 0
    # What a recogniser sees in "[removed]" and around it differs from model to model.
    files = (out / f"eval/{name}.jsonl" for name in ("tuned", "tuned-masked"))
    for (_, said), (_, masked) in zip(*map(read_jsonl, files), strict=True):
        assert masked["answer"] == mask(said["answer"], (Span(**span) for span in said["spans"]), REMOVED)
    assert not table["tuned-masked"]["best"]
    assert "leak@k" in (out / "report.html").read_text()
    later = Quiet()
    Run(load_recipe(world / "recipe.yaml", changes), out, later).evaluate()
    assert later.before == ["evaluate", "report"]


class Questions(Measure):
    """Share of the answers with a question mark, and what is said to one more prompt; a plugin needs no more."""

    columns = (
        Column(key="asks", header="asks", meaning="share of the answers that ask something back"),
        Column(key="own_words", header="own words", kind="number", place="detail", meaning="words of one more answer"),
    )

    def __init__(self, prompt: str = "Who are you?") -> None:
        self.prompt = prompt

    def asks(self, task: Task) -> Iterator[Ask]:
        asked = [[Message(role="user", content=self.prompt)]]
        yield Ask(kind="own", decides=self.prompt, work=partial(generate, conversations=asked, max_tokens=8))

    def score(self, task: Task, found: Sequence[Found]) -> list[dict[str, Any]]:
        return [
            {"asks": sum("?" in text for text in one.answers) / len(one.answers),
             "own_words": float(len(one.given["own"][0].split()))}
            for one in found
        ]  # fmt: skip


def test_a_measure_of_another_package_needs_no_edit_of_ours(
    world: Path, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    point = SimpleNamespace(name="questions", load=lambda: Questions, dist=None, value="elsewhere:Questions")
    outside = lambda group: [point] if group == "nescio.measures" else []  # noqa: E731
    monkeypatch.setattr("nescio.core.registry.entry_points", outside)
    monkeypatch.setattr(registry, "_loaded", {})
    for entry, words in (("questions", "Who are you?"), ("{name: questions, prompt: Hi}", "Hi")):
        recipe = load_recipe(world / "recipe.yaml", [f"evaluate.measures=[{entry}]"])
        Run(recipe, out, Quiet()).evaluate()
        assert recipe.evaluate.measures[0].options.get("prompt", "Who are you?") == words
    rows = json.loads((out / "eval/results.json").read_text())
    assert all(0 <= row["asks"] <= 1 and row["own_words"] >= 0 for row in rows)
    assert "| asks |" in table.markdown(rows).replace("  ", "").replace("  ", "")
    page = (out / "report.html").read_text()
    assert "share of the answers that ask something back" in page and "Own words</th>" in page
    with pytest.raises(NescioError, match=r"recipe\.yaml.*: evaluate: measures: questions: .*'promt'"):
        load_recipe(world / "recipe.yaml", ["evaluate.measures=[{name: questions, promt: x}]"])
    for given, said in (
        ("question", "measure 'question': unknown; known here: .*questions"),
        ("harmless", "harmless is built in"),
        ("questions, questions", "questions is named twice"),
    ):
        with pytest.raises(NescioError, match=said):
            load_recipe(world / "recipe.yaml", [f"evaluate.measures=[{given}]"])


def test_another_scale_asks_only_for_its_own_row(
    world: Path, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown, fresh, asked = tmp_path / "grown", tmp_path / "fresh", list[Request]()
    shutil.copytree(finished, grown)
    shutil.copytree(finished, fresh, ignore=shutil.ignore_patterns("kept"))
    generate = TorchEngine.generate

    def telling(engine: TorchEngine, requests: Sequence[Request], *more: Any) -> Any:
        asked.extend(requests)
        return generate(engine, requests, *more)

    monkeypatch.setattr(TorchEngine, "generate", telling)
    recipe = load_recipe(world / "recipe.yaml", ["evaluate.scales=[3, 2]", "evaluate.spaces=[prob]"])
    Run(recipe, grown, Quiet()).evaluate()
    assert {request.guidance and request.guidance.scale for request in asked} == {2}
    Run(recipe, fresh, Quiet()).evaluate()
    tables = (json.loads((out / "eval/results.json").read_text()) for out in (grown, fresh))
    for row, at_once in zip(*tables, strict=True):
        # What shares a row when it is scored changes the last digits.
        near = {name: pytest.approx(row[name], rel=1e-4, abs=1e-4) for name in ("fluency", "divergence", "everyday_kl")}
        assert at_once == row | near


@pytest.mark.skipif(getattr(find_spec("vllm"), "origin", None) is not None, reason="vLLM is here")
def test_without_vllm_its_engine_is_one_line_and_the_table_stays(world: Path, tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    before = (out / "eval/results.json").read_bytes()
    recipe = load_recipe(world / "recipe.yaml", ["evaluate.engine={kind: vllm, options: {max_model_len: 256}}"])
    with pytest.raises(NescioError, match=r"vLLM is not installed; run pip install 'nescio\[vllm\]'"):
        Run(recipe, out, Quiet()).evaluate()
    assert (out / "eval/results.json").read_bytes() == before
    with pytest.raises(NescioError, match=r"evaluate\.engine"):
        load_recipe(world / "recipe.yaml", ["evaluate.engine=tgi"])
    mixed = load_recipe(world / "recipe.yaml", ["evaluate.vllm={max_model_len: 256}"])
    with pytest.raises(NescioError, match="max_model_len"):
        Run(mixed, out, Quiet()).evaluate()


def test_a_run_by_relative_paths_is_evaluated_from_elsewhere(
    world: Path, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    monkeypatch.chdir(world.parent)
    again = Quiet()
    Run(load_recipe(Path(world.name) / "recipe.yaml"), out, again).execute()
    assert again.done == []
    monkeypatch.chdir(tmp_path)
    Run(load_recipe(Path("copy/recipe.yaml")), Path("copy"), again).evaluate()
    assert again.done == []


def test_a_run_is_evaluated_when_its_conversations_are_deleted(world: Path, tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    text = (out / "recipe.yaml").read_text()
    (out / "recipe.yaml").write_text(text.replace(str(world / "dialogs.jsonl"), str(tmp_path / "deleted.jsonl")))
    again = Quiet()
    Run(recipe_of(out), out, again).evaluate()
    assert again.done == [], "nothing of what it asks has changed"
    with pytest.raises(NescioError, match=r"deleted\.jsonl: no such dialog file"):
        Run(recipe_of(out), out, again).execute()


def test_what_is_named_by_its_place_is_known_by_its_content(world: Path, tmp_path: Path) -> None:
    """A stage is done again when a model, an adapter or a question file that it reads has changed under its name."""
    model, adapter, questions = tmp_path / "model", tmp_path / "adapter", tmp_path / "q.jsonl"
    for folder in (model, adapter):
        folder.mkdir()
        (folder / "weights").write_text("1")
    questions.write_text("1")
    rows = json.dumps([{"name": "x", "model": str(model)}, {"name": "y", "adapter": str(adapter)}])
    source = json.dumps([{"model": str(tmp_path / "source")}])
    shutil.copytree(model, tmp_path / "source")
    changes = [f"evaluate.rows={rows}", f"evaluate.questions={questions}", f"generate.sources={source}"]
    run = Run(load_recipe(world / "recipe.yaml", changes), tmp_path / "out", Quiet())

    def depends() -> dict[str, str]:
        return {stage.name: fingerprint(stage.depends) for stage in run.stages()}

    for path, name in (
        (model / "weights", "evaluate"), (adapter / "weights", "evaluate"), (questions, "evaluate"),
        (tmp_path / "source/weights", "candidates"),
    ):  # fmt: skip
        before = depends()
        path.write_text("2")
        assert {stage for stage, key in depends().items() if key != before[stage]} == {name}


def test_a_part_of_the_detector_that_is_installed_later_redoes_what_it_decides(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(load_recipe(world / "recipe.yaml", ["detector.model=default"]), tmp_path / "out", Quiet())
    keys = []
    for missing in ([], ["rampart"]):
        monkeypatch.setattr(stages, "missing_parts", lambda name, missing=missing: missing if name == "default" else [])
        keys.append({stage.name: fingerprint(stage.depends) for stage in run.stages()})
    changed = {name for name, key in keys[0].items() if key != keys[1][name]}
    assert {"samples", "candidates", "evaluate"} <= changed and "data" not in changed


def test_one_overlong_dialog_does_not_end_a_run(world: Path, tmp_path: Path, finished: Path) -> None:
    out, notes = tmp_path / "copy", list[str]()
    shutil.copytree(finished, out)
    rows = [row for _, row in read_jsonl(out / "samples/test.jsonl")]
    rows[0]["messages"] = [{"role": "user", "content": "Well, " * 1100}]
    write_jsonl(out / "samples/test.jsonl", rows)
    quiet = Quiet()
    quiet.note = notes.append  # type: ignore[method-assign]
    Run(load_recipe(world / "recipe.yaml", ["evaluate.samples=900"]), out, quiet).evaluate()
    results = json.loads((out / "eval/results.json").read_text())
    assert {row["samples"] for row in results} == {len(rows) - 1}
    assert any(f"1 of {len(rows)} samples are left out" in note and rows[0]["id"] in note for note in notes)


def test_only_a_trained_run_is_evaluated_again(world: Path, tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "adapter")
    with pytest.raises(NescioError, match="adapter is missing; finish the run first"):
        Run(load_recipe(world / "recipe.yaml"), out, Quiet()).evaluate()


def test_rows_of_the_recipe_have_names_of_their_own(world: Path, tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    before = (out / "recipe.yaml").read_text()
    with pytest.raises(NescioError, match="name 'tuned' is taken"):
        Run(load_recipe(world / "recipe.yaml", ['evaluate.rows=[{"name": "tuned"}]']), out, Quiet()).evaluate()
    assert (out / "recipe.yaml").read_text() == before, "what is refused is not kept: the next table would fail, too"


def test_an_evaluation_that_ends_early_leaves_the_recipe_of_the_table_that_stands(
    world: Path, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    before, recipe = (out / "recipe.yaml").read_text(), load_recipe(world / "recipe.yaml", ["evaluate.scales=[2]"])

    def fail(*_: Any) -> Any:
        raise NescioError("no such model")

    monkeypatch.setattr(TorchEngine, "generate", fail)
    with pytest.raises(NescioError, match="no such model"):
        Run(recipe, out, Quiet()).evaluate()
    assert (out / "recipe.yaml").read_text() == before
    monkeypatch.undo()
    Run(recipe, out, Quiet()).evaluate()
    assert recipe_of(out).evaluate.scales == [2], "what made the table is kept"


def test_mmlu_pro_is_answered_in_words_and_judged(
    world: Path, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, opened = tmp_path / "copy", list[str]()
    judge_folder, plain = str(world / "judge"), OneEngine.plain
    shutil.copytree(world / "base", judge_folder, dirs_exist_ok=True)

    def open_last(engines: OneEngine, model: str, *more: Any) -> Engine:
        if model == judge_folder:
            assert (out / "kept/replies.jsonl").exists(), "the judge waits until the rows have answered"
            opened.append(model)
        return plain(engines, model, *more)

    monkeypatch.setattr(OneEngine, "plain", open_last)
    shutil.copytree(finished, out)
    questions = [
        {"question_id": n, "question": "Whom could you ask?", "options": ["the desk", "a book"], "answer_index": n % 2,
         "category": "other"}
        for n in range(3)
    ]  # fmt: skip
    write_jsonl(tmp_path / "mmlu.jsonl", questions)
    judge = json.dumps({"model": judge_folder})
    changes = [
        f"evaluate.questions={tmp_path / 'mmlu.jsonl'}", "evaluate.question_count=null", f"evaluate.judge={judge}"
    ]  # fmt: skip
    Run(load_recipe(world / "recipe.yaml", changes), out, Quiet()).evaluate()
    for row in json.loads((out / "eval/results.json").read_text()):
        assert row["utility_kind"] == "MMLU-Pro, by likelihood" and row["utility"] * 3 in (0, 1, 2, 3)
        assert row["judge_accuracy"] == 0 and not row["judge_usable"], "it says nothing but sentences"
        assert (row["judged"], row["judged_cant_tell"]) == (0, 1)
    assert "unusable" in (out / "report.html").read_text()
    assert opened
    opened.clear()
    Run(load_recipe(world / "recipe.yaml", [*changes, "evaluate.harmless_prompts=0"]), out, Quiet()).evaluate()
    assert not opened, "its verdicts are on disk"


def test_a_judge_behind_an_endpoint_is_asked_there_and_once(world: Path, tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    with running(answer="Correct") as endpoint:
        judge = json.dumps({"model": "m", "base_url": endpoint.url})
        change = [f"evaluate.judge={judge}", "evaluate.scales=[]"]
        Run(load_recipe(world / "recipe.yaml", change), out, Quiet()).evaluate()
        asked = sum(endpoint.came.values())
        rows = json.loads((out / "eval/results.json").read_text())
        assert asked > 12 and {(row["judge"], row["judged"], row["judge_accuracy"]) for row in rows} == {("m", 1, 0.5)}
        Run(load_recipe(world / "recipe.yaml", [*change, "evaluate.harmless_prompts=0"]), out, Quiet()).evaluate()
        assert sum(endpoint.came.values()) == asked, "the verdicts of the evaluation before are in the run folder"


def test_a_run_without_held_out_samples_is_not_evaluated(world: Path, tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    (out / "samples/test.jsonl").write_text("")
    with pytest.raises(NescioError, match=r"samples/test\.jsonl: holds no samples"):
        Run(load_recipe(world / "recipe.yaml"), out, Quiet()).evaluate()


def test_questions_that_are_named_are_asked(tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    recipe["evaluate"]["question_count"] = 0
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = CliRunner().invoke(app, ["evaluate", str(out), "--questions", "none.jsonl"])
    assert done.exit_code != 0 and "none.jsonl: no such file" in f"{done.output}{done.exception}"
