"""What `nescio serve --upstream` costs a request: an upstream that answers at once, asked directly and through it.

One client sends one request after the other over loopback, to each in turn, and keeps its connection. The upstream is a
process of its own; its chunks, one for each word, come all at once. Beside the times stands the server's processor time
for a request, which other work on the machine does not change.

    python benchmarks/proxy.py
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import psutil
from _result import leave, options_of
from serve import free_port, running

Row = dict[str, Any]

AUDITS = {"nescio": "audit: off", "nescio, both audits": "audit: mask, audit_requests: replace"}
ANSWER = "The garden is green in spring, and nobody is in it but a cat. It sleeps under the old tree. " * 3
WORDS = ANSWER.split()
_WARM = 10  # requests that open connections and load what is loaded late
_USAGE = {"prompt_tokens": 9, "completion_tokens": len(WORDS), "total_tokens": 9 + len(WORDS)}


def _body(kind: str, choices: list[Row], **more: Any) -> str:
    return json.dumps({"id": "1", "created": 1, "model": "m", "object": kind, "choices": choices} | more)


def _streamed() -> bytes:
    deltas: list[Row] = [{"delta": {"content": f"{word} "}, "finish_reason": None} for word in WORDS]
    deltas.append({"delta": {}, "finish_reason": "stop"})
    bodies = [_body("chat.completion.chunk", [{"index": 0} | delta]) for delta in deltas]
    bodies += [_body("chat.completion.chunk", [], usage=_USAGE), "[DONE]"]
    events = [*(f"data: {body}\n\n".encode() for body in bodies), b""]
    return b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events)


# The upstream's bytes are made once, and sent in one piece: its time is not nescio's.
STREAMED = _streamed()
MESSAGE = {"role": "assistant", "content": " ".join(WORDS)}
WHOLE = _body("chat.completion", [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}], usage=_USAGE).encode()


class Upstream(BaseHTTPRequestHandler):
    """Answers every chat with the same words."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Say that it is there."""
        self._send(b"{}", "application/json")

    def do_POST(self) -> None:
        """Answer, in chunks where a stream is asked for."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not body.get("stream"):
            self._send(WHOLE, "application/json")
            return
        self._head("text/event-stream", "Transfer-Encoding", "chunked")
        self.wfile.write(STREAMED)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _send(self, body: bytes, kind: str) -> None:
        self._head(kind, "Content-Length", str(len(body)))
        self.wfile.write(body)

    def _head(self, kind: str, name: str, value: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header(name, value)
        self.end_headers()


def serve_upstream(port: int) -> None:
    ThreadingHTTPServer(("127.0.0.1", port), Upstream).serve_forever()


def asked(client: httpx.Client, url: str, number: int, stream: bool) -> tuple[float, float]:
    """Milliseconds to the first piece of an answer, and to its end."""
    text, first, start = "", 0.0, time.perf_counter()
    body = {"model": "m", "stream": stream, "max_tokens": 512}
    body["messages"] = [{"role": "user", "content": f"Story {number}: write about a garden in spring."}]
    with client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
        if not stream:
            text = json.loads(response.read())["choices"][0]["message"]["content"]
        else:
            for line in response.iter_lines():
                if line.startswith("data: {") and (choices := json.loads(line[6:])["choices"]):
                    piece = choices[0]["delta"].get("content")
                    first = first or (time.perf_counter() - start if piece else 0.0)
                    text += piece or ""
    seconds = time.perf_counter() - start
    if text.split() != WORDS:
        raise SystemExit(f"{url}: another answer than the upstream's: {text[:200]!r}")
    return 1000 * (first or seconds), 1000 * seconds


def _cpu_ms(process: Any) -> float:
    spent = psutil.Process(process.pid).cpu_times()
    return 1000 * float(spent.user + spent.system)


def measured(options: argparse.Namespace, work: Path) -> Iterator[Row]:
    port = free_port()
    upstream = multiprocessing.Process(target=serve_upstream, args=(port,), daemon=True)
    upstream.start()
    urls, processes = {"direct": f"http://127.0.0.1:{port}"}, dict[str, Any]()
    with ExitStack() as stack:
        stack.callback(upstream.terminate)
        for name, audits in AUDITS.items():
            own, policies = free_port(), work / f"{len(urls)}.yaml"
            policies.write_text(f"detector: regex\npolicies: {{default: {{base_model: true, {audits}}}}}\n")
            command = [str(Path(sys.executable).parent / "nescio"), "serve", "m", "--policies", str(policies)]
            command += ["--upstream", f"{urls['direct']}/v1", "--port", str(own)]
            urls[name] = f"http://127.0.0.1:{own}"
            processes[name] = stack.enter_context(running(command, f"{urls[name]}/readyz", work / f"{own}.log"))
        client = stack.enter_context(httpx.Client(timeout=60))
        for stream in (False, True):
            times = defaultdict[str, list[tuple[float, float]]](list)
            for number in range(_WARM):
                for url in urls.values():
                    asked(client, url, number, stream)
            before = {name: _cpu_ms(process) for name, process in processes.items()}
            for number in range(options.requests):
                for name, url in urls.items():
                    times[name].append(asked(client, url, number, stream))
            cpu = {name: (_cpu_ms(process) - before[name]) / options.requests for name, process in processes.items()}
            for name, own_times in times.items():
                whole = [each for _, each in own_times]
                row = {
                    "way": name, "stream": stream, "requests": len(whole),
                    "first_ms": round(median(each for each, _ in own_times), 2), "whole_ms": round(median(whole), 2),
                    "whole_ms_95": round(quantiles(whole, n=20)[-1], 2), "cpu_ms": round(cpu.get(name, 0.0), 2),
                }  # fmt: skip
                print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
                yield row


def ratios(rows: list[Row]) -> dict[str, float]:
    """What is added to the direct way, in milliseconds at the median."""
    at = {(row["way"], row["stream"]): row for row in rows}
    return {
        f"{'stream' if stream else 'whole'}_added_{field}, {way}": round(row[field] - at["direct", stream][field], 2)
        for (way, stream), row in at.items()
        for field in (("first_ms", "whole_ms") if stream else ("whole_ms",))
        if way != "direct"
    }


def main() -> None:
    parser = options_of(__doc__, "proxy", "few requests")
    parser.add_argument("--requests", type=int, default=300, help="of each way, streamed and not")
    options = parser.parse_args()
    if options.quick:
        options.requests = 20
    with tempfile.TemporaryDirectory() as work:
        rows = list(measured(options, Path(work)))
    leave(options, ("fastapi", "uvicorn", "openai"), rows, ratios(rows), words=len(WORDS))


if __name__ == "__main__":
    main()
