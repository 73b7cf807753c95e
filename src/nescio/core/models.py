"""Load models and tokenizers of Transformers by the names that `model_source` resolves."""

import ctypes
import gc
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nescio.core.adapters import adapter_base, is_adapter
from nescio.core.errors import NescioError, first_line
from nescio.core.model_size import ModelSize
from nescio.core.model_source import resolve
from nescio.core.quantization import Quantization, check_quantization, keep_trainable, quantization_config


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model with its tokenizer; `adapter` is the adapter folder if the name was one."""

    model: Any
    tokenizer: Any
    adapter: Path | None = None


def load_tokenizer(name: str) -> Any:
    """Load the tokenizer of a model.

    Raises:
        NescioError: The model has none, or an unusable one.
    """
    from transformers import AutoTokenizer

    source = resolve(name)
    if is_adapter(Path(source)) and not (Path(source) / "tokenizer_config.json").is_file():
        source = adapter_base(Path(source))
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if not Path(source).exists():
            raise NescioError(
                f"{name}: no such folder here, and the hub did not give it ({first_line(error)}); check the name"
            ) from error
        raise NescioError(f"{name}: no tokenizer can be loaded ({first_line(error)}); add one to it") from error
    if len(tokenizer) == 0:
        raise NescioError(f"{name}: no tokenizer is saved there; copy the tokenizer files next to the weights")
    if tokenizer.eos_token_id is None:
        raise NescioError(f"{name}: the tokenizer has no EOS token; set eos_token in tokenizer_config.json")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def locate(name: str) -> tuple[str, Path | None]:
    """Return where a model's weights are (a folder or a hub id), and the adapter folder if the name was one.

    Raises:
        NescioError: The model, or an adapter's base model, is missing or damaged.
    """
    source = resolve(name)
    adapter = Path(source) if is_adapter(Path(source)) else None
    return (adapter_base(adapter), adapter) if adapter else (source, None)


def one_adapter(own: Path | None, given: Path | str | None) -> Path | None:
    """Return the one adapter that a model is opened with: the model's name may be an adapter folder itself.

    Args:
        own: The adapter folder that the model's name is, as `locate` found it.
        given: The adapter that is asked for beside it.

    Raises:
        NescioError: They are two; one of them would silently be left out.
    """
    if own is None or given is None:
        return own if given is None else Path(given)
    if own.resolve() != Path(given).resolve():
        raise NescioError(f"{own}: is an adapter, and {given} is another; name one of them, or the base model with it")
    return own


def load_model(name: str, dtype: torch.dtype | None = None, quantize: Quantization | None = None) -> Loaded:
    """Load a model and its tokenizer onto the best device.

    Args:
        name: As for `resolve`; for a PEFT adapter folder its base model, without the adapter.
        dtype: Type of the weights; None: bf16 on a GPU that has it, else fp32.
        quantize: Form of the linear layers' weights, for training an adapter on them; None: `dtype`.

    Raises:
        NescioError: The model is missing, damaged, or too large for the GPU; or it can't be quantised here.
    """
    from transformers import AutoModelForCausalLM

    weights, adapter = locate(name)
    device, dtype = best_device(), dtype or best_dtype()
    how: dict[str, Any] = {}
    if quantize:
        check_quantization(quantize, device, "quantize")
        how = {"quantization_config": quantization_config(quantize, dtype), "device_map": {"": device}}
    _refuse_too_large(name, dtype, quantize)
    tokenizer = load_tokenizer(weights)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            weights, dtype=dtype, low_cpu_mem_usage=True, use_safetensors=True, **how
        )
    except Exception as error:  # safetensors, hub and config errors share no base class
        raise NescioError(f"{name}: cannot be loaded ({first_line(error)}); check the files or the hub id") from error
    if quantize:
        keep_trainable(model)
    else:
        model = model.to(device)
    return Loaded(model.eval(), tokenizer, adapter)


def _refuse_too_large(name: str, dtype: torch.dtype, quantize: Quantization | None) -> None:
    free = free_memory()
    if free is None:
        return
    size = size_of(name)
    need = size.bytes_of_weights(dtype, quantize)
    if need > free:
        small = size.bytes_of_weights(dtype, "nf4")
        fits = f"train.quantize: nf4 would take {gib(small)} in training" if small <= free else "take a smaller model"
        raise NescioError(
            f"{name}: its weights take {gib(need)} as {quantize or str(dtype).removeprefix('torch.')}, "
            f"and {gib(free)} of the GPU's memory are free; {fits}"
        )


def best_device() -> torch.device:
    """Return this process's NVIDIA or AMD GPU, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def best_dtype() -> torch.dtype:
    """Return bf16 on a CUDA GPU that has it, else fp32: on many CPUs bf16 is slower and its greedy tokens vary."""
    return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32


def multiplies_bf16() -> bool:
    """Return whether this machine has instructions for products in bf16, which are faster than those in fp32."""
    if best_device().type == "cpu":
        tests = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
        return any(test() for test in tests if test)
    return best_dtype() == torch.bfloat16


def free_memory() -> int | None:
    """Return the GPU's free bytes; None on a CPU, whose memory can be swapped."""
    device = best_device()
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return None


def gib(size: float) -> str:
    """Return a number of bytes in words, such as `15.0 GiB`."""
    return f"{size / 2**30:.1f} GiB"


def context_length(config: Any) -> int:
    """Return the number of tokens that a model of this configuration takes in a row; 2**30 if it has no limit."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 1 << 30)


def longest_scored(model: Any) -> int:
    """Return the number of tokens that a model can read at all: its context if its positions are learned."""
    learned = any(name.endswith(("wpe", "embed_positions")) for name, _ in model.named_modules())
    return context_length(model.config) if learned else 1 << 30


def context_length_of(name: str) -> int:
    """Return `context_length` of a model, from its configuration.

    Raises:
        NescioError: The model is missing or damaged.
    """
    return context_length(config_of(name))


def config_of(name: str) -> Any:
    """Read the configuration of a model.

    Raises:
        NescioError: The model is missing or damaged.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(locate(name)[0])
    except (OSError, ValueError) as error:
        raise NescioError(f"{name}: cannot be loaded ({first_line(error)}); check the files or the hub id") from error


def size_of(name: str) -> ModelSize:
    """Return what decides a model's memory, from its configuration.

    Raises:
        NescioError: The model is missing, damaged, or no causal LM.
    """
    config = config_of(name)
    try:
        return ModelSize.of(config)
    except (ValueError, AttributeError, TypeError) as error:
        raise NescioError(f"{name}: is not a causal LM that Transformers knows ({first_line(error)})") from error


def release() -> None:
    """Free the memory of models that are no longer referenced."""
    gc.collect()
    device = best_device()
    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()
    # After a training glibc keeps two thirds of what it has taken, in pieces, for this process alone.
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None:
        trim(0)
