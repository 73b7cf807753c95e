"""Subtracting a fine-tune from its base: nescio, loading both with Transformers, and mergekit's task_arithmetic.

Generates a sharded bf16 checkpoint pair, runs every contender in a process of its own, and measures seconds from start
to exit and the peak of anonymous memory (RssAnon: what cannot be given back to the disk). Files are in the page cache
before each run and what was written is flushed between the runs, so that none pays for another's disk.

    python benchmarks/subtract.py --gigabytes 4 --mergekit-python /path/to/venv/bin/python
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from _result import leave, options_of
from safetensors.torch import save_file

from nescio.task_vector.checkpoints import open_checkpoint
from nescio.task_vector.subtract import subtract

COEFFICIENT = 0.5
HIDDEN, INNER, HEADS, KV_HEADS, VOCAB = 2048, 5632, 32, 8, 32000
LAYER = {
    "self_attn.q_proj.weight": (HIDDEN, HIDDEN),
    "self_attn.k_proj.weight": (HIDDEN // HEADS * KV_HEADS, HIDDEN),
    "self_attn.v_proj.weight": (HIDDEN // HEADS * KV_HEADS, HIDDEN),
    "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
    "mlp.gate_proj.weight": (INNER, HIDDEN),
    "mlp.up_proj.weight": (INNER, HIDDEN),
    "mlp.down_proj.weight": (HIDDEN, INNER),
    "input_layernorm.weight": (HIDDEN,),
    "post_attention_layernorm.weight": (HIDDEN,),
}
MERGEKIT = """\
merge_method: task_arithmetic
base_model: {base}
models:
  - model: {tuned}
    parameters: {{weight: -{coefficient}}}
