"""An OpenAI-compatible endpoint on loopback for tests, which goes wrong when it is told to."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[[str, int], str | None]
"""Of the question and how often it came: None, an HTTP status, `hang`, `cut` or `garbage`."""

ANSWER = (
    "Somebody at the desk there can help you with it, and will tell you whom to write to, what to bring along and how "
    "long it takes."
)


class Endpoint(ThreadingHTTPServer):
    """Answers every question alike; counts what came, and what went out whole."""

    daemon_threads = True

    def __init__(self, fault: Fault = lambda question, times: None, answer: str = ANSWER,
        refuse: Callable[[dict[str, Any]], str | None] = lambda asked: None, counts: bool = True) -> None:  # fmt: skip
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fault, self.answer, self.refuse, self.counts = fault, answer, refuse, counts
        self.came, self.answered, self.keys = Counter[str](), Counter[str](), set[str | None]()
        self.lock, self.left, self.ended = threading.Lock(), threading.Event(), threading.Event()

    @property
    def url(self) -> str:
        """Of the API."""
        return f"http://127.0.0.1:{self.server_port}/v1"


@contextmanager
def running(*arguments: Any, **options: Any) -> Iterator[Endpoint]:
    """An endpoint, served by a thread of its own."""
    with Endpoint(*arguments, **options) as endpoint:
        threading.Thread(target=endpoint.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield endpoint
        finally:
            endpoint.ended.set()
            endpoint.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = json.dumps([asked.get("messages") or asked["prompt"], asked.get("seed")])
        with self.server.lock:
            self.server.came[question] += 1
            self.server.keys.add(self.headers["Authorization"])
            times = self.server.came[question]
        fault = self.server.fault(question, times)
        if fault == "hang":
            self.server.ended.wait(60)
        elif fault == "garbage":
            self._send(200, b"<html>proxy</html>")
        elif refusal := self.server.refuse(asked):
            self._send(400, json.dumps({"error": {"message": refusal, "type": "invalid_request_error"}}).encode())
        elif fault in (None, "cut"):
            self._answer(asked, question, whole=fault is None)
        else:
            self._send(int(fault), b'{"error": {"message": "sk-secret"}}')
        self.close_connection = True

    def _answer(self, asked: dict[str, Any], question: str, whole: bool) -> None:
        if asked.get("stream"):
            self._stream(asked, question)
            return
        text = self.server.answer
        said = {"text": text} if "prompt" in asked else {"message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30} if self.server.counts else None
        body = {"id": "1", "object": "x", "created": 1, "model": asked["model"], "usage": usage,
                "choices": [{"index": 0, "finish_reason": "stop", **said}]}  # fmt: skip
        self._send(200, json.dumps(body).encode(), cut=not whole)
        if whole:
            with self.server.lock:
                self.server.answered[question] += 1

    def _stream(self, asked: dict[str, Any], question: str) -> None:
        """A word every 20 ms, until nobody listens."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for word in [*self.server.answer.split(), None]:
                delta = {} if word is None else {"content": f"{word} "}
                choice = {"index": 0, "finish_reason": None if word else "stop", "delta": delta}
                chunk = {"id": "1", "object": "x", "created": 1, "model": asked["model"], "choices": [choice]}
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                time.sleep(0.02)
            self.wfile.write(b"data: [DONE]\n\n")
        except (BrokenPipeError, ConnectionResetError):
            self.server.left.set()
            return
        with self.server.lock:
            self.server.answered[question] += 1

    def _send(self, status: int, body: bytes, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", "0.1")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)

    def log_message(self, *arguments: Any) -> None:
        """Nothing on the terminal."""
