"""The machine that a measurement was made on, for the files that hold its figures."""

import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Return the number of cores, the processor's name, and the GPU's where PyTorch is loaded and sees one."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    torch = sys.modules.get("torch")  # not imported for this alone
    gpu = {"gpu": torch.cuda.get_device_name()} if torch and torch.cuda.is_available() else {}
    return {"cores": os.cpu_count(), "cpu": next(names, platform.processor())} | gpu


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of nescio and of other packages."""
    own = sys.modules["nescio"].__version__  # a checkout need not be installed
    return {"nescio": own} | {name: version(name) for name in packages}
