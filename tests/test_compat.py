"""Old names: a recipe of 0.1.0 means what it meant, and an error names the key and the line that the user wrote."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from tiny_run import Quiet
from typer.testing import CliRunner

import nescio
from nescio import compat
from nescio.cli.main import app
from nescio.core.adapters import read_sentences
from nescio.core.errors import NescioError
from nescio.core.guidance import REVEAL
from nescio.pipeline.recipe import Recipe, load_recipe
from nescio.pipeline.run import Run
from nescio.pipeline.stages import unset
from nescio.report import table
from nescio.serve.policy import load_policies

FIXTURES = Path(__file__).parent / "fixtures/v0_1_0"

START = "base: smollm2\ntuned: smollm2\ndata: {dialogs: d.jsonl}\n"
OLD = (
    START
    + """generate:
  sources:
  - {engine: local}
  - {name: fast, engine: vllm, vllm: {max_model_len: 64}}
evaluate:
  engine: vllm
  vllm: {max_model_len: 256}
  draws: 1
  drawn: 2
  attacked: 3
  harmless: 4
  rows:
  - {name: x, protect: true, scale: 2, space: log}
"""
)
NEW = (
    START
    + """generate:
  sources:
  - {engine: torch}
  - {name: fast, engine: {kind: vllm, options: {max_model_len: 64}}}
evaluate:
  engine: {kind: vllm, options: {max_model_len: 256}}
  leak_draws: 1
  leak_samples: 2
  attack_samples: 3
  harmless_prompts: 4
  rows:
  - {name: x, protect: true, guidance: {scale: 2, space: log}}
