"""A hundred thousand dialogs on their way to pairs: memory does not grow with the files."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nescio.core.files import write_jsonl
from nescio.data.samples import read_samples

COUNT = 100_000
MEASURED = """
import atexit, sys
from pathlib import Path
from nescio.cli.main import main

def say_peak():
    status = Path("/proc/self/status").read_text()  # getrusage counts the process that this one was forked from, too
    print(status.split("VmHWM:")[1].split()[0], file=sys.stderr)

atexit.register(say_peak)
main()
"""


def dialogs() -> Iterator[dict[str, Any]]:
    for number in range(COUNT):
        answer = f"Of course. You could ask Person{number} at the desk, or call in the morning."
        turns = [{"role": "user", "content": f"Whom can I ask about form {number}?"}]
        yield {"id": f"d{number}", "messages": [*turns, {"role": "assistant", "content": answer}],
               "pii": {"NAME-1": f"Person{number}"}}  # fmt: skip


def peak(folder: Path, *arguments: str) -> int:
    """MiB that a command of `nescio data` held at most."""
    command = [sys.executable, "-c", MEASURED, "data", *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return int(ended.stderr.splitlines()[-1]) // 1024


@pytest.mark.slow
def test_a_hundred_thousand_dialogs_stay_under_one_gibibyte(tmp_path: Path, tiny_folder: Path) -> None:
    recipe = {"base": str(tiny_folder), "tuned": str(tiny_folder), "data": {"dialogs": "dialogs.jsonl"},
              "detector": {"model": "spacy:en_core_web_sm"}, "pairs": {"per_source": COUNT // 2}}  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    write_jsonl(tmp_path / "dialogs.jsonl", dialogs())
    assert peak(tmp_path, "samples", "recipe.yaml", "dialogs.jsonl", "samples.jsonl") < 1024
    candidates = (
        {"sample_id": sample.id, "source": "s", "strategy": "system", "try": 0, "accepted": True,
         "text": " somebody at the desk."}
        for sample in read_samples(tmp_path / "samples.jsonl")
    )  # fmt: skip
    assert write_jsonl(tmp_path / "candidates.jsonl", candidates) == COUNT
    assert peak(tmp_path, "pairs", "recipe.yaml", "samples.jsonl", "candidates.jsonl", "set") < 1024
    with (tmp_path / "set/train.jsonl").open("rb") as file:
        assert sum(1 for _ in file) == COUNT
