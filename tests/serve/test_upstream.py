"""Policies and the audit in front of another server: what it does wrong is an error, and nothing unchecked leaves."""

import asyncio
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel
from running import Running
from says import Says
from typer.testing import CliRunner
from upstream import EVENTS, Upstream, error, event, running_upstream, stream

from nescio.cli.main import app
from nescio.core.callbacks import Progress
from nescio.core.errors import NescioError
from nescio.engines.base import Answer, Engine, Request, Stream
from nescio.engines.openai_engine import OpenAIEngine
from nescio.serve.keys import hash_key
from nescio.serve.policy import Policies
from nescio.serve.process import Settings, open_upstream, reload
from nescio.serve.served import served_upstream

STAFF = "nescio-staff"
POLICIES = f"""
policies:
  default: {{base_model: true, adapters: [other], allow: {{tools: true}}}}
  staff:
    keys: ['{hash_key(STAFF)}']
    base_model: true
    audit: off
    guidance: {{protect: Share nothing.}}
    limits: {{choices: 2, seconds: 0.6}}
    allow: {{system_message: true, completions: true}}
"""
TEXT = "I know ANNA Ferrari. Her number is LONG. "


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture(scope="module")
def server(upstream: Upstream) -> Iterator[Running]:
    engine = OpenAIEngine("m", upstream.url, None, timeout=3.0, retries=0, models=["other"])
    running = Running(engine, POLICIES, upstream="m")
    yield running
    running.stop()


def ask(server: Running, key: str | None = None, **fields: Any) -> httpx.Response:
    return server.chat(key=key, **{"model": "m", "max_tokens": 64} | fields)


def test_sampling_goes_to_the_upstream(server: Running, upstream: Upstream) -> None:
    upstream.script = lambda asked: [stream("Hello.")]
    sampling = {"presence_penalty": 0.5, "frequency_penalty": -1, "min_p": 0.1, "top_k": 7}
    assert ask(server, **sampling).status_code == 200
    assert upstream.asked[-1].items() >= sampling.items()
    assert ask(server, logit_bias={"5": 2}).status_code == 403


def events(response: httpx.Response) -> list[Any]:
    """The events of a stream."""
    data = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


def text_of(chunks: list[Any]) -> str:
    choices = (chunk["choices"][0] for chunk in chunks if chunk != "[DONE]" and chunk.get("choices"))
    return "".join(choice["delta"].get("content", "") for choice in choices)


