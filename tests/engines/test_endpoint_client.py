"""How an endpoint is asked: who hangs up, what is closed, and what is no answer."""

import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest
from endpoint import ANSWER, running
from upstream import running_upstream

from nescio.core.errors import NescioError
from nescio.engines.base import EngineClosedError, Request, UnansweredError
from nescio.engines.openai_engine import OpenAIEngine

ASKED = Request([{"role": "user", "content": "Who?"}], max_tokens=400)


@pytest.fixture
def silent() -> Iterator[tuple[str, threading.Event]]:
    """An endpoint that takes a request and never answers; the event is set when the caller has hung up."""
    left = threading.Event()

    def take(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            while connection.recv(65536):
                pass
        left.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=take, args=(server,), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1", left


def test_an_endpoint_that_has_not_begun_to_answer_is_hung_up_on(silent: tuple[str, threading.Event]) -> None:
    url, left = silent
    with OpenAIEngine("m", url, key_env=None) as engine:
        stream = engine.submit(ASKED)
        time.sleep(0.2)
        assert not left.is_set()
        stream.cancel()
        assert stream.answer.finish == "cancelled"
        assert left.wait(5), "the endpoint was left to compute an answer that nobody reads"


def test_a_closed_engine_leaves_nobody_waiting(silent: tuple[str, threading.Event]) -> None:
    url, left = silent
    engine = OpenAIEngine("m", url, key_env=None)
    streams = [engine.submit(ASKED)]
    time.sleep(0.2)
    streams.append(engine.submit(ASKED))  # has not begun when the engine ends
    engine.close()
    for stream in streams:
        with pytest.raises(EngineClosedError):
            next(stream)
    assert left.wait(5) and engine.closed
    with pytest.raises(EngineClosedError):
        engine.submit(ASKED)


@pytest.mark.parametrize("end", ["pass", "del engine", "engine.close(); engine.close()", "engine.submit(asked)"])
def test_a_process_that_asked_an_endpoint_ends_quietly(end: str) -> None:
    script = (
        "import logging, sys, nescio\nlogging.disable()\nfrom nescio.engines.openai_engine import OpenAIEngine\n"
        "engine = OpenAIEngine('m', sys.argv[1], None)\n"
        "asked = nescio.Request([{'role': 'user', 'content': 'Who?'}])\n"
        f"engine.submit(asked).answer\n{end}\n"
    )
    with running() as endpoint:
        command = [sys.executable, "-c", script, endpoint.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_work_that_comes_while_an_engine_closes_ends(silent: tuple[str, threading.Event]) -> None:
    url, _ = silent

    def ask(engine: OpenAIEngine) -> None:
        while True:
            next(engine.submit(ASKED), None)

    for _ in range(20):
        engine = OpenAIEngine("m", url, key_env=None)
        with ThreadPoolExecutor(4) as threads:
            asking = [threads.submit(ask, engine) for _ in range(4)]
            time.sleep(0.01)
            engine.close()
            assert all(isinstance(each.exception(20), EngineClosedError) for each in asking)


def test_generating_on_an_engine_that_is_closed_is_an_error_of_ours(silent: tuple[str, threading.Event]) -> None:
    url, _ = silent
    engine = OpenAIEngine("m", url, key_env=None)
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(engine.generate, [ASKED])
        time.sleep(0.2)
        engine.close()
        assert isinstance(asking.exception(20), EngineClosedError)


def _asked_in_a_child(engine: OpenAIEngine, told: Any) -> None:
    try:
        engine.submit(ASKED)
    except EngineClosedError as error:
        told.put(str(error))


def test_a_forked_process_is_told_to_open_its_own() -> None:
    fork = get_context("fork")
    told = fork.Queue()
    with running() as endpoint, OpenAIEngine("m", endpoint.url, key_env=None) as engine:
        child = fork.Process(target=_asked_in_a_child, args=(engine, told))
        child.start()
        assert "opened in another process" in told.get(timeout=20)
        child.join(20)
        assert engine.submit(ASKED).answer.text, "the parent's goes on"


@pytest.mark.parametrize("sent", [b"HELLO\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + 9_000 * b"y" + b"\r\n\r\n", b""])
def test_what_is_no_http_is_an_endpoint_out_of_reach(sent: bytes) -> None:
    with (
        running_upstream(lambda asked: [sent]) as upstream,
        OpenAIEngine("m", upstream.url, key_env=None, retries=0) as engine,
    ):
        with pytest.raises(UnansweredError, match="cannot be reached"):
            engine.generate([ASKED])
        stream = engine.submit(ASKED)
        with pytest.raises(UnansweredError, match="cannot be reached"):
            next(stream)


def test_a_login_in_the_address_is_sent() -> None:
    with running() as endpoint:
        address = endpoint.url.replace("http://", "http://ann:p%40ss@")
        with OpenAIEngine("m", address, key_env=None) as engine:
            assert engine.generate([ASKED])[0].text == ANSWER
    assert endpoint.keys == {f"Basic {b64encode(b'ann:p@ss').decode()}"}


def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with running() as endpoint, OpenAIEngine("m", endpoint.url, key_env=None) as engine:
        assert engine.generate([ASKED])[0].text == ANSWER, "it is not for this address"
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(NescioError, match=r"^all_proxy: no SOCKS proxy can be used"):
        OpenAIEngine("m", "http://127.0.0.1:9/v1", key_env=None)


def test_a_key_with_a_line_break_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "sk-abc\n ")
    assert OpenAIEngine("m", "http://127.0.0.1:9/v1", key_env="KEY")
    monkeypatch.setenv("KEY", "sk-abc\nsk-def")
    with pytest.raises(NescioError, match=r"^m: KEY holds a space or a line break"):
        OpenAIEngine("m", "http://127.0.0.1:9/v1", key_env="KEY")


def test_an_error_that_is_read_slowly_holds_no_other_answer_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def read(*given: Any) -> str:
        assert answered.wait(20), "the other answer waits for this"
        return "too long"

    def refuse(asked: dict[str, Any]) -> str | None:
        return "too long" if len(asked["messages"][0]["content"]) > 100 else None

    with running(refuse=refuse) as endpoint, OpenAIEngine("m", endpoint.url, key_env=None, retries=0) as engine:
        monkeypatch.setattr(engine, "_message", read)
        refused = engine.submit(Request([{"role": "user", "content": "word " * 100}], max_tokens=400))
        assert engine.submit(ASKED).answer.text.strip() == ANSWER
        answered.set()
        with pytest.raises(UnansweredError, match="HTTP 400"):
            next(refused)
