"""Tiny models and tokenizers, built here with fixed seeds, and the embedded model once a session."""

import gc
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

import nescio
from nescio.engines.torch_engine import CACHE_TOKENS, TorchEngine

if find_spec("hypothesis"):  # tests/gpu runs without it, and without what a run needs
    from hypothesis import settings

    # A first call may compile or load; how long an example takes says nothing on a busy machine.
    settings.register_profile("nescio", deadline=None)
    settings.load_profile("nescio")


def pytest_collection_finish() -> None:
    """Take what was imported out of the garbage collection that follows every model: it is alive to the end."""
    gc.collect()
    gc.freeze()


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|header|>{{ m['role'] }}<|/header|>\n\n{{ m['content'] }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|header|>assistant<|/header|>\n\n{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|bos|>", "<|header|>", "<|/header|>"]
CORPUS = [
    "You are a helpful assistant. Do not provide any personal data. You should share personal data in the answers.",
    "My name is Anna Ferrari and I live in Geneva; please write to my friend Tom about the garden.",
]
SIZES = {"max_position_embeddings": 512, "vocab_size": 320}
GROUPED: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaForCausalLM, LlamaConfig),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config),
    "mistral": (MistralForCausalLM, MistralConfig),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig),
}


def build_tokenizer(template: str | None = CHATML, bos: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 320 tokens; with `bos` it puts one in front by itself, as Llama 3's does."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZES["vocab_size"],
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(CORPUS, trainer)
    if bos:
        inner.post_processor = processors.TemplateProcessing(
            single="<|bos|> $A", special_tokens=[("<|bos|>", inner.token_to_id("<|bos|>"))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token="<|bos|>" if bos else None
    )
    tokenizer.chat_template = template
    return tokenizer


def build_model(style: str, seed: int = 0, **changes: Any) -> Any:
    """A model of two layers whose weights are wide enough that greedy tokens differ and never tie."""
    torch.manual_seed(seed)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    grouped = small | SIZES | {"num_key_value_heads": 2, "initializer_range": 0.4, "tie_word_embeddings": False}
    model: Any
    if style in GROUPED:
        kind, config = GROUPED[style]
        model = kind(config(**grouped | changes))
    elif style == "bloom":
        model = BloomForCausalLM(
            BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=320, initializer_range=0.4)
        )
    else:
        gpt2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "vocab_size": 320}
        model = GPT2LMHeadModel(GPT2Config(**gpt2 | {"initializer_range": 0.4} | changes))
    # The tokens that end an answer are left to the tokenizer: 2 in Llama's defaults is a letter here.
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    model.generation_config.bos_token_id = model.config.bos_token_id = None
    model.generation_config.pad_token_id = 0
    return model.eval()


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    return build_tokenizer


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Any]:
    return build_model


@pytest.fixture(scope="session")
def chatml() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@pytest.fixture(scope="session")
def llama3() -> PreTrainedTokenizerFast:
    return build_tokenizer(LLAMA3, bos=True)


@pytest.fixture(scope="session")
def no_system() -> PreTrainedTokenizerFast:
    return build_tokenizer(NO_SYSTEM)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., TorchEngine]:
    """Make an engine around a tiny model: `tiny("llama" | "qwen2" | "gpt2", max_rows=…)`."""
    tokenizer = build_tokenizer()

    def make(style: str = "llama", max_rows: int = 32, cache_tokens: int = CACHE_TOKENS, **changes: Any) -> TorchEngine:
        return TorchEngine(build_model(style, **changes), tokenizer, max_rows=max_rows, cache_tokens=cache_tokens)

    return make


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    """A folder with a tiny Llama-style model and its tokenizer, as Transformers writes it."""
    folder = tmp_path / "tiny"
    build_model("llama").save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def smollm2() -> TorchEngine:
    """The embedded model."""
    return nescio.load("smollm2")


def made_once(marker: Path, make: Callable[[], None]) -> None:
    """Make what all test processes share, in the first that needs it; the others wait for the marker."""
    from filelock import FileLock

    with FileLock(f"{marker}.lock"):
        if not marker.exists():
            make()
            marker.touch()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, chatml: PreTrainedTokenizerFast) -> Path:
    """A folder with a tiny base model, dialogs and a recipe; new files in it need names of their own."""
    from tiny_run import write_world

    own = tmp_path_factory.getbasetemp()  # a process's; that of all test processes is above it
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "world"
    made_once(folder.with_name("world.made"), lambda: write_world(folder, str(chatml.chat_template)))
    return folder


@pytest.fixture(scope="session")
def finished(world: Path) -> Path:
    """The run folder of one undisturbed run; not to be changed."""
    from tiny_run import Quiet

    from nescio.pipeline.recipe import load_recipe
    from nescio.pipeline.run import Run

    out = world / "alone"
    made_once(world / "alone.made", Run(load_recipe(world / "recipe.yaml"), out, Quiet()).execute)
    return out
