"""``limbeck compare``: two runs of one data set beside each other."""

import json


def test_runs_are_compared_by_what_they_kept(limbeck, tiny, teacher, tmp_path):
    words = ("train", "--data", tiny, "--hidden", 2, "--epochs", 1, "--precision", "float32", "--quiet")
    assert limbeck(*words, "--out", tmp_path / "small").code == 0
    done = limbeck("compare", teacher, tmp_path / "small")
    assert done.code == 0, done.err
    assert "small" in done.out
    assert "two networks alone" in done.err
    found = json.loads(limbeck("compare", teacher, tmp_path / "small", "--json").out)
    named = limbeck("compare", teacher, tmp_path / "small", "--data", tiny, "--json")
    assert json.loads(named.out) == found
    errors = json.loads((tmp_path / "small" / "metrics.json").read_text())["model"]["test_errors"]
    assert found["runs"][1]["scores"]["test_errors"] == errors


def test_one_run_or_none_is_a_users_mistake(limbeck, teacher, tmp_path):
    for words in ((), (teacher,), (teacher, tmp_path / "nothing")):
        done = limbeck("compare", *words)
        assert done.code == 2
        assert len(done.err.strip().splitlines()) == 1
