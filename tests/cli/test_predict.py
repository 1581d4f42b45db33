"""``limbeck predict``."""

import csv
import io
import json
import os

import numpy as np
import pytest


def test_a_run_labels_new_examples(tiny, teacher, tmp_path, limbeck):
    with np.load(tiny) as arrays:
        np.savez(tmp_path / "new.npz", x=arrays["x"][:9])
    done = limbeck("predict", teacher, tmp_path / "new.npz", "--out", tmp_path / "out.csv")
    assert done.code == 0 and "9 predictions are in" in done.out + done.err
    shown = limbeck("predict", teacher, tmp_path / "new.npz")
    assert shown.out == (tmp_path / "out.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(shown.out)))
    assert len(rows) == 9 and set(rows[0]) == {"id", "label", "prob_one", "prob_two", "prob_three"}
    likeliest = max(("one", "two", "three"), key=lambda name: float(rows[0][f"prob_{name}"]))
    assert rows[0]["label"] == likeliest
    top = limbeck("predict", teacher, tmp_path / "new.npz", "--top", "1", "--out", tmp_path / "top.jsonl", "--quiet")
    assert top.code == 0 and not top.out + top.err and likeliest in (tmp_path / "top.jsonl").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out", "x.txt"], "must have the extension .csv, .parquet or .jsonl"),
        (["--top", "7"], "top must be from 1 to 3"),
        (["--id-column", "x"], "id-column is for rows of files"),
    ],
)
def test_wrong_calls_are_told_in_a_line(tiny, teacher, limbeck, flags, message):
    done = limbeck("predict", teacher, tiny, *flags)
    assert done.code == 2 and message in " ".join(done.err.split()), done.err


def test_files_are_replaced_only_when_asked_and_the_data_never(tiny, teacher, tmp_path, limbeck):
    with np.load(tiny) as arrays:
        np.savetxt(tmp_path / "new.csv", arrays["x"][:9].reshape(9, -1), delimiter=",")
    data = (tmp_path / "new.csv").read_bytes()
    os.link(tmp_path / "new.csv", tmp_path / "hard.csv")
    (tmp_path / "soft.csv").symlink_to("new.csv")
    for name in ("new.csv", "../" + tmp_path.name + "/new.csv", "hard.csv", "soft.csv"):
        done = limbeck("predict", teacher, tmp_path / "new.csv", "--out", tmp_path / name, "--overwrite")
        assert done.code == 2 and "is the file of the data" in " ".join(done.err.split())
        assert (tmp_path / name).read_bytes() == data
    with np.load(tiny) as arrays:
        np.savez(tmp_path / "new.npz", x=arrays["x"][:9])
    (tmp_path / "out.csv").write_text("mine")
    (tmp_path / "link.csv").symlink_to("out.csv")
    for name in ("out.csv", "link.csv"):
        done = limbeck("predict", teacher, tmp_path / "new.npz", "--out", tmp_path / name)
        assert done.code == 2 and "--overwrite" in done.err and (tmp_path / "out.csv").read_text() == "mine"
    assert limbeck("predict", teacher, tmp_path / "new.npz", "--out", tmp_path / "link.csv", "--overwrite").code == 0
    assert (tmp_path / "link.csv").is_symlink() and len((tmp_path / "out.csv").read_text().splitlines()) == 10


@pytest.mark.parametrize("flags", [["--text-column", "x"], ["--layout", "NHWC"], ["--next-token"]], ids=str)
def test_flags_of_other_data_are_refused_not_passed_over(tmp_path, limbeck, flags):
    (tmp_path / "rows.csv").write_text("x,label\n" + "1,a\n2,b\n" * 10)
    table = limbeck("train", "--data", tmp_path / "rows.csv", "--hidden", 2, "--epochs", 1, "--out", tmp_path / "run")
    assert table.code == 0, table.err
    done = limbeck("predict", tmp_path / "run", tmp_path / "rows.csv", *flags)
    assert done.code == 2 and "is for other data, and the model is given rows of a table: leave it out" in done.err


def test_an_architecture_that_no_network_needs_is_told(tiny, teacher, own_module, tmp_path, limbeck):
    own = ("--model", f"{own_module}:net")
    told = "--model is 'own_package.nets:net', and has no effect: no network here is of an architecture of your own"
    for words in (("predict", teacher, tiny, "--top", 1), ("evaluate", teacher, "--data", tiny)):
        done = limbeck(*words, *own)
        assert done.code == 0 and told in done.err, done.err


def probabilities(text):
    return np.array([[float(row[f"prob_{name}"]) for name in ("one", "two", "three")] for row in csv.DictReader(text)])


def test_probabilities_are_calibrated_by_the_temperature_of_the_run(tiny, teacher, limbeck, tmp_path):
    plain = probabilities(io.StringIO(limbeck("predict", teacher, tiny).out))
    found = json.loads((teacher / "metrics.json").read_text())["model"]["calibration_temperature"]
    shown = limbeck("predict", teacher, tiny, "--calibrate")
    if found is None:  # validation was answered without an error
        assert shown.code == 2 and "has no temperature to calibrate with" in " ".join(shown.err.split())
        found, shown = 3.0, limbeck("predict", teacher, tiny, "--temperature", "3")
    scaled = plain ** (1 / found)
    np.testing.assert_allclose(probabilities(io.StringIO(shown.out)), scaled / scaled.sum(1, keepdims=True), atol=1e-4)
    both = limbeck("predict", teacher, tiny, "--calibrate", "--temperature", "3")
    assert both.code == 2 and "leave one of them out" in " ".join(both.err.split())
    bad = limbeck("predict", teacher, tiny, "--temperature", "0")
    assert bad.code == 2 and "temperature must be a positive" in " ".join(bad.err.split())
