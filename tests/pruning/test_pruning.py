"""Units are taken out together, what is left makes up for them, and a plan is what it says."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from limbeck.errors import ConfigError, FormatError, MismatchError
from limbeck.models import CNN, MLP, CNNConfig, MLPConfig, build, count_parameters, describe
from limbeck.pruning import (
    PrunePlan,
    cost_of,
    find_groups,
    look_at_units,
    plan_units,
    prune,
    removal_path,
    without_units,
)
from limbeck.pruning.act import zeroed
from limbeck.pruning.elimination import Reader, reconstructed, removal_order
from limbeck.pruning.look import answers_of, divergence_of


class Gated(nn.Module):
    """Residual sums, a depthwise convolution, and a gate that multiplies channels."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.wide, self.deep = nn.Conv2d(6, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norm, self.gate = nn.BatchNorm2d(8), nn.Sequential(nn.Conv2d(8, 3, 1), nn.ReLU(), nn.Conv2d(3, 8, 1))
        self.back, self.head = nn.Conv2d(8, 6, 1), nn.Linear(6, 4)

    def forward(self, x):
        x = self.stem(x)
        y = torch.nn.functional.silu(self.norm(self.deep(self.wide(x))))
        y = y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid()
        return self.head((x + self.back(y)).mean((2, 3)))


class Block(nn.Module):
    """A transformer's block: the stream stays, the hidden units of the feed-forward part can go."""

    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = x + self.down(torch.nn.functional.gelu(self.up(self.norm(x))))
        return self.head(self.norm(x).mean(1))


