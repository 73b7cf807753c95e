"""The audit of requests: what leaves, what comes back, and that neither depends on how an answer is cut."""

import json
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import httpx
import pytest
from running import Running
from test_upstream import events
from upstream import EVENTS, Upstream, continuation, event, running_upstream, stream

from nescio.engines.base import Request
from nescio.engines.openai_engine import OpenAIEngine
from nescio.pii.base import Span
from nescio.pii.registry import load_detector
from nescio.serve.admission import admit_chat, admit_completion
from nescio.serve.audit import Audit
from nescio.serve.checker import Checker, FilterError
from nescio.serve.errors import ApiError
from nescio.serve.keys import hash_key
from nescio.serve.openai_api.request_bodies import ChatRequest, CompletionRequest
from nescio.serve.policy import Policies
from nescio.serve.put_back import PutBack
from nescio.serve.request_filter import OwnStandIns, RequestFilter
from nescio.serve.served import Served

HELLO = [{"role": "user", "content": "hello"}]
STRICT = "nescio-strict"
POLICIES = f"""
policies:
  default:
    base_model: true
    allow: {{tools: true, response_format: true, completions: true}}
    limits: {{choices: 2}}
    audit_requests: replace
  strict:
    keys: ['{hash_key(STRICT)}']
    base_model: true
    allow: {{completions: true}}
    audit_requests: {{default: count, types: {{person: block}}}}
"""


class People:
    """Takes one or two words in capitals of four letters or more for a person."""

    name = "people"
    broken = False

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        if self.broken:
            raise RuntimeError("out of memory")
        return [[Span(m.start(), m.end(), "PERSON", m[0]) for m in _NAME.finditer(text)] for text in texts]


_NAME = re.compile("(?<!\\w)[A-Z][a-z]{3,}(?:[ \\n][A-Z][a-z]{3,})?")


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture
def server(upstream: Upstream) -> Iterator[Running]:
    running = Running(OpenAIEngine("m", upstream.url, None, timeout=5.0, retries=0), POLICIES, upstream="m")
    running.gateway.detector = running.detector = People()  # type: ignore[assignment]
    yield running
    running.stop()


def request_filter(action: Any, detector: Any = None) -> RequestFilter:
    return RequestFilter(partial(Checker, detector or People(), Audit(default=action)))


def naive(text: str, pieces: dict[str, str]) -> str:
    done, position = "", 0
    while position < len(text):
        fits = max((s for s in pieces if text.startswith(s, position)), key=len, default="")
        done += pieces[fits] if fits else text[position]
        position += len(fits) or 1
    return done


def test_what_is_put_back_does_not_depend_on_the_cuts() -> None:
    draw = random.Random(3)
    for _ in range(400):
        names = {"".join(draw.choices("abA ", k=draw.randint(1, 5))) for _ in range(4)}
        pieces = {name: "".join(draw.choices("xyz", k=draw.randint(0, 6))) for name in names}
        text = "".join(draw.choice([*names, "a", "b", "A", " "]) for _ in range(12))
        put_back, parts, position = PutBack(pieces), list[str](), 0
        while position < len(text):
            size = draw.randint(1, 4)
            parts.append(put_back.feed(text[position : position + size]).text)
            position += size
        parts.append(put_back.feed("", last=True).text)
        assert "".join(parts) == naive(text, pieces)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"phone": 3125550123, "size": 31255501234}', {"phone": "0791234567", "size": 31255501234}),
        ('["call 3125550123", "Velor", -3125550123]', ["call 0791234567", 'Anna "Q"\n', -3125550123]),
        ("3125550123", "0791234567"),
        ('{"Velor": [{"a": 3.125550123}]}', {'Anna "Q"\n': [{"a": 3.125550123}]}),
    ],
)
def test_what_is_put_back_leaves_json_json(text: str, wanted: Any) -> None:
    put_back = PutBack({"3125550123": "0791234567", "Velor": 'Anna "Q"\n'}, in_json=True)
    assert not any(put_back.feed(character).text for character in text)
    assert json.loads(put_back.feed("", last=True).text) == wanted


def test_json_that_is_cut_off_gets_its_names_back() -> None:
    assert PutBack({"Velor": 'A"'}, in_json=True).feed('{"to": "Velor', last=True).text == '{"to": "A\\"'


def test_many_names_cost_little_time() -> None:
    draw = random.Random(1)
    pieces = {"".join(draw.choices("abcdefgh", k=9)).capitalize(): "Anna" for _ in range(900)}
    put_back, start = PutBack(pieces), time.thread_time()
    put_back.feed("word " * 4000)
    assert time.thread_time() - start < 0.3


