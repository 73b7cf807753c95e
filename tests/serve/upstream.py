"""An upstream on loopback that sends exactly the bytes that a test writes, and keeps what it was asked."""

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Script = Callable[[dict[str, Any]], Sequence[bytes | float]]
"""What is sent for a request's body: bytes, and seconds to wait between them; then the connection is closed."""

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def event(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
    """One chunk of a streamed chat."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices} | more
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def continuation(text: str, finish: str | None = None) -> bytes:
    """One chunk of a streamed completion."""
    choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
    body = {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def stream(*texts: str, finish: str = "stop") -> bytes:
    """A whole streamed chat."""
    usage = event(None, usage={"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10})
    chunks = b"".join(event({"content": text}) for text in texts)
    return EVENTS + chunks + event({}, finish) + usage + b"data: [DONE]\n\n"


def error(status: int, message: str, **headers: str) -> bytes:
    """An answer that is an error."""
    body = json.dumps({"error": {"message": message}}).encode()
    lines = [
        f"HTTP/1.1 {status} X",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()), "", ""]).encode() + body


class Upstream(socketserver.ThreadingTCPServer):
    """The upstream; set `script` between requests."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128  # a storm opens more at once than the 5 by default

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.asked: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}  # of the last request

    @property
    def url(self) -> str:
        """Of the API."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(socketserver.StreamRequestHandler):
    server: Upstream

    def handle(self) -> None:
        headers = {}
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        self.server.headers = headers
        asked = json.loads(self.rfile.read(int(headers.get("content-length", 0))) or b"{}")
        self.server.asked.append(asked)
        try:
            for step in self.server.script(asked):
                if isinstance(step, bytes):
                    self.wfile.write(step)
                else:
                    time.sleep(step)
        except (BrokenPipeError, ConnectionResetError):
            pass


@contextmanager
def running_upstream(script: Script = lambda asked: [stream("Hello ", "there.")]) -> Iterator[Upstream]:
    """An upstream, served by a thread of its own."""
    with Upstream(script) as upstream:
        threading.Thread(target=upstream.serve_forever, args=(0.05,), daemon=True).start()
        yield upstream
        upstream.shutdown()
