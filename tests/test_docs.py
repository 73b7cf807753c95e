"""The documents cannot drift from the code: their commands, quoted help, make targets, links and Python are checked."""

import ast
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from nescio.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
# All but the changelog, which tells of the past.
DOCUMENTS = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/*.md")} - {ROOT / "CHANGELOG.md"}
)
HELP_COLUMNS = 100  # the width at which --help is quoted: COLUMNS=100 nescio … --help

FENCE = re.compile(
    r"^(?P<indent> *)(?P<marks>`{3,}|~{3,}) *(?P<language>[\w+-]*)[^\n`]*\n(?P<body>.*?)^ *(?P=marks) *$", re.M | re.S
)
SPAN = re.compile(r"`((?:nescio|make) [^`\n]+)`")
SHELL = {"sh", "bash", "shell", "console"}
WRAPPERS = {"time", "nohup", "exec"}
TARGET = re.compile(r"^([a-z][a-z-]*):(?!=)", re.M)
CODE_PATH = re.compile(r"`([\w./*-]+/(?:[\w.*-]+\.(?:py|html|yaml|txt))?)`")
LINK = re.compile(
    r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^ *\[[^\]]+\]: *(\S+)|\b(?:src|href|srcset)=\"([^\"\s]+)", re.M
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text without the fence's indentation, and the line where it starts."""

    language: str
    text: str
    line: int


def blocks(markdown: str) -> list[Block]:
    """Every fenced block of a Markdown text."""
    found = []
    for match in FENCE.finditer(markdown):
        indent = len(match["indent"])
        text = "".join(
            line[indent:] if line[:indent].isspace() else line for line in match["body"].splitlines(keepends=True)
        )
        found.append(Block(match["language"], text, markdown.count("\n", 0, match.start()) + 1))
    return found


def closed(line: str) -> bool:
    """Whether every quote of a shell line that opens also ends."""
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return False
    return True


def transcript(block: Block) -> list[tuple[str, str]]:
    """Command lines of a shell block, continued lines joined, each with the output quoted beneath it."""
    prompted = block.language == "console" and re.search(r"^\$ ", block.text, re.M)
    steps: list[tuple[str, str]] = []
    for line in re.sub(r"\\\n\s*(?:> )?", " ", block.text).splitlines():
        if steps and not closed(steps[-1][0]):
            steps[-1] = (f"{steps[-1][0]}\n{line}", "")
        elif line.startswith("$ ") or not prompted:
            steps.append((line.removeprefix("$ "), ""))
        elif steps:
            steps[-1] = (steps[-1][0], f"{steps[-1][1]}{line}\n")
    return steps


def commands(line: str) -> Iterator[list[str]]:
    """The simple commands of one shell line: program first, without comment, redirections and settings of variables."""
    lexer = shlex.shlex(re.sub(r"(?<=\s)[012&](?=>)", "", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    tokens = iter([*lexer, ";"])
    for token in tokens:
        if not set(token) <= set("();<>|&"):
            words.append(token)
        elif "<" in token or ">" in token:
            next(tokens)
        else:
            while words and (words[0] in WRAPPERS or re.match(r"\w+=", words[0])):
                words.pop(0)
            if words:
                yield [Path(words[0]).name, *words[1:]]
            words = []


def refusal(arguments: list[str]) -> str:
    """What the real command line says against these arguments, each command parsed but not run; empty if nothing."""
    root = typer.main.get_command(app)
    todo = [root]
    while todo:
        command = todo.pop()
        command.callback = None
        todo += getattr(command, "commands", {}).values()
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as end:
        root(arguments, prog_name="nescio")
    return "" if end.value.code in (0, None) else " ".join(re.sub("[╭╮╰╯│─]", " ", said.getvalue()).split())


def help_of(arguments: list[str]) -> str:
    """What `nescio … --help` prints at `HELP_COLUMNS`, not to a terminal."""
    program = "import sys; sys.argv[0] = 'nescio'; from nescio.cli.main import main; main()"
    forcing = {"GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS", "TERMINAL_WIDTH"}
    plain = {name: value for name, value in os.environ.items() if name not in forcing}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=plain | {"COLUMNS": str(HELP_COLUMNS), "NO_COLOR": "1", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout


def tidy(text: str) -> str:
    """The text without blank space at line ends and without blank lines around it."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def quoted_commands(markdown: str) -> Iterator[tuple[str, bool]]:
    """Every command line of the shell blocks, and of the prose; whether it stands in prose, where it may be partial."""
    for block in blocks(markdown):
        yield from ((line, False) for line, _ in transcript(block) if block.language in SHELL)
    yield from ((re.sub(r"[][…]|\.\.\.", "", line), True) for line in SPAN.findall(FENCE.sub("", markdown)))


def command_problems(markdown: str) -> list[str]:
    """Commands that the command line or the Makefile does not know."""
    targets = set(TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    problems = []
    for line, partial in quoted_commands(markdown):
        for name, *arguments in commands(line) if re.search(r"\b(nescio|make)\b", line) else ():
            if name == "nescio" and (said := refusal(arguments)) and not (partial and " Missing " in said):
                problems.append(f"{line}: {said}")
            if name == "make":
                unknown = {word for word in arguments if not re.search(r"^-|=", word)} - targets
                problems += [f"{line}: no target {target}" for target in sorted(unknown)]
    return problems


def help_problems(markdown: str) -> list[str]:
    """Quoted `--help` that is not what the command prints."""
    problems = []
    for block in blocks(markdown):
        for line, quoted in transcript(block) if block.language == "console" else ():
            for name, *arguments in commands(line):
                if name == "nescio" and arguments[-1:] == ["--help"] and not refusal(arguments):
                    printed = tidy(help_of(arguments))
                    if tidy(quoted) != printed:
                        problems.append(f"line {block.line}: {line} prints now:\n{printed}")
    return problems


def names(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The modules that a piece of code imports from, with the names it takes from each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "__name__") for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nescio":
            yield "nescio", node.attr


def python_problems(markdown: str) -> list[str]:
    """Python blocks that don't compile or take names from nescio that it does not have."""
    problems = []
    for block in blocks(markdown):
        if block.language in {"python", "py"}:
            try:
                compile(block.text, "<block>", "exec")
                for module, name in names(ast.parse(block.text)):
                    if module.split(".")[0] == "nescio":
                        exec(f"from {module} import {name}", {})
            except (SyntaxError, ImportError) as error:
                problems.append(f"line {block.line}: {type(error).__name__}: {error}")
    return problems


def anchors(markdown: str) -> set[str]:
    """The anchors that a forge makes of a document's headings."""
    headings = re.findall(r"^#+ +(.+?) *#*$", FENCE.sub("", markdown), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def link_problems(markdown: str, document: Path) -> list[str]:
    """Relative links whose file, or whose heading in it, is not in the repository."""
    problems = []
    for groups in LINK.findall(re.sub(r"`[^`\n]*`", "", FENCE.sub("", markdown))):
        target = "".join(groups)
        if re.match(r"[a-z][a-z+.-]*:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not (file.exists() and file.is_relative_to(ROOT)):
            problems.append(f"{target}: no such file in the repository")
        elif anchor and file.suffix == ".md":
            text = markdown if file == document else file.read_text(encoding="utf-8")
            problems += [] if anchor in anchors(text) else [f"{target}: no such heading"]
    return problems


def path_problems(markdown: str) -> list[str]:
    """Paths of the code that are not there; NAME stands for any file, and `src/nescio/` may be left out."""
    roots = (ROOT, ROOT / "src" / "nescio")
    return [
        f"{path}: no such file or folder"
        for path in CODE_PATH.findall(FENCE.sub("", markdown))
        if not any(any(root.glob(path.rstrip("/").replace("NAME", "*"))) for root in roots)
    ]


def site_problems() -> list[str]:
    """Pages that the site's navigation lacks, or names in vain."""
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    named = set(re.findall(r'"([\w-]+\.md)"', (ROOT / "zensical.toml").read_text(encoding="utf-8")))
    return [f"{name}: not in zensical.toml's nav, or not in docs/" for name in sorted(pages ^ named)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
@pytest.mark.parametrize("problems", [command_problems, help_problems, python_problems])
def test_documents_tell_what_is(document: Path, problems: Callable[[str], list[str]]) -> None:
    assert "\n\n".join(problems(document.read_text(encoding="utf-8"))) == ""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(document: Path) -> None:
    assert link_problems(document.read_text(encoding="utf-8"), document) == []


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_paths_of_the_code_are_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert len(CODE_PATH.findall(text)) >= 5
    of_a_run = "data|samples|pairs|eval|figures|tuned|teacher|adapter|forgotten|certificates"
    own = re.compile(rf"^(?:{of_a_run}|site|dist)/")  # of a run, or built
    assert [problem for problem in path_problems(text) if not own.match(problem)] == []


def test_every_page_is_on_the_site() -> None:
    assert site_problems() == []


def test_pictures_name_files_that_are_there() -> None:
    for picture in (ROOT / "docs" / "images").glob("*.svg"):
        text = picture.read_text(encoding="utf-8")
        for found in re.findall(r"\b((?:[a-z_]+/)+)([a-z_]+\.py(?:, [a-z_]+\.py)*)", text):
            for name in found[1].split(", "):
                assert list((ROOT / "src" / "nescio").glob(f"**/{found[0]}{name}")), f"{picture.name}: {found[0]}{name}"


