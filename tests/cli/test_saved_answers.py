"""``limbeck soften --from-file``: files of answers that somebody else saved, in each of their forms."""

import numpy as np
import pandas
import pytest
import torch

from limbeck.data import open_data
from limbeck.options import DataOptions
from limbeck.softtargets import SoftTargets

NAMES = ["one", "two", "three"]


@pytest.fixture(scope="module")
def probs(tiny):
    with np.load(tiny) as arrays:
        count = len(arrays["y"])
    logits = np.random.default_rng(1).normal(size=(count, 3)) * 2
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True)


def stored(out, tiny, temperature=1.0):
    train = open_data(DataOptions(data=str(tiny))).train
    found = SoftTargets.open(out, examples=train).log_probs(train.batch(torch.arange(len(train))), temperature)
    return found.exp().numpy(), train.index.numpy()


def top(probs, k):
    ids = np.argsort(-probs, 1)[:, :k]
    return np.take_along_axis(probs, ids, 1), ids


def files(folder, probs):
    """The same answers in each form that a file may have, and whether a row is of all classes."""
    reverse = np.arange(len(probs))[::-1]
    np.save(folder / "rows.npy", probs)
    yield folder / "rows.npy", []
    np.save(folder / "logits.npy", np.log(probs) + 1)
    yield folder / "logits.npy", ["--answers", "logits"]
    np.savez(folder / "rows.npz", log_probs=np.log(probs[reverse]), index=reverse)
    yield folder / "rows.npz", []
    np.savez(folder / "named.npz", probs=probs[:, [2, 0, 1]], classes=np.array(["three", "one", "two"]))
    yield folder / "named.npz", []
    wide = pandas.DataFrame(probs[:, ::-1], columns=[f"prob_{name}" for name in NAMES[::-1]])
    wide.to_csv(folder / "wide.csv", index=False)
    yield folder / "wide.csv", []
    wide.set_axis(NAMES[::-1], axis=1).assign(number=np.arange(len(probs))).iloc[reverse].to_parquet(
        folder / "w.parquet"
    )
    yield folder / "w.parquet", ["--index-column", "number"]
    values, ids = top(probs, 2)
    columns = {f"prob_{k + 1}": values[:, k] for k in range(2)}
    columns |= {f"class_{k + 1}": np.array(NAMES)[ids[:, k]] for k in range(2)}
    pandas.DataFrame(columns).to_csv(folder / "top.csv", index=False)
    yield folder / "top.csv", []
    pandas.DataFrame({"ids": list(ids), "probs": list(values)}).to_parquet(folder / "top.parquet")
    yield folder / "top.parquet", []
    np.savez(folder / "top.npz", probs=values, ids=ids)
    yield folder / "top.npz", []


def test_each_form_of_file_makes_the_same_store(tiny, probs, tmp_path, limbeck):
    for path, more in files(tmp_path, probs):
        out = tmp_path / f"{path.name} store"
        done = limbeck("soften", "--data", tiny, "--from-file", path, *more, "--out", out)
        assert done.code == 0, done.err
        found, numbers = stored(out, tiny)
        # Of three classes the top two leave one, whose mass is known.
        assert np.allclose(found, probs[numbers], atol=2e-3), path.name
        assert ("topk" in (out / "manifest.json").read_text()) == path.name.startswith("top")


def test_a_student_learns_from_the_store_and_other_data_are_refused(tiny, probs, tmp_path, limbeck):
    np.save(tmp_path / "rows.npy", probs)
    done = limbeck("soften", "--data", tiny, "--from-file", tmp_path / "rows.npy", "--out", tmp_path / "store")
    assert done.code == 0 and "holds probabilities, by how they sum" in done.out + done.err
    run = ["distill", "--teacher-targets", tmp_path / "store", "--hidden", "4", "--epochs", "1", "--out"]
    assert limbeck(*run, tmp_path / "run", "--data", tiny).code == 0
    with np.load(tiny) as arrays:
        np.savez(tmp_path / "other.npz", x=arrays["x"][::-1], y=arrays["y"][::-1], classes=arrays["classes"])
    refused = limbeck(*run, tmp_path / "no", "--data", tmp_path / "other.npz")
    assert refused.code == 2 and "was written for other examples" in refused.err


@pytest.mark.parametrize(
    ("write", "flags", "message"),
    [
        (lambda path, p: np.save(path, p), ["--answers", "logits"], "second softmax would flatten them"),
        (lambda path, p: np.save(path, p[:-1]), [], "rows of saved answers, and"),
        (lambda path, p: np.save(path, p[:, :2] / p[:, :2].sum(1, keepdims=True)), [], "2 columns, and there are 3"),
        (lambda path, p: path.write_bytes(b"\x93NUMPY"), [], "is missing, damaged or not a .npy array"),
        (lambda path, p: np.save(path, np.array([{}])), [], "is missing, damaged or not a .npy array"),
        (lambda path, p: np.save(path, p), ["--index-column", "n"], "has no columns: leave --index-column out"),
        (lambda path, p: np.save(path, p), ["--shift", "1", "--views", "2"], "leave the augmentation out"),
        (lambda path, p: np.save(path, p), ["--teacher", "x"], "one of --teacher, --posteriors and --from-file"),
    ],
)
def test_files_that_do_not_fit_are_told_in_a_line(tiny, probs, tmp_path, limbeck, write, flags, message):
    path = tmp_path / "answers.npy"
    write(path, probs)
    done = limbeck("soften", "--data", tiny, "--from-file", path, *flags, "--out", tmp_path / "store")
    assert done.code == 2 and message in " ".join(done.err.split()), done.err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("one,two\n0.5,0.5\n", "has no column for the class 'three'"),
        ("one,two,three\n", "has no rows"),
        ("one,two,two\n1,2,3\n", "two columns are named 'two'"),
        ("one,two,three\n0.5,x,0.2\n", "column 'two' must hold numbers"),
        ("index,one,two,three\n,0.5,0.3,0.2\n", "column 'index' has gaps"),
        ("", "cannot be read as a table"),
    ],
)
def test_tables_of_answers_that_cannot_be_read_are_told_in_a_line(tiny, tmp_path, limbeck, table, message):
    (tmp_path / "answers.csv").write_text(table)
    done = limbeck("soften", "--data", tiny, "--from-file", tmp_path / "answers.csv", "--out", tmp_path / "store")
    assert done.code == 2 and message in " ".join(done.err.split()), done.err
