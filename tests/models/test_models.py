"""Architectures: exact sizes, dropout's statistics, norms, and that a description makes the model again."""

import pytest
import torch
from torch import nn

from limbeck.errors import ConfigError
from limbeck.models import CNN, MLP, CNNConfig, Dropout, MLPConfig, build, describe, from_options, layer_sizes
from limbeck.models.layers import initialise, limit_norms
from limbeck.options import ModelOptions


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_older_experiments_networks_have_exactly_its_sizes():
    cnn = from_options(ModelOptions(model="cnn"), input_shape=(1, 28, 28), classes=26, seed=0)
    mlp = from_options(ModelOptions(model="mlp"), input_shape=(1, 28, 28), classes=26, seed=0)
    assert parameters(cnn) == 3_378_970
    assert parameters(mlp) == 415_258
    assert [size[1] for size in layer_sizes(cnn, torch.zeros(1, 1, 28, 28))] == [
        (64, 26, 26),
        (128, 11, 11),
        (1024,),
        (26,),
    ]


def test_a_cnn_is_the_layers_it_says():
    net = CNN(CNNConfig(input_shape=(1, 12, 12), classes=3, channels=(4, 6), hidden=(5,))).eval()
    x = torch.randn(2, 1, 12, 12)
    convs = [layer for layer in net if isinstance(layer, nn.Conv2d)]
    dense = [layer for layer in net if isinstance(layer, nn.Linear)]
    h = x
    for conv in convs:
        h = torch.max_pool2d(torch.relu(torch.conv2d(h, conv.weight, conv.bias)), 2)
    expected = dense[1](torch.relu(dense[0](h.flatten(1))))
    assert torch.allclose(net(x), expected, atol=1e-5)