def test_an_answer_is_audited_streamed_or_not(server: Running, upstream: Upstream) -> None:
    upstream.script = lambda asked: [stream(*TEXT)]
    whole = ask(server).json()
    masked = re.sub("[A-Z]+", "[PII]", TEXT)
    assert whole["choices"][0]["message"]["content"] == masked
    assert whole["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    chunks = events(ask(server, stream=True))
    assert (text_of(chunks), chunks[-1]) == (masked, "[DONE]")
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_what_is_cut_inside_a_piece_does_not_leave(server: Running, upstream: Upstream, finish: str) -> None:
    text = "call her at LONG. Her mail is anna@exa"
    upstream.script = lambda asked: [stream(*text, finish=finish)]
    left = "call her at [PII]. [PII]er mail is "
    choice = ask(server).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (left, finish)
    assert text_of(events(ask(server, stream=True))) == left
    assert ask(server, STAFF).json()["choices"][0]["message"]["content"] == text, "no audit"
    function = {"name": "mail", "arguments": '{"to": "fine", "mail": "anna@exa'}
    called = event({"tool_calls": [{"index": 0, "function": function}]})
    upstream.script = lambda asked: [EVENTS + called + event({}, finish)]
    tools = [{"type": "function", "function": {"name": "mail"}}]
    call = ask(server, tools=tools).json()["choices"][0]["message"]["tool_calls"][0]
    assert call["function"]["arguments"] == '{"to": "fine", "mail": '


def test_an_answer_that_the_upstream_s_filter_ends_says_so(server: Running, upstream: Upstream) -> None:
    upstream.script = lambda asked: [stream("Hello.", finish="content_filter")]
    assert ask(server).json()["choices"][0]["finish_reason"] == "content_filter"


def test_what_the_upstream_is_asked(server: Running, upstream: Upstream) -> None:
    upstream.script = lambda asked: [stream("fine")]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    assert ask(server, STAFF, messages=messages, temperature=0.5, stop=["x"], seed=3, n=2).status_code == 200
    first, second = upstream.asked[-2:]
    assert first["messages"][0] == {"role": "system", "content": "Be brief. Share nothing."}
    assert (first["model"], first["temperature"], first["stop"], first["max_tokens"]) == ("m", 0.5, ["x"], 64)
    assert {first["seed"], second["seed"]} == {3, 4}
    ask(server, model="other")
    assert upstream.asked[-1]["model"] == "other"
    assert upstream.asked[-1]["messages"] == [{"role": "user", "content": "Hello"}], (
        "no sentence unless a policy has one"
    )
    assert ask(server, guidance_scale=3).status_code == 403, "no guidance there"
    assert ask(server, model="third").status_code == 404


CUT = stream("we know A", "NNA. and more")
PLACES = [
    *range(0, len(CUT), 50),
    *range(CUT.index(b"NNA") - 80, CUT.index(b"NNA") + 60),
    *range(len(CUT) - 170, len(CUT), 5),
]  # every byte of a chunk, and some of all others


@pytest.mark.parametrize("streamed", [False, True])
def test_an_upstream_that_cuts_at_any_byte_sends_nothing_unchecked(
    server: Running, upstream: Upstream, streamed: bool
) -> None:
    whole = "we know [PII]. and more"
    complete = CUT.index(b'"finish_reason":"stop"')
    for at in PLACES:
        upstream.script = lambda asked, at=at: [CUT[:at]]
        response = ask(server, stream=streamed)
        if at <= complete:
            assert "ANNA" not in response.text
            if streamed and response.status_code == 200:
                chunks = events(response)
                assert text_of(chunks) in ("", "we know [PII]. ")
                assert chunks[-1]["error"]["code"] == "upstream_failed"
            else:
                assert (response.status_code, list(response.json())) == (502, ["error"])
        elif response.status_code == 200 and "error" not in response.text:  # the upstream had said that it is complete
            chunks = events(response) if streamed else []
            assert (text_of(chunks) if streamed else response.json()["choices"][0]["message"]["content"]) == whole


def test_without_an_audit_a_cut_is_an_error_too(server: Running, upstream: Upstream) -> None:
    upstream.script = lambda asked: [EVENTS, event({"content": "Half of"})]
    assert ask(server, STAFF).status_code == 502
    chunks = events(ask(server, STAFF, stream=True))
    assert (text_of(chunks), chunks[-1]["error"]["code"]) == ("Half of", "upstream_failed")


GARBAGE = {
    "html": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>ANNA</html>",
    "no HTTP": b"ANNA\r\n\r\n",
    "latin-1": EVENTS + event({"content": "Zoe"}).replace(b"Zoe", b"Zo\xeb") + event({}, "stop"),
    "utf-16": EVENTS + stream("Anna").removeprefix(EVENTS).decode().encode("utf-16"),
    "no JSON": EVENTS + b"data: {ANNA\n\n",
    "other JSON": EVENTS + b'data: {"choices": [{"delta": "ANNA", "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n',
    "a list": EVENTS + b'data: ["ANNA"]\n\ndata: [DONE]\n\n',
    "no calls": EVENTS + event({"tool_calls": [{"function": "ANNA"}]}) + event({}, "tool_calls"),
    "nothing": EVENTS + b"data: [DONE]\n\n",
    "an error in the stream": EVENTS + b'data: {"error": {"message": "ANNA"}}\n\n',
    "500": error(500, "ANNA"),
    "401": error(401, "ANNA"),
    "404": error(404, "ANNA"),
}


@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.parametrize("streamed", [False, True])
def test_garbage_is_a_502(server: Running, upstream: Upstream, kind: str, streamed: bool) -> None:
    upstream.script = lambda asked: [GARBAGE[kind]]
    response = ask(server, stream=streamed)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_failed")
    assert "ANNA" not in response.text


def test_an_upstream_that_hangs_is_a_504(server: Running, upstream: Upstream) -> None:
    for before in (b"", EVENTS):
        upstream.script = lambda asked, before=before: [before, 5.0]
        response = ask(server)
        assert (response.status_code, response.json()["error"]["code"]) == (504, "upstream_timeout")
    upstream.script = lambda asked: [EVENTS + event({"content": "we know ANNA. And"}), 5.0]
    chunks = events(ask(server, stream=True))
    assert (text_of(chunks), chunks[-1]["error"]["code"]) == ("we know [PII]. ", "upstream_timeout")


def test_the_policys_time_is_over_while_the_upstream_hangs(server: Running, upstream: Upstream) -> None:
    upstream.script = lambda asked: [EVENTS + event({"content": "So far"}), 3.0]
    cut = ask(server, STAFF).json()["choices"][0]
    assert (cut["message"]["content"], cut["finish_reason"]) == ("So far", "length")
    for silent in ([3.0], [EVENTS, 3.0], [EVENTS + event({"role": "assistant"}), 3.0]):
        upstream.script = lambda asked, silent=silent: silent
        for streamed in (False, True):
            got = ask(server, STAFF, stream=streamed)
            assert (got.status_code, got.json()["error"]["code"]) == (504, "upstream_timeout")


def test_refusals_are_passed_on_without_their_words(server: Running, upstream: Upstream) -> None:
    refused = (400, "upstream_refused")
    for status, (passed, code) in ((400, refused), (422, refused), (429, (429, "upstream_busy"))):
        upstream.script = lambda asked, status=status: [error(status, "ANNA of sk-1", Retry_After="7")]
        for streamed in (False, True):
            response = ask(server, stream=streamed)
            assert (response.status_code, response.json()["error"]["code"]) == (passed, code)
            assert "ANNA" not in response.text
    assert response.headers["retry-after"] == "7"


def test_nobody_there_is_a_502() -> None:
    engine = OpenAIEngine("m", "http://127.0.0.1:9/v1", None, retries=0)
    running = Running(engine, POLICIES, upstream="m")
    assert ask(running).status_code == 502
    running.stop()


def test_a_busy_upstream_is_asked_again(upstream: Upstream) -> None:
    upstream.script = lambda asked: [error(503, "busy", Retry_After="0") if len(upstream.asked) % 2 else stream("fine")]
    upstream.asked.clear()
    running = Running(OpenAIEngine("m", upstream.url, None, retries=1), POLICIES, upstream="m")
    assert ask(running).json()["choices"][0]["message"]["content"] == "fine"
    assert len(upstream.asked) == 2
    running.stop()


def test_an_upstream_that_stays_busy_is_not_waited_for(upstream: Upstream) -> None:
    settings = Settings(model="m", adapters={}, policies=Path("p.yaml"), upstream=upstream.url)
    running = Running(open_upstream(settings, []), "policies: {default: {base_model: true}}", upstream="m")
    upstream.script = lambda asked: [error(429, "busy", Retry_After="60")]
    upstream.asked.clear()
    response = ask(running)
    assert (response.status_code, response.headers["retry-after"], len(upstream.asked)) == (429, "60", 1)
    upstream.script = lambda asked: [error(429, "busy", Retry_After="0.1")]
    upstream.asked.clear()
    assert (ask(running).status_code, len(upstream.asked)) == (429, 3)
    running.stop()


def test_what_one_model_refuses_is_sent_to_the_others(upstream: Upstream) -> None:
    settings = Settings(model="m", adapters={}, policies=Path("p.yaml"), upstream=upstream.url)
    running = Running(open_upstream(settings, ["other"]), POLICIES, upstream="m")
    message = "Unsupported value: 'temperature' does not support 0 with this model."
    upstream.script = lambda asked: [
        error(400, message) if asked["model"] == "other" and "temperature" in asked else stream("fine")
    ]
    for _ in range(2):
        refused = ask(running, model="other", temperature=0)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "temperature")
        assert ask(running, model="other", temperature=1).status_code == 200
        assert "temperature" not in upstream.asked[-1]
        assert ask(running, model="m", temperature=0).status_code == 200
        assert upstream.asked[-1]["temperature"] == 0
    running.stop()


