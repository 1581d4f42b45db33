"""``limbeck predict``."""

import csv
import io

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
        (["--out", "x.txt"], "must end in .csv, .parquet or .jsonl"),
        (["--top", "7"], "top must be from 1 to 3"),
        (["--id-column", "x"], "id_column is for rows of files"),
    ],
)
def test_wrong_calls_are_told_in_a_line(tiny, teacher, limbeck, flags, message):
    done = limbeck("predict", teacher, tiny, *flags)
    assert done.code == 2 and message in " ".join(done.err.split()), done.err
