"""Methods of features: formulas against autograd, layers that are found, own parameters, and what is refused."""

import math

import pytest
import torch
from torch import nn

import limbeck
from limbeck.data import Examples, Feed
from limbeck.errors import ConfigError, SelfCheckError
from limbeck.methods import Output, make_method
from limbeck.methods.attention import Attention
from limbeck.methods.fitnets import FitNets
from limbeck.models import CNN, CNNConfig
from limbeck.models.taps import Taps, default_stages, list_taps
from limbeck.options import Training
from limbeck.protocols import Batch
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device
from limbeck.teachers import Ensemble, ModelTeacher, StoredTargets
from limbeck.training.checkpoint import load_latest
from limbeck.training.engine import fit
from limbeck.training.objective import DistillationObjective

CPU = Device(torch.device("cpu"), "float32")


def small_cnn(channels, seed):
    torch.manual_seed(seed)
    config = CNNConfig(input_shape=(1, 12, 12), classes=3, channels=channels, hidden=(8,), padding=True)
    return CNN(config)


def images(count=32):
    inputs = torch.randn(count, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    return Examples.of(inputs, torch.arange(count) % 3)


def features(shape, name, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(4, *shape, generator=generator, dtype=torch.float64).to(dtype)
    return Output(torch.zeros(4, 3, dtype=dtype), {name: drawn})


SHAPES = [((3, 6, 6), (5, 6, 6)), ((3, 7, 7), (5, 3, 3)), ((3, 3, 3), (5, 6, 6)), ((6, 3), (6, 5)), ((3,), (5,))]


@pytest.mark.parametrize(("mine", "theirs"), SHAPES)
@pytest.mark.parametrize("name", ["fitnets", "attention", "paper"])
def test_the_formula_is_autograds_gradient_and_that_of_the_value(name, mine, theirs):
    if name != "fitnets" and len(mine) == 1:
        with pytest.raises(ConfigError, match="attention compares maps"):
            prepared("attention", {}, mine, theirs)
        return
    kind, options = ("attention", {"variant": "paper"}) if name == "paper" else (name, {})
    method, student, teacher = prepared(kind, {"weight": 3.0, **options}, mine, theirs)
    batch = Batch(torch.arange(4), 0, torch.zeros(4, 1), None)
    leaf = student.features["s"].requires_grad_()
    value = method(Output(student.logits, {"s": leaf}), teacher, batch)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    still = Output(student.logits, {"s": leaf.detach()})
    right = method.reference_gradient(still, teacher, batch).features["s"]
    assert value.shape == (4,)
    torch.testing.assert_close(slope, right, rtol=1e-6, atol=1e-12)
    step = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    moved = [method(Output(student.logits, {"s": leaf.detach() + s * 1e-5 * step}), teacher, batch) for s in (1, -1)]
    assert float((moved[0] - moved[1]).sum().detach() / 2e-5) == pytest.approx(float((right * step).sum()), rel=1e-5)


def prepared(name, options, mine, theirs):
    method = make_method(name, {**options, "student_layers": "s", "teacher_layers": "t"})
    student, teacher = features(mine, "s", 1), features(theirs, "t", 2)
    method.find_taps([], [])
    torch.manual_seed(0)
    method.prepare(student, teacher)
    return method.double(), student, teacher


def test_attention_is_the_difference_of_unit_maps_whatever_the_channels():
    method, student, teacher = prepared("attention", {"weight": 1.0}, (3, 4, 4), (5, 4, 4))
    batch = Batch(torch.arange(4), 0, torch.zeros(4, 1), None)
    maps = [(each**2).mean(1).flatten(1) for each in (student.features["s"], teacher.features["t"])]
    unit = [each / each.norm(dim=1, keepdim=True) for each in maps]
    expected = (unit[0] - unit[1]).square().mean(1)
    torch.testing.assert_close(method(student, teacher, batch), expected)
    twice = Output(student.logits, {"s": 7 * student.features["s"]})
    torch.testing.assert_close(method(twice, teacher, batch), expected)


def test_layers_are_found_by_stages_and_named_wrongly_told():
    net = small_cnn((4, 6), 0)
    taps = list_taps(net, torch.zeros(2, 1, 12, 12))
    stages = default_stages(taps)
    shapes = {tap.name: tap.shape for tap in taps}
    assert [shapes[name] for name in stages] == [(4, 12, 12), (6, 6, 6), (6, 3, 3)]
    deep = nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    assert default_stages(list_taps(deep, torch.zeros(2, 1, 12, 12))) == ["2", "4"]

    class Blocks(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Linear(3, 4), nn.Linear(4, 2)
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

        def forward(self, x):
            x = self.embed(x)
            for layer in self.layers:
                x = layer(x)
            return self.head(x.mean(1))

    assert default_stages(list_taps(Blocks(), torch.zeros(2, 5, 3))) == ["layers.0", "layers.1", "layers.2"]
    with pytest.raises(ConfigError, match="has no layer 'layer.1': did you mean layers.1"):
        Taps(Blocks(), ["layer.1"])


@pytest.mark.parametrize("name", ["fitnets", "attention:0.1", "kd+fitnets:0.5"])
def test_a_student_learns_the_layers_and_ships_nothing_of_the_method(name, tmp_path):
    teacher, student = small_cnn((6, 8), 1), small_cnn((4, 6), 2)
    objective = DistillationObjective(ModelTeacher(teacher), method=name, hard_weight=0.1)
    feed = Feed(images(), batch_size=8, seed=0)
    before = list(student.state_dict())
    done = fit(student, objective, feed, Training(epochs=6, learning_rate=0.01), CPU, folder=tmp_path)
    assert done.history[-1]["train_loss"] < done.history[0]["train_loss"]
    assert list(student.state_dict()) == before and not any(part._forward_hooks for part in student.modules())
    tensors, _, _ = load_latest(tmp_path)
    own = [key for key in tensors if key.startswith("own.")]
    assert len(own) == (2 if "fitnets" in name else 0)
    assert not list(objective.method.parameters())  # the run had a copy


@pytest.mark.parametrize("method", ["fitnets", "kd"])
def test_own_parameters_are_trained_and_resume_to_the_same_bits(tmp_path, method):
    """Of convolutions, whose weights lie in memory with channels last: the optimiser's averages must too."""

    class Stop(Callback):
        def on_epoch(self, row):
            if row["epoch"] == 2:
                raise KeyboardInterrupt

    def run(folder, **more):
        student = small_cnn((4, 6), 2)
        objective = DistillationObjective(ModelTeacher(small_cnn((6, 8), 1)), method=method, hard_weight=0.1)
        training = Training(epochs=4, learning_rate=0.01, weight_decay=0.01)
        fit(student, objective, Feed(images(), batch_size=8, seed=0), training, CPU, folder=folder, **more)
        return student.state_dict(), load_latest(folder)[0]

    whole, kept = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", callback=Stop())
    again, resumed = run(tmp_path / "stopped", resume=True)
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    assert all(torch.equal(value, resumed[name]) for name, value in kept.items())
    first = "own.regressors.0.weight"
    assert (first in kept) == (method == "fitnets")
    if method == "kd":
        return
    torch.manual_seed(Training().seed)
    assert not torch.equal(kept[first], nn.Linear(6, 8).weight)  # it learnt


def test_what_has_no_layers_to_read_is_refused_in_a_line():
    data = images()
    stored = StoredTargets(torch.zeros(32, 3).log_softmax(-1), data.index)
    for guide in (stored, Ensemble([small_cnn((4,), 0), small_cnn((4,), 1)])):
        with pytest.raises(ConfigError, match="reads layers of the teacher, and this one has none to read"):
            DistillationObjective(guide, method="attention", hard_weight=0.1)
    with pytest.raises(ConfigError, match="give student_layers and teacher_layers, or neither"):
        make_method("attention", {"student_layers": "1"}).find_taps([], [])
    teacher = ModelTeacher(small_cnn((4, 6), 0))
    parallel = nn.DataParallel(small_cnn((4, 6), 1))
    feed = Feed(data, batch_size=8, seed=0)
    with pytest.raises(ConfigError, match="compiled or wrapped"):
        DistillationObjective(teacher, method="attention", hard_weight=0.1).begun(parallel, feed)
    net = small_cnn((4, 6), 1)
    with pytest.raises(ConfigError, match="leave it out"):
        objective = DistillationObjective(teacher, method="attention", hard_weight=0.1)
        fit(net, objective, Feed(data, batch_size=8, seed=0), Training(epochs=1, compile=True), CPU)
    assert not any(part._forward_hooks for part in net.modules())


class HalfForgotten(FitNets):
    """The factor of a half is forgotten."""

    def forward(self, student, teacher, batch):
        return 2 * super().forward(student, teacher, batch)


class NotNormalised(Attention):
    """Maps that are not of length 1."""

    def forward(self, student, teacher, batch):
        ((s, t),) = self.pairs(student, teacher)
        return self.weight * (s.square().mean(1) - t.square().mean(1)).square().flatten(1).mean(1)


class Detached(FitNets):
    """The student's features without their gradient: only the regressor learns."""

    def forward(self, student, teacher, batch):
        still = Output(student.logits, {name: value.detach() for name, value in student.features.items()})
        return super().forward(still, teacher, batch) + 0 * sum(f.sum() for f in student.features.values())


@pytest.mark.parametrize("kind", [HalfForgotten, NotNormalised, Detached])
def test_mistakes_in_features_stop_the_run_before_its_first_step(kind):
    method = kind(student_layers="3", teacher_layers="3")
    student = small_cnn((4, 6), 2)
    before = student[0].weight.detach().clone()
    objective = DistillationObjective(ModelTeacher(small_cnn((6, 8), 1)), method=method, hard_weight=0.1)
    with pytest.raises(SelfCheckError, match="differs from its formula"):
        fit(student, objective, Feed(images(), batch_size=8, seed=0), Training(epochs=1), CPU)
    assert torch.equal(student[0].weight, before)


def test_a_run_of_features_from_python(tmp_path):
    data = images()
    pairs = (data.inputs, data.labels)
    short = {"epochs": 1, "batch_size": 8, "device": "cpu", "precision": "float32", "baseline": False}
    run = limbeck.distill(
        small_cnn((6, 8), 1), small_cnn((4, 6), 2), pairs, method={"kd": 1, "attention": 0.1}, seeds=2,
        out=tmp_path / "run", **short,
    )  # fmt: skip
    assert math.isfinite(run.history[-1]["train_loss"])
    assert "kd:1+attention:0.1" in (tmp_path / "run" / "config.toml").read_text()
