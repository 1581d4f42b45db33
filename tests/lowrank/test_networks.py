"""Whole networks: full rank, sizes, copies, and what may not be touched."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from limbeck.errors import ConfigError, DataError
from limbeck.lowrank import apply, look, plan_ranks, restructure
from limbeck.models import CNN, CNNConfig

CONVOLUTIONS = [
    {"kernel_size": 3},
    {"kernel_size": (3, 2), "stride": 2, "padding": 1, "bias": False},
    {"kernel_size": 3, "dilation": 2, "padding": "same", "padding_mode": "reflect"},
]


def full(spectrum):
    return {s.name: s.decomposition.possible for s in spectrum.layers if s.decomposition is not None}


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=4),
    st.sampled_from(["weights", "outputs", "divergence"]),
    st.booleans(),
    st.integers(0, 99),
)
def test_full_rank_changes_outputs_by_rounding(widths, metric, correct, seed):
    torch.manual_seed(seed)
    net = nn.Sequential()
    for before, after in zip(widths, [*widths[1:], 3], strict=True):
        net.extend([nn.Linear(before, after, bias=seed % 2 == 0), nn.ReLU()])
    inputs = torch.randn(7, widths[0])
    spectrum = look(net, None if metric == "weights" else inputs[:3], metric=metric, correct_bias=correct)
    same = apply(plan_ranks(spectrum, rank=full(spectrum), only_smaller=False), net, spectrum)
    assert sum(isinstance(m, nn.Linear) for m in same.modules()) == 2 * len(widths)
    outputs = net(inputs).detach()
    assert torch.allclose(same(inputs), outputs, atol=2e-5 * float(1 + outputs.abs().max()))


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("metric", ["weights", "divergence"])
def test_convolutions_become_two(options, metric):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, **options), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4))
    inputs = torch.randn(4, 3, 9, 8)
    spectrum = look(net, None if metric == "weights" else inputs, example=inputs)
    same = apply(plan_ranks(spectrum, rank=full(spectrum), only_smaller=False), net, spectrum)
    assert torch.allclose(same(inputs), net(inputs), atol=1e-5)
    small = apply(plan_ranks(spectrum, rank={"0": 2}), net, spectrum)
    first, second = small[0]
    assert first.out_channels == 2 and first.bias is None and second.kernel_size == (1, 1)
    assert (second.bias is None) == (net[0].bias is None)
    # The pair is one convolution with the product as its kernel.
    kernel = (second.weight.flatten(1) @ first.weight.flatten(1)).reshape(net[0].weight.shape)
    with torch.no_grad():
        whole = copy.deepcopy(net[0])
        whole.weight.copy_(kernel)
        if second.bias is not None:
            whole.bias.copy_(second.bias)
    assert torch.allclose(whole(inputs), small[0](inputs), atol=1e-5)
    weights = net[0].weight.flatten(1)
    best = torch.linalg.svdvals(weights.detach())[2:].square().sum().sqrt()
    error = (weights - kernel.flatten(1)).norm()
    assert torch.isclose(error, best, rtol=1e-4) if metric == "weights" else error >= best * (1 - 1e-5)


def test_the_original_and_the_random_numbers_are_left_alone():
    net = CNN(CNNConfig(input_shape=(1, 10, 10), classes=3, channels=(4, 6), hidden=(20,), padding=True))
    net.train()
    net[0].weight.requires_grad_(False)
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    inputs = torch.rand(6, 1, 10, 10, generator=torch.Generator().manual_seed(0))
    spectrum = look(net, inputs)
    small = apply(plan_ranks(spectrum, parameters=0.6), net, spectrum)
    assert torch.equal(torch.get_rng_state(), state) and net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert type(small) is CNN and all(module.training for module in small.modules())
    shared = {p.data_ptr() for p in net.parameters()} & {p.data_ptr() for p in small.parameters()}
    assert not shared and small(inputs).shape == (6, 3)
    frozen = apply(plan_ranks(look(net), rank={"0": 1}), net)
    assert not any(p.requires_grad for p in frozen[0].parameters())


def test_reached_sizes_are_those_of_the_plan():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 40))
    inputs = torch.randn(20, 1, 8, 8)
    spectrum = look(net, inputs)

    def size(model):
        return sum(v.numel() * v.element_size() for v in model.state_dict().values())

    for rule in ({"parameters": 0.4}, {"size": "20KB"}, {"flops": 0.5}, {"layer_share": 0.3}):
        plan = plan_ranks(spectrum, **rule)
        small = apply(plan, net, spectrum)
        assert sum(p.numel() for p in small.parameters()) == plan.parameters_after
        assert size(small) == plan.bytes_after and size(net) == plan.bytes
        with FlopCounterMode(display=False) as counter:
            small(inputs[:1])
        assert counter.get_total_flops() == 2 * plan.multiply_adds[1]
    assert plan_ranks(spectrum, parameters=0.4).parameters_after <= 0.4 * plan.parameters
    assert plan_ranks(spectrum, size="20KB").bytes_after <= 20_000
    assert plan_ranks(spectrum, size="0.4").bytes_after <= 0.4 * size(net)
    before, after = plan_ranks(spectrum, flops=0.5).multiply_adds
    assert after <= 0.5 * before


def test_layers_that_stay_whole_say_why():
    tied = nn.Linear(30, 30)
    other = nn.Linear(30, 30)
    other.weight = tied.weight
    net = nn.Sequential(tied, other, nn.Linear(30, 2), nn.Unflatten(1, (2, 1, 1)), nn.Conv2d(2, 2, 1, groups=2))
    net.append(nn.Flatten())
    plan = plan_ranks(look(net), rank=2)
    assert [layer.rank for layer in plan.layers] == [None] * 4
    reasons = [layer.reason for layer in plan.layers]
    assert "shared" in reasons[0] and "shared" in reasons[1]
    assert "would not be smaller" in reasons[2] and "2 groups" in reasons[3]
    assert "(its weights are shared with another layer)" in str(plan)
    with pytest.raises(ConfigError, match="shared"):
        plan_ranks(look(net), rank={"0": 2})
    idle = type("Idle", (nn.Module,), {"forward": lambda self, x: self.used(x)})()
    idle.used, idle.unused = nn.Linear(20, 20), nn.Linear(20, 20)
    seen = plan_ranks(look(idle, torch.randn(4, 20)), rank=3)
    assert seen.layers[0].rank == 3 and "never called" in seen.layers[1].reason


def test_a_layer_used_twice_becomes_one_pair():
    shared = nn.Linear(30, 30)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    small = apply(plan_ranks(look(net), rank=3), net)
    assert small[0] is small[2] and sum(p.numel() for p in small.parameters()) == 210
    assert net[0] is shared


def test_a_network_that_is_one_layer_and_half_precision():
    net = nn.Linear(30, 20).to(torch.bfloat16)
    small = apply(plan_ranks(look(net), rank=4), net)
    assert [p.dtype for p in small.parameters()] == [torch.bfloat16] * 3
    product = small[1].weight.double() @ small[0].weight.double()
    u, s, vt = torch.linalg.svd(net.weight.double())
    assert torch.allclose(product, (u[:, :4] * s[:4]) @ vt[:4], atol=5e-3)
    plan = plan_ranks(look(net), rank=4)
    assert (plan.bytes, plan.bytes_after) == (2 * (600 + 20), 2 * (4 * 50 + 20))


def test_two_factors_as_large_as_the_layer_are_not_worth_it():
    """Of 12 by 6 at rank 4 both have 72 weights."""
    net = nn.Linear(6, 12)
    assert plan_ranks(look(net), rank=4).ranks == {} and plan_ranks(look(net), rank=3).ranks == {"": 3}
    assert plan_ranks(look(net), rank=4, only_smaller=False).ranks == {"": 4}


def test_weights_load_into_the_restructured_network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 20))
    plan = plan_ranks(look(net), parameters=0.5)
    small, empty = apply(plan, net), restructure(net, plan.ranks)
    assert not empty[0][0].weight.any()
    empty.load_state_dict(small.state_dict())
    assert torch.equal(empty(torch.ones(1, 40)), small(torch.ones(1, 40)))
    for ranks, message in (({"9": 1}, "no such"), ({"1": 1}, "no such"), ({"0": 31}, "1 to 30")):
        with pytest.raises(ConfigError, match=message):
            restructure(net, ranks)


def test_bad_networks_and_options_in_one_line():
    with pytest.raises(DataError, match="nothing to make smaller"):
        look(nn.Sequential(nn.ReLU()))
    broken = nn.Sequential(nn.ReLU(), nn.Linear(3, 3))
    with torch.no_grad():
        broken[1].weight[1, 2] = torch.inf
    with pytest.raises(DataError, match="layer 1 holds NaN or infinite weights, the first in row 1, column 2"):
        look(broken)
    good = nn.Linear(3, 3)
    with pytest.raises(DataError, match="no calibration data"):
        look(good, torch.empty(0, 3))
    with pytest.raises(DataError, match="no calibration data"):
        look(good, iter([]))
    for options, message in (
        ({"metric": "other"}, "unknown metric"),
        ({"metric": "outputs"}, "needs calibration"),
        ({"most": 0}, "most must be"),
        ({"temperature": 0.0}, "temperature must be positive"),
    ):
        with pytest.raises(ConfigError, match=message):
            look(good, **options)


def test_the_new_bias_keeps_the_mean_output():
    torch.manual_seed(0)
    net, inputs = nn.Linear(30, 20), torch.randn(200, 30) + 3 * torch.randn(30)
    errors = []
    for correct in (True, False):
        spectrum = look(net, inputs, correct_bias=correct)
        small = apply(plan_ranks(spectrum, rank=4), net, spectrum)
        assert torch.equal(small[1].bias, net.bias) is not correct
        with torch.no_grad():
            shift = (small(inputs) - net(inputs)).mean(0)
            errors.append(float((small(inputs) - net(inputs)).square().sum(-1).mean()))
        assert (float(shift.abs().max()) < 1e-4) is correct
    assert errors[0] < errors[1]
