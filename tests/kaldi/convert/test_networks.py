"""Between formats: what can be restored is restored bit for bit, and what cannot be written is refused or noted."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import save
from tiny_runs import sealed_again

import limbeck
from limbeck.errors import ConfigError, DataError, FormatError, RunError
from limbeck.formats.keras_h5 import DenseLayer, read_keras_h5, write_keras_h5
from limbeck.kaldi.convert import format_of_name, read_network, write_network
from limbeck.kaldi.convert.dense import dense_from_nnet, nnet_from_dense
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet, read_nnet, write_nnet
from limbeck.kaldi.forward import propagate
from limbeck.models import CNN, MLP, CNNConfig, MLPConfig
from limbeck.runs import save_model
from limbeck.runs.models import save_ensemble
from limbeck.system.files import seal_files

KALDI = Path(__file__).parents[2] / "fixtures" / "kaldi"
NAMES = {"binary": "a.nnet", "text": "a.nnet.txt", "legacy": "old.txt", "hdf5": "a.h5",
         "safetensors": "a.safetensors", "run": "run"}  # fmt: skip
NETWORKS = ["tiny.nnet.bin", "tiny.seed.txt", "relu.nnet.txt", "relu.seed.txt", "relu.seed.svd.txt",
            "relu.svd_full.nnet.bin", "e2e/final.nnet"]  # fmt: skip


def bytes_for_kaldi(nnet, tmp_path):
    write_nnet(tmp_path / "bytes", nnet.for_kaldi())
    return (tmp_path / "bytes").read_bytes()


@pytest.mark.parametrize("form", NAMES)
@pytest.mark.parametrize("name", NETWORKS)
def test_each_format_gives_back_the_bytes_that_kaldi_would_read(name, form, tmp_path):
    nnet = read_nnet(KALDI / name)
    notes = write_network(tmp_path / NAMES[form], nnet, form)
    back = read_network(tmp_path / NAMES[form])
    assert back.format == form
    if notes:  # learning rates have no place there
        nnet = Nnet(tuple(plain(part) for part in nnet.components))
    assert bytes_for_kaldi(back.nnet, tmp_path) == bytes_for_kaldi(nnet, tmp_path)


def plain(part):
    if isinstance(part, nc.AffineTransform):
        return nc.AffineTransform(part.weight, part.bias)
    return nc.LinearTransform(part.weight) if isinstance(part, nc.LinearTransform) else part


@pytest.mark.parametrize("form", ["binary", "text", "safetensors", "run"])
def test_learning_rates_are_kept(form, tmp_path):
    ones = np.ones((2, 2), np.float32)
    nnet = Nnet((nc.AffineTransform(ones, ones[0], 0.5, 0.25, 3.0), nc.LinearTransform(ones, 0.125), nc.Softmax(2)))
    assert write_network(tmp_path / NAMES[form], nnet, form) == ()
    assert read_network(tmp_path / NAMES[form]).nnet == nnet


@pytest.mark.parametrize("form", ["legacy", "hdf5"])
def test_what_a_format_forgets_is_said(form, tmp_path):
    affine = nc.AffineTransform(np.ones((2, 2), np.float32), np.ones(2, np.float32), 0.5)
    notes = write_network(tmp_path / NAMES[form], Nnet((affine, nc.Dropout(2, 0.25), nc.Softmax(2))), form)
    assert any("dropout" in note for note in notes) and any("learning-rate" in note for note in notes)
    assert [part.tag for part in read_network(tmp_path / NAMES[form]).nnet.components] == ["AffineTransform", "Softmax"]


@pytest.mark.parametrize(
    "config",
    [
        MLPConfig(input_shape=(5,), classes=3, hidden=(7, 4)),
        MLPConfig(input_shape=(5,), classes=3, hidden=()),
        MLPConfig(input_shape=(1, 2, 3), classes=4, hidden=(6,), dropout=0.5, input_dropout=0.2, max_norm=3.0),
        MLPConfig(input_shape=(5,), classes=3, hidden=(7,), input_mean=2.0, input_std=4.0),
    ],
)
def test_a_run_becomes_a_network_of_the_same_posteriors(config, tmp_path):
    torch.manual_seed(0)
    model = MLP(config).eval()
    save_model(tmp_path / "model", model, classes=[str(k) for k in range(config.classes)])
    nnet, form, notes = read_network(tmp_path)
    assert form == "run" and bool(notes) == bool(config.dropout)
    assert isinstance(nnet.components[-1], nc.Softmax)
    frames = torch.randn(9, *config.input_shape)
    expected = model(frames).softmax(-1).detach().numpy()
    write_network(tmp_path / "out.nnet", nnet, "binary")
    for each in (nnet, read_nnet(tmp_path / "out.nnet")):
        np.testing.assert_allclose(propagate(each, frames.flatten(1).numpy()), expected, atol=1e-6)
    if config.max_norm:
        assert [part.max_norm for part in nnet.components if isinstance(part, nc.AffineTransform)] == [3.0, 0.0]


@pytest.mark.parametrize("activation, kind", [("sigmoid", nc.Sigmoid), ("tanh", nc.Tanh), ("maxout", nc.Maxout)])
def test_other_activations_and_low_rank_layers(activation, kind, tmp_path):
    """What a run's config says of its network, of which the modules may be of later versions."""
    random = np.random.default_rng(0)
    width = 12 if activation == "maxout" else 4
    shapes = {"1.0.weight": (2, 5), "1.1.weight": (width, 2), "1.1.bias": (width,), "3.weight": (3, 4), "3.bias": (3,)}
    arrays = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    (tmp_path / "config.json").write_text(
        json.dumps(
            {"model_type": "mlp", "input_shape": [5], "classes": 3, "hidden": [4], "activation": activation,
             "pieces": 3, "ranks": {"1": 2}, "front_end": {"cmvn": "speaker"}}
        )
    )  # fmt: skip
    (tmp_path / "model.safetensors").write_bytes(save(arrays))
    seal_files(tmp_path, ["config.json", "model.safetensors"])
    nnet, _, notes = read_network(tmp_path)
    assert [type(part) for part in nnet.components] == [
        nc.LinearTransform, nc.AffineTransform, kind, nc.AffineTransform, nc.Softmax,
    ]  # fmt: skip
    assert any("CMVN" in note for note in notes)
    x = random.standard_normal((6, 5)).astype(np.float32)
    hidden = torch.from_numpy(x @ arrays["1.0.weight"].T @ arrays["1.1.weight"].T + arrays["1.1.bias"])
    act = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "maxout": lambda h: h.view(6, 4, 3).amax(-1)}[activation]
    scores = act(hidden).numpy() @ arrays["3.weight"].T + arrays["3.bias"]
    np.testing.assert_allclose(propagate(nnet, x), torch.from_numpy(scores).softmax(-1).numpy(), atol=1e-6)


