"""``limbeck mutual``: a run as the others, from the command line."""

import json

import pytest


@pytest.mark.slow
def test_students_learn_from_each_other_and_the_run_is_one_as_others(limbeck, tiny, tmp_path):
    small = ("--hidden", 8, "--batch-size", 32, "--precision", "float32", "--epochs", 2, "--quiet")
    given = ("mutual", "--data", tiny, "--student", "mlp", *small, "--order", "in turn", "--out", tmp_path / "two")
    done = limbeck(*given)
    assert done.code == 0, done.err
    assert "The first student is in" in done.err and (tmp_path / "two" / "report.html").exists()
    assert limbeck(*given, "--resume").code == 0
    evaluated = limbeck("evaluate", tmp_path / "two", "--data", tiny, "--json")
    assert evaluated.code == 0, evaluated.err
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert metrics["verdict"] is not None and len(metrics["students"]) == 2
    wrong = limbeck(*given[:-1], tmp_path / "one", "--students", 1)
    assert wrong.code == 2 and "students must be from 2 to 64" in wrong.err
