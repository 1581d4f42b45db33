"""Pages that run a network: what is in them, what Node.js computes of them, and images as Pillow resizes them."""

import base64
import hashlib
import html.parser
import json
import re
import shutil
import subprocess
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import torch
from exporter_makers import images, net
from PIL import Image
from torch import nn

import limbeck
from limbeck.data.image_transform import show
from limbeck.data.images import Held
from limbeck.errors import ConfigError, FormatError, ParityError
from limbeck.exporters import exporter_named
from limbeck.exporters.browser.inputs import tall_first
from limbeck.exporters.browser.layers import layers_of
from limbeck.exporters.browser.node import asked_in_node
from limbeck.kaldi.network import Nnet1, Nnet1Config
from limbeck.models import CNN, MLP, CNNConfig, MLPConfig, split_layers
from limbeck.options import ImagePresentation

pytestmark = pytest.mark.usefixtures("no_drawing")
in_node = pytest.mark.skipif(shutil.which("node") is None, reason="the program node (Node.js) is not installed")
HELD = images(60, seed=1)
HOSTILE = ("</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "<!-- {{ spec }}\u2028'")


class Parts(html.parser.HTMLParser):
    """The scripts of a page by id, and every element with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.elements, self._at = {}, [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._at = dict(attrs).get("id") if tag == "script" else None

    def handle_endtag(self, tag):
        self._at = None

    def handle_data(self, data):
        if self._at:
            self.scripts[self._at] = self.scripts.get(self._at, "") + data


def written(model, out, **options):
    options = {"data": HELD, "classes": ("one", "two", "three"), **options}
    return limbeck.export(model, out=out, formats=["browser"], **options)


def fake_node(monkeypatch):
    """A machine without Node.js."""
    monkeypatch.setattr("limbeck.exporters.browser.node.shutil.which", lambda name: None)


def test_a_page_is_one_file_that_names_its_scripts_and_nothing_else(tmp_path, monkeypatch):
    fake_node(monkeypatch)
    done = written(net(), tmp_path / "out")
    text = done.files["browser"].read_text()
    page = Parts(text)
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'" and "connect-src" not in rules and "unsafe-inline" not in policy
    for name in ("engine", "images", "app"):
        digest = base64.b64encode(hashlib.sha256(page.scripts[name].encode()).digest()).decode()
        assert f"'sha256-{digest}'" in rules["script-src"]
    loaded = [attrs for tag, attrs in page.elements if {"src", "href"} & set(attrs)]
    assert loaded == [] and "http://" not in text and "https://" not in text
    assert "style=" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    spec = json.loads(page.scripts["spec"])
    assert [sample["label"] for sample in spec["samples"]] == ["one", "two", "three"]
    weights = np.frombuffer(base64.b64decode(page.scripts["weights"]), np.float32)
    np.testing.assert_array_equal(weights[:192].reshape(64, 3).T, net()[1].weight.detach().numpy())
    assert len(text) - len(page.scripts["weights"]) < 100_000


def test_where_node_is_missing_the_report_says_that_the_page_was_not_run(tmp_path, monkeypatch):
    fake_node(monkeypatch)
    done = written(net(), tmp_path / "out")
    assert "not run here, so its predictions are not checked: its scripts are run by Node.js" in str(done)
    assert done.parity["formats"]["browser"]["not_run"] and "flips" not in done.parity["formats"]["browser"]
    with pytest.raises(ParityError, match="nothing shows that it is within the margin") as error:
        written(net(), tmp_path / "other", margin=1.0)
    assert error.value.exit_code == 2 and not (tmp_path / "other").exists()


def test_names_of_classes_cannot_inject_anything(tmp_path, monkeypatch):
    fake_node(monkeypatch)
    done = written(net(), tmp_path / "out", classes=HOSTILE)
    page = Parts(done.files["browser"].read_text())
    assert json.loads(page.scripts["spec"])["classes"] == list(HOSTILE)
    assert list(page.scripts) == ["spec", "weights", "engine", "images", "app"]
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)


def _cnn():
    torch.manual_seed(0)
    made = CNN(
        CNNConfig(input_shape=(1, 9, 8), classes=3, channels=(5, 6), padding=True, batch_norm=True, input_mean=0.1)
    )
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.normal_(part.weight)
    return made.eval()


def _mlp(**settings):
    torch.manual_seed(0)
    return MLP(MLPConfig(input_shape=(1, 9, 8), classes=3, hidden=(12, 6), **settings)).eval()


def _nnet1():
    torch.manual_seed(0)
    parts = (
        {"tag": "AddShift", "dim": 72}, {"tag": "Rescale", "dim": 72},
        {"tag": "AffineTransform", "inputs": 72, "outputs": 12},
        {"tag": "Maxout", "outputs": 6}, {"tag": "LengthNormComponent"}, {"tag": "Copy", "indices": [5, 0, 1, 2]},
        {"tag": "ParametricRelu", "dim": 4}, {"tag": "LinearTransform", "inputs": 4, "outputs": 4},
        {"tag": "HiddenSoftmax", "dim": 4}, {"tag": "Tanh", "dim": 4},
        {"tag": "AffineTransform", "inputs": 4, "outputs": 3},
    )  # fmt: skip
    made = Nnet1(Nnet1Config(input_shape=(72,), classes=3, components=parts)).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made


def _strided():
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(1, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(4, 2, 1, bias=False), nn.Sigmoid(), nn.Flatten(), nn.LazyLinear(3),
    ).eval()  # fmt: skip
    made(torch.zeros(1, 1, 9, 8))
    return made


OWN = {
    "mlp": lambda: _mlp(input_mean=0.2, input_std=0.4, dropout=0.2),
    "maxout": lambda: _mlp(activation="maxout", pieces=3),
    "sigmoid": lambda: _mlp(activation="sigmoid"),
    "tanh, low rank": lambda: _random(split_layers(_mlp(activation="tanh"), {"1": 4})),
    "nnet1": _nnet1,
    "cnn": _cnn,
    "cnn, low rank": lambda: _random(split_layers(_cnn(), {"5": 3})),
    "strides and dilation": _strided,
    "half": lambda: _mlp().half(),
}


def _random(model):
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


@in_node
@pytest.mark.parametrize("name", OWN)
def test_the_pages_own_layers_compute_what_pytorch_does(tmp_path, name):
    model = OWN[name]()
    x = torch.rand(7, 1, 9, 8, generator=torch.Generator().manual_seed(3))
    exporter_named("browser").write(model, x, tmp_path / "page.html", _card())
    assert '"runtime":"layers"' in (tmp_path / "page.html").read_text()
    with torch.no_grad():
        expected = model.float()(x)
    torch.testing.assert_close(asked_in_node(tmp_path / "page.html")(x), expected, atol=1e-5, rtol=1e-5)


def _card():
    from limbeck.exporters import Card

    return Card("network", ("one", "two", "three"))


def test_layers_that_are_not_certain_are_left_to_onnx():
    class Own(nn.Sequential):
        def forward(self, x):
            return 2 * super().forward(x)

    assert layers_of(Own(nn.Linear(2, 2)), flat=True) is None
    assert layers_of(nn.Sequential(nn.Linear(2, 2)), flat=False) is None
    assert layers_of(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)), flat=False) is None
    assert layers_of(nn.Sequential(nn.MaxPool2d(3, padding=1)), flat=False) is None
    hooked = nn.Sequential(nn.Linear(2, 2))
    hooked[0].register_forward_hook(lambda module, given, found: 2 * found)
    assert layers_of(hooked, flat=True) is None
    assert layers_of(nn.Sequential(nn.Linear(2, 2)), flat=True) is not None


@pytest.mark.slow
@in_node
def test_the_parity_report_runs_a_page_and_refuses_a_wrong_one(tmp_path, monkeypatch):
    found = written(net(), tmp_path / "out").parity["formats"]["browser"]
    assert found["flips"]["count"] == 0 and found["logit_differences"]["max"] < 1e-5
    assert set(found["batches"]) == {"1", "3", "257"} and found["speed"]["exported"]["p50_ms"] > 0
    from limbeck.exporters.browser import layers

    right = layers._linear
    swapped = lambda layer, found: right(_turned(layer), found)  # noqa: E731
    monkeypatch.setitem(layers._LAYERS, nn.Linear, swapped)
    with pytest.raises(ParityError, match="predictions differ that are not ties"):
        written(net(), tmp_path / "wrong")


def _turned(layer):
    """With weights as if images were transposed."""
    made = nn.Linear(64, 3)
    made.bias = layer.bias
    made.weight = nn.Parameter(layer.weight.view(3, 8, 8).transpose(1, 2).reshape(3, 64))
    return made


@in_node
def test_preprocessing_is_inside_for_programs_too(tmp_path):
    model = net(channels=3)
    model.presentation = ImagePresentation(size=8, crop_pct=1.0)
    done = written(model, tmp_path / "out", data=images(60, seed=1, channels=3), with_preprocessing=True)
    assert done.parity["formats"]["browser"]["probability_differences"]["max"] < 1e-5


@in_node
def test_files_that_are_no_pages_are_told(tmp_path):
    (tmp_path / "page.html").write_text("<html></html>")
    with pytest.raises(FormatError, match="is not a page that limbeck export --to browser wrote"):
        asked_in_node(tmp_path / "page.html")
    written(net(), tmp_path / "out")
    text = (tmp_path / "out" / "model.html").read_text()
    (tmp_path / "page.html").write_text(text.replace('"kind":"flatten"', '"kind":"none"'))
    with pytest.raises(FormatError, match="its scripts fail"):
        asked_in_node(tmp_path / "page.html")(torch.rand(1, 1, 8, 8))


def test_models_that_a_page_cannot_ask_for_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="a page cannot ask a person for 5,000 numbers"):
        limbeck.export(nn.Linear(5000, 2), torch.rand(4, 5000), out=tmp_path / "out", formats=["browser"])
    assert not list(tmp_path.iterdir())


SIZES = [(8, 8), (31, 17), (40, 90), (9, 200)]
FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")


@in_node
def test_images_are_resized_and_cropped_as_pillow_does():
    """To the bit: grey and colour, all filters, larger and smaller, with and without proportions and margins."""
    random, asked, expected = np.random.default_rng(0), [], []
    for number in range(48):
        size, channels = SIZES[number % 4], 1 if number % 3 == 0 else 3
        pixels = random.integers(0, 256, (channels, *size), np.uint8)
        seen = ImagePresentation(
            size=(12, 15) if number % 2 else 24, crop_pct=(1.0, 0.875, 0.9)[number % 3], squash=number % 5 == 0,
            interpolation=FILTERS[number % 6], channels=(3, 1)[number % 7 == 0],
        )  # fmt: skip
        expected.append(show(Held(pixels), seen).transpose(2, 0, 1).ravel().tolist())
        shown = {"height": seen.size[0], "width": seen.size[1], "channels": seen.channels, "crop": seen.crop_pct}
        asked.append(
            {
                "image": {"data": pixels.transpose(1, 2, 0).ravel().tolist(), "height": size[0], "width": size[1],
                          "channels": channels},
                "input": {**shown, "squash": seen.squash, "interpolation": seen.interpolation,
                          "tallFirst": tall_first()},
            }
        )  # fmt: skip
    found = in_javascript(
        "asked.map(({image, input}) => Array.from(limbeckImages.presented(image, input).data))", asked
    )
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one == other, f"{number}: {asked[number]['input']}"


def in_javascript(expression, asked, *scripts):
    """The value of an expression of scripts of the page, in Node.js."""
    folder = files("limbeck.exporters.browser") / "assets"
    source = "".join((folder / f"{name}.js").read_text() for name in (scripts or ("images",)))
    source += f"const asked = {json.dumps(asked)};\nconsole.log(JSON.stringify({expression}));"
    done = subprocess.run(["node", "--input-type=module", "-"], input=source, capture_output=True, text=True)
    assert not done.returncode, done.stderr[-2000:]
    return json.loads(done.stdout)


@in_node
@pytest.mark.parametrize("dark", [False, True])
def test_drawings_are_centred_as_the_digits_of_mnist_are(dark):
    """Larger side 20 pixels, centre of mass at pixel 14: measured of 5,000 digits, 20.0 and 14.0 in the mean."""
    seven = [[[0.1, 0.1], [0.5, 0.12], [0.3, 0.6]], [[0.2, 0.35], [0.42, 0.35]]]
    flat = [[[0.1, 0.5], [0.9, 0.52]]]
    dot = [[[0.3, 0.3]]]
    plain = {"height": 28, "width": 28, "channels": 1, "dark": dark}
    found = in_javascript(
        "asked[0].map((d) => Array.from(limbeckImages.drawn(d, asked[1]).data))", [[seven, flat, dot], plain]
    )
    for number, values in enumerate(found):
        cover = np.array(values, float).reshape(28, 28)
        cover = 255 - cover if dark else cover
        y, x = np.mgrid[:28, :28]
        assert abs((cover * x).sum() / cover.sum() - 14) < 0.1 and abs((cover * y).sum() / cover.sum() - 14) < 0.1
        box = max(np.ptp(np.flatnonzero(cover.any(axis))) + 1 for axis in (0, 1))
        assert number == 2 or 19 <= box <= 22


@in_node
def test_grey_of_colours_is_pillows():
    colours = np.random.default_rng(1).integers(0, 256, (1, 256, 3), np.uint8)
    asked = {"data": colours.ravel().tolist(), "height": 1, "width": 256, "channels": 3}
    plain = replace(ImagePresentation.plain((1, 256), channels=1))
    seen = {"height": 1, "width": 256, "channels": 1, "crop": 1, "squash": True, "interpolation": plain.interpolation}
    found = in_javascript("Array.from(limbeckImages.presented(asked[0], asked[1]).data)", [asked, seen])
    assert found == np.asarray(Image.fromarray(colours).convert("L")).ravel().tolist()
