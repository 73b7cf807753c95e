"""A baked adapter in vLLM as it comes, with nothing of nescio: does it give the answers of the run's table?

The answers come from vLLM alone, greedily and in fp32; each is compared with the one that the run's evaluation kept. To
be run in the environment of `make test-vllm`, on a run whose tuned model lies in its folder:

    .venv-vllm/bin/python benchmarks/vllm_plain.py --run runs/demo
"""

import json
import os
from pathlib import Path
from typing import Any

from _result import leave, needs, needs_vllm, options_of

from nescio.pipeline.recipe import load_recipe

ANSWERS = "eval/baked.jsonl"


def answers_of(run: Path, rows: list[dict[str, Any]], max_tokens: int) -> list[str]:
    """What vLLM answers to the prompts of kept answers, with the run's adapter on its tuned model."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    rank = json.loads((run / "adapter/adapter_config.json").read_text())["r"]
    llm = LLM(model=str(run / "tuned"), enable_lora=True, max_lora_rank=rank, dtype="float32", max_model_len=1024)
    tokenizer: Any = llm.get_tokenizer()
    prompts = []
    for row in rows:
        goes_on = row["messages"][-1]["role"] == "assistant"
        ids = tokenizer.apply_chat_template(
            row["messages"], add_generation_prompt=not goes_on, continue_final_message=goes_on, return_dict=False
        )
        prompts.append({"prompt_token_ids": ids})
    greedy = SamplingParams(temperature=0, max_tokens=max_tokens)
    answers = llm.generate(prompts, greedy, lora_request=LoRARequest("baked", 1, str(run / "adapter")))
    return [each.outputs[0].text for each in answers]


def main() -> None:
    """Compare every kept answer."""
    parser = options_of(__doc__, "vllm_plain", "four answers")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="a finished run that baked")
    options = parser.parse_args()
    installed = needs_vllm(parser, options)
    needs(parser, options, ANSWERS)
    rows = [json.loads(line) for line in (options.run / ANSWERS).read_text().splitlines()]
    rows = rows[: 4 if options.quick else None]
    max_tokens = load_recipe(options.run / "recipe.yaml").evaluate.max_tokens
    pairs = list(zip(rows, answers_of(options.run, rows, max_tokens), strict=True))
    differ = [(row["answer"].strip(), text.strip()) for row, text in pairs if row["answer"].strip() != text.strip()]
    for kept, text in differ:
        print(f"kept: {kept}\nvLLM: {text}\n")
    same = len(rows) - len(differ)
    print(f"{same} of {len(rows)} answers are the same")
    leave(options, ("torch", *installed), [{"answers": len(rows), "same": same}], {"same": same / len(rows)})


if __name__ == "__main__":
    main()
