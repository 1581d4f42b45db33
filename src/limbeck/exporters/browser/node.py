"""A page's scripts run by Node.js, for the parity report: the same code and weights as in a browser."""

__all__ = ["AskedInNode", "asked_in_node"]

import json
import re
import shutil
import struct
import subprocess
import tempfile
import weakref
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import FormatError
from limbeck.exporters.memory import peak_of_process
from limbeck.exporters.protocol import CannotRun
from limbeck.inputs import Inputs

_SCRIPT = re.compile(r'<script[^>]* id="([a-z]+)">(.*?)</script>', re.DOTALL)
_DATA, _CODE = ("spec", "weights", "wasm"), ("ort", "engine")
"""What the page holds, and the scripts that compute."""
_TYPES = {torch.float32: "float32", torch.int64: "int64", torch.uint8: "uint8"}


def asked_in_node(path: Path) -> "AskedInNode":
    """A function that asks a page, whose scripts Node.js runs until the function is forgotten.

    Args:
        path: The page.

    Returns:
        A function of inputs to logits, or to probabilities of pixels.

    Raises:
        CannotRun: If there is no Node.js.
        FormatError: If it is not a page of this kind, or its scripts fail.
    """
    node = shutil.which("node")
    if node is None:
        raise CannotRun("its scripts are run by Node.js, and there is no program node on the PATH")
    try:
        parts = dict(_SCRIPT.findall(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(path, f"cannot be read: {error}") from error
    if "engine" not in parts or "spec" not in parts:
        raise FormatError(path, "is not a page that limbeck export --to browser wrote")
    return AskedInNode(path, node, parts)


class AskedInNode:
    """A page's scripts in a process of Node.js.

    Args:
        path: The page.
        node: The program.
        parts: The page's scripts and data, by id.
    """

    def __init__(self, path: Path, node: str, parts: Mapping[str, str]) -> None:
        self._path = path
        folder = tempfile.TemporaryDirectory()
        for name in _DATA:
            Path(folder.name, f"{name}.txt").write_text(parts.get(name, ""), "utf-8")
        for name in _CODE:
            if name in parts:
                Path(folder.name, f"{name}.mjs").write_text(parts[name], "utf-8")
        loop = Path(folder.name, "node.mjs")
        loop.write_bytes(files(__package__).joinpath("assets", "node.mjs").read_bytes())
        self._process = subprocess.Popen(
            [node, str(loop)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._finish = weakref.finalize(self, _stop, self._process, folder)
        self._answer()

    def __call__(self, inputs: Inputs) -> Tensor:
        """The page's answer.

        Args:
            inputs: Of some examples.

        Returns:
            float32 ``(N, K)``.
        """
        given = {"inputs": inputs} if isinstance(inputs, Tensor) else inputs
        arrays = {name: _of_known_type(values) for name, values in given.items()}
        header = [
            {"name": name, "type": _TYPES[values.dtype], "shape": list(values.shape)} for name, values in arrays.items()
        ]
        text = json.dumps({"inputs": header}).encode()
        pipe = _open_end(self._process.stdin)
        pipe.write(struct.pack("<I", len(text)) + text)
        for values in arrays.values():
            pipe.write(values.contiguous().numpy().data)
        pipe.flush()
        return self._answer()

    def peak(self) -> int | None:
        """The largest resident memory of the process so far, in bytes; None where the system does not tell."""
        return peak_of_process(self._process.pid)

    def _answer(self) -> Tensor:
        found = json.loads(self._taken(struct.unpack("<I", self._taken(4))[0]))
        if "error" in found:
            raise FormatError(self._path, f"its scripts fail: {found['error'][:240]}")
        shape = found.get("shape", [0])
        values = np.frombuffer(self._taken(4 * int(np.prod(shape))), np.float32)
        return torch.from_numpy(values.reshape(shape).copy())

    def _taken(self, length: int) -> bytes:
        taken: bytes = _open_end(self._process.stdout).read(length)
        if len(taken) < length:
            raise FormatError(self._path, "its scripts ended before they answered")
        return taken


def _stop(process: "subprocess.Popen[bytes]", folder: "tempfile.TemporaryDirectory[str]") -> None:
    """End the process, which ends by itself when it has nothing more to read."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.kill()
    process.wait()
    folder.cleanup()


def _open_end(pipe: IO[Any] | None) -> IO[Any]:
    assert pipe is not None, "asked for when the process was started"
    return pipe


def _of_known_type(values: Tensor) -> Tensor:
    values = values.detach().cpu()
    return values if values.dtype in _TYPES else values.float() if values.is_floating_point() else values.long()
