"""Whole runs in Python: what the verdict compares, and that it can say no."""

import copy
import json
import warnings

import pytest
import torch
from torch import nn

import limbeck
import limbeck.runs.stages
from limbeck.data import DataSet, Examples, Feed
from limbeck.errors import ConfigError, LimbeckError, MismatchError
from limbeck.options import Augmentation, Training
from limbeck.system.devices import Device
from limbeck.teachers import ModelTeacher, StoredTargets
from limbeck.training.engine import fit
from limbeck.training.objective import DistillationObjective


def rings(count, seed):
    """Two classes that no line divides; labels are noisy in training, so a teacher that knows helps."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 2, generator=generator)
    return inputs, (inputs.norm(dim=1) > 1.18).long()


class Knowing(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(4.0))

    def forward(self, x):
        distance = self.scale * (x.norm(dim=1) - 1.18)
        return torch.stack([-distance, distance], 1)


def noisy(count, seed):
    inputs, labels = rings(count, seed)
    flip = torch.rand(count, generator=torch.Generator().manual_seed(seed + 1)) < 0.4
    return inputs, torch.where(flip, 1 - labels, labels)


def student(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, 2))


SETTINGS = {"epochs": 40, "batch_size": 32, "learning_rate": 0.02, "precision": "float32"}


def test_a_teacher_that_knows_more_than_the_labels_helps_and_the_run_is_written(tmp_path):
    run = limbeck.distill(
        Knowing(), student(), noisy(150, 0), rings(100, 5), test=rings(1000, 9), hard_weight=0.0,
        out=tmp_path / "run", **SETTINGS,
    )  # fmt: skip
    assert run.verdict.helped is True
    assert run.metrics["student"]["test_errors"] < run.metrics["baseline"]["test_errors"]
    assert run.metrics["judged_on"] == "test"
    written = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert written == run.metrics
    for role in ("teacher", "baseline", "student"):
        assert {"test_errors", "parameters", "nll", "ece", "latency_ms", "multiply_adds"} <= set(written[role])
    assert written["baseline"]["latency_ms"] == written["student"]["latency_ms"], "one network, measured once"
    torch.manual_seed(3)
    again = limbeck.load(tmp_path / "run", model=student(5))
    x = torch.randn(9, 2)
    assert torch.equal(again(x), run.student(x))
    assert not again.training


def test_a_teacher_that_knows_nothing_does_not_help():
    ignorant = nn.Linear(2, 2)
    nn.init.zeros_(ignorant.weight)
    ignorant.bias.data = torch.tensor([2.0, -2.0])
    run = limbeck.distill(
        ignorant, student(), rings(300, 0), rings(100, 5), test=rings(1000, 9), hard_weight=0.0, **SETTINGS
    )
    assert run.verdict.helped is False
    assert "did not help" in run.verdict.sentence


def test_baseline_and_student_start_from_the_same_weights_and_the_given_module_is_untouched():
    given = student()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    # A teacher that repeats the labels with certainty makes both objectives the same.
    data = rings(64, 0)

    class Labels(nn.Module):
        def forward(self, x):
            return nn.functional.one_hot((x.norm(dim=1) > 1.18).long(), 2) * 1000.0

    run = limbeck.distill(
        Labels(), given, data, rings(50, 1), temperature=1.0, hard_weight=0.0, epochs=3, precision="float32"
    )
    pairs = zip(run.student.parameters(), run.baseline.parameters(), strict=True)
    assert all(torch.allclose(one, two, atol=1e-5) for one, two in pairs)
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    assert run.metrics["judged_on"] == "validation"


def test_seeds_give_pairs_and_an_interval_over_them():
    run = limbeck.distill(
        Knowing(), student, noisy(100, 0), rings(100, 5), test=rings(400, 9), seeds=3, **{**SETTINGS, "epochs": 5}
    )
    assert [row["seed"] for row in run.metrics["seeds"]] == [0, 1, 2]
    assert len({row["student_errors"] for row in run.metrics["seeds"]}) > 1
    differences = [row["student_errors"] - row["baseline_errors"] for row in run.metrics["seeds"]]
    assert run.verdict.difference.estimate == pytest.approx(sum(differences) / 3 / 400)


def test_an_unlabelled_transfer_set_works():
    inputs, _ = rings(300, 3)
    run = limbeck.distill(
        Knowing(), student(), inputs, rings(100, 5), test=rings(500, 9), hard_weight=0.0, baseline=False, **SETTINGS
    )
    assert run.verdict is None
    assert run.metrics["student"]["accuracy"] > 0.9
    beside = limbeck.distill(
        Knowing(),
        student(),
        noisy(60, 0),
        rings(100, 5),
        test=rings(500, 9),
        transfer=inputs,
        hard_weight=0.0,
        **SETTINGS,
    )
    assert beside.metrics["student"]["accuracy"] == run.metrics["student"]["accuracy"]
    assert "baseline" in beside.metrics
    with pytest.raises(ConfigError, match="set it to 0"):
        limbeck.distill(Knowing(), student(), noisy(60, 0), rings(9, 5), transfer=inputs, hard_weight=0.1)
    with pytest.raises(ConfigError, match="set baseline to False"):
        limbeck.distill(Knowing(), student(), inputs, rings(9, 5), hard_weight=0.0)


def test_a_live_teacher_and_its_stored_answers_train_the_same_student():
    data, held = rings(120, 0), rings(50, 1)
    examples = Examples.of(*data)
    teacher = ModelTeacher(Knowing())
    from limbeck.protocols import Batch

    stored = StoredTargets(teacher.log_probs(Batch(examples.index, 0, examples.inputs, None), 1.0), examples.index)
    settings = {"epochs": 4, "precision": "float32", "baseline": False}
    live = limbeck.distill(teacher, student(), data, held, augmentation=None, **settings)
    kept = limbeck.distill(stored, student(), data, held, **settings)
    pairs = zip(live.student.parameters(), kept.student.parameters(), strict=True)
    assert all(torch.allclose(one, two, atol=1e-5) for one, two in pairs)


def test_views_answered_once_are_the_views_that_are_trained_on():
    """Every seed must learn from answers to the very pictures it sees."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (40, 1, 6, 6), generator=generator, dtype=torch.uint8)
    data = DataSet(
        "d",
        ("a", "b"),
        Examples.of(pictures, torch.arange(40) % 2),
        validation=Examples.of(pictures, torch.arange(40) % 2),
    )
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))

    def make(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 2))

    def students(views, epochs):
        run = limbeck.distill(
            teacher, make, data, augmentation=Augmentation(shift=2, rotate=20, views=views), hard_weight=0.0,
            epochs=epochs, seeds=2, baseline=False, precision="float32", batch_size=8, schedule="constant",
        )  # fmt: skip
        return [row["student_accuracy"] for row in run.metrics["seeds"]], run.history

    # With as many views as epochs the teacher is asked live; with fewer, once and kept.
    live, history = students(3, 3)
    kept, again = students(3, 4)
    assert [row["train_loss"] for row in history][:1] == pytest.approx(
        [row["train_loss"] for row in again][:1], rel=1e-4
    )


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_an_ensemble_teaches_its_mean_at_the_runs_temperature(mean):
    """Answers that are computed once teach what the live ensemble does, asked at the temperature itself."""
    torch.manual_seed(1)
    nets = [nn.Linear(2, 3), nn.Linear(2, 3)]
    for net in nets:
        net.weight.data.mul_(8)  # so that means at T = 1 and at T = 5 are far apart
    inputs, labels = torch.randn(64, 2), torch.arange(64) % 3
    given = nn.Linear(2, 3)
    settings = {"epochs": 3, "batch_size": 16, "learning_rate": 0.05, "precision": "float32"}
    run = limbeck.distill(
        limbeck.Ensemble(nets, mean=mean), given, (inputs, labels), (inputs, labels),
        temperature=5.0, hard_weight=0.2, baseline=False, keep="last", **settings,
    )  # fmt: skip
    live = copy.deepcopy(given)
    objective = DistillationObjective(limbeck.Ensemble(nets, mean=mean), temperature=5.0, hard_weight=0.2)
    feed = Feed(Examples.of(inputs, labels), batch_size=16, seed=0)
    fit(live, objective, feed, Training(**settings, keep="last"), Device(torch.device("cpu"), "float32"))
    assert torch.allclose(run.student.weight, live.weight, atol=1e-5)
    assert torch.allclose(run.student.bias, live.bias, atol=1e-5)


