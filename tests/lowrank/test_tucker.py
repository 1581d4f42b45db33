"""Convolutions as three: identity, loops, what the error is said to be, sizes, and what is refused."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from limbeck.errors import ConfigError, FormatError
from limbeck.lowrank import RankPlan, Spectrum, apply, look, plan_ranks, restructure, weigh
from limbeck.lowrank.decide import _Choice, _layer_plan, budget_range
from limbeck.lowrank.layers import input_rows
from limbeck.lowrank.matrices import decompose
from limbeck.lowrank.tucker import decompose_channels, tucker_factors
from limbeck.models import CNN, CNNConfig, build, describe, rebuild

CONVOLUTIONS = [
    {"kernel_size": 3},
    {"kernel_size": (3, 2), "stride": (2, 3), "padding": (1, 2), "bias": False},
    {"kernel_size": (5, 3), "dilation": 2, "padding": "same", "padding_mode": "reflect"},
]


def network(options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 6, **options), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4))
    return net, torch.randn(5, 4, 13, 12)


def planned(spectrum, inner, rank):
    """A plan that makes the first layer three."""
    plan = plan_ranks(spectrum, rank={})
    first = _layer_plan(spectrum.layers[0], _Choice(rank, "tucker", inner), False)
    return dataclasses.replace(plan, layers=(first, *plan.layers[1:]))


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("metric", ["weights", "divergence"])
def test_full_rank_changes_nothing_and_any_ranks_are_one_kernel(options, metric):
    net, inputs = network(options)
    spectrum = look(net, None if metric == "weights" else inputs, metric=metric, example=inputs, spatial=True)
    same = apply(planned(spectrum, 4, 6), net, spectrum)
    torch.testing.assert_close(same(inputs), net(inputs), atol=5e-5, rtol=1e-4)
    small = apply(planned(spectrum, 2, 3), net, spectrum)
    first, core, last = small[0]
    assert (first.weight.shape, last.weight.shape) == ((2, 4, 1, 1), (6, 3, 1, 1))
    assert core.weight.shape[:2] == (3, 2) and core.kernel_size == net[0].kernel_size
    with torch.no_grad():
        whole = copy.deepcopy(net[0])
        for m in range(6):
            for c in range(4):
                parts = [
                    last.weight[m, n, 0, 0] * core.weight[n, r] * first.weight[r, c, 0, 0]
                    for n in range(3) for r in range(2)
                ]  # fmt: skip
                whole.weight[m, c] = sum(parts)
        if last.bias is not None:
            whole.bias.copy_(last.bias)
    torch.testing.assert_close(whole(inputs), small[0](inputs), atol=1e-5, rtol=1e-4)


def test_a_kernel_of_tuckers_form_is_found_at_its_ranks():
    rng = np.random.default_rng(1)
    outer, core, inner = rng.normal(size=(8, 3)), rng.normal(size=(3, 2, 3, 3)), rng.normal(size=(2, 5))
    weight = np.einsum("mn,nrij,rc->mcij", outer, core, inner).reshape(8, 45)
    plain = decompose(weight)
    channels, factor = decompose_channels(weight, (3, 3), plain)
    assert (channels.values[2:] < 1e-10).all() and (plain.values[3:] < 1e-10).all() and 0.3 < factor <= 1.0
    np.testing.assert_allclose(tucker_factors(weight, (3, 3), (2, 3), plain, channels)[3], weight, atol=1e-10)


def test_the_error_that_is_told_is_that_of_the_outputs_and_data_beat_plain_singular_values():
    torch.manual_seed(2)
    mixing = torch.randn(8, 8) * torch.logspace(0, -2, 8)
    net = nn.Sequential(nn.Conv2d(8, 10, 3), nn.ReLU(), nn.Flatten(), nn.Linear(360, 3))
    inputs = torch.einsum("dc,ncij->ndij", mixing, torch.randn(120, 8, 8, 8))
    errors = []
    for metric in ("weights", "outputs"):
        spectrum = look(net, None if metric == "weights" else inputs, metric=metric, example=inputs, spatial=True)
        layer = spectrum.layers[0]
        plan = planned(spectrum, 3, 5)
        small = apply(plan, net, spectrum)
        with torch.no_grad():
            errors.append(float((small[0](inputs) - net[0](inputs)).square().sum(1).mean()))
        if metric == "outputs":
            rows = input_rows(net[0], inputs).double().numpy()
            centred = rows - rows.mean(0)
            missing = layer.forms["channels"].decomposition, layer.tucker.decomposition
            kernel = tucker_factors(net[0].weight.detach().flatten(1).double().numpy(), (3, 3), (3, 5), *missing)[3]
            away = centred @ (net[0].weight.detach().flatten(1).double().numpy() - kernel).T
            assert float((away**2).sum(1).mean()) == pytest.approx(errors[-1], rel=1e-3)
            told = plan.layers[0].loss / layer.weight
            assert told == pytest.approx(errors[-1], rel=0.35)
    assert errors[1] < 0.6 * errors[0]


def test_a_budget_takes_the_form_that_loses_least_and_counts_it_right():
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(4, 24, 3, stride=2), nn.ReLU(), nn.Conv2d(24, 32, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(800, 10),
    )  # fmt: skip
    inputs = torch.randn(60, 4, 12, 12)
    both = look(net, inputs, spatial=True)
    used = set()
    for rule in ({"parameters": 0.4}, {"flops": 0.3}, {"size": "16KB"}, {"flops": 0.6}):
        plan = plan_ranks(both, **rule)
        used |= set(plan.tucker)
        assert not set(plan.tucker) & set(plan.spatial)
        small = apply(plan, net, both)
        assert sum(p.numel() for p in small.parameters()) == plan.parameters_after
        assert sum(v.numel() * v.element_size() for v in small.state_dict().values()) == plan.bytes_after
        with FlopCounterMode(display=False) as counter:
            small(inputs[:1])
        assert counter.get_total_flops() == 2 * plan.multiply_adds[1]
    assert used, "the form of three was never the best one"
    assert plan_ranks(both, size=budget_range(both, "size")[0]).bytes_after == budget_range(both, "size")[0]
    heavier = weigh(both, net, inputs)
    for before, after in zip(both.layers[:2], heavier.layers[:2], strict=True):
        assert after.tucker.weight / before.tucker.weight == pytest.approx(after.weight / before.weight)


def test_saved_described_and_built_again(tmp_path):
    net = CNN(CNNConfig(input_shape=(1, 12, 12), classes=3, channels=(6, 8), hidden=(20,))).eval()
    inputs = torch.rand(40, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    spectrum = look(net, inputs, spatial=True)
    plan = plan_ranks(spectrum, rank={})
    second = next(at for at, layer in enumerate(spectrum.layers) if layer.tucker is not None)
    name = spectrum.layers[second].name
    layers = list(plan.layers)
    layers[second] = _layer_plan(spectrum.layers[second], _Choice(4, "tucker", 3), False)
    plan = dataclasses.replace(plan, layers=tuple(layers))
    assert plan.tucker == {name: 3} and plan.ranks == {name: 4} and "3 x 4 tucker" in str(plan)
    assert plan.to_metrics()["tucker"] == {name: 3}
    plan.save(tmp_path / "plan.json")
    spectrum.save(tmp_path / "spectrum.safetensors")
    again = RankPlan.load(tmp_path / "plan.json"), Spectrum.load(tmp_path / "spectrum.safetensors")
    assert again[0] == plan and again[1].digest == spectrum.digest
    small, twice = apply(plan, net, spectrum), apply(again[0], net, again[1])
    assert all(torch.equal(a, b) for a, b in zip(small.state_dict().values(), twice.state_dict().values(), strict=True))
    description = describe(small)
    assert description["tucker"] == {name: 3}
    built = build(description)
    built.load_state_dict(small.state_dict())
    torch.testing.assert_close(built.eval()(inputs), small(inputs))
    with pytest.raises(ConfigError, match="tucker must be channels by layers that have ranks"):
        rebuild(net, {"ranks": {name: 4}, "tucker": {"9": 3}})
    with pytest.raises(ConfigError, match="is not a convolution"):
        restructure(nn.Sequential(nn.Linear(4, 4)), {"0": 1}, (), {"0": 1})
    with pytest.raises(ConfigError, match="of 6 channels cannot become three by 7"):
        restructure(net, {name: 4}, (), {name: 7})
    text = (tmp_path / "plan.json").read_text()
    (tmp_path / "plan.json").write_text(text.replace('"inner": 3', '"inner": 99', 1))
    with pytest.raises(FormatError, match="cannot go to 99 of 6 channels"):
        RankPlan.load(tmp_path / "plan.json")
