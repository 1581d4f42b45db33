"""Calling models: what they are fed, and the logits in what they return."""

from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import limbeck
from limbeck.data import Examples
from limbeck.errors import DataError
from limbeck.evaluation.prediction import predict
from limbeck.lowrank import look, weigh
from limbeck.models import Specialist, layer_sizes
from limbeck.models.calling import call_model, evaluating, logits_of, require_logits
from limbeck.runs.measure import multiply_adds, speed_of
from limbeck.specialists import Committee

X = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(40) % 4
SHORT = {"epochs": 1, "precision": "float32", "baseline": False}


class Returns(nn.Module):
    """A linear layer whose logits are wrapped."""

    def __init__(self, wrap, only_training=False):
        super().__init__()
        self.layer, self.wrap, self.only_training = nn.Linear(8, 4), wrap, only_training

    def forward(self, x):
        logits = self.layer(x)
        return logits if self.only_training and not self.training else self.wrap(logits)


class Output(OrderedDict):
    """As Hugging Face's outputs: a mapping whose values are attributes too, and whose first item is the loss."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


WRAPS = {
    "tuple": lambda z: (z, "features"),
    "list": lambda z: [z, z + 1],
    "mapping": lambda z: {"loss": z.sum(), "logits": z},
    "object": lambda z: SimpleNamespace(logits=z),
    "named tuple": lambda z: namedtuple("Heads", "aux logits")(z + 1, z),
    "output": lambda z: Output(loss=z.sum(), logits=z),
}


@pytest.mark.parametrize("kind", WRAPS)
def test_logits_are_taken_out_wherever_a_model_is_called(kind):
    net, plain = Returns(WRAPS[kind]), nn.Linear(8, 4)
    plain.load_state_dict(net.layer.state_dict())
    some = Examples.of(X, Y)
    assert torch.equal(predict(net, some), predict(plain, some))
    for make in (limbeck.Ensemble, lambda nets: Committee(nets[0], nets[1:], [(1,)], [1.0])):
        special = [Specialist(net, [1]), Specialist(plain, [1])]
        wrapped, bare = (
            (make([one, other]) for one, other in zip((net, plain), special, strict=True))
            if (make is not limbeck.Ensemble)
            else (make([net, net]), make([plain, plain]))
        )
        assert torch.equal(predict(wrapped, some), predict(bare, some))
    assert multiply_adds(net, some) == 32 and speed_of(net, some, seconds=0.0)["latency_ms"] > 0
    assert layer_sizes(net, X) == [("Linear", (4,), 36)]
    spectra = [weigh(look(model, X), model, X) for model in (net, plain)]
    assert spectra[0].layers[0].weight == spectra[1].layers[0].weight
    runs = [
        limbeck.distill(teacher, student, (X, Y), (X, Y), **SHORT) for teacher, student in ((net, net), (plain, plain))
    ]
    assert torch.equal(runs[0].student.layer.weight, runs[1].student.weight)
    fixed = limbeck.fix_bias(net, {1: 3.5})
    assert torch.allclose(call_model(fixed, X) - plain(X), torch.tensor([0.0, 3.5, 0.0, 0.0]), atol=1e-5)


def test_a_model_with_auxiliary_heads_while_it_trains():
    net, plain = Returns(WRAPS["tuple"], only_training=True), nn.Linear(8, 4)
    plain.load_state_dict(net.layer.state_dict())
    trained = [limbeck.train(model, (X, Y), (X, Y), epochs=2, precision="float32").model for model in (net, plain)]
    assert torch.equal(trained[0].layer.weight, trained[1].weight)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "a NoneType"),
        ("text", "a str"),
        ((), "a tuple of nothing"),
        (("a", torch.ones(2, 2)), "a tuple of str, Tensor"),
        ({"last_hidden_state": torch.ones(2, 2)}, "a dict with the keys last_hidden_state"),
        ({}, r"a dict with the keys \(none\)"),
        ([[torch.ones(2, 2)]], "a list of list"),
        (SimpleNamespace(logits=3), "a SimpleNamespace"),
    ],
)
def test_what_holds_no_logits_is_named_with_the_cure(returned, message):
    with pytest.raises(DataError, match=f"{message}: wrap the model"):
        logits_of(returned)
    with pytest.raises(DataError, match=message):
        limbeck.distill(Returns(lambda _: returned), nn.Linear(8, 4), (X, Y), (X, Y), **SHORT)


def test_the_first_item_must_be_one_row_per_example():
    require_logits(torch.zeros(2, 3), 2)
    for odd in (torch.zeros(()), torch.zeros(3), torch.zeros(2, 3, 1), torch.zeros(3, 2)):
        with pytest.raises(DataError, match=r"must give logits \(examples, classes\)"):
            require_logits(odd, 2)


def test_inputs_by_name_and_integers_as_they_are():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 4).double()

        def forward(self, ids, *, scale):
            assert ids.dtype == torch.int64 and scale.dtype == torch.float64
            return {"logits": self.embed(ids).mean(1) * scale}

    assert call_model(Tokens(), {"ids": torch.ones(2, 3, dtype=torch.int64), "scale": torch.ones(1)}).shape == (2, 4)


def test_evaluating_restores_each_part_and_calls_the_model_s_own_methods():
    class Merging(nn.Sequential):
        merged = False

        def train(self, mode=True):
            self.merged = not mode
            return super().train(mode)

    net = Merging(nn.Linear(2, 2), nn.Dropout()).train()
    net[1].training = False
    with evaluating(net):
        assert net.merged and not any(part.training for part in net.modules())
    assert not net.merged and [part.training for part in net.modules()] == [True, True, False]


class Shifts(nn.Module):
    """Changes what it is given."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(8, 4)

    def forward(self, x):
        x -= 1.0
        return self.net(x)


class ShiftsToo:
    classes = None

    def log_probs(self, batch, temperature):
        batch.inputs.zero_()
        return torch.zeros(len(batch.index), 4).log_softmax(-1)


@pytest.mark.parametrize("role", ["teacher", "student", "users", "relu"])
def test_a_model_that_changes_its_inputs_in_place_is_refused_and_the_users_data_stay(role):
    """Else the other model, and the verdict, see examples that nobody has."""
    x, y = torch.randn(40, 8), torch.arange(40) % 4
    before = x.clone()
    given = {
        "teacher": (Shifts(), nn.Linear(8, 4)),
        "student": (nn.Linear(8, 4), Shifts()),
        "users": (ShiftsToo(), nn.Linear(8, 4)),
        "relu": (nn.Linear(8, 4), nn.Sequential(nn.ReLU(inplace=True), nn.Linear(8, 4))),
    }[role]
    with pytest.raises(limbeck.LimbeckError, match="changes its inputs in place"):
        limbeck.distill(*given, (x, y), (x, y), epochs=1, precision="float32")
    assert torch.equal(x, before)
    with pytest.raises(limbeck.LimbeckError, match="changes its inputs in place"):
        limbeck.evaluate(Shifts(), limbeck.Examples.of(x, y))
    assert torch.equal(x, before)