def every_component():
    random = np.random.default_rng(0)

    def draw(*shape):
        return random.standard_normal(shape).astype(np.float32)

    return Nnet(
        (
            nc.Copy(3, (2, 0, 1, 1)), nc.AddShift(draw(4)), nc.Rescale(draw(4), 0.0),
            nc.AffineTransform(draw(6, 4), draw(6)), nc.Sigmoid(6), nc.Dropout(6, 0.25),
            nc.LinearTransform(draw(6, 6)), nc.Tanh(6), nc.LengthNormComponent(6), nc.HiddenSoftmax(6),
            nc.ParametricRelu(draw(6), draw(6), 0.5), nc.Maxout(6, 3), nc.Linear(3), nc.Relu(3),
            nc.AffineTransform(draw(5, 3), draw(5)), nc.Softmax(5),
        )
    )  # fmt: skip


def test_limbeck_loads_a_converted_run_with_every_component(tmp_path):
    nnet = every_component()
    write_network(tmp_path / "run", nnet, "run")
    model = limbeck.load(tmp_path / "run")
    frames = np.random.default_rng(1).standard_normal((8, 3)).astype(np.float32)
    logits = model(torch.from_numpy(frames))
    np.testing.assert_allclose(logits.softmax(-1).detach().numpy(), propagate(nnet, frames), atol=1e-6)
    assert model.classes == ("0", "1", "2", "3", "4")
    assert read_network(tmp_path / "run").nnet == nnet
    save_model(tmp_path / "again" / "model", model, classes=model.classes)  # as a run of ours would
    assert read_network(tmp_path / "again").nnet == nnet


def test_what_training_may_change_is_what_kaldi_would(tmp_path):
    write_network(tmp_path / "run", every_component(), "run")
    learned = [name for name, value in limbeck.load(tmp_path / "run").named_parameters() if value.requires_grad]
    assert learned == ["1.values", "3.weight", "3.bias", "6.weight", "10.alpha", "14.weight", "14.bias"]


