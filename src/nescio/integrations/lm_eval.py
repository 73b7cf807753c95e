"""lm-evaluation-harness under guidance: its model class `nescio`.

A task's context becomes one user message, or with `--apply_chat_template` a conversation. Its continuations are scored,
or generated, as the assistant's answer. Importing this module registers the class; run as a module, it is the harness's
own command line:

    python -m nescio.integrations.lm_eval run --model nescio --model_args model=smollm2,scale=3 --tasks …
"""

import json
import logging
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, cast

import torch

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.models import context_length_of
from nescio.core.prompts import Message, answer_space, encode
from nescio.engines.base import Request, Scoring
from nescio.engines.decode.batch import Batch
from nescio.engines.prompt_branches import scored_ids
from nescio.engines.torch_engine import CACHE_TOKENS, load

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
except ImportError as error:
    raise NescioError("lm-evaluation-harness is not installed; run `pip install 'nescio[eval]'`") from error

logger = logging.getLogger(__name__)

_HARNESS_ARGUMENTS = ("batch_size", "max_batch_size", "device")
_MAX_TOKENS = 256  # of an answer, as the harness's own default
_TOKEN_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # the harness's priority
_NEUTRAL = {"num_beams": 1, "repetition_penalty": 1, "use_cache": True, "min_p": 0, "typical_p": 1}
_CHAT = "nescio-chat:"  # before a conversation as JSON, in place of a rendered template
_RULED_OUT = -1000.0


