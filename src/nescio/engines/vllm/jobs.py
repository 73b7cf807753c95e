"""A request in progress: vLLM's parameters for each of its branches, and the answer made of vLLM's outputs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nescio.core.guidance import Guidance
from nescio.engines.answer_schema import schema_of
from nescio.engines.base import Request, TokenLogprob
from nescio.engines.decode.grammar import STYLE
from nescio.engines.decode.sampling import COLDEST
from nescio.engines.detokenizer import Detokenizer
from nescio.engines.vllm.branch_rows import BranchRow, Role
from nescio.engines.vllm.token_choice import log_probability

_SEED_BITS = (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request, its branches as token ids, and its answer so far.

    Attributes:
        name: Unique within the engine.
        request: As submitted.
        branches: Token ids of the positive branch and, if the request is guided, of the negative one.
        detokenizer: The answer so far.
        end_ids: Tokens that end the answer, besides the EOS that vLLM knows.
        lora: vLLM's handle of the adapter, or None.
        forced: Tokens to emit instead of choosing, when a given continuation is scored.
    """

    name: str
    request: Request
    branches: list[list[int]]
    detokenizer: Detokenizer
    end_ids: tuple[int, ...] = ()
    lora: Any = None
    forced: tuple[int, ...] = ()

    @property
    def roles(self) -> list[Role]:
        """The role of each branch."""
        return ["positive", "negative"] if len(self.branches) > 1 else ["alone"]

    def branch_name(self, role: Role) -> str:
        """Return the name of a branch's vLLM request."""
        return f"{self.name}/{role}"

    def sampling(self, role: Role) -> Any:
        """Return vLLM's `SamplingParams` for a branch: greedy, where the logits processor chooses the token."""
        from vllm import SamplingParams
        from vllm.platforms import current_platform
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        request = self.request
        common: dict[str, Any] = {
            "max_tokens": request.max_tokens,
            "detokenize": False,
            "ignore_eos": bool(self.forced),
            "stop_token_ids": [] if self.forced else list(self.end_ids),
            "output_kind": RequestOutputKind.FINAL_ONLY if role == "negative" else RequestOutputKind.DELTA,
        }
        if (schema := schema_of(request)) is not None:
            # Of both branches vLLM rules the same tokens out, before the logits processor combines them.
            common["structured_outputs"] = StructuredOutputsParams(json=json.dumps({**schema, "x-guidance": STYLE}))
        # On a CPU vLLM breaks down at a seed where a prompt comes in parts: it can't set such a generator back.
        takes_seed, penalised = not current_platform.is_cpu(), request.presence_penalty or request.frequency_penalty
        drawn_here = request.temperature >= COLDEST and not takes_seed and not penalised
        if role == "alone" and request.logprobs is None and not drawn_here:  # vLLM samples it by itself
            common |= {
                "presence_penalty": request.presence_penalty,
                "frequency_penalty": request.frequency_penalty,
                "logit_bias": dict(request.logit_bias) or None,
            }
            if request.temperature < COLDEST:  # vLLM would raise it to 0.01
                return SamplingParams(temperature=0, **common)
            draw = {"temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k}
            seed = request.seed & _SEED_BITS if takes_seed else None
            return SamplingParams(seed=seed, min_p=request.min_p, **draw, **common)
        if request.logprobs is not None and role != "negative":
            common["logprobs"] = request.logprobs + 1  # the chosen token and its alternatives
        return SamplingParams(temperature=0, extra_args=self.row(role).extra_args(), **common)

    def row(self, role: Role) -> BranchRow:
        """Return what the logits processor and the scheduler read for a branch."""
        request = self.request
        guidance = request.guidance if role != "alone" else None  # alone, no setting of it counts
        return BranchRow(
            request=self.name,
            role=role,
            guidance=guidance or Guidance(),
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            min_p=request.min_p,
            logit_bias=tuple(request.logit_bias.items()),
            seed=request.seed,
            forced=self.forced,
        )

    def take(self, output: Any) -> None:
        """Add vLLM's output for the positive branch to the answer."""
        given = output.outputs[0]
        tokens = list(given.token_ids)
        if given.finish_reason == "stop":
            tokens.pop()  # EOS
        for place, token in enumerate(tokens):
            if not self.detokenizer.finish:
                self.detokenizer.add(token, self._logprob(token, given.logprobs[place]) if given.logprobs else None)
        if output.finished and not self.detokenizer.finish:
            self.detokenizer.end("stop" if given.finish_reason == "stop" else "length")

    def _logprob(self, token: int, values: Mapping[int, Any]) -> TokenLogprob:
        log_probs = {number: log_probability(value.logprob) for number, value in values.items()}
        top = sorted(log_probs, key=lambda number: -log_probs[number])
        return self.detokenizer.logprob(token, log_probs, top[: self.request.logprobs])
