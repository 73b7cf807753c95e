"""Write a LoRA adapter of a Llama-architecture model as GGUF, which llama.cpp attaches to a GGUF of the base."""

from pathlib import Path

import torch

from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.core.files import atomic_write
from nescio.task_vector.adapter_delta import LowRank
from nescio.task_vector.gguf_form import gguf_name, llama_config, name_map, permuted
from nescio.task_vector.vector import TaskVector


def write_lora(vector: TaskVector, out: Path) -> None:
    """Write an adapter's factors in f16, as llama.cpp's convert_lora_to_gguf.py lays them out.

    The scaling is in B: llama.cpp has one alpha for all modules, and no rsLoRA.

    Args:
        vector: The base and the adapter on it.
        out: The file; it must not exist.

    Raises:
        NescioError: The architecture or a module cannot be written, or this is no adapter; nothing is left at `out`.
    """
    gguf = require("gguf", "gguf", f"{out.name}")
    if not isinstance(vector.delta, LowRank):
        raise NescioError(f"{out.name}: only an adapter is written as a LoRA; export with --gguf alone")
    config = llama_config(vector.base.folder)
    known, factors = name_map(gguf, config), vector.delta.factors
    ranks = {each.a.shape[0] for each in factors.values()}
    with atomic_write(out) as scratch:
        writer = gguf.GGUFWriter(scratch, "llama")
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_name(out.stem)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        # llama.cpp scales by alpha / rank; 0 is a scale of 1, whatever the rank.
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(ranks.pop() if len(ranks) == 1 else 0))
        for name, each in factors.items():
            if each.kind != "linear":
                raise NescioError(
                    f"{name}: an adapted {each.kind} has no place in a LoRA GGUF; export with --gguf alone"
                )
            b, a = each.wide()  # [out, r] with the scaling, [r, in]
            for side, factor in (("lora_a", a), ("lora_b", permuted(name, b, config))):
                half = factor.to(torch.float16).contiguous()
                if not half.isfinite().all():
                    raise NescioError(f"{name}: holds values that f16 cannot; export with --gguf alone")
                writer.add_tensor(f"{gguf_name(known, name)}.{side}", half.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
