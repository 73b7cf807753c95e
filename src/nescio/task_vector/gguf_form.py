"""Write a Llama-architecture model, with an adapter merged or without, as GGUF for llama.cpp, Ollama and LM Studio."""

import json
import math
from pathlib import Path
from typing import Any

from torch import Tensor

from nescio.core.callbacks import Progress
from nescio.core.end_tokens import turn_end
from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.core.files import atomic_write
from nescio.core.models import load_tokenizer
from nescio.core.prompts import adds_bos
from nescio.task_vector.checkpoints import HEADS
from nescio.task_vector.model_form import check_space
from nescio.task_vector.vector import TaskVector

ARCHITECTURES = ("llama", "mistral")
"""Transformers' model types whose layers are those of llama.cpp's `llama`."""
TYPES = ("f16", "q8_0", "q4_0", "q4_1")
"""Types of the weights; under four bits the embedding and the head stay at q8_0."""
_SPLIT_GPT2 = "gpt-2"
_LLAMA3 = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"  # how its splitting begins


def write_gguf(
    vector: TaskVector,
    kind: str,
    out: Path,
    coefficient: float = -1.0,
    progress: Progress | None = None,
) -> None:
    """Write base − c·delta as one GGUF file; a tensor at a time is in memory.

    Args:
        vector: The base and what is added to it: the delta of an adapter.
        kind: One of `TYPES`.
        out: The file; it must not exist.
        coefficient: c; −1 adds the delta, as an adapter is merged, and 0 leaves the base as it is.
        progress: Called with tensors done and all tensors.

    Raises:
        NescioError: The architecture, the tokenizer or a tensor's shape cannot be written; nothing is left at `out`.
    """
    if out.exists():
        raise NescioError(f"{out}: exists already; choose another --out")
    if kind not in TYPES:
        raise NescioError(f"gguf {kind}: unknown type; this package quantises {', '.join(TYPES)}")
    gguf = require("gguf", "gguf", f"{out.name}")
    base = vector.base
    check_space(out, base.nbytes)
    # 1) everything that can be refused is refused before a byte is written
    config = llama_config(base.folder)
    names = _names(gguf, vector, config)
    types = {name: _type(gguf, name, base.entries[name].shape, kind) for name in names}
    with atomic_write(out) as scratch:
        writer = gguf.GGUFWriter(scratch, "llama")
        _write_metadata(gguf, writer, config, out.stem, kind)
        _write_tokenizer(writer, load_tokenizer(str(base.folder)), base.entries[_embedding(names)].shape[0])
        # 2) the plan of the tensors, then their data in the same order
        for name, target in names.items():
            shape = base.entries[name].shape
            number = gguf.GGMLQuantizationType[types[name]]
            stored = (
                gguf.quants.quant_shape_to_byte_shape(shape, number) if types[name] not in ("F32", "F16") else shape
            )
            size = _bytes(gguf, shape, types[name])
            dtype = {"F32": "float32", "F16": "float16"}.get(types[name], "uint8")
            writer.add_tensor_info(target, stored, _numpy_type(dtype), size, raw_dtype=number)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for done, name in enumerate(names, start=1):
            entry = base.entries[name]
            rows = vector.rows(name, 0, entry.rows, coefficient).view(entry.shape).float()
            data = gguf.quants.quantize(
                permuted(name, rows, config).contiguous().numpy(), gguf.GGMLQuantizationType[types[name]]
            )
            if types[name] == "F16" and not bool((abs(data) < float("inf")).all()):
                raise NescioError(f"{name}: holds values that f16 cannot; the base is damaged or needs another type")
            writer.write_tensor_data(data)
            if progress:
                progress(done, len(names))
        writer.close()


def _numpy_type(name: str) -> Any:
    import numpy

    return numpy.dtype(name)


def _bytes(gguf: Any, shape: tuple[int, ...], kind: str) -> int:
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    return math.prod(shape) // int(block) * int(size)


def llama_config(folder: Path) -> Any:
    """Read the configuration, and refuse what llama.cpp's `llama` does not compute."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    if config.model_type not in ARCHITECTURES:
        raise NescioError(
            f"{folder.name}: architecture {config.model_type} is not written as GGUF here ({', '.join(ARCHITECTURES)} "
            "are); export with --merged and convert with llama.cpp's convert_hf_to_gguf.py"
        )
    rope = config.rope_parameters or {}
    if rope.get("rope_type", "default") not in ("default", "linear"):
        raise NescioError(
            f"{folder.name}: rope scaling {rope['rope_type']} is not written as GGUF here; export with --merged and "
            "convert with llama.cpp's convert_hf_to_gguf.py"
        )
    if config.hidden_act not in ("silu", "swish"):  # two names of one function
        raise NescioError(
            f"{folder.name}: activation {config.hidden_act}: llama.cpp's llama has silu alone; export with --merged"
        )
    return config


def _names(gguf: Any, vector: TaskVector, config: Any) -> dict[str, str]:
    """Return GGUF's name of each tensor; a head that is the embedding is left out: llama.cpp takes the embedding."""
    known = name_map(gguf, config)
    names = {}
    for name in vector.base.entries:
        if (vector.base.is_tied and name.endswith(HEADS)) or name.endswith("rotary_emb.inv_freq"):
            continue
        names[name] = gguf_name(known, name)
    return names


