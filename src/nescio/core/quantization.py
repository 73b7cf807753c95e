"""A model's linear layers in four or eight bits, by bitsandbytes: the frozen base of a LoRA training.

NF4 with double quantisation is QLoRA's (Dettmers et al. 2023, arXiv 2305.14314, section 3); int8 is LLM.int8()
(Dettmers et al. 2022, arXiv 2208.07339). The head and the embedding stay as they are.
"""

import logging
from typing import Any, Literal, get_args

import torch

from nescio.core.errors import NescioError
from nescio.core.extras import require

Quantization = Literal["nf4", "int8"]
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)

# A weight in NF4: 4 bits, of each 64 weights a scale of 8 bits, of each 256 scales one of 32 bits.
BYTES_EACH: dict[Quantization, float] = {"nf4": 0.5 + 1 / 64 + 4 / (64 * 256), "int8": 1.0}
_CAPABILITY: dict[Quantization, tuple[int, int]] = {"nf4": (6, 0), "int8": (7, 5)}  # the least of NVIDIA's, as bnb says


def check_quantization(kind: Quantization, device: torch.device, place: str) -> None:
    """Check that this machine can quantise a model.

    Args:
        kind: Which way.
        device: Where the model will be.
        place: Where the user wrote it, for the error.

    Raises:
        NescioError: bitsandbytes is not installed, or knows nothing of this device.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # int8 warns of its cast at every product
    bnb = require("bitsandbytes", "quantize", f"{place}: {kind}")
    if device.type not in bnb.supported_torch_devices:
        known = ", ".join(sorted(map(str, bnb.supported_torch_devices)))
        raise NescioError(
            f"{place}: {kind}: bitsandbytes has nothing for {device.type}, only for {known}; set it to null"
        )
    if device.type == "cuda" and torch.version.hip is None:
        have, least = torch.cuda.get_device_capability(device), _CAPABILITY[kind]
        if have < least:
            raise NescioError(
                f"{place}: {kind} needs a GPU of compute capability {least[0]}.{least[1]}, this one has "
                f"{have[0]}.{have[1]}; set it to {'nf4' if have >= _CAPABILITY['nf4'] else 'null'}"
            )


def quantization_config(kind: Quantization, dtype: torch.dtype) -> Any:
    """Return what Transformers' `from_pretrained` takes as `quantization_config`.

    Args:
        kind: Which way.
        dtype: Type in which NF4 weights are multiplied.
    """
    from transformers import BitsAndBytesConfig

    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def keep_trainable(model: Any) -> None:
    """Keep NF4 layers on a CPU in the layout that has a gradient.

    On a CPU with AVX512-BF16, bitsandbytes lays a weight out anew in the first forward of the evaluation mode, for a
    product that has none: an adapter below would silently learn nothing from then on.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
