"""A request on its way through vLLM: what is asked of vLLM for each branch, and what comes back for the answer.

Knows requests and vLLM's parameters and outputs; nothing of schedulers or logits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nescio.core.guidance import Guidance
from nescio.engines.base import Request, TokenLogprob
from nescio.engines.decode.sampling import COLDEST
from nescio.engines.detokenizer import Writing
from nescio.engines.vllm.branch_rows import Role, Row
from nescio.engines.vllm.token_choice import told

_SEED_BITS = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Job:
    """A request, its branches as token ids, and its answer so far.

    Attributes:
        key: Tells the job from all others of its engine.
        request: What was asked for.
        branches: Token ids of the positive and, where it is guided, the negative branch.
        writing: The answer.
        lora: vLLM's handle of the adapter, or None.
        forced: Tokens to emit instead of choosing, when a given continuation is scored.
    """

    key: str
    request: Request
    branches: list[list[int]]
    writing: Writing
    lora: Any = None
    forced: tuple[int, ...] = ()

    @property
    def roles(self) -> list[Role]:
        """What each branch is to its request."""
        return ["positive", "negative"] if len(self.branches) > 1 else ["alone"]

    def name(self, role: Role) -> str:
        """The name of a branch's vLLM request."""
        return f"{self.key}/{role}"

    def sampling(self, role: Role) -> Any:
        """vLLM's parameters for a branch: greedy where the token is chosen in the processor."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        request = self.request
        own: dict[str, Any] = {
            "max_tokens": request.max_tokens,
            "detokenize": False,
            "ignore_eos": bool(self.forced),
            "output_kind": RequestOutputKind.FINAL_ONLY if role == "negative" else RequestOutputKind.DELTA,
        }
        if role == "alone" and request.logprobs is None:
            if request.temperature < COLDEST:  # vLLM would raise it to a hundredth
                return SamplingParams(temperature=0, **own)
            draw = {"temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k}
            return SamplingParams(seed=request.seed & _SEED_BITS, **draw, **own)
        if request.logprobs is not None and role != "negative":
            own["logprobs"] = request.logprobs + 1  # the chosen token, and that many others
        return SamplingParams(temperature=0, extra_args=self._row(role).extra_args(), **own)

    def _row(self, role: Role) -> Row:
        request = self.request
        how = request.guidance if request.guidance and role != "alone" else Guidance()  # alone, none of it counts
        return Row(
            self.key, role, how.scale, how.space, how.plausibility, how.adaptive,
            request.temperature, request.top_p, request.top_k, request.seed, self.forced,
        )  # fmt: skip

    def take(self, output: Any) -> None:
        """Add what vLLM gives for the positive branch to the answer."""
        given = output.outputs[0]
        tokens = list(given.token_ids)
        if given.finish_reason == "stop":
            tokens.pop()  # EOS
        for place, token in enumerate(tokens):
            if not self.writing.finish:
                self.writing.add(token, self._logprob(token, given.logprobs[place]) if given.logprobs else None)
        if output.finished and not self.writing.finish:
            self.writing.end("stop" if given.finish_reason == "stop" else "length")

    def _logprob(self, token: int, values: Mapping[int, Any]) -> TokenLogprob:
        def tell(number: int) -> TokenLogprob:
            return TokenLogprob(number, self.writing.text_of(number), told(values[number].logprob))

        others = sorted(map(tell, values), key=lambda one: -one.logprob)
        chosen = tell(token)
        return TokenLogprob(token, chosen.text, chosen.logprob, tuple(others[: self.request.logprobs]))
