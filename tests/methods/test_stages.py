"""FitNets in two stages: what each learns, what counts of it, and that it resumes to the same bits."""

import pytest
import torch
from torch import nn

import limbeck
from limbeck.data import Examples, Feed
from limbeck.errors import ConfigError, RunError, SelfCheckError
from limbeck.methods import Moment, Output, make_method
from limbeck.methods.fitnets import FitNets
from limbeck.options import Training
from limbeck.options.methods import has_temperature
from limbeck.protocols import Batch
from limbeck.runs.folder import RunFolder
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device
from limbeck.teachers import ModelTeacher
from limbeck.training.checkpoint import load_latest
from limbeck.training.engine import fit
from limbeck.training.objective import DistillationObjective

CPU = Device(torch.device("cpu"), "float32")
TWO = {"stages": 2, "hint_epochs": 2, "student_layers": "1", "teacher_layers": "1"}


def net(width, seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, 3))


def examples(count=32, seed=0):
    inputs = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return Examples.of(inputs, inputs[:, :3].argmax(1))


def feed():
    return Feed(examples(), batch_size=8, seed=0)


def objective(method=None, hard_weight=0.3):
    made = make_method("fitnets", TWO) if method is None else method
    return DistillationObjective(ModelTeacher(net(7, 1)), method=made, hard_weight=hard_weight)


def run(epochs=4, **more):
    student = net(5, 2)
    done = fit(student, objective(), feed(), Training(epochs=epochs, learning_rate=0.02, weight_decay=0.1), CPU, **more)
    return student, done


def test_the_first_stage_is_a_plain_loop_over_the_layers_up_to_the_hint():
    snapshots = []
    run(after_epoch=lambda _, model: snapshots.append({k: v.clone() for k, v in model.state_dict().items()}))
    teacher, student = net(7, 1), net(5, 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Training().seed)
        regressor = nn.Linear(5, 7)
    weights = [student[0].weight, regressor.weight]
    shifts = [student[0].bias, regressor.bias]
    plain = torch.optim.AdamW([{"params": weights, "weight_decay": 0.1}, {"params": shifts, "weight_decay": 0.0}])
    batches, training = feed(), Training(epochs=4, learning_rate=0.02)
    schedule = limbeck.training.schedules.Schedule(training, batches.steps)
    for epoch in range(2):
        for step, batch in enumerate(batches.batches(epoch)):
            for group in plain.param_groups:
                group["lr"] = schedule.rate(epoch * batches.steps + step)
            plain.zero_grad()
            with torch.no_grad():
                hint = teacher[:2](batch.inputs)
            ((regressor(student[:2](batch.inputs)) - hint).square().mean() / 2).backward()
            plain.step()
    after_hints, first = snapshots[1], net(5, 2).state_dict()
    for name, value in student.state_dict().items():
        if name.startswith("0."):
            torch.testing.assert_close(after_hints[name], value, rtol=1e-5, atol=1e-6)
            assert not torch.equal(value, first[name])
        else:
            assert torch.equal(after_hints[name], first[name]), "layers above the hint stay as they were"
            assert not torch.equal(snapshots[3][name], first[name]), "and are trained in the second stage"


def test_the_second_stage_is_kd_with_a_factor_that_falls_to_one():
    method = make_method("fitnets", {**TWO, "anneal": 4.0}, temperature=3.0)
    z, v = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).unbind()
    batch, teacher = Batch(torch.arange(6), 0, torch.zeros(6, 1), torch.arange(6) % 3), (v / 3).log_softmax(-1)
    says = Output(teacher, {}, 3.0)
    kd = make_method("kd", temperature=3.0)
    factors = []
    for epoch in range(2, 5):
        for step in range(4):
            method.at(Moment(epoch, step, steps=4, epochs=5))
            value = method(Output(z), says, batch)
            factors.append(float((value / kd(Output(z), says, batch)).mean()))
    expected = torch.linspace(4, 1, 12, dtype=torch.float64)
    torch.testing.assert_close(torch.tensor(factors, dtype=torch.float64), expected)
    method.at(Moment(1, 3, steps=4, epochs=5))
    assert method.hints


