"""The machine of a measurement: processor, system and versions, for the record."""

__all__ = ["machine"]

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_FEATURES = frozenset(
    {"avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8",
     "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"}
)  # fmt: skip
"""Of those that the system lists, what matters to products of matrices."""


def machine(packages: tuple[str, ...] = ()) -> dict[str, Any]:
    """The processor with its features, the system, and versions.

    Args:
        packages: Whose versions are told, where they are installed.

    Returns:
        Plain values by name.

    Example:
        >>> sorted(machine())
        ['cores', 'features', 'processor', 'python', 'system', 'versions']
    """
    model, features = platform.processor() or platform.machine(), set[str]()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
        elif name.strip().lower() in {"flags", "features"}:
            features |= _FEATURES & set(value.split())
    return {
        "processor": model,
        "features": " ".join(sorted(features)),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": sys.version.split()[0],
        "versions": {name: found for name in packages if (found := _version(name)) is not None},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
