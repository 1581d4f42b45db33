"""Specialists: clusters against a slow reference, Bayes' rule, and equation 5 against a general-purpose minimiser."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from limbeck.data.examples import Examples
from limbeck.errors import ConfigError, DataError, LimbeckWarning
from limbeck.models import CNN, MLP, CNNConfig, MLPConfig, Specialist, build, describe, split_layers
from limbeck.protocols import Batch
from limbeck.runs import distill
from limbeck.runs.measure import evaluate, title_of
from limbeck.runs.models import load, save_model
from limbeck.specialists import (
    Committee,
    active_specialists,
    combine,
    confusable_groups,
    correct_dustbin,
    divergence,
    specialist_data,
    specialist_network,
)
from limbeck.specialists.groups import _covariance
from limbeck.specialists.minimum import minimum


def random_log_probs(*shape, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).log_softmax(-1)


def blocks(sizes, examples=600, seed=0):
    """Predictions that are shared evenly within blocks of classes, with some noise."""
    generator = torch.Generator().manual_seed(seed)
    edges = list(itertools.accumulate(sizes, initial=0))
    block = torch.randint(len(sizes), (examples,), generator=generator)
    scores = torch.randn(examples, sum(sizes), generator=generator)
    for row, number in enumerate(block.tolist()):
        scores[row, edges[number] : edges[number + 1]] += 8
    return scores.log_softmax(-1)


# --- groups ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(3, 2, 4), (2, 2, 2, 2), (5, 1, 3)])
def test_groups_are_the_blocks_that_were_planted(sizes):
    edges = list(itertools.accumulate(sizes, initial=0))
    planted = sorted(tuple(range(a, b)) for a, b in itertools.pairwise(edges))
    assert confusable_groups(blocks(sizes), len(sizes)) == planted


def test_groups_are_as_good_as_the_best_of_all_partitions():
    log_probs = random_log_probs(40, 6, seed=3)
    columns = np.cov(log_probs.exp().numpy().T, bias=True)

    def loss(assignment):
        total = 0.0
        for group in set(assignment):
            part = columns[[k for k in range(6) if assignment[k] == group]]
            total += ((part - part.mean(0)) ** 2).sum()
        return total

    best = min(loss(a) for a in itertools.product(range(3), repeat=6))
    found = [0] * 6
    for number, group in enumerate(confusable_groups(log_probs, 3)):
        for k in group:
            found[k] = number
    assert loss(found) <= 1.05 * best


def test_the_covariance_is_numpys_with_weights_and_about_the_mean():
    p = random_log_probs(300, 5, seed=4).exp()
    weights = (p / p.mean(0)).sum(1)
    covariance, mean = _covariance(p.log())
    np.testing.assert_allclose(covariance, np.cov(p.numpy().T, aweights=weights.numpy(), bias=True), atol=1e-12)
    np.testing.assert_allclose(mean, np.average(p.numpy(), axis=0, weights=weights.numpy()))


def test_classes_that_vary_little_are_told_apart_as_well_as_those_that_vary_much():
    """0 and 1 are confused unevenly; 2 with 3 and 4 with 5 are hints of 2 % beside the sure classes 6 and 7."""
    p = torch.zeros(1000, 8, dtype=torch.float64)
    place = torch.arange(1000)
    p[place[:200], place[:200] % 2], p[place[:200], 1 - place[:200] % 2] = 0.8, 0.2
    for rows, pair, sure in ((slice(200, 600), [2, 3], 6), (slice(600, 1000), [4, 5], 7)):
        p[rows, pair[0]] = p[rows, pair[1]] = 0.02
        p[rows, sure] = 0.96
    # Rows of a column of length 1 differ by direction alone; without that the small ones are all alike.
    found = confusable_groups((p + 1e-12).log(), 3)
    assert [set(group) for group in found] == [{0, 1}, {2, 3, 6}, {4, 5, 7}]


def test_groups_of_a_size_may_overlap_and_all_have_it():
    log_probs = blocks((3, 3, 3))
    found = confusable_groups(log_probs, 3, size=4)
    assert all(len(group) == 4 for group in found)
    assert all(any(set(range(3 * b, 3 * b + 3)) <= set(group) for group in found) for b in range(3))
    assert confusable_groups(log_probs, 3, size=3) == confusable_groups(log_probs, 3)


def test_groups_do_not_depend_on_how_many_examples_come_at_a_time(monkeypatch):
    log_probs = random_log_probs(50, 7)
    before = confusable_groups(log_probs, 3, size=3)
    monkeypatch.setattr("limbeck.specialists.groups._ROWS", 7)
    assert confusable_groups(log_probs, 3, size=3) == before


def test_one_group_and_as_many_as_classes():
    log_probs = random_log_probs(50, 5)
    assert confusable_groups(log_probs, 1) == [(0, 1, 2, 3, 4)]
    assert confusable_groups(log_probs, 5) == [(0,), (1,), (2,), (3,), (4,)]


@pytest.mark.parametrize(
    ("log_probs", "groups", "size", "said"),
    [
        (torch.zeros(4), 1, None, "shape"),
        (torch.zeros(1, 3), 1, None, "two at least"),
        (torch.zeros(4, 3), 0, None, "from 1 to 3"),
        (torch.zeros(4, 3), 4, None, "from 1 to 3"),
        (torch.zeros(4, 3), 2, 0, "size must be"),
        (torch.zeros(4, 3), 2, 4, "size must be"),
        (torch.full((4, 3), torch.nan), 2, None, "NaN"),
    ],
)
def test_groups_refuse(log_probs, groups, size, said):
    with pytest.raises(DataError, match=said):
        confusable_groups(log_probs, groups, size=size)


# --- a specialist's examples and network ------------------------------------------------------------------------------


def test_half_of_a_specialists_examples_are_special_and_all_keep_their_numbers():
    labels = torch.arange(1000) % 10
    examples = Examples.of(torch.arange(1000.0)[:, None], labels)
    data = specialist_data(examples, [7, 2, 5], seed=1)
    special, found = data.special, data.examples
    assert special == (2, 5, 7) and len(found) == 600 and data.oversampling == pytest.approx(700 / 300)
    assert found.labels.bincount().tolist() == [100, 100, 100, 300]
    assert torch.equal(found.inputs[:, 0].long(), found.index)
    for row in range(len(found)):
        true = int(labels[found.index[row]])
        assert int(found.labels[row]) == (special.index(true) if true in special else 3)
    assert not torch.equal(found.index, specialist_data(examples, [7, 2, 5], seed=2).examples.index)
    assert torch.equal(found.index, specialist_data(examples, [2, 5, 7], seed=1).examples.index)
    narrow = replace(examples, labels=labels.short())
    assert torch.equal(found.index, specialist_data(narrow, [2, 5, 7], seed=1).examples.index)


def test_special_classes_may_be_missing_where_that_is_said():
    some = Examples.of(torch.zeros(12, 2), torch.arange(12) % 3)
    with pytest.raises(DataError, match="no example of the special class 5"):
        specialist_data(some, [1, 5])
    found = specialist_data(some, [1, 5], allow_missing=True)
    assert found.examples.labels.bincount().tolist() == [4, 0, 4] and found.oversampling == 2
    for special, said in (([5], "special class 5"), ([0, 1, 2], "outside the special classes")):
        with pytest.raises(DataError, match=said):
            specialist_data(some, special, allow_missing=True)


def test_where_special_examples_are_the_majority_still_half_are_taken():
    data = specialist_data(Examples.of(torch.zeros(100, 1), torch.arange(100) % 4), [0, 1, 2])
    counts = data.examples.labels.bincount()
    assert int(counts[3]) == 25 and int(counts[:3].sum()) == 25 and data.oversampling == pytest.approx(25 / 75)


@pytest.mark.parametrize(
    ("labels", "special", "said"),
    [
        (None, [0], "need labels"),
        ([0, 1, 2], [], "one at least"),
        ([0, 1, 2], [1, 1], "must be different"),
        ([0, 1, 2], [-1], "from 0"),
        ([0, 1, 2], [0, 1, 2], "outside the special"),
        ([0, 1, 2], [0, 5], "special class 5"),
    ],
)
def test_specialist_data_refuses(labels, special, said):
    with pytest.raises(DataError, match=said):
        specialist_data(Examples.of(torch.zeros(3, 1), labels), special)


@pytest.mark.parametrize(
    "generalist",
    [
        MLP(MLPConfig(input_shape=(1, 12, 12), classes=6, hidden=(8,))),
        CNN(CNNConfig(input_shape=(1, 12, 12), classes=6, channels=(2,), hidden=(8,))),
        split_layers(MLP(MLPConfig(input_shape=(1, 12, 12), classes=6, hidden=(8,))), {"1": 2}),
        nn.Sequential(nn.Flatten(), nn.Linear(144, 6), nn.ReLU()),
    ],
)
def test_a_specialist_starts_as_good_as_the_generalist(generalist):
    generalist.eval()
    generalist.classes = tuple("abcdef")
    x = torch.rand(5, 1, 12, 12)
    network = specialist_network(generalist, [4, 1], oversampling=3.0).eval()
    before = generalist(x)
    p = before.softmax(-1)
    expected = torch.cat([p[:, [1, 4]], p[:, [0, 2, 3, 5]].sum(1, keepdim=True)], 1)
    torch.testing.assert_close(correct_dustbin(network(x), 3.0).exp(), expected)
    assert not hasattr(network.network, "classes") and generalist.classes == tuple("abcdef")
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    torch.testing.assert_close(generalist(x), before)


def test_a_specialists_gradient_is_that_of_the_summed_classes():
    torch.manual_seed(1)
    generalist = nn.Linear(4, 6).double()
    x, labels = torch.randn(7, 4).double(), torch.tensor([0, 1, 2, 2, 1, 0, 2])
    network = specialist_network(generalist, [4, 1], oversampling=2.0)

    # In float32 the specialist answers; the slow way sums probabilities in float64 and moves odds by hand.
    loss = nn.functional.cross_entropy(network(x), labels)
    loss.backward()
    weight = generalist.weight.detach().clone().requires_grad_()
    p = (x @ weight.T + generalist.bias.detach()).softmax(-1)
    three = torch.stack([p[:, 1], p[:, 4], p[:, [0, 2, 3, 5]].sum(1) / 2.0], 1)
    slow = -(three / three.sum(1, keepdim=True))[torch.arange(7), labels].log().mean()
    slow.backward()
    torch.testing.assert_close(loss.double(), slow, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(network.network.weight.grad, weight.grad, atol=1e-6, rtol=1e-5)
    assert float(network.bias.grad) != 0


def test_a_specialist_is_saved_and_loaded(tmp_path):
    generalist = MLP(MLPConfig(input_shape=(4,), classes=6, hidden=(8,)))
    network, x = specialist_network(generalist, [4, 1], oversampling=3.0), torch.randn(3, 4)
    again = load(save_model(tmp_path, network, classes=["b", "e", "(all others)"]))
    assert torch.equal(again(x), network(x)) and again.classes == ("b", "e", "(all others)")
    assert title_of(again) == "specialist for 2 classes on mlp 4-8-6"
    smaller = split_layers(network, {"network.1": 2})
    again = load(save_model(tmp_path / "smaller", smaller, classes=["b", "e", "(all others)"]))
    assert torch.equal(again(x), smaller(x)) and not torch.equal(again(x), network(x))
    assert describe(specialist_network(nn.Linear(4, 6), [1])) is None
    assert describe(specialist_network(network, [1])) is None


@pytest.mark.parametrize(
    "described",
    [
        {"special": [1]},
        {"special": [1], "network": {"model_type": "mlp", "input_shape": [4], "classes": 3}, "more": 1},
        {"special": 1, "network": {"model_type": "mlp", "input_shape": [4], "classes": 3}},
        {"special": ["1"], "network": {"model_type": "mlp", "input_shape": [4], "classes": 3}},
        {"special": [2, 1], "network": {"model_type": "mlp", "input_shape": [4], "classes": 3}},
        {"special": [3], "network": {"model_type": "mlp", "input_shape": [4], "classes": 3}},
        {"special": [0, 1, 2], "network": {"model_type": "mlp", "input_shape": [4], "classes": 3}},
        {"special": [], "network": {"model_type": "mlp", "input_shape": [4], "classes": 3}},
        {"special": [1 << 70], "network": {"model_type": "mlp", "input_shape": [4], "classes": 3}},
        {"special": [1], "network": {"model_type": "specialist"}},
        {"special": [1], "network": {"model_type": "own"}},
        {"special": [1], "network": []},
    ],
)
def test_a_specialist_that_is_described_wrongly_is_refused(described):
    with pytest.raises(ConfigError):
        build({"model_type": "specialist", **described})


def test_specialist_network_refuses():
    unknown = nn.Sequential(nn.Linear(2, 2), nn.Identity())  # how many classes it has shows when it is asked
    with pytest.raises(DataError, match="leave others for the dustbin"):
        specialist_network(unknown, [0, 1])(torch.zeros(1, 2))
    with pytest.raises(DataError, match="from 0 to 1"):
        specialist_network(unknown, [2])(torch.zeros(1, 2))
    for generalist in (nn.Linear(2, 2), MLP(MLPConfig(input_shape=(2,), classes=2))):
        with pytest.raises(DataError, match="holds every class: nothing is left for the dustbin"):
            specialist_network(generalist, [0, 1])
        with pytest.raises(DataError, match=r"special classes \[2\] must be from 0 to 1"):
            specialist_network(generalist, [2])
    with pytest.raises(DataError, match="must be different"):
        specialist_network(nn.Linear(2, 2), [1, 1])
    with pytest.raises(DataError, match="oversampling"):
        specialist_network(nn.Linear(2, 2), [1], oversampling=0.0)
    with pytest.raises(DataError, match="rising order"):
        Specialist(nn.Linear(2, 4), (2, 1))


# --- the dustbin ------------------------------------------------------------------------------------------------------


def test_the_corrected_dustbin_is_bayes_rule():
    # True joint of 5 classes and 7 outcomes; classes 1 and 3 are special and drawn o times as often as the rest.
    joint = random_log_probs(35).exp().reshape(5, 7)
    special, rest = [1, 3], [0, 2, 4]
    true = torch.cat([joint[special], joint[rest].sum(0, keepdim=True)])
    p = float(true[:2].sum())
    seen = torch.cat([true[:2] * 0.5 / p, true[2:] * 0.5 / (1 - p)])  # half special, half rest
    corrected = correct_dustbin((seen / seen.sum(0)).T.log(), (0.5 / p) / (0.5 / (1 - p)))
    torch.testing.assert_close(corrected.exp(), (true / true.sum(0)).T)


def test_an_oversampling_of_one_changes_nothing():
    log_probs = random_log_probs(4, 3)
    torch.testing.assert_close(correct_dustbin(log_probs + 2, 1.0), log_probs)


@pytest.mark.parametrize("oversampling", [0.0, -1.0, math.inf, math.nan])
def test_correct_dustbin_refuses(oversampling):
    with pytest.raises(DataError, match="oversampling"):
        correct_dustbin(torch.zeros(2, 3), oversampling)
    with pytest.raises(DataError, match="the dustbin"):
        correct_dustbin(torch.zeros(2, 1), 2.0)


# --- combining --------------------------------------------------------------------------------------------------------

GROUPS = [(0, 3), (1, 2, 3), (4,)]


def problem(seed, examples=6, count=6, groups=GROUPS, scale=2.0):
    generalist = random_log_probs(examples, count, seed=seed, scale=scale)
    answers = [
        random_log_probs(examples, len(group) + 1, seed=100 + seed + n, scale=scale) for n, group in enumerate(groups)
    ]
    return generalist, answers


def slow_minimum(generalist, answers, groups, active):
    def value(z):
        z = torch.tensor(z, dtype=torch.float64, requires_grad=True)
        loss = divergence(z[None], generalist[None], [a[None] for a in answers], groups, active[None]).sum()
        loss.backward()
        return loss.item(), z.grad.numpy()

    found = minimize(value, np.zeros(len(generalist)), jac=True, method="L-BFGS-B", options={"gtol": 1e-10, "ftol": 0})
    return found.fun, torch.tensor(found.x).log_softmax(-1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("top", [1, 3, 6])
def test_combine_minimises_equation_5_as_a_slow_solver_does(seed, top):
    generalist, answers = problem(seed)
    active = active_specialists(generalist, GROUPS, top=top)
    found = combine(generalist, answers, GROUPS, top=top)
    values = divergence(found.double(), generalist, answers, GROUPS, active)
    for row in range(len(generalist)):
        least, log_q = slow_minimum(generalist[row], [a[row] for a in answers], GROUPS, active[row])
        assert float(values[row]) <= least + 1e-9
        torch.testing.assert_close(found[row].double().exp(), log_q.exp(), atol=1e-5, rtol=0)


def test_the_gradient_of_what_combine_finds_is_zero():
    generalist, answers = problem(7, examples=50, scale=6.0)
    active = active_specialists(generalist, GROUPS, top=2)
    z = combine(generalist, answers, GROUPS, top=2).double().requires_grad_()
    divergence(z, generalist, answers, GROUPS, active).sum().backward()
    assert float(z.grad.abs().max()) < 1e-5  # the answer is float32


def test_divergence_is_the_sum_of_divergences_by_hand():
    generalist, answers = problem(1, examples=1)
    z = random_log_probs(1, 6, seed=9)
    q, expected = z.exp()[0], 0.0
    expected += sum(float(p * (p / q[k]).log()) for k, p in enumerate(generalist.exp()[0]))
    for n in (0, 2):
        group, p = GROUPS[n], answers[n].exp()[0]
        seen = [q[k] for k in group] + [sum(q[k] for k in range(6) if k not in group)]
        expected += sum(float(a * (a / b).log()) for a, b in zip(p, seen, strict=True))
    value = divergence(z, generalist, answers, GROUPS, torch.tensor([[True, False, True]]))
    assert float(value) == pytest.approx(expected, rel=1e-9)


def test_without_specialists_the_generalist_is_unchanged():
    generalist, _ = problem(2)
    torch.testing.assert_close(combine(generalist, [], []), generalist.float(), atol=0, rtol=0)


def test_examples_of_which_no_specialist_is_asked_stay_the_generalists():
    generalist, answers = problem(3, examples=40)
    found = combine(generalist, answers[:1], GROUPS[:1])
    asked = torch.isin(generalist.argmax(-1), torch.tensor([0, 3]))
    assert 0 < int(asked.sum()) < 40
    assert torch.equal(found[~asked], generalist[~asked].float())
    assert not bool((found[asked] == generalist[asked].float()).all(-1).any())


def test_specialists_that_agree_with_the_generalist_change_nothing():
    generalist, _ = problem(4)
    p = generalist.exp()
    agreeing = []
    for group in GROUPS:
        rest = [k for k in range(6) if k not in group]
        agreeing.append(torch.cat([p[:, list(group)], p[:, rest].sum(1, keepdim=True)], 1).log())
    torch.testing.assert_close(combine(generalist, agreeing, GROUPS, top=6), generalist.float(), atol=1e-6, rtol=1e-6)


def test_within_the_dustbin_of_the_only_specialist_the_generalists_proportions_stay():
    generalist, answers = problem(5)
    found = combine(generalist, answers[:1], GROUPS[:1], top=6).double()
    rest = [1, 2, 4, 5]
    torch.testing.assert_close(
        found[:, rest].log_softmax(-1), generalist[:, rest].log_softmax(-1), atol=1e-5, rtol=1e-5
    )
    q = found.exp()
    special = (generalist.exp()[:, [0, 3]] + answers[0].exp()[:, :2]) / 2  # two judges of these two classes
    torch.testing.assert_close(q[:, [0, 3]], special, atol=1e-6, rtol=1e-5)


def test_answers_do_not_depend_on_the_batch(monkeypatch):
    generalist, answers = problem(6, examples=30)
    whole = combine(generalist, answers, GROUPS, top=2)
    parts = [combine(generalist[i : i + 1], [a[i : i + 1] for a in answers], GROUPS, top=2) for i in range(30)]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-6, rtol=1e-6)
    monkeypatch.setattr("limbeck.specialists.combining._ROWS", 7)
    torch.testing.assert_close(combine(generalist, answers, GROUPS, top=2), whole, atol=1e-6, rtol=1e-6)
    calls = []
    monkeypatch.setattr("limbeck.specialists.combining._ROWS", 8192)
    monkeypatch.setattr("limbeck.specialists.combining._NUMBERS", 60)
    monkeypatch.setattr("limbeck.specialists.combining.minimum", lambda *given: calls.append(given) or minimum(*given))
    torch.testing.assert_close(combine(generalist, answers, GROUPS, top=2), whole, atol=1e-6, rtol=1e-6)
    active = active_specialists(generalist, GROUPS, top=2)
    assert sum(len(start) for start, *_ in calls) == int(active.any(-1).sum())
    for start, total, dust, outside in calls:
        assert len(start) <= 60 // (2 * 6 + len(GROUPS)) and outside.numel() <= 60
        assert total.shape == start.shape == (len(dust), outside.shape[-1])
        assert outside.shape[:2] in {(1, dust.shape[1]), tuple(dust.shape)}
        for cells in outside:
            assert len(cells.T.unique(dim=0)) == cells.shape[-1] <= 2 ** len(cells)


def test_a_generalist_that_is_certain_can_be_overruled():
    # All its mass is on class 0; the specialist is sure that it is none of its own.
    generalist = torch.tensor([[0.0, -200.0, -200.0]])
    found = combine(generalist, [torch.tensor([[0.001, 0.999]]).log()], [(0,)]).exp()
    assert float(found[0, 0]) == pytest.approx(0.5005, abs=1e-4)
    assert found.isfinite().all()
    # Beyond float64, too: nothing is known of the others then, and they share alike.
    none = combine(torch.tensor([[0.0, -2000.0, -3000.0]]), [torch.tensor([[0.001, 0.999]]).log()], [(0,)]).exp()
    torch.testing.assert_close(none, torch.tensor([[0.5005, 0.24975, 0.24975]]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("generalist", "answers", "groups", "more", "said"),
    [
        (torch.zeros(3), [], [], {}, "examples, classes"),
        (torch.zeros(2, 3), [torch.zeros(2, 2)], [], {}, "1 specialists and 0 groups"),
        (torch.zeros(2, 3), [torch.zeros(2, 3)], [(0,)], {}, "must answer"),
        (torch.zeros(2, 3), [torch.zeros(2, 2)], [(3,)], {}, "from 0 to 2"),
        (torch.zeros(2, 3), [torch.zeros(2, 4)], [(0, 1, 2)], {}, "every class"),
        (torch.zeros(2, 3).log_softmax(-1), [torch.zeros(2, 2).log_softmax(-1)], [(0,)], {"top": 0}, "top must be"),
        (torch.zeros(2, 3).log_softmax(-1), [torch.zeros(2, 2).log_softmax(-1)], [(0,)], {"top": 4}, "top must be"),
        (5 * torch.eye(3), [], [], {}, "generalist's answers must be log-probabilities.*take log_softmax"),
        (torch.eye(3).softmax(-1), [], [], {}, "looks like probabilities: take their logarithm"),
        (
            torch.eye(3).log_softmax(-1),
            [torch.eye(3)[:, :2]],
            [(0,)],
            {},
            "answers of specialist 1 must be log-prob",
        ),
        (torch.eye(3).log_softmax(-1), [torch.eye(3)[:, :2]], [(0.5,)], {}, "whole number"),
        (torch.eye(3).log_softmax(-1), [torch.eye(3)[:, :2]], [(True,)], {}, "whole number"),
    ],
)
def test_combine_refuses(generalist, answers, groups, more, said):
    with pytest.raises(DataError, match=said):
        combine(generalist, answers, groups, **more)


def test_nan_is_said_and_no_endless_search():
    with pytest.raises(DataError, match="hold NaN"):
        combine(torch.zeros(2, 3).log_softmax(-1), [torch.full((2, 2), torch.nan)], [(0,)])


def slow_steps(p, own, dust, outside, steps):
    """Steps of expectation and maximisation, which never raise the sum of divergences."""
    q, weight = 0.5 * p + 0.5 / p.shape[-1], own.sum(-1, keepdim=True) + dust.sum(-1, keepdim=True)
    for _ in range(steps):
        q = (own + q * ((dust / (q @ outside.T)) @ outside)) / weight
    return q


def masses(examples, scale, seed):
    """Masses of random networks as sure as the scale is large, each asked of seven tenths of the examples."""
    groups = [(0, 3), (1, 2, 3), (4, 5, 6, 7), (0, 5, 8, 9), (1, 4, 9)]
    generator = torch.Generator().manual_seed(1000 * scale + seed)

    def some(count):
        return (scale * torch.randn(examples, count, generator=generator, dtype=torch.float64)).softmax(-1)

    p = some(12)
    own, dust, outside = p.clone(), torch.zeros(examples, len(groups)).double(), torch.ones(len(groups), 12).double()
    for m, group in enumerate(groups):
        outside[m, list(group)] = 0
        mass = some(len(group) + 1) * (torch.rand(examples, 1, generator=generator) < 0.7)
        own[:, list(group)] += mass[:, :-1]
        dust[:, m] = mass[:, -1]
    return p, own, dust, outside


@pytest.mark.parametrize("scale", [1, 6, 20, 60, 200])
@pytest.mark.parametrize("seed", range(3))
def test_sure_networks_are_combined_as_exactly_as_unsure_ones(scale, seed):
    """Up to masses of e-400 three hundred slow steps come no lower; where they end, it is at the same."""
    p, own, dust, outside = masses(200, scale, seed)
    q = minimum(p, own, dust, outside[None])
    torch.testing.assert_close(q.sum(-1), torch.ones(200, dtype=torch.float64))
    assert bool((q >= 0).all())

    def total(q):
        masses = torch.cat([own, dust], 1)
        logs = torch.cat([q, q @ outside.T], 1).clamp_min(1e-290).log()
        return -(masses * logs).sum(-1)

    slow = slow_steps(p, own, dust, outside, 300)
    assert float((total(q) - total(slow)).max()) < 1e-10
    if scale <= 6:  # beyond, sums that differ by less than float64 can tell belong to quite different q
        steady = (slow_steps(p, own, dust, outside, 330) - slow).abs().amax(-1) < 1e-13
        assert int(steady.sum()) > 50
        torch.testing.assert_close(q[steady], slow[steady], atol=1e-7, rtol=0)


@pytest.mark.parametrize("scale", [6, 60])
def test_few_steps_suffice_for_all_of_many_examples(scale, monkeypatch):
    monkeypatch.setattr("limbeck.specialists.minimum._STEPS", 40)
    *given, outside = masses(20_000, scale, 1)
    assert bool(minimum(*given, outside[None]).isfinite().all())


def test_below_the_floor_proportions_stay_true():
    """The dustbin takes half; its classes had e^-100 and e^-102, so one has e^2 = 7.4 times the other's part."""
    generalist = torch.tensor([[0.0, -100.0, -102.0, -300.0]])
    found = combine(generalist, [torch.tensor([[-30.0, 0.0]])], [(0,)]).double()
    assert float(found[0, 1] - found[0, 2]) == pytest.approx(2.0, abs=1e-5)
    assert float(found[0, 3] - found[0, 1]) == pytest.approx(-200.0, abs=1e-4)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(1, dtype=torch.float64))


