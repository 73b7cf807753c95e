"""The adapter that is trained: a fresh LoRA on a model, or a trained one that is trained further."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from nescio.core.errors import NescioError
from nescio.training.settings import LoraSettings


def with_lora(model: Any, lora: LoraSettings) -> Any:
    """Attach a fresh adapter to a model (paper, section 2.3: to all linear layers).

    Raises:
        NescioError: A target names no module of the model.
    """
    check_targets(model, lora.targets)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        target_modules=lora.targets,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
    )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise _unknown_targets(model, lora.targets) from error
    adapted.config.use_cache = False
    return adapted


def with_trained(model: Any, folder: Path) -> Any:
    """Attach a trained adapter, to be trained further."""
    adapted = PeftModel.from_pretrained(model, folder, is_trainable=True)
    adapted.config.use_cache = False
    return adapted


def check_targets(model: Any, targets: str | list[str], place: str = "train.lora.targets") -> None:
    """Check that each target names a module; PEFT skips those that match nothing.

    Args:
        model: The model, with or without its weights.
        targets: Names of modules, or what PEFT has a word for.
        place: Where the user wrote them, for the error.

    Raises:
        NescioError: One names none.
    """
    if isinstance(targets, str):
        return
    known = [f".{name}" for name, _ in model.named_modules()]
    missing = [target for target in targets if not any(name.endswith(f".{target}") for name in known)]
    if missing or not targets:
        raise _unknown_targets(model, missing, place)


def _unknown_targets(model: Any, targets: str | list[str], place: str = "train.lora.targets") -> NescioError:
    linear = sorted({name.rsplit(".")[-1] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)})
    return NescioError(f"{place}: {targets} fits no module of the model; it has {', '.join(linear)}")
