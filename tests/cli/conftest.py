"""Tiny data, quick settings, and a command line that runs in this process."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from tiny_runs import FAST, OWN_MODULE, run_here, tiny_arrays, without_figures


@pytest.fixture(scope="session")
def limbeck():
    return run_here


@pytest.fixture(scope="module", autouse=True)
def no_drawing():
    """Reports without figures, in these tests alone: others look at theirs."""
    with without_figures():
        yield


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A data set with names for its classes."""
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    x, y = tiny_arrays()
    np.savez(path, x=x, y=y, classes=np.array(["one", "two", "three"]))
    return path


@pytest.fixture(scope="session")
def teacher(tiny, tmp_path_factory, limbeck) -> Path:
    """A finished training run."""
    out = tmp_path_factory.mktemp("runs") / "teacher"
    with without_figures():
        done = limbeck("train", "--data", tiny, *FAST, "--out", out)
    assert done.code == 0, done.err
    return out


@pytest.fixture(scope="session")
def own_module(tmp_path_factory):
    """A package of the user's own on the path, with functions good and bad."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_package").mkdir()
    (folder / "own_package" / "__init__.py").write_text("")
    (folder / "own_package" / "nets.py").write_text(OWN_MODULE)
    (folder / "own_package" / "broken.py").write_text("def net(:\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield "own_package.nets"