def randomised(model):
    """Weights and statistics that leave nothing at its default."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator) * (0.4 if value.ndim > 1 else 0.2)
            value.copy_(drawn.abs() + 0.5 if "var" in name else drawn + (value.ndim == 1) * 0.3)
    return model.eval()


def mlp(**options):
    return randomised(MLP(MLPConfig(input_shape=(1, 6, 6), classes=4, hidden=(9, 7), dropout=0.1, **options)))


def cnn(**options):
    settings = {"input_shape": (1, 12, 12), "classes": 4, "channels": (5, 6), "hidden": (7,), **options}
    return randomised(CNN(CNNConfig(**settings)))


NETWORKS = {
    "mlp": (lambda: mlp(), (1, 6, 6), {"1": 9, "4": 7}),
    "maxout": (lambda: mlp(activation="maxout", pieces=3), (1, 6, 6), {"1": 9, "4": 7}),
    "cnn": (lambda: cnn(batch_norm=True, padding=True), (1, 12, 12), {"0": 5, "4": 6, "9": 7}),
    "gated": (lambda: randomised(Gated()), (1, 8, 8), {"stem.0": 6, "wide": 8, "gate.0": 3}),
    "block": (lambda: randomised(Block()), (5, 8), {"up": 16}),
}


@pytest.fixture(params=NETWORKS)
def case(request):
    make, shape, free = NETWORKS[request.param]
    return make(), torch.rand(60, *shape, generator=torch.Generator().manual_seed(1)), free


def test_what_nobody_reads_is_taken_out_and_the_answers_stay(case):
    net, x, free = case
    groups = [group for group in find_groups(net, x) if group.reason is None]
    assert {group.name: group.units for group in groups} == free
    before = {name: value.clone() for name, value in net.state_dict().items()}
    kept = {group.name: list(range(0, group.units, 2)) for group in groups}
    masked = copy.deepcopy(net)
    for group in groups:
        zeroed(masked, group, kept[group.name], None)
    small = without_units(net, groups, kept, None)
    with torch.no_grad():
        torch.testing.assert_close(small(x), masked(x), atol=1e-5, rtol=1e-4)
        assert (masked(x) - net(x)).abs().max() > 1e-2
    assert count_parameters(small) < count_parameters(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_plans_are_kept_within_budgets_and_say_what_becomes_of_the_network(case, tmp_path):
    net, x, _ = case
    seen = look_at_units(net, x)
    for each in seen.seen:
        assert (np.diff(each.losses) >= 0).all() and each.losses[0] == 0 and each.losses[-1] > 0
    for share in (0.85, 0.6):
        plan = plan_units(seen, net, x, parameters=share)
        small = prune(plan, net, x)
        assert count_parameters(small) == plan.parameters_after <= share * plan.parameters
        assert sum(v.numel() * v.element_size() for v in small.state_dict().values()) == plan.bytes_after
        assert plan.loss == pytest.approx(divergence_of(answers_of(net, [x]), answers_of(small, [x])), rel=1e-3)
        plan.save(tmp_path / "plan.json")
        assert PrunePlan.load(tmp_path / "plan.json") == plan and f"{plan.parameters_after:,}" in str(plan)
    path = removal_path(seen, "flops")
    costs = [cost_of(seen, counts, "flops") for counts in path]
    assert costs == sorted(costs, reverse=True) and set(path[-1].values()) == {1}
    with pytest.raises(ConfigError, match="the smallest possible, one unit in each group"):
        plan_units(seen, net, x, parameters=0.001)


def test_what_is_twice_there_goes_first_and_nothing_is_lost():
    net = mlp()
    with torch.no_grad():  # units 5 to 8 are as 0 to 3, and are read as strongly
        net[1].weight[5:] = net[1].weight[:4]
        net[1].bias[5:] = net[1].bias[:4]
    x = torch.rand(80, 1, 6, 6)
    seen = look_at_units(net, x)
    first = seen.seen[0]
    assert first.losses[4] < 1e-6 < 1e-4 < first.losses[5]
    kept = first.kept(5)
    assert sorted(unit if unit < 5 else unit - 5 for unit in kept) == [0, 1, 2, 3, 4]
    small = without_units(net, [first.group], {"1": kept}, seen.readers)
    with torch.no_grad():
        torch.testing.assert_close(small(x), net(x), atol=1e-3, rtol=1e-3)
    assert small.config.hidden == (5, 7) and describe(small)["hidden"] == (5, 7) and "widths" not in describe(small)


@pytest.mark.parametrize("block", [1, 3])
def test_reconstruction_is_least_squares_and_losses_are_those_of_the_quadratic_form(block):
    rng = np.random.default_rng(block)
    x = rng.normal(size=(400, 6 * block)) @ rng.normal(size=(6 * block, 6 * block))
    weight, root = rng.normal(size=(5, 6 * block)), rng.normal(size=(5, 5))
    moments, fisher = x.T @ x / len(x), root @ root.T
    reader = Reader(weight, moments, fisher, None, 2.0, block)
    kept = [0, 2, 3]
    at = [block * unit + k for unit in kept for k in range(block)]
    exact = np.linalg.lstsq(x[:, at], x @ weight.T, rcond=None)[0].T
    np.testing.assert_allclose(reconstructed(reader, kept)[0], exact, rtol=1e-3, atol=1e-3)
    order, losses = removal_order(6, [reader])
    for count in range(1, 6):
        left = sorted(set(range(6)) - set(order[:count]))
        at = [block * unit + k for unit in left for k in range(block)]
        missing = weight.copy()
        missing[:, at] -= reconstructed(reader, left)[0]
        direct = 0.5 * 2.0 * np.trace(fisher @ missing @ moments @ missing.T)
        assert losses[count] == pytest.approx(direct, rel=1e-3)
    alone = [removal_cost(reader, unit) for unit in range(6)]
    assert order[0] == int(np.argmin(alone))


def removal_cost(reader, unit):
    left = [each for each in range(6) if each != unit]
    at = [reader.block * each + k for each in left for k in range(reader.block)]
    missing = reader.weight.copy()
    missing[:, at] -= reconstructed(reader, left)[0]
    return float(np.trace(reader.outputs @ missing @ reader.inputs @ missing.T))


def test_a_bias_makes_up_for_the_mean():
    net = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 3)).eval()
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    seen = look_at_units(net, x)
    small = without_units(net, [seen.seen[0].group], {"0": (1, 4)}, seen.readers)
    with torch.no_grad():
        torch.testing.assert_close(small(x).mean(0), net(x).mean(0), atol=1e-5, rtol=1e-5)


def test_measured_divergence_beats_the_size_of_weights():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 5)).eval()
    mixing = torch.randn(4, 20)
    x = torch.randn(400, 4) @ mixing  # inputs that lie in a space of four dimensions
    seen = look_at_units(net, x)
    group = seen.seen[0].group
    chosen = without_units(net, [group], {"0": seen.seen[0].kept(12)}, seen.readers)
    norms = net[0].weight.norm(dim=1) * net[2].weight.norm(dim=0)
    largest = sorted(norms.argsort(descending=True)[:12].tolist())
    plain = without_units(net, [group], {"0": largest}, None)
    reference = answers_of(net, [x])
    lost = [divergence_of(reference, answers_of(each, [x])) for each in (chosen, plain)]
    assert lost[0] < 0.1 * lost[1]


def test_narrower_networks_are_described_and_built_again():
    net, x = cnn(batch_norm=True), torch.rand(40, 1, 12, 12)
    small = prune(plan_units(look_at_units(net, x), net, x, parameters=0.5), net, x)
    again = build(json.loads(json.dumps(describe(small))))
    again.load_state_dict(small.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(x), small(x))
    assert small.config.channels != (5, 6) or small.config.hidden != (7,)
    for part in small:
        if isinstance(part, nn.BatchNorm2d):
            assert part.num_features == len(part.running_mean) == len(part.weight)


@pytest.mark.slow
def test_networks_of_timm_are_described_layer_by_layer():
    from limbeck.models.timm_models import make_timm

    torch.manual_seed(0)
    net, x = make_timm("timm:test_efficientnet", classes=3, input_shape=(3, 32, 32)).eval(), torch.rand(40, 3, 32, 32)
    small = prune(plan_units(look_at_units(net, x), net, x, parameters=0.7), net, x)
    described = json.loads(json.dumps(describe(small)))
    assert described["model_type"] == "timm" and described["widths"]
    again = build(described)
    again.load_state_dict(small.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(x), small(x))


def test_networks_without_units_that_can_go_are_refused_in_a_line():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 5), nn.Linear(5, 2)

        def forward(self, x):
            return self.b(self.a(x)) if x.sum() > 0 else self.b(-self.a(x))

    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 5), nn.Linear(5, 2)

        def forward(self, x):
            return self.b(self.a(x).view(-1, 5).relu())

    x = torch.rand(20, 6)
    with pytest.raises(ConfigError, match="the structure of Branches is unknown, .* use low rank instead"):
        look_at_units(Branches(), x)
    with pytest.raises(
        ConfigError, match="no unit can be pruned from Fixed .*the network fails when a unit is removed"
    ):
        look_at_units(Fixed().eval(), x)
    with pytest.raises(ConfigError, match="no unit can be pruned from Linear .*they are the network's answers"):
        look_at_units(nn.Linear(6, 2), x)


def test_plans_of_others_and_damaged_ones_are_refused(tmp_path):
    net, x = mlp(), torch.rand(40, 1, 6, 6)
    plan = plan_units(look_at_units(net, x), net, x, flops=0.7)
    with pytest.raises(MismatchError, match="the plan is for the network"):
        prune(plan, randomised(mlp(activation="tanh")).double(), x)
    path = tmp_path / "plan.json"
    plan.save(path)
    good = json.loads(path.read_text())
    for change in (
        {"format": "other"},
        {"loss": -1},
        {"parameters": "many"},
        {"groups": [{**good["groups"][0], "kept": [3, 2]}]},
        {"groups": [{**good["groups"][0], "kept": [99]}]},
        {"more": 1},
    ):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(FormatError, match="plan for pruning"):
            PrunePlan.load(path)
