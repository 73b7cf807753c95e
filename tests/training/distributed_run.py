"""One of the processes of `test_distributed.py`: trains a tiny model and writes what came of it. Not a test itself."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tiny_training import LORA, SETTINGS, UNITS, adapter_of
from transformers import LlamaConfig, LlamaForCausalLM

from nescio.core.shared_prefix import Continuation, Group
from nescio.training.anchors import AnchorSettings
from nescio.training.batch import Example, Unit
from nescio.training.losses.orpo import orpo
from nescio.training.losses.registry import open_loss, restrict
from nescio.training.processes import processes
from nescio.training.reference import with_reference
from nescio.training.retain import retained
from nescio.training.trainer import fit

KEPT: list[Unit] = [[Example(f"kept {n}", Group([30 + n, 31], [Continuation([40 + n, 41, 42])]))] for n in range(4)]


def new_model() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            vocab_size=320, initializer_range=0.4,
        )
    ).eval()  # fmt: skip


def main(out: Path) -> None:
    """Train with a global batch of two units and write log, tensors and the size of the world."""
    model, world = new_model(), processes().num_processes
    # Units of two pairs and of one: the processes' batches are of unequal size.
    units = [[*UNITS[0], *UNITS[1]], UNITS[2], [*UNITS[3], *UNITS[4]], UNITS[5]]
    units = with_reference(model, units, 1024, out / "reference.jsonl")
    lora = replace(LORA, dropout=0.0)
    settings = replace(SETTINGS, epochs=3, batch_size=4 // world, lora=lora, row_tokens=12)
    done = fit(model, units, loss=orpo.bind(beta=0.1), settings=settings, work=out / "work", test=UNITS[:3])
    # RMU looks at lower layers alone, and holds the kept half to the model without its adapter.
    rmu = open_loss("rmu")
    settings = replace(settings, batch_size=2 // world, states_at=rmu.states_at)
    kept = retained(KEPT, AnchorSettings(per_step=4), rmu, seed=0, row_tokens=12)
    steered = fit(
        new_model(), restrict(UNITS[:4], rmu), loss=rmu.bind(beta=2.0), settings=settings, work=out / "rmu", retain=kept
    )
    if processes().is_main_process:
        save_file({name: tensor.contiguous() for name, tensor in adapter_of(done.model).items()}, out / "a.safetensors")
        (out / "done.json").write_text(json.dumps({"world": world, "log": done.log, "rmu": steered.log}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
