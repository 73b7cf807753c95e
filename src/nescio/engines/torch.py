"""The default engine: any causal language model of Transformers, both branches of a guided request in one batch.

Knows models, prompts and guidance; nothing of dialogs or personal data.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nescio.engines.base import (
    Answer,
    Capabilities,
    Piece,
    Progress,
    Prompt,
    Request,
    Scoring,
    Stream,
    TokenLogprob,
)
from nescio.engines.branches import branch_ids, branch_texts, control_tokens, scored_ids
from nescio.engines.kv_cache import keep_rows, new_cache
from nescio.engines.sampling import pick
from nescio.engines.scoring import Scored, score
from nescio.errors import NescioError
from nescio.guidance import PROTECT, REVEAL, Guidance, guide
from nescio.models import attach_adapter, load_model, read_sentences
from nescio.prompts import Message

_CACHE_TOKENS = 1 << 15  # most tokens in one batch's cache
_TAIL = 8  # prompt tokens decoded before an answer, so that its first white space is kept by any tokenizer


@dataclass(slots=True)
class _Job:
    """A request on its way: its branches as token ids, and what it has so far."""

    index: int
    request: Request
    positive: list[int]
    negative: list[int] | None
    generator: torch.Generator
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    finish: str = ""
    logprobs: list[TokenLogprob] | None = None

    @property
    def answer(self) -> Answer:
        return Answer(self.text, self.token_ids, self.finish, self.logprobs, len(self.positive))

    @property
    def branches(self) -> int:
        return 1 if self.negative is None else 2

    @property
    def length(self) -> int:
        return max(len(self.positive), len(self.negative or []))


class TorchEngine:
    """Generates and scores with a Transformers model, guided or not, with adapters attached or detached.

    Args:
        model: A causal LM, or a PEFT model around one.
        tokenizer: Its tokenizer.
        sentences: Protect (`positive`) and reveal (`negative`) sentence; the paper's where missing.
        max_rows: Most rows in one batch; a guided request takes two.
    """

    def __init__(self, model: Any, tokenizer: Any, sentences: dict[str, str] | None = None, max_rows: int = 96) -> None:
        if max_rows < 2:
            raise NescioError(f"max_rows {max_rows}: must be 2 or more, a guided request takes two rows")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.sentences = {"positive": PROTECT, "negative": REVEAL} | (sentences or {})
        self.max_rows = max_rows
        self._context = int(getattr(model.config, "max_position_embeddings", 1 << 30))
        self._end_ids = _end_ids(model, tokenizer)
        self._lock = threading.RLock()  # one batch at a time
        self._worker = ThreadPoolExecutor(1)
        self._closed = threading.Event()

    @property
    def capabilities(self) -> Capabilities:
        """Guidance, likelihoods, the adapters loaded, and the tokenizer's control tokens."""
        return Capabilities(
            guidance=True,
            adapters=tuple(getattr(self.model, "peft_config", ())),
            control_tokens=control_tokens(self.tokenizer),
        )

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        """Answer all requests, in their order; long prompts first, as many at a time as there are rows.

        Raises:
            NescioError: A request that cannot be served, before anything is generated.
        """
        jobs = [self._job(index, request) for index, request in enumerate(requests)]
        done = 0
        with self._lock:
            for wave in self._waves(jobs):
                for job in self._decode(wave):
                    if job.finish:
                        done += 1
                        if progress:
                            progress(done, len(jobs))
        return [job.answer for job in jobs]

    def stream(self, request: Request) -> Iterator[str]:
        """Answer one request piece by piece; pieces end at whole characters."""
        for piece in self.submit(request):
            if piece.text:
                yield piece.text

    def submit(self, request: Request) -> Stream:
        """Start answering and return at once; from any thread.

        Raises:
            NescioError: A request that can never be served, or a closed engine.
        """
        if self._closed.is_set():
            raise NescioError("the engine is closed; load it again")
        job, stream = self._job(0, request), Stream()
        self._worker.submit(self._answer, job, stream)
        return stream

    def _answer(self, job: _Job, stream: Stream) -> None:
        hold = max((len(stop) for stop in job.request.stop), default=0)
        sent = taken = 0
        with self._lock:
            for _ in self._decode([job]):
                if self._closed.is_set():
                    stream.end(NescioError("the engine was closed before the answer was complete"))
                    return
                if stream.cancelled.is_set():
                    job.finish = "cancelled"
                # What could still turn into a stop text or a longer character is held back until it can't.
                ready = len(job.text) if job.finish else max(sent, len(job.text.rstrip("\ufffd")) - hold)
                if ready > sent or (job.finish and taken < len(job.token_ids)):
                    logprobs = job.logprobs[taken:] if job.logprobs is not None else None
                    stream.put(Piece(job.text[sent:ready], job.token_ids[taken:], logprobs))
                    sent, taken = ready, len(job.token_ids)
        stream.end(job.answer)

    def load_adapter(self, name: str, path: Path) -> None:
        """Load a PEFT adapter under a name, while running.

        Raises:
            NescioError: It does not fit the model, or the name is taken.
        """
        if name in self.capabilities.adapters:
            raise NescioError(f"adapter {name!r} is loaded already; drop it first, or choose another name")
        with self._lock:
            self.model = attach_adapter(self.model, path, name)

    def drop_adapter(self, name: str) -> None:
        """Drop a loaded adapter, while running.

        Raises:
            NescioError: There is none of that name.
        """
        self._check_adapter(name)
        with self._lock:
            self.model.delete_adapter(name)

    def close(self) -> None:
        """End the requests that are left with an error. More than once is harmless."""
        self._closed.set()
        self._worker.shutdown()

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
        """Log-probability of each token of each continuation, in order; an empty continuation has none."""
        scores: list[list[float]] = [[] for _ in items]
        wanted = [index for index, item in enumerate(items) if item.continuation]
        done = 0
        for adapter in sorted({items[index].adapter for index in wanted}, key=str):
            self._check_adapter(adapter)
            own = [index for index in wanted if items[index].adapter == adapter]
            with torch.inference_mode(), self._attached(adapter):
                for number, row in score(self.model, [self._scored(items[index]) for index in own]):
                    scores[own[number]] = row
                    done += 1
                    if progress:
                        progress(done, len(wanted))
        return scores

    # -- branches -----------------------------------------------------------------------------------------------------

    def branches(self, prompt: Prompt, guidance: Guidance | None, negative: Prompt | None = None) -> list[str]:
        """The rendered prompt of each branch: the positive one, and the negative one where guidance needs it.

        Raises:
            NescioError: Text is guided without a negative prompt of its own.
        """
        return branch_texts(self.tokenizer, self.sentences, prompt, guidance, negative)

    def _job(self, index: int, request: Request) -> _Job:
        ids = branch_ids(self.tokenizer, self.sentences, request, self._context)
        self._check_adapter(request.adapter)
        generator = torch.Generator().manual_seed(request.seed)
        job = _Job(index, request, ids[0], ids[1] if len(ids) > 1 else None, generator)
        job.logprobs = [] if request.logprobs is not None else None
        return job

    def _check_adapter(self, name: str | None) -> None:
        known = self.capabilities.adapters
        if name not in (None, "default", *known):
            raise NescioError(f"adapter {name!r} is not loaded; loaded: {', '.join(known) or 'none'}")

    def _attached(self, adapter: str | None) -> AbstractContextManager[Any]:
        known = self.capabilities.adapters
        if not known or (adapter == "default" and adapter not in known):
            return nullcontext()
        if adapter is None:
            context: AbstractContextManager[Any] = self.model.disable_adapter()
            return context
        self.model.set_adapter(adapter)
        return nullcontext()

    # -- decoding -----------------------------------------------------------------------------------------------------

    def _waves(self, jobs: list[_Job]) -> Iterator[list[_Job]]:
        """Batches of jobs of one adapter and of like lengths, each within `max_rows`."""
        wave: list[_Job] = []
        for job in sorted(jobs, key=lambda j: (str(j.request.adapter), -j.length, j.positive, j.index)):
            rows = sum(j.branches for j in wave) + job.branches
            width = max(j.length + j.request.max_tokens for j in [*wave, job])
            full = rows > self.max_rows or rows * width > _CACHE_TOKENS
            if wave and (full or job.request.adapter != wave[0].request.adapter):
                yield wave
                wave = []
            wave.append(job)
        if wave:
            yield wave

    def _decode(self, jobs: list[_Job]) -> Iterator[_Job]:
        """Decode jobs together, yielding each job after each of its tokens until none is left."""
        with torch.inference_mode():
            live = list(jobs)
            cache = new_cache(self.model.config)
            rows = [job.positive for job in live] + [job.negative for job in live if job.negative is not None]
            # A prompt that several requests share is computed once, and its cache given to each of them.
            prompts = {tuple(row): None for row in rows}
            place = {prompt: index for index, prompt in enumerate(prompts)}
            owners = [place[tuple(row)] for row in rows]
            ids, mask = _left_padded(
                [list(prompt) for prompt in prompts], self.tokenizer.pad_token_id, self.model.device
            )
            positions = (mask.cumsum(-1) - 1).clamp_min(0)
            first = True
            while True:
                with self._attached(live[0].request.adapter):
                    logits = self.model(
                        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache,
                        use_cache=True, logits_to_keep=1,
                    ).logits[:, -1]  # fmt: skip
                if first and len(rows) > len(prompts):
                    keep_rows(cache, owners, mask.device)
                    logits, mask, positions = logits[owners], mask[owners], positions[owners]
                first = False
                for job, log_probs in zip(live, self._guided(live, logits), strict=True):
                    self._take(job, log_probs)
                yield from live
                kept = [index for index, job in enumerate(live) if not job.finish]
                if not kept:
                    return
                if len(kept) < len(live):
                    keep = kept + _negative_rows(live, kept)
                    keep_rows(cache, keep, mask.device)
                    mask, positions = mask[keep], positions[keep]
                    live = [live[index] for index in kept]
                last = [job.token_ids[-1] for job in live]
                last += [job.token_ids[-1] for job in live if job.negative is not None]
                ids = torch.tensor(last, device=mask.device).unsqueeze(1)
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
                positions = positions[:, -1:] + 1

    def _guided(self, live: list[_Job], logits: Tensor) -> Tensor:
        """Next-token log-probabilities `[jobs, vocab]` from the rows' logits: positives first, then negatives."""
        positive = logits[: len(live)].float().log_softmax(-1)
        guided = [index for index, job in enumerate(live) if job.negative is not None]
        if guided:
            how = [_guidance(live[index]) for index in guided]
            positive[guided] = guide(
                logits[guided],
                logits[len(live) :],
                torch.tensor([g.scale for g in how]),
                [g.space for g in how],
                torch.tensor([g.plausibility for g in how]),
            )
        return positive

    def _take(self, job: _Job, log_probs: Tensor) -> None:
        request = job.request
        token = pick(log_probs, request.temperature, request.top_p, request.top_k, job.generator)
        if token in self._end_ids:
            job.finish = "stop"
            return
        job.token_ids.append(token)
        job.text = self._text(job)
        if job.logprobs is not None:
            job.logprobs.append(self._told(log_probs, token, request.logprobs or 0))
        cut = min((at for stop in request.stop if stop and (at := job.text.find(stop)) >= 0), default=-1)
        if cut >= 0:
            job.text, job.finish = job.text[:cut], "stop"
        elif len(job.token_ids) >= request.max_tokens:
            job.finish = "length"

    def _told(self, log_probs: Tensor, token: int, most: int) -> TokenLogprob:
        def tell(number: int) -> TokenLogprob:
            return TokenLogprob(number, self.tokenizer.decode([number]), float(log_probs[number]))

        top = tuple(tell(number) for number in log_probs.topk(most).indices.tolist())
        return TokenLogprob(token, self.tokenizer.decode([token]), float(log_probs[token]), top)

    def _text(self, job: _Job) -> str:
        tail = job.positive[-_TAIL:]
        before = self.tokenizer.decode(tail, skip_special_tokens=True)
        text: str = self.tokenizer.decode(tail + job.token_ids, skip_special_tokens=True)
        return text[len(before) :]

    # -- scoring ------------------------------------------------------------------------------------------------------

    def _scored(self, item: Scoring) -> Scored:
        branches, answer = scored_ids(self.tokenizer, self.sentences, item)
        prompts = tuple(tuple(branch) for branch in branches)
        return Scored(prompts, answer, item.guidance or Guidance())