@register_model("nescio")
class NescioLM(LM):  # type: ignore[misc]
    """A model under guidance, for the harness.

    A context that is too long loses its oldest examples, then the start of its question, and a warning counts such
    contexts. A token that guidance rules out scores -1000 plus its log-probability in the positive branch. So an option
    with fewer ruled-out tokens wins, and the positive branch decides among equals.

    Args:
        model: What `nescio.load` takes.
        adapter: PEFT adapter folder to attach.
        protect: Whether the protect sentence is given at all; without it nothing is guided.
        **others: Fields of `nescio.Guidance`, such as `scale=3,space=log,adaptive=True`. What the harness adds
            (`batch_size`, `max_batch_size`, `device`) has no effect; batches are made by length.

    Raises:
        NescioError: An argument is unknown or out of its range, or the model cannot be loaded.
    """

    def __init__(self, model: str = "smollm2", adapter: str | None = None, protect: bool = True, **others: Any) -> None:
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
        # The longest prompt with its answer: what the model can read, and what the engine's cache can hold.
        rows = 2 if protect and guidance.guided else 1
        self._most = min(context_length_of(model), Batch.most_tokens(rows, CACHE_TOKENS))

    @property
    def tokenizer_name(self) -> str:
        """Name of the chat template's tokenizer, for the harness's cache."""
        return str(self._engine.tokenizer.name_or_path).replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Return the model's chat template; the harness writes it into its results."""
        return str(self._engine.tokenizer.chat_template or "")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return a conversation as JSON; it is rendered later, with the sentence of each branch."""
        return _CHAT + json.dumps(chat_history, ensure_ascii=False)

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Return each continuation's log-likelihood under guidance, and whether greedy decoding gives it."""
        pairs: list[tuple[str, str]] = [request.args for request in requests]
        # 1) cut contexts that are too long for their longest continuation
        longest: dict[str, int] = {}
        for context, continuation in pairs:
            length = len(self._tokens(_conversation(context), continuation))
            longest[context] = max(longest.get(context, 1), length)
        prompts = self._fitted(longest)
        # 2) score
        scores = self._scores([Scoring(prompts[context], text, self._guidance) for context, text in pairs])
        # 3) answer greedily, as many tokens as the longest continuation has
        asked = [Request(prompts[context], self._guidance, max_tokens=most) for context, most in longest.items()]
        greedy = dict(zip(longest, [answer.token_ids for answer in self._engine.generate(asked)], strict=True))
        tokens = [self._tokens(prompts[context], continuation) for context, continuation in pairs]
        return [
            (sum(row), greedy[context][: len(own)] == own)
            for (context, _), row, own in zip(pairs, scores, tokens, strict=True)
        ]

    def _scores(self, items: list[Scoring]) -> list[list[float]]:
        """Return the log-probability of each token of each continuation, with `_RULED_OUT` in place of -inf."""
        scores = self._engine.score_batch(items)
        out = [number for number, row in enumerate(scores) if -math.inf in row]
        if self._guidance is not None and out:
            positive = replace(self._guidance, scale=1.0)
            plain = self._engine.score_batch([replace(items[number], guidance=positive) for number in out])
            for number, row in zip(out, plain, strict=True):
                scores[number] = [
                    _RULED_OUT + max(own, _RULED_OUT) if guided == -math.inf else guided
                    for guided, own in zip(scores[number], row, strict=True)
                ]
        return scores

    def _tokens(self, messages: list[Message], continuation: str) -> list[int]:
        """Return the tokens of a continuation that are scored, and compared with the greedy ones."""
        tokenizer, prompt = self._engine.tokenizer, self._engine.branches(messages, self._guidance)[0]
        space = "" if continuation[:1].isspace() else answer_space(tokenizer, messages)
        return scored_ids(tokenizer, {}, Scoring(prompt, space + continuation))[1]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Refuse: guidance is between two prompts, and a text alone has none.

        Raises:
            NescioError: Always.
        """
        raise NescioError("perplexity of whole texts has no prompt to guide by; choose tasks with a context")

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Return answers, each up to its task's stop texts; sampled ones follow the seed that the harness gave torch.

        Raises:
            NescioError: A task has a generation option that is not supported. Nothing is generated then.
        """
        pairs: list[tuple[str, dict[str, Any]]] = [request.args for request in requests]
        longest: dict[str, int] = {}
        for context, options in pairs:
            longest[context] = max(longest.get(context, 1), _token_limit(options))
        prompts = self._fitted(longest)
        asked = [self._request(prompts[context], options, number) for number, (context, options) in enumerate(pairs)]
        return [answer.text for answer in self._engine.generate(asked)]

    def _request(self, messages: list[Message], options: Mapping[str, Any], number: int) -> Request:
        known = {"until", "do_sample", "temperature", "top_p", "top_k", *_TOKEN_LIMITS}
        for name, value in options.items():
            if name not in known and value is not None and value != _NEUTRAL.get(name):
                raise NescioError(f"generation option {name}: not supported; drop it from the task or --gen_kwargs")
        until = options.get("until") or ()
        # As in the harness, a temperature samples unless `do_sample` is false.
        temperature = 0.0 if options.get("do_sample") is False else float(options.get("temperature") or 0)
        return Request(
            messages,
            self._guidance,
            max_tokens=min(_token_limit(options), self._most - self._length(messages)),
            temperature=temperature,
            top_p=float(options.get("top_p") or 1.0),
            top_k=max(int(options.get("top_k") or 0), 0),
            seed=zlib.crc32(f"{torch.initial_seed()}/{number}".encode()),
            stop=(until,) if isinstance(until, str) else tuple(cast(Iterable[str], until)),
        )

    # -- contexts that are too long -----------------------------------------------------------------------------------

    def _fitted(self, longest: Mapping[str, int]) -> dict[str, list[Message]]:
        """Return the conversation of each context, cut where it leaves no room for its new tokens.

        Args:
            longest: The largest number of new tokens after each context.
        """
        prompts = {context: _conversation(context) for context in longest}
        cut = {
            context: self._shortened(prompts[context], most)
            for context, most in longest.items()
            if self._length(prompts[context]) + most > self._most
        }
        if cut:
            few = f"{len(cut)} of {len(prompts)} contexts"
            logger.warning("%s exceed %d tokens with their answers; their beginnings are cut", few, self._most)
        return prompts | cut

    def _length(self, messages: list[Message]) -> int:
        """Return the number of tokens of a conversation's longer branch."""
        texts = self._engine.branches(messages, self._guidance)
        return max(len(encode(self._engine.tokenizer, text)) for text in texts)

    def _shortened(self, messages: list[Message], most: int) -> list[Message]:
        """Cut a conversation until it has room for new tokens; an answer may be as short as half of the context.

        Raises:
            NescioError: The rest of the conversation, without its question, is too long.
        """
        budget = self._most - min(most, self._most // 2)
        system = [message for message in messages[:1] if message["role"] == "system"]
        turns = messages[len(system) :]
        # 1) leave out the oldest examples
        while len(turns) > 2 and self._length([*system, *turns]) > budget:
            turns = turns[2:]
        # 2) cut the start of the question, by as few tokens as possible
        ids = self._engine.tokenizer(turns[0]["content"], add_special_tokens=False).input_ids

        def without(dropped: int) -> list[Message]:
            rest = self._engine.tokenizer.decode(ids[dropped:])
            return [*system, Message(role=turns[0]["role"], content=rest), *turns[1:]]

        if self._length([*system, *turns]) <= budget:
            return [*system, *turns]
        fewest, enough = 0, len(ids)
        while fewest < enough:
            middle = (fewest + enough) // 2
            if self._length(without(middle)) <= budget:
                enough = middle
            else:
                fewest = middle + 1
        if self._length(without(enough)) > budget:
            raise NescioError(f"a context with its answer exceeds {self._most} tokens even without its question")
        return without(enough)


def _conversation(context: str) -> list[Message]:
    if context.startswith(_CHAT):
        return cast(list[Message], json.loads(context.removeprefix(_CHAT)))
    return [Message(role="user", content=context)]


def _token_limit(options: Mapping[str, Any]) -> int:
    return next((int(options[name]) for name in _TOKEN_LIMITS if options.get(name)), _MAX_TOKENS)


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
