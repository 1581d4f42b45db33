"""Temperatures in the metrics of runs: fitted on validation, never on what is evaluated on."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import nn

import limbeck
from limbeck.data import DataSet, Examples
from limbeck.errors import ConfigError
from limbeck.evaluation.calibration import calibrated
from limbeck.evaluation.metrics import expected_calibration_error, negative_log_likelihood
from limbeck.evaluation.prediction import predict
from limbeck.runs import calibrating
from limbeck.runs.calibrating import calibration_of, temperature_of_run
from limbeck.runs.measure import speed_of


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setitem(speed_of.__kwdefaults__, "seconds", 0.002)


def part(count, seed):
    """Two classes told by the first input, with noise as large as the signal."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, generator=generator)
    return Examples.of(x, (x[:, 0] + torch.randn(count, generator=generator) > 0).long())


def too_sure(factor=9.0):
    net = nn.Linear(3, 2)
    with torch.no_grad():
        net.weight.copy_(factor * torch.tensor([[-1.0, 0.1, 0.0], [1.0, 0.0, 0.1]]))
        net.bias.zero_()
    return net


DATA = DataSet("noisy", ("no", "yes"), part(60, 0), part(300, 1), part(200, 2))


def best(model, examples):
    scores, labels = model(examples.inputs).detach().double().numpy(), examples.labels.numpy()

    def loss(beta):
        return -log_softmax(beta * scores, -1)[np.arange(len(labels)), labels].mean()

    return 1 / minimize_scalar(loss, bounds=(1e-3, 10), method="bounded", options={"xatol": 1e-9}).x


def test_every_role_has_its_temperature_of_validation_and_figures_of_the_test_set(tmp_path):
    torch.manual_seed(3)  # some initial weights answer no better than chance, and have no temperature
    teacher = too_sure()
    run = limbeck.distill(teacher, nn.Linear(3, 2), DATA, epochs=1, precision="float32", out=tmp_path / "run")
    labels = DATA.test.labels.numpy()
    for role, model in (("teacher", teacher), ("baseline", run.baseline), ("student", run.student)):
        found, expected = run.metrics[role], best(model, DATA.validation)
        assert found["calibration_temperature"] == pytest.approx(expected, rel=1e-3), role
        assert found["calibration_examples"] == 200
        scaled = calibrated(predict(model, DATA.test).numpy(), found["calibration_temperature"])
        assert found["calibrated_nll"] == pytest.approx(negative_log_likelihood(scaled, labels), rel=1e-9)
        assert found["calibrated_ece"] == pytest.approx(expected_calibration_error(scaled, labels), rel=1e-9)
    assert run.metrics["teacher"]["calibration_temperature"] > 3
    assert run.metrics["teacher"]["calibrated_ece"] < run.metrics["teacher"]["ece"] / 3
    assert temperature_of_run(tmp_path / "run") == run.metrics["student"]["calibration_temperature"]
    evaluated = limbeck.evaluate(teacher, DATA)
    assert evaluated["calibrated_nll"] == run.metrics["teacher"]["calibrated_nll"]
    smaller = limbeck.compress(run.student, DATA, int8=True).metrics["stages"]
    assert all(scores["calibrated_nll"] > 0 for scores in smaller.values())


def test_nothing_calibrated_is_said_of_what_it_was_fitted_on():
    run = limbeck.train(too_sure(), (DATA.train.inputs, DATA.train.labels), part(200, 2), epochs=1, learning_rate=1e-9)
    assert run.metrics["judged_on"] == "validation"
    assert run.metrics["model"]["calibration_temperature"] > 1
    assert "calibrated_ece" not in run.metrics["model"] and "calibrated_nll" not in run.metrics["model"]
    alone = limbeck.train(nn.Linear(3, 2), DATA.train, test=DATA.test, epochs=1, validation=None).metrics["model"]
    assert "calibration_temperature" not in alone or alone["calibration_examples"] < 60


def test_validation_answered_without_an_error_gives_no_temperature(tmp_path):
    right = Examples.of(torch.tensor([[1.0, 0, 0], [-1, 0, 0]]), torch.tensor([1, 0]))
    data = DataSet("sure", ("no", "yes"), DATA.train, DATA.test, right)
    run = limbeck.train(too_sure(), data, epochs=1, learning_rate=1e-9, out=tmp_path / "run")
    assert run.metrics["model"]["calibration_temperature"] is None
    assert "answered rightly" in run.metrics["model"]["calibration_why"]
    with pytest.raises(ConfigError, match="answered rightly"):
        temperature_of_run(tmp_path / "run")


def test_of_many_examples_some_are_drawn(monkeypatch):
    whole = calibration_of(too_sure(), DATA.validation)
    monkeypatch.setattr(calibrating, "_MOST_EXAMPLES", 150)
    some = calibration_of(too_sure(), DATA.validation)
    assert some.examples == 150 and some.digest == whole.digest
    assert some.temperature == pytest.approx(whole.temperature, rel=0.3)
    assert some.temperature != whole.temperature
