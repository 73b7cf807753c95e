"""The queue and the rates, without a server."""

import asyncio

import pytest

from nescio.serve.errors import ApiError
from nescio.serve.limits import Bucket, Meter, RowGate
from nescio.serve.policy import Caller, Policy


def test_rows_are_given_out_in_line_and_come_back() -> None:
    async def scene() -> None:
        gate = RowGate(rows=4, queue=4)
        assert await gate.acquire(3) == 3
        pair = asyncio.ensure_future(gate.acquire(2))
        single = asyncio.ensure_future(gate.acquire(1))
        await asyncio.sleep(0)
        assert (gate.held, gate.waiting) == (3, 3), "a single that would fit does not overtake a pair"
        with pytest.raises(ApiError) as full:
            await gate.acquire(2)
        assert (full.value.status, int(full.value.headers["Retry-After"]) >= 1) == (429, True)
        pair.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (await single, gate.held, gate.waiting) == (1, 4, 0), "a hang-up lets the next one in"
        gate.release(3, seconds=2.0)
        gate.release(1)
        assert await gate.acquire(9) == 4, "more rows than there are: the whole batch"
        gate.release(4)
        assert (gate.held, gate.waiting) == (0, 0)

    asyncio.run(scene())


def test_rows_that_come_in_the_moment_of_a_hang_up_go_back() -> None:
    async def scene() -> None:
        gate = RowGate(rows=1, queue=1)
        await gate.acquire(1)
        waiting = asyncio.ensure_future(gate.acquire(1))
        await asyncio.sleep(0)
        gate.release(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (gate.held, gate.waiting) == (0, 0)

    asyncio.run(scene())


@pytest.mark.parametrize("wanted", [1, 2])
def test_a_hang_up_in_the_moment_before_rows_come_takes_none(wanted: int) -> None:
    async def scene() -> None:
        gate = RowGate(rows=2, queue=10)
        await gate.acquire(2)
        left, waiting = (asyncio.ensure_future(gate.acquire(rows)) for rows in (wanted, 1))
        await asyncio.sleep(0)
        left.cancel()
        gate.release(1)
        assert (await waiting, gate.held, gate.waiting) == (1, 2, 0)
        with pytest.raises(asyncio.CancelledError):
            await left

    asyncio.run(scene())


def test_a_bucket_fills_evenly_and_no_further() -> None:
    now = 0.0
    bucket = Bucket(60, clock=lambda: now)
    bucket.take(60)
    assert bucket.wait(1) == 1
    now = 30.0
    assert (bucket.wait(30), bucket.wait(31)) == (0, 1)
    now = 1000.0
    assert bucket.wait(61) == 1, "one minute's worth at most"


def test_what_was_not_used_is_given_back() -> None:
    meter = Meter()
    caller = Caller("a", Policy(base_model=True, limits={"tokens_per_minute": 2000, "concurrency": 1}))  # type: ignore[arg-type]
    with meter.admit(caller, 1900) as ticket:
        ticket.tokens = 100
        with pytest.raises(ApiError, match="1 requests at a time"), meter.admit(caller, 10):
            pass
    with meter.admit(caller, 1800):
        pass
    with pytest.raises(ApiError, match="2000 tokens a minute"), meter.admit(caller, 2000):
        pass