@pytest.mark.parametrize("temperature", [1e-3, 500.0, 1e4, 1e8, 1e30])
def test_any_temperature_trains_and_a_hot_one_is_matched_logits(temperature, recwarn):
    torch.manual_seed(0)
    inputs, teacher, given = torch.randn(60, 8), nn.Linear(8, 4), nn.Linear(8, 4)
    labels = teacher(inputs).argmax(-1)
    settings = {"epochs": 3, "batch_size": 16, "learning_rate": 0.05, "precision": "float32", "keep": "last"}

    def student(**how):
        run = limbeck.distill(teacher, given, (inputs, labels), (-inputs, labels), baseline=False, **how, **settings)
        return torch.cat([value.detach().flatten() for value in run.student.parameters()])

    found = student(temperature=temperature)
    assert bool(found.isfinite().all())
    said = [str(each.message) for each in recwarn]
    assert not [text for text in said if "no more than always guessing" not in text]  # validation is upside down
    if temperature > 100:
        assert torch.allclose(found, student(method="logits"), atol=10 / temperature + 1e-4)


def test_logits_that_are_far_apart_are_matched():
    class Sure(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x):
            return 1e5 * self.layer(x)

    inputs, labels = torch.randn(60, 8), torch.arange(60) % 4
    run = limbeck.distill(
        Sure(), nn.Linear(8, 4), (inputs, labels), (inputs, labels), method="logits", epochs=1, baseline=False,
        precision="float32",
    )  # fmt: skip
    assert run.history[0]["train_loss"] > 1e6


