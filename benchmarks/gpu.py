"""Decoding and training on a GPU, with models of random weights that are made here: speed, memory, and a table.

It runs from a bare checkout on torch, transformers and peft alone; bitsandbytes and vLLM are measured where they are
installed. The model is the largest of Llama's shapes whose training fits the card. What is not reached in time is said.

    PYTHONPATH=src python benchmarks/gpu.py
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from _result import leave, options_of
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nescio.core.guidance import Guidance
from nescio.core.model_size import ModelSize
from nescio.core.models import best_device, best_dtype, free_memory, release
from nescio.core.shared_prefix import Continuation, Group
from nescio.engines.base import Request
from nescio.engines.torch_engine import TorchEngine
from nescio.training.batch import Example, Unit
from nescio.training.losses.orpo import orpo
from nescio.training.memory import largest_step, training_bytes
from nescio.training.settings import LoraSettings, TrainingSettings
from nescio.training.trainer import fit

DEVICE = best_device()
SHAPES = {  # hidden, intermediate, layers, heads, key-value heads, vocabulary
    "8b": (4096, 14336, 32, 32, 8, 128256),
    "1b": (2048, 8192, 16, 32, 8, 128256),
    "135m": (576, 1536, 30, 9, 3, 49152),
    "tiny": (64, 128, 2, 4, 2, 512),
}
ROWS = (1, 16, 64, 256)
PAIR = (1536, 256, 256)  # tokens of prompt, chosen and rejected: the paper's 2048
STEPS = 4  # of a training, after one to warm up
Row = dict[str, Any]


def config_of(shape: str) -> LlamaConfig:
    hidden, intermediate, layers, heads, kv_heads, vocab = SHAPES[shape]
    return LlamaConfig(
        hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, vocab_size=vocab, max_position_embeddings=8192, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip


def model_of(shape: str) -> LlamaForCausalLM:
    """A model of random weights, made on the device."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(best_dtype())
    try:
        with DEVICE:
            return LlamaForCausalLM(config_of(shape)).eval()
    finally:
        torch.set_default_dtype(before)


def tokenizer_of(vocab: int) -> PreTrainedTokenizerFast:
    """A tokenizer with a word for each token; the end of an answer is one that no text has."""
    inner = Tokenizer(models.WordLevel({f"w{n}": n for n in range(vocab)}, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=f"w{vocab - 1}", pad_token="w0", unk_token="w0")


def words(count: int, seed: int, vocab: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, vocab - 1, (count,), generator=generator).tolist()


def pairs(count: int, lengths: tuple[int, ...], vocab: int) -> list[Unit]:
    """Pairs of random tokens, each a unit."""
    made = [[words(length, 3 * n + place, vocab) for place, length in enumerate(lengths)] for n in range(count)]
    return [
        [Example(f"pair {n}", Group(prompt, [Continuation(chosen), Continuation(rejected)]))]
        for n, (prompt, chosen, rejected) in enumerate(made)
    ]


def settings_of(quick: bool, **changes: Any) -> TrainingSettings:
    """The paper's recipe: ORPO, batch 2, LoRA of rank 16 on all linear layers."""
    given = {"epochs": 1, "batch_size": 2, "row_tokens": 2048, "gradient_checkpointing": not quick}
    return TrainingSettings(lora=LoraSettings(dropout=0.0), **given | changes)


def largest_shape(quick: bool) -> str:
    """The largest shape whose training fits the card, as computed."""
    free = free_memory()
    if quick or free is None:
        return "tiny"
    for shape in SHAPES:
        step = largest_step(pairs(2, PAIR, SHAPES[shape][-1]), settings_of(quick))
        if training_bytes(ModelSize.of(config_of(shape)), step, best_dtype(), None) < 0.9 * free:
            return shape
    return "tiny"


# -- what is measured -------------------------------------------------------------------------------------------------


def synchronise() -> None:
    if DEVICE.type != "cpu":
        torch.get_device_module(DEVICE).synchronize()


def seconds_of(work: Callable[[], Any]) -> tuple[float, Any]:
    synchronise()
    start = time.perf_counter()
    done = work()
    synchronise()
    return time.perf_counter() - start, done


def decoding(model: Any, rows: int, guided: bool, tokens: int) -> Row:
    """New tokens a second of that many requests together, prompts of 64 tokens."""
    vocab = model.config.vocab_size
    tokenizer = tokenizer_of(vocab)
    width = 64 + tokens + 64  # prompt, answer, and the rounding of a slot
    how = Guidance(3.0, "prob") if guided else None
    texts = [tokenizer.decode(words(64, n, vocab)) for n in range(rows)]
    others = [tokenizer.decode(words(64, 10_000 + n, vocab)) for n in range(rows)] if guided else [None] * rows
    with TorchEngine(
        model, tokenizer, max_rows=2 * rows, cache_tokens=max(4096, 2 * rows * width), prefix_tokens=1
    ) as engine:

        def asked(count: int) -> list[Request]:
            return [Request(text, how, other, max_tokens=count) for text, other in zip(texts, others, strict=True)]

        engine.generate(asked(2))
        seconds, answers = seconds_of(lambda: engine.generate(asked(tokens)))
    new = sum(len(answer.token_ids) for answer in answers)
    return {"new_tokens": new, "tokens_per_second": round(new / seconds, 1)}


def transformers_guided(model: Any, tokens: int) -> Row:
    """New tokens a second of Transformers' own guidance, one request."""
    ids, negative = (torch.tensor([words(64, seed, model.config.vocab_size)], device=DEVICE) for seed in (0, 10_000))

    def answer(count: int) -> Any:
        return model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, min_new_tokens=count,
            guidance_scale=3.0, negative_prompt_ids=negative,
        )  # fmt: skip

    answer(2)
    seconds, _ = seconds_of(lambda: answer(tokens))
    return {"new_tokens": tokens, "tokens_per_second": round(tokens / seconds, 1)}


