"""`nescio data …`: each command does to a file what the stage of a run does, and names what is wrong in one line."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from endpoint import running

from nescio.cli.main import main
from nescio.core.alone import alone
from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl, write_jsonl
from nescio.core.guidance import PROTECT
from nescio.core.switch import KEY_PLACEHOLDER
from nescio.data.synthetic import generate, scrubbed
from nescio.pipeline.progress import Terminal
from nescio.pipeline.recipe import load_recipe
from nescio.pipeline.run import Run
from nescio.pipeline.stage_cache import StageCache

ROWS = generate(12, seed=2, max_exchanges=1)
SENTENCES = {"protect": PROTECT, "reveal": KEY_PLACEHOLDER}
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def nescio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in the test's folder: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nescio", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    return run


def rows(path: Path) -> list[Any]:
    return [row for _, row in read_jsonl(path)]


def write_recipe(folder: Path, url: str = "http://127.0.0.1:9/v1", model: Path | None = None) -> None:
    source = {"name": "desk", "engine": "openai", "model": "m", "base_url": url, "key_env": None,
              "strategies": ["chat-nudge"]}  # fmt: skip
    name = "smollm2" if model is None else str(model)
    recipe = {
        "base": name, "tuned": name, "data": {"dialogs": "dialogs.jsonl", "test_share": 0.25},
        "detector": {"model": "spacy:en_core_web_sm"}, "generate": {"sources": [source]},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))


def write_llm_pc(dialogs: Path, values: Path) -> None:
    turn = "<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>"
    texts = ({"idx": row["id"], "messages": "".join(turn.format(**m) for m in scrubbed(row))} for row in ROWS)
    write_jsonl(dialogs, texts)
    write_jsonl(values, (row["pii"] for row in ROWS))


def test_convert_fills_the_slots_of_llm_pc(nescio: Command, tmp_path: Path) -> None:
    write_llm_pc(tmp_path / "raw.jsonl", tmp_path / "values.jsonl")
    assert nescio("data", "convert", "raw.jsonl", "out.jsonl", "--pii", "values.jsonl") == (
        0, "out.jsonl: 12 dialogs\n", ""
    )  # fmt: skip
    assert rows(tmp_path / "out.jsonl") == ROWS


@pytest.mark.parametrize("arguments", [("convert",), ("convert", "--skip-bad"), ("samples", "recipe.yaml")])
@pytest.mark.parametrize("out", ["kept", "."])
def test_a_folder_is_no_file_to_write(nescio: Command, tmp_path: Path, arguments: tuple[str, ...], out: str) -> None:
    write_jsonl(tmp_path / "dialogs.jsonl", ROWS)
    write_recipe(tmp_path)
    (tmp_path / "kept").mkdir()
    before = sorted(tmp_path.rglob("*"))
    ended = nescio("data", *arguments, "dialogs.jsonl", out)
    assert ended == (2, "", f"nescio: {out}: is a folder; name a file in it\n")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("convert", "raw.bad.jsonl", "raw.jsonl", "--skip-bad"),  # the bad rows would go to what is read
        ("convert", "raw.bad.jsonl", "./raw.bad.jsonl"),
        ("convert", ".", "raw.bad.jsonl"),
        ("samples", "recipe.yaml", "raw.bad.jsonl", "raw.bad.jsonl"),
    ],
)
def test_what_is_read_is_never_written_over(nescio: Command, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    write_jsonl(tmp_path / "raw.bad.jsonl", ROWS)
    write_recipe(tmp_path)
    ended = nescio("data", *arguments)
    assert ended == (2, "", "nescio: raw.bad.jsonl: is what is read; choose another file to write to\n")
    assert rows(tmp_path / "raw.bad.jsonl") == ROWS


def test_convert_sets_bad_rows_aside_and_counts_them(nescio: Command, tmp_path: Path) -> None:
    lines = [json.dumps(ROWS[0]), '{"messages": []}', json.dumps(ROWS[1]), "{"]
    (tmp_path / "raw.jsonl").write_text("\n".join(lines))
    code, said, _ = nescio("data", "convert", "raw.jsonl", "out.jsonl", "--skip-bad")
    assert (code, said) == (0, "out.jsonl: 2 dialogs\n2 bad rows were left out; they are in out.bad.jsonl\n")
    assert rows(tmp_path / "out.jsonl") == ROWS[:2]
    one, two = rows(tmp_path / "out.bad.jsonl")
    assert one["row"] == {"messages": []} and one["error"].startswith("raw.jsonl:2: messages: missing or empty")
    assert two["error"].startswith("raw.jsonl:4: not JSON")
    (tmp_path / "raw.jsonl").write_text(lines[0])
    assert "\n0 bad rows" in nescio("data", "convert", "raw.jsonl", "out.jsonl", "--skip-bad")[1]
    assert rows(tmp_path / "out.bad.jsonl") == []


def test_convert_of_bad_rows_alone_writes_no_dialogs(nescio: Command, tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_text('{"a": 1, "b": 2}\n{"a": 3}\n')
    write_jsonl(tmp_path / "out.jsonl", ROWS)
    code, _, error = nescio("data", "convert", "raw.jsonl", "out.jsonl", "--skip-bad")
    assert code == 2 and "raw.jsonl: all 2 rows are bad; they are in out.bad.jsonl; raw.jsonl:1: messages:" in error
    assert "a format of your own for the fields 'a', 'b' (docs/data.md)" in error and len(error.splitlines()) == 1
    assert rows(tmp_path / "out.jsonl") == ROWS, "what was there stays"
    assert len(rows(tmp_path / "out.bad.jsonl")) == 2


def test_convert_counts_copies(nescio: Command, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "raw.jsonl", [*ROWS, ROWS[0] | {"id": "again"}])
    code, said, _ = nescio("data", "convert", "raw.jsonl", "out.jsonl")
    assert (code, said) == (0, "out.jsonl: 13 dialogs\n1 of them are copies of others, with the same turns\n")


@pytest.mark.parametrize("name", ["chats.csv", "chats.CSV", "chats.tsv.gz", "chats.xlsx", "chats.zip"])
@pytest.mark.parametrize("command", [("convert", "--skip-bad"), ("stats",)])
def test_tables_and_archives_are_refused_with_the_way_out(
    nescio: Command, tmp_path: Path, command: tuple[str, ...], name: str
) -> None:
    (tmp_path / name).write_text("question,answer\nWho?,Ann.\n")
    code, _, error = nescio("data", *command, name, *(["out.jsonl"] if command[0] == "convert" else []))
    assert code == 2 and f"{name}: tables and archives are not read; write a JSON object a line (JSONL)" in error
    assert not (tmp_path / "out.jsonl").exists()


def test_step_by_step_gives_the_files_of_a_run(nescio: Command, tmp_path: Path, tiny_folder: Path) -> None:
    """The training side of a run, and the same side made by the commands, file by file."""
    write_jsonl(tmp_path / "dialogs.jsonl", ROWS)
    with running() as endpoint:
        write_recipe(tmp_path, endpoint.url, tiny_folder)
        run = Run(load_recipe(tmp_path / "recipe.yaml"), tmp_path / "run", Terminal(_silent()))
        run.execute("pairs")
        asked = sum(endpoint.came.values())
        assert nescio("data", "samples", "recipe.yaml", "run/data/train.jsonl", "samples.jsonl")[0] == 0
        assert rows(tmp_path / "samples.jsonl") == rows(tmp_path / "run/samples/train.jsonl")
        code, said, _ = nescio("data", "rewrite", "recipe.yaml", "samples.jsonl", "answers")
        assert code == 0 and "100% kept" in said
        once = sum(endpoint.came.values()) - asked
        assert nescio("data", "rewrite", "recipe.yaml", "samples.jsonl", "answers")[0] == 0
        assert sum(endpoint.came.values()) - asked == once > 0, "nothing is asked twice"
        with alone(tmp_path / "answers"):
            code, _, error = nescio("data", "rewrite", "recipe.yaml", "samples.jsonl", "answers")
        assert code == 2 and "another process works in this folder" in error
    mine = {row["id"] for row in rows(tmp_path / "samples.jsonl")}
    both = rows(tmp_path / "run/candidates.jsonl")
    assert rows(tmp_path / "answers/candidates.jsonl") == [row for row in both if row["sample_id"] in mine]
    assert json.loads((tmp_path / "answers/sources.json").read_text())[0]["accepted"] == once
    code, said, _ = nescio("data", "pairs", "recipe.yaml", "samples.jsonl", "answers/candidates.jsonl", "set")
    assert (code, said) == (0, f"set/train.jsonl: {2 * once} pairs, 0 prompts cut; left out: none\n")
    assert rows(tmp_path / "set/train.jsonl") == rows(tmp_path / "run/pairs/train.jsonl")
    assert f"{2 * once} pairs of" in (tmp_path / "set/README.md").read_text()


def _silent() -> Any:
    from rich.console import Console

    return Console(quiet=True)


def test_stats_in_words_and_as_json(nescio: Command, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d.jsonl", ROWS)
    code, said, _ = nescio("data", "stats", "d.jsonl", "--json")
    turns = [len(m["content"]) for row in ROWS for m in row["messages"]]
    sizes = {"mean": round(sum(turns) / len(turns), 1), "max": max(turns)}
    assert code == 0
    assert json.loads(said) == {"kind": "dialogs", "rows": 12, "dialogs": 12, "counts": {}, "lengths": {"turn": sizes}}
    assert nescio("data", "stats", "d.jsonl")[1].splitlines()[0] == "12 dialogs"
    write_recipe(tmp_path)
    nescio("data", "samples", "recipe.yaml", "d.jsonl", "s.jsonl")
    lines = nescio("data", "stats", "s.jsonl")[1].splitlines()
    assert lines[0] == f"{len(rows(tmp_path / 's.jsonl'))} samples of 12 dialogs"
    assert lines[1].startswith("label: NAME ")
    assert [line.split(":")[0] for line in lines[2:]] == ["prompt", "rejected"]


def test_no_pair_is_an_error_and_leaves_no_file(nescio: Command, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d.jsonl", ROWS)
    write_recipe(tmp_path)
    nescio("data", "samples", "recipe.yaml", "d.jsonl", "s.jsonl")
    sample = rows(tmp_path / "s.jsonl")[0]
    refused = {"sample_id": sample["id"], "source": "s", "strategy": "nudge", "try": 0, "text": "Ann."}
    write_jsonl(tmp_path / "c.jsonl", [refused | {"accepted": False, "reason": "pii"}])
    code, _, said = nescio("data", "pairs", "recipe.yaml", "s.jsonl", "c.jsonl", "out")
    assert code == 2 and "no pairs can be made: all 1 answers were rejected" in said
    assert not [*(tmp_path / "out").glob("*")]


def test_a_template_without_a_system_role_is_told_once(
    nescio: Command, tmp_path: Path, tiny_folder: Path, no_system: Any
) -> None:
    no_system.save_pretrained(tiny_folder)
    write_recipe(tmp_path, model=tiny_folder)
    write_jsonl(tmp_path / "d.jsonl", ROWS)
    nescio("data", "samples", "recipe.yaml", "d.jsonl", "s.jsonl")
    same = {"source": "s", "strategy": "system", "try": 0, "accepted": True, "text": " the desk."}
    candidates = [same | {"sample_id": one["id"]} for one in rows(tmp_path / "s.jsonl")]
    write_jsonl(tmp_path / "c.jsonl", candidates)
    code, said, _ = nescio("data", "pairs", "recipe.yaml", "s.jsonl", "c.jsonl", "set")
    assert code == 0 and said.count("no system role") == 1
    made = rows(tmp_path / "set/train.jsonl")
    assert len(made) == 2 * len(candidates)
    assert all(row["prompt"].startswith(f"<|im_start|>user\n{SENTENCES[row['twin']]}\n\n") for row in made)


def test_a_run_sets_bad_rows_aside_too(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    (tmp_path / "dialogs.jsonl").write_bytes(b"\n".join([b'"\xff"', *(json.dumps(row).encode() for row in ROWS)]))
    recipe = load_recipe(tmp_path / "recipe.yaml", ["data.skip_bad=true"])
    Run(recipe, tmp_path / "run", Terminal(_silent())).execute("data")
    (bad,) = rows(tmp_path / "run/data/bad.jsonl")
    assert bad["error"].startswith(f"{tmp_path / 'dialogs.jsonl'}:1: not UTF-8")
    sides = [rows(tmp_path / f"run/data/{side}.jsonl") for side in ("train", "test")]
    with pytest.raises(NescioError, match=r"dialogs\.jsonl:1: not UTF-8"):
        Run(load_recipe(tmp_path / "recipe.yaml"), tmp_path / "strict", Terminal(_silent())).execute("data")
    assert sorted(row["id"] for side in sides for row in side) == sorted(row["id"] for row in ROWS)
    write_jsonl(tmp_path / "dialogs.jsonl", ROWS)
    clean = Run(recipe, tmp_path / "clean", Terminal(_silent()))
    clean.execute("data")
    assert rows(tmp_path / "clean/data/bad.jsonl") == []
    assert all(StageCache(clean.out, 0).is_done(stage) for stage in clean.stages()[:1]), "also where no row was bad"


def _blocks(language: str) -> list[str]:
    page = (Path(__file__).parents[2] / "docs/data.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.M | re.S)


def test_the_pages_commands_work_in_their_order(
    nescio: Command, tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    for folder in ("exports", "llm-pc"):
        (tmp_path / folder).mkdir()
    write_jsonl(tmp_path / "exports/chats.jsonl", ROWS[:4])
    write_llm_pc(tmp_path / "llm-pc/scrubbed.jsonl", tmp_path / "llm-pc/values.jsonl")
    generate_section, pairs_section = map(yaml.safe_load, _blocks("yaml"))
    pairs_section["pairs"] |= {"per_source": 2}
    with running() as endpoint:
        for source in generate_section["generate"]["sources"]:
            source |= {"base_url": endpoint.url, "tokenizer": str(tiny_folder)}
        recipe = {"base": str(tiny_folder), "tuned": str(tiny_folder), "data": {"dialogs": "dialogs.jsonl"},
                  "detector": {"model": "spacy:en_core_web_sm"}}  # fmt: skip
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe | generate_section | pairs_section))
        lines = "".join(_blocks("sh")).splitlines()
        ended = {line: nescio(*line.split()[1:]) for line in lines}
    assert {line: code for line, (code, _, _) in ended.items() if code} == {} and len(ended) == 7
    last = json.loads(ended[lines[-1]][1])
    assert last["counts"]["source"] == {"gpt": 4, "llama": 4}, "two pairs of each, with twins"


BAD = '{"messages": [{"role": "bot", "content": "x"}]}'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "none.jsonl", "out.jsonl"], "none.jsonl: no such dialog file; give"),
        (["convert", "bad.jsonl", "out.jsonl"], "bad.jsonl:1: messages[0].role: 'bot' is unknown; use"),
        (["convert", "bad.jsonl", "bad.jsonl/out.jsonl"], "cannot be written"),
        (["convert", "empty.jsonl", "out.jsonl"], "empty.jsonl: holds no dialogs; give a file that is not empty"),
        (["samples", "none.yaml", "bad.jsonl", "out.jsonl"], "none.yaml: cannot be read"),
        (["samples", "recipe.yaml", "bad.jsonl", "out.jsonl"], "bad.jsonl:1: messages[0].role: 'bot' is unknown; use"),
        (["rewrite", "recipe.yaml", "bad.jsonl", "out"], "bad.jsonl:1: not a sample; `nescio data samples` makes"),
        (["rewrite", "recipe.yaml", "none.jsonl", "out"], "none.jsonl: no such file"),
        (["pairs", "recipe.yaml", "bad.jsonl", "bad.jsonl", "out"], "bad.jsonl:1: not a sample; `nescio data samples`"),
        (["pairs", "recipe.yaml", "none.jsonl", "bad.jsonl", "out"], "none.jsonl: cannot be read (No such file"),
        (
            ["pairs", "recipe.yaml", "s.jsonl", "bad.jsonl", "out"],
            "bad.jsonl:1: not a candidate; `nescio data rewrite`",
        ),
        (["stats", "empty.jsonl"], "empty.jsonl: is empty"),
        (["stats", "bad.jsonl"], ""),
        (
            ["stats", "text.jsonl"],
            "text.jsonl:1: neither dialogs, samples, candidates nor pairs; `nescio data convert`",
        ),
        (["stats", "mixed.jsonl"], "mixed.jsonl:2: cannot be read as one of the dialogs; correct the line"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    nescio: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    write_recipe(tmp_path)
    for name, text in {"bad": BAD, "empty": "", "text": '"Hello"', "mixed": f'{BAD}\n{{"text": 1}}'}.items():
        (tmp_path / f"{name}.jsonl").write_text(text)
    write_jsonl(tmp_path / "s.jsonl", [dict.fromkeys(("id", "dialog_id", "messages", "rejected", "label", "value"))])
    before = _files(tmp_path)
    code, _, error = nescio("data", *arguments)
    assert code == (2 if message else 0)
    assert message in error and len(error.splitlines()) == bool(message)
    assert _files(tmp_path) == before, "nothing half-written"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("command", ["convert", "samples", "rewrite", "pairs", "stats"])
def test_help_says_what_a_command_does(nescio: Command, command: str) -> None:
    code, shown, _ = nescio("data", command, "--help")
    assert code == 0 and len(shown.splitlines()) > 8