"""
)


def read(folder: Path, text: str, *overrides: str) -> tuple[Recipe, list[str]]:
    path, notes = folder / "r.yaml", []
    path.write_text(text)
    return load_recipe(path, overrides, note=notes.append), [note.removeprefix(f"{path}: ") for note in notes]


def test_old_names_mean_the_same_and_each_gives_one_line(tmp_path: Path) -> None:
    today, silent = read(tmp_path, NEW)
    old, notes = read(tmp_path, OLD)
    assert old == today and silent == []
    assert notes[0] == "evaluate.draws: the name of nescio 0.1.0, still read; write evaluate.leak_draws"
    named = [note.partition(":")[0] for note in notes]
    assert named == [
        *(f"evaluate.{name}" for name in ("draws", "drawn", "attacked", "harmless", "vllm")),
        "evaluate.rows.0.scale", "evaluate.rows.0.space", "generate.sources.0.engine", "generate.sources.1.vllm",
    ]  # fmt: skip


def test_old_names_on_the_command_line(tmp_path: Path) -> None:
    for text in (OLD, NEW):
        recipe, _ = read(
            tmp_path, text, "evaluate.draws=7", "evaluate.vllm.seed=1", "evaluate.leak_samples=9",
            'evaluate.rows=[{name: y, scale: 4}]',
        )  # fmt: skip
        section = recipe.evaluate
        assert (section.leak_draws, section.leak_samples) == (7, 9)
        assert section.engine.options == {"max_model_len": 256, "seed": 1}
        assert section.rows[0].guidance.scale == 4
        assert read(tmp_path, text, "evaluate.engine=torch", "evaluate.vllm={}")[0].evaluate.engine.kind == "torch"
        assert read(tmp_path, text, "evaluate.vllm={a: 1}")[0].evaluate.engine.options == {"a": 1}


@pytest.mark.parametrize(
    ("old", "wrong", "message"),
    [
        ("draws: 1", "draws: some", r"r\.yaml:11: evaluate\.draws: .*is 'some'"),
        ("drawn: 2", "drawn: 0", r"r\.yaml:8: evaluate: drawn: 0 leaves no sample .* or draws to 0"),
        ("engine: vllm\n  vllm: {max_model_len: 256}", "engine: tgi\n  vllm: {}", r"r\.yaml:9: evaluate\.engine: "),
        ("engine: vllm\n  vllm", "engine: torch\n  vllm", r"r\.yaml:10: evaluate\.vllm: unknown key"),
        ("vllm: {max_model_len: 256}", "vllm: 3", r"r\.yaml:10: evaluate\.vllm: .*dictionary, is 3"),
        ("scale: 2", "scale: -2", r"r\.yaml:16: evaluate\.rows\.0\.(guidance|scale)"),
        ("attacked: 3", "attacked: 3\n  attack_samples: 3", r"r\.yaml:13: evaluate\.attacked: unknown key"),
        ("vllm, vllm: {max_model_len: 64}", "vllm, vllm: 5", r"r\.yaml:7: generate\.sources\.1\.vllm: "),
    ],
)
def test_errors_name_what_the_user_wrote(tmp_path: Path, old: str, wrong: str, message: str) -> None:
    assert old in OLD
    with pytest.raises(NescioError, match=message):
        read(tmp_path, OLD.replace(old, wrong))


@pytest.mark.parametrize("name", ["demo", "everything", "paper", "template"])
def test_recipes_mean_what_they_meant(name: str, tmp_path: Path) -> None:
    shutil.copy(FIXTURES / f"recipes/{name}.yaml", tmp_path)
    meant = yaml.safe_load((FIXTURES / f"recipes/{name}.resolved").read_text().replace("FOLDER", str(tmp_path)))
    # 0.1.0 had the public sentence by default; a run folder of its own keeps it (`pipeline.run`).
    public = {} if name in ("everything", "template") else {"pairs.negative": REVEAL}
    papers = {"detector.model": "spacy:en_core_web_trf"} if name == "paper" else {}  # its default was the paper's too
    recipe = load_recipe(tmp_path / f"{name}.yaml", note=lambda note: None, settings=public | papers)
    assert compat.stage_sections(recipe.plain(), unset().plain()) == meant
    # What a run of 0.1.0 wrote into its folder is read too, and means the same.
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(meant))
    assert load_recipe(tmp_path / "recipe.yaml", note=lambda note: None) == recipe


def test_policies_mean_what_they_meant() -> None:
    meant = json.loads((FIXTURES / "policies.resolved").read_text())
    assert_holds(load_policies(FIXTURES / "policies.yaml", ["careful"]).model_dump(mode="json"), meant)


def assert_holds(found: object, meant: object, place: str = "") -> None:
    """Whether a mapping has all that another has, however deep, and maybe more."""
    if isinstance(meant, dict) and isinstance(found, dict):
        for key, value in meant.items():
            assert key in found, f"{place}.{key}"
            assert_holds(found[key], value, f"{place}.{key}")
    else:
        assert found == meant, place


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    """A run folder of 0.1.0, where its paths lead to."""
    for name in ("base", "run", "recipe.yaml"):
        copy = shutil.copytree if (FIXTURES / name).is_dir() else shutil.copy
        copy(FIXTURES / name, tmp_path / name)  # type: ignore[operator]
    recipe = tmp_path / "run/recipe.yaml"
    recipe.write_text(recipe.read_text().replace("FOLDER", str(tmp_path)))
    return tmp_path / "run"


def test_nothing_of_an_old_run_is_done_again(old_run: Path) -> None:
    before = {path: path.read_bytes() for path in old_run.rglob("*") if path.is_file() and path.name != "recipe.yaml"}
    for recipe in (old_run.parent / "recipe.yaml", old_run / "recipe.yaml"):
        quiet = Quiet()
        Run(load_recipe(recipe, note=lambda note: None), old_run, quiet).execute()
        assert quiet.done == []
        assert quiet.before == ["data", "tune", "samples", "candidates", "pairs", "train", "evaluate", "report"]
    assert before == {path: path.read_bytes() for path in before}


def test_the_length_of_answers_in_an_old_table_is_no_share_of_questions(old_run: Path) -> None:
    for row in table.read(old_run):
        assert row["answer_words"] == 2.25 and "words" not in row


def test_an_old_run_is_evaluated_with_other_rows_and_reported(old_run: Path) -> None:
    old = json.loads((old_run / "eval/results.json").read_text())
    # What 0.1.0 did not ask is asked a little: by default it would take minutes.
    small = [f"--set=evaluate.{name}=2" for name in ("words", "everyday", "asked_for_samples")]
    shown = CliRunner().invoke(app, ["evaluate", str(old_run), "--scales", "3,2", "--set", "evaluate.drawn=1", *small])
    assert shown.exit_code == 0, shown.output
    rows = json.loads((old_run / "eval/results.json").read_text())
    assert len(rows) == len(old) + 2
    for row in old:  # a tiny model's greedy answers are the same everywhere
        again = next(one for one in rows if (one["model"], one["space"], one["scale"]) == tuple(
            row[key] for key in ("model", "space", "scale")))  # fmt: skip
        assert (again["pii"], again["samples"]) == (row["pii"], row["samples"])
        assert again["degenerate"] < row["degenerate"], "then, the words that an answer was given did not count"
    shown = CliRunner().invoke(app, ["report", str(old_run)])
    assert shown.exit_code == 0 and "tuned + protect prompt" in shown.output
    assert "<svg" in (old_run / "report.html").read_text()


def test_an_old_adapter_answers_with_its_sentences(old_run: Path) -> None:
    with nescio.load(str(old_run / "adapter")) as engine:
        assert isinstance(engine.chat([{"role": "user", "content": "Hello"}], max_tokens=4), str)
    assert read_sentences(old_run / "adapter")["positive"] == "Do not provide any personal data."


def test_an_old_run_can_be_baked(old_run: Path) -> None:
    """Its tiny base makes nothing up that could be an anchor: that is said, and the run stays as it was."""
    before = (old_run / "adapter/adapter_model.safetensors").read_bytes()
    small = ["--set", "train.anchors.count=2", "--set", "train.anchors.max_tokens=1"]
    ended = CliRunner().invoke(app, ["bake", str(old_run), *small])
    assert isinstance(ended.exception, NescioError)
    assert "train.anchors: 0 usable of 2 wanted" in str(ended.exception)
    assert (old_run / "adapter/adapter_model.safetensors").read_bytes() == before
