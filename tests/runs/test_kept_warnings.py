"""What is odd about a run is kept: in its metrics, its report and its HTML form, once, also over a stop."""

import json

import pytest
import torch
from torch import nn

import limbeck
from limbeck.errors import InterruptedRun
from limbeck.runs.folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore")
X = torch.randn(80, 4, generator=torch.Generator().manual_seed(0))
SOME = (X, (X[:, 0] > 0).long())
SHORT = {"epochs": 2, "precision": "float32", "progress": False}


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr("limbeck.report.page.draw_all", lambda contents: {})


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(4, 2)


def guesses(seed=0):
    """A teacher that is wrong everywhere."""
    model = net()
    with torch.no_grad():
        model.weight.zero_()
        model.weight[0, 0], model.weight[1, 0] = 3.0, -3.0
    return model


def test_a_leaked_test_set_stands_in_metrics_html_and_report(tmp_path):
    run = limbeck.train(net(), SOME, test=SOME, out=tmp_path / "run", **SHORT)
    kept = json.loads((tmp_path / "run" / "metrics.json").read_text())["warnings"]
    assert kept == run.metrics["warnings"] and len(kept) == len(set(kept))
    assert any("test examples are in the training set" in text for text in kept)
    assert "Warning" in run._repr_html_() and "test examples are in the training set" in run._repr_html_()
    page = run.report().read_text()
    assert page.index("test examples are in the training set") < page.index("<h2>")
    assert not (tmp_path / "run" / "warnings.json").exists()
    assert limbeck.open_run(tmp_path / "run").metrics["warnings"] == kept


def test_a_teacher_with_swapped_classes_is_kept_without_a_folder_too():
    run = limbeck.distill(guesses(), net(1), SOME, **SHORT)
    assert any("the teacher answers class 0 as 1" in text for text in run.metrics["warnings"])


def test_that_nothing_is_left_to_judge_on_is_kept(tmp_path):
    run = limbeck.distill(
        net(), net(1), X, classes=["a", "b"], hard_weight=0.0, baseline=False, out=tmp_path / "run", **SHORT
    )
    kept = [text for text in run.metrics["warnings"] if "nothing is evaluated and there is no verdict" in text]
    assert len(kept) == 1
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["warnings"] == run.metrics["warnings"]
    assert "there is no verdict" in run._repr_html_() and "there is no verdict" in run.report().read_text()


def test_a_run_without_warnings_has_none(tmp_path):
    wide = torch.randn(400, 4, generator=torch.Generator().manual_seed(1))
    parts = [(part, (part[:, 0] > 0).long()) for part in wide.split(200)]
    run = limbeck.train(net(), parts[0], test=parts[1], out=tmp_path / "run", learning_rate=0.1, **SHORT)
    assert "warnings" not in run.metrics and "Warning" not in run._repr_html_()


class Stops(limbeck.Callback):
    def on_epoch(self, row):
        if row["epoch"] == 2:  # there is a checkpoint of the first, so that the run can be resumed
            raise KeyboardInterrupt


def test_warnings_before_a_stop_are_kept_once(tmp_path):
    given = {"test": SOME, "out": tmp_path / "run", **SHORT}
    with pytest.raises((KeyboardInterrupt, InterruptedRun)):
        limbeck.distill(guesses(), net(1), SOME, callbacks=Stops(), **given)
    before = RunFolder(tmp_path / "run").warnings()
    assert "the teacher answers class 0 as 1" in " ".join(before)
    RunFolder(tmp_path / "run").keep_warnings(["seen before the stop alone", *before])
    run = limbeck.distill(guesses(), net(1), SOME, resume=True, **given)
    texts = run.metrics["warnings"]
    assert texts[0] == "seen before the stop alone" and texts[1 : 1 + len(before)] == before
    assert len(texts) == len(set(texts)) > 1 + len(before)  # the test set is looked at in the end
    again = limbeck.distill(guesses(), net(1), SOME, resume=True, **given)
    assert again.metrics["warnings"] == texts


def test_markup_in_a_warning_is_text(tmp_path):
    run = limbeck.train(net(), SOME, test=SOME, out=tmp_path / "run", **SHORT)
    run.metrics["warnings"] = ["<script>alert(1)</script>"]
    assert "<script>" not in run._repr_html_()
    RunFolder(tmp_path / "run").write_metrics(run.metrics)
    assert "<script>alert" not in run.report().read_text()


def test_warnings_of_trainings_in_other_processes_are_kept(tmp_path):
    run = limbeck.distill(guesses(), net, SOME, seeds=2, jobs=2, baseline=False, out=tmp_path / "run", **SHORT)
    one = limbeck.distill(guesses(), net, SOME, seeds=2, baseline=False, **SHORT)
    assert set(one.metrics["warnings"]) <= set(run.metrics["warnings"])


def test_a_comparison_says_what_was_odd_about_each_run(tmp_path):
    for name in ("one", "two"):
        limbeck.train(net(), SOME, test=SOME, out=tmp_path / name, **SHORT)
    data = limbeck.DataSet("some", ("0", "1"), limbeck.Examples.of(*SOME), limbeck.Examples.of(*SOME).numbered_from(80))
    found = limbeck.compare(tmp_path / "one", tmp_path / "two", data=data, out=tmp_path / "both")
    names = [text.split(":")[0] for text in found.warnings]
    assert set(names) == {"one", "two"} and names == sorted(names)
    assert "test examples are in the training set" in str(found) and found.to_dict()["warnings"] == list(found.warnings)
    assert "two: " in found.page.read_text()