# --- generalist and specialists as a teacher --------------------------------------------------------------------------


def committee():
    torch.manual_seed(0)
    return Committee(
        nn.Linear(4, 6), [nn.Linear(4, len(group) + 1) for group in GROUPS], GROUPS, [2.0, 1.0, 5.0], top=2
    )


def test_a_committee_answers_what_its_parts_combine_to():
    teacher, x = committee(), torch.randn(20, 4)
    experts = [
        correct_dustbin(model(x), share) for model, share in zip(teacher.specialists, teacher.oversampling, strict=True)
    ]
    whole = combine(teacher.generalist(x).log_softmax(-1), experts, GROUPS, top=2)
    batch = Batch(torch.arange(20), 0, x, None)
    torch.testing.assert_close(teacher.log_probs(batch, 1.0), whole)
    torch.testing.assert_close(teacher.log_probs(batch, 4.0), (whole / 4).log_softmax(-1))
    assert not teacher.log_probs(batch, 1.0).requires_grad
    assert teacher.every_temperature


def test_a_committee_teaches_like_any_other_teacher():
    teacher, x = committee(), torch.randn(400, 4)
    labels = teacher.log_probs(Batch(torch.arange(400), 0, x, None), 1.0).argmax(-1)
    classes = [str(k) for k in range(6)]
    run = distill(
        teacher,
        nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 6)),
        x,
        test=(x, labels),
        classes=classes,
        temperature=2.0,
        hard_weight=0.0,
        baseline=False,
        epochs=100,
        learning_rate=0.02,
        precision="float32",
    )
    assert run.metrics["student"]["accuracy"] > 0.8
    assert run.metrics["teacher"]["title"] == "Linear and 3 specialists"
    found = evaluate(teacher, Examples.of(x, labels))
    assert found["test_errors"] == 0 and found["parameters"] == 30 + 15 + 20 + 10


