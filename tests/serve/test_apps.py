"""Applications in front of an engine here and of an upstream: the flows of OpenAI's client, LiteLLM as a client,
LangChain's agent, and what Open WebUI 0.12 sends."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel, Field
from running import Running
from upstream import EVENTS, Upstream, event, running_upstream

from nescio.engines.openai_engine import OpenAIEngine
from nescio.engines.torch_engine import CACHE_TOKENS
from nescio.serve.keys import hash_key

KEY = "nescio-app"
POLICIES = f"""
policies:
  app:
    keys: ['{hash_key(KEY)}']
    base_model: true
    audit: mask
    allow: {{tools: true, system_message: true, response_format: true}}
"""
TEMPLATE = (
    "{% if tools %}<|im_start|>system\nCall as <tool_call>: {{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"to": {"type": "string", "enum": ["ANNA"]}},
    "required": ["to"],
    "additionalProperties": False,
}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "mail", "description": "Send a mail.", "parameters": SCHEMA}}
]
USER = {"role": "user", "content": "Hello"}
MASKED = {"to": "[PII]"}


@dataclass(frozen=True)
class Front:
    """A server in front of an engine here, or of an upstream."""

    running: Running
    upstream: Upstream | None

    @property
    def url(self) -> str:
        return f"{self.running.url}/v1"

    def post(self, **fields: Any) -> httpx.Response:
        body = {"model": "tiny", "messages": [USER], "temperature": 0, "max_tokens": 12} | fields
        return self.running.post("chat/completions", body, KEY)


def says(asked: dict[str, Any]) -> list[bytes | float]:
    """The upstream: a call where one is required, JSON where that is, else a text."""
    if asked.get("response_format"):
        events = event({"content": '{"name": "anna", "age": 30}'}) + event({}, "stop")
    elif asked.get("tool_choice") == "required":
        function = {"name": "mail", "arguments": '{"to": "ANNA"}'}
        events = event({"tool_calls": [{"index": 0, "id": "1", "function": function}]}) + event({}, "tool_calls")
    else:
        events = event({"content": "It is "}) + event({"content": "sent."}) + event({}, "stop")
    return [EVENTS + events + event(None, usage={"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10})]


@pytest.fixture(scope="module", params=["engine", "upstream"])
def front(request: pytest.FixtureRequest, make_engine: Callable[..., Any]) -> Iterator[Front]:
    if request.param == "engine":
        running = Running(make_engine(8, CACHE_TOKENS, TEMPLATE, max_position_embeddings=2048), POLICIES)
        yield Front(running, None)
        running.stop()
        return
    with running_upstream(says) as upstream:
        engine = OpenAIEngine("tiny", upstream.url, None, timeout=5.0, retries=0)
        running = Running(engine, POLICIES, upstream="tiny")
        yield Front(running, upstream)
        running.stop()


@pytest.fixture
def forced(front: Front) -> dict[str, Any]:
    """What makes even a tiny model call a tool."""
    if front.upstream is None:
        pytest.importorskip("llguidance", reason="needs nescio[structured]")
    return {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}


class Person(BaseModel):
    name: Literal["anna"]
    age: Annotated[int, Field(ge=0, le=99)]


def test_openais_client(front: Front, forced: dict[str, Any]) -> None:
    client: Any = openai.OpenAI(base_url=front.url, api_key=KEY, max_retries=0)
    # 1) tools in a loop, the first answer streamed
    turns: list[Any] = [USER]
    with client.chat.completions.stream(model="tiny", messages=turns, max_tokens=60, **forced) as stream:
        assert "tool_calls.function.arguments.done" in {each.type for each in stream}
        message = stream.get_final_completion().choices[0].message
    assert json.loads(message.tool_calls[0].function.arguments) == MASKED
    turns += [message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "done"}]
    last = client.chat.completions.create(model="tiny", messages=turns, tools=TOOLS, max_tokens=12).choices[0]
    assert last.message.content or last.finish_reason == "length"  # the tiny model's words are cut and dropped
    # 2) structured outputs
    form = {"response_format": Person, "max_tokens": 60, "temperature": 0}
    parsed = client.chat.completions.parse(model="tiny", messages=[USER], **form).choices[0].message.parsed
    assert isinstance(parsed, Person)
    # 3) Responses, streamed
    with client.responses.stream(model="tiny", input="Who?", instructions="Be brief.", max_output_tokens=12) as stream:
        events = list(stream)
    told = "".join(each.delta for each in events if each.type == "response.output_text.delta")
    assert events[-1].type in ("response.completed", "response.incomplete")
    assert told == events[-1].response.output_text
    assert told or events[-1].type == "response.incomplete"  # the tiny model's words are cut and dropped


def test_litellm_as_a_client(front: Front, forced: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks the network for prices
    litellm: Any = pytest.importorskip("litellm", reason="needs litellm, in an environment of its own")
    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    server = {"model": "openai/tiny", "api_base": front.url, "api_key": KEY, "max_retries": 0, "temperature": 0}

    def ask(*turns: Any, **fields: Any) -> Any:
        return litellm.completion(**{**server, "messages": [USER, *turns], "max_tokens": 60} | fields)

    # 1) text, whole and streamed
    whole = ask(user="u1", metadata={"trace": {"id": 1}})
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens > 0
    # 2) a tool's call, whole and streamed, and its result sent back
    called = ask(**forced).choices[0]
    (call,) = called.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("mail", MASKED)
    assert called.finish_reason == "tool_calls"
    (streamed,) = litellm.stream_chunk_builder(list(ask(stream=True, **forced))).choices[0].message.tool_calls
    assert (streamed.function.name, json.loads(streamed.function.arguments)) == ("mail", MASKED)
    result = {"role": "tool", "tool_call_id": call.id, "name": "mail", "content": "done"}
    assert ask(called.message, result, tools=TOOLS).choices[0].finish_reason in ("stop", "length")
    # 3) errors are those that it knows
    with pytest.raises(litellm.BadRequestError, match="unrecognized request argument supplied: banana"):
        ask(extra_body={"banana": 1})
    with pytest.raises(litellm.NotFoundError, match="does not exist"):
        ask(model="openai/other")
    with pytest.raises(litellm.AuthenticationError, match="unknown"):
        ask(api_key="nescio-wrong")
    with pytest.raises(litellm.APIError, match="log-probabilities") as refused:
        ask(logprobs=True)
    assert refused.value.status_code == 403
    with pytest.raises(litellm.NotFoundError, match="no embeddings"):
        litellm.embedding(**server | {"input": ["Hello"]})


def test_langchains_agent(front: Front, forced: dict[str, Any]) -> None:
    reason = "needs langchain and langchain-openai"
    agents: Any = pytest.importorskip("langchain.agents", reason=reason)
    middleware: Any = pytest.importorskip("langchain.agents.middleware", reason=reason)
    langchain: Any = pytest.importorskip("langchain_openai", reason=reason)
    from langchain_core.tools import StructuredTool

    sent: list[str] = []

    def mail(to: str) -> str:
        sent.append(to)
        return "done"

    @middleware.wrap_model_call  # type: ignore[untyped-decorator]
    def call_first(request: Any, handler: Any) -> Any:
        """A tiny model calls nothing by itself."""
        if any(message.type == "tool" for message in request.messages):
            return handler(request)
        choice, settings = forced["tool_choice"], {"parallel_tool_calls": forced["parallel_tool_calls"]}
        return handler(request.override(tool_choice=choice, model_settings=settings))

    chat = langchain.ChatOpenAI(base_url=front.url, api_key=KEY, model="tiny", temperature=0, max_completion_tokens=60)
    tool = StructuredTool.from_function(mail, description="Send a mail.", args_schema=SCHEMA)
    agent = agents.create_agent(chat, [tool], system_prompt="Be brief.", middleware=[call_first])
    for streamed in (False, True):
        if streamed:
            turns = list(agent.stream({"messages": [USER]}, stream_mode="values"))[-1]["messages"]
        else:
            turns = agent.invoke({"messages": [USER]})["messages"]
        assert [turn.type for turn in turns] == ["human", "ai", "tool", "ai"]
        assert turns[2].content == "done"
    assert sent == ["[PII]"] * 2


CALLED = {"id": "call_1", "type": "function", "function": {"name": "mail", "arguments": "{}"}}
# What Open WebUI sends as it is installed, and what its users can set.
TAKEN: dict[str, dict[str, Any]] = {
    "a chat": {"stream": True, "stream_options": {"include_usage": True}},
    "a model's own settings": {"top_p": 0.9, "min_p": 0.0, "seed": 7, "stop": ["###"], "frequency_penalty": 0.0},
    "a title, tags, questions to follow": {"stream": False, "max_tokens": 1000},
    "tools of its own": {"stream": True, "tools": TOOLS},
    "turns with calls": {"tools": TOOLS, "messages": [
        {"role": "system", "content": "Be brief."}, USER,
        {"role": "assistant", "content": "", "tool_calls": [CALLED], "reasoning_content": "hm", "thinking": "hm"},
        {"role": "tool", "tool_call_id": "call_1", "content": "done"},
    ]},
    "how Ollama runs": {
        "keep_alive": "5m", "num_ctx": 4096, "num_batch": 512, "num_gpu": 1, "num_thread": 2, "num_keep": 24,
        "use_mmap": True, "use_mlock": False,
    },
    "samplers of Ollama that are off": {
        "mirostat": 0, "mirostat_eta": 0.1, "mirostat_tau": 5.0, "repeat_last_n": 64, "repeat_penalty": 1.0, "tfs_z": 1,
        "think": False, "format": None, "options": {},
    },
}  # fmt: skip
# What apps that were written for Open WebUI's own API send elsewhere too.
OWN: dict[str, Any] = {
    "chat_id": "c1", "session_id": "s1", "id": "m1", "parent_id": None, "folder_id": None, "message_ids": [],
    "background_tasks": {"title_generation": True, "tags_generation": True, "follow_up_generation": True},
    "model_item": {"id": "tiny", "owned_by": "openai"}, "variables": {"{{USER_NAME}}": "Anna"}, "params": {},
    "user_message": {"id": "m0", "role": "user"}, "parent_message": None, "files": [], "filter_ids": [],
    "features": {"web_search": False, "image_generation": False, "code_interpreter": False}, "tool_ids": [],
    "tool_servers": [], "skill_ids": [], "metadata": {"task": "title_generation", "task_body": {"messages": [USER]}},
}  # fmt: skip
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Who?"}, IMAGE]}]},
     "messages.0.content: part 1 is of type 'image_url'; this server reads text parts only"),
    ({"features": {"web_search": True}}, "features: this server does not support the value"),
    ({"params": {"temperature": 0.1}}, "params: this server does not support the value"),
    ({"tool_ids": ["calendar"]}, "tool_ids: this server does not support the value"),
    ({"files": [{"type": "file", "id": "f1"}]}, "files: this server does not support the value"),
    ({"options": {"num_ctx": 4096}}, "options: this server does not support the value"),
    ({"mirostat": 1}, "mirostat: this server does not support the value"),
    ({"repeat_penalty": 1.1}, "repeat_penalty: this server does not support the value"),
    ({"think": True}, "think: this server does not support the value"),
    ({"reasoning_effort": "high"}, "reasoning_effort: this server does not support the value"),
    ({"continue_final_message": True}, "continue_final_message: this server does not support the value"),
    ({"user": {"name": "Anna", "id": "u1"}}, "user: input should be a valid string"),
]  # fmt: skip


def answer_of(response: httpx.Response) -> str:
    """The text of an answer, streamed or not."""
    assert response.status_code == 200, response.text
    if not response.headers["content-type"].startswith("text/event-stream"):
        return str(response.json()["choices"][0]["message"]["content"])
    *chunks, done = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert done == "[DONE]"
    choices = [choice for chunk in chunks for choice in json.loads(chunk)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


@pytest.mark.parametrize("shape", TAKEN)
def test_open_webui_is_answered(front: Front, shape: str) -> None:
    answer = answer_of(front.post(**TAKEN[shape]))
    assert answer or not front.upstream, "length may cut all that the tiny model says"
    if front.upstream:
        foreign = {"keep_alive", "num_ctx", "mirostat", "think", "options"}
        assert not foreign & front.upstream.asked[-1].keys()


def test_open_webui_by_the_responses_api(front: Front) -> None:
    """It turns its chats into items, and keeps the settings that are left."""
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Who?"}]}
    asked = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
    thought = {"type": "reasoning", "id": "r1", "summary": [], "encrypted_content": None}
    flat = [{"type": "function", **TOOLS[0]["function"], "strict": False}]
    body = {
        "model": "tiny", "instructions": "Be brief.", "input": [asked, thought, said, asked], "tools": flat,
        "max_output_tokens": 12, "temperature": 0, "keep_alive": "5m", "num_ctx": 4096, "mirostat": 0,
    }  # fmt: skip
    whole = front.running.post("responses", body, KEY)
    assert whole.status_code == 200, whole.text
    assert whole.json()["output"][0]["content"][0]["text"] or whole.json()["status"] == "incomplete"
    refused = front.running.post("responses", body | {"mirostat": 1}, KEY)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "mirostat")


def test_open_webuis_models(front: Front) -> None:
    listed = httpx.get(f"{front.url}/models", headers={"Authorization": f"Bearer {KEY}"}).json()
    assert (listed["object"], [(model["id"], model["object"]) for model in listed["data"]]) == (
        "list", [("tiny", "model")],
    )  # fmt: skip


def test_fields_of_open_webuis_own_api_change_nothing(front: Front) -> None:
    plain = answer_of(front.post())
    assert answer_of(front.post(**OWN)) == answer_of(front.post(**OWN, stream=True)) == plain
    if front.upstream:
        assert not OWN.keys() & front.upstream.asked[-1].keys()


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_what_would_change_the_answer_is_refused_by_name(front: Front, fields: dict[str, Any], message: str) -> None:
    refused = front.post(**fields)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, message.partition(":")[0])
    assert error["message"].startswith(message) and "\n" not in error["message"]


def test_an_answer_that_is_stopped_frees_its_rows(front: Front) -> None:
    body = {"model": "tiny", "messages": [USER], "stream": True, "max_tokens": 1000, "temperature": 0}
    headers = {"Authorization": f"Bearer {KEY}"}
    if front.upstream:
        front.upstream.script = lambda asked: [EVENTS, event({"content": "It is sent. And so on. "}), 3.0]
    started = time.monotonic()
    with httpx.stream("POST", f"{front.url}/chat/completions", json=body, headers=headers, timeout=60) as response:
        next(response.iter_lines())
    gate = front.running.gateway.gate
    while gate.held and time.monotonic() < started + 30:
        time.sleep(0.02)
    assert gate.held == 0
    assert 'outcome="hung_up"' in front.running.gateway.metrics.text().decode()
    if front.upstream:
        front.upstream.script = says
        assert time.monotonic() - started < 2, "before the upstream ended"
    assert answer_of(front.post())
