"""The decoding loop: what a request gets does not depend on who comes, goes or is cancelled beside it."""

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.engines.base import Request
from nescio.engines.decode.cpu_linear import pack
from nescio.engines.torch_engine import TorchEngine

Make = Callable[..., Any]
NAME = ["My", "name", "is", "Anna", "Ferrari", "and", "I", "live", "in", "Geneva"]
WORDS = [*NAME, "please", "write", "to", "my", "friend", "Tom", "about", "the", "garden"]


@pytest.fixture
def adapters(tmp_path: Path, make_model: Make) -> dict[str, Path]:
    """Two adapters of different ranks for different modules of the tiny Llama."""
    for name, rank, targets in [("a", 4, ["q_proj", "down_proj"]), ("b", 2, ["v_proj", "o_proj", "down_proj"])]:
        torch.manual_seed(rank)
        config = LoraConfig(r=rank, lora_alpha=16, target_modules=targets, init_lora_weights=False)
        get_peft_model(make_model("llama"), config).save_pretrained(tmp_path / name)
    return {name: tmp_path / name for name in ("a", "b")}


def random_request(draw: random.Random) -> Request:
    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, 30)))

    guided = draw.random() < 0.6
    how = Guidance(
        draw.choice([0.0, 0.5, 1.5, 3.0]),
        draw.choice(["log", "prob"]),
        plausibility=draw.choice([0.0, 0.1]),
        adaptive=draw.random() < 0.3,
    )
    return Request(
        text(),
        how if guided else None,
        text() if guided else None,
        adapter=draw.choice(["a", "b", None]),
        max_tokens=draw.randint(1, 24),
        temperature=draw.choice([0.0, 0.0, 0.9]),
        top_p=draw.choice([1.0, 0.9]),
        seed=draw.randrange(1000),
    )


def idle(engine: TorchEngine) -> bool:
    """Whether the loop comes to rest with nothing waiting and no slot taken."""
    loop, deadline = engine._loop, time.monotonic() + 10
    while (loop._waiting or loop._slots) and time.monotonic() < deadline:
        time.sleep(0.005)
    return not (loop._waiting or loop._slots)


@pytest.mark.parametrize(
    ("prefix_tokens", "packed"),
    [pytest.param(0, False, marks=pytest.mark.slow), pytest.param(200, False, marks=pytest.mark.slow), (200, True)],
)
def test_two_hundred_requests_that_come_and_go_get_what_each_gets_alone(
    make_model: Make, chatml: Any, adapters: dict[str, Path], prefix_tokens: int, packed: bool
) -> None:
    draw = random.Random(7)
    requests = [random_request(draw) for _ in range(200)]
    sizes = {"max_rows": 9, "cache_tokens": 1200, "prefix_tokens": prefix_tokens}
    together, alone = TorchEngine(make_model("llama"), chatml, **sizes), TorchEngine(make_model("llama"), chatml)
    for engine in (together, alone):
        if packed:
            pack(engine.model, "full")
        for name, folder in adapters.items():
            engine.load_adapter(name, folder)
    streams = []
    for request in requests:
        streams.append(together.submit(request))
        if draw.random() < 0.2:
            streams[-1].cancel() if draw.random() < 0.5 else threading.Timer(0.02, streams[-1].cancel).start()
        time.sleep(draw.choice([0, 0, 0.003]))
    for request, stream in zip(requests, streams, strict=True):
        whole, given = alone.generate([request])[0], stream.answer
        if given.finish == "cancelled":
            assert whole.token_ids[: len(given.token_ids)] == given.token_ids
        else:
            assert given == whole
    assert idle(together)
    assert together._loop.batch.slots.size[0] * together._loop.batch.slots.size[1] <= 1200


@pytest.mark.parametrize("style", ["llama", "gpt2", "mistral", "gemma2", "gemma3", "qwen3", "bloom"])
def test_one_row_is_enough_for_both_branches(tiny: Make, style: str) -> None:
    draw = random.Random(3)
    requests = [
        Request(" ".join(draw.choices(WORDS, k=9)), Guidance(2.0, "log"), "Tom is my friend", max_tokens=9)
        for _ in range(3)
    ]
    assert tiny(style, max_rows=1).generate(requests) == tiny(style).generate(requests)


def test_adapters_of_a_batch_are_each_that_of_merged_weights(
    make_model: Make, chatml: Any, adapters: dict[str, Path]
) -> None:
    from peft import PeftModel

    engine = TorchEngine(make_model("llama"), chatml)
    for name, folder in adapters.items():
        engine.load_adapter(name, folder)
    requests = [Request(word, adapter=name, max_tokens=8) for word in WORDS[:5] for name in ("a", None, "b")]
    given = engine.generate(requests)
    for place, name in enumerate(("a", None, "b")):
        model = make_model("llama")
        if name:
            model = PeftModel.from_pretrained(model, str(adapters[name])).merge_and_unload()
        plain = [Request(request.prompt, max_tokens=8) for request in requests[place::3]]
        assert given[place::3] == TorchEngine(model, chatml).generate(plain)
    assert given[::3] != given[1::3] != given[2::3]


def test_an_adapter_is_dropped_under_a_request_that_keeps_it(
    make_model: Make, chatml: Any, adapters: dict[str, Path]
) -> None:
    engine = TorchEngine(make_model("llama"), chatml)
    engine.load_adapter("a", adapters["a"])
    with pytest.raises(NescioError, match="loaded already"):
        engine.load_adapter("a", adapters["a"])
    request = Request(WORDS[0], adapter="a", max_tokens=100)
    whole = engine.generate([request])[0]
    stream = engine.submit(request)
    engine.drop_adapter("a")
    with pytest.raises(NescioError, match="'a' is not loaded"):
        engine.submit(request)
    engine.load_adapter("a", adapters["b"])
    assert stream.answer == whole
    assert engine.generate([request])[0] != whole
    assert engine.capabilities.adapters == ("a",)