def test_a_committee_knows_the_order_of_its_specialists_logits():
    torch.manual_seed(3)
    generalist, x = nn.Linear(4, 6), torch.randn(30, 4)
    network = specialist_network(generalist, [4, 1], oversampling=2.0)
    torch.nn.init.normal_(network.network.weight)
    batch = Batch(torch.arange(30), 0, x, None)
    given, rising = (Committee(generalist, [network], [group], [2.0], top=6) for group in ([4, 1], (1, 4)))
    assert given.groups == [(1, 4)] and torch.equal(given.log_probs(batch, 1.0), rising.log_probs(batch, 1.0))
    with pytest.warns(LimbeckWarning, match=r"group \[4, 1\] is taken for the order of its specialist's logits"):
        own = Committee(generalist, [nn.Linear(4, 3)], [[4, 1]], [2.0])
    assert own.groups == [(4, 1)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"groups": [[1, 6]]}, r"\[1, 6\] must be from 0 to 5"),
        ({"groups": [[1, 1]]}, "must be different"),
        ({"groups": [[]]}, "one at least"),
        ({"groups": [range(6)]}, "holds every class"),
        ({"groups": [[1, 2]]}, r"the specialist for the classes \[1, 4\] has the group \[1, 2\]"),
        ({"specialists": [nn.Linear(4, 4)]}, "for 2 classes has 3 logits, the dustbin's last, and this has 4"),
        ({"oversampling": [0.0]}, "oversampling must be positive"),
        ({"top": 7}, "top must be from 1 to 6"),
        ({"classes": "abc"}, "classes has 3 names, and the generalist has 6"),
    ],
)
def test_a_committee_refuses_what_does_not_fit_when_it_is_made(change, said):
    generalist = nn.Linear(4, 6)
    given = {"specialists": [specialist_network(generalist, [1, 4])], "groups": [[1, 4]], "oversampling": [2.0]}
    Committee(generalist, **given)
    with pytest.raises(DataError, match=said):
        Committee(generalist, **given | change)


