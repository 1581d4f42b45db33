"""Shifts of the classes' scores: against a slow solver, a known answer, and the shares they must bring about."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from limbeck.data.examples import Examples
from limbeck.errors import ConfigError, DataError
from limbeck.models import MLP, MLPConfig
from limbeck.training.bias import fix_bias, matching_shift

Z = 3 * torch.randn(300, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PRIOR = np.array([0.4, 0.3, 0.15, 0.1, 0.05])


@pytest.mark.parametrize("groups", [None, [[3]], [[0, 1]], [[0, 4], [2]], [[0], [1, 2, 3, 4]]])
def test_matching_shift_minimises_what_a_slow_solver_minimises(groups):
    found = matching_shift(Z, PRIOR, groups=groups)
    sets = [[k] for k in range(5)] if groups is None else groups

    def spread(s):
        full = np.zeros(5)
        for group, value in zip(sets, s, strict=True):
            full[group] = value
        return full

    def objective(s):
        moved = Z.numpy() + spread(s)
        return np.log(np.exp(moved).sum(1)).mean() - PRIOR @ spread(s)

    slow = spread(minimize(objective, np.zeros(len(sets)), method="BFGS", options={"gtol": 1e-9}).x)
    if sorted(k for group in sets for k in group) == list(range(5)):
        slow -= slow.mean()  # a constant is free
        assert abs(float(found.mean())) < 1e-12
    np.testing.assert_allclose(found.numpy(), slow, atol=1e-5)
    shares = (Z + found).softmax(-1).mean(0).numpy()
    for group in sets:
        assert shares[group].sum() == pytest.approx(PRIOR[group].sum(), abs=1e-8)
    for k in set(range(5)) - {k for group in sets for k in group}:
        assert found[k] == 0


def test_matching_shift_finds_what_was_taken_away():
    # Labels drawn from the model's own probabilities have the shares of its mean prediction.
    true = Z.softmax(-1).mean(0)
    spoilt = Z.clone()
    spoilt[:, 3] -= 3.5
    assert float(matching_shift(spoilt, true, groups=[[3]])[3]) == pytest.approx(3.5, abs=1e-6)
    assert float(matching_shift(Z, true).abs().max()) < 1e-6


def test_matching_shift_takes_log_probabilities_as_well_as_scores_and_ignores_constants():
    reference = matching_shift(Z, PRIOR)
    torch.testing.assert_close(matching_shift(Z.log_softmax(-1), PRIOR), reference)
    torch.testing.assert_close(matching_shift(Z + torch.randn(300, 1), 7 * PRIOR), reference, atol=1e-6, rtol=1e-6)


def test_matching_shift_of_certain_predictions():
    # Scores a hundred apart: without halved steps Newton's method leaves for infinity.
    sure = 100 * nn.functional.one_hot(torch.arange(40) % 4, 4).double()
    sure[:, 2] -= 60
    shift = matching_shift(sure, groups=[[2]])
    assert (sure + shift).softmax(-1).mean(0)[2] == pytest.approx(0.25, abs=1e-8)


def test_fix_bias_changes_the_bias_of_the_last_layer_alone_and_keeps_the_type():
    net = MLP(MLPConfig(input_shape=(4,), classes=3, hidden=(5,)))
    x = torch.randn(6, 4)
    fixed = fix_bias(net, {2: 1.5})
    assert type(fixed) is MLP and not fixed.training and net.training
    torch.testing.assert_close(fixed(x) - net(x), torch.tensor([0.0, 0, 1.5]).expand(6, 3))
    changed = [name for name, value in fixed.state_dict().items() if not torch.equal(value, net.state_dict()[name])]
    assert len(changed) == 1 and changed[0].endswith("bias")


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 3)

    def forward(self, x):
        return self.net(x).tanh()


@pytest.mark.parametrize("shift", [{1: -2.0}, [0.0, -2.0, 0.0], torch.tensor([0.0, -2.0, 0.0])])
def test_fix_bias_goes_behind_a_model_without_a_last_linear_layer(shift):
    net, x = Own(), torch.randn(6, 4)
    torch.testing.assert_close(fix_bias(net, shift)(x) - net(x), torch.tensor([0.0, -2.0, 0.0]).expand(6, 3))


@pytest.mark.parametrize("model", [Own(), nn.Linear(4, 3)])
def test_fix_bias_on_unlabelled_examples_gives_them_the_shares(model):
    x, prior = torch.randn(200, 4), [0.6, 0.3, 0.1]
    shares = fix_bias(model, unlabelled=x, prior=prior)(x).softmax(-1).mean(0)
    torch.testing.assert_close(shares, torch.tensor(prior), atol=1e-5, rtol=0)
    wrong_labels = Examples.of(x, torch.zeros(200, dtype=torch.int64))
    again = fix_bias(model, unlabelled=wrong_labels, prior=prior)(x).softmax(-1).mean(0)
    torch.testing.assert_close(again, shares)


@pytest.mark.parametrize(
    ("scores", "more", "said"),
    [
        (torch.zeros(3), {}, "shape"),
        (torch.zeros(0, 3), {}, "shape"),
        (torch.full((2, 2), torch.nan), {}, "NaN"),
        (torch.zeros(2, 2), {"prior": [1.0, 0.0]}, "positive share"),
        (torch.zeros(2, 2), {"prior": [1.0, 1.0, 1.0]}, "each of 2 classes"),
        (torch.zeros(2, 2), {"groups": [[2]]}, "names class 2"),
        (torch.zeros(2, 2), {"groups": [[0], [0]]}, "one group at most"),
        (torch.zeros(2, 2), {"groups": []}, "must name a class"),
        (torch.zeros(2, 2), {"groups": [[]]}, "must name a class"),
    ],
)
def test_matching_shift_refuses(scores, more, said):
    with pytest.raises(DataError, match=said):
        matching_shift(scores, **more)


def test_fix_bias_refuses_what_does_not_fit():
    net = nn.Linear(4, 3)
    with pytest.raises(ConfigError, match="either shift, or unlabelled"):
        fix_bias(net)
    with pytest.raises(ConfigError, match="either shift, or unlabelled"):
        fix_bias(net, {0: 1.0}, unlabelled=torch.zeros(2, 4))
    with pytest.raises(ConfigError, match="prior and groups"):
        fix_bias(net, {0: 1.0}, prior=[1, 1, 1])
    with pytest.raises(DataError, match="the model has 3"):
        fix_bias(net, {3: 1.0})
    with pytest.raises(DataError, match="the model has 3"):
        fix_bias(net, [0.0, 1.0])
    with pytest.raises(DataError, match="finite numbers"):
        fix_bias(net, {0: float("nan")})
    for odd in ({5: 1.0}, [0.0, 1.0]):
        with pytest.raises(DataError, match="the model has 3"):
            fix_bias(Own(), odd)(torch.zeros(1, 4))


@pytest.mark.parametrize("seed", range(20))
def test_matching_shift_converges_on_scores_of_every_size(seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(200, 10, generator=generator) * 10 ** (seed / 8 - 0.5)
    prior = torch.rand(10, generator=generator) + 0.05
    groups = None if seed % 2 else [[7, 8]]
    shares = (scores + matching_shift(scores, prior, groups=groups)).softmax(-1).mean(0)
    wanted = prior.double() / prior.double().sum()
    if groups is None:
        torch.testing.assert_close(shares, wanted, atol=2e-8, rtol=0)
    else:
        torch.testing.assert_close(shares[7:9].sum(), wanted[7:9].sum(), atol=2e-8, rtol=0)


def test_few_sure_examples_with_uneven_shares_are_matched_too():
    """Whole steps of Newton's would overshoot on two thirds of these."""
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        scores = 8 * torch.randn(4, 3, generator=generator, dtype=torch.float64)
        prior = torch.rand(3, generator=generator, dtype=torch.float64) ** 3 + 1e-3
        shares = (scores + matching_shift(scores, prior)).softmax(-1).mean(0)
        torch.testing.assert_close(shares, prior / prior.sum(), atol=1e-7, rtol=0)


