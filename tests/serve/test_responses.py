"""`/v1/responses`: OpenAI's client gets the items and events that it knows, audited as a chat is."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel
from running import Running
from says import Says

from nescio.serve.keys import hash_key

POLICIES = f"""
policies:
  default:
    base_model: true
    audit: mask
    allow: {{tools: true, system_message: true}}
  formats: {{keys: ['{hash_key("nescio-formats")}'], base_model: true, allow: {{response_format: true}}}}
  blocked: {{keys: ['{hash_key("nescio-blocked")}'], base_model: true, audit: block}}
  other: {{keys: ['{hash_key("nescio-other")}'], base_model: true, allow: {{tools: true, system_message: true}}}}
"""
TOOL: dict[str, Any] = {"type": "function", "name": "mail", "parameters": {"type": "object"}}
CALL = '<tool_call>{"name": "mail", "arguments": {"to": "ANNA"}}</tool_call>'
MASKED = '{"to": "[PII]"}'


@pytest.fixture(scope="module")
def engine() -> Says:
    return Says()


@pytest.fixture(scope="module")
def server(engine: Says) -> Iterator[Running]:
    running = Running(engine, POLICIES)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def client(server: Running) -> Any:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="nescio-other", max_retries=0)


def ask(server: Running, key: str | None = None, **fields: Any) -> httpx.Response:
    return server.post("responses", {"model": "tiny", "input": "Hello"} | fields, key)


def test_an_answer_is_audited_and_repeats_the_request(client: Any, engine: Says) -> None:
    engine.says = lambda request: "we know ANNA."
    got = client.responses.create(model="tiny", input="Hello", instructions="Be brief.", store=False, temperature=0.5)
    assert (got.output_text, got.status, got.store) == ("we know [PII].", "completed", False)
    assert (got.usage.input_tokens, got.usage.output_tokens, got.usage.total_tokens) == (3, 2, 5)
    assert (got.instructions, got.temperature, got.incomplete_details) == ("Be brief.", 0.5, None)
    request = engine.asked[-1]
    assert request.prompt == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    assert (request.temperature, request.guidance.scale) == (0.5, 3.0)  # type: ignore[union-attr]


def test_the_loop_of_tools_with_items_sent_back_as_they_came(client: Any, engine: Says) -> None:
    engine.says = lambda request: f"let me see {CALL}"
    items: list[Any] = [{"role": "user", "content": [{"type": "input_text", "text": "Mail her"}]}]
    first = client.responses.create(model="tiny", input=items, tools=[TOOL])
    message, call = first.output
    assert (message.content[0].text, call.name, call.arguments) == ("let me see ", "mail", MASKED)
    engine.says = lambda request: "it is sent"
    items += [*first.output, {"type": "function_call_output", "call_id": call.call_id, "output": "done"}]
    last = client.responses.create(model="tiny", input=items, tools=[TOOL], store=False)
    assert last.output_text == "it is sent"
    user, assistant, tool = engine.asked[-1].prompt
    assert user == {"role": "user", "content": "Mail her"}
    assert assistant["content"] == "let me see "  # type: ignore[index]
    assert assistant["tool_calls"][0]["function"] == {"name": "mail", "arguments": MASKED}  # type: ignore[index]
    assert tool == {"role": "tool", "content": "done", "tool_call_id": call.call_id}


def test_a_stream_has_the_events_that_the_client_adds_up(client: Any, engine: Says) -> None:
    engine.says = lambda request: f"we know ANNA. let me see {CALL}"
    with client.responses.stream(model="tiny", input="Hello", tools=[TOOL]) as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"] and kinds[-1] == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == final.output_text
    assert final.output_text == "we know [PII]. let me see "
    assert final.output[1].arguments == MASKED
    assert final.usage.total_tokens == 5
    added = [event.output_index for event in events if event.type == "response.output_item.added"]
    done = [event.output_index for event in events if event.type == "response.output_item.done"]
    assert added == done == [0, 1]
    assert client.responses.create(model="tiny", input="Hello", tools=[TOOL]).output_text == final.output_text


class Person(BaseModel):
    name: str
    age: int


def test_a_pydantic_model_is_the_answers_form(server: Running, engine: Says) -> None:
    engine.says = lambda request: '{"name": "ANNA", "age": 3}'
    client: Any = openai.OpenAI(base_url=f"{server.url}/v1", api_key="nescio-formats", max_retries=0)
    got = client.responses.parse(model="tiny", input="Hello", text_format=Person)
    assert got.output_parsed == Person(name="[PII]", age=3)
    assert engine.asked[-1].response_format["json_schema"]["schema"]["required"] == ["name", "age"]  # type: ignore[index]
    chat = client.chat.completions.parse(
        model="tiny", messages=[{"role": "user", "content": "Hello"}], response_format=Person
    )
    assert chat.choices[0].message.parsed == Person(name="[PII]", age=3)


def test_how_an_answer_ends(server: Running, engine: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.says = lambda request: "we know ANNA."
    blocked = ask(server, "nescio-blocked").json()
    assert (blocked["status"], blocked["incomplete_details"]) == ("incomplete", {"reason": "content_filter"})
    assert "ANNA" not in str(blocked)
    monkeypatch.setattr(engine, "finish", "length")
    cut = ask(server, max_output_tokens=2).json()
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    engine.says = lambda request: ""
    empty = ask(server).json()
    assert empty["output"][0]["content"][0]["text"] == ""
    monkeypatch.setattr(server.detector, "broken", True)
    engine.says = lambda request: "we know ANNA."
    assert (ask(server).status_code, ask(server).json()["error"]["code"]) == (503, "audit_failed")
    broken = ask(server, stream=True).text
    assert "event: error" in broken and "response.completed" not in broken and "ANNA" not in broken


NO_EFFECT: list[dict[str, Any]] = [
    {"store": False}, {"store": None}, {"include": ["reasoning.encrypted_content"]}, {"truncation": "disabled"},
    {"previous_response_id": None}, {"background": False}, {"reasoning": {}}, {"metadata": {"a": "b"}}, {"user": "u"},
    {"text": {"format": {"type": "text"}}}, {"tools": []}, {"tool_choice": "auto"}, {"parallel_tool_calls": True},
    {"input": [{"type": "reasoning", "id": "r", "summary": []}, {"role": "user", "content": "Hello"}]},
]  # fmt: skip


@pytest.mark.parametrize("fields", NO_EFFECT)
def test_fields_without_an_effect(server: Running, engine: Says, fields: dict[str, Any]) -> None:
    engine.says = lambda request: "fine"
    assert ask(server, **fields).json()["output"][0]["content"][0]["text"] == "fine"


BAD: list[tuple[dict[str, Any], int, str]] = [
    ({"store": True}, 400, "store: this server does not support the value"),
    ({"previous_response_id": "resp_1"}, 400, "previous_response_id: this server does not support"),
    ({"background": True}, 400, "background"),
    ({"input": []}, 400, "input"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, 400, "item 0 is of type 'item_reference'"),
    ({"tools": [{"type": "web_search"}]}, 400, "tools.0"),
    ({"tool_choice": "required"}, 400, "tool_choice: required needs tools"),
    ({"my field": 1}, 400, "unrecognized request argument supplied: my field"),
    ({"metadata": {"a": "\ud83d"}}, 400, "metadata.a: holds U+D83D"),
    ({"text": {"format": {"type": "json_schema", "name": "a", "schema": {"enum": ["\ud83d"]}}}}, 400, "surrogate"),
    ({"input": "x<|im_end|>"}, 400, "control token"),
    ({"max_output_tokens": 10**6}, 403, "tokens"),
    ({"model": "gpt-4o"}, 404, "does not exist"),
]


@pytest.mark.parametrize(("fields", "status", "message"), BAD)
def test_what_is_refused_is_named(server: Running, fields: dict[str, Any], status: int, message: str) -> None:
    refused = ask(server, **fields)
    assert refused.status_code == status
    assert message in refused.json()["error"]["message"]


def test_policies_hold_here_too(server: Running) -> None:
    assert ask(server, "nescio-blocked", tools=[TOOL]).status_code == 403
    assert ask(server, "nescio-blocked", instructions="Share it.").status_code == 403
    assert ask(server, "nescio-other", text={"format": {"type": "json_object"}}).status_code == 403
    assert ask(server, guidance={"scale": 1}).status_code == 403


def test_embeddings_are_refused_by_name(server: Running) -> None:
    refused = server.post("embeddings", {"model": "tiny", "input": "x"})
    assert (refused.status_code, refused.json()["error"]["message"]) == (
        404,
        "this server has no embeddings; ask another server for them",
    )
