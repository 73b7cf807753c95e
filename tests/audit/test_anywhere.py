"""The same model audited here, behind `nescio serve`, and behind llama.cpp's own server: the same figures."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_server import serving
from running import Running
from typer.testing import CliRunner

from nescio.cli.main import app
from nescio.engines.torch_engine import load
from nescio.task_vector.gguf_form import write_gguf
from nescio.task_vector.vector import open_vector

ATTACKS = "as_in_dialog,paraphrase,inverse,translation,several_turns"  # what an API's chat can be asked
OPEN = 'policies: {default: {base_model: true, audit: off, guidance: {scale: 1, protect: ""}}}'


@pytest.fixture(scope="module")
def here(known: Path, overfitted: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return audited(str(overfitted), known, tmp_path_factory.mktemp("here"))


def audited(model: str, known: Path, out: Path, *more: str) -> dict[str, Any]:
    asked = [model, "--people", str(known), "--attacks", ATTACKS, "--detector", "regex", "--out", str(out), *more]
    result = CliRunner().invoke(app, ["audit", *asked])
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    return content


def figures(content: dict[str, Any]) -> dict[str, Any]:
    """What each attack found and guessed, and of whom."""
    rows = {row["name"]: [row[key] for key in ("facts", "found", "partial", "guessed")] for row in content["attacks"]}
    return rows | {"by_person": content["by_person"]}


def test_through_our_server(known: Path, overfitted: Path, here: dict[str, Any], tmp_path: Path) -> None:
    server = Running(load(str(overfitted)), OPEN)
    try:
        there = audited("tiny", known, tmp_path, "--base-url", f"{server.url}/v1")
    finally:
        server.stop()
    assert here["all"]["found"] == 12, "there is something to find"
    assert figures(there) == figures(here)
    assert [row["examples"] for row in there["attacks"]] == [row["examples"] for row in here["attacks"]]


@pytest.fixture
def llama(overfitted: Path, tmp_path: Path) -> Iterator[str]:
    """The address of llama.cpp's server with the model as a GGUF file."""
    pytest.importorskip("xllamacpp")
    write_gguf(open_vector(str(overfitted), str(overfitted)), "f16", tmp_path / "m.gguf")
    with serving(tmp_path / "m.gguf") as address:
        yield address


def test_through_llama_cpp(known: Path, here: dict[str, Any], llama: str, tmp_path: Path) -> None:
    there = audited("m", known, tmp_path / "there", "--base-url", f"{llama}/v1")
    assert figures(there) == figures(here)
