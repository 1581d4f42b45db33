"""``limbeck compare-methods``: a comparison from files to a table."""

import json

from limbeck.comparing import comparison as comparison_module
from limbeck.comparing.arms import Arm


def test_a_comparison_of_files_makes_a_table_and_a_report(limbeck, tiny, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison_module, "arms_for", lambda methods: [Arm("labels"), Arm("kd", "kd")])
    out = tmp_path / "out"
    words = (
        "compare-methods", "--data", tiny, "--teacher", teacher, "--hidden", 8, "--batch-size", 32, "--methods", "kd",
        "--trials", 1, "--seeds", 2, "--epochs", 1, "--precision", "float32", "--out", out,
    )  # fmt: skip
    done = limbeck(*words)
    assert done.code == 0, done.err
    assert "not shown" in done.out
    assert "methods.md" in done.err
    assert (out / "results" / "methods.md").read_text().startswith("# Methods of distillation, compared")
    again = limbeck(*words, "--resume", "--json")
    assert [row["name"] for row in json.loads(again.out)["rows"]] == ["labels", "kd"]
