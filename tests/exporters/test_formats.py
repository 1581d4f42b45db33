"""Files of each format: any number of examples, one file, nothing of Limbeck needed; networks of every kind."""

import inspect
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from exporter_makers import CLASSES, images, net
from torch import nn

import limbeck
from limbeck.errors import ConfigError, FormatError, ParityError
from limbeck.exporters import Opened, exporter_named, exporters, onnx_file
from limbeck.exporters.parity import BATCHES, judge_file
from limbeck.kaldi.network import Nnet1, Nnet1Config
from limbeck.models import CNN, MLP, CNNConfig, MLPConfig, split_layers, to_int8
from limbeck.models.calling import call_model
from limbeck.models.int8 import Int8Linear, Int8Portable
from limbeck.models.timm_models import make_timm
from limbeck.report.figures_style import colour
from limbeck.teachers.onnx_file import OnnxTeacher

onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
HELD = images(60, seed=1)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """One network in both formats, with its page."""
    out = tmp_path_factory.mktemp("export") / "shipped"
    return limbeck.export(net(), out=out, formats=["onnx", "torch"], data=HELD, classes=CLASSES)


@pytest.mark.parametrize("name", ["onnx", "torch"])
@pytest.mark.parametrize("size", BATCHES)
def test_any_number_of_examples(shipped, name, size):
    x = torch.rand(size, 1, 8, 8, generator=torch.Generator().manual_seed(size))
    ask = exporter_named(name).open(shipped.files[name])
    with torch.no_grad():
        torch.testing.assert_close(ask(x), net()(x), atol=1e-5, rtol=1e-5)


def test_an_onnx_file_is_one_with_names_axes_and_an_opset(shipped):
    proto = onnx.load(shipped.files["onnx"])
    onnx.checker.check_model(proto, full_check=True)
    metadata = {each.key: each.value for each in proto.metadata_props}
    assert metadata["classes"] == json.dumps(CLASSES)
    taken = json.loads(metadata["input"])
    assert (taken["layout"], taken["size"], taken["colours"], taken["dtype"]) == ("NCHW", [8, 8], "grey", "float32")
    assert (taken["mean"], taken["std"], taken["values"]) == ([0.0], [1.0], "(pixels / 255 - mean) / std")
    inside = {"classes.json": "", "input.json": ""}
    torch.export.load(shipped.files["torch"], extra_files=inside)
    assert json.loads(inside["input.json"]) == taken
    assert proto.opset_import[0].version == onnx_file.OPSET == shipped.parity["formats"]["onnx"]["opset"]
    (given,), (output,) = proto.graph.input, proto.graph.output
    shapes = [[a.dim_param or a.dim_value for a in each.type.tensor_type.shape.dim] for each in (given, output)]
    assert (given.name, output.name, shapes) == ("inputs", "logits", [["batch", 1, 8, 8], ["batch", 3]])
    assert not list(shipped.folder.glob("*.data"))
    assert OnnxTeacher(shipped.files["onnx"]).classes == CLASSES


def test_files_hold_neither_paths_of_the_machine_nor_rows_of_the_data(shipped):
    """Both libraries write them by themselves: the lines of code of each operation, and the example that was traced."""
    own = [str(Path(limbeck.__file__).parent), str(Path(torch.__file__).parent), str(Path(__file__).parent)]
    with zipfile.ZipFile(shipped.files["torch"]) as program:
        parts = {f"model.pt2:{name}": program.read(name) for name in program.namelist()}
    parts["model.onnx"] = shipped.files["onnx"].read_bytes()
    for name, content in parts.items():
        assert not any(path.encode() in content for path in own), name
        assert b"stack_trace" not in content, name
        assert "sample_inputs" not in name or not content
    weights = sum(4 * value.numel() for value in net().parameters())
    assert shipped.files["onnx"].stat().st_size < weights + 8192


def test_weights_of_two_gigabytes_go_beside(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "_LARGEST", 10)
    done = limbeck.export(nn.Linear(64, 30), torch.rand(4, 64), out=tmp_path / "out", formats=["onnx"])
    assert (done.folder / "model.onnx.data").stat().st_size >= 64 * 30 * 4
    assert done.parity["formats"]["onnx"]["bytes"] > 64 * 30 * 4


