"""The audits of a policy inside a real LiteLLM proxy on loopback, in front of an upstream that a test scripts."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from upstream import EVENTS, Upstream, event, running_upstream

pytestmark = pytest.mark.skipif(
    find_spec("litellm") is None,
    reason="needs LiteLLM's proxy: pip install 'litellm[proxy]', in an environment of its own",
)

KEY = "sk-of-the-proxy"
GUARDRAILS = {
    "masking": {"audit": "mask"},
    "replacing": {"audit": "mask", "audit_requests": "replace"},
    "strict": {"audit": "block", "audit_requests": "block"},
}
OTHER, OWN = "otto@example.org", "anna.ferrari@example.com"
TOOLS = [{"type": "function", "function": {"name": "send", "parameters": {"type": "object"}}}]


class Proxy:
    """A LiteLLM proxy with several guardrails, of which a request names one."""

    def __init__(self, folder: Path, upstream: str) -> None:
        guardrails = []
        for name, policy in GUARDRAILS.items():
            policies = folder / f"{name}.yaml"
            policies.write_text(
                yaml.safe_dump({"detector": "regex", "policies": {"default": {"base_model": True} | policy}})
            )
            own = {"guardrail": "nescio.integrations.litellm.Guardrail", "policies": str(policies)}
            own |= {"mode": ["pre_call", "post_call"]}
            guardrails.append({"guardrail_name": name, "litellm_params": own})
        place = {"api_base": upstream, "api_key": "none"}
        models = {"m": "openai/m", "text": "text-completion-openai/m"}
        config = {
            "model_list": [{"model_name": n, "litellm_params": place | {"model": m}} for n, m in models.items()],
            "guardrails": guardrails,
            "general_settings": {"master_key": KEY},
            "litellm_settings": {"num_retries": 0},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        start = "from litellm import run_server; run_server()"
        options = ["--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)]
        quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "NO_DOCS": "True"}
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", start, *options], stdout=log, stderr=log, env=os.environ | quiet
            )
        for _ in range(600):
            assert self.process.poll() is None, self.log.read_text()
            try:
                if httpx.get(f"{self.url}/health/liveliness").status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.5)
        raise AssertionError(self.log.read_text())

    def ask(self, path: str, guardrail: str, **body: Any) -> httpx.Response:
        sent = {"model": "m", "guardrails": [guardrail]} | body
        headers = {"Authorization": f"Bearer {KEY}"}
        return httpx.post(f"{self.url}/v1/{path}", json=sent, headers=headers, timeout=60)

    def chat(self, text: str, guardrail: str, **body: Any) -> httpx.Response:
        return self.ask("chat/completions", guardrail, **{"messages": [{"role": "user", "content": text}]} | body)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    running = Proxy(tmp_path_factory.mktemp("litellm"), upstream.url)
    yield running
    running.process.terminate()
    running.process.wait(30)


def says(upstream: Upstream, text: str, **message: Any) -> None:
    """Let the upstream answer `text`, where `{}` is what it was asked, whole or one character a chunk."""

    def script(asked: dict[str, Any]) -> list[bytes]:
        answer = text.replace("{}", str(asked["messages"][-1]["content"]))
        if asked.get("stream"):
            calls = [event({"tool_calls": [call]}) for call in _parts_of(message.get("tool_calls", []))]
            chunks = [event({"role": "assistant", "content": ""}), *(event({"content": one}) for one in answer), *calls]
            return [EVENTS + b"".join(chunks) + event({}, "tool_calls" if calls else "stop") + b"data: [DONE]\n\n"]
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        choice = {"index": 0, "message": {"role": "assistant", "content": answer} | message, "finish_reason": finish}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return [whole({"object": "chat.completion", "choices": [choice], "usage": usage})]

    upstream.script = script


def _parts_of(calls: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for index, call in enumerate(calls):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        yield {"index": index, "id": call["id"], "type": "function", "function": {"name": name, "arguments": ""}}
        yield from ({"index": index, "function": {"arguments": letter}} for letter in arguments)


def whole(body: dict[str, Any]) -> bytes:
    content = json.dumps({"id": "1", "created": 1, "model": "m"} | body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\nConnection: close"
    return f"{head}\r\n\r\n".encode() + content


def answer_of(response: httpx.Response) -> tuple[str, list[dict[str, Any]]]:
    """The text and the calls of an answer, streamed or not."""
    assert response.status_code == 200, response.text
    if not response.headers["content-type"].startswith("text/event-stream"):
        message = response.json()["choices"][0]["message"]
        return message["content"] or "", [call["function"] for call in message.get("tool_calls") or ()]
    text, calls = "", dict[int, dict[str, Any]]()
    for line in response.text.splitlines():
        if not line.startswith("data: {"):
            continue
        for choice in json.loads(line.removeprefix("data: "))["choices"]:
            text += choice["delta"].get("content") or ""
            for part in choice["delta"].get("tool_calls") or ():
                call = calls.setdefault(part["index"], {"name": "", "arguments": ""})
                call["name"] += part["function"].get("name") or ""
                call["arguments"] += part["function"].get("arguments") or ""
    return text, list(calls.values())


@pytest.mark.parametrize("streamed", [False, True])
def test_answers_are_masked_in_text_and_in_calls(proxy: Proxy, upstream: Upstream, streamed: bool) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "send", "arguments": json.dumps({"to": OTHER})}}
    says(upstream, f"Write to {OTHER}, please. Or do not.", tool_calls=[call], reasoning_content=f"It is {OTHER}.")
    got = proxy.chat("hello", "masking", stream=streamed, tools=TOOLS)
    text, calls = answer_of(got)
    assert text == "Write to [EMAIL], please. Or do not."
    assert [(each["name"], json.loads(each["arguments"])) for each in calls] == [("send", {"to": "[EMAIL]"})]
    assert OTHER not in got.text, "thoughts too"


@pytest.mark.parametrize("streamed", [False, True])
def test_stand_ins_go_out_and_are_put_back(proxy: Proxy, upstream: Upstream, streamed: bool) -> None:
    says(upstream, f"So {{}} and not {OTHER}.")
    text, _ = answer_of(proxy.chat(f"it is {OWN}", "replacing", stream=streamed))
    assert text == f"So it is {OWN} and not [EMAIL]."
    sent = upstream.asked[-1]["messages"][-1]["content"]
    assert re.fullmatch(r"it is \S+@\S+", sent) and OWN not in sent


def test_calls_of_earlier_turns_leave_with_stand_ins(proxy: Proxy, upstream: Upstream) -> None:
    says(upstream, "fine.")
    call = {"id": "1", "type": "function", "function": {"name": "send", "arguments": json.dumps({"to": OWN})}}
    turns = [
        {"role": "user", "content": f"write to {OWN}"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": f"sent to {OWN}", "tool_call_id": "1"},
    ]
    assert proxy.chat("", "replacing", messages=turns, tools=TOOLS).status_code == 200
    sent = json.dumps(upstream.asked[-1])
    assert OWN not in sent
    assert len(set(re.findall(r"[\w.]+@[\w.]+\w", sent))) == 1, "one piece, one stand-in"


@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_blocked_does_not_leave(proxy: Proxy, upstream: Upstream, streamed: bool) -> None:
    says(upstream, f"She is at {OTHER} today. It is late.")
    before = len(upstream.asked)
    refused = proxy.chat(f"it is {OWN}", "strict", stream=streamed)
    assert refused.status_code == 400 and "personal data" in refused.text and OWN not in refused.text
    assert len(upstream.asked) == before
    assert proxy.chat("hello", "strict", stop=[OWN]).status_code == 400
    got = proxy.chat("hello", "strict", stream=streamed)
    assert OTHER not in got.text and "the answer holds personal data" in got.text
    assert streamed or got.status_code == 400


def test_pictures_are_refused(proxy: Proxy) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    content = [{"type": "text", "text": "who?"}, image]
    got = proxy.chat("", "replacing", messages=[{"role": "user", "content": content}])
    assert got.status_code == 400 and "images" in got.text


def test_streams_that_can_not_be_checked_are_refused(proxy: Proxy, upstream: Upstream) -> None:
    """Whole answers of these endpoints too; the upstream answers with what a client would be shown."""
    part = {"type": "output_text", "text": f"She is at {OTHER}.", "annotations": []}
    output = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [part]}
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    answer = {"object": "response", "created_at": 1, "status": "completed", "output": [output], "usage": usage}
    answer |= {"id": "r1", "model": "m", "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    names = {"item_id": "m1", "output_index": 0, "content_index": 0}
    told = [
        {"type": "response.output_text.delta", "delta": part["text"]} | names,
        {"type": "response.completed", "response": answer},
    ]
    stream = b"".join(f"data: {json.dumps(each)}\n\n".encode() for each in told)
    upstream.script = lambda asked: [EVENTS + stream if asked.get("stream") else whole(answer)]
    for path, body in (
        ("responses", {"input": "hello"}),
        ("messages", {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 9}),
    ):
        for streamed in (False, True):
            before = len(upstream.asked)
            got = proxy.ask(path, "masking", stream=streamed, **body)
            assert len(upstream.asked) == before + 1
            assert OTHER not in got.text and "answers are checked" in got.text, (path, streamed, got.text)


def test_a_text_to_complete_goes_the_same_way(proxy: Proxy, upstream: Upstream) -> None:
    def go_on(asked: dict[str, Any]) -> list[bytes]:
        prompt = asked["prompt"] if isinstance(asked["prompt"], str) else asked["prompt"][0]
        choice = {"index": 0, "text": f" {prompt} and not {OTHER}.", "finish_reason": "stop", "logprobs": None}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return [whole({"object": "text_completion", "choices": [choice], "usage": usage})]

    upstream.script = go_on
    got = proxy.ask("completions", "replacing", prompt=f"it is {OWN}", model="text")
    assert got.status_code == 200 and got.json()["choices"][0]["text"] == f" it is {OWN} and not [EMAIL]."
    assert OWN not in json.dumps(upstream.asked[-1])


def test_choices_are_told_apart_and_a_broken_detector_sends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    from litellm.exceptions import GuardrailRaisedException
    from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices

    from nescio.integrations.litellm import Guardrail

    (tmp_path / "p.yaml").write_text("detector: regex\npolicies: {default: {base_model: true}}")
    guardrail = Guardrail(str(tmp_path / "p.yaml"), guardrail_name="nescio", event_hook="post_call")
    texts = zip(f"It is {OTHER}.", f"{OTHER} it is.", strict=True)
    letters = [(index, letter) for pair in texts for index, letter in enumerate(pair)]

    async def chunks() -> AsyncIterator[Any]:
        for index, letter in [*letters, (0, ""), (1, "")]:
            finish = None if letter else "stop"
            yield ModelResponseStream(choices=[StreamingChoices(finish, index, Delta(content=letter))], model="m")

    async def shown(told: list[str]) -> None:
        data = {"litellm_logging_obj": guardrail, "messages": [{"role": "user", "content": "hello"}]}
        async for chunk in guardrail.async_post_call_streaming_iterator_hook(None, chunks(), data):
            for choice in chunk.choices:
                told[choice.index] += choice.delta.content or ""

    asyncio.run(shown(told := ["", ""]))
    assert told == ["It is [EMAIL].", "[EMAIL] it is."]

    def fails(texts: list[str]) -> None:
        raise RuntimeError(texts[0])

    guardrail._detector.find = fails
    with pytest.raises(GuardrailRaisedException, match="could not be checked") as raised:
        asyncio.run(shown(told := ["", ""]))
    assert raised.value.status_code == 503 and told == ["", ""]
