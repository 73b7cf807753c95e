"""The torch engine: any causal language model of Transformers, both branches of a guided request in one batch."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

from nescio.core.adapters import read_sentences
from nescio.core.callbacks import Progress
from nescio.core.end_tokens import end_token_ids
from nescio.core.errors import NescioError
from nescio.core.guidance import PROTECT, REVEAL, Guidance
from nescio.core.models import best_device, context_length, load_model, longest_scored, one_adapter
from nescio.core.openmp import release_threads
from nescio.core.top_tokens import TopTokens
from nescio.engines.answer_schema import field_of, schema_of
from nescio.engines.base import (
    Answer,
    Capabilities,
    ContextExceededError,
    Engine,
    EngineClosedError,
    Piece,
    Precision,
    Prompt,
    Request,
    Scoring,
    Stream,
    TooLongError,
    check_bias,
)
from nescio.engines.decode.batch import Batch, Row
from nescio.engines.decode.cpu_linear import pack
from nescio.engines.decode.grammar import Grammars
from nescio.engines.decode.loop import Job, Loop
from nescio.engines.decode.lora import Adapters
from nescio.engines.decode.scoring import Scored, distributions, score
from nescio.engines.detokenizer import Detokenizer
from nescio.engines.prompt_branches import branch_ids, branch_texts, chat_template, control_tokens, scored_ids
from nescio.engines.registry import ENGINES, check_options

CACHE_TOKENS = 1 << 15
PREFIX_TOKENS = 1 << 12


class TorchEngine(Engine):
    """Generates and scores with a Transformers model; each request is guided or not, with its own adapter or none.

    Args:
        model: A causal LM. Adapters that a PEFT wrapper has attached count as part of the model.
        tokenizer: Its tokenizer.
        sentences: Protect (`positive`) and reveal (`negative`) sentence of requests whose adapter has none of its own;
            default: the paper's.
        max_rows: Maximum number of rows in a batch; a guided request takes two. With 1 its branches run in turn.
        cache_tokens: Size of the KV cache for running requests, in tokens with padding. Requests wait for space; one
            that never fits is refused.
        prefix_tokens: Size of the cache of computed prompts, in tokens, for requests that begin alike.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        sentences: dict[str, str] | None = None,
        *,
        max_rows: int = 96,
        cache_tokens: int = CACHE_TOKENS,
        prefix_tokens: int = PREFIX_TOKENS,
    ) -> None:
        if max_rows < 1:
            raise NescioError(f"max_rows {max_rows}: must be 1 or more")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.sentences = {"positive": PROTECT, "negative": REVEAL} | (sentences or {})
        self._context, self._longest = context_length(model.config), longest_scored(model)
        self._end_ids = end_token_ids(tokenizer, getattr(model, "generation_config", None))
        self._grammars = Grammars(tokenizer, self._end_ids)
        self._names: dict[str, int] = {}
        self._adapter_sentences: dict[str, dict[str, str]] = {}  # by adapter
        # Held while requests are queued, so that their adapters can't be dropped between; never while prompts are read.
        self._registry = threading.RLock()
        self._loop = Loop(Batch(self.model, cache_tokens, self._context), max_rows, prefix_tokens)

    @property
    def capabilities(self) -> Capabilities:
        """The loaded adapters, the tokenizer's control tokens and its chat template."""
        return Capabilities(tuple(self._names), control_tokens(self.tokenizer), chat_template(self.tokenizer))

    @property
    def closed(self) -> bool:
        """Whether the engine was closed; it then takes no more requests."""
        return self._loop.closed

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        """Answer all requests and return the answers in order; long prompts run first, as many at a time as fit.

        Raises:
            NescioError: A request that can't be served; nothing is generated then.
        """
        ended: SimpleQueue[None] = SimpleQueue()
        streams = [_EndOnly(ended) for _ in requests]
        try:
            self._queue(requests, streams)
            for done in range(1, len(requests) + 1):
                ended.get()
                if progress:
                    progress(done, len(requests))
            return [stream.answer for stream in streams]
        finally:
            for stream in streams:
                stream.cancel()

    def submit(self, request: Request) -> Stream:
        """Start answering and return at once; callable from any thread.

        Raises:
            NescioError: A request that can never be served, or a closed engine.
        """
        stream = Stream()
        self._queue([request], [stream])
        return stream

    def load_adapter(self, name: str, path: Path) -> None:
        """Load a PEFT adapter under a name, while requests run; its requests are guided by its nescio.json's sentences.

        Raises:
            NescioError: The adapter does not fit the model, or the name is taken.
        """
        with self._registry, self._loop.paused():
            if name in self._names:
                raise NescioError(f"adapter {name!r} is loaded already; drop it first, or choose another name")
            sentences = read_sentences(path)
            self._names[name] = self._loop.batch.adapters.load(path)
            self._adapter_sentences[name] = sentences

    def drop_adapter(self, name: str) -> None:
        """Drop a loaded adapter; new requests for it are refused, running ones keep it.

        Raises:
            NescioError: No adapter has that name.
        """
        with self._registry:
            if name not in self._names:
                raise NescioError(self._not_loaded(name))
            self._loop.retire(self._names.pop(name))
            del self._adapter_sentences[name]

    def close(self) -> None:
        """End running requests with an error; closing twice is harmless."""
        self._loop.close()

    def forget(self) -> None:
        """Empty the cache of prompts, after the model's weights were changed from outside."""
        with self._loop.paused():
            self._loop.prefixes.clear()

    def score_batch(self, items: Sequence[Scoring], progress: Progress | None = None) -> list[list[float]]:
        """Return the log-probability of each token of each continuation; an empty continuation has none.

        Raises:
            NescioError: An adapter is not loaded, or the engine is closed.
            ContextExceededError: An item is longer than the learned positions of the model.
        """
        scores: list[list[float]] = [[] for _ in items]
        for number, row in self._score(score, items, progress):
            scores[number] = row
        return scores

    def top_tokens(self, items: Sequence[Scoring], k: int, progress: Progress | None = None) -> list[TopTokens]:
        """Return the k most likely tokens, guided or not, at each token of each continuation.

        Raises:
            NescioError: A continuation is empty, an adapter is not loaded, or the engine is closed.
        """
        if empty := [number for number, item in enumerate(items, start=1) if not item.continuation]:
            raise NescioError(f"item {empty[0]}: an empty continuation has no tokens; leave it out")
        kept: dict[int, TopTokens] = {}
        for number, log_probs in self._score(distributions, items, progress):
            kept[number] = TopTokens.of(log_probs, k)
        return [kept[number] for number in range(len(items))]

    def _score(
        self, function: Callable[..., Iterator[tuple[int, Any]]], items: Sequence[Scoring], progress: Progress | None
    ) -> Iterator[tuple[int, Any]]:
        """Yield `(item's number, result)` of a function of `decode.scoring`, adapter by adapter."""
        if self._loop.closed:
            raise EngineClosedError("the engine is closed; load it again")
        with self._registry, self._loop.paused(), torch.inference_mode():
            by_adapter: dict[int | None, list[int]] = {}
            for index, item in enumerate(items):
                if item.continuation:
                    by_adapter.setdefault(self._adapter(item.adapter), []).append(index)
            done, total = 0, sum(map(len, by_adapter.values()))
            for adapter, own in by_adapter.items():
                scored = [self._scored(items[index]) for index in own]
                with self._loop.batch.adapters.rows([adapter]):
                    for number, result in function(self.model, scored, self._loop.batch.has_cache):
                        yield own[number], result
                        done += 1
                        if progress:
                            progress(done, total)
        release_threads()  # a server's thread that has scored stays, and would slow decoding down

    # -- from requests to token ids -----------------------------------------------------------------------------------

    def branches(
        self,
        prompt: Prompt,
        guidance: Guidance | None,
        negative: Prompt | None = None,
        adapter: str | None = "default",
    ) -> list[str]:
        """Return the rendered prompt of each branch: the positive one, and the negative one if guidance needs it.

        Raises:
            NescioError: A guided text has no negative prompt.
        """
        return branch_texts(self.tokenizer, self._sentences_of(adapter), prompt, guidance, negative)

    def _queue(self, requests: Sequence[Request], streams: Sequence[Stream]) -> None:
        """Queue requests, long prompts first; again from the start if an adapter was dropped or changed meanwhile."""
        while True:
            jobs = [self._job(request, stream) for request, stream in zip(requests, streams, strict=True)]
            with self._registry:
                if all(job.rows[0].adapter == self._adapter(job.request.adapter) for job in jobs):
                    self._loop.submit(*sorted(jobs, key=lambda job: (-job.longest, job.rows[0].ids)))
                    return

    def _job(self, request: Request, stream: Stream) -> Job:
        with self._registry:
            adapter, sentences = self._adapter(request.adapter), self._sentences_of(request.adapter)
        branches = branch_ids(self.tokenizer, sentences, request, self._context)
        check_bias(request, self.model.config.get_text_config().vocab_size)
        detokenizer = Detokenizer(self.tokenizer, request, branches[0], stream)

        schema = schema_of(request)
        matcher = None if schema is None else self._grammars.matcher(schema, field_of(request))

        def take(token: int, log_probs: Tensor) -> bool:
            if matcher is not None:
                matcher.take(token)
            if token in self._end_ids:
                detokenizer.end("stop")
            elif request.logprobs is None:
                detokenizer.add(token)
            else:
                top = log_probs.topk(min(request.logprobs, len(log_probs))).indices.tolist()
                likely = {number: float(log_probs[number]) for number in [token, *top]}
                detokenizer.add(token, detokenizer.logprob(token, likely, top))
            return not detokenizer.finish

        def is_cancelled() -> bool:
            if stream.cancelled.is_set() and not detokenizer.finish:
                detokenizer.end("cancelled")
            return bool(detokenizer.finish)

        rows = [Row(ids, adapter=adapter) for ids in branches]
        allowed = matcher.allowed if matcher else None
        job = Job(request=request, rows=rows, take=take, is_cancelled=is_cancelled, fail=stream.end, allowed=allowed)
        if (left := self._loop.tokens_left(job)) < request.max_tokens:
            raise TooLongError(
                f"{len(rows)} rows of {job.longest} tokens never fit in the engine's cache of "
                f"{self._loop.batch.slots.most} tokens; shorten the request, or give the engine more (cache_tokens)",
                left,
            )
        return job

    def _adapter(self, name: str | None) -> int | None:
        if name is None or (name == "default" and name not in self._names):
            return None
        if name not in self._names:
            raise NescioError(self._not_loaded(name))
        return self._names[name]

    def _sentences_of(self, adapter: str | None) -> dict[str, str]:
        return self.sentences | self._adapter_sentences.get(adapter or "", {})

    def _not_loaded(self, name: str) -> str:
        return f"adapter {name!r} is not loaded; loaded: {', '.join(self._names) or 'none'}"

    def _scored(self, item: Scoring) -> Scored:
        branches, answer = scored_ids(self.tokenizer, self._sentences_of(item.adapter), item)
        prompts = tuple(tuple(branch) for branch in branches)
        if max(map(len, prompts)) + len(answer) > self._longest:
            raise ContextExceededError(max(map(len, prompts)), len(answer), self._longest)
        return Scored(prompts, answer, item.guidance or Guidance())