def test_an_mlp_is_the_layers_it_says():
    net = MLP(MLPConfig(input_shape=(2, 3), classes=4, hidden=(5, 6), input_mean=0.5, input_std=2.0)).eval()
    x = torch.randn(7, 2, 3)
    h = (x.flatten(1) - 0.5) / 2
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    for layer in linear[:-1]:
        h = torch.relu(h @ layer.weight.T + layer.bias)
    assert torch.allclose(net(x), h @ linear[-1].weight.T + linear[-1].bias, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout_keeps_the_mean_and_drops_the_share(p, dtype):
    torch.manual_seed(0)
    drop = Dropout(p)
    x = torch.full((300, 701), 2.0, dtype=dtype, requires_grad=True)  # a size that four does not divide
    y = drop(x)
    y.sum().backward()
    dropped = (y == 0).float().mean().item()
    assert dropped == pytest.approx(p, abs=4 * (p * (1 - p) / y.numel()) ** 0.5 + 2**-16)
    kept = y[y != 0]
    assert (kept == kept[0]).all()
    assert kept[0].item() == pytest.approx(2 / (1 - p), rel=1e-2 if dtype == torch.bfloat16 else 1e-4)
    assert torch.equal(x.grad != 0, y != 0)
    columns = (y == 0).float()
    correlation = torch.corrcoef(columns[:, :200].T) - torch.eye(200)
    assert correlation.abs().max() < 0.35  # 300 rows: standard error 0.058
    assert drop.eval()(x) is x


def test_norms_are_limited_per_unit_and_only_where_they_are_larger():
    weight = torch.randn(50, 20) * 2
    before = weight.clone()
    limit_norms([weight], 8.0)
    norms = before.norm(dim=1)
    assert weight.norm(dim=1).max() <= 8.0 + 1e-4
    assert torch.equal(weight[norms <= 8], before[norms <= 8])
    net = MLP(MLPConfig(input_shape=(30,), classes=3, hidden=(8,), max_norm=0.5))
    last = net[-1].weight.detach().clone().mul_(100)
    net[-1].weight.data.copy_(last)
    net.project_()
    assert net[1].weight.norm(dim=1).max() <= 0.5 + 1e-6
    assert torch.equal(net[-1].weight, last)


@pytest.mark.parametrize(
    "options",
    [
        ModelOptions(model="mlp", hidden=(7, 5), dropout=0.3, input_dropout=0.1, max_norm=2.0),
        ModelOptions(model="mlp", hidden=()),
        ModelOptions(model="cnn", channels=(3, 4), hidden=(9,), batch_norm=True, padding=True, dropout=0.2),
    ],
)
def test_a_description_makes_the_model_again(options):
    import json

    net = from_options(options, input_shape=(1, 12, 12), classes=4, seed=3).eval()
    again = build(json.loads(json.dumps(describe(net)))).eval()
    again.load_state_dict(net.state_dict())
    x = torch.randn(5, 1, 12, 12)
    assert torch.equal(again(x), net(x))
    assert describe(nn.Linear(2, 2)) is None


def test_weights_are_a_function_of_the_seed_and_leave_the_global_generator_alone():
    options = ModelOptions(model="mlp", hidden=(6,))

    def make(seed):
        return from_options(options, input_shape=(4,), classes=2, seed=seed)[1].weight

    torch.manual_seed(1)
    first, state = make(5), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(make(5), first)
    assert not torch.equal(make(6), first)
    torch.manual_seed(1)
    make(9)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"model_type": "vit"}, "unknown architecture 'vit'"),
        ({"model_type": ["mlp"]}, "unknown architecture"),
        ({"model_type": {}}, "unknown architecture"),
        ({"model_type": "mlp", "input_shape": [4], "classes": 3, "hidden": [8, 0]}, "hidden must be at least 1"),
        ({"model_type": "mlp", "input_shape": [4, 0], "classes": 3}, "input_shape must be at least 1, and is 4, 0"),
        ({"model_type": "mlp", "input_shape": [4], "classes": 0}, "classes must be at least 1"),
        ({"model_type": "cnn", "input_shape": [1, 28, 28], "classes": 3, "channels": [0]}, "channels must be"),
        ({"model_type": "mlp", "input_shape": [4], "classes": 3, "depth": 2}, "unknown fields.*depth"),
        ({"model_type": "mlp", "classes": 3}, "cannot be built"),
        ({"model_type": "mlp", "input_shape": [4], "classes": -3}, "classes must be at least 1, and is -3"),
        ({"model_type": "mlp", "input_shape": [4], "classes": "3"}, "cannot be built"),
        ({"model_type": "cnn", "input_shape": [4], "classes": 3}, "needs images"),
        ({"model_type": "cnn", "input_shape": [1, 6, 6], "classes": 3}, "6x6 pixels are too small"),
    ],
)
def test_impossible_descriptions_are_refused(description, message):
    with pytest.raises(ConfigError, match=message):
        build(description)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_the_limit_on_norms_is_for_hidden_layers_alone(kind):
    shape = (1, 12, 12)
    net = (
        MLP(MLPConfig(input_shape=shape, classes=3, hidden=(9, 8), max_norm=0.5))
        if kind == "mlp"
        else CNN(CNNConfig(input_shape=shape, classes=3, channels=(2,), hidden=(9, 8), max_norm=0.5))
    )
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer in linear:
            layer.weight.fill_(1.0)
    net.project_()
    for layer in linear[:-1]:
        torch.testing.assert_close(layer.weight.norm(dim=1), torch.full((len(layer.weight),), 0.5))
    assert bool((linear[-1].weight == 1).all())


@pytest.mark.parametrize(
    ("activation", "variance"),
    [
        ("relu", lambda inputs, outputs: 2 / inputs),
        ("maxout", lambda inputs, outputs: 1 / inputs),
        ("tanh", lambda inputs, outputs: 2 / (inputs + outputs)),
        ("sigmoid", lambda inputs, outputs: 16 * 2 / (inputs + outputs)),
    ],
)
def test_weights_begin_with_the_variance_that_suits_what_follows(activation, variance):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 150), nn.ReLU(), nn.Linear(150, 100))
    initialise(net, activation)
    for place, share in ((0, 1.0), (2, 1.0), (4, 0.01)):  # the last is a tenth as large
        weight = net[place].weight.detach()
        outputs, inputs = weight.shape
        assert float(weight.var()) == pytest.approx(share * variance(inputs, outputs), rel=0.05)
        assert not net[place].bias.any()
