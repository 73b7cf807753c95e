"""Answers from an endpoint, piece by piece."""

import json
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from endpoint import ANSWER, running
from upstream import EVENTS, running_upstream, stream

import nescio
from nescio.core.errors import NescioError
from nescio.core.guidance import PROTECT, Guidance
from nescio.core.prompts import Message
from nescio.engines.base import Request, UnansweredError
from nescio.engines.openai_answer import EventReader
from nescio.engines.openai_engine import OpenAIEngine

ASKED = Request([{"role": "user", "content": "Who?"}], max_tokens=400)


def test_a_stream_left_early_is_paid_no_further() -> None:
    with running(answer=f"{ANSWER} " * 20) as endpoint:
        pieces = OpenAIEngine("m", endpoint.url, key_env=None).stream(ASKED)
        assert next(pieces) == "Somebody "
        pieces.close()  # type: ignore[attr-defined]
        assert endpoint.left.wait(5), "the endpoint went on answering"
        assert endpoint.answered == Counter()


def test_a_stream_is_the_whole_answer() -> None:
    with running() as endpoint:
        assert "".join(OpenAIEngine("m", endpoint.url, key_env=None).stream(ASKED)).split() == ANSWER.split()


@pytest.mark.parametrize(
    ("guidance", "sentence"),
    [(None, None), (Guidance(), PROTECT), (Guidance(positive="Hush."), "Hush."), (Guidance(positive=""), None)],
)
def test_the_protect_sentence_is_that_of_every_engine(guidance: Guidance | None, sentence: str | None) -> None:
    with running() as endpoint:
        OpenAIEngine("m", endpoint.url, key_env=None).generate([replace(ASKED, guidance=guidance)])
    ((sent, _),) = map(json.loads, endpoint.came)
    assert [turn["content"] for turn in sent if turn["role"] == "system"] == ([sentence] if sentence else [])


def refuses(name: str, message: str) -> Callable[[dict[str, Any]], str | None]:
    return lambda asked: message if name in asked else None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "temperature",
            "Unsupported value: 'temperature' does not support 0 with this model. Only the default is.",
        ),
        ("seed", "Unrecognized request argument supplied: seed"),
        ("top_p", "[{'type': 'extra_forbidden', 'loc': ['body', 'top_p'], 'msg': 'Extra inputs are not permitted'}]"),
        ("stop", "stop is not supported by this model"),
        ("top_p", "Argument not supported on this model: top_p"),
        ("seed", "Unsupported parameter(s): `seed`"),
        ("temperature", "Setting 'temperature' is not currently supported"),
        ("seed", "Extra inputs are not permitted, field: 'seed', value: 0"),
    ],
)
def test_a_parameter_that_an_endpoint_refuses_is_left_out_and_said_once(
    name: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with running(refuse=refuses(name, message)) as endpoint:
        engine = OpenAIEngine("m", endpoint.url, key_env=None)
        asked = [replace(ASKED, seed=seed, stop=("desk",)) for seed in range(4)]
        answers = engine.generate(asked)
        came = sum(endpoint.came.values())
        engine.generate(asked)
    assert len(answers) == 4
    assert sum(endpoint.came.values()) - came == 4, "the refused parameter was sent again"
    assert [record for record in caplog.messages if f"{name} is left out" in record and message in record] != []
    assert len(caplog.messages) == 1
    if name == "stop":
        assert answers[0].text == ANSWER[: ANSWER.index("desk")], "a stop text that can't be sent is cut here"


COOK = {"type": "function", "function": {"name": "cook", "parameters": {"properties": {"temperature": {}}}}}


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("Invalid schema for function 'cook': temperature is not permitted here", None),
        ("Invalid schema for function 'cook': temperature is not permitted here", "tools[0].function.parameters"),
        ("Unsupported schema: the seed of all evil, and no temperature", None),
        ("Unknown model. Set the temperature of another one", "None"),
    ],
)
def test_a_word_in_a_message_about_something_else_is_no_parameter(message: str, param: str | None) -> None:
    body = json.dumps({"error": {"message": message, "param": param}})
    head = f"HTTP/1.1 400 X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with running_upstream(lambda asked: [(head + body).encode()]) as upstream:
        engine = OpenAIEngine("m", upstream.url, key_env=None)
        with pytest.raises(UnansweredError, match="HTTP 400"):
            engine.generate([replace(ASKED, tools=(COOK,))])
        upstream.script = lambda asked: [stream("Hello.")]
        assert engine.submit(replace(ASKED, tools=(COOK,))).answer.text == "Hello."
        assert upstream.asked[-1].keys() >= {"temperature", "seed"}, "for all others it is sent as before"


