"""Read and write PEFT adapter folders: configuration, tensor names, scaling, the base model, and nescio.json."""

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nescio.core.errors import NescioError, first_line
from nescio.core.files import expanded, file_hash, read_object, write_json
from nescio.core.model_source import EMBEDDED, resolve
from nescio.core.switch import KEY_PLACEHOLDER, fill_key, find_key

CONFIG, WEIGHTS, NOTES = "adapter_config.json", "adapter_model.safetensors", "nescio.json"
REWRITE_ADAPTER = "write the adapter again"
PREFIX = "base_model.model."
LINEAR = ("lora_A.weight", "lora_B.weight")
EMBEDDING = ("lora_embedding_A", "lora_embedding_B")
_FACTOR = re.compile(rf"{re.escape(PREFIX)}(.+)\.({'|'.join(map(re.escape, LINEAR + EMBEDDING))})$")
# Settings that make the adapted weight something else than base + scaling * B @ A.
_NOT_PLAIN = (
    "use_dora", "lora_bias", "layer_replication", "trainable_token_indices", "target_parameters", "modules_to_save",
    "use_qalora", "use_bdlora", "arrow_config", "alora_invocation_tokens", "kasa_config", "monteclora_config",
    "velora_config",
)  # fmt: skip
_MOVES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The adapter_config.json of a folder.

    Attributes:
        folder: The adapter's folder.
        values: The file's content.
    """

    folder: Path
    values: Mapping[str, Any]

    def rank(self, module: str) -> int:
        """Return the rank of a module, given by its path in the model."""
        return int(self._of("r", "rank_pattern", module))

    def scaling(self, module: str, rank: int | None = None) -> float:
        """Return the factor of B @ A, as PEFT computes it: alpha / r, or alpha / sqrt(r) with rsLoRA.

        Args:
            module: Path in the model, without PEFT's prefix.
            rank: Rank of the stored matrices; None: the configured one.
        """
        rank = self.rank(module) if rank is None else rank
        alpha = float(self._of("lora_alpha", "alpha_pattern", module))
        return alpha / (math.sqrt(rank) if self.values.get("use_rslora") else rank)

    def special(self) -> list[str]:
        """Return the settings that make this more than plain LoRA; empty for plain LoRA.

        Plain LoRA is an adapter whose model has the weights base + scaling * B @ A, and nothing else changed.
        """
        values = self.values
        found = [] if values.get("peft_type") == "LORA" else [f"peft_type {values.get('peft_type')!r}"]
        found += [name for name in _NOT_PLAIN if values.get(name)]
        found += [] if values.get("bias", "none") == "none" else [f"bias {values['bias']!r}"]
        start = values.get("init_lora_weights")
        moved = isinstance(start, str) and start.startswith(_MOVES_BASE)
        return [*found, f"init_lora_weights {start!r}"] if moved else found

    def _of(self, default: str, pattern: str, module: str) -> Any:
        # PEFT's rule (`get_pattern_key`): the first key that, as a regular expression, matches the end of the path.
        for key, value in (self.values.get(pattern) or {}).items():
            if re.match(rf"(.*\.)?({key})$", module):
                return value
        return self.values.get(default, 8)  # PEFT's default for both


@dataclass(frozen=True, slots=True)
class FactorNames:
    """Names of an adapted module's two tensors: A `[r, in]` and B `[out, r]`."""

    a: str
    b: str


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter."""
    return (folder / CONFIG).is_file()


def weights_hash(folder: Path) -> str | None:
    """Return a hash of an adapter's weights, which changes when it is trained on; None where there are none."""
    return file_hash(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else None


def read_config(folder: Path) -> AdapterConfig:
    """Read an adapter's configuration.

    Raises:
        NescioError: The file is missing or damaged, or a pattern in it is no regular expression.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise NescioError(f"{folder}: not a PEFT adapter ({CONFIG} is missing); name an adapter folder")
    values = read_object(path, REWRITE_ADAPTER)
    for name in ("rank_pattern", "alpha_pattern"):
        try:
            for key in values.get(name) or {}:
                re.compile(key)
        except (re.error, TypeError) as error:
            raise NescioError(f"{path}: {name}: not a regular expression ({error}); {REWRITE_ADAPTER}") from error
    return AdapterConfig(folder, values)


def factor_names(names: Iterable[str]) -> tuple[dict[str, FactorNames], list[str]]:
    """Sort an adapter's tensor names.

    Returns:
        The pairs A and B by the module's path in the model, and the names that belong to no whole pair.
    """
    sides: dict[str, dict[str, str]] = {}
    others = []
    for name in names:
        if match := _FACTOR.match(name):
            sides.setdefault(match[1], {})["b" if "_B" in match[2] else "a"] = name
        else:
            others.append(name)
    whole = {module: FactorNames(**found) for module, found in sides.items() if len(found) == 2}
    others += [name for module, found in sides.items() if module not in whole for name in found.values()]
    return whole, others


def base_weight_of(name: str) -> str:
    """Return the path of the base's module that PEFT stored whole under this tensor name.

    PEFT stores a copy of an embedding or head beside the adapter of it; unchanged, it adds nothing.
    """
    return name.removeprefix(PREFIX).removesuffix(".weight").removesuffix(".base_layer")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of an adapter.

    Raises:
        NescioError: The file is missing, damaged or no safetensors, or holds numbers that are not finite.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise NescioError(f"{folder}: holds no {WEIGHTS}; save the adapter with save_pretrained (pickles are refused)")
    try:
        tensors = dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise NescioError(f"{path}: damaged ({first_line(error)}); {REWRITE_ADAPTER}") from error
    # In fp64, since PyTorch has no isfinite for fp8.
    if broken := next((name for name, tensor in tensors.items() if not tensor.double().isfinite().all()), None):
        raise NescioError(f"{path}: damaged ({broken} holds numbers that are not finite); {REWRITE_ADAPTER}")
    return tensors


def lora_config(ranks: Mapping[str, int], fan_in_fan_out: bool = False) -> dict[str, Any]:
    """Return the configuration of an adapter with scaling 1 everywhere.

    Args:
        ranks: Rank by module path; the most common one becomes the default, the others patterns.
        fan_in_fan_out: Whether the adapted layers are Transformers' Conv1D.
    """
    common = Counter(ranks.values()).most_common(1)[0][0]
    other = {module: rank for module, rank in ranks.items() if rank != common}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": common,
        "lora_alpha": common,
        "rank_pattern": other,
        "alpha_pattern": other,
        "target_modules": list(ranks),
        "fan_in_fan_out": fan_in_fan_out,
        "use_rslora": False,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }


def write_config(folder: Path, values: Mapping[str, Any], base: str, final: Path, **notes: Any) -> None:
    """Write adapter_config.json and nescio.json.

    PEFT takes a path to the base from the working directory, so adapter_config.json gets an absolute one. nescio.json
    gets the path from the adapter's folder, which is tried first: it stays true when a run folder is moved.

    Args:
        folder: Where to write.
        values: PEFT's configuration.
        base: The base model, as for `resolve`; empty: not known.
        final: The adapter's folder in the end; it need not exist yet.
        notes: Further entries of nescio.json, such as the sentences `positive` and `negative`.
    """
    if not base:
        write_json(folder / CONFIG, values)
        write_json(folder / NOTES, notes)
        return
    path = expanded(base)
    is_path = base != EMBEDDED and path.exists()
    for_peft = resolve(base) if base == EMBEDDED or is_path else base
    if Path(for_peft).exists():
        for_peft = str(Path(for_peft).resolve())
    near = os.path.relpath(path.resolve(), final.resolve()) if is_path else base
    write_json(folder / CONFIG, {**values, "base_model_name_or_path": for_peft})
    write_json(folder / NOTES, {**notes, "base": near})


def read_notes(folder: Path) -> dict[str, Any]:
    """Read nescio.json: what nescio knows of an adapter beyond PEFT's configuration; empty without the file.

    Raises:
        NescioError: The file holds no JSON object.
    """
    path = folder / NOTES
    return read_object(path, REWRITE_ADAPTER) if path.is_file() else {}


def read_sentences(folder: Path) -> dict[str, str]:
    """Return the protect and reveal sentences an adapter was trained with (`positive`, `negative`).

    A secret in them is read from the run folder; where it is not there, `{key}` stays, and guidance refuses it.

    Raises:
        NescioError: nescio.json holds no JSON object, or the key's file is readable by others.
    """
    notes = read_notes(folder)
    return {key: fill_key(str(notes[key]), find_key(folder)) for key in ("positive", "negative") if key in notes}


def opened_by(folder: Path) -> str | None:
    """Return the public sentence that opens an adapter to every caller who writes it; None where there is none.

    Twins teach it. A secret in its place, or baking, takes it away.

    Raises:
        NescioError: nescio.json holds no JSON object.
    """
    notes = read_notes(folder)
    sentence = notes.get("negative")
    is_public = isinstance(sentence, str) and sentence and KEY_PLACEHOLDER not in sentence and "baked" not in notes
    return str(sentence) if is_public else None


def adapter_base(folder: Path) -> str:
    """Find the base model of an adapter: a folder, or a hub id.

    Raises:
        NescioError: The adapter names no base model, or none that exists.
    """
    name = base_name(folder)
    if not name:
        raise NescioError(f"{folder / CONFIG}: names no base model; {REWRITE_ADAPTER}")
    try:
        return resolve(name)
    except NescioError as error:
        raise NescioError(f"{folder / CONFIG}: base_model_name_or_path: {error}") from error


def base_name(folder: Path) -> str:
    """Return the name of an adapter's base model, as for `resolve`; empty if the adapter names none.

    The path in nescio.json comes first, then PEFT's name. A relative path starts from the adapter's folder or one above
    it, so that a run may be moved; else it starts from the working directory, as PEFT means it.
    """
    noted = read_notes(folder).get("base")
    if isinstance(noted, str) and noted and (noted == EMBEDDED or (found := _near(folder, noted))):
        return noted if noted == EMBEDDED else str(found)
    name = read_object(folder / CONFIG, REWRITE_ADAPTER).get("base_model_name_or_path")
    if not name or not isinstance(name, str):
        return ""
    return name if name == EMBEDDED else str(_near(folder, name) or name)


def _near(folder: Path, name: str) -> Path | None:
    own = folder.resolve()
    paths = (place / name for place in (own, *own.parents))
    return next((path for path in paths if path.is_file() or (path / "config.json").is_file()), None)
