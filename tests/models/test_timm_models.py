"""Networks of timm by name: made, saved and loaded without a download, with what they see."""

import importlib.util
import json
import sys

import pytest
import torch
from safetensors.torch import save_file

import limbeck
from limbeck import load
from limbeck.errors import ConfigError, FormatError, LimbeckWarning, MismatchError, MissingExtraError
from limbeck.models import build, describe, from_options
from limbeck.models.timm_models import import_timm, make_timm
from limbeck.options import ImagePresentation, ModelOptions
from limbeck.runs.models import save_model
from limbeck.teachers.adapters import adapted

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
SMALL = "timm:test_resnet"  # of 0.5 million parameters, which timm has for its own tests


def test_timm_is_imported_beside_a_torchvision_that_does_not_fit():
    timm = import_timm()
    assert import_timm() is timm is sys.modules["timm"]
    assert timm.create_model("resnet18", num_classes=7)(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_a_name_makes_a_network_for_the_data():
    made = make_timm(SMALL, classes=5, input_shape=(3, 40, 32))
    assert made.training and made(torch.zeros(2, 3, 40, 32)).shape == (2, 5)
    assert made.presentation.size == (40, 32) and made.presentation.crop_pct == 1.0
    large = make_timm(SMALL, classes=5, input_shape=(3, 128, 128)).presentation
    assert (large.size, large.crop_pct) == ((128, 128), made.pretrained_cfg["crop_pct"])
    whole = make_timm("timm:resnet18", classes=5).presentation
    config = import_timm().create_model("resnet18").pretrained_cfg
    assert whole == ImagePresentation.from_timm(config) and whole.interpolation == "bicubic"
    assert make_timm(SMALL, classes=2, input_shape=(1, 28, 28)).eval()(torch.zeros(1, 1, 28, 28)).shape == (1, 2)


def test_options_draw_weights_from_the_seed():
    options = ModelOptions(model=SMALL)
    one, same, other = (
        from_options(options, input_shape=(3, 32, 32), classes=4, seed=seed).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(ConfigError, match="hidden has no meaning for timm"):
        ModelOptions(model=SMALL, hidden=(3,))


def test_a_run_is_saved_and_loaded_without_the_architecture(tmp_path):
    made = make_timm(SMALL, classes=3, input_shape=(3, 32, 32), settings={"drop_rate": 0.1}).eval()
    again = load(save_model(tmp_path, made, classes=["a", "b", "c"]))
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(again(x), made(x)) and again.presentation == made.presentation
    assert again.drop_rate == 0.1 and again.classes == ("a", "b", "c")
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["name"], config["classes"]) == ("timm", "test_resnet", 3)
    assert describe(again) == describe(made)
    config["presentation"]["size"] = 0
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "SHA256SUMS").unlink()
    with (
        pytest.warns(LimbeckWarning, match="no SHA256SUMS"),
        pytest.raises(FormatError, match="has an invalid presentation: size must be"),
    ):
        load(tmp_path)
    made.fc = torch.nn.Linear(made.fc.in_features, 9)
    assert describe(made) is None


