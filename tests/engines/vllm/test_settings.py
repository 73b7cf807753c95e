"""What vLLM may not be started with, without vLLM."""

from pathlib import Path
from typing import Any

import pytest

from nescio.core.errors import NescioError
from nescio.engines.registry import open_engine
from nescio.engines.vllm import vllm_engine
from nescio.engines.vllm.settings import check, lora_options


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("speculative_config", {"method": "ngram"}, "drafts are checked against one branch"),
        ("async_scheduling", True, "in step"), ("kv_transfer_config", {"kv_connector": "x"}, "different times"),
        ("pipeline_parallel_size", 2, "tensor_parallel_size"), ("data_parallel_size", 2, "behind a router"),
        ("scheduling_policy", "priority", "fcfs"), ("max_num_seqs", 1, "two rows"),
        ("max_num_seqs", "many", "two rows"),
        ("scheduler_cls", "x.Y", "keeps the two branches"), ("logits_processors", [], "both branches"),
        ("logprobs_mode", "raw_logits", "log-probabilities"), ("max_logprobs", 5, "at most 20"),
    ],
)  # fmt: skip
def test_what_guidance_cannot_live_with_is_refused_with_the_reason(option: str, value: Any, reason: str) -> None:
    with pytest.raises(NescioError, match=reason) as error:
        check({option: value})
    assert option in str(error.value)
    assert "\n" not in str(error.value)


def test_the_rest_is_vllms_own() -> None:
    check({
        "tensor_parallel_size": 2, "pipeline_parallel_size": 1, "speculative_config": None, "async_scheduling": False,
        "scheduling_policy": "fcfs", "max_num_seqs": 2,
    })  # fmt: skip


def test_adapters_get_room_for_all_of_them_at_the_smallest_rank_that_holds_each(tmp_path: Path) -> None:
    for name, rank in (("a", 4), ("b", 20)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(f'{{"r": {rank}}}')
    folders = [tmp_path / "a", tmp_path / "b"]
    assert lora_options(folders) == {"enable_lora": True, "max_loras": 2, "max_lora_rank": 32}
    (tmp_path / "b" / "adapter_config.json").write_text('{"r": 1000}')
    with pytest.raises(NescioError, match="up to 512, this one has 1000"):
        lora_options(folders)
    (tmp_path / "b" / "adapter_config.json").write_text("{}")
    with pytest.raises(NescioError, match="no LoRA rank in it"):
        lora_options(folders)


def test_a_models_own_adapter_and_those_beside_it_all_get_room(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, beside = tmp_path / "own", tmp_path / "beside"
    for folder, rank in ((own, 64), (beside, 4)):
        folder.mkdir()
        config = f'{{"r": {rank}, "base_model_name_or_path": "../{tiny_folder.name}"}}'
        (folder / "adapter_config.json").write_text(config)

    class StartedError(Exception):
        """Ends it where vLLM would be started."""

    def started(model: str, options: dict[str, Any]) -> None:
        raise StartedError(options)

    monkeypatch.setattr(vllm_engine, "load", started)
    with pytest.raises(StartedError) as caught:
        open_engine("vllm", str(own), {"beside": beside}, {})
    assert caught.value.args[0] == {"enable_lora": True, "max_loras": 2, "max_lora_rank": 64}
