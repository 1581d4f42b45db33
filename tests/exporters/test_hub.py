"""Folders in the layout of the Hugging Face Hub: loaded by what their model card names, never by Limbeck."""

import dataclasses
import json
import math

import pytest
import torch
from exporter_makers import CLASSES, images, net
from torch import nn

import limbeck
from limbeck.errors import ConfigError
from limbeck.exporters import Card
from limbeck.exporters.model_card import model_card
from limbeck.lowrank import restructure
from limbeck.models import CNN, MLP, CNNConfig, MLPConfig
from limbeck.models.timm_models import import_timm, make_timm
from limbeck.options import ImagePresentation, TextPresentation

pytestmark = pytest.mark.usefixtures("no_drawing")


def test_any_network_is_a_program_beside_its_weights(tmp_path):
    done = limbeck.export(
        net(), out=tmp_path / "out", formats=["hub"], data=images(30, seed=1), classes=CLASSES,
        metrics={"verdict": {"sentence": "It helped."}, "model": {"title": "a|b", "accuracy": 0.91}},
    )  # fmt: skip
    folder = done.files["hub"]
    assert sorted(each.name for each in folder.iterdir()) == [
        "README.md", "config.json", "model.pt2", "model.safetensors", "preprocessor_config.json"
    ]  # fmt: skip
    shown = json.loads((folder / "preprocessor_config.json").read_text())
    assert shown == ImagePresentation.plain(8, channels=1).to_processor()
    assert json.loads((folder / "config.json").read_text())["id2label"] == dict(zip("012", CLASSES, strict=True))
    card = (folder / "README.md").read_text()
    for words in (
        "library_name: pytorch",
        "It helped.",
        "| accuracy | 91.00% |",
        '"two"',
        "## Intended use and limits",
    ):
        assert words in card
    code = card.split("```python\n")[1].split("```")[0].replace("FOLDER", str(folder))
    found = {}
    exec(code, found)  # what the card says works
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(found["model"](x), net()(x), atol=1e-6, rtol=1e-6)
    with pytest.raises(ConfigError, match="hub: preprocessor_config.json says how images are normalised"):
        limbeck.export(net(), out=tmp_path / "no", formats=["hub"], data=images(9), with_preprocessing=True)


@pytest.mark.parametrize("kind", ["mlp", "cnn", "low rank"])
def test_limbeck_loads_its_own_networks(tmp_path, kind):
    shape = {"input_shape": (1, 8, 8), "classes": 3, "hidden": (16,)}
    model = CNN(CNNConfig(channels=(4,), **shape)) if kind == "cnn" else MLP(MLPConfig(**shape))
    if kind == "low rank":
        model = restructure(model, {"1": 2})
    done = limbeck.export(model.eval(), out=tmp_path / "out", formats=["hub"], data=images(30, seed=1), classes=CLASSES)
    again = limbeck.load(done.files["hub"])
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(again(x), model(x))
    assert again.classes == tuple(CLASSES)


def test_a_network_that_was_changed_by_hand_is_a_program_alone(tmp_path):
    model = MLP(MLPConfig(input_shape=(1, 8, 8), classes=4, hidden=(16,)))
    model[-1] = nn.Linear(16, 3)  # its config still says four classes
    done = limbeck.export(model.eval(), out=tmp_path / "out", formats=["hub"], data=images(30, seed=1), classes=CLASSES)
    config = json.loads((done.files["hub"] / "config.json").read_text())
    assert "model_type" not in config


@pytest.mark.slow
def test_a_class_with_the_hubs_mixin_is_loaded_by_itself(tmp_path):
    hub = pytest.importorskip("huggingface_hub")

    class Own(nn.Module, hub.PyTorchModelHubMixin):
        def __init__(self, width: int = 7, model: str = "plain") -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))
            self.kind = model

        def forward(self, x):
            return self.layers(x)

    given = Own(width=9, model="fancy").eval()
    done = limbeck.export(given, torch.randn(20, 4), out=tmp_path / "out", formats=["hub"], classes=CLASSES[:3])
    again = Own.from_pretrained(str(done.files["hub"]))
    inputs = torch.randn(5, 4)
    assert again.kind == "fancy" and torch.equal(again(inputs), given(inputs))
    assert json.loads((done.files["hub"] / "config.json").read_text())["library_name"] == "pytorch"


def test_timm_loads_its_own_networks_with_their_presentation(tmp_path):
    model = make_timm("timm:test_resnet", classes=3, input_shape=(1, 32, 32)).eval()
    done = limbeck.export(model, out=tmp_path / "out", formats=["hub"], data=images(30), classes=CLASSES)
    folder = done.files["hub"]
    import_timm()
    card = (folder / "README.md").read_text()
    found = {}
    exec(card.split("```python\n")[1].split("```")[0].replace("FOLDER", str(folder)), found)
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(found["model"](x), model(x))
    shown = ImagePresentation.from_timm(found["model"].pretrained_cfg)
    assert shown == model.presentation
    again = make_timm(f"timm:{folder}", classes=3, input_shape=(1, 32, 32))
    assert torch.equal(again.eval()(x), model(x))


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_a_processor_shows_images_to_the_same_pixels(squash, interpolation):
    for size in (8, 28, 99, 224, 299, 384):
        for crop in (1.0, 0.875, 0.9, 0.95):
            shown = ImagePresentation(size=size, crop_pct=crop, squash=squash, interpolation=interpolation)
            again = ImagePresentation.from_processor(json.loads(json.dumps(shown.to_processor())))
            assert math.floor(size / again.crop_pct) == math.floor(size / crop)
            assert dataclasses.replace(again, crop_pct=crop) == shown


def test_names_of_a_stranger_s_are_no_markdown():
    text = model_card(Card("[x](http://a)", ("<b>", "a\n# b")), None, library="pytorch", loading="")
    assert "[x](" not in text and "<b>" not in text and "\n# b" not in text


@pytest.mark.parametrize(
    ("seen", "task"),
    [(TextPresentation("t"), "text-classification"), (ImagePresentation(), "image-classification"), (None, None)],
)
def test_the_card_names_the_task(seen, task):
    one = {"title": "t", "test_errors": 3}
    for count in (1, 3):
        metrics = {"student": one, "seeds": [{"seed": seed} for seed in range(count)], "judged_on": "test"}
        text = model_card(Card("t", CLASSES, metrics), None, library="pytorch", loading="")
        assert ("are of the first." in text) == (count > 1)
    text = model_card(Card("t", CLASSES), seen, library="transformers", loading="AutoModelFor{task}")
    assert (f"pipeline_tag: {task}" in text) if task else ("pipeline_tag" not in text)