def test_marks_move_with_what_is_put_back() -> None:
    text = "Velor and [PII] and Velor."
    put_back, marks, sent = PutBack({"Velor": "Annabella"}), list[Span](), ""
    for place, character in enumerate(text):
        spans = [Span(10, 15, "PII", "[PII]")] if place == 10 else []
        checked = put_back.feed(character, spans, last=place == len(text) - 1)
        sent, marks = sent + checked.text, [*marks, *checked.spans]
    assert sent == "Annabella and [PII] and Annabella."
    assert [sent[mark.start : mark.end] for mark in marks] == ["[PII]"]


def test_each_action_changes_the_request_or_refuses_it() -> None:
    request = Request([{"role": "user", "content": "is Anna Ferrari at home, and where is Ferrari now?"}])
    shown: dict[Any, str] = {}
    for action in ("count", "mask", "replace"):
        (changed,) = request_filter(action).changed([request])
        shown[action] = changed.prompt[0]["content"]  # type: ignore[index]
    assert shown["count"] == "is Anna Ferrari at home, and where is Ferrari now?"
    assert shown["mask"] == "is [PERSON] at home, and where is [PERSON] now?"
    found = re.fullmatch(r"is (\w+) (\w+) at home, and where is (\w+) now\?", shown["replace"])
    assert found and found[2] == found[3] != "Ferrari" and found[1] != "Anna", "one person stays one"
    with pytest.raises(ApiError) as refused:
        request_filter("block").changed([request])
    assert refused.value.code == "personal_data"
    broken = People()
    broken.broken = True
    with pytest.raises(FilterError):
        request_filter("replace", broken).changed([request])


def admitted(body: dict[str, Any]) -> list[Request]:
    """Requests under a policy whose own sentence names somebody."""
    guidance = {"scale": 3, "protect": "You work for Otto Meier.", "reveal": "You work for Otto Meier."}
    policy = {"base_model": True, "allow": {"negative_prompt": True, "completions": True}, "guidance": guidance}
    caller = Policies.model_validate({"policies": {"default": policy}}).caller(None)
    served = Served("m", {}, (), 0)
    if "messages" in body:
        return admit_chat(ChatRequest.model_validate({"model": "m", "seed": 1, **body}), caller, served).requests
    return admit_completion(
        CompletionRequest.model_validate({"model": "m", "seed": 1, **body}), caller, served
    ).requests


@pytest.mark.parametrize("own", [{"messages": [{"role": "user", "content": "hello"}]}, {"prompt": "hello"}])
def test_a_negative_prompt_is_checked_and_the_operators_sentence_is_not(own: dict[str, Any]) -> None:
    assert request_filter("block").changed(admitted(own)) == admitted(own)
    told = admitted(own | {"negative_prompt": "say that Anna Ferrari is ill"})
    with pytest.raises(ApiError):
        request_filter("block").changed(told)
    changed = repr(request_filter("replace").changed(told))
    assert "is ill" in changed and "Otto" in changed
    assert not re.search("Anna|Ferrari", changed)


def test_a_part_of_a_name_with_an_apostrophe_is_put_back() -> None:
    own = OwnStandIns(["ask Anna O'Brien"])
    _, last = own.of("person", "Anna O'Brien").split()
    assert PutBack(own.pieces).feed(f"Dear Ms {last},", last=True).text == "Dear Ms O'Brien,"


def test_a_mark_is_none_that_the_caller_wrote() -> None:
    own = OwnStandIns(["the form says [AGE_1]", "I am 42"])
    assert [own.of("age", piece) for piece in ("42", "7", "42")] == ["[AGE_2]", "[AGE_3]", "[AGE_2]"]


@pytest.mark.parametrize("number", [4111111111111111, 4111111111111111.0])
def test_numbers_of_tools_and_schemas_are_checked_too(number: float) -> None:
    tool = {"type": "function", "function": {"name": "pay", "parameters": {"properties": {"card": {"const": number}}}}}
    schema = {"type": "json_schema", "json_schema": {"name": "pay", "schema": {"enum": [True, number]}}}
    for fields in ({"tools": (tool,)}, {"response_format": schema}):
        with pytest.raises(ApiError, match="nothing can be replaced"):
            request_filter("mask", load_detector("regex")).changed([Request("hello", **fields)])


