"""What all benchmarks share: their options, and the line of JSON that each run leaves in `results/`."""

import argparse
import json
import os
import resource
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from _history import commit, last_like, record, slower

from nescio.core.machine import machine, versions

_LOAD_BEFORE = round(os.getloadavg()[0], 1)  # this module is read before anything is measured


def options_of(doc: str | None, name: str, quick: str) -> argparse.ArgumentParser:
    """A parser with `--quick` and `--out`; the benchmark adds its own.

    Args:
        doc: The benchmark's docstring.
        name: Name of its file in `results/`.
        quick: What `--quick` makes small.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{quick}: to see that it runs; nothing is written")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / f"results/{name}.jsonl")
    return parser


def needs(parser: argparse.ArgumentParser, options: argparse.Namespace, file: str) -> None:
    """End here where the run has no such file: with `--quick` there is nothing to see, else it is an error."""
    if not (options.run / file).is_file():
        parser.exit(
            0 if options.quick else 2,
            f"{options.run}: no run with {file} there; make one with `nescio demo --out {options.run}`\n",
        )


def needs_vllm(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[str]:
    """The packages that bring vLLM here; without one end as `needs` does."""
    installed = packages_distributions().get("vllm", [])
    if not installed:
        parser.exit(
            0 if options.quick else 2, "no vLLM here; run it with .venv-vllm/bin/python after `make test-vllm`\n"
        )
    return sorted(set(installed))


def leave(
    options: argparse.Namespace,
    packages: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    ratios: Mapping[str, float],
    **more: Any,
) -> None:
    """Print the ratios, append the result and print what got slower, unless it was quick: that is not to be quoted.

    Args:
        options: With `quick` and `out`.
        packages: Whose versions matter, beside nescio's.
        rows: What was measured.
        ratios: What is quoted.
        more: Sizes and the like.
    """
    if ratios:
        print(json.dumps(ratios, indent=2))
    if options.quick:
        return
    facts = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": commit(), "machine": _machine()}
    run = {**facts, "versions": versions(packages), **more, "rows": rows, "ratios": ratios}
    before = last_like(options.out, run)
    record(options.out, run)
    print(options.out)
    for line in slower(run, before) if before else ():
        print(f"slower than on {before['date']} at {before['commit']}: {line}")


def _machine() -> dict[str, Any]:
    largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        **machine(),
        "load_before": _LOAD_BEFORE,
        "peak_memory_mib": largest // 1024,  # of one process: some benchmarks only launch those that work
    }
