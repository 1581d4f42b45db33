"""Teachers: the means against their formulas, and that a teacher stays frozen whatever is done to its model."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from limbeck.errors import DataError, MismatchError
from limbeck.models import Dropout
from limbeck.protocols import Batch
from limbeck.teachers import Ensemble, ModelTeacher, StoredTargets


def batch_of(inputs, view=0):
    return Batch(torch.arange(len(inputs)), view, inputs, None)


def probabilities(net, x, temperature):
    z = net(x).detach().double().numpy() / temperature
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@given(st.floats(0.5, 20), st.lists(st.floats(0.1, 5), min_size=3, max_size=3), st.integers(0, 99))
def test_means_are_their_formulas(temperature, weights, seed):
    torch.manual_seed(seed)
    nets = [nn.Linear(4, 5), nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 5)), nn.Linear(4, 5)]
    x = torch.randn(6, 4)
    p = np.stack([probabilities(net, x, temperature) for net in nets])
    w = np.array(weights) / sum(weights)
    arithmetic = np.einsum("m,mnk->nk", w, p)
    geometric = np.prod(p ** w[:, None, None], axis=0)
    geometric /= geometric.sum(-1, keepdims=True)
    for mean, expected in (("arithmetic", arithmetic), ("geometric", geometric)):
        found = Ensemble(nets, mean=mean, weights=weights).log_probs(batch_of(x), temperature).exp()
        assert np.allclose(found.numpy(), expected, atol=2e-6)


def test_one_member_is_itself_and_equal_members_change_nothing():
    net, x = nn.Linear(3, 4), torch.randn(5, 3)
    alone = ModelTeacher(net).log_probs(batch_of(x), 3.0)
    for mean in ("arithmetic", "geometric"):
        assert torch.allclose(Ensemble([net], mean=mean).log_probs(batch_of(x), 3.0), alone, atol=1e-6)
        assert torch.allclose(Ensemble([net] * 3, mean=mean).log_probs(batch_of(x), 3.0), alone, atol=1e-6)


def test_a_weight_of_zero_leaves_a_member_out_even_where_it_is_certain():
    certain = nn.Linear(2, 3)
    nn.init.constant_(certain.weight, 0)
    certain.bias.data = torch.tensor([1e30, 0.0, -1e30])
    other, x = nn.Linear(2, 3), torch.randn(4, 2)
    for mean in ("arithmetic", "geometric"):
        found = Ensemble([certain, other], mean=mean, weights=[0, 1]).log_probs(batch_of(x), 1.0)
        assert torch.allclose(found, ModelTeacher(other).log_probs(batch_of(x), 1.0), atol=1e-6)


def test_a_teacher_is_asked_in_evaluation_mode_and_changed_in_nothing():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), Dropout(0.5), nn.Linear(4, 3))
    x = torch.randn(8, 4)
    expected = net.eval()(x).log_softmax(-1).detach()
    teacher = ModelTeacher(net.train())
    state = {name: value.clone() for name, value in net.state_dict().items()}
    found = teacher.log_probs(batch_of(x), 1.0)
    assert torch.allclose(found, expected, atol=1e-6)
    assert not found.requires_grad
    assert teacher.model is net and net.training and net[1].training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_stored_answers_serve_every_temperature_of_a_model_and_of_a_geometric_mean():
    x = torch.randn(10, 4)
    one, two = nn.Linear(4, 3), nn.Linear(4, 3)
    index = torch.arange(10) * 3 + 2
    rows = torch.tensor([7, 0, 4])
    for teacher in (ModelTeacher(one), Ensemble([one, two], mean="geometric")):
        assert teacher.every_temperature
        stored = StoredTargets(teacher.log_probs(batch_of(x), 1.0), index)
        for temperature in (0.5, 1.0, 4.0, 20.0):
            asked = Batch(index[rows], 0, torch.empty(0), None)
            expected = teacher.log_probs(batch_of(x[rows]), temperature)
            assert torch.allclose(stored.log_probs(asked, temperature), expected, atol=1e-5)


def test_an_arithmetic_means_answers_hold_for_their_temperature_alone():
    both = Ensemble([nn.Linear(4, 3), nn.Linear(4, 3)])
    assert not both.every_temperature
    answers = both.log_probs(batch_of(torch.randn(5, 4)), 4.0)
    stored = StoredTargets(answers, torch.arange(5), temperature=4.0)
    asked = Batch(torch.tensor([3]), 0, torch.empty(0), None)
    assert torch.equal(stored.log_probs(asked, 4.0), answers[3:4])
    with pytest.raises(MismatchError, match="temperature 4.0 alone, and 2.0"):
        stored.log_probs(asked, 2.0)


class Saying(nn.Module):
    """Answers each example with a given row of logits; the input is the row's number."""

    def __init__(self, rows):
        super().__init__()
        self.register_buffer("rows", rows)

    def forward(self, x):
        return self.rows[x[:, 0].long()]


def numbered(count):
    return Batch(torch.arange(count) + 100, 0, torch.arange(count, dtype=torch.float32)[:, None], None)


def test_a_member_without_weight_is_left_out_even_of_classes_that_it_excludes():
    sure = Saying(torch.tensor([[0.0, -math.inf, -math.inf]]))
    other = Saying(torch.tensor([[0.5, -1.0, 2.0]]))
    expected = other.rows.log_softmax(-1)
    for mean in ("arithmetic", "geometric"):
        for weights in ([0, 1], [0, 1e308]):
            found = Ensemble([sure, other], mean=mean, weights=weights).log_probs(numbered(1), 1.0)
            assert torch.allclose(found, expected)
    # One that excludes classes and counts excludes them from a geometric mean, and halves them in an arithmetic one.
    both = [sure, other]
    assert Ensemble(both, mean="geometric").log_probs(numbered(1), 1.0).exp().tolist() == [[1.0, 0.0, 0.0]]
    expected = (torch.tensor([[1.0, 0.0, 0.0]]) + other.rows.softmax(-1)) / 2
    assert torch.allclose(Ensemble(both).log_probs(numbered(1), 1.0).exp(), expected)


