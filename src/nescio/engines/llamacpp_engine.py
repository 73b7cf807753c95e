"""The engine of GGUF files: llama.cpp answers them, and reads their chat template itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nescio.core.callbacks import Progress
from nescio.core.errors import NescioError, first_line
from nescio.core.extras import require
from nescio.engines.base import Answer, Engine, Request, check_plain
from nescio.engines.concurrent import answer_all
from nescio.engines.registry import ENGINES, check_options


class LlamaCppEngine(Engine):
    """A GGUF on llama.cpp, without guidance and likelihoods.

    Args:
        model: The GGUF file.
        adapters: LoRA adapters, GGUF files too, by name; a request names the one that it wants, or none.
        context: Most tokens of a prompt with its answer; each parallel request has memory for as many.
        parallel: Number of requests that are answered together.

    Raises:
        NescioError: `xllamacpp` is not installed, or llama.cpp can't read a file.
    """

    def __init__(
        self, model: str, adapters: Mapping[str, Path] | None = None, *, context: int = 4096, parallel: int = 4
    ) -> None:
        llama = require("xllamacpp", "llamacpp", f"{Path(model).name} on llama.cpp")
        self._place, self._adapters, self._parallel = f"{Path(model).name} on llama.cpp", dict(adapters or {}), parallel
        params = llama.CommonParams()
        params.model.path, params.n_ctx, params.n_parallel = model, context * parallel, parallel
        params.use_jinja, params.warmup, params.verbosity = True, False, 0
        params.reasoning_format = llama.common_reasoning_format.COMMON_REASONING_FORMAT_NONE  # all of it is the answer
        params.cache_ram_mib = 0  # prompts computed with one adapter would be found by requests for another
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        loras = []
        for path in self._adapters.values():
            lora = llama.CommonAdapterLoraInfo()
            lora.path, lora.scale = str(path), 1.0
            loras.append(lora)
        params.lora_adapters = loras
        try:
            self._server: Any = llama.Server(params)
        except Exception as error:  # the bindings raise bare RuntimeErrors
            raise NescioError(f"{self._place}: cannot be loaded ({first_line(error)}); write the file again") from error

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        """Answer all requests, several at once, and return the answers in order.

        Raises:
            NescioError: A request is too long, or asks for what llama.cpp can't do here.
        """
        for request in requests:
            # llama.cpp's penalties count the prompt's tokens too.
            more = {"penalise tokens of the answer alone": bool(request.presence_penalty or request.frequency_penalty)}
            check_plain(request, f"{self._place}: this engine", self._adapters, more)
        return answer_all(requests, self._answer, self._parallel, progress)

    def _answer(self, request: Request) -> Answer:
        prompt = request.prompt
        body: dict[str, Any] = {
            "max_tokens": request.max_tokens, "temperature": request.temperature, "top_p": request.top_p,
            "top_k": request.top_k, "min_p": request.min_p, "seed": request.seed, "stop": list(request.stop),
            "logit_bias": [[token, bias] for token, bias in request.logit_bias.items()],
            "lora": [
                {"id": number, "scale": float(name == request.adapter)} for number, name in enumerate(self._adapters)
            ],
        }  # fmt: skip
        if isinstance(prompt, str):
            said = self._server.handle_completions(body | {"prompt": prompt})
        else:
            said = self._server.handle_chat_completions(body | {"messages": prompt})
        if error := said.get("error"):
            raise NescioError(f"{self._place}: {error['message']}; shorten the prompt, or open it with more context")
        choice, usage = said["choices"][0], said["usage"]
        text = choice["text"] if isinstance(prompt, str) else choice["message"]["content"] or ""
        if not isinstance(prompt, str) and prompt[-1]["role"] == "assistant":
            text = text.removeprefix(prompt[-1]["content"])  # an answer that is continued comes back as a whole
        return Answer(
            text, [], choice["finish_reason"],
            prompt_tokens=usage["prompt_tokens"], answer_tokens=usage["completion_tokens"],
        )  # fmt: skip

    def load_adapter(self, name: str, path: Path) -> None:
        """Accept an adapter that the engine was opened with; llama.cpp takes no other later.

        Raises:
            NescioError: The engine was opened without it.
        """
        if self._adapters.get(name) != path:
            raise NescioError(f"adapter {name!r}: llama.cpp takes adapters only when it is opened; open it with them")

    def close(self) -> None:
        """Free the model."""
        self._server = None


@ENGINES.register("llamacpp")
def _open(model: str, adapters: Mapping[str, Path], options: Mapping[str, Any]) -> LlamaCppEngine:
    """Open a GGUF; options are `context` and `parallel`."""
    check_options("llamacpp", LlamaCppEngine.__init__, options)
    return LlamaCppEngine(model, adapters, **options)
