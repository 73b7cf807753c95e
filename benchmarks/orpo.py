"""A step of ORPO: packed by nescio, unpacked by nescio, and by TRL's ORPOTrainer, on the same model, pairs and batch.

Each contender trains the embedded model (or `--model`) with LoRA on all linear layers in fp32, in a process of its
own with the same number of threads: a step to warm up, then some that are timed, the contenders in turn, round after
round; at the longest length one after the other. A step is forward, backward and the optimizer's. The peak is the
process's largest resident memory, less what it had when the model was loaded. TRL computes its NLL over prompt and
answer, nescio here too; the losses are compared.

    python benchmarks/orpo.py
"""

import argparse
import resource
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from _contender import Contender, Row, serve
from _result import leave, options_of

LENGTHS = {"100/50": (100, 50), "450/64": (450, 64), "1800/128": (1800, 128)}
STEPS = {"100/50": 6, "450/64": 3, "1800/128": 1}  # timed, after one to warm up
CONTENDERS = ("packed", "unpacked", "trl")
IN_TURN = ("100/50", "450/64")  # at the longest, the memory of all three together is more than most machines have
BATCH = {"100/50": 2, "450/64": 2, "1800/128": 1}  # 2 is the paper's; with two of the longest, TRL takes over 24 GiB
WORDS = "the garden of my friend is near an old town and we walk there when it rains in spring or later"