class Stop(Callback):
    def __init__(self, epoch, step):
        self.place = epoch, step

    def on_epoch(self, row):
        if self.place == (row["epoch"], 0):
            raise KeyboardInterrupt


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_it_resumes_to_the_same_bits_from_each_stage(tmp_path, epoch):
    whole, _ = run(folder=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(folder=tmp_path / "stopped", callback=Stop(epoch, 0))
    again, done = run(folder=tmp_path / "stopped", resume=True)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())
    kept, resumed = (load_latest(tmp_path / name)[0] for name in ("whole", "stopped"))
    assert all(torch.equal(value, resumed[name]) for name, value in kept.items())
    assert [row["stage"] for row in done.history] == [1, 1, 2, 2]
    if epoch == 1:
        other = objective(make_method("fitnets", {**TWO, "hint_epochs": 1}))
        with pytest.raises(RunError, match="method"):
            fit(net(5, 2), other, feed(), Training(epochs=4, learning_rate=0.02, weight_decay=0.1), CPU,
                folder=tmp_path / "whole", resume=True)  # fmt: skip
    assert "stages" not in make_method("fitnets").fingerprint()


def test_validation_counts_from_the_second_stage():
    validation = examples(16, 1).inputs
    # Labels on which the initial weights are right: no epoch of training is as good as those of the first stage.
    judged = Examples.of(validation, net(5, 2)(validation).argmax(1))
    student = net(5, 2)
    training = Training(epochs=5, learning_rate=0.02, patience=1)
    done = fit(student, objective(), feed(), training, CPU, validation=judged)
    assert done.best_epoch > 2 and len(done.history) >= 3


def test_a_run_of_two_stages_and_its_baseline_have_as_many_steps(tmp_path):
    data, method = examples(), {"method": "fitnets", "method_options": {**TWO, "anneal": 2.0}}
    short = {"batch_size": 8, "device": "cpu", "precision": "float32"}
    given = (net(7, 1), net(5, 2), (data.inputs, data.labels), (data.inputs, data.labels))
    distilled = limbeck.distill(*given, out=tmp_path / "run", epochs=3, **method, **short)
    beside = RunFolder(tmp_path / "run" / "baseline").history()
    assert len(distilled.history) == len(beside) == 3 and distilled.verdict is not None
    assert [row["learning_rate"] for row in distilled.history] == [row["learning_rate"] for row in beside]
    with pytest.raises(ConfigError, match="hint_epochs = 2, and epochs is 2: nothing is left"):
        limbeck.distill(*given, epochs=2, **method, **short)
    with pytest.raises(ConfigError, match="method fitnets in 2 stages"):
        limbeck.distill(*given, epochs=3, method="fitnets+kd", method_options={"fitnets": TWO}, **short)
    with pytest.raises(ConfigError, match="method attention trains only features, and hard_weight is 0"):
        limbeck.distill(*given, epochs=3, method="attention", hard_weight=0.0, **short)
    # Hints alone, then soft targets alone: no label is needed.
    bare = {"hard_weight": 0.0, "baseline": False, "classes": ["a", "b", "c"]}
    unlabelled = limbeck.distill(*given[:2], data.inputs, epochs=3, **bare, **method, **short)
    assert len(unlabelled.history) == 3
    balanced = limbeck.distill(*given, epochs=3, class_weight="balanced", baseline=False, **method, **short)
    assert len(balanced.history) == 3


def test_a_method_of_features_is_asked_at_each_step_of_a_run_of_several_epochs():
    """Answers that are kept have no features: the teacher itself is asked."""
    data = examples()
    found = limbeck.distill(
        net(7, 1), net(5, 2), (data.inputs, data.labels), method="fitnets", epochs=2, batch_size=8, baseline=False
    )
    assert len(found.history) == 2


class LabelsInTheFirstStage(FitNets):
    """Hints with the labels' loss beside them from the first step."""

    def with_labels(self, student, teacher, batch, hard_weight, label_smoothing):
        hard = nn.functional.cross_entropy(student.logits, batch.labels, reduction="none")
        return super().with_labels(student, teacher, batch, hard_weight, label_smoothing) + hard_weight * hard


class SecondStageWithoutTheSquare(FitNets):
    """Soft targets of the second stage without T squared."""

    def forward(self, student, teacher, batch):
        found = super().forward(student, teacher, batch)
        return found if self.hints else found / self.temperature**2


@pytest.mark.parametrize("kind", [LabelsInTheFirstStage, SecondStageWithoutTheSquare])
def test_mistakes_in_either_stage_stop_the_run_before_its_first_step(kind):
    student = net(5, 2)
    with pytest.raises(SelfCheckError, match="nothing was trained"):
        fit(student, objective(kind(**TWO)), feed(), Training(epochs=4), CPU)
    assert torch.equal(student[0].weight, net(5, 2)[0].weight)


def test_a_temperature_counts_in_two_stages_alone():
    assert has_temperature("fitnets", ["fitnets.stages=2"]) and not has_temperature("fitnets", ["stages=1"])
    assert not make_method("fitnets").reads_logits and make_method("fitnets", {"stages": 2}).reads_logits
