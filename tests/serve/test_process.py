"""The process: what it says when it can't start, and what signals do to it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from running import Letters, Running
from typer.testing import CliRunner

from nescio.cli.main import app
from nescio.core.errors import NescioError
from nescio.engines.decode.cpu_linear import packed_in
from nescio.serve import detection, process
from nescio.serve.keys import hash_key
from nescio.serve.policy import Policies

POLICY = "policies:\n  default:\n    base_model: true\n    audit: off\n    guidance: {scale: 1}\n"
ASK = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from nescio.cli.main import main; main()", *arguments]


class Process:
    """A `nescio serve` of its own."""

    def __init__(self, model: Path, policies: Path) -> None:
        arguments = command("serve", str(model), "--policies", str(policies), "--port", "0", "--drain", "20")
        self._log = policies.with_suffix(".log").open("w+")
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=self._log, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def ask(self, **fields: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/chat/completions", json=ASK | fields, timeout=60)


@pytest.fixture
def served(tiny_folder: Path, tmp_path: Path) -> Iterator[Process]:
    (tmp_path / "p.yaml").write_text(POLICY)
    process = Process(tiny_folder, tmp_path / "p.yaml")
    yield process
    process.process.kill()
    process.process.wait()


def wait_until(said: Any) -> None:
    deadline = time.monotonic() + 20
    while not said():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_policies_are_read_again_or_refused_whole(served: Process, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    assert served.ask(max_tokens=3).status_code == 200
    path.write_text(POLICY.replace("guidance: {scale: 1}", "limits: {max_tokens: 2}\n    adaptor: x"))
    served.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "policies stay as they were" in served.log())
    assert "p.yaml:6: policies.default.adaptor: unknown key" in served.log()
    assert served.ask(max_tokens=3).status_code == 200
    path.write_text(POLICY + "    limits: {max_tokens: 2}\n")
    served.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "policies read again" in served.log())
    assert served.ask(max_tokens=3).status_code == 403
    assert "Hello" not in served.log()


def test_a_reload_loads_a_detector_only_where_it_is_another_and_survives_any_error(
    start: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running, path, loading = start(policies=POLICY), tmp_path / "p.yaml", threading.Event()
    gateway, old = running.gateway, running.gateway.detector

    def load(name: str, **settings: Any) -> Letters:
        if name == "spacy:broken":
            raise RuntimeError("two\nlines")
        assert loading.wait(10), "the event loop, which sets it, is held up"
        return Letters()

    async def again(text: str) -> None:
        path.write_text(text)
        task = asyncio.create_task(process.reload(gateway, path))
        await asyncio.sleep(0.2)
        loading.set()
        await task

    monkeypatch.setattr(detection, "load_detector", load)
    asyncio.run(again(POLICY + "    limits: {max_tokens: 2}\n"))
    assert (gateway.detector, gateway.policies.policies["default"].limits.max_tokens) == (old, 2)
    loading.clear()
    audited = POLICY.replace("audit: off", "audit: count")
    asyncio.run(again("detector: spacy:other\n" + audited))
    assert gateway.detector is not old
    taken = gateway.policies, gateway.detector
    asyncio.run(again("detector: spacy:broken\n" + audited))
    assert (gateway.policies, gateway.detector) == taken
    assert "policies stay as they were: RuntimeError: two lines" in caplog.messages
    assert 'nescio_policy_reloads_total{result="refused"} 1.0' in gateway.metrics.text().decode()
    running.stop()


def test_a_detector_is_loaded_when_a_policy_audits_and_else_when_it_is_first_needed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "nescio.serve")
    loaded: list[str] = []

    def load(name: str, **settings: Any) -> Letters:
        loaded.append(name)
        return Letters()

    monkeypatch.setattr(detection, "load_detector", load)
    detector = process._detector_of(Policies.model_validate(yaml.safe_load("detector: spacy:a\n" + POLICY)))
    assert loaded == []
    assert [len(detector.find([text])[0]) for text in ("a B", "C")] == [1, 1]
    assert loaded == ["spacy:a"]
    process._detector_of(Policies.model_validate(yaml.safe_load("detector: spacy:b\n" + POLICY.replace("off", "mask"))))
    assert loaded == ["spacy:a", "spacy:b"], "an audit's detector that can't be loaded must stop the start"
    assert f"answers are checked by detector {Letters.name}" in caplog.messages


def test_told_to_stop_it_ends_what_it_began_and_refuses_what_is_new(served: Process) -> None:
    with httpx.stream("POST", f"{served.url}/v1/chat/completions", json=ASK | {"stream": True, "max_tokens": 300},
                      timeout=60) as response:  # fmt: skip
        lines = response.iter_lines()
        next(lines)
        served.process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{served.url}/readyz").status_code == 503)
        refused = served.ask()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stopping")
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert served.process.wait(30) in (0, -signal.SIGTERM)


@pytest.mark.slow
def test_killed_under_load_it_leaves_nothing_broken(served: Process, tiny_folder: Path, tmp_path: Path) -> None:
    files = {path: path.read_bytes() for path in tiny_folder.rglob("*") if path.is_file()}
    ends: list[str] = []

    def ask() -> None:
        try:
            ends.append(str(served.ask(max_tokens=450).status_code))
        except httpx.TransportError as error:
            ends.append(type(error).__name__)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    os.kill(served.process.pid, signal.SIGKILL)
    for thread in threads:
        thread.join(30)
    assert len(ends) == 6, "every caller gets a word"
    assert "RemoteProtocolError" in ends or "ReadError" in ends
    assert {path: path.read_bytes() for path in tiny_folder.rglob("*") if path.is_file()} == files
    again = Process(tiny_folder, tmp_path / "p.yaml")
    assert again.ask(max_tokens=3).status_code == 200
    again.process.kill()
    again.process.wait()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smollm2", "--policies", "none.yaml"], "none.yaml: cannot be read"),
        (["smollm2", "--policies", "p.yaml", "--adapter", "x"], "--adapter x: must read NAME=PATH"),
        (["smollm2", "--policies", "p.yaml", "--adapter", "smollm2=x"], "is the model's own name"),
        (["smollm2", "--policies", "p.yaml", "--engine", "magic"], "--engine magic: unknown"),
        (
            ["smollm2", "--policies", "p.yaml", "--precision", "quarter"],
            "--precision quarter: unknown; known here: full",
        ),
        (["smollm2", "--policies", "p.yaml", "--engine", "vllm", "--precision", "half"], "only with --engine torch"),
        (["smollm2", "--policies", "p.yaml", "--cors-origin", "example.org"], "must read https://host"),
        (["smollm2", "--policies", "p.yaml", "--host", "256.0.0.1"], "256.0.0.1:8000: cannot listen there"),
        (["no/such/model", "--policies", "p.yaml", "--port", "0"], "no such model"),
        (["no/such/model", "--policies", "none.yaml"], "no such model"),
        (["weights.gguf", "--policies", "none.yaml"], "none.yaml: cannot be read"),
        (["gpt-4o", "--engine", "openai", "--policies", "none.yaml"], "none.yaml: cannot be read"),
    ],
)
def test_what_cannot_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(POLICY)
    (tmp_path / "weights.gguf").touch()  # converting it would fail
    ended = CliRunner().invoke(app, ["serve", *arguments])
    assert isinstance(ended.exception, NescioError), "which the command line prints in one line, with exit code 2"
    assert message in str(ended.exception)


def test_small_chunks_leave_at_once() -> None:
    """With Nagle's delay on, each waits for the acknowledgement of the one before, 40 ms on Linux."""
    listening = process._listen(process.Settings(model="m", adapters={}, policies=Path("p.yaml"), port=0))

    async def accepted() -> int:
        options = asyncio.Queue[int]()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            options.put_nowait(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(connected, sock=listening):
            await asyncio.open_connection(*listening.getsockname())
            return await options.get()

    assert asyncio.run(accepted())


@pytest.mark.parametrize("weights", ["full", "half", "int8"])
def test_the_engine_is_opened_in_the_precision_asked_for(tiny_folder: Path, weights: Any) -> None:
    engine: Any = process.open_served(
        process.Settings(
            model=str(tiny_folder), adapters={}, policies=Path(), rows=8, cache_tokens=1024, precision=weights
        )
    )
    assert packed_in(engine.model) == weights
    assert engine.complete("Anna", max_tokens=3)


def test_a_new_key_and_its_hash() -> None:
    printed = CliRunner().invoke(app, ["key", "new"]).stdout
    key, hashed = (line.split()[1] for line in printed.splitlines())
    assert hash_key(key) == hashed
