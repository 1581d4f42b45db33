"""Low-rank and 8-bit layers as parts of an architecture: described, built again, limited, and what they compute."""

import copy
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_runs import sealed_again
from torch import nn

from limbeck.data import Examples
from limbeck.errors import ConfigError, DataError, FormatError
from limbeck.lowrank import apply, look, plan_ranks
from limbeck.models import (
    CNN,
    MLP,
    CNNConfig,
    Factored,
    Int8Linear,
    MLPConfig,
    build,
    count_parameters,
    describe,
    int8,
    split_layers,
    to_int8,
)
from limbeck.models.layers import limit_norms
from limbeck.runs import load, save_model
from limbeck.runs.measure import multiply_adds, size_of, title_of

INPUTS = torch.rand(5, 1, 10, 10, generator=torch.Generator().manual_seed(0))


def network(kind="mlp", **more):
    torch.manual_seed(0)
    sizes = {"input_shape": (1, 10, 10), "classes": 3, **more}
    if kind == "mlp":
        return MLP(MLPConfig(hidden=(30, 20), **sizes))
    return CNN(CNNConfig(channels=(6, 8), hidden=(20,), padding=True, **sizes))


def smaller(model, share=0.5):
    spectrum = look(model, INPUTS, metric="outputs")
    return apply(plan_ranks(spectrum, parameters=share), model, spectrum).eval()


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
@pytest.mark.parametrize("form", ["low rank", "int8", "both"])
def test_saved_and_loaded_again_they_answer_the_same(tmp_path, kind, form):
    model = network(kind).eval()
    small = model if form == "int8" else smaller(model)
    small = small if form == "low rank" else to_int8(small)
    description = json.loads(json.dumps(describe(small)))
    assert description.keys() - {"ranks", "int8"} == describe(model).keys()
    again = build(description)
    again.load_state_dict(small.state_dict())
    assert torch.equal(again.eval()(INPUTS), small(INPUTS))
    loaded = load(save_model(tmp_path / "run", small, classes="abc"))
    assert loaded.classes == ("a", "b", "c") and type(loaded) is type(model)
    assert torch.equal(loaded(INPUTS), small(INPUTS))
    assert describe(loaded) == describe(small)
    assert title_of(loaded).endswith({"both": "3, low rank, int8"}.get(form, f"3, {form}"))
    kinds = {value.dtype for value in load_file(tmp_path / "run" / "model.safetensors").values()}
    assert (torch.int8 in kinds) == (form != "low rank")


def test_a_network_of_ones_own_is_changed_as_its_config_says(tmp_path):
    def own():
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Linear(100, 40), nn.Tanh(), nn.Linear(40, 3))

    small = to_int8(smaller(own(), 0.4))
    save_model(tmp_path, small, classes="abc", source="mine:own")
    assert json.loads((tmp_path / "config.json").read_text())["ranks"]
    # The architecture as it was, or as it is now.
    for given_model in (own, own(), small):
        assert torch.equal(load(tmp_path, model=given_model)(INPUTS), small(INPUTS))
    with pytest.raises(FormatError, match="does not fit the architecture given: layer '1'"):
        load(tmp_path, model=nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(100, 3)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ranks": {"9": 2}}, "layer '9' cannot be factorised"),
        ({"ranks": {"1": 31}}, "rank 31 is impossible"),
        ({"ranks": {"1": 1.5}}, "rank 1.5 is impossible"),
        ({"ranks": {"1": True}}, "rank True is impossible"),
        ({"ranks": [1]}, "ranks must be a mapping"),
        ({"int8": "yes"}, "int8 true or false"),
        ({"ranks": {"1": 5}}, "does not fit the architecture"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, change, says):
    save_model(tmp_path, smaller(network()), classes="abc")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    sealed_again(tmp_path)
    with pytest.raises(FormatError, match=says):
        load(tmp_path)


def test_weights_that_are_not_those_of_the_layer_are_refused(tmp_path):
    save_model(tmp_path, to_int8(network()), classes="abc")
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "1.weight": torch.zeros(2, 2, dtype=torch.int8)}, tmp_path / "model.safetensors")
    sealed_again(tmp_path)
    with pytest.raises(FormatError, match="does not fit"):
        load(tmp_path)


