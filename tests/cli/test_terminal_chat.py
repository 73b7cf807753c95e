"""A conversation on the terminal: with the protect sentence where the table's row has one, and nowhere else."""

import json
from pathlib import Path

import pytest

from nescio.cli.terminal_chat import Settings
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
