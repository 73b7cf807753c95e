"""What is noted before the first stage, and not refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny_run import Quiet

from nescio.pipeline.recipe import Recipe
from nescio.pipeline.run import Run

DIFFERS = (
    "base and tuned differ (architecture gpt2 and llama, width 64 and 32, vocabulary 300 and 320): is the base the "
    "model before it saw the conversations?"
)


def test_a_base_of_another_kind_is_noted(tmp_path: Path, tiny_folder: Path, make_model: Callable[..., Any]) -> None:
    other = tmp_path / "other"
    make_model("gpt2", n_embd=64, vocab_size=300).save_pretrained(other)
    for base, notes in ((other, [DIFFERS]), (tiny_folder, [])):
        quiet = Quiet()
        recipe = {"base": str(base), "tuned": str(tiny_folder), "data": {"synthetic": {"dialogs": 6}}}
        run = Run(Recipe.model_validate(recipe), tmp_path / f"out-{base.name}", quiet)
        run.check()
        assert quiet.notes == notes
        run.execute("data")
        assert quiet.notes == 2 * notes
        run.execute("data")
        assert quiet.notes == 2 * notes, "once, before the first stage"