def test_a_path_that_is_gone_is_found() -> None:
    text = "Open `pii/base.py`, `training/losses/NAME.py`, `engines/decode/`, or `pii/gone.py` and `nowhere/`."
    assert path_problems(text) == ["pii/gone.py: no such file or folder", "nowhere/: no such file or folder"]


@pytest.mark.parametrize(
    "line",
    [
        "nescio demo",
        "$ nescio init my.yaml  # a comment",
        "NESCIO_CACHE=/tmp/cache .venv/bin/nescio run my.yaml --set train.epochs=1 \\\n    --until pairs 2> log.txt",
        "cat my.yaml | grep x && time nescio scan answers.jsonl --json > counts.json",
        "nescio run --help",
        "make test JOBS=4",
        "cd nescio; ls",
        'curl -d \'{\n  "model": "nescio"}\' localhost',
    ],
)
def test_right_commands_pass(line: str) -> None:
    assert command_problems(f"```sh\n{line}\n```\n") == []


def test_commands_in_prose_may_be_partial_but_not_wrong() -> None:
    assert command_problems("Then `nescio run … [--until STAGE]`, `nescio scan --json` or `make demo`.") == []
    assert len(command_problems("Then `nescio run --untill`, `nescio unlearn …` or `make coffee`.")) == 3


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("nescio unlearn", "No such command"),
        ("nescio run my.yaml --untill pairs", "No such option"),
        ("nescio run my.yaml \\\n  --nothing", "No such option"),
        ("nescio run", "Missing argument"),
        ("nescio demo extra", "unexpected extra argument"),
        ("nescio chat --scale three", "Invalid value"),
        ("ls | nescio scan a.jsonl --jsno", "No such option"),
        ("make coffee", "no target coffee"),
    ],
)
@pytest.mark.parametrize("language", ["sh", "console"])
def test_wrong_commands_are_found(line: str, complaint: str, language: str) -> None:
    (problem,) = command_problems(f"- In a list:\n\n  ```{language}\n  $ {line}\n  ```\n")
    assert complaint in problem


