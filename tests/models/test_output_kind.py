"""Probabilities where logits are needed, and logits where logarithms of probabilities are."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import limbeck
from limbeck.errors import DataError
from limbeck.models.output_kind import looks_like_probabilities, looks_like_sigmoids, require_log_probs
from limbeck.teachers import StoredTargets

X = torch.randn(120, 20, generator=torch.Generator().manual_seed(0))
Y = (X @ torch.randn(20, 5, generator=torch.Generator().manual_seed(1))).argmax(1)
SHORT = {"epochs": 1, "precision": "float32", "baseline": False}


def net(classes=5):
    return nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, classes))


def heard_of(teacher, student=None):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        limbeck.distill(teacher, student or net(), (X[:80], Y[:80]), (X[80:], Y[80:]), **SHORT)
    return [str(warning.message) for warning in heard if "answers of the" in str(warning.message)]


def test_a_softmax_at_the_end_of_teacher_or_student_is_told_and_a_log_softmax_is_not():
    softmax = nn.Sequential(net(), nn.Softmax(-1))
    assert ["teacher look like probabilities" in text for text in heard_of(softmax)] == [True]
    assert ["student look like probabilities" in text for text in heard_of(net(), softmax)] == [True]
    assert "teacher (its part 2)" in heard_of(limbeck.Ensemble([net(), softmax]))[0]
    assert len(heard_of(softmax.bfloat16())) == 1, "sums of 16-bit numbers are rounded"
    assert "look like probabilities" in heard_of(lambda x: (x @ torch.ones(20, 5)).softmax(-1))[0]
    assert heard_of(nn.Sequential(net(), nn.LogSoftmax(-1)), nn.Sequential(net(), nn.LogSoftmax(-1))) == []
    with pytest.warns(limbeck.LimbeckWarning, match="answers of the model look like probabilities"):
        limbeck.train(nn.Sequential(net(), nn.Softmax(-1)), (X, Y), epochs=1, precision="float32")


def test_a_sigmoid_at_the_end_of_teacher_or_student_is_told_trained_or_not():
    sigmoid = nn.Sequential(net(), nn.Sigmoid())
    assert ["teacher all lie between 0 and 1, as after a sigmoid" in text for text in heard_of(sigmoid)] == [True]
    assert ["student all lie between 0 and 1, as after" in text for text in heard_of(net(), sigmoid)] == [True]
    assert heard_of(nn.Sequential(sigmoid, nn.Linear(5, 5)), nn.Sequential(net(), nn.Sigmoid(), nn.Linear(5, 5))) == []
    # Of a function that PyTorch does not see numbers must do: those of a trained one come near both ends.
    weights = torch.randn(20, 5, generator=torch.Generator().manual_seed(1)).numpy()
    assert "as after a sigmoid" in heard_of(lambda x: 1 / (1 + np.exp(-4 * x.numpy() @ weights)))[0]


def test_logits_of_random_networks_are_never_taken_for_either():
    for number in range(1000):
        generator = torch.Generator().manual_seed(number)
        classes = 2 + number % 9
        weights = torch.randn(20, classes, generator=generator) * 10.0 ** (number % 5 - 3)
        logits = X[:64] @ weights + torch.rand(classes, generator=generator)
        for rows in (logits, logits.relu(), logits * 0 + 0.3):
            assert not looks_like_probabilities(rows)
        assert not looks_like_sigmoids(logits) and not looks_like_sigmoids(logits.relu())
    centred = torch.randn(64, 5)
    assert not looks_like_probabilities(centred - centred.mean(-1, keepdim=True) + 0.2), "the sum alone does not do"
    assert not looks_like_probabilities(torch.zeros(64, 10)) and not looks_like_probabilities(torch.ones(64, 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda z: z.softmax(-1), "row 0 of 6 looks like probabilities: take their logarithm"),
        (lambda z: z, "looks like logits: take log_softmax"),
        (lambda z: torch.cat([z.log_softmax(-1)[:4], z[4:]]), "row 4 of 6 looks like logits"),
        (lambda z: torch.full_like(z, -torch.inf), "nothing but minus infinity"),
    ],
)
def test_stored_targets_are_log_probabilities_or_refused(make, message):
    logits = 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match=message):
        StoredTargets(make(logits), torch.arange(6))
    for kind in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        StoredTargets(logits.log_softmax(-1).to(kind), torch.arange(6))


def test_log_probabilities_over_a_thousand_classes_in_16_bits_and_with_classes_left_out():
    logits = 4 * torch.randn(50, 1000, generator=torch.Generator().manual_seed(0))
    require_log_probs(logits.log_softmax(-1).half())
    logits[:, 10:] = -torch.inf
    require_log_probs(logits.log_softmax(-1).view(5, 10, 1000))
