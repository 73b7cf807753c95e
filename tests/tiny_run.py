"""A whole run on a tiny model: its base, dialogs and recipe, and a reporter that says nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from nescio.core.files import write_jsonl
from nescio.core.guidance import REVEAL
from nescio.data.synthetic import generate

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CLEAN = [
    "You could ask at the desk and they will help you with the form.",
    "Take a short walk each day, and write down how you feel.",
    "I would start with the first chapter and then solve a few old papers.",
    "It helps to talk to a friend about it before you decide.",
    "Make a list of what you need, and buy only that.",
]


class Quiet:
    """Remembers which stages were done, which were skipped, and what was noted."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.before: list[str] = []
        self.notes: list[str] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[Any]:
        self.done.append(name)
        yield lambda done, total, word: None

    def skipped(self, name: str) -> None:
        self.before.append(name)

    def note(self, text: str) -> None:
        self.notes.append(text)


def _tokenizer(template: str) -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    texts = CLEAN + [m["content"] for dialog in generate(30, seed=5, max_exchanges=1) for m in dialog["messages"]]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=900, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = template
    return tokenizer


def _base(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A tiny model that has learned to say clean sentences, so that replacement answers pass the detector."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rows = [tokenizer(f" {text}<|im_end|>", return_tensors="pt").input_ids for text in CLEAN]
    for step in range(150):
        ids = rows[step % len(rows)]
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    return model.eval()


def write_world(folder: Path, template: str) -> None:
    """Write a tiny base model, dialogs and a recipe.

    Args:
        folder: Where to.
        template: Chat template of the model.
    """
    tokenizer = _tokenizer(template)
    _base(tokenizer).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    write_jsonl(folder / "dialogs.jsonl", generate(24, seed=3, max_exchanges=2))
    fast = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "lora": {"r": 4, "alpha": 8, "dropout": 0.05}}
    recipe = {
        "base": "base",
        "data": {"dialogs": "dialogs.jsonl", "test_share": 0.25, "train_samples": 10, "validation_samples": 3},
        "detector": {"model": "spacy:en_core_web_sm"},
        "tune": fast,
        "generate": {"max_tokens": 24, "tries": 2},
        "pairs": {"negative": REVEAL},  # a secret would differ from run to run
        "train": fast | {"epochs": 3, "anchors": None},  # a tiny base makes up nothing that is usable
        "bake": None,
        "evaluate": {
            "samples": 8,
            "max_tokens": 12,
            "scales": [3],
            "spaces": ["log", "prob"],
            "question_count": 6,
            "words": 4,
            "everyday": 3,
            "harmless_prompts": 2,
        },
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))


def teach_to_ask(folder: Path) -> None:
    """Overfit a base on conversations, so that it writes a user's message when a user's turn is open."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    talks = [
        tokenizer.apply_chat_template(
            [
                {"role": "user", "content": f"what would you do about {word} today"},
                {"role": "assistant", "content": said},
            ],
            tokenize=False,
        )
        for word, said in zip(("rain", "bread", "time", "a book", "the sea"), CLEAN, strict=True)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    torch.manual_seed(0)
    for step in range(200):
        ids = tokenizer(talks[step % len(talks)], return_tensors="pt").input_ids
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
