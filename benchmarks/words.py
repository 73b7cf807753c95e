"""How many plain questions a model answers right in words, by field and level: whether the set suits a small model.

python benchmarks/words.py --model smollm2
"""

from collections import defaultdict
from typing import Any

from _result import leave, options_of

import nescio
from nescio.engines.base import Request
from nescio.evaluation.base import batches
from nescio.evaluation.measures.words import all_questions, drawn, is_right

BATCH = 40


def main() -> None:
    """Ask, count and print."""
    parser = options_of(__doc__, "words", "40 questions")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--count", type=int, default=len(all_questions()), help="As `evaluate.words`; by default all.")
    parser.add_argument("--max-tokens", type=int, default=24)
    options = parser.parse_args()
    questions = drawn(BATCH if options.quick else options.count)
    found: dict[str, list[bool]] = defaultdict(list)
    with nescio.load(options.model) as engine:
        for number, batch in enumerate(batches(questions, BATCH), start=1):
            asked = [Request(each.messages, max_tokens=options.max_tokens) for each in batch]
            for each, answer in zip(batch, engine.generate(asked), strict=True):
                for name in ("all", f"level {each.level}", each.field):
                    found[name].append(is_right(each, answer.text))
            print(f"{number * BATCH} asked, {sum(found['all'])} of {len(found['all'])} right", flush=True)
    rows: list[dict[str, Any]] = [
        {"questions": name, "asked": len(own), "right": sum(own)} for name, own in sorted(found.items())
    ]
    for row in rows:
        print(f"{row['questions']:14} {row['right']:4} of {row['asked']:4}  {row['right'] / row['asked']:.0%}")
    shares = {row["questions"]: row["right"] / row["asked"] for row in rows if row["questions"][:5] in ("all", "level")}
    leave(options, ["torch", "transformers"], rows, shares, model=options.model, max_tokens=options.max_tokens)


if __name__ == "__main__":
    main()
