"""The commands: what they print, and exit code 2 with one line for bad input."""

import io
import json
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest
import typer
import yaml
from typer.testing import CliRunner

from nescio import __version__
from nescio.cli.main import app, main

Ended = subprocess.CompletedProcess[str]


def in_own_process(*arguments: str, cwd: Path, stdin: str = "") -> Ended:
    """What a shell gets, with whatever libraries print."""
    command = [sys.executable, "-m", "nescio", *arguments]
    return subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, text=True, check=False)


def nescio(*arguments: str, cwd: Path) -> Ended:
    """The same here: a process of its own imports for seconds."""
    out, err = io.StringIO(), io.StringIO()
    run = patch("sys.argv", ["nescio", *arguments])
    with chdir(cwd), redirect_stdout(out), redirect_stderr(err), run, pytest.raises(SystemExit) as ended:
        main()
    return Ended(arguments, int(ended.value.code or 0), out.getvalue(), err.getvalue())


@pytest.mark.parametrize("command", ["demo", "run", "init", "report", "evaluate", "reproduce", "scan", "chat"])
def test_help_says_what_a_command_does(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert len(shown.output.splitlines()) > 5


def test_the_version_and_the_commands_are_told(tmp_path: Path) -> None:
    assert nescio("--version", cwd=tmp_path).stdout == f"{__version__}\n"
    bare = nescio(cwd=tmp_path)
    assert bare.returncode == 2 and "Usage" in bare.stdout + bare.stderr


def test_init_writes_a_recipe_once(tmp_path: Path) -> None:
    assert nescio("init", "mine.yaml", cwd=tmp_path).returncode == 0
    assert yaml.safe_load((tmp_path / "mine.yaml").read_text())["train"]["learning_rate"] == 1e-4
    again = nescio("init", "mine.yaml", cwd=tmp_path)
    assert (again.returncode, again.stderr) == (2, "nescio: mine.yaml: exists already; name another file\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sweep", "0.5", "--rank", "4"], "--rank does nothing with --sweep"),
        (["--sweep", "0.5", "--as-adapter"], "--as-adapter does nothing with --sweep"),
        (["--sweep", "0.5", "--coefficient", "0.9"], "--coefficient does nothing with --sweep"),
        (["--out", "o", "--plot", "p.svg"], "--plot does nothing with --out"),
        (["--out", "o", "--detector", "nonsense:zz"], "--detector does nothing with --out"),
        ([], "give either --out DIR or --sweep C,C,...; one of the two"),
    ],
)
def test_subtract_refuses_an_option_that_would_do_nothing(tmp_path: Path, options: list[str], said: str) -> None:
    done = nescio("subtract", "--base", "B", "--tuned", "T", *options, cwd=tmp_path)
    line = f"nescio: subtract: {said}" if not options else f"nescio: subtract: {said}; leave it out"
    assert (done.returncode, done.stderr) == (2, f"{line}\n")