@pytest.mark.parametrize("end", [nn.Softmax(-1), nn.Sigmoid(), nn.Sequential(nn.Identity(), nn.Softmax(-1))])
def test_a_shift_of_what_are_no_logits_is_refused(end):
    network = nn.Sequential(nn.Linear(4, 3), end)

    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x)

    with pytest.raises(DataError, match="a shift is added to logits: give the network without"):
        fix_bias(network, {0: 1.0})
    with pytest.raises(DataError, match="a shift is added to logits"):
        fix_bias(Hidden(), unlabelled=torch.randn(20, 4))
    with pytest.raises(DataError, match="a shift is added to logits"):
        fix_bias(Hidden(), {0: 1.0})(torch.randn(2, 4))
    with pytest.warns(UserWarning, match="scores look like probabilities"):
        matching_shift(torch.randn(20, 3).softmax(-1))
    fix_bias(nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(-1)), {0: 1.0})(torch.randn(2, 4))


@pytest.mark.parametrize("key", [0.5, True, np.float64(1.5), "1", None])
def test_classes_are_named_by_whole_numbers(key):
    with pytest.raises(DataError, match="must be a whole number"):
        fix_bias(nn.Linear(4, 3), {key: 1.0})
    with pytest.raises(DataError, match="must be a whole number"):
        matching_shift(torch.randn(20, 3), groups=[[key]])