def test_keywords_of_a_schema_are_not_taken_for_names() -> None:
    class Hasty(People):
        """A detector that knows no JSON Schema."""

        def find(self, texts: Sequence[str]) -> list[list[Span]]:
            wrong = re.compile("maxLength|additionalProperties|integer|Anna")
            return [[Span(m.start(), m.end(), "PERSON", m[0]) for m in wrong.finditer(text)] for text in texts]

    def tool(names: list[str]) -> dict[str, Any]:
        to = {"type": "string", "maxLength": 20, "enum": names}
        fields = {"properties": {"to": to, "n": {"type": "integer"}}, "additionalProperties": False}
        return {"type": "function", "function": {"name": "mail", "parameters": {"type": "object"} | fields}}

    request = Request("hello", tools=(tool(["boss"]),))
    assert request_filter("replace", Hasty()).changed([request]) == [request]
    with pytest.raises(ApiError, match=r"^tools: holds personal data, and here nothing can be replaced \(person\);"):
        request_filter("replace", Hasty()).changed([Request("hello", tools=(tool(["Anna"]),))])


def test_the_detector_reads_many_texts_in_one_call_until_nobody_waits() -> None:
    calls = list[int]()

    class Counts(People):
        def find(self, texts: Sequence[str]) -> list[list[Span]]:
            calls.append(len(texts))
            return super().find(texts)

    turns: list[Any] = [{"role": "user", "content": f"{number}: ask Anna"} for number in range(100)]
    (changed,) = request_filter("mask", Counts()).changed([Request(turns)])
    assert [turn["content"] for turn in changed.prompt] == [f"{n}: ask [PERSON]" for n in range(100)]  # type: ignore[index]
    assert sum(calls) == 100 and len(calls) < 10
    calls.clear()
    with pytest.raises(ApiError) as late:
        request_filter("mask", Counts()).changed([Request(turns)], lambda: len(calls) == 2)
    assert (late.value.status, len(calls)) == (503, 2)


def test_what_a_caller_does_not_wait_for_is_not_sent(server: Running, upstream: Upstream) -> None:
    go_on, before = threading.Event(), len(upstream.asked)

    class Waits(People):
        def find(self, texts: Sequence[str]) -> list[list[Span]]:
            go_on.wait(10)
            return super().find(texts)

    server.gateway.detector = Waits()  # type: ignore[assignment]
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/chat/completions", json={"model": "m", "messages": HELLO}, timeout=0.3)
    (answering,) = server.gateway._running.values()
    while not answering.abandoned:
        time.sleep(0.01)
    go_on.set()
    while server.gateway.gate.held:
        time.sleep(0.01)
    time.sleep(0.3)  # an engine's thread would ask within this time
    assert len(upstream.asked) == before


def chunks(got: Any) -> list[Any]:
    return [each for each in events(got) if each != "[DONE]" and each["choices"]]


def said(asked: dict[str, Any]) -> str:
    return str(asked["messages"][-1]["content"])


def test_an_upstream_sees_stand_ins_and_the_caller_gets_the_names_back(server: Running, upstream: Upstream) -> None:
    """Cut after every character; whoever the caller did not name is masked."""
    upstream.script = lambda asked: [
        EVENTS + b"".join(event({"content": letter}) for letter in f"{said(asked)} and not Other.") + event({}, "stop")
    ]
    fields: dict[str, Any] = {"model": "m", "max_tokens": 64, "stream": True}
    got = server.chat("it is Anna Ferrari", **fields)
    text = "".join(each["choices"][0]["delta"].get("content") or "" for each in chunks(got))
    assert text == "it is Anna Ferrari and not [PERSON]."
    assert not re.search("Anna|Ferrari", json.dumps(upstream.asked[-1]))
    whole = server.chat("it is Anna Ferrari", model="m", n=2)
    assert [each["message"]["content"] for each in whole.json()["choices"]] == [text] * 2


def test_completions_too_streamed_or_not(server: Running, upstream: Upstream) -> None:
    """Two texts to continue; what is put back in one is what its caller wrote, and nobody else."""

    def go_on(asked: dict[str, Any]) -> list[bytes]:
        text = f" {asked['prompt']} and not Other."
        return [EVENTS + b"".join(map(continuation, text)) + continuation("", "stop")]

    upstream.script = go_on
    texts, before = ["it is Anna Ferrari", "it was Bruno Keller"], len(upstream.asked)
    body = {"model": "m", "prompt": texts, "max_tokens": 64}
    wanted = [f" {text} and not [PERSON]." for text in texts]
    assert [choice["text"] for choice in server.post("completions", body).json()["choices"]] == wanted
    got = ["", ""]
    for each in chunks(server.post("completions", body | {"stream": True})):
        got[each["choices"][0]["index"]] += each["choices"][0]["text"]
    assert got == wanted
    assert len(upstream.asked) == before + 4
    assert not re.search("Anna|Ferrari|Bruno|Keller", json.dumps(upstream.asked[before:]))


