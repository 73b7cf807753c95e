"""Plain Transformers and PEFT as an engine: greedy answers are those of the torch engine."""

from typing import Any

import pytest

import nescio
from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.prompts import Message
from nescio.engines.base import Request
from nescio.engines.registry import open_engine

HELLO = [Message(role="user", content="Hello Anna, who can help?")]
BEGUN = [*HELLO, Message(role="assistant", content="My name")]
REQUESTS = [Request(HELLO, max_tokens=10), Request(BEGUN, max_tokens=4), Request("My friend", max_tokens=10)]


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_its_answers_are_those_of_the_torch_engine(adapted: Any, form: str) -> None:
    with nescio.load(str(adapted.merged)) as engine:
        expected = [answer.token_ids for answer in engine.generate(REQUESTS)]
    with open_engine("transformers", str(getattr(adapted, form)), {}, {"batch": 2}) as engine:
        answers = engine.generate(REQUESTS)
        assert [answer.token_ids for answer in answers] == expected
        assert [answer.finish for answer in answers] == ["length"] * 3
        with pytest.raises(NescioError, match="in Transformers: this engine can't guide"):
            engine.generate([Request(HELLO, Guidance(3.0))])
        with pytest.raises(NescioError, match="can't sample"):
            engine.generate([Request(HELLO, temperature=0.5)])


def test_an_answer_ends_where_the_folder_says(adapted: Any) -> None:
    with open_engine("transformers", str(adapted.merged), {}, {}) as engine:
        whole = engine.generate(REQUESTS[:1])[0]
    (adapted.merged / "generation_config.json").write_text(f'{{"eos_token_id": [{whole.token_ids[3]}, 1]}}')
    with open_engine("transformers", str(adapted.merged), {}, {}) as engine:
        short = engine.generate([*REQUESTS[:1], *REQUESTS[2:]])[0]
    assert short.token_ids == whole.token_ids[:3] and short.finish == "stop"


def test_a_damaged_folder_is_one_line(adapted: Any) -> None:
    (adapted.merged / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(NescioError, match="merged in Transformers: cannot be loaded") as error:
        open_engine("transformers", str(adapted.merged), {}, {})
    assert "\n" not in str(error.value)
