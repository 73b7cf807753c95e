"""Answers from an endpoint, piece by piece."""

import json
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
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
