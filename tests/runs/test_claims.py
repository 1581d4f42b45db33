"""Margins in runs: judged, told before training, refused where there is nothing to judge by, shown in the report."""

import json

import pytest
import torch
from torch import nn

import limbeck
from limbeck.errors import ConfigError
from limbeck.evaluation.sample_size import examples_needed, smallest_difference
from limbeck.options import RankRule
from limbeck.runs.compressing import compress
from limbeck.runs.pages import report_run
from limbeck.system.callbacks import Callback
from limbeck.teachers import StoredTargets

SETTINGS = {"epochs": 1, "precision": "float32", "learning_rate": 0.01}


class Hearing(Callback):
    def __init__(self):
        self.notes = []

    def on_note(self, text):
        self.notes.append(text)


def part(count, seed):
    inputs = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return inputs, (inputs[:, 0] > 0).long()


def teacher():
    net = nn.Linear(6, 2)
    net.weight.data = torch.tensor([[-9.0, 0, 0, 0, 0, 0], [9.0, 0, 0, 0, 0, 0]])
    net.bias.data.zero_()
    return net


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_student_within_a_margin(tmp_path, seeds):
    heard = Hearing()
    run = limbeck.distill(
        teacher(), lambda seed: nn.Linear(6, 2), part(200, 0), part(40, 1), test=part(300, 2), seeds=seeds,
        margin=40.0, out=tmp_path / "run", callbacks=heard, **SETTINGS,
    )  # fmt: skip
    assert run.margin is not None and run.margin.reference_errors == (0,) * seeds
    assert len(run.margin.errors) == seeds
    written = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert written["margin"] == run.margin.to_dict() and written["verdict"]["harm"]["classes"] == 2
    told = [note for note in heard.notes if "are enough to show" in note]
    assert len(told) == 1 and f"{examples_needed(0.4):,}" in told[0] and "300 test examples" in told[0]
    assert f"{100 * smallest_difference(300):.2g} points" in told[0]
    page = report_run(tmp_path / "run").read_text()
    for sentence in (run.verdict.sentence, run.margin.sentence):
        assert sentence.replace(" %", "\N{NO-BREAK SPACE}%") in page.replace("&#39;", "'")


def test_on_validation_everything_says_so(tmp_path):
    run = limbeck.distill(
        teacher(), nn.Linear(6, 2), part(200, 0), part(60, 1), margin=1.0, out=tmp_path / "run", **SETTINGS
    )
    assert run.verdict.judged_on == run.margin.judged_on == "validation"
    page = report_run(tmp_path / "run").read_text()
    assert "validation errors" in page and "Validation errors" in page and "Validation examples" in page
    assert "test errors" not in page and "Test errors" not in page and "test examples" not in page


def test_compressed_within_a_margin_of_the_original():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 2))
    run = compress(net, part(200, 0), part(40, 1), test=part(300, 2), rule=RankRule(rank=(12,)), margin=30.0)
    original, last = list(run.metrics["stages"].values())
    assert run.margin.errors == (last["test_errors"],)
    assert run.margin.reference_errors == (original["test_errors"],)
    assert run.metrics["margin"] == run.margin.to_dict() and "the original" in str(run.margin)


def test_a_margin_that_cannot_be_judged_is_refused_before_training():
    with pytest.raises(ConfigError, match="margin must be above 0"):
        limbeck.distill(teacher(), nn.Linear(6, 2), part(50, 0), part(20, 1), margin=0.0, **SETTINGS)
    with pytest.raises(ConfigError, match="labelled test or validation examples"):
        limbeck.distill(teacher(), nn.Linear(6, 2), part(50, 0), margin=1.0, **SETTINGS)


def test_stored_answers_cannot_be_the_reference_of_a_margin():
    data = limbeck.data.DataSet("some", ("0", "1"), *(limbeck.data.Examples.of(*part(30, seed)) for seed in (0, 1)))
    stored = StoredTargets(torch.randn(30, 2).log_softmax(-1), data.train.index, source=data.train.source)
    with pytest.raises(ConfigError, match="give the teacher itself"):
        limbeck.distill(stored, nn.Linear(6, 2), data, margin=1.0, **SETTINGS)
