"""Clients that know nothing of nescio: OpenAI's own, sync and async, and LangChain's."""

import asyncio
from typing import Any

import openai
import pytest
from running import STAFF, Running

ASK: dict[str, Any] = {
    "model": "careful",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 12,
    "temperature": 0,
}


@pytest.fixture
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=STAFF, max_retries=0)


def test_openai(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {"careful", "tiny"}
    whole = client.chat.completions.create(**ASK)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12
    chunks = list(client.chat.completions.create(**ASK, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
    guided = client.chat.completions.create(**ASK, extra_body={"guidance": {"scale": 4, "space": "log"}})
    assert guided.choices[0].message.content != whole.choices[0].message.content
    told = client.chat.completions.create(**ASK, logprobs=True, top_logprobs=2).choices[0].logprobs
    assert told is not None
    assert len(told.content or []) == 12
    text = client.completions.create(model="tiny", prompt="Hello", temperature=0, max_tokens=5)
    parts = client.completions.create(model="tiny", prompt="Hello", temperature=0, max_tokens=5, stream=True)
    assert "".join(part.choices[0].text for part in parts) == text.choices[0].text
    # A tiny model may say control characters, which no request may hold.
    tries = (client.chat.completions.create(**ASK | {"messages": ASK["messages"] * n}) for n in range(1, 20))
    said = next(m for each in tries if (m := each.choices[0].message).content and m.content.isprintable())
    turn = [*ASK["messages"], said, {"role": "user", "content": "And?"}]
    assert client.chat.completions.create(**ASK | {"messages": turn}).choices, "an answer sent back as it came"


def test_openai_async(server: Running, client: openai.OpenAI) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=STAFF) as asynchronous:
            whole = await asynchronous.chat.completions.create(**ASK)
            stream = await asynchronous.chat.completions.create(**ASK, stream=True)
            parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return [whole.choices[0].message.content or "", "".join(parts)]

    whole, streamed = asyncio.run(ask())
    assert whole == streamed == client.chat.completions.create(**ASK).choices[0].message.content


def test_errors_are_the_ones_that_openais_client_knows(server: Running, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(**ASK | {"model": "gpt-4o"})
    with pytest.raises(openai.BadRequestError, match="context"):
        client.chat.completions.create(**ASK | {"max_tokens": 1000})
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").chat.completions.create(**ASK)
    with pytest.raises(openai.PermissionDeniedError, match="allows 1"):
        client.with_options(api_key="nescio-audited").chat.completions.create(
            **ASK | {"model": "tiny"}, extra_body={"guidance_scale": 9}
        )


def test_langchain(server: Running) -> None:
    langchain = pytest.importorskip("langchain_openai", reason="not in vLLM's environment")
    chat = langchain.ChatOpenAI(
        base_url=f"{server.url}/v1", api_key=STAFF, model="careful", temperature=0, max_completion_tokens=12,
        extra_body={"guidance_scale": 3},
    )  # fmt: skip
    whole = chat.invoke("Hello")
    assert "".join(str(part.content) for part in chat.stream("Hello")) == whole.content
    assert whole.content == server.chat().json()["choices"][0]["message"]["content"]


def test_messages_are_taken_back_as_they_came(client: openai.OpenAI) -> None:
    said = client.chat.completions.create(**ASK).choices[0].message
    said.content = "Hello"  # a tiny model may say control characters, which no request may hold
    more = {
        "tool_calls": None,
        "annotations": [],
        "audio": None,
        "refusal": None,
        "reasoning_content": "hm",
        "parsed": None,
        "provider_specific_fields": {"refusal": None},
        "thinking_blocks": [],
        "images": None,
    }
    for sent in (said.model_dump(), said.model_dump(exclude_none=True) | more, said.model_dump() | more):
        turn: Any = [*ASK["messages"], sent, {"role": "user", "content": "And?"}]
        assert client.chat.completions.create(**ASK | {"messages": turn}).choices
