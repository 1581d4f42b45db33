"""Teachers in files on the command line: an estimator in a ``.skops`` file, a network in an ``.onnx`` file."""

import json
import re

import numpy as np
import pandas
import pytest
from tiny_runs import FAST

from limbeck.exporters import Card
from limbeck.exporters.model_card import model_card
from limbeck.report.page import render_report
from limbeck.runs.folder import RunFolder
from limbeck.runs.pages import gather


@pytest.fixture(scope="module")
def forest(tiny, tmp_path_factory):
    ensemble, skops = pytest.importorskip("sklearn.ensemble"), pytest.importorskip("skops.io")
    with np.load(tiny) as arrays:
        rows, labels = arrays["x"].reshape(len(arrays["x"]), -1) / np.float32(255), arrays["y"]
    path = tmp_path_factory.mktemp("teachers") / "forest.skops"
    skops.dump(ensemble.RandomForestClassifier(10, random_state=0).fit(rows, labels), path)
    return path


def test_an_estimator_s_file_is_a_teacher(tiny, forest, tmp_path, limbeck):
    out = tmp_path / "run"
    done = limbeck("distill", "--data", tiny, "--teacher", forest, *FAST, "--out", out)
    assert done.code == 0, done.err
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["teacher"]["title"] == "RandomForestClassifier" and metrics["teacher"]["test_errors"] == 0
    done = limbeck("soften", "--data", tiny, "--teacher", forest, "--out", tmp_path / "store")
    assert done.code == 0, done.err
    resumed = limbeck("distill", "--data", tiny, "--teacher", forest, *FAST, "--out", out, "--resume")
    assert resumed.code == 0, resumed.err


def test_a_teacher_that_gives_a_true_class_no_probability_has_an_infinite_likelihood(tiny, tmp_path, limbeck):
    """As forests often do: everything else is measured, and nothing of the run is lost."""
    tree, skops = pytest.importorskip("sklearn.tree"), pytest.importorskip("skops.io")
    with np.load(tiny) as arrays:
        rows, labels = arrays["x"].reshape(len(arrays["x"]), -1) / np.float32(255), arrays["y"]
    skops.dump(
        tree.DecisionTreeClassifier(max_depth=2, random_state=0).fit(rows[:12], labels[:12]), tmp_path / "t.skops"
    )
    out = tmp_path / "run"
    done = limbeck("distill", "--data", tiny, "--teacher", tmp_path / "t.skops", *FAST, "--out", out)
    assert done.code == 0, done.err
    assert re.search(r"nll +│ +infinite │ +[0-9]", done.out), done.out
    kept = json.loads((out / "metrics.json").read_text())
    assert kept["teacher"]["nll"] is None and kept["teacher"]["test_errors"] > 0 and kept["student"]["nll"] > 0
    assert "<td>infinite</td>" in re.sub(r"<td[^>]*>", "<td>", render_report(gather(RunFolder(out)), {}))
    card = model_card(Card("a tree's student", ("a", "b"), kept), None, library="pytorch", loading="import torch")
    assert "(nats) | infinite |" in card


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


def test_a_forest_on_a_table_becomes_a_network_that_labels_new_rows(tmp_path, limbeck):
    ensemble, skops = pytest.importorskip("sklearn.ensemble"), pytest.importorskip("skops.io")
    generator = np.random.default_rng(0)
    frame = pandas.DataFrame({"x": generator.normal(size=200), "town": generator.choice([1, 2, 3], 200)})
    frame["kind"] = np.where(frame["x"] > 0, "good", "bad")
    frame["patient"] = np.arange(200) // 4
    frame.to_csv(tmp_path / "rows.csv", index=False)
    forest = ensemble.RandomForestClassifier(10, random_state=0).fit(frame[["town", "x"]], frame["kind"])
    skops.dump(forest, tmp_path / "forest.skops")
    data = ["--data", tmp_path / "rows.csv", "--label-column", "kind", "--group-column", "patient"]
    out = tmp_path / "run"
    done = limbeck("distill", *data, "--teacher", tmp_path / "forest.skops", *FAST, "--out", out)
    assert done.code == 0, done.err
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["teacher"]["test_errors"] == 0 and metrics["student"]["test_examples"] == 20
    frame.drop(columns="kind")[:7].to_csv(tmp_path / "new.csv", index=False)
    done = limbeck("predict", out, tmp_path / "new.csv", "--id-column", "patient", "--out", tmp_path / "out.parquet")
    assert done.code == 0, done.err
    found = pandas.read_parquet(tmp_path / "out.parquet")
    assert found["id"].tolist() == [0, 0, 0, 0, 1, 1, 1] and set(found["label"]) <= {"good", "bad"}
    again = limbeck("evaluate", out, *data, "--json")
    assert again.code == 0 and json.loads(again.out)["test_errors"] == metrics["student"]["test_errors"]
