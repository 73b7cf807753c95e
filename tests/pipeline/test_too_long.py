"""Samples that are too long for a model are left out and named; the rest are asked about."""

from pathlib import Path

import pytest

from nescio.core.errors import NescioError
from nescio.core.guidance import PROTECT, REVEAL, Guidance
from nescio.core.prompts import Message
from nescio.data.samples import Sample
from nescio.engines.base import ContextExceededError, Request
from nescio.engines.capacity import Capacity
from nescio.engines.torch_engine import CACHE_TOKENS, load
from nescio.evaluation.setups import Setup
from nescio.pipeline.recipe import Recipe
from nescio.pipeline.too_long import drop_too_long, of_setups, of_sources


def sample(name: str, words: int) -> Sample:
    return Sample(name, name, [Message(role="user", content="word " * words)], " Tom.", "PERSON", "Tom")


def test_too_long_ones_are_left_out_and_named(tiny_folder: Path) -> None:
    notes: list[str] = []
    samples = [sample("short", 5), *(sample(f"long-{n}", 500) for n in range(4))]
    setups = [Setup("tuned", "tuned", str(tiny_folder)), Setup("again", "again", str(tiny_folder))]
    askings = list(of_setups(setups, 16))
    assert len(askings) == 1
    assert drop_too_long(samples, askings, notes.append) == samples[:1]
    (note,) = notes
    assert note.startswith("4 of 5 samples are left out") and note.endswith("(long-0, long-1, long-2, …)")
    assert drop_too_long([], askings, notes.append) == [] and len(notes) == 1
    with pytest.raises(
        NescioError,
        match=r"^long-0: .* context of 512 tokens, as are all 4 samples; shorten the dialogs, or lower max_tokens$",
    ):
        drop_too_long(samples[1:], askings, notes.append)


def test_a_negative_branch_needs_room_too(tiny_folder: Path) -> None:
    guided = Setup("g", "g", str(tiny_folder), guidance=Guidance(3, "log", PROTECT, REVEAL + " really" * 30))
    plain = Setup("p", "p", str(tiny_folder))
    samples, notes = [sample("a", 5), sample("b", 60)], list[str]()
    assert drop_too_long(samples, of_setups([plain], 16), notes.append) == samples
    assert drop_too_long(samples, of_setups([plain, guided], 16), notes.append) == samples[:1]


def test_sources_that_are_elsewhere_are_not_weighed(tiny_folder: Path) -> None:
    far = {"name": "far", "engine": "openai", "model": "m"}
    recipe = {"base": str(tiny_folder), "tuned": "x", "data": {"dialogs": "d"}, "generate": {"sources": [far, {}]}}
    asking, _ = of_sources(Recipe.model_validate(recipe))
    assert asking.model == str(tiny_folder) and asking.ask(sample("a", 1)).max_tokens == 256


def test_vllm_may_be_told_to_take_less_than_the_model(tiny_folder: Path) -> None:
    samples, setups = [sample("a", 5), sample("b", 60)], [Setup("p", "p", str(tiny_folder))]
    for options, served in (({}, 2), ({"max_model_len": -1}, 2), ({"max_model_len": 100}, 1)):
        assert len(drop_too_long(samples, of_setups(setups, 16, options), lambda note: None)) == served
    recipe = {"base": str(tiny_folder), "tuned": "x", "data": {"dialogs": "d"}}
    generate = {"max_tokens": 16, "sources": [{"engine": {"kind": "vllm", "options": {"max_model_len": 200}}}]}
    askings = of_sources(Recipe.model_validate(recipe | {"generate": generate}))
    assert drop_too_long(samples, askings, lambda note: None) == samples[:1]


@pytest.mark.parametrize("new", [256, 480, 500])
def test_the_engine_says_the_same(tiny_folder: Path, new: int) -> None:
    room, request = Capacity(str(tiny_folder)), Request(sample("a", 4).messages, max_tokens=new)
    try:
        load(str(tiny_folder)).submit(request).cancel()
        served = True
    except ContextExceededError:
        served = False
    assert room.fits(request) is served


def test_branches_share_the_engines_cache(tiny_folder: Path) -> None:
    room = Capacity(str(tiny_folder))
    room.context = 2 * CACHE_TOKENS
    messages, guidance = sample("a", 4).messages, Guidance(3, "log", PROTECT, REVEAL)
    most = CACHE_TOKENS // 4 - 200
    assert room.fits(Request(messages, guidance, max_tokens=most))
    assert not room.fits(Request(messages, guidance, max_tokens=most + 400))
    assert room.fits(Request(messages, max_tokens=most + 400))