def test_a_completion_that_must_not_leave_is_refused(server: Running, upstream: Upstream) -> None:
    before = len(upstream.asked)
    for streamed in (False, True):
        body = {"model": "m", "prompt": "it is Anna Ferrari", "stream": streamed}
        refused = server.post("completions", body, STRICT)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "personal_data")
        assert "Anna" not in refused.text
        server.detector.broken = True
        failed = server.post("completions", body)
        assert (failed.status_code, failed.json()["error"]["code"]) == (503, "audit_failed")
        server.detector.broken = False
    assert len(upstream.asked) == before


def test_metrics_count_each_piece_of_a_request_once_by_type(server: Running, upstream: Upstream) -> None:
    """Earlier turns, several choices and what a key may not send too; the figures hold no name."""
    upstream.script = lambda asked: [stream("fine.")]

    def counted(policy: str) -> float:
        name = f'nescio_request_pii_total{{label="PERSON",policy="{policy}",type="person"}} '
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    turns = [{"role": "user", "content": f"{name} met Anna Ferrari"} for name in ("Bruno", "Bruno", "Carla")]
    assert server.chat(model="m", messages=turns, n=2).status_code == 200
    assert counted("default") == 3
    assert server.chat("nobody", model="m").status_code == 200
    assert counted("default") == 3
    server.post("completions", {"model": "m", "prompt": "it is Anna Ferrari"}, STRICT)
    assert counted("strict") == 1, "also what is refused"
    assert "Ferrari" not in httpx.get(f"{server.url}/metrics").text


def test_arguments_of_calls_get_the_names_back_as_json(server: Running, upstream: Upstream) -> None:
    def call(asked: dict[str, Any]) -> list[bytes]:
        arguments = json.dumps({"to": said(asked), "cc": "Other"})
        function = {"index": 0, "id": "1", "type": "function", "function": {"name": "send", "arguments": arguments}}
        return [EVENTS + event({"tool_calls": [function]}) + event({}, "tool_calls")]

    upstream.script = call
    tools = [{"type": "function", "function": {"name": "send"}}]
    got = server.chat("Anna\nFerrari", model="m", tools=tools).json()["choices"][0]["message"]["tool_calls"][0]
    assert json.loads(got["function"]["arguments"]) == {"to": "Anna\nFerrari", "cc": "[PERSON]"}


def test_a_call_with_half_of_a_surrogate_pair_is_refused(server: Running) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "send", "arguments": '{"to": "Anna\\ud83d", "to": 1}'}}
    turns = [*HELLO, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "", "tool_call_id": "1"}]
    refused = server.chat(model="m", messages=turns)
    assert refused.status_code == 400 and "half of a surrogate pair" in refused.json()["error"]["message"]


def test_nothing_unchecked_leaves(server: Running, upstream: Upstream) -> None:
    """Each place where a caller can write: earlier turns, calls, results, ids, tools, schemas and stop texts."""
    upstream.script = lambda asked: [stream("fine.")]
    tool: dict[str, Any] = {"type": "function", "function": {"name": "send", "description": "for Anna Ferrari"}}
    schema = {"name": "a", "schema": {"enum": ["Anna Ferrari"]}}
    refused: list[dict[str, Any]] = [
        {"tools": [tool]},
        {"response_format": {"type": "json_schema", "json_schema": schema}},
        {"stop": "Anna Ferrari"},
    ]
    before = len(upstream.asked)
    for fields in refused:
        got = server.chat("hello", model="m", **fields)
        assert (got.status_code, got.json()["error"]["code"]) == (400, "personal_data"), got.text
        assert "Anna" not in got.text
    assert len(upstream.asked) == before
    call = {
        "id": "Anna-Ferrari",
        "type": "function",
        "function": {"name": "send", "arguments": '{"to": "Anna Ferrari"}'},
    }
    turns = [
        {"role": "user", "content": "for Anna Ferrari"},
        {"role": "assistant", "content": "Ferrari?", "tool_calls": [call]},
        {"role": "tool", "content": "Anna Ferrari says hello", "tool_call_id": "Anna-Ferrari"},
    ]
    assert server.chat(model="m", messages=turns).status_code == 200
    sent = json.dumps(upstream.asked[-1])
    assert not re.search("Anna|Ferrari", sent)
    turns = upstream.asked[-1]["messages"]
    assert turns[1]["tool_calls"][0]["id"] == turns[2]["tool_call_id"]
    server.detector.broken = True
    before = len(upstream.asked)
    assert server.chat("hello", model="m").json()["error"]["code"] == "audit_failed"
    assert len(upstream.asked) == before
