"""The pool of a thread is given back, and comes again when it is needed."""

import subprocess
import sys

import pytest

from nescio.core import openmp

SCRIPT = """
import psutil, torch
from nescio.core.openmp import release_threads

def threads():
    return psutil.Process().num_threads()

def multiply():
    torch.randn(400, 400) @ torch.randn(400, 400)
    torch.randn(4_000_000).exp_()

torch.set_num_threads(3)
before = threads()
multiply()
with_pool = threads()
release_threads()
without = threads()
multiply()
again = threads()
release_threads()
release_threads()
print(with_pool - before, with_pool - without, again - without)
"""

FORK = """
import os, torch
from nescio.core.openmp import release_threads

torch.set_num_threads(3)
torch.randn(400, 400) @ torch.randn(400, 400)
if not (child := os.fork()):
    release_threads()
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(openmp._pause() is None, reason="this torch brings no libgomp")
def test_a_pool_is_given_back_and_comes_again() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["2", "2", "2"]


@pytest.mark.skipif(openmp._pause() is None, reason="this torch brings no libgomp")
def test_a_forked_process_does_not_wait_for_threads_that_it_lacks() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "0"