def test_zero_bias_and_identity_become_a_linear_transform_from_every_format(tmp_path):
    for form in ("legacy", "hdf5", "safetensors", "run"):
        write_network(tmp_path / NAMES[form], read_nnet(KALDI / "relu.seed.svd.txt"), form)
        write_network(tmp_path / "out.nnet", read_network(tmp_path / NAMES[form]).nnet, "binary", overwrite=True)
        kinds = [type(part) for part in read_nnet(tmp_path / "out.nnet").components[:3]]
        assert kinds == [nc.LinearTransform, nc.AffineTransform, nc.ParametricRelu], form


# HDF5.


def test_maxout_and_standardisation_through_dense_layers(tmp_path):
    random = np.random.default_rng(0)
    draw = [random.standard_normal(shape).astype(np.float32) for shape in ((3,), (3,), (8, 3), (8,), (2, 4), (2,))]
    nnet = Nnet(
        (
            nc.AddShift(draw[0]), nc.Rescale(draw[1]), nc.AffineTransform(draw[2], draw[3]), nc.Maxout(8, 4),
            nc.AffineTransform(draw[4], draw[5]), nc.Softmax(2),
        )
    )  # fmt: skip
    write_network(tmp_path / "a.h5", nnet, "hdf5")
    back = read_network(tmp_path / "a.h5").nnet
    assert [part.tag for part in back.components] == ["AffineTransform", "Maxout", "AffineTransform", "Softmax"]
    frames = random.standard_normal((9, 3)).astype(np.float32)
    np.testing.assert_allclose(propagate(back, frames), propagate(nnet, frames), atol=1e-6)


def test_a_whole_keras_model_says_its_activations(tmp_path):
    layers = [("dense_1", "tanh"), ("dense_2", "linear"), ("dense_3", "softmax")]
    described = [{"class_name": "Dense", "config": {"name": name, "activation": act}} for name, act in layers]
    described.insert(2, {"class_name": "Activation", "config": {"name": "activation_1", "activation": "sigmoid"}})
    described.insert(3, {"class_name": "Dropout", "config": {"name": "dropout_1", "rate": 0.5}})
    with h5py.File(tmp_path / "model.h5", "w") as root:
        root.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": described}})
        weights = root.create_group("model_weights")
        weights.attrs["layer_names"] = [name.encode() for name, _ in layers]
        for name, _ in layers:
            group = weights.create_group(name).create_group(name)
            group["kernel:0"], group["bias:0"] = np.eye(3, dtype=np.float32), np.ones(3, np.float32)
    tags = [part.tag for part in read_network(tmp_path / "model.h5").nnet.components]
    assert tags == ["AffineTransform", "Tanh", "AffineTransform", "Sigmoid", "AffineTransform", "Softmax"]


def test_a_last_layer_of_logits_gets_a_softmax(tmp_path):
    kernel = np.ones((2, 3), np.float32)
    write_keras_h5(
        tmp_path / "w.h5", [DenseLayer("one", kernel, None, "tanh"), DenseLayer("two", kernel.T, None, "linear")]
    )
    nnet, _, notes = read_network(tmp_path / "w.h5")
    assert [part.tag for part in nnet.components] == ["LinearTransform", "Tanh", "LinearTransform", "Softmax"]
    assert notes == ("the last layer gets a <Softmax>",)


def test_weights_alone_need_the_activation(tmp_path):
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    layers = [DenseLayer("dense_1", kernel, np.ones(3, np.float32)), DenseLayer("dense_2", kernel.T.copy(), None)]
    write_keras_h5(tmp_path / "w.h5", layers)
    with pytest.raises(ConfigError, match="dense_1 does not say .* --activation"):
        read_network(tmp_path / "w.h5")
    nnet, _, notes = read_network(tmp_path / "w.h5", activation="sigmoid")
    assert [part.tag for part in nnet.components] == ["AffineTransform", "Sigmoid", "LinearTransform", "Softmax"]
    assert notes == ("the last layer gets a <Softmax>",)
    x = np.float32([[1, 2]])
    hidden = 1 / (1 + np.exp(-(x @ kernel + 1)))
    scores = np.exp(hidden @ kernel.T)
    np.testing.assert_allclose(propagate(nnet, x), scores / scores.sum(), rtol=1e-5)
    with pytest.raises(ConfigError, match="'elu'"):
        nnet_from_dense([DenseLayer("d", kernel, None, "elu")])