@given(st.floats(0.05, 3.0), st.integers(0, 50))
def test_the_limit_on_norms_holds_for_the_product(limit, seed):
    torch.manual_seed(seed)
    net = MLP(MLPConfig(input_shape=(12,), classes=3, hidden=(9, 8), max_norm=limit))
    small = split_layers(net, {"1": 3, "5": 2})  # the first hidden layer, and the last, which has no limit
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.normal_()
    before = copy.deepcopy(small)
    small.project_()
    wanted = [(before[1][1].weight @ before[1][0].weight).detach(), before[3].weight.detach().clone()]
    limit_norms(wanted, limit)
    torch.testing.assert_close((small[1][1].weight @ small[1][0].weight).detach(), wanted[0], rtol=1e-4, atol=1e-5)
    assert torch.equal(small[3].weight, wanted[1])
    assert torch.equal(small[1][0].weight, before[1][0].weight)
    for half, old in zip(small[5], before[5], strict=True):
        assert torch.equal(half.weight, old.weight)


def test_a_convolution_of_low_rank_has_no_limit():
    net = network("cnn", max_norm=0.01)
    small = split_layers(net, {"0": 2, "3": 2, "7": 4})
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.fill_(1.0)
    small.project_()
    assert bool((small[3][1].weight == 1).all())
    norms = (small[7][1].weight @ small[7][0].weight).detach().norm(dim=1)
    assert float(norms.max()) == pytest.approx(0.01, rel=1e-4)


def by_hand(layer, x):
    """Dynamic quantisation in float64, from its definition: 8-bit weights per row, 7-bit inputs per example."""
    weight, x = layer.weight.detach().double(), x.double()
    scale = (layer.weight.detach().abs().amax(1) / 127).double()
    rounded = (weight / scale[:, None]).round() * scale[:, None]
    low, high = x.amin(1, keepdim=True).clamp_max(0), x.amax(1, keepdim=True).clamp_min(0)
    step = (high - low) / 127
    zero = (low / step).round()
    shown = ((x / step - zero).round().clamp(0, 128) + zero) * step
    return shown @ rounded.T + (0 if layer.bias is None else layer.bias.detach().double())


@pytest.fixture(params=["kernel", "float32"])
def way(request, monkeypatch):
    """Each of the two ways to the product of integers."""
    if request.param == "float32":
        monkeypatch.setattr(int8, "_pack", lambda layer: None)
    return request.param


@pytest.mark.parametrize("bias", [True, False])
@given(inputs=st.integers(1, 40), outputs=st.integers(1, 30), seed=st.integers(0, 99))
def test_8_bits_against_the_definition(bias, inputs, outputs, seed):
    torch.manual_seed(seed)
    layer, x = nn.Linear(inputs, outputs, bias=bias), torch.randn(6, inputs) + 0.3
    got = Int8Linear.of(layer)(x).double()
    # An input that lies half-way between two integers may be rounded either way.
    span = x.amax(1, keepdim=True).clamp_min(0) - x.amin(1, keepdim=True).clamp_max(0)
    slack = span / 127 * float(layer.weight.detach().abs().max()) * 1.01 + 1e-6
    assert bool(((got - by_hand(layer, x)).abs() <= slack).all())
    assert float((got - by_hand(layer, x)).abs().median()) < 1e-4