@pytest.mark.parametrize(
    ("group", "said"), [([6], "from 0 to 5"), ([-1], "from 0"), ([], "one at least"), ([1, 1], "must be different")]
)
def test_groups_are_checked_wherever_they_are_given(group, said):
    general, expert = random_log_probs(3, 6), random_log_probs(3, len(group) + 1)
    for call in (
        lambda: combine(general, [expert], [group]),
        lambda: active_specialists(general, [group]),
        lambda: divergence(general, general, [expert], [group], torch.ones(3, 1, dtype=torch.bool)),
        lambda: Specialist(nn.Identity(), group) if group != [6] else specialist_network(nn.Linear(4, 6), group),
    ):
        with pytest.raises(DataError, match="special classes"):
            call()
    with pytest.raises(DataError, match=said):
        combine(general, [expert], [group])


def test_the_divergence_refuses_other_shapes():
    general, expert = random_log_probs(3, 6), random_log_probs(3, 2)
    with pytest.raises(DataError, match="do not fit the generalist's answers"):
        divergence(general[:2], general, [expert], [[1]], torch.ones(3, 1, dtype=torch.bool))


def test_a_committee_needs_as_many_of_each():
    with pytest.raises(DataError, match="1 specialists, 1 groups and 2 oversamplings"):
        Committee(nn.Linear(2, 3), [nn.Linear(2, 2)], [(0,)], [1.0, 1.0])


