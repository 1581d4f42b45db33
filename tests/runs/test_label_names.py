"""Labels that are names, as scikit-learn and pandas have them."""

import numpy as np
import pytest
import torch
from torch import nn

import limbeck
from limbeck.errors import DataError
from limbeck.runs.inputs import as_data_set
from limbeck.runs.label_names import numbered_labels

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
NAMES = np.where(X[:, 0].numpy() > 0, "yes", "no")


@pytest.mark.parametrize("made", [np.array, list, tuple, lambda names: names.astype(object)])
def test_names_become_indices_in_sorted_order(made):
    data = as_data_set((X, made(NAMES)), None, (X, NAMES), None)
    assert data.classes == ("no", "yes")
    assert torch.equal(data.train.labels, (X[:, 0] > 0).long()) and torch.equal(data.test.labels, data.train.labels)


def test_series_and_a_given_order():
    pandas = pytest.importorskip("pandas")
    data = as_data_set((X, pandas.Series(NAMES, index=range(100, 140))), None, None, ("yes", "no"))
    assert data.classes == ("yes", "no") and torch.equal(data.train.labels, (X[:, 0] <= 0).long())


def test_parts_of_a_data_set_are_named_by_its_classes():
    whole = as_data_set((X, NAMES), None, None, ("yes", "no"))
    data = as_data_set(whole, None, (X, NAMES), None)
    assert torch.equal(data.test.labels, whole.train.labels) and data.classes == ("yes", "no")


def test_an_unknown_name_is_told():
    with pytest.raises(DataError, match="test data: example 1 has the label 'maybe', and the classes are 'no', 'yes'"):
        as_data_set((X, NAMES), None, (X, np.array(["no", "maybe"] * 20)), None)
    with pytest.raises(DataError, match="training data: example [0-9]+ has the label 'yes'"):
        as_data_set((X, NAMES), None, None, ("no", "certainly"))


def test_what_is_no_pair_of_inputs_and_names_is_left_alone():
    items = [("a text", "one"), ("another", "two")]  # a data set of two items
    for given in (items, (X, torch.arange(40) % 2), (X, None), X, "letters.mat", None, (X, [])):
        made, classes = numbered_labels({"training": given}, None)
        assert made["training"] is given and classes is None


@pytest.mark.filterwarnings("ignore")
def test_a_run_on_names_is_that_on_indices(tmp_path):
    def run(labels, **more):
        torch.manual_seed(0)
        short = {"epochs": 2, "precision": "float32", "progress": False}
        return limbeck.train(nn.Linear(3, 2), (X, labels), test=(X, labels), **short, **more)

    named, numbered = run(NAMES), run((X[:, 0] > 0).long(), classes=("no", "yes"))
    assert torch.equal(named.model.weight, numbered.model.weight)
    assert named.metrics["model"]["test_errors"] == numbered.metrics["model"]["test_errors"]