def test_stale_help_is_found() -> None:
    fresh = help_of(["run", "--help"])
    assert "--until" in fresh
    assert help_problems(f"```console\n$ nescio run --help\n{fresh}```\n") == []
    assert len(help_problems(f"```console\n$ nescio run --help\n{fresh.replace('--until', '--upto')}```\n")) == 1


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("import nescio\nnescio.load('smollm2')", ""),
        ("from nescio.core import errors\nfrom nescio.core.errors import NescioError\nimport nescio.core.guidance", ""),
        ("import nescio\nnescio.lod('smollm2')", "cannot import name 'lod'"),
        ("from nescio.core.errors import Oops", "cannot import name 'Oops'"),
        ("import nescio.nowhere", "No module named 'nescio.nowhere'"),
        ("print(", "SyntaxError"),
    ],
)
def test_python_is_checked(code: str, complaint: str) -> None:
    problems = python_problems(f"```python\n{code}\n```\n")
    assert len(problems) == bool(complaint) and complaint in "".join(problems)


def test_dead_links_are_found() -> None:
    text = "# A way\n[a](Makefile) [b](#a-way) [c](https://example.org/x) `[d](gone.md)`\n"
    assert link_problems(text, ROOT / "README.md") == []
    dead = '[a](gone.md) [b](#elsewhere) [c](../) <img src="gone.svg">\n[d]: gone/too.md "title"\n'
    assert len(link_problems(dead, ROOT / "README.md")) == 5


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {page for page in pages if f"({page}" not in index} == set()
