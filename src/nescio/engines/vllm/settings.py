"""vLLM's options: those that nescio sets, and those that guidance excludes, with the reason."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nescio.core.adapters import read_config
from nescio.core.errors import NescioError, first_line

MAX_LOGPROBS = 20
"""Largest number of alternatives whose log-probabilities are returned with each chosen token."""

_CPU_CACHE = 4 << 30  # bytes of KV cache on a CPU, where vLLM's own default is most of the main memory
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # LoRA ranks for which vLLM has kernels
_OURS = {
    "scheduler_cls": "nescio's scheduler keeps the two branches of a request in step",
    "logits_processors": "nescio's chooses the token from both branches and must be the only one",
    "logprobs_mode": "nescio returns the guided log-probabilities through it",
    "structured_outputs_config": "nescio writes schemas for llguidance",
    "max_logprobs": f"nescio returns at most {MAX_LOGPROBS} alternatives to the chosen token",
}
_REFUSED = {
    "speculative_config": "drafts are checked against one branch, not against the guided distribution",
    "async_scheduling": "a step would be scheduled before both branches are known to be in step",
    "kv_transfer_config": "the two branches' caches would arrive at different times",
}
_ONLY_ONE = {
    "pipeline_parallel_size": "a step would be scheduled before the previous one ends; use tensor_parallel_size",
    "data_parallel_size": "two branches could land on two replicas; run one `nescio serve` a replica behind a router",
}


def check(options: Mapping[str, Any]) -> None:
    """Check that guidance works with these options.

    Raises:
        NescioError: It does not with one of them.
    """
    for name, value in options.items():
        if name in _OURS:
            raise NescioError(f"vLLM option {name}: {_OURS[name]}; leave it out")
        if name in _REFUSED and value:
            raise NescioError(f"vLLM option {name}: does not work with guidance: {_REFUSED[name]}; leave it out")
        if name in _ONLY_ONE and value != 1:
            raise NescioError(f"vLLM option {name}: does not work with guidance: {_ONLY_ONE[name]}")
        if name == "scheduling_policy" and value != "fcfs":
            raise NescioError(f"vLLM option {name}: must be 'fcfs'; by priority, one branch could overtake the other")
        if name == "max_num_seqs" and not (isinstance(value, int) and value >= 2):
            raise NescioError(f"vLLM option {name} {value}: must be 2 or more, a guided request takes two rows")


def engine_config(weights: str, dtype: str, adapter: Path | None, options: Mapping[str, Any]) -> Any:
    """Return vLLM's configuration for a model, with the scheduler and the processor that guidance needs.

    Args:
        weights: Folder or hub id.
        dtype: Data type of the weights, as vLLM names it.
        adapter: PEFT adapter folder that will be loaded; None: LoRA only if the options enable it.
        options: Other fields of vLLM's `EngineArgs`.

    Raises:
        NescioError: An option is excluded or unknown, or vLLM or guidance cannot serve the model.
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
        "structured_outputs_config": {"backend": "guidance"},
    }
    unknown = sorted(options.keys() - EngineArgs.__dataclass_fields__.keys())
    if unknown:
        raise NescioError(f"vLLM option {unknown[0]}: unknown to this version of vLLM; see its EngineArgs")
    given = {"disable_log_stats": True, **lora, **options}
    if current_platform.is_cpu() and "gpu_memory_utilization" not in options:
        given.setdefault("kv_cache_memory_bytes", _CPU_CACHE)
    try:
        config = EngineArgs(model=weights, tokenizer=weights, dtype=dtype, **given, **ours).create_engine_config()
    except Exception as error:  # those of Pydantic, of the hub and of vLLM share no base class
        raise NescioError(f"{weights}: vLLM rejects the configuration ({first_line(error)})") from error
    model = config.model_config
    if model.runner_type != "generate" or model.is_encoder_decoder or model.is_hybrid or model.is_attention_free:
        raise NescioError(f"{weights}: guidance needs a causal language model with attention in every layer")
    module = "second_runner" if config.use_v2_model_runner else "processor"
    model.logits_processors = [f"nescio.engines.vllm.{module}:GuidanceProcessor"]
    return config


def lora_options(adapters: Sequence[Path]) -> dict[str, Any]:
    """Return the options with which vLLM can use all of these adapters in one batch.

    Raises:
        NescioError: One is not a LoRA adapter, or vLLM has no kernels for its rank.
    """
    return {"enable_lora": True, "max_loras": len(adapters), "max_lora_rank": max(map(_rank, adapters))}


def _rank(adapter: Path) -> int:
    """Return the smallest rank with vLLM kernels that is at least the adapter's."""
    try:
        config = read_config(adapter)
        patterns = config.values.get("rank_pattern") or {}
        rank = max(int(config.values["r"]), *map(int, patterns.values()), 0)
        return next(supported for supported in _RANKS if supported >= rank)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NescioError(
            f"{adapter}/adapter_config.json: no LoRA rank in it; give the folder of a LoRA adapter"
        ) from error
    except StopIteration:
        raise NescioError(
            f"{adapter}: vLLM supports LoRA ranks up to {_RANKS[-1]}, this one has {rank}; train one of a lower rank"
        ) from None