@pytest.mark.parametrize("kind", ["file.safetensors", "file.pth", "training.pt", "folder"])
def test_checkpoints_give_their_weights(tmp_path, kind):
    donor = make_timm(SMALL, classes=3, input_shape=(3, 32, 32)).eval()
    weights = {name: value.clone() for name, value in donor.state_dict().items()}
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
        save_file(weights, path / "model.safetensors")
        shown = {"input_size": [3, 48, 48], "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}
        (path / "config.json").write_text(json.dumps({"architecture": "test_resnet", "pretrained_cfg": shown}))
        spec = f"timm:{path}"
    else:
        if kind.endswith("safetensors"):
            save_file(weights, path)
        else:
            torch.save(weights if kind == "file.pth" else {"epoch": 3, "state_dict": weights}, path)
        spec = f"{SMALL}@{path}"
    found = make_timm(spec, classes=3, input_shape=(3, 64, 64)).eval()
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(found(x), donor(x))
    assert found.presentation.size == ((48, 48) if kind == "folder" else tuple(donor.pretrained_cfg["input_size"][1:]))
    with pytest.warns(LimbeckWarning, match="has a head of 3 classes: a new one is drawn for the data's 5"):
        other = make_timm(spec, classes=5).eval()
    same = [name for name, value in other.state_dict().items() if value.shape == weights[name].shape]
    assert len(same) == len(weights) - 2
    assert all(torch.equal(other.state_dict()[name], weights[name]) for name in same)


class Touch:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_what_cannot_be_used_is_told(tmp_path):
    gone = tmp_path / "gone.pth"
    cases = [
        ("timm:resnet19", ConfigError, "knows no network 'resnet19': did you mean .*resnet1"),
        (f"{SMALL}@{gone}", FormatError, "gone.pth: there is no such checkpoint; nothing is downloaded"),
        ("timm:hf_hub:someone/model", ConfigError, "nothing is downloaded, so give timm:NAME"),
        (f"timm:{tmp_path}", ConfigError, "neither a name of timm's nor a folder"),
    ]
    for spec, kind, match in cases:
        with pytest.raises(kind, match=match):
            make_timm(spec, classes=3)
    torch.save({"weight": Touch(tmp_path / "touched")}, tmp_path / "evil.pth")
    with pytest.raises(FormatError, match="executes no code"):
        make_timm(f"{SMALL}@{tmp_path / 'evil.pth'}", classes=3)
    assert not (tmp_path / "touched").exists()
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(FormatError, match="does not fit the network"):
        make_timm(f"{SMALL}@{tmp_path / 'other.pth'}", classes=3)
    (tmp_path / "cut.safetensors").write_bytes(b"123")
    with pytest.raises(FormatError, match="is not a checkpoint of tensors"):
        make_timm(f"{SMALL}@{tmp_path / 'cut.safetensors'}", classes=3)
    with pytest.raises(ConfigError, match="takes images of 1 or 3 channels"):
        make_timm(SMALL, classes=3, input_shape=(10,))


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "hf_hub:a/b"}, {"name": "resnet18", "classes": "3"}, {"settings": {"pretrained": True}},
        {"settings": {"checkpoint_path": "/etc/passwd"}}, {"settings": [1]}, {"extra": 1},
        {"settings": {"drop_rate": "a"}}, {"name": 3},
    ],
)  # fmt: skip
def test_descriptions_out_of_a_file_cannot_ask_for_more(wrong):
    with pytest.raises(ConfigError):
        build({"model_type": "timm", "name": "test_resnet", "classes": 3, **wrong})


def test_timm_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"limbeck\[vision\]"):
        make_timm(SMALL, classes=3)


def test_a_trained_network_teaches_by_its_name(tmp_path):
    made = make_timm(SMALL, classes=3, input_shape=(3, 32, 32)).eval()
    save_file(made.state_dict(), tmp_path / "weights.safetensors")
    name = f"{SMALL}@{tmp_path}/weights.safetensors"
    taught = adapted(name, ("a", "b", "c"))
    x = torch.randn(2, 3, 32, 32)
    assert not taught.training and torch.equal(taught(x), made(x))
    with pytest.raises(ConfigError, match="has no weights, and a teacher must be trained"):
        adapted(SMALL, ("a", "b", "c"))
    with pytest.raises(MismatchError, match="has a head for other classes than the data's 4"):
        adapted(name, ("a", "b", "c", "d"))
    y = torch.arange(12) % 3
    run = limbeck.train(SMALL, (torch.randint(0, 255, (12, 3, 16, 16), dtype=torch.uint8), y), epochs=1,
                        batch_size=6, precision="float32", workers=0)  # fmt: skip
    assert run.model.presentation.size == (16, 16) and len(run.history) == 1
