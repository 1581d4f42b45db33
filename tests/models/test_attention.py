"""Attention by layers computes what PyTorch's own does, and is made smaller with everything else."""

import json

import pytest
import torch
from torch import nn

import limbeck
from limbeck.models import build, changes_of, close_attention, factored_ranks, open_attention, opened_names, rebuild
from limbeck.models.attention import OpenAttention

N, L, S, E = 3, 5, 7, 8


def parts(**options):
    torch.manual_seed(0)
    one = nn.MultiheadAttention(E, 2, **options).eval()
    with torch.no_grad():
        for value in one.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return one, OpenAttention(one)


@pytest.mark.parametrize(
    "options",
    [{}, {"batch_first": True}, {"bias": False}, {"kdim": 6, "vdim": 4, "batch_first": True}],
    ids=str,
)
@pytest.mark.parametrize("masks", ["none", "truth", "numbers", "heads"])
def test_it_computes_what_pytorchs_own_does(options, masks):
    one, other = parts(**options)
    query, key, value = torch.randn(N, L, E), torch.randn(N, S, one.kdim), torch.randn(N, S, one.vdim)
    given = [each if one.batch_first else each.transpose(0, 1) for each in (query, key, value)]
    padded = torch.arange(S).expand(N, S) >= torch.tensor([[S], [S - 2], [S - 3]])
    above = torch.ones(L, S, dtype=torch.bool).triu(2)
    named = {
        "none": {},
        "truth": {"key_padding_mask": padded, "attn_mask": above},
        "numbers": {"attn_mask": torch.randn(L, S), "key_padding_mask": torch.randn(N, S)},
        "heads": {"attn_mask": torch.randn(2 * N, L, S)},
    }[masks]
    for more in ({"need_weights": False}, {"need_weights": True}, {"average_attn_weights": False}):
        with torch.no_grad():
            expected, found = one(*given, **named, **more), other(*given, **named, **more)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    if masks == "none":
        with torch.no_grad():
            torch.testing.assert_close(other(query[0], key[0], value[0]), one(query[0], key[0], value[0]))


def test_it_is_closed_again_where_nothing_changed_and_learns_as_before():
    torch.manual_seed(0)
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(E, 2, 16, batch_first=True), 2)
    opened = open_attention(net)
    assert opened_names(opened) == ["layers.0.self_attn", "layers.1.self_attn"] and not opened_names(net)
    again = close_attention(opened)
    assert list(again.state_dict()) == list(net.state_dict())
    assert all(torch.equal(one, two) for one, two in zip(again.parameters(), net.parameters(), strict=True))
    x = torch.randn(4, 6, E)
    for train in (False, True):
        torch.testing.assert_close(opened.train(train)(x) if not train else x, net.train(train)(x) if not train else x)
    opened.eval()(x).sum().backward()
    assert opened.layers[0].self_attn.query.weight.grad.abs().sum() > 0
    odd = nn.MultiheadAttention(E, 2, add_bias_kv=True)
    assert open_attention(odd) is odd


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(2, E), nn.Linear(E, 3)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(E, 2, 16, batch_first=True), 1)

    def forward(self, x):
        return self.last(self.encoder(self.first(x.unflatten(1, (4, 2)))).mean(1))


def test_attention_is_factorised_with_everything_else_saved_and_loaded(tmp_path):
    torch.manual_seed(0)
    net, x = Small().eval(), torch.randn(60, 8)
    data = (x[:40], torch.arange(40) % 3), (x[40:], torch.arange(20) % 3)
    run = limbeck.compress(net, *data, rule=limbeck.RankRule(parameters=0.6), out=tmp_path / "run")
    prefix = "encoder.layers.0.self_attn"
    inside = [f"{prefix}.{name}" for name in ("query", "key", "value", "out")]
    ranks = factored_ranks(run.model)
    assert set(ranks) & set(inside) and changes_of(run.model)["attention"] == [prefix]
    assert {layer.name for layer in run.plan.layers} >= set(inside)
    again = limbeck.load(tmp_path / "run", model=Small())
    assert torch.equal(again(x), run.model(x))
    whole = limbeck.compress(net, *data, rule=limbeck.RankRule(energy=1.0))
    torch.testing.assert_close(whole.model(x), net(x), atol=1e-4, rtol=1e-4)
    changes = json.loads(json.dumps(changes_of(run.model)))
    made = rebuild(Small(), changes)
    made.load_state_dict(run.model.state_dict())
    torch.testing.assert_close(made.eval()(x), run.model(x))
    with pytest.raises(limbeck.LimbeckError, match="has no attention in all of nowhere"):
        rebuild(Small(), {"attention": ["nowhere"]})
    with pytest.raises(limbeck.LimbeckError, match="attention must be a list"):
        build({"model_type": "mlp", "input_shape": [4], "classes": 3, "attention": "x"})


@pytest.mark.slow
def test_factorised_attention_is_exported(tmp_path):
    torch.manual_seed(0)
    net, x = Small().eval(), torch.randn(60, 8)
    data = (x[:40], torch.arange(40) % 3), (x[40:], torch.arange(20) % 3)
    run = limbeck.compress(net, *data, rule=limbeck.RankRule(parameters=0.6))
    done = run.export(tmp_path / "out", ["torch", "onnx"])
    for name in ("torch", "onnx"):
        found = done.parity["formats"][name]
        assert found["flips"]["count"] == found["flips"]["ties"]


def test_eight_bits_are_for_projections_too():
    torch.manual_seed(0)
    net, x = Small().eval(), torch.randn(60, 8)
    data = (x[:40], torch.arange(40) % 3), (x[40:], torch.arange(20) % 3)
    run = limbeck.compress(net, *data, int8=True)
    names = [name for name, part in run.model.named_modules() if isinstance(part, limbeck.models.Int8Linear)]
    assert "encoder.layers.0.self_attn.query" in names
    assert (run.model(x) - net(x)).abs().max() < 0.1
