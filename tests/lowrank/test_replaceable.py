"""Layers that cannot be replaced stay: of transformers, those whose weights are taken, those that are never called."""

import copy
import warnings

import pytest
import torch
from torch import nn

import limbeck
from limbeck.models import Int8Linear, changes_of, factored_ranks, rebuild
from limbeck.models.replaceable import whole_layers

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
X = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(60) % 4
PARTS = ((X[:40], Y[:40]), (X[40:], Y[40:]))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(1, 16), nn.Linear(16, 4)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x):
        return self.last(self.encoder(self.first(x[:, :, None])).mean(1))


class Vit(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches, self.mixed, self.last = nn.Linear(2, 16), nn.Linear(16, 48), nn.Linear(16, 4)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x):
        z = self.patches(x.view(-1, 4, 2))
        q, k, v = self.mixed(z).chunk(3, -1)
        z = z + nn.functional.scaled_dot_product_attention(q, k, v)
        return self.last((z + self.attention(z, z, z)[0]).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.gru, self.last = (
            nn.LSTM(1, 8, batch_first=True),
            nn.GRU(8, 8, batch_first=True),
            nn.Linear(8, 4),
        )

    def forward(self, x):
        return self.last(self.gru(self.lstm(x[:, :, None])[0])[0][:, -1])


class Odd(nn.Module):
    """Weights that are taken, a layer that is never called, one that depends on its type, and two that share."""

    def __init__(self):
        super().__init__()
        self.taken, self.never, self.typed = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.one, self.two, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.two.weight = self.one.weight

    def forward(self, x):
        x = nn.functional.linear(x, self.taken.weight) + self.two(self.one(x)).relu()
        return self.last(self.typed(x) if isinstance(self.typed, nn.Linear) else x)


class Masked(Encoder):
    """With a padding mask, by which PyTorch makes nested tensors and zeros of padded positions."""

    def forward(self, x):
        z = self.encoder(self.first(x[:, :, None]), src_key_padding_mask=torch.arange(8).expand(len(x), 8) > 5)
        return self.last(z[:, :6].mean(1))


NETS = {"encoder": Encoder, "masked": Masked, "vit": Vit, "recurrent": Recurrent, "odd": Odd}
WHOLE = {
    "encoder": set(),
    "masked": {f"encoder.layers.{n}.linear{k}" for n in (0, 1) for k in (1, 2)},
    "vit": set(),
    "recurrent": set(),
    "odd": {"taken", "never", "typed"},
}


@pytest.mark.parametrize("name", NETS)
def test_layers_that_must_stay_are_found_and_the_network_is_left_as_it_was(name):
    torch.manual_seed(0)
    net = NETS[name]()
    before, keys = net.eval()(X), list(net.state_dict())
    net.train()
    reasons = whole_layers(net, X)
    assert set(reasons) == WHOLE[name] and net.training and list(net.state_dict()) == keys
    assert torch.equal(net.eval()(X), before)
    if name == "odd":
        assert [reasons[part].split(" ")[2] for part in ("taken", "never", "typed")] == ["takes", "never", "answers"]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("kind", ["rank", "int8"])
def test_networks_are_compressed_saved_and_loaded_but_for_layers_that_are_told(name, kind, tmp_path):
    torch.manual_seed(0)
    net = NETS[name]().eval()
    asked = {"int8": True} if kind == "int8" else {"rule": limbeck.RankRule(rank=(2,))}
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", limbeck.LimbeckWarning)
        run = limbeck.compress(net, *PARTS, **asked, out=tmp_path / "run")
    told = " ".join(str(warning.message) for warning in heard if " stay" in str(warning.message))
    assert all(part in told for part in WHOLE[name]) and bool(told) == bool(WHOLE[name])
    parts = dict(run.model.named_modules())
    assert all(type(parts[part]) is nn.Linear for part in WHOLE[name])
    assert type(parts["last"]) is not nn.Linear
    again = limbeck.load(tmp_path / "run", model=NETS[name]())
    assert torch.equal(again(X), run.model(X))


def test_at_full_rank_nothing_changes():
    torch.manual_seed(0)
    for make in NETS.values():
        net = make().eval()
        run = limbeck.compress(net, *PARTS, rule=limbeck.RankRule(energy=1.0))
        torch.testing.assert_close(run.model(X), net(X), atol=1e-4, rtol=1e-4)


def test_the_description_names_the_8_bit_layers_only_where_others_are_not():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    assert changes_of(rebuild(copy.deepcopy(net), {"int8": True})) == {"int8": True}
    partly = rebuild(copy.deepcopy(net), {"int8": ["1"]})
    assert changes_of(partly) == {"int8": ["1"]} and isinstance(partly[1], Int8Linear) and not factored_ranks(partly)
    for wrong in ([], [1], "1", 1):
        with pytest.raises(limbeck.LimbeckError, match="int8"):
            rebuild(copy.deepcopy(net), {"int8": wrong})
