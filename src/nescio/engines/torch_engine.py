"""The default engine: any causal language model of Transformers, both branches of a guided request in one batch.

Knows models, prompts and guidance; nothing of dialogs or personal data.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

from nescio.core.errors import NescioError
from nescio.core.guidance import PROTECT, REVEAL, Guidance
from nescio.core.models import load_model, read_sentences
from nescio.core.prompts import Message
from nescio.engines.base import (
    Answer,
    Capabilities,
    EngineClosedError,
    EngineMethods,
    Piece,
    Precision,
    Progress,
    Prompt,
    Request,
    Scoring,
    Stream,
    TokenLogprob,
    TooLongError,
)
from nescio.engines.decode.batch import Row, Rows
from nescio.engines.decode.cpu_linear import pack
from nescio.engines.decode.loop import Loop, Work
from nescio.engines.decode.scoring import Scored, score
from nescio.engines.detokenizer import Writing
from nescio.engines.prompt_branches import branch_ids, branch_texts, control_tokens, scored_ids

CACHE_TOKENS = 1 << 15
PREFIX_TOKENS = 1 << 12


class TorchEngine(EngineMethods):
    """Generates and scores with a Transformers model, guided or not, each request with its adapter or none.

    Args:
        model: A causal LM. Around a PEFT model, what it has attached is part of the model.
        tokenizer: Its tokenizer.
        sentences: Protect (`positive`) and reveal (`negative`) sentence of requests whose adapter brings none; the
            paper's where missing.
        max_rows: Most rows in one batch; a guided request takes two. With 1 its branches run one after the other.
        cache_tokens: Most tokens whose keys and values are held for requests on their way, padding included: the bound
            of the cache's memory. Requests wait for room; one that never fits is refused.
        prefix_tokens: Most tokens held beside them of prompts that were computed, for requests that begin alike.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        sentences: dict[str, str] | None = None,
        max_rows: int = 96,
        cache_tokens: int = CACHE_TOKENS,
        prefix_tokens: int = PREFIX_TOKENS,
    ) -> None:
        if max_rows < 1:
            raise NescioError(f"max_rows {max_rows}: must be 1 or more")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.sentences = {"positive": PROTECT, "negative": REVEAL} | (sentences or {})
        self._context = int(getattr(model.config, "max_position_embeddings", 1 << 30))
        self._end_ids = _end_ids(model, tokenizer)
        self._names: dict[str, int] = {}
        self._own_sentences: dict[str, dict[str, str]] = {}  # by adapter
        # Held from looking an adapter up until the request is queued: it is never answered without its adapter.
        self._registry = threading.RLock()
        self._loop = Loop(Rows(self.model, cache_tokens, self._context), max_rows, prefix_tokens)

    @property
    def capabilities(self) -> Capabilities:
        """Guidance, likelihoods, the adapters loaded, and the tokenizer's control tokens."""
        return Capabilities(True, tuple(self._names), control_tokens=control_tokens(self.tokenizer))

    @property
    def closed(self) -> bool:
        """Whether it was closed: it answers nothing more."""
        return self._loop.closed

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        """Answer all requests, in their order; long prompts first, as many at a time as there is room for.

        Raises:
            NescioError: A request that cannot be served, before anything is generated.
        """
        ended: SimpleQueue[None] = SimpleQueue()
        streams = [_Whole(ended) for _ in requests]
        try:
            with self._registry:
                works = [self._work(request, stream) for request, stream in zip(requests, streams, strict=True)]
                for work in sorted(works, key=lambda w: (-w.longest, w.rows[0].ids)):
                    self._loop.submit(work)
            for done in range(1, len(works) + 1):
                ended.get()
                if progress:
                    progress(done, len(works))
            return [stream.answer for stream in streams]
        finally:
            for stream in streams:
                stream.cancel()

    def stream(self, request: Request) -> Iterator[str]:
        """Answer one request piece by piece; pieces end at whole characters. Left early, the answer is cancelled."""
        yield from self.submit(request).texts()

    def submit(self, request: Request) -> Stream:
        """Start answering and return at once; from any thread.

        Raises:
            NescioError: A request that can never be served, or a closed engine.
        """
        stream = Stream()
        with self._registry:
            self._loop.submit(self._work(request, stream))
        return stream

    def load_adapter(self, name: str, path: Path) -> None:
        """Load a PEFT adapter under a name, while running; the sentences of its nescio.json guide its requests.

        Raises:
            NescioError: It does not fit the model, or the name is taken.
        """
        with self._registry, self._loop.paused():
            if name in self._names:
                raise NescioError(f"adapter {name!r} is loaded already; drop it first, or choose another name")
            sentences = read_sentences(path)
            self._names[name] = self._loop.rows.adapters.load(path)
            self._own_sentences[name] = sentences

    def drop_adapter(self, name: str) -> None:
        """Drop a loaded adapter, while running: new requests for it are refused, those on their way keep it.

        Raises:
            NescioError: There is none of that name.
        """
        with self._registry:
            if name not in self._names:
                raise NescioError(self._unknown(name))
            self._loop.retire(self._names.pop(name))
            del self._own_sentences[name]

    def close(self) -> None:
        """End the requests that are left with an error. More than once is harmless."""
        self._loop.close()

    def forget(self) -> None:
        """Forget the prompts kept, after the model's weights were changed from outside."""
        with self._loop.paused():
            self._loop.prefixes.clear()

    def complete(self, prompt: str, **options: Any) -> str:
        """Continue a text as it is. Options are those of `Request`."""
        return self.generate([Request(prompt, **options)])[0].text

    def chat(self, messages: list[Message], guidance: Guidance | None = None, **options: Any) -> str:
        """Answer a conversation. Options are those of `Request`."""
        return self.generate([Request(messages, guidance, **options)])[0].text

    def score(self, prompt: Prompt, continuation: str, guidance: Guidance | None = None) -> list[float]:
        """Log-probability of each token of a continuation after a prompt, guided or not."""
        return self.score_batch([Scoring(prompt, continuation, guidance)])[0]

    def score_batch(self, items: Sequence[Scoring], progress: Progress | None = None) -> list[list[float]]:
        """Log-probability of each token of each continuation, in order; an empty continuation has none.

        Raises:
            NescioError: An adapter that is not loaded, or a closed engine.
        """
        if self._loop.closed:
            raise EngineClosedError("the engine is closed; load it again")
        scores: list[list[float]] = [[] for _ in items]
        with self._registry, self._loop.paused(), torch.inference_mode():
            by_adapter: dict[int | None, list[int]] = {}
            for index, item in enumerate(items):
                if item.continuation:
                    by_adapter.setdefault(self._adapter(item.adapter), []).append(index)
            done, wanted = 0, sum(map(len, by_adapter.values()))
            for adapter, own in by_adapter.items():
                scored = [self._scored(items[index]) for index in own]
                with self._loop.rows.adapters.rows([adapter]):
                    for number, row in score(self.model, scored, self._loop.rows.cached):
                        scores[own[number]] = row
                        done += 1
                        if progress:
                            progress(done, wanted)
        return scores

    # -- from requests to token ids -----------------------------------------------------------------------------------

    def branches(
        self,
        prompt: Prompt,
        guidance: Guidance | None,
        negative: Prompt | None = None,
        adapter: str | None = "default",
    ) -> list[str]:
        """The rendered prompt of each branch: the positive one, and the negative one where guidance needs it.

        Raises:
            NescioError: Text is guided without a negative prompt of its own.
        """
        return branch_texts(self.tokenizer, self._sentences_of(adapter), prompt, guidance, negative)

    def _work(self, request: Request, stream: Stream) -> Work:
        branches = branch_ids(self.tokenizer, self._sentences_of(request.adapter), request, self._context)
        adapter = self._adapter(request.adapter)
        writing = Writing(self.tokenizer, request, branches[0], stream)
        rows = [Row(ids, adapter=adapter) for ids in branches]
        work = Work(request, rows, self._taker(request, writing), _canceller(writing), stream.end)
        if (room := self._loop.room(work)) < request.max_tokens:
            raise TooLongError(
                f"{len(rows)} rows of {work.longest} tokens never fit in the engine's cache of "
                f"{self._loop.rows.slots.most} tokens; shorten the request, or give the engine more (cache_tokens)",
                room,
            )
        return work

    def _taker(self, request: Request, writing: Writing) -> Callable[[int, Tensor], bool]:
        def take(token: int, log_probs: Tensor) -> bool:
            if token in self._end_ids:
                writing.end("stop")
            else:
                most = request.logprobs
                writing.add(token, None if most is None else _told(writing, log_probs, token, most))
            return not writing.finish

        return take

    def _adapter(self, name: str | None) -> int | None:
        if name is None or (name == "default" and name not in self._names):
            return None
        if name not in self._names:
            raise NescioError(self._unknown(name))
        return self._names[name]

    def _sentences_of(self, adapter: str | None) -> dict[str, str]:
        return self.sentences | self._own_sentences.get(adapter or "", {})

    def _unknown(self, name: str) -> str:
        return f"adapter {name!r} is not loaded; loaded: {', '.join(self._names) or 'none'}"

    def _scored(self, item: Scoring) -> Scored:
        branches, answer = scored_ids(self.tokenizer, self._sentences_of(item.adapter), item)
        prompts = tuple(tuple(branch) for branch in branches)
        return Scored(prompts, answer, item.guidance or Guidance())