@pytest.mark.parametrize("size", [5, 1024, 1027, 2500])
def test_the_product_of_integers_is_exact(way, size):
    generator = torch.Generator().manual_seed(size)
    x = torch.randint(0, 128, (9, size), generator=generator)
    weight = torch.randint(-127, 128, (6, size), generator=generator)
    x[0], x[:, 0] = 127, 127  # the step of every row is 1
    weight[0], weight[1], weight[:, 0] = 127, -127, 127
    layer = nn.Linear(size, 6, bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    # In integers; float32 rounds a sum above 2^24 once.
    assert torch.equal(Int8Linear.of(layer)(x.float()), (x @ weight.T).float())


@pytest.mark.parametrize("threads", [1, 2])
def test_8_bit_answers_are_the_same_bits_whatever_stands_beside_them(way, threads):
    torch.manual_seed(0)
    net = to_int8(nn.Sequential(nn.Linear(20, 1100), nn.ReLU(), nn.Linear(1100, 5)))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x = torch.randn(70, 20)
        whole = net(x)
        for first, last in ((0, 1), (69, 70), (3, 5), (1, 8), (10, 43), (5, 70)):
            assert torch.equal(net(x[first:last]), whole[first:last])
        loud = x.clone()
        loud[1:] *= torch.logspace(-3, 6, 69)[:, None]
        assert torch.equal(net(loud)[0], whole[0])
        loud[1], loud[2], loud[3, 4] = torch.nan, torch.inf, -torch.inf
        answers = net(loud)
        assert torch.equal(answers[0], whole[0]) and bool(answers[1:4].isnan().all())
        assert net(x[:0]).shape == (0, 5) and torch.equal(net(x.view(7, 10, 20)).view(70, 5), whole)
    finally:
        torch.set_num_threads(before)


def test_both_ways_give_the_same_bits(monkeypatch):
    torch.manual_seed(0)
    layer, x = Int8Linear.of(nn.Linear(3200, 40)), torch.randn(30, 3200)
    kernel = layer(x)
    monkeypatch.setattr(int8, "_pack", lambda layer: None)
    assert torch.equal(copy.deepcopy(layer)(x), kernel)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(copy.deepcopy(layer)(x), kernel)


def test_8_bits_are_near_the_float_answers_and_a_quarter_of_the_bytes():
    torch.manual_seed(0)
    net = MLP(MLPConfig(input_shape=(1, 10, 10), classes=3, hidden=(300,))).eval()
    rounded = to_int8(net)
    with torch.no_grad():
        assert float((rounded(INPUTS) - net(INPUTS)).abs().max()) < 0.02 * float(net(INPUTS).abs().max())
    examples = Examples.of(INPUTS)
    before, after = size_of(net, examples), size_of(rounded, examples)
    assert after["parameters"] == before["parameters"] == count_parameters(rounded)
    assert after["multiply_adds"] == before["multiply_adds"] == multiply_adds(rounded, examples)
    assert 0.25 < after["file_bytes"] / before["file_bytes"] < 0.30


def test_8_bit_layers_follow_their_weights():
    layer, other = nn.Linear(4, 3), nn.Linear(4, 3)
    x = torch.ones(2, 4)
    rounded, again = Int8Linear.of(layer), Int8Linear.of(other)
    assert not torch.equal(rounded(x), again(x))
    copied = copy.deepcopy(rounded)
    rounded.load_state_dict(again.state_dict())
    assert torch.equal(rounded(x), again(x)) and torch.equal(copied(x), Int8Linear.of(layer)(x))
    assert torch.equal(rounded(x.to(torch.bfloat16)), again(x))
    with torch.no_grad():
        layer.weight[1] = 0.0
    assert torch.isfinite(Int8Linear.of(layer)(x)).all()
    assert torch.equal(Int8Linear.of(layer)(torch.zeros(1, 4))[0], layer.bias)


def test_8_bits_of_what_cannot_be_rounded():
    broken = nn.Sequential(nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        broken[1].weight[0, 0] = torch.nan
    with pytest.raises(DataError, match="layer 1: a linear layer holds NaN"):
        to_int8(broken)
    for model in (nn.Conv2d(1, 2, 3), to_int8(nn.Linear(2, 2))):
        with pytest.raises(DataError, match="no linear layer with float weights"):
            to_int8(model)
    shared = nn.Linear(4, 4)
    rounded = to_int8(nn.Sequential(shared, nn.ReLU(), shared))
    assert rounded[0] is rounded[2] and isinstance(to_int8(shared), Int8Linear)
    # A convolution stays as it is.
    kept = to_int8(network("cnn"))
    assert isinstance(kept[0], nn.Conv2d) and not any(type(module) is nn.Linear for module in kept.modules())


def test_a_low_rank_network_is_not_made_low_rank_again():
    small = smaller(network())
    names = [layer.name for layer in look(small).layers if layer.reason]
    assert {name.partition(".")[0] for name in names} == set(describe(small)["ranks"])
    with pytest.raises(ConfigError, match="low rank already"):
        plan_ranks(look(small), rank={names[0]: 1})
    assert isinstance(small[1], Factored)


def test_low_rank_layers_are_in_the_mode_of_those_they_replace():
    net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    for training in (True, False):
        small = split_layers(net.train(training), {"0": 2, "2": 2})
        assert {module.training for module in small.modules()} == {training}
