"""Tiny data, quick settings, and a command line that runs in this process."""

__all__ = ["FAST", "OWN_MODULE", "Outcome", "run_here", "sealed_again", "tiny_arrays", "without_figures"]

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from limbeck.cli import main
from limbeck.runs import pages
from limbeck.system.checksums import read_sums
from limbeck.system.files import replace_text, seal_files

FAST = ("--epochs", 2, "--hidden", 8, "--batch-size", 32, "--precision", "float32", "--learning-rate", 0.02)

OWN_MODULE = """
import torch

calls = []


def net(input_shape, classes):
    calls.append((input_shape, classes))
    width = 1
    for size in input_shape:
        width *= size
    layers = torch.nn.Linear(width, 6), torch.nn.Tanh(), torch.nn.Linear(6, classes)
    return torch.nn.Sequential(torch.nn.Flatten(), *layers)


def fails(input_shape, classes):
    return 1 / 0


def no_module(input_shape, classes):
    return "a string"


def too_many(input_shape, classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes + 2))


def chokes(input_shape, classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(5, classes))
"""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def run_here(*words) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            code = 0 if stop.code is None else stop.code
    return Outcome(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def without_figures():
    """Reports of a title alone; what they show is gathered all the same."""

    def write(contents, path):
        replace_text(path, f"<title>{contents.title}</title>")
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "write_report", write)
        yield


def sealed_again(folder: Path) -> None:
    """List the digests of files as they are now, as who writes such files on purpose would."""
    for path in sorted(folder.rglob("SHA256SUMS"), key=lambda path: -len(path.parts)):
        seal_files(path.parent, read_sums(path.parent) or ())


def tiny_arrays(count: int = 200, classes: int = 3, seed: int = 0):
    """Noisy 8x8 pictures; class k has a bright pair of columns at 2k."""
    random = np.random.default_rng(seed)
    y = np.arange(count) % classes
    x = random.integers(0, 120, (count, 8, 8))
    for k in range(classes):
        x[y == k, :, 2 * k : 2 * k + 2] += 100
    return x.astype(np.uint8), y