def test_what_an_upstream_said_before_it_broke_off_counts(upstream: Upstream) -> None:
    policy = "{base_model: true, limits: {max_tokens: 64, tokens_per_minute: 100}}"
    running = Running(
        OpenAIEngine("m", upstream.url, None, retries=0), f"policies: {{default: {policy}}}", upstream="m"
    )
    upstream.script = lambda asked: [EVENTS + event({"content": "so it goes on " * 30})]
    broken = [ask(running, stream=streamed) for streamed in (True, False)]
    assert events(broken[0])[-1]["error"]["code"] == "upstream_failed"
    assert (broken[1].status_code, broken[1].json()["error"]["code"]) == (429, "token_limit")
    assert 'nescio_tokens_total{kind="answer",policy="default"} 105.0' in httpx.get(f"{running.url}/metrics").text
    running.stop()


def test_calls_of_tools_are_audited(server: Running, upstream: Upstream) -> None:
    def call(index: int, **function: str) -> bytes:
        return event({"tool_calls": [{"index": index, "id": "ANNA", "type": "function", "function": function}]})

    arguments = '{"to": "ANNA", "n": 3}'
    upstream.script = lambda asked: [
        EVENTS, call(0, name="mail", arguments=""), *(call(0, arguments=letter) for letter in arguments),
        call(1, name="look_up", arguments="{}"), event({}, "tool_calls"),
    ]  # fmt: skip
    tools = [{"type": "function", "function": {"name": name}} for name in ("mail", "look_up")]
    choice = ask(server, tools=tools).json()["choices"][0]
    assert upstream.asked[-1]["tools"] == tools
    calls = choice["message"]["tool_calls"]
    assert [each["function"] for each in calls] == [
        {"name": "mail", "arguments": '{"to": "[PII]", "n": 3}'}, {"name": "look_up", "arguments": "{}"},
    ]  # fmt: skip
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    assert len({each["id"] for each in calls} - {"ANNA"}) == 2
    chunks = events(ask(server, tools=tools, stream=True))
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    parts = [d for c in chunks[:-1] for d in c["choices"][0]["delta"].get("tool_calls", [])]
    assert [part["index"] for part in parts] == [0, 0, 1, 1]
    assert parts[0]["function"] == {"name": "mail", "arguments": ""} and parts[0]["type"] == "function"
    assert parts[1] == {"index": 0, "function": {"arguments": '{"to": "[PII]", "n": 3}'}}
    unasked = ask(server, tools=tools[1:])
    assert (unasked.status_code, unasked.json()["error"]["code"]) == (502, "upstream_failed")


