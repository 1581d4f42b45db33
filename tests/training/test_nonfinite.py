"""Numbers that go wrong: the step, the examples and the layer are named, and what was saved stays."""

import copy
import re

import pytest
import torch
from torch import nn

import limbeck.training.engine
from limbeck.data import Examples, Feed
from limbeck.errors import DataError, NonFiniteError
from limbeck.models import Specialist
from limbeck.options import Augmentation, Training
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device
from limbeck.teacher_warnings import tell_odd_teacher
from limbeck.teachers import Ensemble, StoredTargets
from limbeck.training.checkpoint import load_tensors
from limbeck.training.engine import fit
from limbeck.training.nonfinite import Guard
from limbeck.training.objective import DistillationObjective, LabelObjective

CPU = Device(torch.device("cpu"), "float32")
BAD = 37
"""The number of the example that makes a layer go wrong."""


class Root(nn.Module):
    """The square root of inputs: infinite slope at 0, NaN below."""

    def forward(self, x):
        return x.sqrt()


class Scale(nn.Module):
    """Keeps a 0 a 0."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6))

    def forward(self, x):
        return x * self.weight


def examples(value=None):
    inputs = torch.rand(64, 6, generator=torch.Generator().manual_seed(1)) + 0.5
    if value is not None:
        inputs[BAD, 2] = value
    return Examples.of(inputs, (inputs[:, 0] > 1).long())


def net(*, batch_norm=False):
    torch.manual_seed(0)
    middle = [nn.BatchNorm1d(6)] if batch_norm else []
    return nn.Sequential(Scale(), Root(), *middle, nn.Linear(6, 2))


def weights(model):
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def place_of(number, feed, epoch=0):
    return next(step for step, batch in enumerate(feed.batches(epoch)) if number in batch.index.tolist())


class Notes(Callback):
    def __init__(self):
        self.texts = []

    def on_warning(self, text):
        self.texts.append(text)


@pytest.mark.parametrize(
    ("value", "layer", "alone"),
    [
        (-1.0, r"layer 1 \(Root\) gives numbers", True),
        (0.0, r"the gradient of 0\.weight", False),
    ],
)
def test_step_examples_and_layer_are_named_and_the_last_checkpoint_stays(tmp_path, value, layer, alone):
    feed = Feed(examples(value), batch_size=8, seed=0)
    step = place_of(BAD, feed)
    assert step > 0
    training = Training(epochs=2, batch_size=8, optimizer="sgd", learning_rate=1e-3, checkpoint_minutes=1e-9)
    with pytest.raises(NonFiniteError) as caught:
        fit(net(), LabelObjective(), feed, training, CPU, folder=tmp_path)
    words = str(caught.value)
    assert f"epoch 1, step {step + 1} of 8" in words
    assert re.search(layer, words)
    named = next(batch for number, batch in enumerate(feed.batches(0)) if number == step).index.tolist()
    if alone:
        assert f"(example {BAD})" in words
    else:
        assert all(str(number) in words for number in named[:5]) and "and 3 more" in words
    assert f"the checkpoint of epoch 1, step {step} is kept" in words
    tensors, state = load_tensors(tmp_path / "latest.safetensors")
    assert state["step"] == step
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values() if tensor.is_floating_point())


class Live:
    """A teacher that is asked at each step, and answers NaN for one example."""

    classes = None

    def __init__(self, bad):
        self.bad = bad

    def log_probs(self, batch, temperature):
        answers = torch.zeros(len(batch.index), 2).log_softmax(-1)
        answers[batch.index == self.bad] = torch.nan
        return answers


@pytest.mark.parametrize("weight", [0.0, 0.4])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_teacher_that_answers_nan_is_named_and_not_the_learning_rate(tmp_path, weight, wrapped):
    feed = Feed(examples(), batch_size=8, seed=0)
    order = [batch.index.tolist() for batch in feed.batches(0)]

    def train(bad):
        good = StoredTargets(torch.zeros(64, 2).log_softmax(-1), feed.examples.index)
        teacher = Ensemble([good, Live(bad)]) if wrapped else Live(bad)
        objective = DistillationObjective(teacher, temperature=2.0, hard_weight=weight)
        fit(net(), objective, feed, Training(epochs=2, batch_size=8, learning_rate=1e-3), CPU, folder=tmp_path)

    who = "member 2 of the ensemble" if wrapped else "the teacher's answer"
    with pytest.raises(DataError, match=rf"{who}.*example {order[0][3]}\b"):
        train(order[0][3])
    with pytest.raises(NonFiniteError if not wrapped else DataError) as caught:
        train(order[5][2])
    words = str(caught.value)
    assert re.search(rf"{who}.*example {order[5][2]}\b", words)
    assert "learning rate" not in words and "skip_nonfinite" not in words
    if not wrapped:
        assert "epoch 1, step 6 of 8" in words and "repair the teacher" in words


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("where", ["host", "device"])
def test_a_step_that_is_left_out_is_as_if_it_had_not_been(monkeypatch, optimizer, batch_norm, where):
    """Against a bare loop over the other batches; in the way of a processor, and in that of an accelerator."""
    if where == "device":
        made = Guard.__init__

        def late(self, *given, **named):
            made(self, *given, **{**named, "waits": False})

        monkeypatch.setattr(Guard, "__init__", late)
    feed = Feed(examples(-1.0), batch_size=8, seed=5)
    training = Training(
        epochs=2,
        batch_size=8,
        optimizer=optimizer,
        learning_rate=1e-2,
        schedule="constant",
        skip_nonfinite=True,
        seed=5,
    )
    model, bare, notes = net(batch_norm=batch_norm), net(batch_norm=batch_norm), Notes()
    fitted = fit(model, LabelObjective(), feed, training, CPU, callback=notes)
    if optimizer == "sgd":
        steps = torch.optim.SGD(bare.parameters(), lr=1e-2, momentum=0.9, nesterov=True)
    else:
        steps = torch.optim.AdamW(bare.parameters(), lr=1e-2, weight_decay=0.0)
    for epoch in range(2):
        total, count = 0.0, 0
        for batch in feed.batches(epoch):
            if BAD in batch.index.tolist():
                continue
            loss = nn.functional.cross_entropy(bare.train()(batch.inputs), batch.labels)
            steps.zero_grad()
            loss.backward()
            steps.step()
            total, count = total + float(loss.detach()) * len(batch.index), count + len(batch.index)
        assert fitted.history[epoch]["train_loss"] == pytest.approx(total / count, rel=1e-5)
    names = [name for name in model.state_dict() if "num_batches" not in name]
    for name in names:
        assert torch.allclose(model.state_dict()[name], bare.state_dict()[name], atol=1e-6), name
    assert [row["skipped_steps"] for row in fitted.history] == [1, 1]
    assert "1 steps of epoch 1" in notes.texts[0]


def test_an_accelerator_is_not_waited_for_and_its_weights_stay_good(monkeypatch):
    """The verdict stays on the device until somebody looks, and no step from the bad one on reaches the weights."""
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    guard = Guard(model, optimizer, skip=False, waits=False, device=torch.device("cpu"))
    good, bad = torch.tensor(1.0), torch.tensor(float("inf"))
    for step, loss in enumerate([good, good, bad, good, bad]):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        guard.judge(step, loss, torch.tensor(1.0))
        before = weights(model)
        guard.step()
        assert torch.equal(weights(model), before) == (step >= 2)
    assert guard.fault() == 2


def test_a_run_of_nothing_but_bad_steps_stops():
    inputs = torch.full((16, 6), -1.0)
    feed = Feed(Examples.of(inputs, torch.arange(16) % 2), batch_size=8, seed=0)
    training = Training(epochs=2, batch_size=8, skip_nonfinite=True)
    model = nn.Sequential(Root(), nn.Linear(6, 2))
    before = copy.deepcopy(model.state_dict())

    class Ready(LabelObjective):
        def __call__(self, logits, batch):
            return super().__call__(logits, batch)

    with pytest.raises(NonFiniteError, match="every step of epoch 1"):
        fit(model, Ready(), feed, training, CPU)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_weights_that_are_not_finite_are_named():
    model = net()
    model[2].weight.data[0, 0] = float("inf")
    with pytest.raises(NonFiniteError, match=r"layer 2 \(Linear\) holds a weight that is not finite"):
        fit(model, LabelObjective(), Feed(examples(), batch_size=8, seed=0), Training(epochs=1), CPU)


def test_a_model_that_is_right_before_its_first_step_is_odd():
    model = nn.Linear(6, 2, bias=False)
    model.weight.data.zero_()
    model.weight.data[1, 0], model.weight.data[0, 1] = 1.0, 1.0
    inputs = torch.rand(64, 6)
    given = Examples.of(inputs, (inputs[:, 0] > inputs[:, 1]).long())
    notes = Notes()
    fit(model, LabelObjective(), Feed(given, batch_size=32, seed=0), Training(epochs=1), CPU, callback=notes)
    assert "right on all 32 examples" in notes.texts[0]
    notes = Notes()
    fit(net(), LabelObjective(), Feed(examples(), batch_size=32, seed=0), Training(epochs=1), CPU, callback=notes)
    assert not notes.texts


def test_a_specialist_that_is_right_before_its_first_step_is_not_odd():
    model, inputs = nn.Linear(6, 2, bias=False), torch.rand(64, 6)
    model.weight.data.zero_()
    model.weight.data[0, 0], model.weight.data[1, 1] = 1.0, 1.0
    labels = (inputs[:, 0] <= inputs[:, 1]).long()
    for network, odd in ((model, True), (Specialist(model, [0]), False)):
        notes, given = Notes(), Examples.of(inputs, labels)
        fit(network, LabelObjective(), Feed(given, batch_size=32, seed=0), Training(epochs=1), CPU, callback=notes)
        assert bool(notes.texts) is odd
        torch.nn.init.eye_(model.weight)


def told_of(answers, labels):
    given = Examples.of(torch.rand(len(labels), 3), labels)
    notes = Notes()
    teacher = StoredTargets(answers.log_softmax(-1), given.index, classes=[str(k) for k in range(answers.shape[1])])
    tell_odd_teacher(teacher, given, Augmentation(), 1.0, CPU, notes)
    return notes.texts


def test_odd_teachers_are_told_of_and_plain_ones_are_not():
    labels = torch.arange(300) % 3
    right = 3.0 * nn.functional.one_hot(labels, 3).float() + torch.rand(300, 3)
    assert not told_of(right, labels)
    assert "right on 0.0% of 300" in told_of(right.roll(1, dims=1), labels)[0]
    assert "the same output for all 300" in told_of(right[:1].expand(300, 3), labels)[0]
    # By luck alone a teacher that knows nothing is within three standard errors of guessing, or below a share of 1/K.
    weak = torch.rand(300, 3, generator=torch.Generator().manual_seed(0))
    weak[:130] = right[:130]
    assert not told_of(weak, labels)


def test_the_engine_looks_for_a_layer_only_once_something_is_wrong(monkeypatch):
    def never(*_):
        raise AssertionError("a layer was looked for")

    monkeypatch.setattr(limbeck.training.engine, "explain_nonfinite", never)
    fit(net(), LabelObjective(), Feed(examples(), batch_size=8, seed=0), Training(epochs=1, batch_size=8), CPU)
