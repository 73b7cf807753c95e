"""llama.cpp's own server on loopback, in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SERVER = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.hostnames, params.n_ctx, params.n_parallel = sys.argv[1], ["127.0.0.1"], 4096, 2
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
params.warmup = False
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def serving(gguf: Path) -> Iterator[str]:
    """Serve a GGUF file; gives the server's address."""
    command = [sys.executable, "-c", _SERVER, str(gguf)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()