def test_counts_that_are_no_numbers_are_estimated(server: Running, upstream: Upstream) -> None:
    usage = event(None, usage={"prompt_tokens": "ANNA", "completion_tokens": -3, "total_tokens": None})
    upstream.script = lambda asked: [EVENTS + event({"content": "fine"}) + event({}, "stop") + usage]
    assert ask(server).json()["usage"] == {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}


HALF = event({"content": "hi ?"}, "stop").replace(b"?", b"\\ud83d")


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ([EVENTS, HALF], 200),
        ([error(400, "Invalid value: 'Anna Lee'")], 400),
        ([error(422, "Unsupported parameter: 'temperature' is not supported with Anna Lee")], 400),
        ([error(404, "no Anna Lee here")], 502),
    ],
)
def test_the_log_holds_nothing_of_a_prompt_or_an_answer(
    upstream: Upstream, caplog: pytest.LogCaptureFixture, script: list[bytes], status: int
) -> None:
    """Nor does half of a surrogate pair break an answer."""
    caplog.set_level(logging.INFO)
    upstream.script = lambda asked: script
    running = Running(OpenAIEngine("m", upstream.url, None, timeout=5.0, retries=0), POLICIES, upstream="m")
    response = running.chat("I am Anna Lee", STAFF, model="m")
    running.stop()
    assert response.status_code == status
    assert status != 200 or response.json()["choices"][0]["message"]["content"] == "hi \ufffd"
    assert "policy=staff" in caplog.text
    assert not re.search(r"Anna|Lee|hi |\\ud83d", caplog.text)