class _EndOnly(Stream):
    """A stream whose pieces nobody reads: only its end is stored and announced."""

    def __init__(self, ended: SimpleQueue[None]) -> None:
        super().__init__()
        self._ended = ended

    def put(self, piece: Piece) -> None:
        """Discard a piece."""

    def end(self, result: Answer | NescioError) -> None:
        """Store the end and announce it."""
        super().end(result)
        self._ended.put(None)


def load(
    model: str | Path,
    adapter: str | Path | None = None,
    max_rows: int = 96,
    precision: Precision | None = "full",
    cache_tokens: int = CACHE_TOKENS,
    prefix_tokens: int = PREFIX_TOKENS,
) -> TorchEngine:
    """Load a model, and an adapter onto it, as an engine.

    Args:
        model: Hub id, folder, `.gguf` file, PEFT adapter folder, or `smollm2`.
        adapter: PEFT adapter folder, loaded as `default`; its `nescio.json` holds the protect and reveal sentences.
        max_rows: Maximum number of rows in a batch.
        precision: `full`; on a CPU also `half` (fp16 weights, computed in fp32), `int8` (the same for more than a
            few rows; needs the extra `int8`), or `bf16` if it multiplies that;
            None: the faster of full and bf16. On a CPU the linear layers are packed. Their weights can't be changed
            then; build a `TorchEngine` from a model whose weights will change.
        cache_tokens: As for `TorchEngine`.
        prefix_tokens: As for `TorchEngine`.

    Raises:
        NescioError: Something is missing, damaged, or does not fit.
    """
    loaded = load_model(str(model))
    folder = one_adapter(loaded.adapter, adapter)
    pack(loaded.model, precision)
    engine = TorchEngine(
        loaded.model,
        loaded.tokenizer,
        read_sentences(folder) if folder else None,
        max_rows=max_rows,
        cache_tokens=cache_tokens,
        prefix_tokens=prefix_tokens,
    )
    if folder is not None:
        engine.load_adapter("default", folder)
    return engine


