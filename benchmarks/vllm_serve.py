"""Guidance on vLLM: tokens a second of guided and unguided requests that come together, against our torch engine.

A guided request takes two rows. So n of them are also compared with half the rate of 2n unguided ones.

Both engines run the embedded model (or `--model`) in fp32 in a process of their own, one after the other, because an
idle vLLM keeps a core busy; after a round to warm up, the best of each counts. Every request is answered greedily to
its last token. To be run in the environment of `make test-vllm`:

    .venv-vllm/bin/python benchmarks/vllm_serve.py
"""

import argparse
import time
from itertools import product
from typing import Any

from _contender import Contender, Row, serve
from _result import leave, needs_vllm, options_of

from nescio.engines.registry import open_engine

TOGETHER = (1, 8, 32)
ROWS = 2 * max(TOGETHER)
OPTIONS: dict[str, dict[str, Any]] = {
    "vllm": {"max_model_len": 512, "max_num_seqs": ROWS, "kv_cache_memory_bytes": 2 << 30, "seed": 0},
    "torch": {"max_rows": ROWS},
}
SCALE = 2.0
TOPICS = ("a garden in spring", "my first week at work", "a letter to a friend", "how bread is made", "the sea")


def contend(name: str, model: str, tokens: int) -> None:
    """Answer as many requests as a turn says, guided or not."""
    from nescio.core.guidance import Guidance
    from nescio.engines.base import Request

    engine = open_engine(name, model, {}, OPTIONS[name])

    def answer(asked: Row) -> Row:
        how = Guidance(SCALE, "prob") if asked["guided"] else None
        requests = [
            Request(f"Story {asked['round']}.{n}. Once upon a time, {TOPICS[n % len(TOPICS)]}", how,
                    "I never write stories." if how else None, max_tokens=tokens)
            for n in range(asked["together"])
        ]  # fmt: skip
        started = time.perf_counter()
        written = sum(len(answer.token_ids) for answer in engine.generate(requests))
        seconds = time.perf_counter() - started
        return {"tokens_per_second": written / seconds, "tokens": written, "replays": getattr(engine, "replays", 0)}

    serve(answer)
    engine.close()


def measure(model: str, tokens: int, together: tuple[int, ...], rounds: int) -> list[Row]:
    """A row for each engine, number of requests, and guided or not; twice the number only unguided."""
    turns = sorted(
        {(count, guided) for count in together for guided in (False, True)} | {(2 * n, False) for n in together}
    )
    best: dict[tuple[str, int, bool], Row] = {}
    for name in OPTIONS:
        contender = Contender([name, model, str(tokens)])
        for number, (count, guided) in product(range(rounds + 1), turns):
            found = contender.turn({"together": count, "guided": guided, "round": number})
            before = best.get((name, count, guided))
            if number and (before is None or found["tokens_per_second"] > before["tokens_per_second"]):
                best[name, count, guided] = found
        contender.end()
    return [
        {"engine": name, "together": count, "guided": guided} | found
        for (name, count, guided), found in sorted(best.items())
    ]


def ratios(rows: list[Row]) -> dict[str, float]:
    """Guided over unguided of each engine, also over half of twice the requests, and vLLM over the torch engine."""
    rate = {(row["engine"], row["together"], row["guided"]): row["tokens_per_second"] for row in rows}
    found = {}
    for (name, count, guided), own in rate.items():
        if guided:
            found[f"{name}_guided_over_unguided_{count}"] = own / rate[name, count, False]
            found[f"{name}_guided_{count}_over_half_of_unguided_{2 * count}"] = 2 * own / rate[name, 2 * count, False]
        if name == "vllm":
            found[f"vllm_over_torch_{'guided' if guided else 'unguided'}_{count}"] = own / rate["torch", count, guided]
    return {name: round(value, 2) for name, value in sorted(found.items())}


def main() -> None:
    parser = options_of(__doc__, "vllm_serve", "few tokens, up to eight requests")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=64, help="most tokens of an answer")
    parser.add_argument("--repeat", type=int, default=3, help="rounds, of which the best counts")
    parser.add_argument("--contender", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        name, model, tokens = options.contender
        contend(name, model, int(tokens))
        return
    installed = needs_vllm(parser, options)
    if options.quick:
        options.tokens, options.repeat = 8, 1
    rows = measure(options.model, options.tokens, TOGETHER[:2] if options.quick else TOGETHER, options.repeat)
    for row in rows:
        guided = "guided" if row["guided"] else ""
        print(f"{row['engine']:<8}{row['together']:>4}  {guided:<8}{row['tokens_per_second']:>8.1f} tokens/s")
    leave(options, ("torch", "transformers", *installed), rows, ratios(rows), tokens=options.tokens)


if __name__ == "__main__":
    main()
