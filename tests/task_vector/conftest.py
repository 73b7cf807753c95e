"""Tiny bases and fine-tunes on the disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch


def shift(model: Any, by: float = 0.02, seed: int = 1) -> Any:
    """Move every weight a little, as a fine-tune does."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return model


Pair = tuple[Path, Path]


@pytest.fixture
def make_pair(
    tmp_path: Path, make_model: Callable[..., Any], make_tokenizer: Callable[..., Any]
) -> Callable[..., Pair]:
    """Write a base and its fine-tune: `make_pair(style, dtype, shard_size, **config)`."""

    def make(style: str = "llama", dtype: torch.dtype = torch.float32, shard: str = "1GB", **changes: Any) -> Pair:
        folders = tmp_path / "base", tmp_path / "tuned"
        base = make_model(style, **changes)
        for folder, model in zip(folders, (base, shift(make_model(style, **changes))), strict=True):
            model.to(dtype).save_pretrained(folder, max_shard_size=shard)
            make_tokenizer().save_pretrained(folder)
        return folders

    return make
