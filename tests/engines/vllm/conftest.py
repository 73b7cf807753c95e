"""Two engines on vLLM a session: one on a tiny model with a cache that is too small, one on the embedded model."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from nescio.engines.torch_engine import TorchEngine
from nescio.engines.torch_engine import load as load_torch

# Starting vLLM takes half a minute; what can be seen without it is tested wherever the tests run.
# A folder of this name on the path would be found too, hence the origin.
collect_ignore = (
    []
    if (vllm := find_spec("vllm")) and vllm.origin
    else ["test_vllm_engine.py", "test_measuring.py", "test_parity.py", "test_processors.py"]
)

SMALL = {"enforce_eager": True, "block_size": 32, "kv_cache_memory_bytes": 1 << 28, "seed": 0}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Any], chatml: Any) -> Path:
    """A tiny model whose heads are wide enough for vLLM's attention."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_model("llama", hidden_size=128).save_pretrained(folder)
    chatml.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_adapter(tiny_model: Path, make_model: Callable[..., Any]) -> Path:
    """A LoRA adapter that changes what the tiny model says."""
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    folder = tiny_model.parent / "adapter"
    get_peft_model(make_model("llama", hidden_size=128), config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tight(tiny_model: Path, tiny_adapter: Path) -> Iterator[Any]:
    """The tiny model with its adapter on vLLM: chunked prefill, prefix caching, and blocks for four or five pairs."""
    from nescio.engines.vllm.vllm_engine import load

    options = {"max_model_len": 256, "num_gpu_blocks_override": 24, "max_num_seqs": 16, "max_num_batched_tokens": 48}
    engine = load(str(tiny_model), tiny_adapter, SMALL | options)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def reference(tiny_model: Path, tiny_adapter: Path) -> TorchEngine:
    """The torch engine on the same model and adapter."""
    return load_torch(str(tiny_model), tiny_adapter)