class _Whole(Stream):
    """The stream of an answer that is only taken whole: nothing is kept but its end, and that is told."""

    def __init__(self, ended: SimpleQueue[None]) -> None:
        super().__init__()
        self._ended = ended

    def put(self, piece: Piece) -> None:
        """Drop a piece."""

    def end(self, how: Answer | NescioError) -> None:
        """Keep the end."""
        super().end(how)
        self._ended.put(None)


def load(
    model: str,
    adapter: str | Path | None = None,
    max_rows: int = 96,
    precision: Precision = "full",
    cache_tokens: int = CACHE_TOKENS,
    prefix_tokens: int = PREFIX_TOKENS,
) -> TorchEngine:
    """Load a model, and an adapter onto it, as an engine.

    Args:
        model: Hub id, folder, `.gguf` file, PEFT adapter folder, or `smollm2`.
        adapter: PEFT adapter folder, loaded as `default`; its `nescio.json` carries the protect and reveal sentences.
        max_rows: Most rows in one batch.
        precision: `full`, or `half`: fp16 weights on a CPU, computed in fp32. On a CPU the linear layers are packed: a
            model whose weights are to change goes into a `TorchEngine` of its own.
        cache_tokens: As for `TorchEngine`.
        prefix_tokens: Likewise.

    Raises:
        NescioError: Something is missing, damaged, or does not fit.
    """
    loaded = load_model(model)
    folder = Path(adapter) if adapter is not None else loaded.adapter
    pack(loaded.model, precision)
    sentences = read_sentences(folder) if folder else None
    engine = TorchEngine(loaded.model, loaded.tokenizer, sentences, max_rows, cache_tokens, prefix_tokens)
    if folder is not None:
        engine.load_adapter("default", folder)
    return engine


def _canceller(writing: Writing) -> Callable[[], bool]:
    def cancelled() -> bool:
        if writing.stream.cancelled.is_set() and not writing.finish:
            writing.end("cancelled")
        return bool(writing.finish)

    return cancelled


def _told(writing: Writing, log_probs: Tensor, token: int, most: int) -> TokenLogprob:
    def tell(number: int) -> TokenLogprob:
        return TokenLogprob(number, writing.text_of(number), float(log_probs[number]))

    top = tuple(tell(number) for number in log_probs.topk(min(most, len(log_probs))).indices.tolist())
    return TokenLogprob(token, writing.text_of(token), float(log_probs[token]), top)


def _end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = own if isinstance(own, list) else [own]
    return frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)