def test_an_adapter_that_does_not_fit_names_the_module(
    make_model: Make, chatml: Any, adapters: dict[str, Path]
) -> None:
    engine = TorchEngine(make_model("llama", hidden_size=64), chatml)
    with pytest.raises(NescioError, match=r"down_proj is 64 to 64, the adapter's 64 to 32|q_proj is 64"):
        engine.load_adapter("a", adapters["a"])
    with pytest.raises(NescioError, match="has no module"):
        TorchEngine(make_model("gpt2"), chatml).load_adapter("a", adapters["a"])
    assert engine.capabilities.adapters == ()


def test_a_prompt_that_begins_like_one_before_is_computed_from_there(tiny: Make) -> None:
    engine, fresh = tiny(), tiny()
    computed: list[int] = []
    extend = engine._loop.batch.extend

    def counted(first: int, rows: Any, most: int) -> Any:
        computed.append(sum(min(row.missing, most) for row in rows))
        return extend(first, rows, most)

    engine._loop.batch.extend = counted
    begin = " ".join(WORDS * 3)
    for text, most in ((begin, 1000), (f"{begin} and Tom", 12), (begin, 0)):
        computed.clear()
        assert engine.complete(text, max_tokens=1) == fresh.complete(text, max_tokens=1)
        assert sum(computed) <= most
    engine.forget()
    engine.complete(begin, max_tokens=1)
    assert sum(computed) > 12


def test_what_never_fits_is_refused_and_what_does_not_fit_now_waits(chatml: Any, make_model: Make) -> None:
    engine = TorchEngine(make_model("llama"), chatml, max_rows=2, cache_tokens=512)
    with pytest.raises(NescioError, match="never fit"):
        engine.submit(Request("Tom", Guidance(2.0), "Anna", max_tokens=200))
    streams = [engine.submit(Request("Tom", max_tokens=50)) for _ in range(5)]
    assert len({stream.answer.text for stream in streams}) == 1
    assert idle(engine)


def test_the_prompt_of_a_request_that_was_cancelled_while_it_waited_is_not_computed(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tiny()
    computed: list[str] = []
    extend = engine._loop.batch.extend

    def noted(first: int, rows: Any, most: int) -> Any:
        computed.extend(engine.tokenizer.decode(row.ids) for row in rows)
        return extend(first, rows, most)

    monkeypatch.setattr(engine._loop.batch, "extend", noted)
    with engine._loop.paused():
        left, served = (engine.submit(Request(text, max_tokens=1)) for text in ("Please write", "My name"))
        left.cancel()
    assert (left.answer.finish, left.answer.prompt_tokens > 0, served.answer.finish) == ("cancelled", True, "length")
    assert computed == ["My name"]
    assert idle(engine)


def test_when_the_model_fails_whoever_waits_is_told_and_the_next_is_served(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tiny("llama")
    alone = engine.complete("Tom and I", max_tokens=5)
    engine.forget()
    forward = engine.model.forward

    def fails_once(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(engine.model, "forward", forward)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine.model, "forward", fails_once)
    streams = [
        engine.submit(Request(text, Guidance(2.0), "Please write", max_tokens=5))
        for text in ("Tom and I", "My name is")
    ]
    with pytest.raises(NescioError, match=r"decoding failed \(RuntimeError: out of memory\)"):
        list(streams[0])
    assert engine.complete("Tom and I", max_tokens=5) == alone
    assert idle(engine)


def test_memory_that_runs_out_while_the_cache_grows_fails_that_request_alone(
    make_model: Make, chatml: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, fresh = (TorchEngine(make_model("llama"), chatml, cache_tokens=1200, prefix_tokens=0) for _ in range(2))
    many, long = [Request("Tom", max_tokens=5)] * 9, [Request(" ".join(WORDS), max_tokens=60)]
    engine.generate(many)
    resized, times = engine._loop.batch.slots._resized, iter(range(99))

    def fails_at_the_second_layer(*given: Any) -> torch.Tensor:
        if next(times) == 2:
            raise MemoryError
        return resized(*given)

    monkeypatch.setattr(engine._loop.batch.slots, "_resized", fails_at_the_second_layer)
    with pytest.raises(NescioError, match="decoding failed"):
        engine.generate(long)
    for asked in (long, many, long):
        assert engine.generate(asked) == fresh.generate(asked)


def test_a_request_whose_logits_are_broken_fails_alone(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, alone = tiny(), tiny()
    extend = engine._loop.batch.extend

    def broken(first: int, rows: Any, most: int) -> torch.Tensor:
        return torch.stack([
            logits * float("nan") if row.ids == poisoned else logits
            for row, logits in zip(list(rows), extend(first, rows, most), strict=True)
        ])  # fmt: skip

    poisoned: list[int] = engine.tokenizer("Tom").input_ids
    monkeypatch.setattr(engine._loop.batch, "extend", broken)
    for temperature in (0.0, 0.9):
        healthy = Request("My name is", max_tokens=20, temperature=temperature)
        stream = engine.submit(healthy)
        with pytest.raises(NescioError, match=r"no token could be chosen .*NaN"):
            engine.complete("Tom", max_tokens=5, temperature=temperature)
        assert stream.answer == alone.generate([healthy])[0]
    assert idle(engine)
