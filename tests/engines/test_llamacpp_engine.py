"""llama.cpp as an engine: its greedy answers are those of the torch engine, also continued, with a LoRA or without."""

from pathlib import Path
from typing import Any

import pytest

import nescio
from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.prompts import Message
from nescio.engines.base import Request
from nescio.engines.registry import open_engine
from nescio.task_vector.gguf_form import write_gguf
from nescio.task_vector.gguf_lora import write_lora
from nescio.task_vector.vector import open_vector

pytest.importorskip("gguf")
HELLO = [Message(role="user", content="Hello Anna, who can help?")]
BEGUN = [*HELLO, Message(role="assistant", content="My name")]
OPTIONS = {"context": 256, "parallel": 2}


def greedy(model: Path, **fields: Any) -> list[str]:
    """What the torch engine says to each prompt, which has the test's fp32 weights."""
    with nescio.load(str(model)) as engine:
        requests = [Request(prompt, max_tokens=10, **fields) for prompt in (HELLO, BEGUN, "My friend")]
        return [answer.text for answer in engine.generate(requests)]


def alike(ours: list[str], theirs: list[str]) -> bool:
    """Whether answers agree but for bytes that are no whole character, which each program shows in its own way."""
    plain = [[text.replace("\ufffd", "") for text in side] for side in (ours, theirs)]
    return plain[0] == plain[1]


def test_its_answers_are_those_of_the_merged_model(adapted: Any, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    out, done = tmp_path / "m.gguf", list[tuple[int, int]]()
    write_gguf(open_vector(str(adapted.base), str(adapted.adapter)), "f16", out)
    requests = [Request(prompt, max_tokens=10) for prompt in (HELLO, BEGUN, "My friend")]
    with open_engine("llamacpp", str(out), {}, OPTIONS) as engine:
        answers = engine.generate(requests, lambda *step: done.append(step))
    assert alike([answer.text for answer in answers], greedy(adapted.merged))
    assert not alike([answer.text for answer in answers], greedy(adapted.base))
    assert done == [(1, 3), (2, 3), (3, 3)] and answers[0].prompt_tokens > 20 and answers[0].finish == "length"


def test_a_lora_is_attached_where_it_is_named(adapted: Any, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    base, lora = tmp_path / "base.gguf", tmp_path / "lora.gguf"
    vector = open_vector(str(adapted.base), str(adapted.adapter))
    write_gguf(vector, "f16", base, coefficient=0.0)
    write_lora(vector, lora)
    prompts = (HELLO, BEGUN, "My friend")
    with open_engine("llamacpp", str(base), {"mine": lora}, OPTIONS) as engine:
        requests = [Request(prompt, max_tokens=10, adapter=name) for name in ("mine", None) for prompt in prompts]
        texts = [answer.text for answer in engine.generate(requests)]
        with pytest.raises(NescioError, match="takes adapters only when it is opened"):
            engine.load_adapter("other", lora)
        with pytest.raises(NescioError, match="can't attach adapters"):
            engine.generate([Request(HELLO, adapter="other")])
    assert alike(texts[:3], greedy(adapted.merged)) and alike(texts[3:], greedy(adapted.base))


def test_what_it_cannot_do_is_one_line(adapted: Any, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    out = tmp_path / "m.gguf"
    write_gguf(open_vector(str(adapted.base), str(adapted.adapter)), "f16", out)
    with open_engine("llamacpp", str(out), {}, OPTIONS) as engine:
        with pytest.raises(NescioError, match=r"m\.gguf on llama\.cpp: this engine can't guide"):
            engine.generate([Request(HELLO, Guidance(3.0))])
        with pytest.raises(NescioError, match="can't penalise tokens of the answer alone"):
            engine.generate([Request(HELLO, presence_penalty=0.5)])
        with pytest.raises(NescioError, match="exceeds the available context size"):
            engine.generate([Request("a b" * 900, max_tokens=10)])
    out.write_bytes(b"GGUF and no more")
    with pytest.raises(NescioError, match="cannot be loaded"):
        open_engine("llamacpp", str(out), {}, OPTIONS)
    with pytest.raises(NescioError, match="option 'ctx' is unknown; known: context, parallel"):
        open_engine("llamacpp", str(out), {}, {"ctx": 1})


def test_without_the_bindings_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "xllamacpp", None)
    with pytest.raises(NescioError, match=r"m\.gguf on llama\.cpp: .*pip install 'nescio\[llamacpp\]'"):
        open_engine("llamacpp", "m.gguf", {}, {})