@pytest.mark.parametrize("row", [0, 333])
def test_a_teacher_that_answers_nan_is_named(row):
    inputs, labels = torch.randn(400, 8), torch.arange(400) % 4

    class Bad(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 4)
            self.register_buffer("bad", inputs[row].clone())

        def forward(self, x):
            return self.layer(x).masked_fill((x == self.bad).all(1, keepdim=True), torch.nan)

    for wrapped, epochs in ((Bad(), 1), (Bad(), 3), (limbeck.Ensemble([nn.Linear(8, 4), Bad()]), 3)):
        with pytest.raises(LimbeckError, match=rf"(teacher's answer to|member 2 .* for) example {row}\b") as caught:
            limbeck.distill(
                wrapped, nn.Linear(8, 4), (inputs, labels), (inputs[:9], labels[:9]), epochs=epochs,
                precision="float32", baseline=False,
            )  # fmt: skip
        assert "learning rate" not in str(caught.value)


@pytest.mark.parametrize(("weight", "asks"), [(0.5, True), (1.0, False)])
def test_labels_alone_ask_the_teacher_for_its_own_figures_only(monkeypatch, weight, asks):
    """With all the weight on labels the teacher is asked in no step, and before none; it is still judged."""
    asked, training = [], []

    class Teacher(Knowing):
        def forward(self, x):
            asked.append(bool(training))
            return super().forward(x)

    real = limbeck.runs.stages.fit

    def marked(*given, **named):
        training.append(True)
        try:
            return real(*given, **named)
        finally:
            training.clear()

    monkeypatch.setattr(limbeck.runs.stages, "fit", marked)
    # A view for each epoch: nothing is answered beforehand.
    run = limbeck.distill(
        Teacher(), student(), rings(40, 0), rings(20, 1), hard_weight=weight, baseline=False,
        **{**SETTINGS, "epochs": 1},
    )  # fmt: skip
    assert run.metrics["teacher"]["accuracy"] == 1.0
    assert any(asked) == asks


@pytest.mark.parametrize("command", ["train", "distill"])
def test_members_and_seeds_follow_each_other(monkeypatch, command):
    """Weights and order of each member come from a seed of its own."""
    made, trained = [], []

    def make(seed):
        made.append(seed)
        return student(seed)

    real = limbeck.runs.stages.fit

    def fit(model, objective, feed, training, *given, **named):
        trained.append((training.seed, model[0].weight.detach().clone()))
        return real(model, objective, feed, training, *given, **named)

    monkeypatch.setattr(limbeck.runs.stages, "fit", fit)
    settings = {**SETTINGS, "epochs": 1, "seed": 7}
    if command == "train":
        limbeck.train(make, rings(30, 0), rings(10, 1), members=3, **settings)
    else:
        limbeck.distill(Knowing(), make, rings(30, 0), rings(10, 1), seeds=3, baseline=False, **settings)
    assert [seed for seed, _ in trained] == [7, 8, 9] and set(made) >= {7, 8, 9}
    for seed, weight in trained:
        assert torch.equal(weight, student(seed)[0].weight)