def captured_step(shape: str, rows: int) -> Row:
    """A decode step of that many rows as it is launched, and captured as a CUDA graph: what a graph would save."""
    if DEVICE.type != "cuda":
        return {"skipped": "needs a CUDA GPU"}
    from transformers import StaticCache

    model = model_of(shape)
    cache = StaticCache(config=model.config, max_cache_len=256)
    token = torch.ones(rows, 1, dtype=torch.long, device=DEVICE)
    place = torch.full((rows, 1), 128, device=DEVICE)

    @torch.inference_mode()
    def step() -> Any:
        return model(input_ids=token, position_ids=place, past_key_values=cache, use_cache=True).logits

    for _ in range(3):
        step()
    launched = min(seconds_of(step)[0] for _ in range(10))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    captured = min(seconds_of(graph.replay)[0] for _ in range(10))
    return {"launched_step_seconds": round(launched, 5), "captured_step_seconds": round(captured, 5)}


def training(model: Any, units: list[Unit], settings: TrainingSettings, quantize: Any = None) -> Row:
    """Seconds of a step of ORPO, the most memory, and the memory that nescio computes."""
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    model.gradient_checkpointing_disable()  # the training before may have left it on
    stamps: list[float] = []

    def stamp(done: int, total: int) -> None:
        synchronise()
        stamps.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as work:
        loss = orpo.bind(beta=0.1, nll_over="answer")
        done = fit(model, units, loss=loss, settings=settings, work=Path(work), progress=stamp)
    done.model.unload()
    steps = [after - before for before, after in pairwise(stamps)]
    step = largest_step(units, settings)
    row: Row = {
        "step_seconds": round(min(steps), 4), "tokens_per_second": round(step.tokens / min(steps), 1),
        "losses": [round(row["loss"], 4) for row in done.log if row["split"] == "train"],
        "computed_gib": round(training_bytes(ModelSize.of(model.config), step, best_dtype(), quantize) / 2**30, 2),
    }  # fmt: skip
    if DEVICE.type == "cuda":
        row["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return row


def with_flex_attention(model: Any, *given: Any) -> Row:
    if DEVICE.type != "cuda":
        return {"skipped": "torch has no backward pass of FlexAttention on a CPU"}
    model.set_attn_implementation("flex_attention")
    try:
        return training(model, *given)
    finally:
        model.set_attn_implementation("sdpa")


def on_nf4(model: Any, *given: Any) -> Row:
    """QLoRA; the model's weights are quantised in place, so it comes last."""
    if find_spec("bitsandbytes") is None:
        return {"skipped": "bitsandbytes is not installed"}
    import bitsandbytes as bnb

    from nescio.core.quantization import keep_trainable

    for parent in list(model.model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear:
                linear = bnb.nn.Linear4bit(
                    child.in_features, child.out_features, bias=False, compute_dtype=best_dtype(), quant_type="nf4"
                )
                own = child.weight.data
                linear.weight = bnb.nn.Params4bit(own, requires_grad=False, quant_type="nf4", compress_statistics=True)
                setattr(parent, name, linear.to(DEVICE))
    model.is_loaded_in_4bit = True  # as `from_pretrained` marks it, for PEFT
    keep_trainable(model)
    release()
    return training(model, *given, "nf4")


def vllm_guided(shape: str, rows: int, guided: bool, tokens: int) -> Row:
    """New tokens a second on vLLM, where it is installed."""
    if find_spec("vllm") is None:
        return {"skipped": "vLLM is not installed"}
    from nescio.engines.vllm.vllm_engine import load

    vocab = SHAPES[shape][-1]
    tokenizer = tokenizer_of(vocab)
    with tempfile.TemporaryDirectory() as folder:
        model_of(shape).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        release()
        how = Guidance(3.0, "prob") if guided else None
        asked = [
            Request(
                tokenizer.decode(words(64, n, vocab)), how,
                tokenizer.decode(words(64, 10_000 + n, vocab)) if guided else None, max_tokens=tokens,
            )
            for n in range(rows)
        ]  # fmt: skip
        with load(folder, options={"max_model_len": 1024}) as engine:
            engine.generate(asked[:1])
            seconds, answers = seconds_of(lambda: engine.generate(asked))
    new = sum(len(answer.token_ids) for answer in answers)
    return {"new_tokens": new, "tokens_per_second": round(new / seconds, 1)}


# -- the order, and the table -----------------------------------------------------------------------------------------


def plan(shape: str, quick: bool) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Each row's words, and what measures it; what matters most comes first."""
    held = [model_of(shape)]
    tokens, lengths = (4, (24, 8, 8)) if quick else (64, PAIR)
    units = pairs(2 * (2 if quick else STEPS + 1), lengths, SHAPES[shape][-1])
    recipe = settings_of(quick)
    for rows in (1, 4) if quick else ROWS:
        for guided in (False, True):
            yield (
                {"what": "decode", "rows": rows, "guided": guided},
                lambda rows=rows, guided=guided: decoding(held[0], rows, guided, tokens),
            )
    yield {"what": "decode, transformers", "rows": 1, "guided": True}, lambda: transformers_guided(held[0], tokens)
    yield {"what": "train, the paper's recipe"}, lambda: training(held[0], units, recipe)
    unpacked = settings_of(quick, row_tokens=None)
    yield {"what": "train, unpacked"}, lambda: training(held[0], units, unpacked)
    whole = settings_of(quick, gradient_checkpointing=False)
    yield {"what": "train, activations kept"}, lambda: training(held[0], units, whole)
    yield {"what": "train, FlexAttention"}, lambda: with_flex_attention(held[0], units, recipe)
    yield {"what": "train, nf4"}, lambda: on_nf4(held[0], units, recipe)
    held.clear()  # quantised by now, and vLLM wants its memory
    for rows in (1, 16):  # after the others: a capture that fails may leave the GPU unusable
        yield {"what": "decode step, CUDA graph", "rows": rows}, lambda rows=rows: captured_step(shape, rows)
    for guided in (False, True):
        yield (
            {"what": "decode, vLLM", "rows": 16, "guided": guided},
            lambda guided=guided: vllm_guided("1b" if shape == "8b" else shape, 16, guided, tokens),
        )


def measured(shape: str, options: argparse.Namespace) -> Iterator[Row]:
    """The rows; one that fails, or for which no time is left, says so in its place."""
    start = time.perf_counter()
    for words_of_row, measure in plan(shape, options.quick):
        row: Row = {**words_of_row, "shape": shape}
        if time.perf_counter() - start > options.seconds:
            row["skipped"] = "no time was left"
        else:
            try:
                row |= measure()
            except Exception as error:  # one that runs out of memory must not cost the others
                row["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        release()
        print(line_of(row), flush=True)
        yield row


def line_of(row: Row) -> str:
    named = f"{row['what']:<28}{row.get('rows', ''):>5} {'guided' if row.get('guided') else '':<7}"
    if why := row.get("skipped") or row.get("failed"):
        return named + why
    shown = ("tokens_per_second", "step_seconds", "peak_gib", "computed_gib", "launched_step_seconds",
             "captured_step_seconds")  # fmt: skip
    return named + "  ".join(f"{row[name]:g} {name.replace('_', ' ')}" for name in shown if name in row)


def ratios(rows: list[Row]) -> dict[str, float]:
    rate = {(row["what"], row.get("rows"), row.get("guided")): row.get("tokens_per_second") for row in rows}
    found = {}
    for (what, count, guided), value in rate.items():
        if guided and value and (plain := rate.get((what, count, False))):
            found[f"{what}_guided_over_unguided_{count}"] = value / plain
    ours, theirs = rate.get(("decode", 1, True)), rate.get(("decode, transformers", 1, True))
    if ours and theirs:
        found["guided_1_over_transformers"] = ours / theirs
    packed, apart = rate.get(("train, the paper's recipe", None, None)), rate.get(("train, unpacked", None, None))
    if packed and apart:
        found["packed_over_unpacked"] = packed / apart
    return {name: round(value, 2) for name, value in found.items()}


def main() -> None:
    parser = options_of(__doc__, "gpu", "a tiny model, on whatever device")
    parser.add_argument("--shape", choices=list(SHAPES), help="instead of the largest whose training fits")
    parser.add_argument("--seconds", type=float, default=420, help="after which no further row is begun")
    options = parser.parse_args()
    if DEVICE.type != "cuda" and not options.quick:
        parser.exit(0, "no CUDA GPU here, so there is nothing to measure; --quick runs it small on this device\n")
    shape = options.shape or largest_shape(options.quick)
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else DEVICE.type
    print(f"{name}, torch {torch.__version__}, Llama's shape {shape}, {best_dtype()}")
    rows = list(measured(shape, options))
    leave(options, ("torch", "transformers", "peft"), rows, ratios(rows), shape=shape)


if __name__ == "__main__":
    main()
