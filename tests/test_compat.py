"""Old names: a recipe of 0.1.0 means what it meant, and an error names the key and the line that the user wrote."""

from pathlib import Path

import pytest

from nescio.core.errors import NescioError
from nescio.pipeline.recipe import Recipe, load_recipe

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