def test_classes_must_agree_in_number_name_and_order():
    data = DataSet("d", ("a", "b"), Examples.of(*rings(20, 0)), validation=Examples.of(*rings(20, 1)))
    for classes, message in (
        (("b", "a"), "calls class 0 'b'"),
        (("a", "b", "c"), "has 3 classes"),
        (("a", "x"), "'x'"),
    ):
        with pytest.raises(MismatchError, match=message):
            limbeck.distill(ModelTeacher(Knowing(), classes), student(), data, epochs=1)
    with pytest.raises(MismatchError, match="outputs 3 classes"):
        limbeck.distill(nn.Linear(2, 3), student(), data, epochs=1)


def test_evaluate_agrees_with_a_plain_loop(tmp_path):
    net, (inputs, labels) = student(), rings(200, 4)
    scores = limbeck.evaluate(net, Examples.of(inputs, labels), teacher=Knowing())
    log_probs = net(inputs).detach().log_softmax(-1)
    assert scores["test_errors"] == int((log_probs.argmax(-1) != labels).sum())
    assert scores["nll"] == pytest.approx(float(nn.functional.nll_loss(log_probs, labels)), rel=1e-5)
    assert scores["parameters"] == 2 * 24 + 24 + 24 * 2 + 2
    assert scores["multiply_adds"] == 2 * 24 + 24 * 2
    assert scores["agreement_with_teacher"] == pytest.approx(float((log_probs.argmax(-1) == labels).float().mean()))
    folder = limbeck.save_model(tmp_path / "m", net, classes=["in", "out"])
    assert scores["file_bytes"] == (folder / "model.safetensors").stat().st_size


def test_student_and_baseline_take_equally_many_steps_whatever_the_transfer_set():
    """Else a larger transfer set helps by its steps alone, and a smaller one hurts."""
    steps = []

    class Counts(limbeck.system.callbacks.Callback):
        def on_start(self, name, epochs, count, epoch):
            steps.append(count * epochs)

    few = rings(40, 0)
    for size, expected in ((400, 65), (40, 10), (10, 5)):
        steps.clear()
        limbeck.distill(
            Knowing(), student(), few, rings(50, 1), transfer=rings(size, 3)[0], hard_weight=0.0, epochs=5,
            batch_size=32, precision="float32", callbacks=Counts(),
        )  # fmt: skip
        assert steps == [expected, expected]


def test_a_transfer_set_that_teaches_no_more_than_the_labels_is_not_said_to_help():
    """The baseline on 60 noiseless labels needs the steps that the student has, and then does as well."""
    data, transfer = rings(200, 0), rings(2000, 3)[0]
    run = limbeck.distill(
        Knowing(), student(), data, rings(50, 1), test=rings(2000, 9), transfer=transfer, hard_weight=0.0,
        **{**SETTINGS, "epochs": 3},
    )  # fmt: skip
    assert run.metrics["baseline"]["test_errors"] < 250, "with three epochs of 200 examples it would be half of them"


def test_leaks_between_parts_and_repeats_within_them_are_told():
    test, held = rings(60, 9), rings(50, 5)
    twice = (torch.cat([test[0], test[0][:7]]), torch.cat([test[1], test[1][:7]]))
    brief = {**SETTINGS, "epochs": 1, "hard_weight": 0.0}
    for said, parts in (
        ("60 of 60 test examples are in the transfer set", {"test": test, "transfer": test[0]}),
        ("50 of 50 validation examples are in the transfer set", {"test": test, "transfer": held[0]}),
        ("50 of 50 test examples are in the validation set", {"test": held}),
        ("7 of 67 test examples are duplicates within it", {"test": twice}),
    ):
        with pytest.warns(limbeck.LimbeckWarning, match=said):
            limbeck.distill(Knowing(), student(), rings(80, 0), held, **parts, **brief)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_answers_that_are_drawn_anew_are_told_and_not_kept(noise):
    x = torch.randn(48, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()

    class Drawing:
        """Asked about the training set at each step where it draws, and once where it does not."""

        classes, asked = None, 0

        def log_probs(self, batch, temperature):
            self.asked += 1
            scores = torch.stack([-batch.inputs[:, 0], batch.inputs[:, 0]], 1)
            return ((scores + noise * torch.randn_like(scores)) / temperature).log_softmax(-1)

    asked = []
    for epochs in (3, 13):
        teacher = Drawing()
        settings = {"epochs": epochs, "batch_size": 8, "precision": "float32", "baseline": False, "hard_weight": 0.0}
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            limbeck.distill(teacher, nn.Linear(4, 2), (x, y), **settings)
        assert any("not deterministic" in str(one.message) for one in told) == bool(noise)
        asked.append(teacher.asked)
    assert asked[1] - asked[0] == (6 * 10 if noise else 0)  # six steps in each epoch
