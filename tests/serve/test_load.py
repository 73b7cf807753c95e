"""Many callers, some hanging up, some wrong: nobody gets another's answer, and all comes back to where it was."""

import asyncio
import gc
import random
import time
from collections.abc import Callable

import httpx
import psutil
import pytest
from running import Running

POLICIES = """
policies:
  default:
    adapters: [careful]
    base_model: true
    audit: off
    guidance: {scale: {default: 1, min: 1, max: 5}}
"""
BAD = [{"model": "none"}, {"guidance_scale": -1}, {"max_tokens": 10**6}, {"messages": "x"}]


def body(number: int) -> dict[str, object]:
    """One of twelve requests: texts, models, guided or not."""
    return {
        "model": ("careful", "tiny")[number % 2],
        "messages": [{"role": "user", "content": f"Hello {number % 3}"}],
        "guidance_scale": (1, 3)[number % 4 // 2],
        "max_tokens": 8 + number % 12,
        "temperature": 0,
    }


async def one(client: httpx.AsyncClient, number: int, fate: str) -> str:
    """Send a request; what became of it."""
    wanted = body(number % 12)
    if fate == "bad":
        return str((await client.post("/v1/chat/completions", json=wanted | BAD[number % 4])).status_code)
    if fate == "hangs up":
        sent = wanted | {"stream": True, "max_tokens": 100}
        async with client.stream("POST", "/v1/chat/completions", json=sent) as response:
            if response.status_code == 200:
                async for _ in response.aiter_lines():
                    break
        return fate
    while True:
        response = await client.post("/v1/chat/completions", json=wanted)
        if response.status_code != 429:
            return str(response.json()["choices"][0]["message"]["content"])
        assert int(response.headers["retry-after"]) >= 1
        await asyncio.sleep(0.2)


async def storm(url: str, fates: list[str], at_a_time: int) -> list[str]:
    limit = asyncio.Semaphore(at_a_time)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=httpx.Limits(max_connections=None)) as client:

        async def bounded(number: int, fate: str) -> str:
            async with limit:
                return await one(client, number, fate)

        return await asyncio.gather(*(bounded(number, fate) for number, fate in enumerate(fates)))


@pytest.mark.parametrize(("requests", "at_a_time"), [(60, 16), pytest.param(2000, 64, marks=pytest.mark.slow)])
def test_a_storm(start: Callable[..., Running], requests: int, at_a_time: int) -> None:
    server = start(policies=POLICIES, rows=16, queue=32)
    alone = [server.post("chat/completions", body(n)).json()["choices"][0]["message"]["content"] for n in range(12)]
    asyncio.run(storm(server.url, ["whole"] * at_a_time, at_a_time))  # what is made once is made by now
    gc.collect()
    memory = psutil.Process().memory_info().rss
    fates = random.Random(0).choices(["whole", "hangs up", "bad"], [6, 4, 2], k=requests)
    became = asyncio.run(storm(server.url, fates, at_a_time))
    for number, (fate, got) in enumerate(zip(fates, became, strict=True)):
        if fate == "whole":
            assert got == alone[number % 12], "as it would be alone"
        elif fate == "bad":
            assert got in ("400", "403", "404")
    deadline = time.monotonic() + 30
    while server.gateway.gate.held and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (server.gateway.gate.held, server.gateway.gate.waiting) == (0, 0)
    assert server.post("chat/completions", body(0)).json()["choices"][0]["message"]["content"] == alone[0]
    gc.collect()
    grown = psutil.Process().memory_info().rss - memory
    server.stop()
    assert grown < 150 * 2**20
