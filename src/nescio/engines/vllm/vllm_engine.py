"""The engine on vLLM: a guided request becomes two vLLM requests, an unguided one stays one.

`lockstep` schedules the two together; `token_choice` combines them.
"""

import itertools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from nescio.core.adapters import WEIGHTS, read_sentences
from nescio.core.callbacks import Progress
from nescio.core.end_tokens import end_token_ids
from nescio.core.errors import NescioError, first_line
from nescio.core.guidance import PROTECT, REVEAL
from nescio.core.models import best_dtype, load_tokenizer, locate, one_adapter
from nescio.engines.answer_schema import schema_of
from nescio.engines.base import (
    Answer,
    BrokenError,
    Capabilities,
    Engine,
    EngineClosedError,
    Request,
    Scoring,
    Stream,
    TooLongError,
    check_bias,
)
from nescio.engines.closing import close_at_exit
from nescio.engines.decode.grammar import Grammars
from nescio.engines.detokenizer import Detokenizer
from nescio.engines.prompt_branches import branch_ids, chat_template, control_tokens, scored_ids
from nescio.engines.vllm.jobs import Job
from nescio.engines.vllm.settings import MAX_LOGPROBS, engine_config

_CLOSED = "the engine is closed; load it again"


class VllmEngine(Engine):
    """Generates and scores on vLLM, guided or not, with adapters attached or detached.

    vLLM's loop runs in one thread. Other threads queue calls that this thread executes between two steps.

    Args:
        config: vLLM's configuration, as `settings.engine_config` makes it.
        tokenizer: The model's, of Transformers.
        adapter: PEFT adapter folder to load as `default`; its sentences become the engine's.

    Raises:
        NescioError: vLLM cannot start.
    """

    def __init__(self, config: Any, tokenizer: Any, adapter: Path | None = None) -> None:
        from vllm.v1.engine.llm_engine import LLMEngine
        from vllm.v1.executor import Executor

        self.tokenizer = tokenizer
        self._end_ids = tuple(sorted(end_token_ids(tokenizer)))  # vLLM adds those of generation_config.json
        self._grammars = Grammars(tokenizer, self._end_ids)
        self.sentences = {"positive": PROTECT, "negative": REVEAL} | (read_sentences(adapter) if adapter else {})
        try:
            self._llm = LLMEngine(config, Executor.get_class(config), log_stats=False, multiprocess_mode=False)
        except Exception as error:  # the errors of device, loader and workers share no base class
            raise NescioError(f"{config.model_config.model}: vLLM cannot start ({first_line(error)})") from error
        self._scheduler = self._llm.engine_core.engine_core.scheduler
        self._context = int(config.model_config.max_model_len)  # tokens
        self._vocabulary = int(config.model_config.get_vocab_size())
        groups = len(self._scheduler.kv_cache_config.kv_cache_groups)
        self._blocks = (int(config.cache_config.num_gpu_blocks) - 1) // groups  # vLLM keeps one block empty
        self._block_size = int(self._scheduler.block_size)  # tokens
        self._adapters: dict[str, Any] = {}
        self._adapter_sentences: dict[str, dict[str, str]] = {}
        self._numbers = itertools.count(1)
        self._jobs: dict[str, Job] = {}
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()  # for the engine's thread
        self._closing = threading.Event()
        self._gate = threading.Lock()  # no call is queued after `_closing` is set
        self._thread = threading.Thread(target=self._run, name="vllm", daemon=True)
        close_at_exit(self)
        self._thread.start()
        if adapter is not None:
            self.load_adapter("default", adapter)

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        return Capabilities(tuple(self._adapters), control_tokens(self.tokenizer), chat_template(self.tokenizer))

    @property
    def closed(self) -> bool:
        """Whether it was closed, or vLLM failed; then it refuses all requests."""
        return self._closing.is_set()

    @property
    def replays(self) -> int:
        """Number of times that two branches were separated and restarted from their common tokens."""
        return int(self._scheduler.replays)

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        """Answer all requests, in their order; vLLM decides how many run at a time.

        Raises:
            NescioError: A request cannot be served. Nothing is generated then.
        """
        return self._finish([self._job(request) for request in requests], progress)

    def submit(self, request: Request) -> Stream:
        """Queue a request and return at once; call it from any thread.

        Raises:
            NescioError: The request can never be served, or the engine is closed.
        """
        job = self._job(request)
        self._call(partial(self._start, job))
        return job.detokenizer.stream

    def score_batch(self, items: Sequence[Scoring], progress: Progress | None = None) -> list[list[float]]:
        """Return the log-probability of each token of each continuation; an empty continuation has none.

        vLLM emits the continuation's tokens as if they had been chosen, so guided scores come from the same
        distributions as guided answers. It gives no normalised scores of a prompt in the mode that guidance needs.

        Raises:
            NescioError: An item cannot be scored. Nothing is computed then.
        """
        jobs = {number: self._scoring_job(item) for number, item in enumerate(items) if item.continuation}
        answers = dict(zip(jobs, self._finish(list(jobs.values()), progress), strict=True))
        return [
            [token.logprob for token in answers[number].logprobs or []] if number in answers else []
            for number in range(len(items))
        ]

    def load_adapter(self, name: str, path: Path) -> None:
        """Load a PEFT adapter under a name, while running. Its requests are guided by the sentences of its nescio.json.

        Raises:
            NescioError: It does not fit, the name is taken, or the engine was started without adapters.
        """
        from vllm.lora.request import LoRARequest

        if name in self._adapters:
            raise NescioError(f"adapter {name!r} is loaded already; drop it first, or choose another name")
        if not (path / WEIGHTS).is_file():
            raise NescioError(f"{path}: not a PEFT adapter in safetensors; give an adapter folder")
        if self._llm.vllm_config.lora_config is None:
            raise NescioError(f"adapter {name!r}: vLLM was started without adapters; start it with enable_lora")
        sentences = read_sentences(path)
        lora = LoRARequest(name, next(self._numbers), str(path.resolve()))
        try:
            self._wait_for(partial(self._llm.add_lora, lora))
        except NescioError:
            raise
        except Exception as error:  # the errors of loader and workers share no base class
            raise NescioError(f"{path}: the adapter does not fit the model ({first_line(error)})") from error
        self._adapter_sentences[name] = sentences
        self._adapters[name] = lora

    def drop_adapter(self, name: str) -> None:
        """Drop a loaded adapter, while running. New requests for it are refused; running ones keep it.

        vLLM evicts its weights when it needs their place.

        Raises:
            NescioError: There is no adapter of that name.
        """
        if name not in self._adapters:
            raise NescioError(self._not_loaded(name))
        del self._adapters[name], self._adapter_sentences[name]

    def close(self) -> None:
        """End the remaining requests with an error and free all resources. It can be called more than once."""
        with self._gate:
            self._closing.set()
            self._calls.put(lambda: None)
        self._thread.join()
        self._llm.engine_core.shutdown()

    # -- requests -----------------------------------------------------------------------------------------------------

    def _job(self, request: Request) -> Job:
        if request.logprobs is not None and request.logprobs > MAX_LOGPROBS:
            raise NescioError(f"logprobs {request.logprobs}: vLLM returns at most {MAX_LOGPROBS}; ask for fewer")
        if (schema := schema_of(request)) is not None:
            self._grammars.matcher(schema)  # what vLLM would refuse later, in its own words
        check_bias(request, self._vocabulary)
        branches = branch_ids(self.tokenizer, self._sentences_of(request.adapter), request, self._context)
        if (request.presence_penalty or request.frequency_penalty) and (
            len(branches) > 1 or request.logprobs is not None
        ):
            raise NescioError(
                "presence_penalty, frequency_penalty: the vllm engine has them without guidance and logprobs only; "
                "use the torch engine"
            )
        return self._checked(request, branches)

    def _scoring_job(self, item: Scoring) -> Job:
        branches, answer = scored_ids(self.tokenizer, self._sentences_of(item.adapter), item)
        if max(map(len, branches)) + len(answer) > self._context:
            raise NescioError(
                f"a prompt and a continuation exceed the model's context of {self._context} tokens; shorten one"
            )
        request = Request(item.prompt, item.guidance, adapter=item.adapter, max_tokens=max(1, len(answer)), logprobs=0)
        return self._checked(request, branches, tuple(answer))

    def _checked(self, request: Request, branches: list[list[int]], forced: tuple[int, ...] = ()) -> Job:
        lora = self._adapters.get(request.adapter or "")  # looked up once: another thread may drop it meanwhile
        if lora is None and request.adapter not in (None, "default"):
            raise NescioError(self._not_loaded(request.adapter))
        blocks = sum(-(-(len(branch) + request.max_tokens) // self._block_size) for branch in branches)
        if blocks > self._blocks:
            rows = len(branches)  # the last block of each may hold a single token
            tokens_left = (
                self._blocks * self._block_size - rows * (self._block_size - 1) - sum(map(len, branches))
            ) // rows
            raise TooLongError(
                f"a request of {blocks} cache blocks, vLLM has {self._blocks}; shorten it, or give vLLM more memory",
                tokens_left,
            )
        name = f"nescio-{next(self._numbers)}"
        stream = Stream(lambda: self._calls.put(partial(self._cancel, name)))
        detokenizer = Detokenizer(self.tokenizer, request, branches[0], stream)
        return Job(
            name=name,
            request=request,
            branches=branches,
            detokenizer=detokenizer,
            end_ids=self._end_ids,
            lora=lora,
            forced=forced,
        )

    def _sentences_of(self, adapter: str | None) -> dict[str, str]:
        return self.sentences | self._adapter_sentences.get(adapter or "", {})

    def _not_loaded(self, name: str | None) -> str:
        return f"adapter {name!r} is not loaded; loaded: {', '.join(self._adapters) or 'none'}"

    def _finish(self, jobs: Sequence[Job], progress: Progress | None) -> list[Answer]:
        for job in jobs:
            self._call(partial(self._start, job))
        answers = []
        try:
            for job in jobs:
                answers.append(job.detokenizer.stream.answer)
                if progress:
                    progress(len(answers), len(jobs))
        finally:  # after an interrupt, nobody waits for the others
            for job in jobs[len(answers) :]:
                job.detokenizer.stream.cancel()
        return answers

    # -- the engine's own thread --------------------------------------------------------------------------------------

    def _call(self, call: Callable[[], None]) -> None:
        with self._gate:
            if self._closing.is_set():
                raise EngineClosedError(_CLOSED)
            self._calls.put(call)

    def _wait_for(self, work: Callable[[], Any]) -> Any:
        """Run a function in the engine's thread, and return its result."""
        future: Future[Any] = Future()

        def call() -> None:
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)

        self._call(call)
        return future.result()

    def _run(self) -> None:
        failure = EngineClosedError("the engine was closed before the answer was complete")
        try:
            while not self._closing.is_set():
                # 1) execute the queued calls; without a job, wait for one
                while not self._jobs or not self._calls.empty():
                    self._calls.get()()
                    if self._closing.is_set():
                        break
                # 2) run one step of vLLM
                for output in self._llm.step() if self._jobs else ():
                    self._take(output)
        except Exception as error:  # for example, a worker that died
            # Its words may quote what a caller asked for, and this error's are written to a server's log.
            failure = EngineClosedError(f"vLLM failed ({type(error).__name__}); its log says more")
            failure.__cause__ = error
            with self._gate:
                self._closing.set()
        # 3) after the end, fail the jobs that are left
        while not self._calls.empty():
            self._calls.get()()
        for job in self._jobs.values():
            job.detokenizer.stream.end(failure)
        self._jobs.clear()

    def _start(self, job: Job) -> None:
        self._jobs[job.name] = job
        if self._closing.is_set():
            return
        if job.detokenizer.stream.cancelled.is_set():
            self._end(job, "cancelled")
            return
        try:
            for role, ids in zip(job.roles, job.branches, strict=True):
                prompt = {"type": "token", "prompt_token_ids": ids}
                self._llm.add_request(job.branch_name(role), prompt, job.sampling(role), lora_request=job.lora)
        except Exception as error:  # vLLM's errors share no base class; the other requests go on
            self._end(job)
            job.detokenizer.stream.end(BrokenError("vLLM refuses the request", error))

    def _cancel(self, name: str) -> None:
        if name in self._jobs:
            self._end(self._jobs[name], "cancelled")

    def _take(self, output: Any) -> None:
        """Add an output of vLLM to its job. The negative branch repeats the tokens of the positive one."""
        name, role = output.request_id.split("/")
        job = self._jobs.get(name)
        if job is None or role == "negative":
            return
        job.take(output)
        if job.detokenizer.finish:
            self._end(job)

    def _end(self, job: Job, finish: str = "") -> None:
        """Remove a job; vLLM aborts its branches if they still run."""
        del self._jobs[job.name]
        self._llm.abort_request([job.branch_name(role) for role in job.roles])
        if finish:
            job.detokenizer.end(finish)


def load(model: str, adapter: str | Path | None = None, options: Mapping[str, Any] | None = None) -> VllmEngine:
    """Start vLLM on a model, with an adapter if one is given.

    Args:
        model: Hub id, folder, `.gguf` file, PEFT adapter folder, or `smollm2`.
        adapter: PEFT adapter folder; its `nescio.json` carries the protect and reveal sentences.
        options: Fields of vLLM's `EngineArgs`, such as `tensor_parallel_size` or `max_model_len`.

    Raises:
        NescioError: vLLM is not installed or cannot start, a file is missing or does not fit, or guidance does not work
            with an option.
    """
    # vLLM reads these when it is imported. By default it is quiet and sends no usage statistics.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if getattr(find_spec("vllm"), "origin", None) is None:  # a folder named vllm has no origin
        raise NescioError("vLLM is not installed; run pip install 'nescio[vllm]', preferably in a separate environment")
    weights, own = locate(model)
    folder = one_adapter(own, adapter)
    dtype = str(best_dtype()).removeprefix("torch.")
    return VllmEngine(engine_config(weights, dtype, folder, options or {}), load_tokenizer(weights), folder)
