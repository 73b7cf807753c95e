"""Serving under load: this server beside `transformers serve --continuous-batching`, same weights, same precision.

Each client sends one request after the other over loopback and reads the stream. Tokens are counted from the text by
the model's own tokenizer, for both servers alike. Transformers has no guidance: guided rows are compared with our own,
and so are those whose answers are audited before they leave, sentence by sentence.

    python benchmarks/serve.py
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from _result import leave, options_of

from nescio.core.model_source import resolve
from nescio.core.models import load_tokenizer

TOPICS = ("a garden in spring", "a first week at work", "how bread is made", "a walk by the sea", "an old bicycle")
POLICY = """policies:
  default:
    base_model: true
    audit: AUDIT
    guidance: {scale: {default: 1, min: 1, max: 3}, protect: "Answer briefly.", reveal: "Answer at length."}
"""
Row = dict[str, Any]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], ready: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process of its own, from the time when it answers."""
    environment = os.environ | {"OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"}
    with log.open("w") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as server:
        try:
            for _ in range(1200):
                if server.poll() is not None:
                    raise SystemExit(f"{command[0]} ended: {log.read_text()[-2000:]}")
                try:
                    if httpx.get(ready).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
            yield server
        finally:
            server.terminate()


def asked(number: int, tokens: int, model: str, guided: bool) -> Row:
    """A request of its own; lengths are mixed."""
    text = f"Story {number}. " + f"Write about {TOPICS[number % 5]}. " * (1 + number % 4)
    body: Row = {"model": model, "stream": True, "max_tokens": tokens, "temperature": 0}
    body["messages"] = [{"role": "user", "content": text}]
    return body | ({"guidance": {"scale": 3}} if guided else {})


def answered(url: str, body: Row) -> tuple[str, float]:
    """The answer, and the seconds to its first piece."""
    text, first, start = "", 0.0, time.perf_counter()
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=600) as response:
        if response.status_code != 200:
            raise SystemExit(f"{response.status_code}: {response.read().decode()}")
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            for choice in json.loads(line[6:])["choices"]:
                piece = choice["delta"].get("content")
                first = first or (time.perf_counter() - start if piece else 0.0)
                text += piece or ""
    return text, first


def load(url: str, clients: int, options: argparse.Namespace, model: str, guided: bool, tokenizer: Any) -> Row:
    """Tokens a second of all clients together, and the median time to the first piece."""

    def client(number: int) -> list[tuple[str, float]]:
        numbers = range(number * options.each, (number + 1) * options.each)
        return [answered(url, asked(n, options.tokens, model, guided)) for n in numbers]

    answered(url, asked(999, 4, model, guided))
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        answers = [answer for given in pool.map(client, range(clients)) for answer in given]
    seconds = time.perf_counter() - start
    tokens = sum(len(tokenizer.encode(text, add_special_tokens=False)) for text, _ in answers)
    return {
        "clients": clients, "guided": guided, "tokens": tokens, "tokens_per_second": round(tokens / seconds, 1),
        "first_token_seconds": round(median(first for _, first in answers), 3),
    }  # fmt: skip


def measured(options: argparse.Namespace, work: Path) -> Iterator[Row]:
    model = resolve("smollm2")
    tokenizer = load_tokenizer(model)
    programs = Path(sys.executable).parent
    clients = (1, 4) if options.quick else (1, 4, 16)

    def row(name: str, url: str, served: str, count: int, guided: bool) -> Row:
        found = {"server": name} | load(url, count, options, served, guided, tokenizer)
        print(
            f"{name:<20}{count:>3} clients{'  guided  ' if guided else '          '}"
            f"{found['tokens_per_second']:>7.1f} tokens/s{found['first_token_seconds']:>8.2f} s", flush=True,
        )  # fmt: skip
        return found

    port = free_port()
    theirs = [str(programs / "transformers"), "serve", model, "--continuous-batching", "--port", str(port)]
    theirs += ["--dtype", "float32", "--device", "cpu"]
    with running(theirs, f"http://127.0.0.1:{port}/health", work / "theirs.log"):
        for count in clients:
            yield row("transformers serve", f"http://127.0.0.1:{port}", model, count, False)
    for name, audit in (("nescio serve", "off"), ("nescio serve, audit", "mask")):
        policies = work / f"{audit}.yaml"
        policies.write_text(POLICY.replace("AUDIT", audit))
        port = free_port()
        ours = [str(programs / "nescio"), "serve", model, "--policies", str(policies), "--port", str(port)]
        with running(ours, f"http://127.0.0.1:{port}/readyz", work / f"{audit}.log"):
            url = f"http://127.0.0.1:{port}"
            served = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
            for guided in (False, True) if audit == "off" else (False,):
                for count in clients:
                    yield row(name, url, served, count, guided)


def ratios(rows: list[Row]) -> dict[str, float]:
    rate = {(row["server"], row["clients"], row["guided"]): row["tokens_per_second"] for row in rows}
    most = max(clients for _, clients, _ in rate)
    ours = rate["nescio serve", most, False]
    return {
        f"unguided_{most}_over_transformers": round(ours / rate["transformers serve", most, False], 2),
        f"guided_{most}_over_unguided": round(rate["nescio serve", most, True] / ours, 2),
        f"audited_{most}_over_unaudited": round(rate["nescio serve, audit", most, False] / ours, 2),
    }


def main() -> None:
    parser = options_of(__doc__, "serve", "few tokens, fewer clients")
    parser.add_argument("--tokens", type=int, default=48, help="most tokens of an answer")
    parser.add_argument("--each", type=int, default=3, help="requests of each client")
    options = parser.parse_args()
    if options.quick:
        options.tokens, options.each = 8, 1
    with tempfile.TemporaryDirectory() as work:
        rows = list(measured(options, Path(work)))
    leave(options, ("torch", "transformers"), rows, ratios(rows))


if __name__ == "__main__":
    main()