def test_what_an_engine_that_breaks_says_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Breaks(Engine):
        def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
            raise ValueError(f"bad prompt: {requests[0].prompt}")

    running = Running(Breaks(), "policies: {default: {base_model: true, guidance: {scale: 1}}}")
    assert running.chat("I am Anna Lee", model="tiny").status_code == 500
    running.stop()
    assert "generating failed (ValueError)" in caplog.text
    assert "Anna" not in caplog.text


def test_a_failure_after_the_answer_is_not_logged_in_its_own_words(caplog: pytest.LogCaptureFixture) -> None:
    class Refuses(Stream):
        def cancel(self) -> None:
            raise ValueError("Anna Lee")

    class Ends(Says):
        def submit(self, request: Request) -> Stream:
            stream = Refuses()
            stream.end(Answer("fine", [1], "stop"))
            return stream

    running = Running(Ends(), "policies: {default: {base_model: true, guidance: {scale: 1}}}")
    assert running.chat(model="tiny").status_code == 200
    running.stop()
    assert "ValueError" in caplog.text
    assert "Anna" not in caplog.text


def test_plain_completions(server: Running, upstream: Upstream) -> None:
    choice = {"index": 0, "text": "there", "finish_reason": "stop"}
    body = {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
    upstream.script = lambda asked: [EVENTS, f"data: {json.dumps(body)}\n\ndata: [DONE]\n\n".encode()]
    got = server.post("completions", {"model": "m", "prompt": "Hello"}, STAFF).json()
    assert got["choices"][0]["text"] == "there"
    assert upstream.asked[-1]["prompt"] == "Share nothing.\n\nHello"


def test_the_command(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script = lambda asked: [stream("we are fine. ")]
    (tmp_path / "p.yaml").write_text("policies: {default: {base_model: true, audit: off}}")
    arguments = ["serve", "m", "--policies", str(tmp_path / "p.yaml"), "--port", "0", "--upstream", upstream.url]
    code = "from nescio.cli.main import main; main()"
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
        headers = {"Authorization": "Bearer whatever"}  # no policy has a key
        got = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60).json()
        process.terminate()
    assert got["choices"][0]["message"]["content"] == "we are fine. "


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--upstream", "127.0.0.1:1"], "must read http://host:port/v1"),
        (["--upstream", "http://127.0.0.1:1/v1", "--adapter", "a=b"], "--adapter: not with --upstream"),
        (["--upstream", "http://127.0.0.1:1/v1", "--upstream-key-env", "NOT_THERE"], "NOT_THERE is not set"),
    ],
)
def test_a_wrong_command_says_so(tmp_path: Path, more: list[str], message: str) -> None:
    (tmp_path / "p.yaml").write_text("policies: {default: {base_model: true, audit: off}}")
    got = CliRunner().invoke(app, ["serve", "m", "--policies", str(tmp_path / "p.yaml"), "--port", "0", *more])
    assert isinstance(got.exception, NescioError) and message in str(got.exception)


