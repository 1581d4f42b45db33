"""Peak memory of an exported file: of a separate process that loads it and runs one example, without Limbeck."""

__all__ = ["ONNX_SCRIPT", "TORCH_SCRIPT", "peak_of_process", "peak_of_script"]

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from limbeck.inputs import Inputs, first_few

_SECONDS = 120.0
_HEAD = """
import json, sys
import numpy

def peak():
    try:
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most

path, single = sys.argv[1], sys.argv[3] == "single"
inputs = dict(numpy.load(sys.argv[2]))
"""
_TAIL = """
for _ in range(3):
    ask()
print(json.dumps({"bytes": peak(), "runtime_bytes": before}))
"""
ONNX_SCRIPT = """
import onnxruntime
before = peak()
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
names = [each.name for each in session.get_inputs()]
feeds = {names[0]: inputs["inputs"]} if single else {name: inputs[name] for name in names}
ask = lambda: session.run(None, feeds)
"""
"""Loads an ONNX file; a script of this kind sets ``before``, the peak without the file, and ``ask``."""
TORCH_SCRIPT = """
import torch
torch.set_num_threads(1)
before = peak()
module = torch.export.load(path).module()
given = {name: torch.from_numpy(value) for name, value in inputs.items()}
def ask():
    with torch.no_grad():
        return module(given["inputs"]) if single else module(**given)
"""
"""Loads a program of ``torch.export``."""


def peak_of_script(script: str, path: Path, inputs: Inputs) -> dict[str, int] | None:
    """Run a script that loads a file in a fresh process, and let it answer one example.

    Args:
        script: Python that sets ``before`` and ``ask``, given ``peak``, ``path``, ``inputs`` (numpy arrays by name) and
            ``single``, whether these are one tensor called "inputs".
        path: The file.
        inputs: Of which the first example is taken.

    Returns:
        ``bytes``, the largest resident memory of the process, and ``runtime_bytes``, that before the file was loaded;
        None where the process failed, took two minutes, or takes inputs that numpy has no type for.
    """
    one = first_few(inputs, 1)
    single = isinstance(one, Tensor)
    try:
        arrays = {name: each.numpy() for name, each in ({"inputs": one} if isinstance(one, Tensor) else one).items()}
    except TypeError:  # bfloat16
        return None
    # One thread, and nothing of the modules that may lie in the folder where somebody works.
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder, "inputs.npz")
        np.savez(given, **arrays)  # type: ignore[arg-type]
        words = [sys.executable, "-c", _HEAD + script + _TAIL, str(path.resolve()), str(given)]
        try:
            done = subprocess.run(
                [*words, "single" if single else "named"], cwd=folder, env=surroundings, stdin=subprocess.DEVNULL,
                capture_output=True, timeout=_SECONDS, check=True,
            )  # fmt: skip
            found: Mapping[str, int] = json.loads(done.stdout.splitlines()[-1])
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            return None
    return {name: int(found[name]) for name in ("bytes", "runtime_bytes")}


def peak_of_process(process: int) -> int | None:
    """The largest resident memory of a process that runs, where the system tells.

    Args:
        process: Its number.

    Returns:
        Bytes; None where the system keeps no such count.

    Example:
        >>> (peak_of_process(os.getpid()) or 1 << 30) > 1 << 20
        True
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)
