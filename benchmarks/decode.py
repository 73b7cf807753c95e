"""Decoding the embedded model: Transformers, the author's loop, and this engine, guided and not, side by side.

The author's loop is Transformers' `guidance_scale`, one prompt after the other, whatever the batch. Every contender
decodes the same prompts greedily. They take turns, round after round, so that a busy moment of the machine hits all
alike; after a round to warm up, the best of each counts.

    python benchmarks/decode.py
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import torch
from _result import leave, options_of
from peft import LoraConfig, get_peft_model
from rich.progress import track

from nescio.core.guidance import Guidance
from nescio.core.models import load_model, multiplies_bf16
from nescio.core.prompts import encode, render
from nescio.data.synthetic import generate
from nescio.engines.base import Precision, Request
from nescio.engines.decode.batch import Batch, Row
from nescio.engines.decode.kv_slots import columns
from nescio.engines.torch_engine import CACHE_TOKENS, TorchEngine, load

SCALE = 2.0
TOPICS = (
    "a garden in spring",
    "my first week at work",
    "a letter to a friend",
    "how bread is made",
    "a walk by the sea",
)
Line = dict[str, Any]


def prompts(count: int) -> list[str]:
    """Prompts of mixed lengths, none like another."""
    return [f"Story {i}. " + f"Write about {TOPICS[i % 5]}. " * (1 + i % 4) for i in range(count)]


def requests(count: int, tokens: int, guided: bool, adapter: str | None) -> list[Request]:
    how = Guidance(SCALE, "log") if guided else None
    return [
        Request([{"role": "user", "content": text}], how, adapter=adapter, max_tokens=tokens) for text in prompts(count)
    ]


def ours(engine: TorchEngine, asked: list[Request]) -> int:
    engine.forget()
    return sum(len(answer.token_ids) for answer in engine.generate(asked))


def theirs(engine: TorchEngine, asked: list[Request]) -> int:
    """Transformers, one prompt after the other."""
    new = 0
    for request in asked:
        texts = engine.branches(request.prompt, request.guidance)
        ids = [torch.tensor([encode(engine.tokenizer, text)]) for text in texts]
        guided = {"guidance_scale": SCALE, "negative_prompt_ids": ids[-1]} if len(ids) > 1 else {}
        given = engine.model.generate(
            ids[0], attention_mask=torch.ones_like(ids[0]), do_sample=False, max_new_tokens=request.max_tokens, **guided
        )
        new += given.shape[1] - ids[0].shape[1]
    return new


def first_token(engine: TorchEngine, known: bool) -> float:
    """Seconds to the first token after a prompt of some 500 tokens that was asked before, or not, up to its end."""
    text = "Rules of the house. " * 100
    seconds = []
    for number in range(3):
        engine.forget()
        if known:
            engine.complete(text + "Be kind.", max_tokens=1)
        start = time.perf_counter()
        next(iter(engine.submit(Request(f"{text}Question {number}:", max_tokens=1))))
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def contenders(
    options: argparse.Namespace, engines: dict[str, TorchEngine]
) -> Iterator[tuple[Line, Callable[[], int]]]:
    """Each contender's row, and what decodes once and gives the number of new tokens."""
    plain = TorchEngine((loaded := load_model("smollm2")).model, loaded.tokenizer)

    def turn(name: str, batch: int, guided: bool, run: Callable[..., int], *given: Any) -> Any:
        return {"contender": name, "batch": batch, "guided": guided}, lambda: run(*given)

    for batch in (1, 4) if options.quick else (1, 8, 16):
        if batch == 1:
            yield turn("transformers", 1, False, theirs, plain, requests(1, options.tokens, False, None))
            yield turn("transformers", 1, True, theirs, plain, requests(1, options.tokens, True, None))
        for precision, engine in engines.items():
            for guided, name in ((False, None), (True, None), (True, "default")):
                label = f"nescio {precision}{' + adapter' if name else ''}"
                yield turn(label, batch, guided, ours, engine, requests(batch, options.tokens, guided, name))
    yield turn("author's loop", 4, True, theirs, plain, requests(4, options.tokens, True, None))


def measured(options: argparse.Namespace, adapter: Path) -> Iterator[Line]:
    kinds = [kind for kind in get_args(Precision) if kind != "bf16" or multiplies_bf16()]
    engines = {kind: load("smollm2", adapter, precision=kind) for kind in kinds}
    turns = [*contenders(options, engines)]
    rates: list[list[float]] = [[] for _ in turns]
    for number in range(1 + options.repeat):
        for place in track(range(len(turns)), f"round {number}" if number else "warming up"):
            start = time.perf_counter()
            rates[place].append(turns[place][1]() / (time.perf_counter() - start))
    for (row, _), found in zip(turns, rates, strict=True):
        name, guided = row["contender"], "guided" if row["guided"] else ""
        print(f"{name:<24}{row['batch']:>4}  {guided:<6}{max(found[1:]):>9.1f} tokens/s")
        yield row | {"tokens_per_second": max(found[1:])}
    for kind, engine in engines.items():
        for known in (False, True):
            yield {
                "contender": f"nescio {kind}", "known_prefix": known, "first_token_seconds": first_token(engine, known)
            }  # fmt: skip
        engine.close()