def test_members_of_a_geometric_mean_without_a_common_class_are_refused():
    one = torch.tensor([[0.0, 1.0], [0.0, -math.inf]])
    members = [Saying(one), Saying(one.flip(1))]
    with pytest.raises(DataError, match="different classes for example 101: .*set mean to arithmetic"):
        Ensemble(members, mean="geometric").log_probs(numbered(2), 2.0)
    assert torch.allclose(Ensemble(members).log_probs(numbered(2), 2.0)[1].exp(), torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_a_member_that_answers_nan_is_named_with_the_example(value, mean):
    good, bad = torch.zeros(4, 3), torch.zeros(4, 3)
    bad[2, 1] = value
    members = [Saying(good), Saying(good), Saying(bad)]
    with pytest.raises(DataError, match=r"member 3 of the ensemble \(of 3\) answers NaN .* for example 102"):
        Ensemble(members, mean=mean).log_probs(numbered(4), 1.0)
    assert bool(Ensemble(members, mean=mean, weights=[1, 1, 0]).log_probs(numbered(4), 1.0).isfinite().all())


@pytest.mark.parametrize("weights", [[1e308, 1e308, 1e308], [1e-308] * 3, [1e308, 1e308, 1e-308]])
def test_weights_of_any_size_are_shares(weights):
    nets, x = [nn.Linear(4, 3) for _ in range(3)], torch.randn(5, 4)
    shares = [1, 1, 0] if weights[2] != weights[1] else [1, 1, 1]
    for mean in ("arithmetic", "geometric"):
        found = Ensemble(nets, mean=mean, weights=weights).log_probs(batch_of(x), 3.0)
        assert torch.allclose(found, Ensemble(nets, mean=mean, weights=shares).log_probs(batch_of(x), 3.0))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_logits_in_half_precision_are_softened_in_float32(kind):
    rows = torch.randn(6, 50, generator=torch.Generator().manual_seed(0)).mul(20).to(kind)
    rows[0, :2] = torch.tensor([6e4, -6e4])
    for temperature in (0.1, 1.0, 20.0):
        found = ModelTeacher(Saying(rows)).log_probs(numbered(6), temperature)
        assert found.dtype == torch.float32
        assert torch.allclose(found.double(), (rows.double() / temperature).log_softmax(-1), atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_of_any_precision_answers_in_float32(kind):
    net, x = nn.Linear(4, 3).to(kind), torch.randn(5, 4)
    found = ModelTeacher(net).log_probs(batch_of(x), 2.0)
    assert found.dtype == torch.float32
    assert torch.allclose(found, (net(x.to(kind)).float() / 2).log_softmax(-1))
    several = Ensemble([net, nn.Linear(4, 3)]).log_probs(batch_of(x), 2.0)
    assert several.dtype == torch.float32


@pytest.mark.parametrize("row", [[math.nan, 0.0], [math.inf, 0.0], [-math.inf, -math.inf]])
def test_stored_answers_that_are_no_distribution_are_refused_with_their_example(row):
    values = torch.zeros(2, 3, 2).log_softmax(-1)
    values[1, 2] = torch.tensor(row)
    with pytest.raises(DataError, match="example 9 in view 1 hold NaN, plus infinity or nothing but"):
        StoredTargets(values, torch.tensor([5, 1, 9]))
    with pytest.raises(DataError, match="soft targets of example 9 hold NaN"):
        StoredTargets(values[1], torch.tensor([5, 1, 9]))
    StoredTargets(torch.tensor([[0.0, -math.inf]]), torch.tensor([1]))


def test_stored_answers_are_refused_where_there_are_none():
    stored = StoredTargets(torch.zeros(2, 3, 4).log_softmax(-1), torch.tensor([5, 1, 9]))
    with pytest.raises(MismatchError, match="view 2 is asked for, and 2 are stored"):
        stored.log_probs(Batch(torch.tensor([5]), 2, torch.empty(0), None), 1.0)
    for missing in (0, 6, 10, 1000):
        with pytest.raises(MismatchError, match=f"example {missing}"):
            stored.require(torch.tensor([5, missing]))
        with pytest.raises(MismatchError, match="example"):
            stored.log_probs(Batch(torch.tensor([missing]), 0, torch.empty(0), None), 1.0)
    with pytest.raises(DataError, match="do not fit"):
        StoredTargets(torch.zeros(3, 4), torch.arange(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"members": []}, "at least one member"),
        ({"weights": [1.0]}, "2 members and 1 weights"),
        ({"weights": [1.0, -1.0]}, "at least 0"),
        ({"weights": [0.0, 0.0]}, "not all 0"),
        ({"weights": [1.0, float("nan")]}, "finite"),
        ({"mean": "harmonic"}, "arithmetic or geometric"),
    ],
)
def test_impossible_ensembles_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        Ensemble(**{"members": [nn.Linear(2, 2), nn.Linear(2, 2)], **arguments})


def test_members_must_agree_on_the_classes():
    with pytest.raises(MismatchError, match="different classes"):
        Ensemble([ModelTeacher(nn.Linear(2, 2), ["a", "b"]), ModelTeacher(nn.Linear(2, 2), ["b", "a"])])
    with pytest.raises(MismatchError, match=r"\[2, 3\] classes"):
        Ensemble([nn.Linear(2, 2), nn.Linear(2, 3)]).log_probs(batch_of(torch.zeros(1, 2)), 1.0)
