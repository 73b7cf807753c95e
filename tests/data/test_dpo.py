"""TRL's DPOTrainer, a reader that is not ours: it takes the pair file as it is and makes the joint text's tokens."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from trl import DPOConfig, DPOTrainer

from nescio.core.files import write_jsonl
from nescio.data.dialogs import parse_dialog
from nescio.data.pairs import Pairing, pairs_of
from nescio.data.samples import samples_of
from nescio.data.synthetic import generate
from nescio.pii.base import Detector


class Unasked:
    """The dialogs have their personal data recorded."""

    name = "unasked"

    def find(self, texts: Any) -> list[Any]:
        assert not texts
        return []


def pairs(tokenizer: Any) -> list[dict[str, Any]]:
    """The pairs of some dialogs, answers cut inside a sentence and whole ones."""
    detector: Detector = Unasked()
    dialogs = [parse_dialog(row, row["id"]) for row in generate(4, seed=1, max_exchanges=1)]
    samples = {sample.id: sample for sample in samples_of(dialogs, detector)}
    candidates = [
        {"sample_id": name, "source": "s", "strategy": strategy, "try": 0, "text": text, "accepted": True}
        for name in samples
        for strategy, text in (("system", " the desk in the hall."), ("chat-nudge", "Please ask at the desk."))
    ]
    return list(pairs_of(samples, candidates, tokenizer, Pairing(max_prompt=400), Counter()))


@pytest.mark.parametrize("kind", ["chatml", "llama3"])
def test_the_dpo_trainer_makes_the_joint_texts_tokens(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, make_model: Callable[..., Any]
) -> None:
    tokenizer = request.getfixturevalue(kind)
    made = pairs(tokenizer)
    write_jsonl(tmp_path / "train.jsonl", made)
    loaded = load_dataset(
        "json", data_files={"train": str(tmp_path / "train.jsonl")}, split="train", cache_dir=str(tmp_path / "cache")
    )
    make_model("llama", max_position_embeddings=1024).save_pretrained(tmp_path / "model")
    config = DPOConfig(
        str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=2, use_cpu=True, bf16=False, report_to="none",
        max_length=None, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = DPOTrainer(str(tmp_path / "model"), args=config, train_dataset=loaded, processing_class=tokenizer)
    read = trainer.train_dataset
    assert len(read) == len(made) > 20
    for pair, row in zip(made, read, strict=True):
        for answer in ("chosen", "rejected"):
            ids = row["prompt_ids"] + row[f"{answer}_ids"]
            assert ids == tokenizer(pair["prompt"] + pair[answer]).input_ids
            assert row[f"{answer}_ids"] == tokenizer(pair[answer], add_special_tokens=False).input_ids
            assert ids[-1] == tokenizer.eos_token_id
            if kind == "llama3":
                assert ids[0] == tokenizer.bos_token_id and ids.count(tokenizer.bos_token_id) == 1
    assert trainer.train().global_step == 1
