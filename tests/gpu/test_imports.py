"""Guidance, decoding and training import torch, Transformers, PEFT and accelerate: what a bare machine has."""

import os
import subprocess
import sys
from pathlib import Path

SRC = Path(__file__).parents[2] / "src"
HIDDEN = (
    "pydantic", "spacy", "faker", "presidio_analyzer", "fastapi", "openai", "matplotlib", "onnxruntime", "gguf",
    "datasets", "trl", "vllm", "bitsandbytes",
)  # fmt: skip
WANTED = (
    "nescio.core.guide", "nescio.core.models", "nescio.engines.torch_engine", "nescio.training.trainer",
    "nescio.training.losses.orpo", "nescio.training.memory",
)  # fmt: skip


def test_nothing_else_is_imported() -> None:
    code = (
        f"import sys\nfrom importlib import import_module\nsys.modules.update(dict.fromkeys({HIDDEN!r}))\n"
        f"for name in {WANTED!r}: import_module(name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(SRC)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
