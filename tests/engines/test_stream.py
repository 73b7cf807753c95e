"""A stream: pieces one by one in a thread, or all that have come in an event loop."""

import asyncio
import random
import threading
import time

import pytest

from nescio.core.errors import NescioError
from nescio.engines.base import Answer, Piece, Stream


async def _texts(stream: Stream) -> list[str]:
    return [piece.text for piece in await stream.arrived()]


def test_what_has_come_is_taken_together() -> None:
    stream = Stream()
    for text in "abc":
        stream.put(Piece(text, []))
    assert next(stream).text == "a"
    assert asyncio.run(_texts(stream)) == ["b", "c"]
    stream.put(Piece("d", []))
    stream.end(Answer("abcd", [], "stop"))
    assert asyncio.run(_texts(stream)) == ["d"]
    assert asyncio.run(_texts(stream)) == [], "the answer has ended"
    assert asyncio.run(_texts(stream)) == []
    assert not list(stream)
    assert stream.answer.text == "abcd"


def test_an_error_behind_what_has_come_is_raised_to_whoever_goes_on() -> None:
    stream = Stream()
    stream.put(Piece("a", []))
    stream.end(NescioError("it broke"))
    assert asyncio.run(_texts(stream)) == ["a"]
    with pytest.raises(NescioError, match="it broke"):
        asyncio.run(_texts(stream))
    with pytest.raises(NescioError, match="it broke"):
        next(stream)


def test_an_event_loop_misses_nothing_that_threads_put() -> None:
    streams, pieces = [Stream() for _ in range(20)], 200

    def put(stream: Stream, seed: int) -> None:
        pause = random.Random(seed)
        for number in range(pieces):
            stream.put(Piece(f"{number} ", []))
            if pause.random() < 0.05:
                time.sleep(0.001)
        stream.end(Answer("", [], "stop"))

    async def read(stream: Stream) -> str:
        texts = list[str]()
        while more := await _texts(stream):
            texts += more
        return "".join(texts)

    async def read_all() -> list[str]:
        threads = [threading.Thread(target=put, args=(stream, seed)) for seed, stream in enumerate(streams)]
        for thread in threads:
            thread.start()
        return await asyncio.wait_for(asyncio.gather(*map(read, streams)), 60)

    assert asyncio.run(read_all()) == ["".join(f"{number} " for number in range(pieces))] * len(streams)


def test_an_engine_goes_on_when_the_event_loop_was_closed() -> None:
    stream = Stream()

    async def wait_a_little() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.arrived(), 0.01)

    asyncio.run(wait_a_little())
    stream.put(Piece("a", []))
    assert next(stream).text == "a"
