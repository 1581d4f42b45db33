"""Negative labels and gaps between labels, in files."""

import json
import warnings

import numpy as np
import pytest

import limbeck
from limbeck.errors import DataError, FormatError, LimbeckWarning

ROWS = 30
BELOW = np.arange(ROWS) % 3


def changed(value):
    labels = BELOW.copy()
    labels[4] = value
    return labels


def archive(place, labels, **more):
    np.savez(place / "some.npz", x=np.random.default_rng(0).random((ROWS, 4)), y=labels, **more)
    return limbeck.open_data(place / "some.npz")


def table(place, labels):
    lines = [f"{row / 7},{label}" for row, label in enumerate(labels)]
    (place / "some.csv").write_text("\n".join(["x,label", *lines]))
    return limbeck.open_data(place / "some.csv")


def texts(place, labels):
    rows = [json.dumps({"text": f"text {row}", "label": int(label)}) for row, label in enumerate(labels)]
    (place / "some.jsonl").write_text("\n".join(rows))
    return limbeck.open_data(place / "some.jsonl", text_column="text")


WAYS = {"archive": archive, "table": table, "texts": texts}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [-1, -100])
def test_a_negative_label_is_no_class(tmp_path, way, value):
    with pytest.raises(FormatError) as caught:
        WAYS[way](tmp_path, changed(value))
    said = str(caught.value)
    assert f"1 of 30 labels is {value}, the first of row 4, which marks a missing label: leave out" in said


@pytest.mark.parametrize("way", WAYS)
def test_negative_numbers_that_are_classes_stay(tmp_path, way):
    assert set(WAYS[way](tmp_path, np.arange(ROWS) % 5 - 2).classes) == {"-2", "-1", "0", "1", "2"}
    assert set(WAYS[way](tmp_path, np.where(np.arange(ROWS) % 2, 1, -1)).classes) == {"-1", "1"}


def test_a_test_part_without_labels_is_told_so_and_one_of_minus_one_and_one_may_hold_one_of_them(tmp_path):
    x, without = np.ones((6, 4)), np.full(6, -1)
    with pytest.raises(FormatError, match=r"y_test: 6 of 6 labels are -1, the first of row 0"):
        archive(tmp_path, BELOW, x_test=x, y_test=without)
    assert archive(tmp_path, np.where(BELOW, 1, -1), x_test=x, y_test=without).test is not None


@pytest.mark.parametrize("way", WAYS)
def test_gaps_are_told_and_labels_from_one_are_not(tmp_path, way):
    with pytest.warns(LimbeckWarning, match=r"whole numbers from 0 to 4, and none is 1, 3: there are 3 classes"):
        assert WAYS[way](tmp_path, 2 * BELOW).classes == ("0", "2", "4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert WAYS[way](tmp_path, BELOW + 1).classes == ("1", "2", "3")


def test_in_memory_a_negative_label_is_refused_too(tmp_path):
    with pytest.raises(DataError, match=r"labels must be at least 0, and the smallest is -1, of example 4"):
        limbeck.Examples.of(np.ones((ROWS, 4)), changed(-1))