def cook(name: str = "cook", **parameters: Any) -> dict[str, Any]:
    function = {"name": name, "description": "Sets the temperature.", "parameters": parameters}
    return {"type": "function", "function": function}


def called(**function: str) -> dict[str, Any]:
    """A conversation with a call."""
    calls = [{"id": "1", "type": "function", "function": {"name": "cook", "arguments": "{}"} | function}]
    return {"prompt": [*ASKED.prompt, {"role": "assistant", "content": "", "tool_calls": calls}, *ASKED.prompt]}


REFUSED = "Unknown name: temperature"
SCHEMA = {"properties": {"oven": {"type": "object", "properties": {"temperature": {}}}}}


@pytest.mark.parametrize(
    ("fields", "is_name"),
    [
        ({"tools": (cook("temperature"),)}, True),
        ({"tools": (cook(properties={"oven temperature": {}}),)}, True),
        ({"tools": (cook(required=["temperature"]),)}, True),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "cook", "schema": SCHEMA}}}, True),
        (called(name="temperature"), True),
        (called(arguments='{"temperature": 180}'), True),
        ({"stop": ("temperature:",)}, True),
        ({"tools": (cook(properties={"oven": {"description": "Its temperature."}}),)}, False),
        (called(arguments='{"text": "the temperature"}'), False),
        (called(arguments="no JSON: temperature"), False),
    ],
)
def test_what_a_caller_names_himself_is_no_parameter(fields: dict[str, Any], is_name: bool) -> None:
    """What he only speaks of, as in a description, may be one."""
    with running(refuse=refuses("temperature", REFUSED)) as endpoint:
        engine = OpenAIEngine("m", endpoint.url, key_env=None)
        if is_name:
            with pytest.raises(UnansweredError, match=REFUSED):
                engine.generate([replace(ASKED, **fields)])
        else:
            assert engine.generate([replace(ASKED, **fields)])[0].text == ANSWER


@pytest.mark.parametrize(
    ("param", "name"),
    [
        ("temperature", "temperature"),
        ("body.temperature", "temperature"),
        ("stream_options.include_usage", "stream_options"),
    ],
)
def test_the_parameter_that_a_refusal_points_to_is_left_out(param: str, name: str) -> None:
    body = json.dumps({"error": {"message": f"Unknown parameter: '{param}'.", "param": param}})
    head = f"HTTP/1.1 400 X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    refusal = (head + body).encode()
    with running_upstream(lambda asked: [refusal if name in asked else stream("Hello.")]) as upstream:
        assert OpenAIEngine("m", upstream.url, key_env=None).submit(ASKED).answer.text == "Hello."


def test_a_stream_ends_at_a_stop_text_that_an_endpoint_refuses(caplog: pytest.LogCaptureFixture) -> None:
    """And what may become one waits: the pieces are those of the answer, and all of it where none comes."""
    with running(refuse=refuses("stop", "stop is not supported by this model")) as endpoint:
        engine = OpenAIEngine("m", endpoint.url, key_env=None)
        for stop in ("desk", ANSWER[3:9], ANSWER[-2:], "desks", f"{ANSWER}!", "never"):
            stream = engine.submit(replace(ASKED, stop=(stop, f"{stop}?")))
            text = "".join(piece.text for piece in stream)
            whole = f"{ANSWER} "  # the test's stream ends in a space
            assert text == stream.answer.text == whole[: whole.find(stop) if stop in whole else None]
            assert stream.answer.finish == "stop"
    assert "stop is left out" in caplog.text and "not supported" not in caplog.text, "a server logs no upstream's words"


def test_max_tokens_is_sent_under_the_name_that_the_endpoint_wants(caplog: pytest.LogCaptureFixture) -> None:
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    limits = []

    def refuse(asked: dict[str, Any]) -> str | None:
        limits.append(asked.get("max_completion_tokens"))
        return said if "max_tokens" in asked else None

    with running(refuse=refuse) as endpoint:
        assert OpenAIEngine("m", endpoint.url, key_env=None).generate([ASKED])[0].text == ANSWER
    assert limits == [None, 400], "the limit is never left out"
    assert len(caplog.messages) == 1


LONG: Message = {"role": "user", "content": 300_000 * "a"}


@pytest.mark.parametrize(
    ("message", "quoted"),
    [
        ("temperature must be at most 1", "temperature must be at most 1"),
        ("max_tokens is too large for sk-abc123", "max_tokens is too large for …"),
        ("cannot parse 'My name is Anna Ferrari'", "cannot parse '…'"),
        ("'is Anna Ferrari', not 'name is Anna'; of Geneva?", "'…', not '…'; of Geneva?"),
        ("My name is Anna Ferrari of 12", "… 12"),
        (f"too long: {1000 * 'a'}", "too long: …"),
    ],
)
def test_what_a_server_says_is_quoted_without_key_and_prompt(message: str, quoted: str) -> None:
    request = Request([{"role": "user", "content": "My name is\nAnna  Ferrari of"}, LONG])
    with running(refuse=lambda asked: message) as endpoint:
        engine = OpenAIEngine("m", endpoint.url, key_env=None)
        with pytest.raises(UnansweredError, match=re.escape(f"HTTP 400 (it says: {quoted})")):
            engine.generate([request])
    assert sum(endpoint.came.values()) == 1, "a refused value is no refused parameter"


