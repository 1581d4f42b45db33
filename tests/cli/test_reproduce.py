"""``limbeck reproduce`` on the command line."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from tiny_runs import tiny_arrays

from limbeck.recipes.catalogue import RECIPES


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Six classes, enough of each for three parts."""
    path = tmp_path_factory.mktemp("data") / "six.npz"
    x, y = tiny_arrays(count=360, classes=4)
    np.savez(path, x=x, y=y, classes=np.array(["a", "b|c", "<d>", "e"]))
    return path


def test_the_list_names_every_recipe_and_needs_no_torch(limbeck):
    done = limbeck("reproduce", "--list")
    assert done.code == 0
    for recipe in RECIPES:
        assert recipe.name in done.out
    assert "--data" in done.out
    listed = json.loads(limbeck("reproduce", "--list", "--json").out)
    assert [row["name"] for row in listed] == [recipe.name for recipe in RECIPES]
    code = "import sys; from limbeck.cli import main; main(['reproduce', '--list']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_recipe_of_other_data_writes_where_it_is_told_and_says_so(limbeck, wide, tmp_path):
    words = ["reproduce", "specialists", "--quick", "--seeds", 1, "--data", wide, "--out", tmp_path / "runs"]
    done = limbeck(*words, "--results", tmp_path / "docs")
    assert done.code == 0, done.err
    assert "the generalist" in done.out and "Specialists" in done.err
    text = (tmp_path / "docs" / "specialists.md").read_text()
    assert "limbeck reproduce specialists --seeds 1 --quick --data six.npz" in text
    assert str(tmp_path) not in text
    assert "b\\|c" in text  # a class's name does not break the table
    page = (tmp_path / "runs" / "quick" / "specialists" / "report.html").read_text()
    assert "&lt;d&gt;" in page and "<d>" not in page
    assert re.findall(r'(?:src|href)="(?!data:)([^"]*)', page) == ["https://arxiv.org/abs/1503.02531"]
    values = json.loads(limbeck(*words, "--json").out)
    assert set(values) == {"generalist", "specialists", "distilled", "control"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reproduce"], "--list"),
        (["reproduce", "mnists"], "did you mean mnist"),
        (["reproduce", "ensemble"], "--data emnist-letters.mat"),
        (["reproduce", "mnist", "--data", "x.npz"], "leave --data out"),
        (["reproduce", "ensemble", "--data", "missing.npz", "--quick"], "missing.npz"),
        (["reproduce", "mnist", "--seeds", 0], "seeds"),
        (["reproduce", "mnist", "--seeds", "1.5"], "whole number"),
        (["reproduce", "mnist", "--epochs-factor", "nan"], "epochs-factor"),
        (["reproduce", "mnist", "--jobs", "-1"], "jobs"),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing(limbeck, tmp_path, words, said):
    out = tmp_path / "new"
    done = limbeck(*words, "--out", out)
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1, done.err
    assert not list(out.rglob("*.*"))


def test_a_folder_that_is_a_run_is_refused(limbeck, tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "config.toml").write_text("")
    done = limbeck("reproduce", "mnist", "--out", tmp_path)
    assert done.code == 2 and "is the folder of a run" in done.err
    assert [path.name for path in (tmp_path / "mnist").iterdir()] == ["config.toml"]


def test_a_folder_that_is_a_file_is_refused(limbeck, tmp_path):
    (tmp_path / "file").write_text("")
    done = limbeck("reproduce", "mnist", "--quick", "--out", tmp_path / "file")
    assert done.code == 2 and "cannot make the folder" in done.err
