"""Calibrated exports: the temperature is inside every file, and the files are compared with the calibrated model."""

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exporter_makers import CLASSES, images, net
from torch import nn

import limbeck
from limbeck.data import DataSet, Examples
from limbeck.errors import ConfigError
from limbeck.evaluation.metrics import expected_calibration_error
from limbeck.evaluation.prediction import predict
from limbeck.exporters.browser.node import asked_in_node
from limbeck.exporters.tempered import Tempered, tempered
from limbeck.models import to_int8
from limbeck.models.factored import Factored
from limbeck.runs.calibrating import calibration_of, checked_temperature

pytestmark = pytest.mark.usefixtures("no_drawing")
X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Twice(nn.Module):
    """A layer whose weights are used in two places, so that dividing them is something else."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x.flatten(1))))[:, :3]


class Early(nn.Module):
    """The layer that makes the logits is the first by name."""

    def __init__(self):
        super().__init__()
        self.head, self.body = nn.Linear(8, 3), nn.Linear(64, 8)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x.flatten(1))))


def made(kind):
    torch.manual_seed(0)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3))
    return {
        "linear": lambda: flat,
        "early": Early,
        "convolution": lambda: nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten()),
        "factored": lambda: nn.Sequential(nn.Flatten(), Factored(nn.Linear(64, 3), 2)),
        "int8": lambda: to_int8(flat),
        "bfloat16": lambda: flat.bfloat16(),
        "twice": Twice,
        "nothing to divide": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Tanh()),
    }[kind]().eval()


@pytest.mark.parametrize(
    "kind", ["linear", "early", "convolution", "factored", "int8", "bfloat16", "twice", "nothing to divide"]
)
@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_logits_are_divided_inside_the_weights_wherever_that_can_be(kind, temperature):
    model = made(kind)
    x = X.bfloat16() if kind == "bfloat16" else X
    with torch.no_grad():
        wanted = model(x).double() / temperature
        found = tempered(model, temperature, x)
        tolerance = 0.02 if kind == "bfloat16" else 1e-5
        torch.testing.assert_close(found(x).double(), wanted, rtol=tolerance, atol=tolerance)
    assert isinstance(found, Tempered) == (kind in {"twice", "nothing to divide"})  # which end in a tanh, or the like


def test_what_was_tried_in_vain_is_as_it_was():
    model = made("twice")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tempered(model, 3.0, X)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def too_sure():
    model = net()
    with torch.no_grad():
        model[1].weight.mul_(4)
    return model


def data(seed=0):
    """A third of the labels is noise: a model that answers rightly elsewhere is too sure of itself."""

    def part(count, seed):
        x, y = images(count, seed)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.rand(count, generator=generator) < 0.3
        return Examples.of(x, torch.where(noise, torch.randint(0, 3, (count,), generator=generator), y))

    return DataSet("noisy", CLASSES, part(60, seed), part(150, seed + 1), part(150, seed + 2))


def check_onnx(path, inputs, wanted, temperature):
    (logits,) = onnxruntime.InferenceSession(str(path)).run(None, {"inputs": inputs.float().numpy() / 255})
    np.testing.assert_allclose(logits, wanted.numpy(), atol=1e-4)
    names = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert float(names["temperature"]) == pytest.approx(temperature) and json.loads(names["classes"]) == list(CLASSES)


@pytest.mark.parametrize("formats", [["torch"], pytest.param(["onnx", "torch", "hub", "int8"], marks=pytest.mark.slow)])
def test_every_format_answers_with_the_temperature_of_validation(tmp_path, formats):
    model, given = too_sure(), data()
    done = limbeck.export(model, out=tmp_path / "out", formats=formats, data=given, calibrate=True, margin=3.0)
    temperature = calibration_of(model, given.validation).temperature
    assert temperature > 1.5 and done.parity["temperature"] == pytest.approx(temperature)
    with torch.no_grad():
        wanted = model(given.test.inputs.float() / 255) / temperature
    if "onnx" in formats:
        check_onnx(done.files["onnx"], given.test.inputs, wanted, temperature)
    for name in {"torch", "hub"} & set(formats):
        path = done.files[name] / "model.pt2" if name == "hub" else done.files[name]
        answered = torch.export.load(path).module()(given.test.inputs.float() / 255)
        torch.testing.assert_close(answered, wanted, atol=1e-4, rtol=1e-4)
    found = done.parity["formats"]
    if "hub" in formats:
        assert f"divided by {temperature:.4g}" in (done.files["hub"] / "README.md").read_text()
    before = expected_calibration_error(predict(model, given.test).numpy(), given.test.labels.numpy())
    for measured in found.values():
        assert measured["original"]["ece"] < before / 2 and measured["exported"]["ece"] < before / 2
        assert measured["divergence"]["mean"] < 1e-3
    assert torch.equal(model(X), too_sure()(X)), "the model that was given is as it was"


@pytest.mark.skipif(shutil.which("node") is None, reason="the program node (Node.js) is not installed")
@pytest.mark.parametrize("pixels", [False, True])
def test_a_page_answers_with_the_temperature_of_validation(tmp_path, pixels):
    model, given = too_sure(), data()
    options = {"with_preprocessing": pixels, "calibrate": True}
    done = limbeck.export(model, out=tmp_path / "out", formats=["browser"], data=given, **options)
    temperature = calibration_of(model, given.validation).temperature
    assert temperature > 1.5 and done.parity["temperature"] == pytest.approx(temperature)
    assert done.parity["formats"]["browser"]["flips"]["count"] == 0
    shown = given.test.inputs if pixels else given.test.inputs.float() / 255
    answered = asked_in_node(done.files["browser"])(shown)
    with torch.no_grad():
        wanted = model(given.test.inputs.float() / 255) / temperature
    torch.testing.assert_close(answered, wanted.softmax(-1) if pixels else wanted, atol=1e-4, rtol=1e-4)


def test_a_temperature_of_ones_own_and_pixels(tmp_path):
    given = data()
    done = limbeck.export(
        net(), out=tmp_path / "out", formats=["torch"], data=given, temperature=2.0, with_preprocessing=True
    )
    answered = torch.export.load(done.files["torch"]).module()(given.test.inputs)
    torch.testing.assert_close(answered, (net()(given.test.inputs.float() / 255) / 2).softmax(-1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibrate": True}, "calibrate fits a temperature on the validation part"),
        ({"temperature": 0.0}, "temperature must be a positive"),
        ({"temperature": 2.0, "calibrate": True}, "leave one of them out"),
    ],
)
def test_wrong_calls_are_told_and_write_nothing(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        limbeck.export(net(), out=tmp_path / "out", formats=["torch"], data=images(60, 1), **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", [2, 2.0, np.int64(2), np.float32(2), np.float64(2)])
def test_a_temperature_may_be_a_number_of_numpy(given):
    assert type(checked_temperature(given)) is float and checked_temperature(given) == 2.0


@pytest.mark.parametrize("given", [True, np.bool_(True), "2", None, np.float32("nan"), np.inf, -1])
def test_what_is_no_temperature_is_refused(given):
    with pytest.raises(ConfigError, match="must be a positive and finite number"):
        checked_temperature(given)