dtype: bfloat16
"""


def generate(folder: Path, gigabytes: float, shard: float) -> None:
    """Write `folder`/base and `folder`/tuned: Llama-shaped, bf16, shards of about `shard` gigabytes."""
    ends = {
        "model.embed_tokens.weight": (VOCAB, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (VOCAB, HIDDEN),
    }
    size = 2 * sum(torch.Size(shape).numel() for shape in LAYER.values())
    layers = max(1, round((gigabytes * 1e9 - 4 * VOCAB * HIDDEN) / size))
    shapes = {f"model.layers.{i}.{name}": shape for i in range(layers) for name, shape in LAYER.items()} | ends
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    for name, shape in shapes.items():
        if sum(2 * torch.Size(s).numel() for s in shards[-1].values()) > shard * 1e9:
            shards.append({})
        shards[-1][name] = shape
    for side, shift in (("base", 0.0), ("tuned", 0.003)):
        (folder / side).mkdir(parents=True)
        weight_map = {}
        for number, part in enumerate(shards, start=1):
            file = f"model-{number:05}-of-{len(shards):05}.safetensors"
            save_file(
                {n: _values(n, shape, shift) for n, shape in part.items()}, folder / side / file, {"format": "pt"}
            )
            weight_map |= dict.fromkeys(part, file)
        index = {"metadata": {"total_size": 2 * sum(torch.Size(s).numel() for s in shapes.values())}}
        (folder / side / "model.safetensors.index.json").write_text(json.dumps(index | {"weight_map": weight_map}))
        (folder / side / "config.json").write_text(json.dumps(_config(layers)))


def _values(name: str, shape: tuple[int, ...], shift: float) -> torch.Tensor:
    torch.manual_seed(sum(name.encode()))
    values = torch.randn(shape).mul_(0.02)
    return (values.add_(torch.randn(shape), alpha=shift) if shift else values).bfloat16()


def _config(layers: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "num_hidden_layers": layers, "vocab_size": VOCAB,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip


def with_transformers(base: Path, tuned: Path, out: Path) -> None:
    """What one writes by hand: load both, subtract in fp32, save."""
    from transformers import AutoModelForCausalLM

    mine = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    theirs = AutoModelForCausalLM.from_pretrained(tuned, dtype=torch.bfloat16).state_dict()
    with torch.no_grad():
        for name, weight in mine.state_dict().items():
            wide = weight.float()
            weight.copy_(wide - COEFFICIENT * (theirs[name].float() - wide))
    mine.save_pretrained(out, max_shard_size="1GB")


def with_nescio(base: Path, tuned: Path, out: Path) -> None:
    subtract(str(base), str(tuned), out, COEFFICIENT)


CONTENDERS = {"nescio": with_nescio, "transformers": with_transformers}


def command(contender: str, base: Path, tuned: Path, out: Path, mergekit: Path | None) -> list[str]:
    if contender != "mergekit":
        return [sys.executable, __file__, "--contender", contender, str(base), str(tuned), str(out)]
    plan = out.with_suffix(".yaml")
    plan.write_text(MERGEKIT.format(base=base, tuned=tuned, coefficient=COEFFICIENT))
    assert mergekit is not None
    return [str(mergekit.parent / "mergekit-yaml"), str(plan), str(out), "--no-copy-tokenizer", "--quiet"]


def measure(arguments: list[str], log: Path) -> dict[str, object]:
    """Run a process; its seconds by the clock and of the processors, the peak of its anonymous memory each 10 ms."""
    start, peak, before = time.perf_counter(), 0, os.times()
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, _anonymous(process.pid))
            time.sleep(0.01)
    seconds, after = time.perf_counter() - start, os.times()
    if process.returncode:
        sys.exit(f"{arguments[0]} failed:\n{log.read_text()[-3000:]}")
    processors = after.children_user + after.children_system - before.children_user - before.children_system
    return {
        "seconds": round(seconds, 2),
        "processor_seconds": round(processors, 2),
        "peak_anonymous_mib": round(peak / 1024),
    }


def _anonymous(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)


def furthest(mine: Path, other: Path) -> float:
    """The largest difference of two results, over all weights."""
    a, b = open_checkpoint(str(mine)).entries, open_checkpoint(str(other)).entries
    return max(
        float((entry.read(*rows).float() - b[name].read(*rows).float()).abs().max())
        for name, entry in a.items()
        for rows in entry.pieces(1 << 24)
    )


def run(contender: str, folder: Path, mergekit: Path | None) -> dict[str, object]:
    base, tuned, out = folder / "base", folder / "tuned", folder / contender
    for file in (*base.iterdir(), *tuned.iterdir()):
        with file.open("rb") as handle:
            while handle.read(1 << 24):
                pass
    os.sync()
    row: dict[str, object] = {
        "contender": contender,
        "gigabytes": round(open_checkpoint(str(base)).nbytes / 1e9, 2),
        "load_before": round(os.getloadavg()[0], 1),
    }
    row |= measure(command(contender, base, tuned, out, mergekit), folder / "log.txt")
    if contender != "nescio":
        row["largest_difference_to_nescio"] = furthest(folder / "nescio", out)
        shutil.rmtree(out)
    return row


def main() -> None:
    parser = options_of(__doc__, "subtract", "half a gigabyte")
    parser.add_argument("--gigabytes", type=float, default=4.0, help="size of each of the two checkpoints")
    parser.add_argument("--mergekit-python", type=Path, help="the Python of an environment that has mergekit")
    parser.add_argument("--contender", nargs=4, metavar=("NAME", "BASE", "TUNED", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        name, *paths = options.contender
        CONTENDERS[name](*map(Path, paths))
        return
    size = 0.5 if options.quick else options.gigabytes
    rows = []
    names = ["nescio", "transformers", *(["mergekit"] if options.mergekit_python else [])]
    with tempfile.TemporaryDirectory() as work:
        for part, contenders in ((size / 4, ["nescio"]), (size, names)):
            folder = Path(work) / f"{part:g}"
            generate(folder, part, size / 16)
            rows += [run(contender, folder, options.mergekit_python) for contender in contenders]
            shutil.rmtree(folder)
    columns = ("contender", "gigabytes", "seconds", "processor_seconds", "peak_anonymous_mib")
    for row in (dict(zip(columns, columns, strict=True)), *rows):
        print("".join(f"{row[column]!s:<20}" for column in columns))
    mergekit = {"mergekit": version_of_mergekit(options.mergekit_python)} if options.mergekit_python else {}
    leave(options, ("torch", "transformers", "safetensors"), rows, ratios(rows), **mergekit)


def ratios(rows: list[dict[str, object]]) -> dict[str, float]:
    small, full = rows[0], {str(row["contender"]): row for row in rows[1:]}
    ours = full["nescio"]
    found = {"peak_full_over_small": _ratio(ours, small, "peak_anonymous_mib")}
    for name in full.keys() - {"nescio"}:
        found[f"seconds_over_{name}"] = _ratio(ours, full[name], "seconds")
        found[f"processor_seconds_over_{name}"] = _ratio(ours, full[name], "processor_seconds")
        found[f"peak_over_{name}"] = _ratio(ours, full[name], "peak_anonymous_mib")
    return dict(sorted(found.items()))


def version_of_mergekit(python: Path) -> str:
    ask = [str(python), "-c", "from importlib.metadata import version; print(version('mergekit'))"]
    return subprocess.check_output(ask, text=True).strip()


def _ratio(mine: dict[str, object], other: dict[str, object], key: str) -> float:
    return round(float(str(mine[key])) / float(str(other[key])), 3)


if __name__ == "__main__":
    main()