def agreement(kind: Precision, dialogs: int) -> Line:
    """A precision teacher-forced over the answers of the demo's kind of dialogs: how often its likeliest token is full
    precision's, and the mean KL to it. Prompts are read at once, answers token by token, as in decoding."""
    full, other = load("smollm2"), load("smollm2", precision=kind)
    same, divergences = [], []
    with torch.inference_mode():
        for row in generate(dialogs, seed=0, max_exchanges=1):
            prompt = encode(full.tokenizer, render(full.tokenizer, row["messages"][:1]))
            answer = encode(full.tokenizer, row["messages"][1]["content"])
            a, b = (stepped(engine, prompt, answer).log_softmax(-1) for engine in (full, other))
            same.append((a.argmax(-1) == b.argmax(-1)).float())
            divergences.append((a.exp() * (a - b)).sum(-1))
    return {
        "contender": f"nescio {kind}", "answer_tokens": sum(map(len, same)),
        "top1_agreement": float(torch.cat(same).mean()), "mean_kl": float(torch.cat(divergences).mean()),
    }  # fmt: skip


def stepped(engine: TorchEngine, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Logits `[tokens + 1, vocab]` before each token of an answer, and after the last."""
    batch, row = Batch(engine.model, CACHE_TOKENS, 2048), Row([*prompt])
    batch.slots.reserve(1, columns(len(prompt) + len(answer)))
    logits = [batch.extend(0, [row], len(prompt))]
    for token in answer:
        row.ids.append(token)
        logits.append(batch.extend(0, [row], 1))
    return torch.cat(logits)


def ratios(rows: list[Line]) -> dict[str, float]:
    rate = {(r["contender"], r["batch"], r["guided"]): r["tokens_per_second"] for r in rows if "batch" in r}
    first = {(r["contender"], r["known_prefix"]): r["first_token_seconds"] for r in rows if "known_prefix" in r}
    most = max(batch for _, batch, _ in rate)
    theirs_guided, loop = rate["transformers", 1, True], rate["author's loop", 4, True]
    found = {}
    for kind in ("full", "half", "int8"):
        name = f"nescio {kind}"
        found |= {
            f"{kind}_guided_1_over_transformers_guided": rate[name, 1, True] / theirs_guided,
            f"{kind}_guided_{most}_over_authors_loop": rate[name, most, True] / loop,
            f"{kind}_adapter_step_1_over_without": rate[name, 1, True] / rate[f"{name} + adapter", 1, True],
            f"{kind}_first_token_unknown_over_known_prefix": first[name, False] / first[name, True],
        }
    return {name: round(value, 2) for name, value in found.items()}


def profile(tokens: int) -> None:
    """Print where the time of guided decoding at batch 1 goes, by operation."""
    engine, asked = load("smollm2"), requests(1, tokens, True, None)
    ours(engine, requests(1, 2, True, None))
    every = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)  # the engine has a thread of its own
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], experimental_config=every) as taken:
        start = time.perf_counter()
        new = ours(engine, asked)
        seconds = time.perf_counter() - start
    operations = sorted(taken.key_averages(), key=lambda each: -each.self_cpu_time_total)
    known = sum(each.self_cpu_time_total for each in operations) / 1e6
    print(f"{seconds / new * 1000:.1f} ms a token; {1 - known / seconds:.0%} outside of operations")
    for each in operations[:12]:
        print(f"{each.key:<44}{each.self_cpu_time_total / 1e6 / seconds:>7.1%}{each.count / new:>8.0f} a token")
    engine.close()


def write_adapter(folder: Path) -> None:
    """The demo's adapter in shape: rank 16 on all linear layers, of small random weights."""
    torch.manual_seed(0)
    model = get_peft_model(load_model("smollm2").model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1e-3)
    model.save_pretrained(folder)


def main() -> None:
    parser = options_of(__doc__, "decode", "few tokens")
    parser.add_argument("--tokens", type=int, help="new tokens of each answer; 48, or 8 with --quick")
    parser.add_argument("--repeat", type=int, default=3, help="rounds, of which the best counts")
    parser.add_argument("--profile", action="store_true", help="only print where a guided token's time goes")
    options = parser.parse_args()
    options.tokens = options.tokens or (8 if options.quick else 48)
    torch.set_num_threads(2)
    if options.profile:
        profile(options.tokens)
        return
    with tempfile.TemporaryDirectory() as work:
        write_adapter(Path(work))
        dialogs = 2 if options.quick else 16
        rows = [*measured(options, Path(work)), *(agreement(kind, dialogs) for kind in ("half", "int8"))]
    print(json.dumps(rows[-2:], indent=2))
    leave(options, ("torch", "transformers", "peft"), rows, ratios(rows))


if __name__ == "__main__":
    main()
