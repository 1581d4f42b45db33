"""Reading of a file in a subprocess, where the library may hang or crash on a hostile file."""

__all__ = ["answer_apart", "limit_memory", "read_apart"]

import json
import os
import struct
import subprocess
import sys
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FormatError

_ROOM = 100 << 20
"""Bytes that a reader may take, beside four times the file's size."""
_SECONDS = 10.0
"""Time for a file of no size at all; a second more for each 20 MB."""

Found = list[tuple[dict[str, Any], list[NDArray[np.float32]]]]


def read_apart(path: str | PathLike[str], module: str, size: int) -> Found:
    """Run a module that reads a file with :func:`answer_apart`, with little memory and time.

    Args:
        path: The file.
        module: Its name; it is given the path.
        size: Of the file, bytes.

    Returns:
        What it answered: items of plain values and float32 arrays.

    Raises:
        FormatError: If it refused the file, timed out, or crashed.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, fspath(path), str(_ROOM + 4 * size)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            # The package that is running, wherever it was imported from.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"},
            timeout=_SECONDS + size / 20e6,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FormatError(path, f"is damaged: its reader did not end within {error.timeout:.0f} seconds") from error
    if done.returncode != 0 or len(done.stdout) < 8:
        raise FormatError(path, f"is damaged: its reader crashed (exit code {done.returncode})")
    (length,) = struct.unpack("<Q", done.stdout[:8])
    answer = json.loads(done.stdout[8 : 8 + length])
    if "refused" in answer:
        raise FormatError(path, answer["refused"])
    found: Found = []
    place = 8 + length
    for item in answer["items"]:
        arrays = []
        for shape in item.pop("shapes"):
            count = int(np.prod(shape, dtype=np.int64))
            arrays.append(np.frombuffer(done.stdout, "<f4", count, place).reshape(shape).copy())
            place += 4 * count
        found.append((item, arrays))
    return found


def answer_apart(found: Found | str) -> None:
    """Write an answer to the output stream, for :func:`read_apart`.

    Args:
        found: Items of plain values and arrays, or why the file was refused.
    """
    if isinstance(found, str):
        head: dict[str, Any] = {"refused": found}
        arrays: list[NDArray[np.float32]] = []
    else:
        head = {"items": [{**item, "shapes": [list(value.shape) for value in values]} for item, values in found]}
        arrays = [value for _, values in found for value in values]
    text = json.dumps(head).encode()
    sys.stdout.buffer.write(struct.pack("<Q", len(text)) + text)
    for value in arrays:
        sys.stdout.buffer.write(np.ascontiguousarray(value, "<f4").tobytes())
    sys.stdout.buffer.flush()


def limit_memory(octets: int) -> None:
    """Let this process take no more memory than this beside what it has now.

    Args:
        octets: How much more, bytes; another call sets another limit.
    """
    try:
        import resource
    except ImportError:
        return  # not there on Windows: the limit of time must do
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return  # no Linux: the limit of time must do
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + octets, hard))
