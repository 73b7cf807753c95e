"""What a request refuses, in one line and before it can end the others of its batch."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nescio
from nescio.core.errors import NescioError
from nescio.core.prompts import Message
from nescio.engines.torch_engine import TorchEngine


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("seed", None, "seed None: must be a whole number; give one, or leave seed out"),
        ("seed", 1.5, "seed 1.5: must be a whole number"),
        ("logprobs", True, "logprobs True: must be a whole number"),
        ("max_tokens", "8", "max_tokens '8': must be a whole number"),
        ("top_k", None, "top_k None: must be a whole number"),
        ("temperature", None, "temperature None: must be a number; give one, or leave temperature out"),
        ("top_p", "0.9", "top_p '0.9': must be a number"),
        ("min_p", True, "min_p True: must be a number"),
        ("stop", None, "stop None: must be a text or several; give them, or leave stop out"),
        ("stop", [3], r"stop \[3\]: must be a text or several"),
        ("logit_bias", None, "logit_bias: must give a number for each token id"),
        ("logit_bias", [(100, 1.0)], "logit_bias: must give a number for each token id"),
        ("logit_bias", {"100": 1.0}, "logit_bias: must give a number for each token id"),
    ],
)
def test_a_value_of_a_wrong_type_is_named(field: str, value: Any, said: str) -> None:
    with pytest.raises(NescioError, match=f"^{said}"):
        nescio.Request("hello", **{field: value})


def test_numbers_of_numpy_are_numbers() -> None:
    request = nescio.Request(
        "hello", max_tokens=np.int64(4), temperature=np.float32(0.5), logit_bias={np.int64(3): np.float32(1)}
    )
    assert type(request.max_tokens) is int and request.max_tokens == 4


def test_a_wrong_request_does_not_end_another(tiny: Callable[..., TorchEngine]) -> None:
    engine = tiny("llama")
    stream = engine.submit(nescio.Request("hello", max_tokens=64))
    for wrong in ({"temperature": 1.0, "seed": None}, {"logprobs": True}):
        with pytest.raises(NescioError):
            engine.submit(nescio.Request("hello", **wrong))
    list(stream)
    assert stream.answer.finish in ("stop", "length")


def test_chat_takes_messages_and_no_text(tiny: Callable[..., TorchEngine]) -> None:
    engine, text = tiny("llama"), "hello"
    for ask in (engine.chat, partial(nescio.chat, engine)):
        with pytest.raises(NescioError, match=r"chat: got a text; give messages, or .* by complete"):
            ask(text, max_tokens=4)
    assert engine.complete(text, max_tokens=4) != engine.chat([{"role": "user", "content": text}], max_tokens=4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"guidance": 3}, r"guidance 3: must be a nescio\.Guidance; give nescio\.Guidance\(scale=…\)"),
        ({"scale": 3}, r"scale: is a setting of guidance; give guidance=nescio\.Guidance\(scale=…\)"),
        ({"max_token": 8}, r"max_token: is no option of a request; use one of negative, adapter, max_tokens, "),
    ],
)
def test_an_option_that_is_none_is_named(tiny: Callable[..., TorchEngine], options: dict[str, Any], said: str) -> None:
    engine = tiny("llama")
    for ask in (partial(engine.chat, [{"role": "user", "content": "hello"}]), partial(engine.complete, "hello")):
        with pytest.raises(NescioError, match=f"^{said}"):
            ask(**options)


def test_a_model_may_be_given_as_a_path(tiny_folder: Path) -> None:
    messages = [Message(role="user", content="hello")]
    by_name, by_path = (nescio.load(name).chat(messages, max_tokens=4) for name in (str(tiny_folder), tiny_folder))
    assert by_name == by_path == nescio.chat(tiny_folder, messages, max_tokens=4)