def test_rare_classes_are_not_near_every_centre():
    """Two pairs are confused, two classes are rare: groups of two hold the pairs, and no rare class beside one."""
    labels = torch.arange(8).repeat_interleave(100)
    labels = torch.cat([labels, torch.tensor([8, 9]).repeat_interleave(5)])
    p = torch.nn.functional.one_hot(labels, 10).double()
    for one, other in ((0, 1), (1, 0), (2, 3), (3, 2)):
        p[labels == one, one], p[labels == one, other] = 0.9, 0.1
    found = confusable_groups((p + 1e-9).log(), 8, size=2)
    assert {(0, 1), (2, 3)} <= set(found)
    assert not any(set(group) & {8, 9} and set(group) & {0, 1, 2, 3} for group in found)


def test_groups_are_not_filled_up_with_whatever_is_rare():
    """Eight pairs are confused a little, and eight classes with nothing, half of them rare: none fills more groups."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(24).repeat_interleave(300)
    scores = 0.5 * torch.randn(len(labels), 24, generator=generator)
    scores[torch.arange(len(labels)), labels] += 9
    paired = labels < 16
    scores[paired, labels[paired] ^ 1] += 5
    kept = (labels < 20) | (torch.rand(len(labels), generator=generator) < 0.3)
    given = scores.log_softmax(-1)[kept]
    times = torch.zeros(24)
    for seed in range(5):
        found = confusable_groups(given, 10, size=4, seed=seed)
        times += torch.bincount(torch.tensor(found).flatten(), minlength=24)
        assert sum({2 * k, 2 * k + 1} <= set(group) for group in found for k in range(8)) >= 6
    assert times[20:].mean() < 2 * times[16:20].mean(), times


def test_a_class_that_is_never_predicted_has_a_group():
    log_probs = blocks((2, 2))
    never = torch.full((len(log_probs), 1), -800.0)
    found = confusable_groups(torch.cat([log_probs, never], 1), 2)
    assert [set(group) - {4} for group in found] == [{0, 1}, {2, 3}]


def test_rows_that_plain_steps_hardly_move_converge():
    """Of these answers four rows need more than 20,000 plain steps."""
    generator = torch.Generator().manual_seed(2)
    general = (15 * torch.randn(400, 12, generator=generator)).log_softmax(-1)
    groups = [tuple(sorted(torch.randperm(12, generator=generator)[:5].tolist())) for _ in range(6)]
    answers = [(15 * torch.randn(400, 6, generator=generator)).log_softmax(-1) for _ in groups]
    found = combine(general, answers, groups, top=4)
    active = active_specialists(general, groups, top=4)
    z = found.double().log_softmax(-1).requires_grad_()
    divergence(z, general.double(), [one.double() for one in answers], groups, active).sum().backward()
    assert float(z.grad.abs().max()) < 1e-5


def test_a_group_larger_than_its_size_keeps_the_classes_nearest_to_its_centre():
    """Classes 1, 2 and 3 are mistaken for each other and class 0 for none: it is the first, and the farthest."""
    together = torch.tensor([[0.01, 0.33, 0.33, 0.33]] * 30 + [[0.97, 0.01, 0.01, 0.01]] * 10)
    assert confusable_groups(together.log(), 1, size=3) == [(1, 2, 3)]
    moved = together[:, [1, 2, 0, 3]]  # whatever the classes' order
    assert confusable_groups(moved.log(), 1, size=3) == [(0, 1, 3)]