def test_scan_prints_half_a_surrogate_pair_as_an_escape(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(r'"at \ud83d anna@example.com"')
    command = ("scan", "a.jsonl", "--marks", "--detector", "spacy:en_core_web_sm + regex")
    found = in_own_process(*command, cwd=tmp_path)
    assert (found.stdout, found.stderr) == ("a.jsonl:1\nat \\ud83d [[email:anna@example.com]]\n\n", "")


def test_scan_as_json(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('"Anna Ferrari lives in Geneva."\n')
    found = nescio("scan", "a.jsonl", "--json", cwd=tmp_path)
    assert json.loads(found.stdout) == {"total": 2, "labels": {"PERSON": 1, "GPE": 1}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.yaml"], "none.yaml: cannot be read"),
        (["run", "typo.yaml"], "typo.yaml:2: tunde: unknown key"),
        (["run", "lost.yaml"], "lost.jsonl: no such dialog file"),
        (["scan", "none.jsonl"], "none.jsonl: no such file"),
        (["scan", "bad.jsonl"], "bad.jsonl:1: not JSON"),
        (["scan", "bad.jsonl", "--detector", "magic"], "detector 'magic' is unknown"),
        (["report", "."], ".: no run folder, it has no recipe.yaml"),
        (["report", "begun"], "begun: is not evaluated yet; `nescio evaluate begun` does it"),
        (["chat", "begun", "--message", "x"], "begun: is the folder of a run; name its adapter, begun/adapter"),
        (["serve", "begun", "--policies", "none.yaml"], "begun: is the folder of a run; name its adapter"),
        (["serve", "smollm2"], "Missing option '--policies'; see `nescio serve --help`"),
        (["sing"], "No such command 'sing'; see `nescio --help`"),
        (["run", "lost.yaml", "--set", "train.epochs=x"], "--set train.epochs=x: input should be a valid integer"),
        (["run", "lost.yaml", "--set", "train.epoch=2"], "--set train.epoch=2: unknown key; known here: epochs"),
        (["evaluate", "nowhere"], "nowhere: no run folder, it has no recipe.yaml"),
        (["evaluate", "begun", "--samples", "0"], "nescio: --samples 0: input should be greater than 0"),
        (
            ["evaluate", "begun", "--scales=2,-1"],
            "nescio: --scales 2,-1: 1: input should be greater than or equal to 0",
        ),
        (["evaluate", "begun", "--engine", "magic"], "nescio: --engine magic: engine 'magic': unknown"),
        (["evaluate", "begun", "--spaces", "log, lin"], "nescio: --spaces log, lin: 1: guidance space 'lin': unknown"),
        (["export", "nowhere", "--out", "out"], "nowhere: neither a PEFT adapter's folder nor a run with one"),
        (["reproduce", "table1", "--recipe", "none.yaml"], "none.yaml: cannot be read"),
        (["reproduce", "table1", "--quick"], "table1: --data, --quick and --method belong to knowundo, lume"),
        (
            ["reproduce", "table9"],
            "table9: nothing to reproduce; known here: table1, table2, table3, figures, knowundo",
        ),
        (["reproduce", "lume", "--data", "none"], "none: no such folder; LUME's files are at https://"),
        (["chat", "no/such/model", "--message", "x"], "no such model"),
        (["chat", "--message", "x", "--scale", "-1"], "guidance scale -1.0"),
        (["chat", "--message", "x", "--space", "lin"], "guidance space 'lin'"),
        (["chat", "--message", "x", "--no-protect", "--space", "lin"], "guidance space 'lin'"),
        (["chat", "--message", "x", "--no-protect", "--scale", "3"], "--scale 3: guides by the protect sentence"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "typo.yaml").write_text("base: smollm2\ntunde: x\n")
    (tmp_path / "lost.yaml").write_text("base: smollm2\ntuned: smollm2\ndata: {dialogs: lost.jsonl}\n")
    (tmp_path / "bad.jsonl").write_text("{\n")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/recipe.yaml").write_text("base: smollm2\ntuned: smollm2\ndata: {dialogs: lost.jsonl}\n")
    before = sorted(tmp_path.iterdir())
    ended = nescio(*arguments, cwd=tmp_path)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""
    assert sorted(tmp_path.iterdir()) == before, "nothing half-written"


def test_a_place_is_no_emoji(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n" * 99 + "{")
    assert nescio("scan", "a.jsonl", cwd=tmp_path).stderr.startswith("nescio: a.jsonl:100: not JSON")
    (tmp_path / "b.jsonl").write_text("\n" * 99 + '"Anna Ferrari"')
    assert nescio("scan", "b.jsonl", "--marks", cwd=tmp_path).stdout.startswith("b.jsonl:100\n")


def test_any_error_of_click_is_one_line_with_its_own_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = typer.Typer()

    @broken.command()
    def write(out: typer.FileTextWrite) -> None:
        out.write("x")

    monkeypatch.setattr("nescio.cli.main.app", broken)
    ended = nescio("none/x", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "nescio: Could not open file 'none/x': No such file or directory\n"


def test_bad_input_is_one_line_in_a_shell_too(tmp_path: Path) -> None:
    ended = in_own_process("run", "none.yaml", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("nescio: none.yaml: cannot be read") and len(ended.stderr.splitlines()) == 1


def test_chat_answers_on_the_embedded_model(tmp_path: Path) -> None:
    ended = in_own_process("chat", "--message", "What is the capital of France?", "--max-tokens", "12", cwd=tmp_path)
    assert "Paris" in ended.stdout
    talk = in_own_process("chat", "--max-tokens", "4", cwd=tmp_path, stdin="Hello\nAnd you?\n\n")
    assert len(talk.stdout.splitlines()) >= 2


def test_dry_run_prints_an_estimate_and_does_nothing(tmp_path: Path) -> None:
    ended = nescio("demo", "--dry-run", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    for word in ("tune", "candidates", "train", "evaluate", "GiB", "200 dialogs"):
        assert word in ended.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (("--set", "tuned=./lost"), "nescio: tuned: ./lost: no such model"),
        (("--set", "evaluate.judge.model=./lost"), "nescio: evaluate.judge.model: ./lost: no such model"),
        (("--until", "lost"), "nescio: --until lost: no such stage"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would(tmp_path: Path, how: tuple[str, str], said: str) -> None:
    (tmp_path / "s.yaml").write_text("base: smollm2\ntuned: smollm2\ndata: {synthetic: {dialogs: 12}}\n")
    ended = nescio("run", "s.yaml", "--dry-run", *how, cwd=tmp_path)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith(said) and len(ended.stderr.splitlines()) == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("base: smollm2\ntuned: smollm2\ndata: {synthetic: {dialogs: 12}}\n")
    (tmp_path / "odd/recipe.yaml").mkdir(parents=True)
    for out in ("s.yaml", "odd"):
        ended = nescio("run", "s.yaml", "--out", out, "--until", "data", cwd=tmp_path)
        assert ended.returncode == 2 and "Traceback" not in ended.stderr
        assert ended.stderr.startswith("nescio: ") and len(ended.stderr.splitlines()) == 1