def name_map(gguf: Any, config: Any) -> Any:
    """Return the `gguf` package's map of tensor names for a model of this configuration."""
    return gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)


def gguf_name(known: Any, name: str) -> str:
    """Return GGUF's name of a tensor.

    Raises:
        NescioError: It has none.
    """
    target = known.get_name(name, try_suffixes=(".weight", ".bias"))
    if target is None:
        raise NescioError(f"{name}: this tensor has no place in a GGUF of llama; export with --merged")
    return str(target)


def _embedding(names: dict[str, str]) -> str:
    return next(name for name, target in names.items() if target == "token_embd.weight")


def _type(gguf: Any, name: str, shape: tuple[int, ...], kind: str) -> str:
    """Return the type of a tensor: vectors stay in fp32, as llama.cpp wants them."""
    if len(shape) < 2:
        return "F32"
    edges = name.endswith(HEADS) or name.endswith("embed_tokens.weight")
    chosen = "Q8_0" if edges and kind.startswith("q4") else kind.upper()
    block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[chosen]][0]
    if shape[-1] % block:
        raise NescioError(
            f"{name}: rows of {shape[-1]} do not divide into blocks of {block}, as {kind} wants; export with --gguf f16"
        )
    return chosen


def permuted(name: str, rows: Tensor, config: Any) -> Tensor:
    """Reorder the rows of Q and K: Transformers rotates halves of a head, llama.cpp neighbours."""
    part = name.split(".")[-2] if "." in name else ""
    if part not in ("q_proj", "k_proj"):
        return rows
    heads = config.num_attention_heads if part == "q_proj" else config.num_key_value_heads
    halves = rows.view(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.transpose(1, 2).reshape(rows.shape)


def _write_metadata(gguf: Any, writer: Any, config: Any, name: str, kind: str) -> None:
    rope = config.rope_parameters or {}
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    window = getattr(config, "sliding_window", None)  # llama.cpp's llama has none: below it both are the same
    writer.add_name(name)
    writer.add_file_type(int(gguf.LlamaFileType[f"MOSTLY_{kind.upper()}"]))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(min(config.max_position_embeddings, window or config.max_position_embeddings))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _write_tokenizer(writer: Any, tokenizer: Any, size: int) -> None:
    """Write a byte-level BPE vocabulary, its merges, its special tokens and the chat template.

    Args:
        writer: GGUF's.
        tokenizer: The model's.
        size: Rows of the embedding; ids beyond the vocabulary are marked as unused.
    """
    plain = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else {}
    split = _splitting(plain)
    if split is None:
        kind = (plain.get("model") or {}).get("type", type(tokenizer).__name__)
        raise NescioError(
            f"{Path(tokenizer.name_or_path).name}: tokenizer {kind} splits text in a way that is not written as GGUF "
            "here (byte-level BPE as in GPT-2, SmolLM2 and Llama 3 is); export with --merged"
        )
    added = {token["id"]: token for token in plain["added_tokens"]}
    texts, types = [], []
    by_id = {number: text for text, number in tokenizer.get_vocab().items()}
    for number in range(size):
        texts.append(by_id.get(number, f"[PAD{number}]"))
        special = 3 if added.get(number, {}).get("special") else 4  # control, or defined by the user
        types.append(5 if number not in by_id else special if number in added else 1)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(texts)
    writer.add_token_types(types)
    merges = plain["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    for add, number in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_eot_token_id, tokenizer.convert_tokens_to_ids(turn_end(tokenizer))),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if number is not None:
            add(number)
    writer.add_add_bos_token(adds_bos(tokenizer))
    writer.add_add_space_prefix(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _splitting(plain: dict[str, Any]) -> str | None:
    """Return llama.cpp's name of how a tokenizer splits text before its merges; None where it has none here."""
    if (plain.get("model") or {}).get("type") != "BPE" or plain.get("normalizer"):
        return None
    first = plain.get("pre_tokenizer") or {}
    steps = first.get("pretokenizers", [first])
    if any(step.get("add_prefix_space") for step in steps) or steps[-1].get("type") != "ByteLevel":
        return None
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return _SPLIT_GPT2
    if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"] and steps[1].get("use_regex", True):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and str(steps[0]["pattern"].get("Regex", "")).startswith(_LLAMA3):
        return "llama-bpe"
    return None
