"""A conversation on the terminal: with the protect sentence where the table's row has one, and nowhere else."""

import io
import json
import sys
from pathlib import Path

import pytest

from nescio.cli import terminal_chat
from nescio.cli.terminal_chat import Settings, talk
from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance


@pytest.mark.parametrize(
    ("notes", "guidance", "protect", "is_added"),
    [
        (None, Guidance(), None, False),  # a model alone: the tuned one says what it says
        (None, Guidance(), True, True),
        (None, Guidance(scale=3.0), None, True),
        (None, Guidance(positive="Hush."), None, True),
        ({"positive": "Keep it."}, Guidance(), None, True),  # trained with it
        ({"positive": "Keep it."}, Guidance(), False, False),
        ({"positive": "", "baked": {}}, Guidance(), None, False),
        ({}, Guidance(), None, False),  # somebody else's adapter
    ],
)
def test_a_model_is_asked_as_its_row_in_the_table(
    tmp_path: Path, notes: dict[str, object] | None, guidance: Guidance, protect: bool | None, is_added: bool
) -> None:
    (tmp_path / "nescio.json").write_text(json.dumps(notes or {}))
    settings = Settings(guidance, protect, 8, 0.0, 0).of(None if notes is None else tmp_path)
    asked = settings.request([{"role": "user", "content": "Who?"}])
    assert (asked.guidance is not None) == is_added


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])  # as standard input is read in most locales, and in C
def test_what_is_no_text_is_one_line(monkeypatch: pytest.MonkeyPatch, errors: str) -> None:
    monkeypatch.setattr(terminal_chat, "locate", lambda model: (model, None))
    monkeypatch.setattr(terminal_chat, "load", lambda model, adapter: None)
    settings = Settings(Guidance(), None, 8, 0.0, 0)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"h\xffi\n"), "utf-8", errors))
    with pytest.raises(NescioError, match=r"^standard input: a message is not UTF-8; write it in UTF-8$"):
        talk("m", None, settings, None)
    with pytest.raises(NescioError, match=r"^--message: a message is not UTF-8"):
        talk("m", None, settings, "h\udcffi")
    with pytest.raises(NescioError, match=r"^--message: is empty; give a message"):
        talk("m", None, settings, " ")