def test_dense_layers_hold_no_other_components():
    for part in (nc.Rescale(np.ones(2, np.float32)), nc.LengthNormComponent(2)):
        with pytest.raises(DataError, match=f"<{part.tag}>, has no place in dense layers"):
            dense_from_nnet(Nnet((nc.LinearTransform(np.ones((2, 2), np.float32)), part)))
    twice = (nc.LinearTransform(np.ones((2, 2), np.float32)), nc.Sigmoid(2), nc.Tanh(2))
    with pytest.raises(DataError, match="component 2, <Tanh>"):
        dense_from_nnet(Nnet(twice))
    with pytest.raises(DataError, match="no affine"):
        dense_from_nnet(Nnet((nc.Dropout(2, 0.5),)))


def test_activations_are_in_the_file(tmp_path):
    write_network(tmp_path / "a.h5", read_nnet(KALDI / "tiny.nnet.bin"), "hdf5")
    assert [layer.activation for layer in read_keras_h5(tmp_path / "a.h5")] == ["sigmoid", "softmax"]


# Refusals.


def test_runs_that_have_no_form(tmp_path):
    torch.manual_seed(0)
    cnn = CNN(CNNConfig(input_shape=(1, 12, 12), classes=3, channels=(2,), hidden=(4,)))
    save_model(tmp_path / "cnn" / "model", cnn, classes=list("abc"))
    with pytest.raises(DataError, match="cnn network, which has no form"):
        read_network(tmp_path / "cnn")
    (tmp_path / "five").mkdir()
    save_ensemble(tmp_path / "five", members=5, mean="geometric")
    with pytest.raises(DataError, match="an ensemble.*members/1"):
        read_network(tmp_path / "five")
    with pytest.raises(FormatError, match="neither a run"):
        read_network(tmp_path)


@pytest.mark.parametrize(
    "spoil, says",
    [
        (lambda config: config.update(activation="mystery"), "'mystery'"),
        (lambda config: config.update(hidden=[8]), "says otherwise"),
        (lambda config: config.update(hidden=[7, 7]), "2 layers, and 3"),
        (lambda config: config.update(gates=3), "'gates'"),
        (lambda config: config.update(int8=True), "8-bit"),
        (lambda config: config.pop("classes"), "incomplete"),
        (lambda config: config.update(input_std=0), "cannot|divi|zero|damaged"),
    ],
)
def test_runs_whose_files_do_not_fit(tmp_path, spoil, says):
    save_model(tmp_path / "model", MLP(MLPConfig(input_shape=(5,), classes=3, hidden=(7,))), classes=list("abc"))
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    spoil(config)
    path.write_text(json.dumps(config))
    sealed_again(tmp_path)
    with pytest.raises(FormatError, match=says):
        read_network(tmp_path)


def test_a_run_has_no_place_for_neighbours_and_blocks(tmp_path):
    for part in (nc.Splice(2, (-1, 0)), nc.BlockSoftmax((1, 1))):
        with pytest.raises(DataError, match=part.tag):
            write_network(tmp_path / "run", Nnet((part,)), "run")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unasked(tmp_path):
    nnet = read_nnet(KALDI / "tiny.nnet.bin")
    (tmp_path / "a.nnet").write_text("mine")
    with pytest.raises(RunError, match="--overwrite"):
        write_network(tmp_path / "a.nnet", nnet, "binary")
    assert (tmp_path / "a.nnet").read_text() == "mine"
    write_network(tmp_path / "a.nnet", nnet, "binary", overwrite=True)
    assert read_nnet(tmp_path / "a.nnet") == nnet
    (tmp_path / "folder").mkdir()
    for form in ("run", "binary"):
        with pytest.raises(RunError, match="choose another"):
            write_network(tmp_path / "folder", nnet, form, overwrite=True)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\x10\0\0\0\0\0\0\0{}", b"PK\3\4", b"\x89HDF\r\n\x1a\n", b"<Foo> 1 2\n"]
)
def test_files_that_are_no_network(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(FormatError, match="x"):
        read_network(tmp_path / "x")


def test_other_files_are_named_for_what_they_are():
    with pytest.raises(FormatError, match="is not a network: it looks like an archive of matrices"):
        read_network(KALDI / "feats.txt.ark")
    with pytest.raises(FormatError, match="a transition model"):
        read_network(KALDI / "hmm/mono.mdl")


def test_names_say_formats():
    assert [format_of_name(name) for name in NAMES.values()] == ["binary", "text", "text", "hdf5", "safetensors", "run"]
    with pytest.raises(ConfigError, match="--to"):
        format_of_name("model.onnx")