def test_tokens_are_estimated_where_an_endpoint_does_not_count_them(caplog: pytest.LogCaptureFixture) -> None:
    with running(counts=False) as endpoint:
        engine = OpenAIEngine("m", endpoint.url, key_env=None)
        answers = engine.generate([ASKED, replace(ASKED, seed=1)])
        streamed = engine.submit(ASKED).answer
    tokens = math.ceil(len(ANSWER) / 4)
    assert [(answer.prompt_tokens, answer.answer_tokens) for answer in answers] == [(3, tokens)] * 2
    assert abs((streamed.answer_tokens or 0) - tokens) <= 1  # the test's stream ends in a space
    assert len([message for message in caplog.messages if "estimated" in message]) == 1


def test_an_endpoint_refuses_by_name_what_it_cannot_do(tmp_path: Path) -> None:
    with OpenAIEngine("m", "http://127.0.0.1:9/v1", key_env=None) as engine:
        with pytest.raises(NescioError, match="can't guide"):
            engine.chat([{"role": "user", "content": "Who?"}], nescio.Guidance(3.0))
        with pytest.raises(NescioError, match="no likelihoods"):
            engine.score("a", "b")
        with pytest.raises(NescioError, match="takes no adapters"):
            engine.load_adapter("x", tmp_path)
    assert engine.closed


def test_an_answer_in_parts_is_their_text() -> None:
    parts: Any = [
        {"type": "thinking", "thinking": []},
        {"type": "text", "text": "Hello "},
        {"type": "text", "text": "you"},
    ]
    with running(answer=parts) as endpoint:
        assert OpenAIEngine("m", endpoint.url, key_env=None).generate([ASKED])[0].text == "Hello you"


def test_json_under_another_name_is_read() -> None:
    body = json.dumps({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]})
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with running_upstream(lambda asked: [(head + body).encode()]) as upstream:
        assert OpenAIEngine("m", upstream.url, key_env=None).generate([ASKED])[0].text == "Hello"


class KeepsConnections(ThreadingHTTPServer):
    """Streams in chunks over connections that stay open, and counts them; `hangs` after an answer until it is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Chunks)
        self.opened, self.hangs = 0, threading.Event()
        self.hangs.set()


class _Chunks(BaseHTTPRequestHandler):
    server: KeepsConnections
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.opened += 1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        body = stream("Hello ", "there.").removeprefix(EVENTS)
        self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
        time.sleep(0.02)  # the end of the body comes apart from [DONE]
        self.server.hangs.wait(10)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *arguments: Any) -> None:
        """Nothing on the terminal."""


@contextmanager
def keeping() -> Iterator[KeepsConnections]:
    with KeepsConnections() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.hangs.set()
        server.shutdown()


def test_streams_share_connections() -> None:
    with keeping() as server:
        engine = OpenAIEngine("m", f"http://127.0.0.1:{server.server_port}/v1", None)
        for _ in range(10):
            assert engine.submit(ASKED).answer.text == "Hello there."
            time.sleep(0.1)  # for what follows an answer's end
        assert server.opened == 1, "one after the other"
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda _: (engine.submit(ASKED).answer, time.sleep(0.1)), range(40)))
        assert len(answers) == 40 and server.opened <= 4 + 1, "four at a time"


def test_an_answer_does_not_wait_for_what_follows_its_end() -> None:
    with keeping() as server:
        engine = OpenAIEngine("m", f"http://127.0.0.1:{server.server_port}/v1", None)
        server.hangs.clear()
        start = time.monotonic()
        assert engine.submit(ASKED).answer.text == "Hello there."
        assert time.monotonic() - start < 5


def test_events_are_read_however_their_bytes_are_cut() -> None:
    sent = (
        ': hello\r\n\r\nevent: x\ndata: {"é": "\u2028"}\n\ndata:[1,\r\ndata: 2]\r\n\r\n\n\ndata: unfinished\n'.encode()
    )
    whole = ['{"é": "\u2028"}', "[1,\n2]"]
    cuts = [[sent[:at], sent[at:]] for at in range(len(sent))]
    for pieces in (*cuts, [bytes([each]) for each in sent]):
        reader = EventReader()
        assert [event for piece in pieces for event in reader.feed(piece)] == whole
