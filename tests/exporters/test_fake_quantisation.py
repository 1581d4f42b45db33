"""Fake rounding against a slow loop and against what onnxruntime computes; fine-tuning wins back what is lost."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import limbeck
from limbeck.cli.export import _rounded
from limbeck.data import DataSet, Examples
from limbeck.errors import ConfigError
from limbeck.exporters.fake_quantisation import FakeRounding, _Range, _RoundedWeight, finetuned
from limbeck.exporters.protocol import Finetuning

pytestmark = pytest.mark.usefixtures("no_drawing")


def test_weights_are_rounded_row_by_row_and_inputs_between_their_ends():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 2, 2, generator=generator)
    rounded = _RoundedWeight(5)(weight)
    for row in range(3):
        step = max(abs(value) for value in weight[row].flatten().tolist()) / 5
        for value, found in zip(weight[row].flatten().tolist(), rounded[row].flatten().tolist(), strict=True):
            assert found == pytest.approx(step * round(value / step), abs=1e-6)
    ends = _Range()
    ends.widen(torch.tensor([-1.0, 0.5]))
    ends.widen(torch.tensor([2.0]))
    values = torch.tensor([-3.0, -1.0, 0.1234, 1.999, 5.0])
    step = 3 / 255
    slow = [step * (min(255, max(0, round(v / step) + 85)) - 85) for v in values.tolist()]
    np.testing.assert_allclose(ends.rounded(values), slow, atol=1e-6)


def test_the_gradient_passes_through_the_rounding_but_not_where_values_are_cut_off():
    weight = torch.randn(3, 4, requires_grad=True)
    factors = torch.randn(3, 4)
    (_RoundedWeight(3)(weight) * factors).sum().backward()
    torch.testing.assert_close(weight.grad, factors)
    ends = _Range()
    ends.widen(torch.tensor([-1.0, 1.0]))
    x = torch.tensor([-7.0, 0.3, 7.0], requires_grad=True)
    ends.rounded(x).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 0.0]


def made(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 24), nn.ReLU(), nn.Linear(24, 3)
    ).eval()


def images(count=192, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 1, 8, 8, generator=generator)
    return x, torch.arange(count) % 3


def divergence(one, other):
    p = one.log_softmax(-1)
    return float((p.exp() * (p - other.log_softmax(-1))).sum(-1).mean())


def test_outside_of_the_context_nothing_is_rounded_and_no_weight_changed():
    net, (x, _) = made(), images()
    before, state = net(x), {name: value.clone() for name, value in net.state_dict().items()}
    rounding = FakeRounding(net)
    rounding.observe([x])
    with rounding.on():
        assert not torch.equal(net(x), before)
    assert torch.equal(net(x), before) and set(net.state_dict()) == set(state)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    with pytest.raises(ConfigError, match="no linear layer or convolution"):
        FakeRounding(nn.Sequential(nn.Flatten(), nn.ReLU()))


def test_fine_tuning_wins_back_what_coarse_rounding_loses():
    net, (x, _) = made(), images()
    fresh = images(seed=9)[0]
    batches = list(x.split(32))

    def lost(model, reference):
        rounding = FakeRounding(model, 3)
        rounding.observe(batches)
        with rounding.on(), torch.no_grad():
            return divergence(reference(fresh), model(fresh))

    before = lost(made(), net)
    tuned = finetuned(net, lambda: batches, Finetuning(25, len(batches), lambda epoch: batches), levels=3)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), made().state_dict().values(), strict=True))
    assert not any(each.requires_grad for each in tuned.parameters())
    assert lost(tuned, net) < before / 2


def data(x, y):
    def part(rows):
        return Examples.of(x[rows], y[rows])

    return DataSet("noise", tuple("abc"), part(slice(0, 96)), part(slice(96, 144)), part(slice(144, 192)))


@pytest.mark.slow
def test_the_file_rounds_as_the_network_did_while_it_was_trained(tmp_path):
    """Differences between the file and fake rounding are far below those that rounding makes."""
    net, given = made(), data(*images())
    done = limbeck.export(net, out=tmp_path / "out", formats=["int8"], data=given, margin=50.0, finetune_epochs=2)
    found = done.parity["formats"]["int8"]
    assert found["finetuning"]["epochs"] == 2 and set(found["finetuning"]["divergence"]) == {"with", "without"}
    assert done.parity["formats"]["int8"]["original"]["accuracy"] is not None
    plain = limbeck.export(net, out=tmp_path / "plain", formats=["int8"], data=given, margin=50.0)
    rounding = FakeRounding(net)
    rounding.observe([given.train.inputs])
    x = given.test.inputs
    (answered,) = onnxruntime.InferenceSession(str(plain.files["int8"])).run(None, {"inputs": x.numpy()})
    with torch.no_grad():
        exact = net(x)
        with rounding.on():
            faked = net(x)
    assert plain.parity["formats"]["int8"]["float_layers"] == []
    apart = float(np.abs(answered - faked.numpy()).mean())
    assert apart < 0.3 * float((faked - exact).abs().mean()), (apart, (faked - exact).abs().mean())
    assert "with)" not in _rounded(plain.parity["formats"]["int8"])
    assert "without fine-tuning" in _rounded(found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ["torch"], "finetune_epochs": 1}, "is for formats that round"),
        ({"formats": ["int8"], "finetune_epochs": -1}, "must be at least 0"),
    ],
)
def test_wrong_calls_write_nothing(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        limbeck.export(made(), out=tmp_path / "out", data=data(*images()), **options)
    assert not list(tmp_path.iterdir())
