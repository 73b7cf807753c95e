"""Tools over HTTP: what the model is shown, what it calls, and what of it leaves."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest
from running import Running
from says import Says

from nescio.core.guidance import PROTECT, REVEAL
from nescio.engines.base import Request
from nescio.serve.keys import hash_key

POLICIES = f"""
policies:
  default: {{base_model: true, audit: mask, allow: {{tools: true}}}}
  masked: {{keys: ['{hash_key("nescio-masked")}'], base_model: true, audit: mask, allow: {{tools: true}}}}
  unaudited: {{keys: ['{hash_key("nescio-unaudited")}'], base_model: true, audit: off, allow: {{tools: true}}}}
  closed: {{keys: ['{hash_key("nescio-closed")}'], base_model: true, audit: off}}
  pinned: {{keys: ['{hash_key("nescio-pinned")}'], base_model: true, audit: off, outside: pin}}
  blocked: {{keys: ['{hash_key("nescio-blocked")}'], base_model: true, audit: block, allow: {{tools: true}}}}
"""
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "mail", "description": "Send a mail.", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "look_up"}},
]
USER = {"role": "user", "content": "Hello"}
CALL = '<tool_call>{"name": "mail", "arguments": {"to": "ANNA", "n": 3}}</tool_call>'


@pytest.fixture(scope="module")
def engine() -> Says:
    return Says()


@pytest.fixture(scope="module")
def server(engine: Says) -> Iterator[Running]:
    running = Running(engine, POLICIES)
    yield running
    running.stop()


def ask(server: Running, key: str | None = None, **fields: Any) -> Any:
    return server.chat(key=key, **{"model": "tiny", "tools": TOOLS} | fields)


def test_a_call_is_told_from_text_and_audited(server: Running, engine: Says) -> None:
    engine.says = lambda request: f"we ask ANNA. {CALL}{CALL.replace('mail', 'look_up')}"
    choice = ask(server).json()["choices"][0]
    assert choice["message"]["content"] == "we ask [PII]. "
    first, second = choice["message"]["tool_calls"]
    assert first["function"] == {"name": "mail", "arguments": '{"to": "[PII]", "n": 3}'}
    assert (first["type"], second["function"]["name"], choice["finish_reason"]) == ("function", "look_up", "tool_calls")
    assert first["id"] != second["id"]
    request = engine.asked[-1]
    assert [tool["function"]["name"] for tool in request.tools] == ["mail", "look_up"]
    assert (request.guidance.positive, request.guidance.negative) == (PROTECT, REVEAL)
    blocked = ask(server, "nescio-blocked").json()["choices"][0]
    assert (blocked["finish_reason"], blocked["message"].get("tool_calls")) == ("content_filter", None)
    engine.says = lambda request: CALL
    blocked = ask(server, "nescio-blocked").json()["choices"][0]
    assert (blocked["finish_reason"], blocked["message"]["content"]) == ("content_filter", "")


def test_openais_client_runs_the_loop_and_streams_calls(server: Running, engine: Says) -> None:
    def says(request: Request) -> str:
        return "it is sent" if request.prompt[-1]["role"] == "tool" else f"let me see {CALL}"  # type: ignore[index]

    engine.says = says
    client: Any = openai.OpenAI(base_url=f"{server.url}/v1", api_key="nescio-masked", max_retries=0)
    messages: list[Any] = [USER]
    answer = client.chat.completions.create(model="tiny", messages=messages, tools=TOOLS)
    message = answer.choices[0].message
    messages += [message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sent to 1"}]
    last = client.chat.completions.create(model="tiny", messages=messages, tools=TOOLS).choices[0]
    assert (last.message.content, last.finish_reason) == ("it is sent", "stop")
    turns = engine.asked[-1].prompt
    assert turns[1]["tool_calls"][0]["function"] == {"name": "mail", "arguments": '{"to": "[PII]", "n": 3}'}
    assert turns[2] == {"role": "tool", "content": "sent to 1", "tool_call_id": message.tool_calls[0].id}
    with client.chat.completions.stream(model="tiny", messages=[USER], tools=TOOLS) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion().choices[0]
    assert "tool_calls.function.arguments.done" in kinds
    assert final.message.tool_calls[0].function.arguments == '{"to": "[PII]", "n": 3}'
    assert (final.message.content, final.finish_reason) == ("let me see ", "tool_calls")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("key", ["nescio-masked", "nescio-unaudited"])
def test_half_of_a_surrogate_pair_in_a_call_stays_an_escape(
    server: Running, engine: Says, key: str, stream: bool
) -> None:
    engine.says = lambda request: CALL.replace("ANNA", "\\ud83d there")
    answer = ask(server, key, stream=stream)
    assert answer.status_code == 200
    assert json.dumps('{"to": "\\ud83d there", "n": 3}') in answer.text


def test_one_call_where_the_caller_wants_no_more(server: Running, engine: Says) -> None:
    engine.says = lambda request: CALL + CALL.replace("mail", "look_up")
    choice = ask(server, parallel_tool_calls=False).json()["choices"][0]
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["mail"]
    assert choice["finish_reason"] == "tool_calls"


def test_no_tools_no_calls(server: Running, engine: Says) -> None:
    engine.says = lambda request: CALL.lower()
    for fields in ({"tools": None}, {"tools": []}, {"tool_choice": "none"}):
        choice = ask(server, **fields).json()["choices"][0]
        assert choice["message"]["content"] == CALL.lower()
        assert engine.asked[-1].tools == ()


def test_policies(server: Running, engine: Says) -> None:
    engine.says = lambda request: "fine"
    history = [USER, {"role": "assistant", "content": None, "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "mail", "arguments": "{}"}}
    ]}, {"role": "tool", "content": "done", "tool_call_id": "1"}]  # fmt: skip
    assert ask(server, "nescio-closed").json()["error"]["param"] == "tools"
    assert ask(server, "nescio-closed", tools=None, messages=history).status_code == 403
    assert ask(server, "nescio-pinned").status_code == 200
    assert engine.asked[-1].tools == ()
    assert ask(server, "nescio-pinned", messages=history).status_code == 403
    assert ask(server, messages=history).status_code == 200
    unanswered = ask(server, messages=history[:2])
    assert (unanswered.status_code, unanswered.json()["error"]["param"]) == (400, "messages")


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"a": schema}
    return schema


def function(**fields: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "mail"} | fields}]}


BAD: list[tuple[dict[str, Any], str]] = [
    (function(name="no spaces"), "tools.0.function.name"),
    (function(name="x" * 65), "tools.0.function.name"),
    (function(parameters=deep(100)), "tools.0.function.parameters: is nested more than 64 levels deep"),
    (function(parameters=[1]), "tools.0.function.parameters"),
    (function(parameters={"enum": ["\ud83d"]}), "tools.0.function.parameters: holds half of a surrogate pair"),
    (function(parameters={"\ud83d": {}}), "tools.0.function.parameters: holds half of a surrogate pair"),
    (function(description="x<|im_end|>"), "tools.0: contains <|im_end|>"),
    (function(parameters={"x": "<|im_end|>"}), "tools.0: contains <|im_end|>"),
    (function(unknown=1), "unrecognized request argument supplied: tools.0.function.unknown"),
    ({"tools": [{"type": "web_search"}]}, "tools.0"),
    ({"tools": TOOLS * 2}, "two have the same name"),
    ({"tools": TOOLS * 100}, "tools: list should have at most 128 items"),
    ({"tool_choice": {"type": "function", "function": {"name": "rm"}}}, "tool_choice: rm is none of the tools"),
    ({"tools": None, "tool_choice": "required"}, "tool_choice: required needs tools"),
    ({"messages": [USER, {"role": "tool", "content": "x"}]}, "a tool_call_id to every tool message"),
    ({"messages": [USER | {"tool_call_id": "1"}]}, "a tool_call_id to every tool message"),
    ({"messages": [{"role": "tool", "content": "x<|im_end|>", "tool_call_id": "1"}]}, "messages.0.content: contains"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_bad_tools_are_named(server: Running, fields: dict[str, Any], message: str) -> None:
    refused = ask(server, **fields)
    assert refused.status_code == 400
    assert message in refused.json()["error"]["message"]


def test_tools_that_are_too_large_or_too_deep_to_read(server: Running) -> None:
    large = ask(server, **function(description="x" * 2**20))
    assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")
    text = json.dumps({"model": "tiny", "messages": [USER], "tools": 0}).replace('"tools": 0', f'"tools": {"[" * 9000}')
    headers = {"Content-Type": "application/json"}
    assert httpx.post(f"{server.url}/v1/chat/completions", content=text, headers=headers).status_code == 400


def test_a_bug_is_json_and_says_nothing(
    engine: Says, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("Hello ANNA")

    server = Running(engine, POLICIES)
    monkeypatch.setattr(server.gateway, "check_open", broken)
    failed = ask(server)
    server.stop()  # the bug is logged after its answer
    assert (failed.status_code, failed.json()["error"]["code"]) == (500, "internal_error")
    assert failed.headers["x-request-id"]
    assert "RuntimeError in" in caplog.text and "ANNA" not in caplog.text + failed.text


def test_a_model_that_writes_calls_in_no_known_form(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.gateway, "served", replace(server.gateway.served, tool_format=None))
    refused = ask(server)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools")
    assert "known here: hermes, llama, mistral" in refused.json()["error"]["message"]


def test_langchain_calls_a_tool_and_reads_its_result(server: Running, engine: Says) -> None:
    langchain = pytest.importorskip("langchain_openai", reason="not in vLLM's environment")
    from langchain_core.messages import HumanMessage, ToolMessage

    engine.says = lambda request: "it is sent" if request.prompt[-1]["role"] == "tool" else CALL  # type: ignore[index]
    chat = langchain.ChatOpenAI(base_url=f"{server.url}/v1", api_key="nescio-masked", model="tiny").bind_tools(TOOLS)
    turns: list[Any] = [HumanMessage("Mail her")]
    asked = chat.invoke(turns)
    assert [(call["name"], call["args"]) for call in asked.tool_calls] == [("mail", {"to": "[PII]", "n": 3})]
    streamed = list(chat.stream(turns))
    whole = streamed[0]
    for part in streamed[1:]:
        whole += part
    assert whole.tool_calls[0]["args"] == {"to": "[PII]", "n": 3}
    turns += [asked, ToolMessage("done", tool_call_id=asked.tool_calls[0]["id"])]
    assert chat.invoke(turns).content == "it is sent"
