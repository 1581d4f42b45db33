"""Convolutions over columns and over rows: identity, a slow float64 version, sizes, and what data say."""

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
from limbeck.lowrank.spatial import as_columns_and_rows, as_kernel, decompose_spatial
from limbeck.models import CNN, CNNConfig, build, changes_of, describe, rebuild

CONVOLUTIONS = [
    {"kernel_size": 3},
    {"kernel_size": (3, 2), "stride": (2, 3), "padding": (1, 2), "bias": False},
    {"kernel_size": (5, 3), "dilation": 2, "padding": "same", "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
]


def network(options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, **options), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4))
    return net, torch.randn(5, 3, 13, 12)


def without_three(spectrum):
    """The spectrum as if convolutions could not become three."""
    layers = tuple(dataclasses.replace(layer, tucker=None) for layer in spectrum.layers)
    return dataclasses.replace(spectrum, layers=layers)


def planned(spectrum, name, rank):
    """A plan that splits one layer, over columns and rows."""
    plan = plan_ranks(spectrum, rank={})
    layers = [
        _layer_plan(layer, _Choice(rank, "spatial"), False) if layer.name == name else old
        for layer, old in zip(spectrum.layers, plan.layers, strict=True)
    ]
    return dataclasses.replace(plan, layers=tuple(layers))


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("metric", ["weights", "outputs", "divergence"])
@pytest.mark.parametrize("placement", ["input", "split"])
def test_full_rank_changes_nothing_and_any_rank_is_one_kernel(options, metric, placement):
    net, inputs = network(options)
    spectrum = look(net, None if metric == "weights" else inputs, metric=metric, example=inputs, spatial=True)
    form = spectrum.layers[0].spatial
    high, wide = net[0].kernel_size
    assert form.shape == (6 * wide, 3 * high) and form.decomposition.possible == min(form.shape)
    same = apply(planned(spectrum, "0", min(form.shape)), net, spectrum)
    torch.testing.assert_close(same(inputs), net(inputs), atol=2e-5, rtol=1e-4)
    small = apply(planned(spectrum, "0", 2), net, spectrum)
    first, second = small[0]
    assert first.weight.shape == (2, 3, high, 1) and second.weight.shape == (6, 2, 1, wide) and first.bias is None
    # The two are one convolution whose kernel is made entry by entry.
    with torch.no_grad():
        whole = copy.deepcopy(net[0])
        for m in range(6):
            for c in range(3):
                outer = [first.weight[r, c] @ second.weight[m, r] for r in range(2)]
                whole.weight[m, c] = sum(outer)
        if second.bias is not None:
            whole.bias.copy_(second.bias)
    torch.testing.assert_close(whole(inputs), small[0](inputs), atol=1e-5, rtol=1e-4)


def test_the_identity_metric_is_the_best_of_its_rank():
    """Against the singular values of the rearranged kernel, with loops."""
    weight = np.random.default_rng(0).normal(size=(5, 4 * 3 * 2))
    matrix, kernel = as_columns_and_rows(weight, (3, 2)), weight.reshape(5, 4, 3, 2)
    slow = np.array([[kernel[m, c, i, j] for c in range(4) for i in range(3)] for m in range(5) for j in range(2)])
    np.testing.assert_array_equal(matrix, slow)
    np.testing.assert_array_equal(as_kernel(matrix, (3, 2)), weight)
    parts, factor = decompose_spatial(weight, (3, 2))
    np.testing.assert_allclose(parts.values, np.linalg.svd(slow, compute_uv=False), atol=1e-12)
    assert factor == 1.0


def correlated(count=64, channels=4, seed=0):
    """Smooth images whose channels are nearly the same two."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(count, 2, 12, 12, generator=generator)
    smooth = nn.functional.avg_pool2d(base, 3, 1, 1)
    mixing = torch.randn(channels, 2, generator=generator)
    return torch.einsum("kc,nchw->nkhw", mixing, smooth) + 0.02 * torch.randn(
        count, channels, 12, 12, generator=generator
    )


def test_the_error_that_is_told_is_that_of_the_outputs_over_all_positions():
    """A slow version in float64 of the mean squared error; the decomposition's estimate is corrected to it."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(4, 8, 3, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).double()
    inputs = correlated().double()
    spectrum = look(net, inputs, metric="outputs", spatial=True)
    form = spectrum.layers[0].spatial
    rank = max(1, int(0.25 * 8 * 36 / sum(form.shape)))
    small = apply(planned(spectrum, "0", rank), net, spectrum)
    first, second = small[0]
    kernel = torch.einsum("rci,mrj->mcij", first.weight[..., 0], second.weight[:, :, 0]).reshape(8, 36)
    rows = input_rows(net[0], inputs)
    error = ((net[0].weight.flatten(1) - kernel) @ rows.T).square().sum().item() / len(rows)
    told = form.weight / spectrum.layers[0].weight * form.decomposition.discarded(rank)
    assert told == pytest.approx(error, rel=0.5)
    # In the moment's own Kronecker product no matrix of this rank is better: a slow check with the roots.
    moment = (rows.T @ rows / len(rows)).detach().numpy().reshape(12, 3, 12, 3)
    columns, across = np.einsum("ajbj->ab", moment), np.einsum("ajak->jk", moment)
    across = np.kron(np.eye(8), across / np.trace(columns))
    matrix = as_columns_and_rows(net[0].weight.detach().numpy().reshape(8, 36), (3, 3))
    roots = [np.linalg.cholesky(each + 1e-12 * np.eye(len(each))) for each in (across, columns)]
    best = np.linalg.svd(roots[0].T @ matrix @ roots[1], compute_uv=False)
    np.testing.assert_allclose(form.decomposition.values[:4], best[:4], rtol=1e-3)


