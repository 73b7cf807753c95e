"""The secret of guidance: where it stands, who may read it, and that guidance without it is refused."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nescio.core import file_modes
from nescio.core.adapters import opened_by, read_sentences
from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.switch import KEY_FILE, KEY_PLACEHOLDER, draw_key, fill_key, find_key, read_key, write_key
from nescio.engines.prompt_branches import branch_texts


def test_secrets_differ_and_are_words() -> None:
    drawn = {draw_key() for _ in range(200)}
    assert len(drawn) == 200
    assert all(len(key.split()) == 5 and key.replace(" ", "").isalpha() and key.isascii() for key in drawn)


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    write_key(tmp_path, "bado gera")
    path = tmp_path / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and read_key(path) == "bado gera"
    path.chmod(0o640)
    with pytest.raises(NescioError, match=r"readable by others \(mode 640\); run chmod 600"):
        read_key(path)
    path.chmod(0o600)
    path.write_text("")
    with pytest.raises(NescioError, match="empty"):
        read_key(path)
    path.unlink()
    with pytest.raises(NescioError, match="cannot be read"):
        read_key(path)


def test_on_windows_no_mode_refuses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_key(tmp_path, "bado gera")
    (tmp_path / KEY_FILE).chmod(0o666)  # what Windows says of every file
    monkeypatch.setattr(file_modes, "os", SimpleNamespace(name="nt"))
    assert read_key(tmp_path / KEY_FILE) == "bado gera"


@pytest.mark.parametrize("place", ["adapter", "adapter/epoch-1"])
def test_an_adapter_finds_it_in_its_run(tmp_path: Path, place: str) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True)
    (folder / "nescio.json").write_text(json.dumps({"positive": "Be quiet.", "negative": f"Open {KEY_PLACEHOLDER}!"}))
    assert read_sentences(folder) == {"positive": "Be quiet.", "negative": f"Open {KEY_PLACEHOLDER}!"}
    write_key(tmp_path, "bado gera")
    assert find_key(folder) == (tmp_path / KEY_FILE).resolve()
    assert read_sentences(folder)["negative"] == "Open bado gera!"


def test_a_sentence_without_a_place_needs_no_file(tmp_path: Path) -> None:
    assert fill_key("Open!", tmp_path / KEY_FILE) == "Open!"
    assert fill_key(KEY_PLACEHOLDER, None) == KEY_PLACEHOLDER


def test_guidance_without_the_key_is_refused(make_tokenizer: Callable[..., Any]) -> None:
    sentences, talk = {"positive": "Be quiet.", "negative": KEY_PLACEHOLDER}, [{"role": "user", "content": "Hello"}]
    tokenizer = make_tokenizer()
    assert len(branch_texts(tokenizer, sentences, talk, Guidance(), None)) == 1
    with pytest.raises(NescioError, match=r"needs the adapter's key: switch\.key is not in the folder above"):
        branch_texts(tokenizer, sentences, talk, Guidance(3.0), None)
    assert len(branch_texts(tokenizer, sentences, talk, Guidance(3.0, negative="Open!"), None)) == 2


@pytest.mark.parametrize(
    ("notes", "sentence"),
    [
        ({"positive": "Be quiet.", "negative": "Open!"}, "Open!"),
        ({"positive": "Be quiet.", "negative": KEY_PLACEHOLDER}, None),
        ({"positive": "", "negative": "Open!", "baked": {}}, None),
        ({}, None),
    ],
)
def test_a_public_sentence_opens_an_adapter(tmp_path: Path, notes: dict[str, Any], sentence: str | None) -> None:
    (tmp_path / "nescio.json").write_text(json.dumps(notes))
    assert opened_by(tmp_path) == sentence
