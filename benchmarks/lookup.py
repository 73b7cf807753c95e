"""Would prompt lookup pay? Steps that it would save on a run's guided answers, against what its longer steps cost.

Prompt lookup guesses the next tokens as those that followed the last few tokens where they stood before, and checks all
guesses in one step (Saxena 2023). Its answers are the same tokens, so what it would save can be counted on answers that
are there; what a step of several tokens costs is timed on the embedded model, two rows as in a guided request.

    python benchmarks/lookup.py --run runs/demo
"""

import time
from pathlib import Path
from typing import Any

import torch
from _result import leave, needs, options_of
from transformers import DynamicCache

from nescio.core.files import read_jsonl
from nescio.core.guidance import Guidance
from nescio.core.prompts import encode
from nescio.engines.torch_engine import load

NGRAM = 3
ANSWERS = "eval/trained-prob-3.jsonl"


def guessed(ids: list[int], most: int) -> list[int]:
    """The tokens after the latest earlier place where the last few tokens stand; the longest few that are found."""
    for size in range(NGRAM, 0, -1):
        tail = ids[-size:]
        for start in range(len(ids) - size - 1, -1, -1):
            if ids[start : start + size] == tail:
                return ids[start + size : start + size + most]
    return []


def steps(prompt: list[int], answer: list[int], most: int) -> int:
    """How many steps an answer takes when each step also takes every right guess."""
    taken, count = 0, 0
    while taken < len(answer):
        guess = guessed(prompt + answer[:taken], most)
        right = 0
        while right < len(guess) and taken + right < len(answer) and guess[right] == answer[taken + right]:
            right += 1
        taken += right + 1
        count += 1
    return count


def step_seconds(model: Any, tokens: int, repeat: int, held: int = 128) -> float:
    """Seconds of a forward of that many tokens over a cache, two rows; the best of several."""
    best = float("inf")
    with torch.inference_mode():
        for _ in range(repeat):
            cache = DynamicCache(config=model.config)
            model(torch.ones(2, held, dtype=torch.long), past_key_values=cache, logits_to_keep=1)
            start = time.perf_counter()
            model(torch.ones(2, tokens, dtype=torch.long), past_key_values=cache)
            best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    parser = options_of(__doc__, "lookup", "each step timed once")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="a finished run, for its answers")
    options = parser.parse_args()
    needs(parser, options, ANSWERS)
    torch.set_num_threads(2)
    engine = load(str(options.run / "tuned"))
    answers = []
    for _, row in read_jsonl(options.run / ANSWERS):
        prompt = engine.branches(row["messages"], Guidance(3.0))[0]
        answers.append((encode(engine.tokenizer, prompt), encode(engine.tokenizer, row["answer"])))
    tokens = sum(len(answer) for _, answer in answers)
    rows, repeat = [], 1 if options.quick else 30
    one = step_seconds(engine.model, 1, repeat)
    print("guesses  tokens a step  cost of a step  speed")
    for most in (1, 2, 4, 8):
        gain = tokens / sum(steps(*each, most) for each in answers)
        cost = step_seconds(engine.model, 1 + most, repeat) / one
        rows.append({"guesses": most, "tokens_per_step": gain, "step_cost": cost, "speed": gain / cost})
        print(f"{most:>7}{gain:>15.2f}{cost:>16.2f}{gain / cost:>7.2f}", flush=True)
    best = {"best_speed": round(max(row["speed"] for row in rows), 2)}
    leave(options, ("torch", "transformers"), rows, best, answers=len(answers), tokens=tokens)


if __name__ == "__main__":
    main()
