"""Several labels at a time, and binary heads of one logit: as sigmoids by hand, and as two classes."""

import numpy as np
import pytest
import torch
from torch import nn

import limbeck
from limbeck.data.feed import Feed
from limbeck.data.multi_label import ManyLabels, MultiLabel
from limbeck.data.source import Source
from limbeck.errors import DataError, MismatchError
from limbeck.evaluation.verdicts import judge
from limbeck.inputs import BARE
from limbeck.keyed import uniform
from limbeck.losses import soft_target_loss, softened
from limbeck.models.calling import call_model, two_of_one
from limbeck.teachers import ModelTeacher, as_teacher
from limbeck.training.objective import DistillationObjective, LabelObjective, check_objective

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(90, 5, generator=GENERATOR)
TRUE = (X @ torch.randn(5, 3, generator=GENERATOR) > 0).long()
FAST = {"epochs": 2, "precision": "float32", "batch_size": 30}
PARTS = ((X[:60], TRUE[:60]), (X[60:], TRUE[60:]))


def by_hand(student, teacher, temperature):
    """T^2 times the divergence of two Bernoulli distributions, from its formula."""
    p, q = torch.sigmoid(teacher / temperature), torch.sigmoid(student / temperature)
    return temperature**2 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_soft_term_is_that_of_sigmoids_in_value_and_gradient(temperature):
    z, v = (3 * torch.randn(2, 7, 3, generator=GENERATOR, dtype=torch.float64)).unbind()
    z.requires_grad_(True)
    pairs = [nn.functional.pad(each.reshape(-1, 1), (1, 0)) for each in (z, v)]
    value = soft_target_loss(pairs[0], softened(pairs[1], temperature), temperature=temperature)
    torch.testing.assert_close(value.view(7, 3), by_hand(z, v, temperature))
    (ours,) = torch.autograd.grad(value.sum(), z, retain_graph=True)
    torch.testing.assert_close(ours, temperature * (torch.sigmoid(z / temperature) - torch.sigmoid(v / temperature)))
    (theirs,) = torch.autograd.grad(by_hand(z, v, temperature).sum(), z)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_objective_of_a_batch_is_that_of_its_labels_and_proves_itself(temperature):
    teacher, student = nn.Linear(5, 3), nn.Linear(5, 3)
    examples = limbeck.Examples.of(X, TRUE)
    batch = examples.batch(torch.tensor([4, 0, 5, 200]))  # labels 1, 0 and 2 of examples 1, 0 and 1; 2 of 66
    row, label = torch.tensor([1, 0, 1, 66]), torch.tensor([1, 0, 2, 2])
    assert torch.equal(batch.labels, TRUE[row, label])
    z, v = student(X)[row, label], teacher(X)[row, label]
    hard = nn.functional.binary_cross_entropy_with_logits(z, TRUE[row, label].float(), reduction="none")
    logits = call_model(student, batch.inputs)
    torch.testing.assert_close(LabelObjective()(logits, batch).per_example, hard)
    objective = DistillationObjective(ModelTeacher(teacher), temperature=temperature, hard_weight=0.3)
    expected = 0.7 * by_hand(z, v, temperature) + 0.3 * hard
    torch.testing.assert_close(objective(logits, batch).per_example, expected, atol=1e-5, rtol=1e-5)
    check_objective(objective, batch, 2)


