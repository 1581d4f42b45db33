"""8-bit files: as good within the margin or refused; layers whose rounding costs most stay float."""

import json

import pytest
import torch
from exporter_makers import CLASSES, images
from torch import nn

import limbeck
from limbeck.errors import ConfigError, ParityError
from limbeck.exporters import exporter_named, int8_file
from limbeck.models import to_int8
from limbeck.models.int8 import Int8Linear

onnx = pytest.importorskip("onnx")
pytestmark = [pytest.mark.usefixtures("no_drawing"), pytest.mark.slow]


def convolutional():
    """A convolution and two linear layers that tell the bright columns apart."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(384, 16), nn.ReLU(),
        nn.Linear(16, 3),
    )  # fmt: skip
    x, y = images(600, seed=9)
    return limbeck.train(model, (x, y), epochs=4, learning_rate=0.01, precision="float32").model


@pytest.fixture(scope="module")
def model():
    return convolutional()


def shipped(model, out, **options):
    given = {"data": images(2000, seed=10), "classes": CLASSES, "calibration": images(300, seed=11)}
    return limbeck.export(model, out=out, **{"formats": ["int8"], **given, **options})


def test_all_layers_have_8_bits_and_the_file_is_as_good(model, tmp_path):
    done = shipped(model, tmp_path / "out")
    found = done.parity["formats"]["int8"]
    assert found["layers"] == 3 and found["margin"]["outcome"] == "as good" and found["margin"]["margin"] == 0.5
    assert found["calibration_examples"] == 300
    graph = onnx.load(done.files["int8"]).graph
    kinds = {node.op_type for node in graph.node}
    assert {"Conv", "QuantizeLinear", "DequantizeLinear"} <= kinds and "BatchNormalization" not in kinds
    weights = [onnx.numpy_helper.to_array(each) for each in graph.initializer]
    rounded = [each for each in weights if each.dtype == "int8" and each.size > 40]
    assert len(rounded) == 3 and max(int(abs(each.astype(int)).max()) for each in rounded) <= 64  # 7 bits
    ask = exporter_named("int8").open(done.files["int8"])
    assert all(ask(torch.rand(n, 1, 8, 8)).shape == (n, 3) for n in (1, 3, 257))


def test_the_layer_whose_rounding_costs_most_stays_float(model, tmp_path, monkeypatch):
    spoilt = nn.Sequential(model, nn.Linear(3, 40), nn.Linear(40, 3)).eval()
    with torch.no_grad():  # its inputs have a range that nobody needs: 8 bits leave nothing of the rest
        first, last = spoilt[1], spoilt[2]
        first.weight.zero_(), first.bias.zero_(), last.weight.zero_(), last.bias.zero_()
        first.weight[:3] = torch.eye(3)
        first.bias[3] = 1e5
        last.weight[:, :3] = torch.eye(3)
    done = shipped(spoilt, tmp_path / "out")
    found = done.parity["formats"]["int8"]
    assert any("2.weight" in name or "1.weight" in name for name in found["float_layers"]), found
    assert found["calibration_divergence"]["chosen"] < 0.1 * found["calibration_divergence"]["all_int8"]
    monkeypatch.setattr(int8_file, "_ENOUGH", 1e9)  # all are rounded, and the file is refused
    with pytest.raises(ParityError, match="The int8 file is worse than the original by more than 0.5 points") as error:
        shipped(spoilt, tmp_path / "no")
    assert error.value.exit_code == 2
    assert "by finetune_epochs (--finetune-epochs)" in str(error.value)
    with pytest.raises(ParityError, match=r"refused, and .*model\.pt2 is kept: int8: ") as error:
        shipped(spoilt, tmp_path / "rest", formats=["torch", "int8"])
    assert error.value.exit_code == 2
    assert sorted(path.name for path in (tmp_path / "rest").iterdir()) == [
        "SHA256SUMS", "model.pt2", "parity.html", "parity.json",
    ]  # fmt: skip
    assert json.loads((tmp_path / "rest" / "parity.json").read_text())["formats"]["int8"]["refused"]


def test_a_network_of_8_bits_becomes_quantised_products(model, tmp_path):
    """Its own arithmetic, of ranges per row, is not written out in operators."""
    small = to_int8(nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3)).eval())
    x = images(600, seed=10)[0]
    with torch.no_grad():
        y = small(x.float() / 255).argmax(1)
    done = shipped(small, tmp_path / "out", data=(x, y), margin=20.0)
    found = done.parity["formats"]["int8"]
    kinds = {node.op_type for node in onnx.load(done.files["int8"]).graph.node}
    assert found["layers"] == 2
    assert kinds <= {"Reshape", "Flatten", "Gemm", "MatMul", "Add", "Relu", "QuantizeLinear", "DequantizeLinear"}
    assert type(small[1]) is Int8Linear, "the network itself is left as it is"


def test_calibration_on_what_says_nothing_is_caught(model, tmp_path):
    dark = images(64, seed=12)[0] // 25, None
    with pytest.raises(ParityError, match="int8 file is worse than the original"):
        shipped(model, tmp_path / "out", calibration=dark)


def test_a_calibration_set_of_one_class_is_caught(tmp_path):
    """Hidden units of the other classes are ten times as large, and are cut off at what the one class shows."""
    scale = torch.tensor([1.0, 10.0, 10.0])
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.ReLU(), nn.Linear(3, 3)).eval()
    with torch.no_grad():
        pattern = torch.zeros(3, 8, 8)
        for k in range(3):
            pattern[k, :, 2 * k : 2 * k + 2] = 1 / 16
        model[1].weight.copy_(scale[:, None] * pattern.reshape(3, -1))
        model[1].bias.copy_(-0.45 * scale)
        model[3].weight.copy_(torch.diag(20 / scale))
        model[3].bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    x, y = images(300, seed=11)
    whole = shipped(model, tmp_path / "whole", calibration=(x, y)).parity["formats"]["int8"]
    assert whole["exported"]["accuracy"] > 0.98
    with pytest.raises(ParityError, match="int8 file is worse than the original"):
        shipped(model, tmp_path / "one", calibration=(x[y == 0], y[y == 0]))
    assert (tmp_path / "one.refused" / "parity.json").exists()


def test_examples_to_calibrate_with_are_needed_and_others_than_those_judged_on(model, tmp_path):
    with pytest.raises(ConfigError, match="int8 is calibrated on training examples, and there are none"):
        shipped(model, tmp_path / "out", calibration=None)
    held = images(50)
    with pytest.raises(ConfigError, match="the calibration examples are those that the files are evaluated on"):
        shipped(model, tmp_path / "out", data=held, calibration=held)
    assert not list(tmp_path.iterdir())
