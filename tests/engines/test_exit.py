"""A process that ends while an engine still decodes ends cleanly: nothing aborts, nothing hangs."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import sys
import nescio

way, model = sys.argv[1:]
engine = nescio.load(model)
stream = engine.submit(nescio.Request("My name is", max_tokens=300))
next(stream)
if way == "raises":
    raise RuntimeError("left early")
if way == "exits":
    sys.exit(3)
if way == "drops":
    del engine, stream
print("ended")
"""
EXIT_CODES = {"ends": 0, "drops": 0, "exits": 3, "raises": 1}


def end(way: str, model: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, way, str(model)], capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stderr


@pytest.fixture
def model(tmp_path: Path, make_model: Any, chatml: Any) -> Path:
    make_model("llama").save_pretrained(tmp_path)
    chatml.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("way", EXIT_CODES)
def test_a_process_ends_while_its_engine_decodes(way: str, model: Path) -> None:
    code, said = end(way, model)
    assert code == EXIT_CODES[way], said
    assert "terminate called" not in said


@pytest.mark.slow
def test_two_hundred_processes_end_without_an_abort(model: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(lambda way: end(way, model)[0], list(EXIT_CODES) * 50))
    assert codes == list(EXIT_CODES.values()) * 50


def test_an_engine_is_a_context_manager(model: Path) -> None:
    import nescio

    with nescio.load(str(model)) as engine:
        assert engine.complete("My name is", max_tokens=2) is not None
    assert engine.closed


FREED_LATE = """
import threading, time
from nescio.engines.closing import DECODE_THREAD, close_at_exit

class Owner:
    def __init__(self):
        close_at_exit(self)
    def run(self):
        time.sleep(0.2)
    def close(self):
        pass
    def __del__(self):
        time.sleep(1)
        print("freed", flush=True)

threading.Thread(target=Owner().run, name=DECODE_THREAD, daemon=True).start()
time.sleep(0.6)
print("ended", flush=True)
"""


def test_a_thread_that_frees_the_last_of_an_engine_is_waited_for() -> None:
    done = subprocess.run([sys.executable, "-c", FREED_LATE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ended\nfreed\n"), done.stderr
