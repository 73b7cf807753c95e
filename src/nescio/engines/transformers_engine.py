"""The engine of plain Transformers and PEFT: their own `generate`, the way people without nescio run a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nescio.core.adapters import is_adapter
from nescio.core.callbacks import Progress
from nescio.core.errors import NescioError, first_line
from nescio.core.models import best_device, best_dtype, load_tokenizer
from nescio.core.prompts import encode, render
from nescio.engines.base import Answer, Engine, Request, check_plain
from nescio.engines.registry import ENGINES, check_options


class TransformersEngine(Engine):
    """A folder on Transformers' `generate`, greedy, without guidance and likelihoods. It is slow, and used for checks.

    Args:
        model: A folder or hub id of a model, or of a PEFT adapter, which PEFT loads with its base.
        batch: Number of requests that are answered together.

    Raises:
        NescioError: The folder can't be loaded.
    """

    def __init__(self, model: str, *, batch: int = 8) -> None:
        self._place, self._batch, self._tokenizer = f"{Path(model).name} in Transformers", batch, load_tokenizer(model)
        from peft import AutoPeftModelForCausalLM
        from transformers import AutoModelForCausalLM

        loader: Any = AutoPeftModelForCausalLM if is_adapter(Path(model)) else AutoModelForCausalLM
        try:
            loaded = loader.from_pretrained(model, dtype=best_dtype())
        except Exception as error:  # safetensors, PEFT and config errors share no base class
            raise NescioError(f"{self._place}: cannot be loaded ({first_line(error)}); write it again") from error
        self._model: Any = loaded.to(best_device()).eval()

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        """Answer all requests, those of about one length together, and return the answers in order.

        Raises:
            NescioError: A request asks for guidance, an adapter by name, log-probabilities or sampling.
        """
        for request in requests:
            more = {
                "sample or stop at a text": request.temperature >= 1e-5 or bool(request.stop),
                "bias tokens": bool(request.logit_bias or request.presence_penalty or request.frequency_penalty),
            }
            check_plain(request, f"{self._place}: this engine", more=more)
        prompts = [
            encode(
                self._tokenizer, each.prompt if isinstance(each.prompt, str) else render(self._tokenizer, each.prompt)
            )
            for each in requests
        ]
        order = sorted(range(len(requests)), key=lambda number: (requests[number].max_tokens, len(prompts[number])))
        answers: dict[int, Answer] = {}
        for start in range(0, len(order), self._batch):
            together = order[start : start + self._batch]
            most = max(requests[number].max_tokens for number in together)
            new = self._continued([prompts[number] for number in together], most)
            for number, ids in zip(together, new, strict=True):
                answers[number] = self._made(requests[number], prompts[number], ids)
            if progress:
                progress(len(answers), len(requests))
        return [answers[number] for number in range(len(requests))]

    def _continued(self, prompts: list[list[int]], most: int) -> list[list[int]]:
        """Continue prompts `[batch][tokens]`, padded on the left, by up to so many tokens."""
        width, pad = max(map(len, prompts)), self._tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=self._model.device)
        shown = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self._model.device)
        with torch.no_grad():
            whole = self._model.generate(
                input_ids=ids, attention_mask=shown, max_new_tokens=most, do_sample=False, pad_token_id=pad
            )
        rows: list[list[int]] = whole[:, width:].tolist()  # [batch, new]
        return rows

    def _made(self, request: Request, prompt: list[int], ids: list[int]) -> Answer:
        ids = ids[: request.max_tokens]
        ends = self._model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        length = next((at for at, token in enumerate(ids) if token in ends), None)
        text = self._tokenizer.decode(ids[:length], skip_special_tokens=True)
        finish = "length" if length is None else "stop"
        return Answer(text, ids[:length], finish, prompt_tokens=len(prompt))

    def close(self) -> None:
        """Free the model."""
        self._model = None


@ENGINES.register("transformers")
def _open(model: str, adapters: Mapping[str, Path], options: Mapping[str, Any]) -> TransformersEngine:
    """Open a model or an adapter folder; the option is `batch`."""
    check_options("transformers", TransformersEngine.__init__, options)
    return TransformersEngine(model, **options)
