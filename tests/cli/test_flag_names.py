"""Errors on the command line name flags, whatever Python calls them."""

import numpy as np
import pytest

from limbeck.cli.flag_names import in_flags

FLAGS = {"hard_weight": "--hard-weight", "seeds": "--seeds", "out": "--out", "data": "--data", "source": "SOURCE",
         "calibrate": "--calibrate", "label_column": "--label-column", "label": "--label"}  # fmt: skip


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("hard_weight is 2, and must be in [0, 1]", "--hard-weight is 2, and must be in [0, 1]"),
        ("no labels: set hard_weight to 0", "no labels: set --hard-weight to 0"),
        ("runs/hard_weight: hard_weight is 3", "runs/hard_weight: --hard-weight is 3"),
        ("column 'hard_weight' is missing in hard_weight.csv", "column 'hard_weight' is missing in hard_weight.csv"),
        ("--hard-weight and hard_weights", "--hard-weight and hard_weights"),
        ("Name it with label_column (--label-column)", "Name it with --label-column"),
        ("seeds must be at least 1", "--seeds must be at least 1"),
        ("x: seeds must be at least 1", "x: --seeds must be at least 1"),
        ("of several seeds the best", "of several seeds the best"),
        ("calibrate fits a temperature", "--calibrate fits a temperature"),
        ("data are missing: leave out what is not there", "data are missing: leave out what is not there"),
        ("resume needs a folder: give out", "resume needs a folder: give --out"),
        ("give seeds too", "give --seeds too"),
        ("source is a file", "source is a file"),
        ("set it to limbeck.Presentation(x, hard_weight)", "set it to limbeck.Presentation(x, hard_weight)"),
        ("too many (hard_weight is 3)", "too many (--hard-weight is 3)"),
    ],
)  # fmt: skip
def test_names_of_python_become_flags_where_they_are_names(said, told):
    assert in_flags(said, FLAGS) == told
    assert in_flags(told, FLAGS) == told


@pytest.mark.parametrize(
    ("words", "starts"),
    [
        (["train", "--epochs", 0], "limbeck: --epochs must be at least 1"),
        (["train", "--batch-size", -1], "limbeck: --batch-size must be at least 1"),
        (["train", "--members", 0], "limbeck: --members must be at least 1"),
        (["distill", "--teacher", "t", "--hard-weight", 3], "limbeck: --hard-weight must be in [0, 1]"),
    ],
)
def test_what_a_command_says(limbeck, tmp_path, words, starts):
    np.savez(tmp_path / "data.npz", x=np.ones((30, 4), np.float32), y=np.arange(30) % 3)
    done = limbeck(*words, "--data", tmp_path / "data.npz", "--out", tmp_path / "out")
    assert done.code == 2 and done.err.startswith(starts)