def load_merged(model: str, adapter: Path, precision: Precision | None = "full") -> TorchEngine:
    """Load a model with an adapter merged into its weights, for callers whose requests all want that adapter.

    An adapter beside the weights costs further products for each token. It stays beside them where it adapts more than
    plain linear layers, and on a GPU, whose 16-bit weights would round the sum; on a CPU the sum is made in fp32.

    Args:
        model: As for `load`.
        adapter: PEFT adapter folder.
        precision: As for `load`.

    Raises:
        NescioError: Something is missing, damaged, or does not fit.
    """
    if best_device().type != "cpu":
        return load(model, adapter, precision=precision)
    loaded = load_model(model)
    folder = one_adapter(loaded.adapter, adapter)
    assert folder is not None  # one is given
    is_merged = Adapters(loaded.model).merge(folder)
    pack(loaded.model, precision)
    engine = TorchEngine(loaded.model, loaded.tokenizer, read_sentences(folder))
    if not is_merged:
        engine.load_adapter("default", folder)
    return engine


@ENGINES.register("torch")
@ENGINES.register("local")
def _open(model: str, adapters: Mapping[str, Path], options: Mapping[str, Any]) -> TorchEngine:
    """Open a model on the torch engine; options are the arguments of `load`."""
    check_options("torch", load, options)
    return load(model, **options)
