"""lm-evaluation-harness under guidance: its model class `nescio`, so that any of its tasks runs as a row of ours does.

A task's context is put as one user message, and its continuations are scored, or generated, as the assistant's answer.
Importing this module registers the class; run as a module it is the harness's own command line:

    python -m nescio.integrations.lm_eval run --model nescio --model_args model=smollm2,scale=3 --tasks …

Knows engines and the harness; nothing of personal data.
"""

import zlib
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, cast

import torch

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.prompts import Message
from nescio.engines.base import Request, Scoring
from nescio.engines.prompt_branches import scored_ids
from nescio.engines.torch_engine import load

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
except ImportError as error:
    raise NescioError("lm-evaluation-harness is not installed; run `pip install 'nescio[eval]'`") from error

_HARNESS_ARGUMENTS = ("batch_size", "max_batch_size", "device")
_MAX_TOKENS = 256  # where a task says nothing; the harness's own default


@register_model("nescio")
class NescioLM(LM):  # type: ignore[misc]
    """A model under guidance, for the harness.

    Args:
        model: What `nescio.load` takes.
        adapter: PEFT adapter folder to attach.
        protect: Whether the protect sentence is given at all; without it nothing is guided.
        **others: Fields of `nescio.Guidance`, such as `scale=3,space=log,adaptive=True`. What the harness adds
            (`batch_size`, `max_batch_size`, `device`) has no effect; batches are made by length.
    """

    def __init__(
        self,
        model: str = "smollm2",
        adapter: str | None = None,
        protect: bool = True,
        **others: Any,
    ) -> None:
        super().__init__()
        settings = [field.name for field in fields(Guidance)]
        unknown = others.keys() - {*settings, *_HARNESS_ARGUMENTS}
        if unknown:
            known = ", ".join(["model", "adapter", "protect", *settings])
            raise NescioError(f"model_args: {min(unknown)}: unknown; known here: {known}")
        guidance = Guidance(**{name: others[name] for name in settings if name in others})
        if not protect and guidance.guided:
            raise NescioError("protect=False with a scale: nothing is left to guide by; drop one of the two")
        self._guidance = guidance if protect else None
        self._engine = load(model, adapter)

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation under the guided distribution, and whether greedy decoding gives it."""
        pairs = [request.args for request in requests]
        scores = self._engine.score_batch([Scoring(_asked(a), b, self._guidance) for a, b in pairs])
        tokens = [self._tokens(a, b) for a, b in pairs]
        greedy = self._greedy([context for context, _ in pairs], tokens)
        return [
            (sum(row), greedy[context][: len(own)] == own)
            for (context, _), row, own in zip(pairs, scores, tokens, strict=True)
        ]

    def _tokens(self, context: str, continuation: str) -> list[int]:
        """The tokens of a continuation that are scored, and that the greedy ones are held against."""
        prompt = self._engine.branches(_asked(context), self._guidance)[0]
        return scored_ids(self._engine.tokenizer, {}, Scoring(prompt, continuation))[1]

    def _greedy(self, contexts: list[str], tokens: list[list[int]]) -> dict[str, list[int]]:
        """The tokens of the greedy answer to each context, as many as its longest continuation has."""
        lengths: dict[str, int] = {}
        for context, own in zip(contexts, tokens, strict=True):
            lengths[context] = max(lengths.get(context, 1), len(own))
        asked = [Request(_asked(text), self._guidance, max_tokens=length) for text, length in lengths.items()]
        return dict(zip(lengths, [answer.token_ids for answer in self._engine.generate(asked)], strict=True))

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Refused: guidance is between two prompts, and a text alone has none.

        Raises:
            NescioError: Always.
        """
        raise NescioError("perplexity of whole texts has no prompt to guide by; choose tasks with a context")

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Answers, each up to its task's stop texts; sampled ones follow the seed that the harness gave torch."""
        pairs = enumerate(request.args for request in requests)
        asked = [self._request(context, options, number) for number, (context, options) in pairs]
        return [answer.text for answer in self._engine.generate(asked)]

    def _request(self, context: str, options: dict[str, Any], number: int) -> Request:
        until = options.get("until") or ()
        stop = (until,) if isinstance(until, str) else tuple(cast(Iterable[str], until))
        # As the harness has it: a temperature samples unless `do_sample` is false.
        temperature = 0.0 if options.get("do_sample") is False else float(options.get("temperature") or 0)
        tokens = int(options.get("max_gen_toks") or _MAX_TOKENS)
        seed = zlib.crc32(f"{torch.initial_seed()}/{number}".encode())
        return Request(
            _asked(context), self._guidance, max_tokens=tokens, temperature=temperature, seed=seed, stop=stop
        )


def _asked(context: str) -> list[Message]:
    return [Message(role="user", content=context)]


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
