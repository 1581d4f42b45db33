"""Teachers in files on the command line: an estimator in a ``.skops`` file, a network in an ``.onnx`` file."""

import json

import numpy as np
import pytest
from tiny_runs import FAST


@pytest.fixture(scope="module")
def forest(tiny, tmp_path_factory):
    ensemble, skops = pytest.importorskip("sklearn.ensemble"), pytest.importorskip("skops.io")
    with np.load(tiny) as arrays:
        rows, labels = arrays["x"].reshape(len(arrays["x"]), -1) / np.float32(255), arrays["y"]
    path = tmp_path_factory.mktemp("teachers") / "forest.skops"
    skops.dump(ensemble.RandomForestClassifier(10, random_state=0).fit(rows, labels), path)
    return path


def test_an_estimator_s_file_is_a_teacher(tiny, forest, tmp_path, limbeck, no_drawing):
    out = tmp_path / "run"
    done = limbeck("distill", "--data", tiny, "--teacher", forest, *FAST, "--out", out)
    assert done.code == 0, done.err
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["teacher"]["title"] == "RandomForestClassifier" and metrics["teacher"]["test_errors"] == 0
    done = limbeck("soften", "--data", tiny, "--teacher", forest, "--out", tmp_path / "store")
    assert done.code == 0, done.err
    resumed = limbeck("distill", "--data", tiny, "--teacher", forest, *FAST, "--out", out, "--resume")
    assert resumed.code == 0, resumed.err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.onnx", "there is no such file"),
        ("damaged.onnx", "is not an ONNX network, or damaged"),
        ("damaged.skops", "is not a .skops file, or damaged"),
        ("model.pkl", "reading one executes what it says"),
        ("model.h5", "is the path"),
    ],
)
def test_files_that_cannot_teach_are_told_in_a_line(tiny, tmp_path, limbeck, name, message):
    path = tmp_path / name
    if not name.startswith("missing"):
        path.write_bytes(b"nothing")
    done = limbeck("distill", "--data", tiny, "--teacher", path, *FAST, "--out", tmp_path / "run")
    assert done.code == 2 and message in " ".join(done.err.split()), done.err