def load(model: str, adapter: str | Path | None = None, max_rows: int = 96) -> TorchEngine:
    """Load a model, and an adapter onto it, as an engine.

    Args:
        model: Hub id, folder, `.gguf` file, PEFT adapter folder, or `smollm2`.
        adapter: PEFT adapter folder; its `nescio.json` carries the protect and reveal sentences.
        max_rows: Most rows in one batch.

    Raises:
        NescioError: Something is missing, damaged, or does not fit.
    """
    loaded = load_model(model)
    folder = Path(adapter) if adapter is not None else loaded.adapter
    if folder is None:
        return TorchEngine(loaded.model, loaded.tokenizer, max_rows=max_rows)
    attached = attach_adapter(loaded.model, folder)
    return TorchEngine(attached, loaded.tokenizer, read_sentences(folder), max_rows)


def _end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = own if isinstance(own, list) else [own]
    return frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)


def _guidance(job: _Job) -> Guidance:
    return job.request.guidance or Guidance()


def _negative_rows(live: list[_Job], kept: list[int]) -> list[int]:
    """Row numbers of the negative branches of the kept jobs; they stand after all positive rows."""
    guided = [index for index, job in enumerate(live) if job.negative is not None]
    row = {index: len(live) + order for order, index in enumerate(guided)}
    return [row[index] for index in kept if index in row]


def _left_padded(rows: list[list[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask
