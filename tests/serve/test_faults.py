"""Faults in many streams at once: a broken detector, engine or upstream, or a caller who leaves, lets nothing out that
was not checked, and all comes back to where it was."""

import asyncio
import gc
import json
import random
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest
import yaml
from running import Letters, Running
from says import Says
from upstream import EVENTS, continuation, event, running_upstream

from nescio.engines.base import Answer, BrokenError, Piece, Request, Stream
from nescio.engines.openai_engine import OpenAIEngine
from nescio.pii.base import Span
from nescio.serve import gateway
from nescio.serve.checker import Checker
from nescio.serve.detection import ServingDetector
from nescio.serve.errors import ApiError
from nescio.serve.gateway import Gateway
from nescio.serve.policy import Policies
from nescio.serve.served import Served

POLICIES = """
policies:
  default:
    base_model: true
    audit: mask
    allow: {tools: true, completions: true}
    limits: {choices: 2}
"""
NAMES = ("ANNABELLE", "FERRARINI", "BARTHOLOMEW")
# Six letters of a name on end; the id of a call, nine random letters and digits, has none.
NAME = re.compile("|".join(name[at : at + 6] for name in NAMES for at in range(len(name) - 5)))
WORDS = ["we know", "ANNABELLE", "and", "FERRARINI", "well.", "So it is,", "or", "BARTHOLOMEW", "said\n", "no. "]
TOOL = {"name": "mail", "parameters": {"type": "object"}}
PLACES = ["chat/completions", "responses", "completions"]
DETECTOR = ("raises", "is slow", "hangs")  # the words stand in the text that it reads
FAULTS = {"none": 6, "raises": 6, "is slow": 4, "hangs": 0.3, "cuts": 6, "stops": 0.3, "garbage": 2, "leaves": 6}
ENDS = {"raises": {"audit_failed"}, "hangs": {"audit_failed"}, "leaves": {"left", "whole"}}
BROKEN = {"whole", "upstream_failed", "upstream_timeout", "engine_error"}  # whole: it broke after the answer's end
PATIENCE, TIMEOUT, HANGS = 1.5, 3.0, 4.0  # seconds: of the detector, of an upstream, and of what hangs


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request, its answer, and what goes wrong with it."""

    number: int
    place: str
    streamed: bool
    n: int
    fault: str
    text: str
    arguments: str | None
    at: float  # share of the upstream's body, or of what the caller reads

    @classmethod
    def drawn(cls, number: int) -> "Case":
        chance = random.Random(number)
        place = chance.choice(PLACES)
        fault = chance.choices([*FAULTS], [*FAULTS.values()])[0]
        words, passed = (chance.choices(WORDS, k=chance.randint(1, most)) for most in (25, 4))
        with_tools = place != "completions" and chance.random() < 0.3
        if fault in DETECTOR:
            (passed if with_tools and chance.random() < 0.5 else words).append(fault)
        return cls(
            number=number, place=place, streamed=chance.random() < 0.6, fault=fault, text=" ".join(words),
            n=1 if place == "responses" else chance.randint(1, 2),
            arguments=json.dumps({"to": " ".join(passed)}) if with_tools else None, at=chance.random(),
        )  # fmt: skip

    @property
    def body(self) -> dict[str, Any]:
        """The request; its question tells which case it is."""
        question = f"case {self.number}"
        more: dict[str, Any] = {
            "completions": {"prompt": question, "max_tokens": 64, "n": self.n},
            "responses": {"input": question, "tools": [{"type": "function", **TOOL}] if self.arguments else []},
            "chat/completions": {"messages": [{"role": "user", "content": question}], "n": self.n}
            | ({"tools": [{"type": "function", "function": TOOL}]} if self.arguments else {}),
        }[self.place]
        return {"model": "tiny", "stream": self.streamed} | more


def asked_for(question: Any) -> Case:
    return Case.drawn(int(re.findall(r"case (\d+)", str(question))[-1]))


def upstreams(asked: dict[str, Any]) -> list[bytes | float]:
    """The bytes with which an upstream answers a case, up to its fault."""
    case = asked_for(asked.get("messages") or asked["prompt"])
    chance = random.Random(case.number)
    pieces = re.findall(f".{{1,{chance.randint(1, 9)}}}", case.text, re.DOTALL)
    if case.place == "completions":
        events = [*map(continuation, pieces), continuation("", "stop")]
    else:
        events = [event({"content": piece}) for piece in pieces]
        for place, part in enumerate(re.findall(".{1,7}", case.arguments or "")):
            function = {"arguments": part} | ({"name": "mail"} if not place else {})
            events.append(event({"tool_calls": [{"index": 0, "function": function}]}))
        events.append(event({}, "tool_calls" if case.arguments else "stop"))
    if case.fault == "garbage":
        events.insert(int(case.at * len(events)), chance.choice([b"data: {ANNABELLE\n\n", b'data: ["ANNABELLE"]\n\n']))
    body = EVENTS + b"".join(events) + b"data: [DONE]\n\n"
    at = int(case.at * len(body))
    if case.fault == "cuts":
        return [body[:at]]
    return [body[:at], HANGS] if case.fault == "stops" else [body[:at], body[at:]]


class Here(Says):
    """An engine in this process that says the same, piece by piece, and breaks likewise."""

    def submit(self, request: Request) -> Stream:
        case = asked_for(request.prompt if isinstance(request.prompt, str) else request.prompt[-1]["content"])
        stream = Stream()

        def answer() -> None:
            call = f'<tool_call>{{"name": "mail", "arguments": {case.arguments}}}</tool_call>' if case.arguments else ""
            pieces = re.findall(".{1,5}", case.text + call, re.DOTALL)
            for place, piece in enumerate(pieces):
                if case.fault in ("cuts", "stops", "garbage") and place == int(case.at * len(pieces)):
                    time.sleep(HANGS if case.fault == "stops" else 0)
                    stream.end(BrokenError("generating failed", RuntimeError("ANNABELLE")))
                    return
                stream.put(Piece(piece, [1]))
            stream.end(Answer(case.text + call, [1] * len(pieces), "stop", prompt_tokens=3))

        threading.Thread(target=answer, daemon=True).start()
        return stream


class Faulty(Letters):
    """Does what a text says."""

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        whole = "\n".join(texts)
        if "raises" in whole:
            raise RuntimeError("out of memory")
        time.sleep(HANGS if "hangs" in whole else 0.02 if "is slow" in whole else 0)
        return super().find(texts)


async def one(client: httpx.AsyncClient, case: Case) -> str:
    """Send a case; check all that came; return how it ended."""
    raw, left = b"", False
    async with client.stream("POST", f"/v1/{case.place}", json=case.body) as response:
        async for part in response.aiter_bytes():
            raw += part
            if case.fault == "leaves" and len(raw) > case.at * 3000:
                left = True
                break
    sent = raw.decode(errors="ignore")
    assert not NAME.search(sent), (case, sent)
    is_stream = response.headers["content-type"].startswith("text/event-stream")
    end, said = read(sent) if is_stream else read_whole(sent)
    want = {"text": case.text, "arguments": case.arguments or ""}
    for (_, kind), text in said.items():
        masked = re.sub("[A-Z]+", "[PII]", want[kind])
        assert masked == text if end == "whole" else masked.startswith(text), (case, sent)
    if end == "whole":
        assert len(said) == case.n * (2 if case.arguments else 1), (case, sent)
    return "left" if left and end == "cut" else end


def read(sent: str) -> tuple[str, dict[tuple[int, str], str]]:
    """How a stream ended, and what it said: the text and the arguments of each choice."""
    said, end = defaultdict[tuple[int, str], str](str), "cut"
    for line in sent.split("\n\n")[:-1]:
        assert end == "cut", "nothing follows the end"
        data = line.rpartition("data: ")[2]
        if data == "[DONE]":
            end = "whole"
            continue
        body = json.loads(data)
        kind = body.get("type", "")
        if "error" in body or kind == "error":
            end = (body.get("error") or body)["code"]
        elif kind == "response.completed":
            end = "whole"
        elif kind.endswith(".delta"):
            said[0, "text" if "text" in kind else "arguments"] += body["delta"]
        for choice in body.get("choices", ()):
            delta = choice.get("delta", choice)
            said[choice["index"], "text"] += delta.get("text") or delta.get("content") or ""
            for call in delta.get("tool_calls") or ():
                said[choice["index"], "arguments"] += call["function"].get("arguments", "")
    return end, dict(said)


def read_whole(sent: str) -> tuple[str, dict[tuple[int, str], str]]:
    """The same of an answer in one body."""
    if not sent:
        return "cut", {}
    try:
        body = json.loads(sent)
    except ValueError:
        return "cut", {}
    if "choices" not in body and "output" not in body:
        return body["error"]["code"], {}
    said = {}
    for item in body.get("output", ()):
        is_text = item["type"] == "message"
        said[0, "text" if is_text else "arguments"] = item["content"][0]["text"] if is_text else item["arguments"]
    for choice in body.get("choices", ()):
        message = choice.get("message", choice)
        said[choice["index"], "text"] = message.get("content") or message.get("text") or ""
        for call in message.get("tool_calls") or ():
            said[choice["index"], "arguments"] = call["function"]["arguments"]
    return "whole", said


async def storm(url: str, numbers: range) -> list[tuple[str, str]]:
    """The fault of each case, and how it ended."""
    limit = asyncio.Semaphore(16)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=httpx.Limits(max_connections=None)) as client:

        async def bounded(case: Case) -> tuple[str, str]:
            async with limit:
                return case.fault, await one(client, case)

        return await asyncio.gather(*(bounded(Case.drawn(number)) for number in numbers))


@pytest.fixture(params=["upstream", "here"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    with ExitStack() as stack:
        if request.param == "here":
            running = Running(Here(), POLICIES + "    guidance: {scale: 1}\n", rows=16, queue=64)
        else:
            url = stack.enter_context(running_upstream(upstreams)).url
            engine = OpenAIEngine("tiny", url, None, timeout=TIMEOUT, retries=0)
            running = Running(engine, POLICIES, rows=16, queue=64, upstream="tiny")
        monkeypatch.setattr("nescio.serve.detection.load_detector", lambda name, **settings: Faulty())
        running.gateway.detector = ServingDetector("faulty", patience=PATIENCE)
        yield running
        running.stop()


def back(server: Running, threads: int) -> bool:
    """Whether all rows are free, and no thread is left behind."""
    deadline = time.monotonic() + 30
    while (server.gateway.gate.held or threading.active_count() > threads) and time.monotonic() < deadline:
        time.sleep(0.05)
    return (server.gateway.gate.held, server.gateway.gate.waiting) == (0, 0) and threading.active_count() <= threads


@pytest.mark.parametrize("streams", [200, pytest.param(5000, marks=pytest.mark.slow)])
def test_nothing_unchecked_leaves(server: Running, streams: int) -> None:
    asyncio.run(storm(server.url, range(10**6, 10**6 + 100)))  # what is made once is made by now
    gc.collect()
    memory, threads = psutil.Process().memory_info().rss, threading.active_count()
    became = asyncio.run(storm(server.url, range(streams)))
    for fault, end in became:
        # While the detector hangs for one, others may lose their patience.
        expected = ENDS.get(fault, {"whole"} if fault in ("none", "is slow") else BROKEN) | {"audit_failed"}
        assert end in expected, (fault, end, Counter(became))
    seen = Counter(became)
    assert {fault for fault, _ in seen} >= FAULTS.keys() - {"hangs", "stops"}
    assert seen["none", "whole"] > 0.5 * sum(count for (fault, _), count in seen.items() if fault == "none")
    assert back(server, threads + 4)
    gc.collect()
    assert psutil.Process().memory_info().rss - memory < 100 * 2**20


def test_a_filter_that_sends_what_has_come_is_caught(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def unchecked(checker: Checker, text: str, asked: str = "") -> list[Any]:
        return []

    monkeypatch.setattr(Checker, "find", unchecked)
    with pytest.raises(AssertionError):
        asyncio.run(storm(server.url, range(20)))


class Deaf(Says):
    """Never answers, and can't be cancelled."""

    def submit(self, request: Request) -> Stream:
        return Stream()


def test_an_answer_that_never_comes_does_not_keep_the_server_from_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_CLOSING", 0.1)
    server = Running(Deaf(), POLICIES)
    with pytest.raises(httpx.ReadTimeout):
        body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}
        httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=0.5)
    server.stop()


@pytest.mark.parametrize("end", [TimeoutError, asyncio.CancelledError])
def test_rows_that_come_as_the_wait_for_them_ends_go_back(
    end: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ends_as_they_come(queued: Any, seconds: float) -> None:
        await queued
        raise end

    async def scene() -> None:
        policies = Policies.model_validate(yaml.safe_load(POLICIES))
        served = Served("tiny", {}, (), 0)
        door = Gateway(engine=Says(), served=served, policies=policies, detector=Letters(), rows=1, queue=1)
        await door.gate.acquire(1)
        monkeypatch.setattr(asyncio, "wait_for", ends_as_they_come)  # as that of Python 3.12 may
        answering: Any = SimpleNamespace(queued=None, abandoned=False)
        waiting = asyncio.ensure_future(door._rows(1, 5.0, answering))
        await asyncio.sleep(0)
        door.gate.release(1)
        with pytest.raises((ApiError, asyncio.CancelledError)):
            await waiting
        assert (door.gate.held, door.gate.waiting) == (0, 0)

    asyncio.run(scene())


class OneByOne(Says):
    """Answers one choice at once, and the second when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.streams: list[Stream] = []

    def submit(self, request: Request) -> Stream:
        stream = Stream()
        self.streams.append(stream)  # by two threads at once
        if stream is self.streams[0]:
            self.answer(stream, "we know all.")
        return stream

    def answer(self, stream: Stream, text: str) -> None:
        stream.put(Piece(text, [1]))
        stream.end(Answer(text, [1], "stop", prompt_tokens=3))


@pytest.mark.parametrize("fails", [False, True])
def test_a_choice_that_waits_for_rows_holds_up_no_other(fails: bool) -> None:
    engine = OneByOne()
    server = Running(engine, POLICIES, rows=2)  # a guided choice takes both
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "n": 2, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=20) as response:
        lines = response.iter_lines()
        assert next(line for line in lines if "we know all." in line)
        while len(engine.streams) < 2:
            time.sleep(0.01)
        if fails:
            engine.streams[1].end(BrokenError("generating failed", RuntimeError("ANNABELLE")))
        else:
            engine.answer(engine.streams[1], "and more.")
        rest = "".join(lines)
    server.stop()
    assert ("engine_error" in rest, "and more." in rest and "[DONE]" in rest) == (fails, not fails)