def test_data_beat_plain_singular_values_on_correlated_inputs():
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(800, 3))
    inputs, fresh = correlated(128).split(64)
    with torch.no_grad():
        errors = []
        for metric in ("weights", "outputs"):
            spectrum = look(net, inputs, metric=metric, spatial=True)
            small = apply(planned(spectrum, "0", 3), net, spectrum)
            errors.append(float((small[0](fresh) - net[0](fresh)).square().mean()))
    assert errors[1] < errors[0] / 3, errors


def test_a_budget_takes_the_form_that_loses_less_and_counts_it_right():
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(4, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(600, 10),
    )  # fmt: skip
    inputs = correlated()
    plain, both = look(net, inputs), look(net, inputs, spatial=True)
    assert plain.layers[0].spatial is None and plain.digest != both.digest
    assert both.layers[2].spatial is None, "a linear layer has no columns"

    def size(model):
        return sum(v.numel() * v.element_size() for v in model.state_dict().values())

    used = set()
    for rule in ({"parameters": 0.4}, {"flops": 0.4}, {"size": "14KB"}, {"flops": 0.7}):
        plan = plan_ranks(both, **rule)
        assert plan.loss <= plan_ranks(plain, **rule).loss * (1 + 1e-9)
        used |= set(plan.spatial)
        small = apply(plan, net, both)
        assert sum(p.numel() for p in small.parameters()) == plan.parameters_after
        assert size(small) == plan.bytes_after
        with FlopCounterMode(display=False) as counter:
            small(inputs[:1])
        assert counter.get_total_flops() == 2 * plan.multiply_adds[1]
    assert used, "the spatial form was never the better one"
    smallest = plan_ranks(both, size=budget_range(both, "size")[0])
    assert smallest.bytes_after == budget_range(both, "size")[0] and set(smallest.ranks.values()) == {1}
    heavier = weigh(both, net, inputs)
    for before, after in zip(both.layers[:2], heavier.layers[:2], strict=True):
        assert after.spatial.weight / before.spatial.weight == pytest.approx(after.weight / before.weight)


def test_saved_described_and_built_again(tmp_path):
    net = CNN(CNNConfig(input_shape=(1, 12, 12), classes=3, channels=(6, 8), hidden=(20,))).eval()
    inputs = torch.rand(40, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    spectrum = without_three(look(net, inputs, spatial=True))
    plan = plan_ranks(spectrum, flops=0.5)
    assert plan.spatial and "spatial" in str(plan)
    plan.save(tmp_path / "plan.json")
    spectrum.save(tmp_path / "spectrum.safetensors")
    again = RankPlan.load(tmp_path / "plan.json"), Spectrum.load(tmp_path / "spectrum.safetensors")
    assert again[0] == plan and again[1].digest == spectrum.digest
    small, twice = apply(plan, net, spectrum), apply(again[0], net, again[1])
    assert all(torch.equal(a, b) for a, b in zip(small.state_dict().values(), twice.state_dict().values(), strict=True))
    description = describe(small)
    assert description["spatial"] == list(plan.spatial)
    built = build(description)
    built.load_state_dict(small.state_dict())
    torch.testing.assert_close(built.eval()(inputs), small(inputs))
    with pytest.raises(ConfigError, match="spatial must be a list of layers that have ranks"):
        rebuild(net, {"ranks": {"0": 1}, "spatial": ["9"]})
    with pytest.raises(ConfigError, match="is not a convolution"):
        restructure(nn.Sequential(nn.Linear(4, 4)), {"0": 1}, ["0"])
    assert changes_of(rebuild(net, {"ranks": {"0": 1}, "spatial": ["0"]})) == {"ranks": {"0": 1}, "spatial": ["0"]}
    text = (tmp_path / "plan.json").read_text()
    (tmp_path / "plan.json").write_text(text.replace('"spatial": [', '"spatial": ["x", ', 1))
    with pytest.raises(FormatError, match="spatial cannot be"):
        RankPlan.load(tmp_path / "plan.json")
