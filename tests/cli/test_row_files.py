"""Tables of somebody's own by commands alone: semicolons, gaps, names of rows, several labels in one column."""

import json

import numpy as np
import pandas
import pytest
import torch

from limbeck.data import open_data
from limbeck.softtargets import SoftTargets

FAST = ("--epochs", 1, "--batch-size", 32, "--precision", "float32", "--quiet")


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """Customers with tags, as a spreadsheet saves them."""
    folder = tmp_path_factory.mktemp("customers")
    values = np.random.default_rng(0).normal(size=(90, 3)).round(3)
    frame = pandas.DataFrame(values, columns=["w", "h", "d"]).assign(town=["Ulm", "Bonn", ""] * 30)
    frame.insert(0, "customer", [f"c{n:02}" for n in range(90)])
    frame["tags"] = [", ".join(tag for tag, value in zip("abc", row, strict=True) if value > 0) for row in values]
    frame.loc[::7, "h"] = None
    frame.to_csv(folder / "customers.csv", index=False, sep=";")
    return folder


@pytest.mark.slow
def test_several_labels_go_from_a_spreadsheet_to_predictions_and_back(tagged, limbeck):
    data = ["--data", tagged / "customers.csv", "--label-column", "tags", "--label-separator", ",", "--id-column",
            "customer"]  # fmt: skip
    told = limbeck("data", tagged / "customers.csv", *data[2:6], "--leave-out", "customer")
    assert told.code == 0 and "3 labels (multi-label)" in " ".join(told.out.replace("┃", "").split())
    for command in (
        ["train", *data, *FAST, "--hidden", 4, "--out", tagged / "teacher"],
        ["predict", tagged / "teacher", tagged / "customers.csv", "--out", tagged / "said.csv", "--quiet"],
        ["soften", *data, "--from-file", tagged / "said.csv", "--out", tagged / "store", "--quiet"],
        ["soften", *data, "--teacher", tagged / "teacher", "--out", tagged / "live", "--quiet"],
        ["distill", *data, *FAST, "--teacher-targets", tagged / "store", "--hidden", 4, "--out", tagged / "student"],
    ):  # fmt: skip
        done = limbeck(*command)
        assert done.code == 0, done.err
    said = pandas.read_csv(tagged / "said.csv")
    assert said["id"].tolist() == [f"c{n:02}" for n in range(90)]  # named as the run's own rows were
    assert set(said.columns) == {"id", "label", "prob_a", "prob_b", "prob_c"}
    settings = {"label_column": "tags", "label_separator": ",", "id_column": "customer", "validation": 0.1}
    train = open_data(tagged / "customers.csv", **settings).train
    batch = train.unseen().batch(torch.arange(len(train)))
    stores = [SoftTargets.open(tagged / name, examples=train).log_probs(batch, 1.0) for name in ("store", "live")]
    assert (stores[0] - stores[1]).abs().max() < 2e-3
    told = limbeck("evaluate", tagged / "student", "--data", tagged / "customers.csv", "--json")
    assert told.code == 0, told.err
    found, kept = json.loads(told.out), json.loads((tagged / "student/metrics.json").read_text())["student"]
    assert found["test_errors"] == kept["test_errors"] and found["macro_f1"] == kept["macro_f1"]
    shuffled = said.sample(frac=1, random_state=0)
    shuffled[5:].to_csv(tagged / "few.csv", index=False)
    done = limbeck("soften", *data, "--from-file", tagged / "few.csv", "--out", tagged / "no", "--quiet")
    assert done.code == 2 and "few.csv has no row for 'c" in done.err and not (tagged / "no").exists()


def test_a_share_that_is_a_file_is_told_where_the_file_belongs(tagged, limbeck):
    done = limbeck("train", "--data", tagged / "customers.csv", "--validation", "val.csv", "--out", tagged / "run")
    assert done.code == 2 and "--validation-data names a file to choose by" in " ".join(done.err.split())