def test_labels_of_an_example_follow_each_other_and_stay_together():
    examples = limbeck.Examples.of(X, TRUE)
    data = limbeck.data.splits.cut_validation(limbeck.DataSet("some", ("no", "yes"), examples), 0.2)
    for part in (data.train, data.validation):
        groups = part.groups()
        assert torch.bincount(groups).unique().tolist() == [3]
    assert not set((data.train.index // 3).tolist()) & set((data.validation.index // 3).tolist())
    feed = Feed(data.train, batch_size=30, seed=0)
    first, again = (list(feed.batches(epoch)) for epoch in (0, 1))
    assert [len(batch.inputs[BARE]) for batch in first[:-1]] == [10] * (len(first) - 1)  # each answered once
    index = torch.cat([batch.index for batch in first])
    assert sorted(index.tolist()) == sorted(data.train.index.tolist())
    assert not torch.equal(index, torch.cat([batch.index for batch in again]))
    later = torch.cat([batch.index for batch in feed.batches(0, start=2)])
    assert torch.equal(later, index[60:])


def test_a_run_s_figures_are_those_of_sigmoids_and_its_clusters_are_examples(tmp_path):
    names = ["red", "round", "sweet"]
    teacher = nn.Linear(5, 3)
    run = limbeck.distill(teacher, "mlp", *PARTS, classes=names, out=tmp_path / "run", **FAST)
    with torch.no_grad():
        said, truth = run.student(X[60:]) > 0, TRUE[60:].bool()
    found = run.metrics["student"]
    assert found["test_examples"] == 90 and found["test_errors"] == int((said != truth).sum())
    assert found["exact_match"] == pytest.approx(float((said == truth).all(1).float().mean()))
    assert found["label_errors"] == dict(zip(names, (said != truth).sum(0).tolist(), strict=True))
    f1 = pytest.importorskip("sklearn.metrics").f1_score
    assert found["macro_f1"] == pytest.approx(f1(truth, said, average="macro", zero_division=0.0))
    wrong = [(model(X[60:]) > 0) != truth for model in (run.student, run.baseline)]
    clusters = np.arange(90) // 3
    expected = judge(*(each.flatten().numpy() for each in wrong), groups=clusters, labels=truth.flatten().numpy(),
                     classes=("no", "yes"), judged_on="validation")  # fmt: skip
    assert run.verdict.difference == expected.difference and run.verdict.p_value == expected.p_value
    again = limbeck.evaluate(limbeck.load(tmp_path / "run"), limbeck.Examples.of_labels(X[60:], TRUE[60:]))
    assert again["test_errors"] == found["test_errors"] and again["macro_f1"] == found["macro_f1"]
    predicted = limbeck.predict(tmp_path / "run", X[60:])
    with torch.no_grad():
        np.testing.assert_allclose(predicted.probabilities, torch.sigmoid(run.student(X[60:])), atol=1e-6)
    assert predicted.labels[4] == "; ".join(np.array(names)[said[4].numpy()])
    assert predicted.write(tmp_path / "out.csv") == 30
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "id,label,prob_red,prob_round,prob_sweet"


def test_blocks_of_predictions_may_end_within_an_example(tmp_path, monkeypatch):
    run = limbeck.distill(nn.Linear(5, 3), nn.Linear(5, 3), *PARTS, baseline=False, **FAST)
    whole = limbeck.predict(run.student, X).probabilities
    monkeypatch.setattr(limbeck.evaluation.prediction, "_fitting", lambda *_: 7)
    found = limbeck.predict(run.student, X)
    assert sum(len(ids) for ids, _ in found.blocks()) == 90
    np.testing.assert_allclose(found.probabilities, whole, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: limbeck.distill(nn.Linear(5, 4), nn.Linear(5, 3), *PARTS), MismatchError,
         r"the examples are among 3 labels, and the model gives logits of shape \(1, 4\)"),
        (lambda: limbeck.Examples.of_labels(X, 2 * TRUE), DataError, "each label must be 0 or 1, and example"),
        (lambda: limbeck.Examples.of_labels(X[:5], TRUE), DataError, r"must be \(5, labels\), and have shape"),
        (lambda: limbeck.Examples.of_labels(X, TRUE, names=["a"]), DataError, "3 labels of each example, and 1 names"),
        (lambda: limbeck.distill(nn.Linear(5, 3), nn.Linear(5, 3), *PARTS, classes=["a", "b"]), DataError,
         "3 labels of each example, and classes names 2"),
        (lambda: limbeck.Examples.of(X, X[:, 0]), DataError, "regression is not supported"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_in_a_line(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_parts_of_which_by_chance_one_label_holds_each_are_taken_as_the_training_part_is():
    held = torch.eye(3)[torch.arange(12) % 3].long()
    run = limbeck.distill(nn.Linear(5, 3), nn.Linear(5, 3), PARTS[0], (X[:12] + 1, held), baseline=False, **FAST)
    assert run.metrics["student"]["test_examples"] == 36
    assert limbeck.Examples.of(X[:12], held).labels.tolist() == held.argmax(1).tolist()


class Noisy(Source):
    """Inputs whose views are drawn by the examples' numbers, scaled as a presentation says."""

    augments = True
    shape = (90, 5)

    def __len__(self):
        return 90

    def fetch(self, rows, keys, *, view=0, augmentation=None, presentations=(None,)):
        noise = uniform(keys, seed=0, view=view)[:, :1]
        return [(X[rows] + noise) * (each or 1) for each in presentations]

    def select(self, rows):
        raise AssertionError("a part of the pairs shares the examples")


def test_a_source_is_asked_once_for_an_example_whichever_of_its_labels_are_wanted():
    pairs = MultiLabel(Noisy(), TRUE, ["a", "b", "c"])
    views = limbeck.Augmentation(shift=1)
    first, second = torch.tensor([13, 12, 40]), torch.tensor([14])  # labels 1 and 0 of example 4, 1 of 13; 2 of 4
    one, scaled = pairs.fetch(first, first, view=2, augmentation=views, presentations=(None, ManyLabels(("a",), 10)))
    other = pairs.fetch(second, second, view=2, augmentation=views)[0]
    assert one[BARE].shape == (2, 5) and torch.equal(one[BARE][0], other[BARE][0])
    torch.testing.assert_close(scaled[BARE], 10 * one[BARE])
    net = nn.Linear(5, 3)
    expected = net(one[BARE])[[0, 0, 1], [1, 0, 1]]
    torch.testing.assert_close(call_model(net, one), nn.functional.pad(expected[:, None], (1, 0)))
    # Numbers may begin elsewhere, as those of test examples do.
    moved = pairs.fetch(first, first + 270, view=2, augmentation=views)[0]
    assert torch.equal(moved[BARE][0], pairs.fetch(second, second + 270, view=2, augmentation=views)[0][BARE][0])


def test_inputs_by_name_are_given_by_name():
    pairs = MultiLabel(limbeck.Examples.of({"x": X[:6]}).inputs, TRUE[:6])
    inputs = pairs.fetch(torch.tensor([4, 17]), torch.tensor([4, 17]))[0]
    assert torch.equal(inputs["x"], X[[1, 5]]) and pairs.presentation.names == ("0", "1", "2")


class Binary(nn.Module):
    def __init__(self, squeezed, ending=None):
        super().__init__()
        self.linear, self.squeezed, self.ending = nn.Linear(5, 1), squeezed, ending or nn.Identity()

    def forward(self, x):
        made = self.ending(self.linear(x))
        return made.squeeze(1) if self.squeezed else made


@pytest.mark.parametrize("squeezed", [False, True])
def test_a_head_of_one_logit_is_a_softmax_of_two(squeezed):
    one, two = Binary(squeezed), nn.Linear(5, 2)
    two.weight.data = torch.cat([torch.zeros(1, 5), one.linear.weight.data])
    two.bias.data = torch.cat([torch.zeros(1), one.linear.bias.data])
    y = TRUE[:, 0]
    parts = ((X[:60], y[:60]), (X[60:], y[60:]))
    for teacher in (one, lambda x: one(x)):
        answers = as_teacher(teacher).log_probs(limbeck.Examples.of(X).batch(slice(0, 9)), 2.0)
        torch.testing.assert_close(answers[:, 1].exp(), torch.sigmoid(one(X[:9]).flatten() / 2))
    runs = [limbeck.distill(each, nn.Linear(5, 2), *parts, baseline=False, **FAST) for each in (one, two)]
    assert runs[0].metrics["teacher"]["test_errors"] == runs[1].metrics["teacher"]["test_errors"]
    student = limbeck.distill(two, Binary(squeezed), *parts, **FAST)
    assert student.metrics["student"]["test_errors"] == int(((student.student(X[60:]).flatten() > 0) != y[60:]).sum())
    with pytest.raises(MismatchError, match="outputs 2 classes, and examples has 3"):
        limbeck.distill(one, one, (X, torch.arange(90) % 3), **FAST)


def test_a_single_sigmoid_at_the_end_is_told():
    with pytest.warns(limbeck.LimbeckWarning, match="as after a sigmoid.*leave out the sigmoid"):
        limbeck.distill(Binary(False, nn.Sigmoid()), nn.Linear(5, 2), (X, TRUE[:, 0]), baseline=False, **FAST)
    with pytest.warns(limbeck.LimbeckWarning, match="as after a sigmoid.*leave out the sigmoid"):
        ending = nn.Sequential(nn.Linear(5, 3), nn.Sigmoid())
        limbeck.distill(ending, nn.Linear(5, 3), PARTS[0], baseline=False, **FAST)
    assert two_of_one(torch.zeros(1, 2), 1).shape == (1, 2)