def test_the_page_shows_files_side_by_side(shipped):
    page = (shipped.folder / "parity.html").read_text()
    for words in ("Parity: all predictions agree", "model.onnx", "model.pt2", "Latency", "PyTorch"):
        assert words in page
    colours = [colour(name, ["onnx", "int8", "torch", "hub", "browser"]) for name in exporters()]
    assert len(set(colours)) == 5
    for name in ("onnx", "torch"):
        assert f"predictions of {name} differ" in page
    assert "<script" not in page and "http-equiv" in page
    machine = shipped.parity["machine"]
    assert machine["versions"]["torch"] == torch.__version__ and machine["cores"] >= 1
    speed = shipped.parity["formats"]["onnx"]["speed"]["exported"]
    assert 0 < speed["p50_ms"] <= speed["p95_ms"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_drawing")
def test_peak_memory_is_that_of_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setitem(inspect.unwrap(judge_file).__kwdefaults__, "memory", True)
    torch.manual_seed(0)
    large = nn.Sequential(nn.Flatten(), nn.Linear(64, 8192), nn.ReLU(), nn.Linear(8192, 1024), nn.Linear(1024, 3))
    formats = ["onnx", "torch", "hub", "int8"] + (["browser"] if shutil.which("node") else [])
    options = {"data": HELD, "classes": CLASSES, "formats": formats, "calibration": images(60, seed=2)}
    done = limbeck.export(large.eval(), out=tmp_path / "out", margin=99.0, **options)
    peaks = {name: found["peak_memory"] for name, found in done.parity["formats"].items()}
    weights = 4 * sum(value.numel() for value in large.parameters())
    for name in ("onnx", "torch", "hub"):
        assert weights < peaks[name]["bytes"] - peaks[name]["runtime_bytes"] < 8 * weights, (name, peaks)
    assert peaks["onnx"]["bytes"] < peaks["torch"]["bytes"]  # it has no PyTorch
    assert peaks["int8"]["bytes"] < peaks["onnx"]["bytes"]
    assert all(weights < peak["bytes"] for name, peak in peaks.items() if name != "int8")


def test_operators_that_onnx_lacks_are_named(tmp_path):
    class Odd(nn.Module):
        def forward(self, x):
            return torch.linalg.svdvals(x)[:, 0, :3]

    with pytest.raises(ConfigError, match="Odd cannot be exported to ONNX: .*_linalg_svd"):
        limbeck.export(Odd(), out=tmp_path / "out", formats=["onnx"], data=HELD)
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_told(tmp_path):
    (tmp_path / "model").write_bytes(b"nothing")
    for name, message in (("onnx", "onnxruntime does not take it"), ("torch", "is not a program of torch.export")):
        with pytest.raises(FormatError, match=message):
            exporter_named(name).open(tmp_path / "model")


@pytest.mark.parametrize("inputs", [7, 3000])
def test_8_bit_layers_compute_the_same_by_ordinary_products(inputs):
    torch.manual_seed(0)
    layer, x = Int8Linear.of(nn.Linear(inputs, 5)), torch.randn(40, inputs)
    x[0] = 0
    torch.testing.assert_close(Int8Portable(layer)(x), layer(x), atol=1e-6, rtol=2e-6)


@pytest.mark.slow
def test_files_are_loaded_without_limbeck(shipped, tmp_path):
    x = torch.rand(4, 1, 8, 8)
    np.save(tmp_path / "x.npy", x.numpy())
    script = """
import sys
sys.modules["limbeck"] = None  # an import of it fails
import numpy as np, onnxruntime, torch
x = np.load(sys.argv[1] + "/x.npy")
session = onnxruntime.InferenceSession(sys.argv[2] + "/model.onnx")
np.save(sys.argv[1] + "/onnx.npy", session.run(None, {"inputs": x})[0])
program = torch.export.load(sys.argv[2] + "/model.pt2").module()
np.save(sys.argv[1] + "/torch.npy", program(torch.from_numpy(x)).numpy())
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, tmp_path, shipped.folder], check=True)
    with torch.no_grad():
        expected = net()(x).numpy()
    for name in ("onnx", "torch"):
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), expected, atol=1e-5)


def _cnn(**settings):
    torch.manual_seed(0)
    made = CNN(CNNConfig(input_shape=(1, 8, 8), classes=3, channels=(6, 6), padding=True, **settings))
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return made.eval()


def _folded():
    made = _cnn(batch_norm=True)
    places = [place for place, part in enumerate(made) if isinstance(part, nn.Conv2d)]
    for place in places:
        made[place] = nn.utils.fusion.fuse_conv_bn_eval(made[place], made[place + 1])
        made[place + 1] = nn.Identity()
    return made


def _mlp(**settings):
    torch.manual_seed(0)
    return MLP(MLPConfig(input_shape=(1, 8, 8), classes=3, hidden=(32,), **settings)).eval()


def _nnet1():
    torch.manual_seed(0)
    parts = (
        {"tag": "AddShift", "dim": 64}, {"tag": "AffineTransform", "inputs": 64, "outputs": 12},
        {"tag": "Maxout", "outputs": 6}, {"tag": "LengthNormComponent"}, {"tag": "Copy", "indices": [5, 0, 1, 2]},
        {"tag": "ParametricRelu", "dim": 4}, {"tag": "AffineTransform", "inputs": 4, "outputs": 3},
    )  # fmt: skip
    return Nnet1(Nnet1Config(input_shape=(64,), classes=3, components=parts)).eval()


def _timm(name, **settings):
    torch.manual_seed(0)
    return make_timm(f"timm:{name}", classes=3, input_shape=(3, 32, 32), settings=settings or None).eval()


NETWORKS = {
    "mlp": lambda: _mlp(input_mean=0.2, input_std=0.4, dropout=0.2),
    "maxout": lambda: _mlp(activation="maxout"),
    "low rank": lambda: split_layers(_mlp(), {"1": 4}),
    "int8": lambda: to_int8(_mlp()),
    "nnet1": _nnet1,
    "cnn": lambda: _cnn(batch_norm=True),
    "cnn, folded": _folded,
    "cnn, low rank": lambda: split_layers(_cnn(), {"3": 3}),
    "mobilenet": lambda: _timm("mobilenetv3_small_050"),
    "resnet": lambda: _timm("resnet10t"),
    "vit": lambda: _timm("test_vit", img_size=[32, 32]),
    "half": lambda: _mlp().half(),
    "transformer": lambda: nn.Sequential(
        nn.Flatten(1, 2), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Flatten(), nn.Linear(64, 3)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_every_kind_decide_alike_in_both_formats(tmp_path, name):
    model = NETWORKS[name]()
    shown = getattr(model, "presentation", None)
    x, y = images(60, seed=5, channels=1 if shown is None else 3)
    done = limbeck.export(model, out=tmp_path / "out", formats=["onnx", "torch"], data=(x, y))
    for found in done.parity["formats"].values():
        assert found["flips"]["count"] == found["flips"]["ties"]
        assert found["logit_differences"]["max"] < 1e-2 * max(1.0, found["largest_logit"])


@pytest.mark.slow
@pytest.mark.usefixtures("no_drawing")
def test_the_parity_report_catches_an_onnx_file_with_a_transposed_weight(tmp_path, monkeypatch):
    written = onnx_file.replace_bytes

    def spoilt(path, content):
        proto = onnx.load_from_string(content)
        weight = max(proto.graph.initializer, key=lambda each: len(each.raw_data))
        array = onnx.numpy_helper.to_array(weight)
        turned = array.reshape(*array.shape[:-1], 8, 8).swapaxes(-1, -2).reshape(array.shape)
        weight.CopyFrom(onnx.numpy_helper.from_array(turned.copy(), weight.name))
        written(path, proto.SerializeToString())

    monkeypatch.setattr(onnx_file, "replace_bytes", spoilt)
    with pytest.raises(ParityError, match="predictions differ that are not ties"):
        limbeck.export(net(), out=tmp_path / "out", formats=["onnx"], data=HELD)
    assert [path.name for path in tmp_path.iterdir()] == ["out.refused"]


def test_opened_files_take_what_models_take(shipped):
    opened = Opened(exporter_named("torch").open(Path(shipped.files["torch"])))
    assert call_model(opened, torch.rand(2, 1, 8, 8)).shape == (2, 3)