def texts(tokenizer: Any, prompt: int, answer: int, count: int) -> list[dict[str, str]]:
    """Pairs of about so many tokens, no two alike; the rejected answer is a little shorter than the chosen."""
    words = WORDS.split()

    def text(tokens: int, start: int) -> str:
        said = " ".join(words[(start * 7 + n * (1 + start % 5)) % len(words)] for n in range(tokens * 2))
        return str(tokenizer.decode(tokenizer(said).input_ids[:tokens]))

    return [
        {
            "prompt": (tokenizer.bos_token or "") + text(prompt - 1, n),  # which TRL would put in front by itself
            "chosen": " " + text(answer - 2, n + 11) + tokenizer.eos_token,
            "rejected": " " + text(answer - 2 - answer // 8, n + 23) + tokenizer.eos_token,
        }
        for n in range(count)
    ]


def with_trl(model: Any, tokenizer: Any, pairs: list[dict[str, str]], batch: int, work: Path) -> Any:
    """TRL's trainer, and its batches."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    config = ORPOConfig(
        output_dir=str(work), per_device_train_batch_size=batch, learning_rate=1e-4, beta=0.1, max_length=2048,
        use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[], disable_tqdm=True,
    )  # fmt: skip
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=16, lora_alpha=32, lora_dropout=0.0)
    trainer = ORPOTrainer(
        model, config, train_dataset=Dataset.from_list(pairs), processing_class=tokenizer, peft_config=lora
    )
    rows = [trainer.train_dataset[n] for n in range(len(pairs))]
    return trainer, [trainer.data_collator(rows[n : n + batch]) for n in range(0, len(rows), batch)]


def with_nescio(
    model: Any, tokenizer: Any, pairs: list[dict[str, str]], batch: int, work: Path, row_tokens: int | None
) -> Any:
    """Ours, and its batches."""
    from nescio.core.files import write_jsonl
    from nescio.training.examples import read_pairs
    from nescio.training.losses.orpo import orpo
    from nescio.training.settings import LoraSettings, TrainingSettings
    from nescio.training.trainer import PackedTrainer, with_lora

    write_jsonl(work / "pairs.jsonl", pairs)
    units = read_pairs(work / "pairs.jsonl", tokenizer, max_length=2048, max_prompt=1900)
    lora = LoraSettings(dropout=0.0)
    settings = TrainingSettings(batch_size=batch, row_tokens=row_tokens, prompt_wanted=True, lora=lora)
    loss = orpo.bind(beta=0.1, nll_over="prompt_and_answer")
    trainer = PackedTrainer(with_lora(model, lora), units, loss=loss, settings=settings, work=work)
    return trainer, [trainer.data_collator(units[n : n + batch]) for n in range(0, len(units), batch)]


def contend(contender: str, model_name: str, length: str, steps: int) -> None:
    """Make a step for every turn, and tell its seconds, loss and the peak of memory so far."""
    import torch
    from transformers import set_seed

    from nescio.core.block_attention import blockwise
    from nescio.core.models import load_model
    from nescio.training.fused_lora import fused

    loaded = load_model(model_name, torch.float32)
    batch = BATCH[length]
    pairs = texts(loaded.tokenizer, *LENGTHS[length], batch * (steps + 1))
    set_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        if contender == "trl":
            trainer, batches = with_trl(loaded.model, loaded.tokenizer, pairs, batch, Path(folder))
        else:
            rows = None if contender == "unpacked" else 1024
            trainer, batches = with_nescio(loaded.model, loaded.tokenizer, pairs, batch, Path(folder), rows)
        # As `fit` lets attention and LoRA compute.
        own = () if contender == "trl" else (blockwise(loaded.model), fused(trainer.model))
        optimizer = torch.optim.AdamW([p for p in trainer.model.parameters() if p.requires_grad], lr=1e-4)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        def step(number: int) -> Row:
            started = time.perf_counter()
            trainer.model.train()
            loss = trainer.compute_loss(trainer.model, batches[number])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seconds = time.perf_counter() - started
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            return {"seconds": seconds, "loss": float(loss.detach()), "mib": peak / 1024}

        with ExitStack() as stack:
            for each in own:
                stack.enter_context(each)
            serve(step)


def measure(length: str, model: str, steps: int) -> list[Row]:
    """The contenders' rows at one length."""
    arguments = [model, length, str(steps)]
    taken: dict[str, list[Row]] = {contender: [] for contender in CONTENDERS}
    for group in [CONTENDERS] if length in IN_TURN else [(name,) for name in CONTENDERS]:
        running = {name: Contender([name, *arguments]) for name in group}
        for number in range(steps + 1):
            for name, process in running.items():
                taken[name].append(process.turn(number))
        for process in running.values():
            process.end()
    return [
        {
            "lengths": length,
            "contender": contender,
            "seconds": round(statistics.median(step["seconds"] for step in own[1:]), 3),
            "pairs_per_second": round(BATCH[length] / statistics.median(step["seconds"] for step in own[1:]), 3),
            "peak_mib": round(own[-1]["mib"]),
            "losses": [round(step["loss"], 5) for step in own],
        }
        for contender, own in taken.items()
    ]


def ratios(rows: list[Row]) -> dict[str, float]:
    """Packed over the others, in pairs per second and in peak memory, at each length."""
    found = {}
    by = {(row["lengths"], row["contender"]): row for row in rows}
    for (length, contender), theirs in by.items():
        if contender != "packed":
            ours = by[length, "packed"]
            found[f"speed_over_{contender}_{length}"] = round(ours["pairs_per_second"] / theirs["pairs_per_second"], 3)
            found[f"memory_over_{contender}_{length}"] = round(ours["peak_mib"] / theirs["peak_mib"], 3)
            worst = max(abs(a / b - 1) for a, b in zip(ours["losses"], theirs["losses"], strict=True))
            found[f"loss_difference_to_{contender}_{length}"] = round(worst, 6)
    return found


def main() -> None:
    parser = options_of(__doc__, "orpo", "the short length, two steps")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--steps", type=int, help="timed steps; else 6, 3 and 1, the more the shorter")
    parser.add_argument("--length", action="append", choices=list(LENGTHS), help="repeatable; else all three")
    parser.add_argument("--contender", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        name, model, length, steps = options.contender
        contend(name, model, length, int(steps))
        return
    chosen = options.length or list(LENGTHS)
    plan = {"100/50": 2} if options.quick else {length: options.steps or STEPS[length] for length in chosen}
    rows = [row for length, steps in plan.items() for row in measure(length, options.model, steps)]
    for row in rows:
        print(
            f"{row['lengths']:<10}{row['contender']:<10}{row['seconds']:>8.2f} s a step"
            f"{row['pairs_per_second']:>8.2f} pairs a second{row['peak_mib']:>8} MiB"
        )
    leave(options, ("torch", "transformers", "peft", "trl"), rows, ratios(rows), batch=BATCH)


if __name__ == "__main__":
    main()
