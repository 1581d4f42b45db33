"""Rows and moments against convolutions themselves and against per-example gradients."""

import pytest
import torch
from torch import nn

from limbeck.errors import DataError
from limbeck.lowrank import apply, look, plan_ranks
from limbeck.lowrank.layers import find_layers, gradient_rows, input_rows
from limbeck.lowrank.moments import measure_moments

CONVOLUTIONS = [
    {"kernel_size": 3},
    {"kernel_size": (3, 2), "stride": 2, "padding": 1},
    {"kernel_size": 3, "dilation": 2, "padding": (2, 1)},
    {"kernel_size": 3, "padding": "same"},
    {"kernel_size": (2, 4), "padding": "same", "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
]


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_a_convolution_is_its_matrix_applied_to_the_rows(options):
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 5, bias=False, **options).double()
    inputs = torch.randn(3, 2, 7, 6, dtype=torch.float64)
    rows = input_rows(layer, inputs) @ layer.weight.flatten(1).T
    assert torch.allclose(rows, gradient_rows(layer, layer(inputs)), atol=1e-12)


def test_moments_against_one_example_at_a_time():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 4)
    ).train()
    inputs = torch.randn(5, 1, 3, 3)
    before = [parameter.clone() for parameter in net.parameters()]
    found = measure_moments(net, [inputs[:2], inputs[2:]], find_layers(net), temperature=3.0, seed=4)
    assert net.training and net[3].training
    assert all(p.grad is None and torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    assert not any(module._forward_hooks for module in net.modules())

    exact = net.double().eval()
    generator = torch.Generator().manual_seed(4)
    first, outputs, last, final = [], [], [], []
    for batch in (inputs[:2], inputs[2:]):
        drawn = torch.multinomial((exact(batch.double()) / 3).softmax(-1), 1, generator=generator)[:, 0]
        for example, answer in zip(batch.double(), drawn, strict=True):
            z = exact[0](example[None])
            hidden = z.relu().flatten(1)
            scores = exact[4](hidden)
            gradients = torch.autograd.grad(-3 * (scores / 3).log_softmax(-1)[0, answer], [z, scores])
            for i in range(2):
                for j in range(2):
                    first.append(example[0, i : i + 2, j : j + 2].flatten())
                    outputs.append(gradients[0][0, :, i, j])
            last.append(hidden[0].detach())
            final.append(gradients[1][0])

    def second(rows):
        return sum(torch.outer(row, row) for row in rows) / len(rows)

    conv, linear = found["0"], found["4"]
    assert conv.positions == 4.0 and linear.positions == 1.0
    for seen, rows, gradients in ((conv, first, outputs), (linear, last, final)):
        assert torch.allclose(torch.from_numpy(seen.inputs), second(rows), atol=1e-6)
        assert torch.allclose(torch.from_numpy(seen.mean), torch.stack(rows).mean(0), atol=1e-6)
        assert torch.allclose(torch.from_numpy(seen.outputs), second(gradients), atol=1e-6)


def test_the_drawn_fisher_is_the_exact_one_in_the_mean():
    torch.manual_seed(0)
    net = nn.Linear(3, 4)
    example = torch.tensor([[1.0, -0.5, 2.0]])
    found = measure_moments(net, example.repeat(20_000, 1), find_layers(net))[""]
    p = net(example)[0].softmax(-1).detach().double()
    assert torch.allclose(torch.from_numpy(found.outputs), p.diag() - torch.outer(p, p), atol=0.01)


@pytest.mark.parametrize("metric", ["outputs", "divergence"])
@pytest.mark.parametrize("correct", [True, False])
def test_the_loss_of_a_convolution_is_the_formula_over_all_positions(metric, correct):
    r"""What a plan promises is P / 2 tr(G D C D^T), C being about the mean where the bias makes up for it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 4)).double()
    inputs = torch.randn(60, 2, 6, 6, dtype=torch.float64) + 2
    found = find_layers(net)
    seen = measure_moments(net, inputs, found, temperature=4.0)
    spectrum = look(net, inputs, metric=metric, temperature=4.0, correct_bias=correct)
    plan = plan_ranks(spectrum, rank={"0": 3})
    small = apply(plan, net, spectrum)
    change = net[0].weight.flatten(1) - small[0][1].weight.flatten(1) @ small[0][0].weight.flatten(1)
    moments = seen["0"]
    second = torch.from_numpy(moments.inputs)
    if correct:
        second = second - torch.outer(torch.from_numpy(moments.mean), torch.from_numpy(moments.mean))
    fisher = torch.from_numpy(moments.outputs)
    if metric == "outputs":
        fisher = fisher.diagonal().mean() * torch.eye(8, dtype=torch.float64)
    expected = 0.5 * 16 * float((fisher @ change @ second @ change.T).trace().detach())
    assert moments.positions == 16.0
    assert plan.loss == pytest.approx(expected, rel=0.02)


def test_with_the_bias_corrected_what_is_discarded_is_the_error_of_the_outputs():
    torch.manual_seed(0)
    net, inputs = nn.Linear(30, 20).double(), torch.randn(400, 30, dtype=torch.float64) + 3
    for correct in (True, False):
        spectrum = look(net, inputs, metric="outputs", correct_bias=correct)
        small = apply(plan_ranks(spectrum, rank=4), net, spectrum)
        error = float((net(inputs) - small(inputs)).square().sum(-1).mean().detach())
        parts = spectrum.layers[0].decomposition
        assert parts.discarded(4) == pytest.approx(error, rel=1e-3)
        # All of it is the variance of the outputs, or with the old bias their second moment.
        products = (inputs @ net.weight.T).detach()
        whole = products.var(0, correction=0) if correct else products.square().mean(0)
        assert parts.total == pytest.approx(float(whole.sum()), rel=1e-4)


def test_frozen_and_repeated_layers_and_further_axes():
    shared = nn.Linear(4, 4)
    net = nn.Sequential(shared, nn.Tanh(), shared).requires_grad_(False)
    inputs = torch.randn(6, 3, 4)
    (found,) = measure_moments(net, inputs, find_layers(net)).values()
    assert found.positions == 6.0
    rows = torch.cat([inputs.reshape(-1, 4), shared(inputs).tanh().reshape(-1, 4)]).double()
    assert torch.allclose(torch.from_numpy(found.inputs), rows.T @ rows / len(rows), atol=1e-6)


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.outer(self.inner(x).detach())


class Silent(Detached):
    def forward(self, x):
        with torch.no_grad():
            return self.outer(self.inner(x))


@pytest.mark.parametrize(
    ("net", "inputs", "message"),
    [
        (Detached(), torch.ones(2, 3), "no gradient of the logits reaches layer inner"),
        (Silent(), torch.ones(2, 3), "no_grad"),
        (nn.Linear(3, 2), torch.full((2, 3), torch.nan), "NaN or infinite logits"),
        (nn.Sequential(nn.Linear(3, 2), nn.Flatten(0)), torch.ones(2, 3), "one tensor of logits"),
    ],
)
def test_one_clear_line(net, inputs, message):
    with pytest.raises(DataError, match=message):
        measure_moments(net, inputs, find_layers(net))
