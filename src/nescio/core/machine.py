"""The machine that a measurement was made on, for the files that hold its figures."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Return the number of cores and the processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {"cores": os.cpu_count(), "cpu": next(names, platform.processor())}


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of nescio and of other packages."""
    return {name: version(name) for name in ("nescio", *packages)}