def test_a_reload_takes_further_models_of_the_upstream(upstream: Upstream, tmp_path: Path) -> None:
    engine = OpenAIEngine("m", upstream.url, None, retries=0)
    running = Running(engine, "policies: {default: {base_model: true}}", upstream="m")
    upstream.script = lambda asked: [stream("fine")]
    assert ask(running, model="new").status_code == 404
    (tmp_path / "p.yaml").write_text("detector: regex\npolicies: {default: {base_model: true, adapters: [new]}}")
    asyncio.run(reload(running.gateway, tmp_path / "p.yaml"))
    assert ask(running, model="new").status_code == 200
    assert upstream.asked[-1]["model"] == "new"
    running.stop()


def test_a_policy_that_guides_is_refused_at_the_start_and_at_a_reload(server: Running, tmp_path: Path) -> None:
    before = server.gateway.policies
    (tmp_path / "p.yaml").write_text("policies: {default: {base_model: true, guidance: {scale: 3}}}")
    asyncio.run(reload(server.gateway, tmp_path / "p.yaml"))
    assert server.gateway.policies is before
    policies = Policies.model_validate({"policies": {"default": {"base_model": True, "guidance": {"scale": 3}}}})
    with pytest.raises(NescioError, match=r"policies.default.guidance.scale: an upstream is not guided"):
        served_upstream("m", policies)


def says(text: str = "", arguments: str = "", finish: str = "stop") -> list[bytes | float]:
    """A streamed chat with a call of `mail`, if it has arguments."""
    call = {"index": 0, "id": "1", "function": {"name": "mail", "arguments": arguments}}
    called = event({"tool_calls": [call]}) if arguments else b""
    return [EVENTS, event({"content": text}), called, event({}, "tool_calls" if arguments else finish)]


def test_openais_client_runs_its_flows(upstream: Upstream) -> None:
    """Tools in a loop, streamed; structured outputs with Pydantic; Responses with streaming."""

    class Person(BaseModel):
        name: str
        age: int

    allowed = "{tools: true, response_format: true, system_message: true}"
    engine = OpenAIEngine("m", upstream.url, None, timeout=5.0, retries=0)
    running = Running(engine, f"policies: {{default: {{base_model: true, allow: {allowed}}}}}", upstream="m")
    client: Any = openai.OpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0)
    tool = {"name": "mail", "parameters": {"type": "object"}}
    tools = [{"type": "function", "function": tool}]
    # 1) tools in a loop, the first answer streamed
    upstream.script = lambda asked: (
        says("it is sent") if asked["messages"][-1]["role"] == "tool" else says("let me see", '{"to": "ANNA"}')
    )
    turns: list[Any] = [{"role": "user", "content": "Mail her"}]
    with client.chat.completions.stream(model="m", messages=turns, tools=tools) as events_of_it:
        assert "tool_calls.function.arguments.done" in {each.type for each in events_of_it}
        message = events_of_it.get_final_completion().choices[0].message
    assert message.tool_calls[0].function.arguments == '{"to": "[PII]"}'
    turns += [message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sent"}]
    last = client.chat.completions.create(model="m", messages=turns, tools=tools).choices[0]
    assert (last.message.content, last.finish_reason) == ("it is sent", "stop")
    # 2) structured outputs
    upstream.script = lambda asked: says('{"name": "ANNA", "age": 30}')
    parsed = client.chat.completions.parse(model="m", messages=turns[:1], response_format=Person).choices[0].message
    assert parsed.parsed == Person(name="[PII]", age=30)
    assert upstream.asked[-1]["response_format"]["json_schema"]["name"] == "Person"
    # 3) Responses
    upstream.script = lambda asked: says("we know ANNA.", '{"to": "ANNA"}')
    flat = [{"type": "function", **tool}]
    with client.responses.stream(model="m", input="Who?", instructions="Be brief.", tools=flat) as stream_of_it:
        kinds = [each.type for each in stream_of_it]
        final = stream_of_it.get_final_response()
    assert {"response.output_text.delta", "response.function_call_arguments.done"} <= set(kinds)
    assert (final.output_text, final.output[1].arguments) == ("we know [PII].", '{"to": "[PII]"}')
    running.stop()
