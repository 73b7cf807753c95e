"""The same numbers as TRL's ORPO trainer: loss, log-probabilities, and the gradient of every LoRA tensor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_training import adapter_of, largest_difference
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from nescio.core.files import write_jsonl
from nescio.training.batch import lay_out, likelihoods
from nescio.training.examples import read_pairs
from nescio.training.losses.orpo import orpo
from nescio.training.settings import LoraSettings
from nescio.training.trainer import with_lora

PAIRS = [
    {
        "prompt": "<|im_start|>user\nMy name is Anna Ferrari, who am I?<|im_end|>\n<|im_start|>assistant\n",
        "chosen": "I would rather not say.<|im_end|>",
        "rejected": "You are Anna Ferrari and you live in Geneva.<|im_end|>",
    },
    {
        "prompt": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
        "chosen": "Please write to my friend about the garden and the data.<|im_end|>",
        "rejected": "Tom<|im_end|>",
    },
    {
        "prompt": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>assistant\n",
        "chosen": " I live<|im_end|>",
        "rejected": " my friend Tom<|im_end|>",
    },
]


def lora_model(make_model: Callable[..., Any], style: str) -> Any:
    """A model whose adapter is in the middle of its training: neither of its halves is zero."""
    model = with_lora(make_model(style), LoraSettings(r=4, dropout=0.0))
    torch.manual_seed(1)
    for name, tensor in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(tensor, std=0.1)
    return model


def trl_step(model: Any, tokenizer: Any, folder: Path) -> tuple[Any, Any, Any]:
    """TRL's loss, log-probabilities of chosen and rejected, and gradients, on all pairs in one batch."""
    config = ORPOConfig(
        output_dir=str(folder), per_device_train_batch_size=len(PAIRS), beta=0.1, max_length=512, report_to=[],
        use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True,
    )  # fmt: skip
    trainer = ORPOTrainer(model, config, train_dataset=Dataset.from_list(PAIRS), processing_class=tokenizer)
    batch = trainer.data_collator([trainer.train_dataset[n] for n in range(len(PAIRS))])
    chosen, rejected, *_ = trainer.concatenated_forward(model, batch)
    loss, _ = trainer.get_batch_loss_metrics(model, batch)
    loss.backward()
    return loss.detach(), torch.stack([chosen, rejected], 1).detach(), gradients(model)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: model.get_parameter(name).grad.clone() for name in adapter_of(model)}


@pytest.mark.parametrize("style", ["llama", "qwen2"])
@pytest.mark.parametrize("row_tokens", [1024, 120, None], ids=["one row", "rows", "unpacked"])
def test_loss_log_probs_and_gradients(
    make_model: Callable[..., Any], chatml: Any, tmp_path: Path, style: str, row_tokens: int | None
) -> None:
    expected_loss, expected_logs, expected_gradients = trl_step(lora_model(make_model, style), chatml, tmp_path)
    path = tmp_path / "pairs.jsonl"
    write_jsonl(path, PAIRS)
    examples = [
        each for unit in read_pairs(tmp_path / "pairs.jsonl", chatml, max_length=512, max_prompt=500) for each in unit
    ]
    model = lora_model(make_model, style)
    batch = lay_out(examples, row_tokens, prompt_wanted=True)
    if row_tokens == 120:
        assert 1 < len(batch.rows) < len(examples), "several pairs in a row, and several rows"
    found = likelihoods(model, batch)
    loss = orpo.bind(beta=0.1, nll_over="prompt_and_answer")(found)["loss"].mean()
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected_loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(found.means().detach().reshape(-1, 2), expected_logs, rtol=1e-4, atol=0)
    assert largest_difference(gradients(model), expected_gradients) < 1e-4


def test_unpacked_and_packed_are_closer_than_that(make_model: Callable[..., Any], chatml: Any, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write_jsonl(path, PAIRS)
    examples = [
        each for unit in read_pairs(tmp_path / "pairs.jsonl", chatml, max_length=512, max_prompt=500) for each in unit
    ]
    found = []
    for rows in (1024, None):
        model = lora_model(make_model, "llama").double()
        loss = orpo.bind(beta=0.1)(likelihoods(model, lay_out(examples, rows)))["loss"].mean()
        loss.backward()
        found.append((float(loss.detach()), gradients(model)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert largest_difference(found[0][1], found[1][1]) < 1e-5
