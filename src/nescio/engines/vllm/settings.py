"""How vLLM is started for guidance: what nescio sets, what the user may, and what can't be had with it and why.

Knows vLLM's options; nothing of requests.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError

MAX_LOGPROBS = 20
"""Most likely tokens that can be told beside each chosen one."""

_CPU_CACHE = 4 << 30  # bytes of KV cache on a CPU, where vLLM's own default is most of the main memory
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM has kernels for
_OURS = {
    "scheduler_cls": "it is nescio's, which keeps the two branches of a request in step",
    "logits_processors": "nescio's chooses the token from both branches, and has to be the only one",
    "logprobs_mode": "nescio's processor hands the guided log-probabilities over in it",
    "max_logprobs": f"nescio tells at most {MAX_LOGPROBS} tokens beside the chosen one",
}
_REFUSED = {
    "speculative_config": "drafts are checked against one branch, not against the guided distribution",
    "async_scheduling": "a step would be scheduled before it is known that both branches are in step",
    "kv_transfer_config": "the two branches' caches would arrive at different times",
}
_ONE = {
    "pipeline_parallel_size": "a step would be scheduled before the one before it is known; use tensor_parallel_size",
    "data_parallel_size": "two branches could land on two replicas; run one `nescio serve` a replica behind a router",
}


def check(options: Mapping[str, Any]) -> None:
    """Refuse what guidance can't live with.

    Raises:
        NescioError: One of the options; the reason is given.
    """
    for name, value in options.items():
        if name in _OURS:
            raise NescioError(f"vLLM option {name}: {_OURS[name]}; leave it out")
        if name in _REFUSED and value:
            raise NescioError(f"vLLM option {name}: not with guidance, {_REFUSED[name]}; leave it out")
        if name in _ONE and value != 1:
            raise NescioError(f"vLLM option {name}: not with guidance, {_ONE[name]}")
        if name == "scheduling_policy" and value != "fcfs":
            raise NescioError(f"vLLM option {name}: must be 'fcfs'; by priority, one branch could pass the other")
        if name == "max_num_seqs" and not (isinstance(value, int) and value >= 2):
            raise NescioError(f"vLLM option {name} {value}: must be 2 or more, a guided request takes two rows")


def engine_config(weights: str, dtype: str, adapter: Path | None, options: Mapping[str, Any]) -> Any:
    """vLLM's configuration for a model, with the scheduler and the processor that guidance needs.

    Args:
        weights: Folder or hub id.
        dtype: Weights' type, as vLLM names it.
        adapter: PEFT adapter folder that will be loaded; None: LoRA only where the options ask for it.
        options: Further fields of vLLM's `EngineArgs`.

    Raises:
        NescioError: An option that is refused or unknown, or a model that vLLM or guidance can't serve.
    """
    from vllm.engine.arg_utils import EngineArgs
    from vllm.platforms import current_platform

    check(options)
    lora = lora_options([adapter]) if adapter is not None else {}
    ours = {
        "scheduler_cls": "nescio.engines.vllm.lockstep.LockstepScheduler",
        "logprobs_mode": "processed_logits",
        "max_logprobs": MAX_LOGPROBS + 1,
        "async_scheduling": False,
    }
    unknown = sorted(options.keys() - EngineArgs.__dataclass_fields__.keys())
    if unknown:
        raise NescioError(f"vLLM option {unknown[0]}: this vLLM has none of that name; see its EngineArgs")
    given = {"disable_log_stats": True, **lora, **options}
    if current_platform.is_cpu() and "gpu_memory_utilization" not in options:
        given.setdefault("kv_cache_memory_bytes", _CPU_CACHE)
    try:
        config = EngineArgs(model=weights, tokenizer=weights, dtype=dtype, **given, **ours).create_engine_config()
    except Exception as error:  # pydantic's, the hub's and vLLM's own share no base class
        raise NescioError(f"{weights}: vLLM does not take it ({first_line(error)})") from error
    model = config.model_config
    if model.runner_type != "generate" or model.is_encoder_decoder or model.is_hybrid or model.is_attention_free:
        raise NescioError(f"{weights}: guidance needs a causal language model with attention in every layer")
    second = config.use_v2_model_runner
    module = "nescio.engines.vllm.second_runner" if second else "nescio.engines.vllm.processor"
    model.logits_processors = [f"{module}:GuidanceProcessor"]
    return config


def lora_options(adapters: Sequence[Path]) -> dict[str, Any]:
    """The options with which vLLM has room for these adapters, all of them in one batch.

    Raises:
        NescioError: One is no LoRA adapter, or of a rank that vLLM has no kernels for.
    """
    return {"enable_lora": True, "max_loras": len(adapters), "max_lora_rank": max(map(_rank, adapters))}


def _rank(adapter: Path) -> int:
    """The smallest rank of vLLM's that holds the adapter's."""
    try:
        rank = int(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"])
        return next(ready for ready in _RANKS if ready >= rank)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NescioError(f"{adapter}/adapter_config.json: names no LoRA rank; name a LoRA adapter's folder") from error
    except StopIteration:
        raise NescioError(f"{adapter}: vLLM takes LoRA ranks up to {_RANKS[-1]}, this one's is {rank}") from None


def first_line(error: Exception) -> str:
    """The first line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
