r"""What brings a small student nearer to its teacher: patience, habits of training, teachers, views. MNIST and letters.

    python benchmarks/patience.py mnist --out runs/patience [--jobs 4] [--seeds 3] [--results docs/results] [--quick]
    python benchmarks/patience.py letters --data emnist-letters.mat --out runs/patience [...]

A job is a table of arms. Each arm tries its learning rates on validation, with a seed of its own; the best is trained
over the seeds, each with a teacher of its own (an ensemble is the same for all); the test set is read once, after the
last training. All arms but those that say so have the same epochs, batches and schedule, and end with their last
weights. Every training is a file under ``--out``, and so is the outcome, so a stopped job goes
on; ``--jobs`` processes train side by side.
"""

import argparse
import dataclasses
import json
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from limbeck.data import open_data
from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.feed import Feed
from limbeck.evaluation.paired_intervals import crossed_difference
from limbeck.evaluation.prediction import predict
from limbeck.evaluation.statistics import Interval, holm
from limbeck.evaluation.verdicts import in_points
from limbeck.models import CNN, MLP, CNNConfig, MLPConfig
from limbeck.options import Augmentation, DataOptions, Training
from limbeck.protocols import Batch, Objective
from limbeck.report.figures_study import draw_results
from limbeck.report.study import Drawing, Study, Table, write_study
from limbeck.system.devices import find_device
from limbeck.system.jobs import run_jobs
from limbeck.teachers import Ensemble, ModelTeacher, StoredTargets
from limbeck.training.engine import fit
from limbeck.training.objective import DistillationObjective, LabelObjective

SEARCH_SEED = 1000
MASKS = 64
"""Dropout masks whose answers are averaged."""


@dataclass(frozen=True)
class TeacherPlan:
    """How a teacher is trained on labels.

    Attributes:
        hidden: Widths of its fully connected layers.
        channels: Of its convolutions; none for an MLP.
        dropout: Share of units.
        max_norm: Of the weights into a unit.
        epochs: How many.
        batch_size: Examples per step.
        rate: Its learning rate.
        views: What it sees.
        members: How many are averaged; 1: each seed has its own.
        masks: Whether its dropout stays on, and the probabilities of :data:`MASKS` masks are averaged.
    """

    hidden: tuple[int, ...]
    channels: tuple[int, ...] = ()
    dropout: float = 0.0
    max_norm: float | None = None
    epochs: int = 100
    batch_size: int = 512
    rate: float = 2e-3
    views: Augmentation = Augmentation()
    members: int = 1
    masks: bool = False


@dataclass(frozen=True)
class Arm:
    """One row of the table.

    Attributes:
        title: Of the row.
        teacher: Name of its teacher; None for labels alone.
        temperature: T.
        hard_weight: Weight of the labels.
        method: What is learnt from the teacher.
        rates: Learning rates that validation chooses among.
        training: Settings that differ from the job's.
        views: What is seen, a new view in each epoch.
        max_norm: Of the student's weights into a unit.
        first: What the first weights are multiplied by.
        average: Whether the result is the mean of the weights after each epoch of the second half.
        everything: Whether the validation examples are learnt too: then the rate is that of ``like``.
        like: The arm whose rate is taken where there is no search.
    """

    title: str
    teacher: str | None
    temperature: float = 20.0
    hard_weight: float = 0.0
    method: str = "kd"
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    training: Mapping[str, Any] = field(default_factory=dict)
    views: Augmentation = Augmentation()
    max_norm: float | None = None
    first: float = 1.0
    average: bool = False
    everything: bool = False
    like: str | None = None


@dataclass(frozen=True)
class Job:
    """A table.

    Attributes:
        title: Heading of the page.
        about: What is asked.
        hidden: Widths of the student.
        teachers: By name.
        arms: By name; all are compared with ``base``.
        base: Name of an arm.
        training: Settings of all students.
        base_teacher: The teacher in the table.
    """

    title: str
    about: str
    hidden: tuple[int, ...]
    teachers: Mapping[str, TeacherPlan]
    arms: Mapping[str, Arm]
    base: str
    training: Mapping[str, Any]


_SGD: dict[str, Any] = {"optimizer": "sgd", "batch_size": 100, "schedule": "exponential", "decay": 0.985, "epochs": 200}
_JITTER = Augmentation(shift=2)
_DIGITS = TeacherPlan((1200, 1200), dropout=0.4, max_norm=3.0, views=_JITTER)
MNIST = Job(
    "What regularises the small net: MNIST, 2x800 without jitter",
    "Section 3 of the paper: a network of two layers of 800 units learns from soft targets at T = 20, sees no jitter, "
    "and makes 74 errors. Which habit of training brings ours there?",
    (800, 800),
    {
        "teacher": _DIGITS,
        "patient teacher": dataclasses.replace(_DIGITS, epochs=500),
        "masks": dataclasses.replace(_DIGITS, masks=True),
    },
    {
        "soft": Arm("soft targets alone", "teacher"),
        "labels": Arm("labels alone", None, hard_weight=1.0, rates=(3e-4, 1e-3, 3e-3)),
        "half": Arm("soft targets, labels with a weight of 0.5", "teacher", hard_weight=0.5),
        "cool": Arm("soft targets at T = 4", "teacher", temperature=4.0),
        "logits": Arm("matched logits", "teacher", method="logits"),
        "patient": Arm("600 epochs", "teacher", training={"epochs": 600}, rates=(1e-3, 3e-3)),
        "sgd": Arm("SGD, momentum 0.9, batches of 100, 200 epochs", "teacher", training=_SGD, rates=(0.01, 0.03, 0.1)),
        "heavy": Arm(
            "the same, momentum 0.99", "teacher", training={**_SGD, "momentum": 0.99}, rates=(1e-3, 3e-3, 0.01)
        ),
        "small": Arm("the same as SGD, first weights of 0.3 times the size", "teacher", training=_SGD, first=0.3,
                     rates=(0.01, 0.03, 0.1)),
        "better": Arm("a teacher of 500 epochs", "patient teacher"),
        "masks": Arm(f"a teacher averaged over {MASKS} masks of its dropout", "masks"),
        "average": Arm("mean of the weights of the second half", "teacher", training={"schedule": "constant"},
                       average=True),
        "decay": Arm("weight decay 0.1", "teacher", training={"weight_decay": 0.1}),
        "norm": Arm("norms of weights into a unit at most 2", "teacher", max_norm=2.0),
        "everything": Arm("all 60,000 digits", "teacher", everything=True, like="soft"),
        "both": Arm("all 60,000 digits, a teacher of 500 epochs", "patient teacher", everything=True, like="better"),
        "paper": Arm("all 60,000 digits, labels 0.5, SGD with momentum 0.99, a teacher of 500 epochs",
                     "patient teacher", hard_weight=0.5, training={**_SGD, "momentum": 0.99}, everything=True,
                     like="heavy"),
        "jitter": Arm("jitter of 2 pixels for teacher and student, 300 epochs", "teacher", views=_JITTER,
                      training={"epochs": 300}, rates=(1e-3, 3e-3)),
    },
    "soft",
    {"epochs": 60, "batch_size": 256, "keep": "last"},
)  # fmt: skip

_WEAK, _STRONG = Augmentation(shift=1), Augmentation(shift=2, rotate=10, scale=0.1)
_CNN = TeacherPlan((1024,), (64, 128), dropout=0.5, epochs=30, batch_size=256, rate=1e-3, views=_STRONG)
_LONG: dict[str, Any] = {"epochs": 1000}
LETTERS = Job(
    "Letters: a student as patient as it takes",
    "An MLP with one hidden layer of 512 units (415,258 parameters) learns from a CNN (3,378,970 parameters), or from "
    "five, with the same new view of each letter for teacher and student in each epoch.",
    (512,),
    {"cnn": _CNN, "five": dataclasses.replace(_CNN, members=5)},
    {
        name: dataclasses.replace(arm, temperature=2.0, rates=(1e-3, 4e-3) if not arm.training else (arm.rates[0],))
        for name, arm in {
            "labels": Arm("labels alone, strong views", None, hard_weight=1.0, views=_STRONG),
            "labels weak": Arm("labels alone, weak views", None, hard_weight=1.0, views=_WEAK),
            "weak": Arm("one CNN, weak views", "cnn", views=_WEAK),
            "strong": Arm("one CNN, strong views", "cnn", views=_STRONG),
            "long": Arm("one CNN, weak views, 1,000 epochs", "cnn", views=_WEAK, training=_LONG),
            "five": Arm("five CNNs, weak views", "five", views=_WEAK),
            "five strong": Arm("five CNNs, strong views", "five", views=_STRONG),
            "five long": Arm("five CNNs, weak views, 1,000 epochs", "five", views=_WEAK, training=_LONG),
            "dist": Arm("one CNN, weak views, method dist", "cnn", views=_WEAK, method="dist"),
            "half": Arm("one CNN, weak views, labels with a weight of 0.5", "cnn", views=_WEAK, hard_weight=0.5),
        }.items()
    },
    "labels weak",
    {"epochs": 250, "batch_size": 512, "keep": "last"},
)
JOBS = {"mnist": MNIST, "letters": LETTERS}


@dataclass(frozen=True)
class Bench:
    """Where a job's trainings are kept.

    Attributes:
        job: Its name.
        data: What is opened; None for MNIST.
        out: Folder.
        quick: Whether everything is tiny, to show that it runs.
        arms: Those that are made; none for all.
    """

    job: str
    data: str | None
    out: Path
    quick: bool
    arms: tuple[str, ...] = ()

    @property
    def plan(self) -> Job:
        """The job, with the arms that are asked for; a tiny one where it is quick."""
        job = JOBS[self.job]
        if self.arms:
            arms = {name: job.arms[name] for name in dict.fromkeys((job.base, *self.arms))}
            names = {arm.teacher for arm in arms.values()}
            teachers = {name: plan for name, plan in job.teachers.items() if name in names}
            job = dataclasses.replace(job, arms=arms, teachers=teachers)
        if not self.quick:
            return job
        return dataclasses.replace(
            job,
            hidden=(8,) * len(job.hidden),
            teachers={
                name: dataclasses.replace(
                    plan, hidden=(8,) * len(plan.hidden), channels=(2,) * len(plan.channels), epochs=1,
                    members=min(2, plan.members),
                )
                for name, plan in job.teachers.items()
            },
            arms={
                name: dataclasses.replace(arm, training={**arm.training, "epochs": 2}, rates=arm.rates[:2])
                for name, arm in job.arms.items()
            },
            training={**job.training, "epochs": 2, "batch_size": 50},
        )  # fmt: skip


@cache
def opened(bench: Bench) -> DataSet:
    """The data: whole, or a few hundred examples."""
    data = open_data(DataOptions(data=bench.data or "mnist"))
    if not bench.quick:
        return data
    few = torch.arange(200)
    parts = {name: None if part is None else part.take(few) for name, part in data.parts().items()}
    return dataclasses.replace(data, **parts)


def classes_of(data: DataSet) -> int:
    """How many classes there are."""
    return len(data.classes)


def student(bench: Bench, arm: Arm, seed: int) -> nn.Module:
    """The small network, whose first weights are a function of the seed."""
    data = opened(bench)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MLP(
            MLPConfig(
                input_shape=(1, 28, 28), classes=classes_of(data), hidden=bench.plan.hidden, max_norm=arm.max_norm
            )
        )
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(arm.first)
    return model


def network(bench: Bench, plan: TeacherPlan, seed: int) -> nn.Module:
    """A teacher's network."""
    shape, classes = (1, 28, 28), classes_of(opened(bench))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if plan.channels:
            return CNN(
                CNNConfig(
                    input_shape=shape, classes=classes, channels=plan.channels, hidden=plan.hidden, dropout=plan.dropout
                )
            )
        return MLP(
            MLPConfig(
                input_shape=shape, classes=classes, hidden=plan.hidden, dropout=plan.dropout, max_norm=plan.max_norm
            )
        )


def trained_as(plan: TeacherPlan) -> TeacherPlan:
    """The plan of the networks that a teacher is made of."""
    return dataclasses.replace(plan, members=1, masks=False)


def teacher_file(bench: Bench, plan: TeacherPlan, number: int) -> Path:
    """Where a teacher's weights are kept; plans that differ in how they are asked share them."""
    one = trained_as(plan)
    name = f"{'cnn' if one.channels else 'mlp'}-{one.epochs}-{number}"
    return bench.out / bench.job / "teachers" / f"{name}.pt"


def train_teacher(bench: Bench, name: str, number: int) -> None:
    """Train one network on labels, unless it is there."""
    plan = bench.plan.teachers[name]
    file = teacher_file(bench, plan, number)
    if file.is_file():
        return
    data, device = opened(bench), find_device("auto", "float32")
    settings = Training(epochs=plan.epochs, batch_size=plan.batch_size, learning_rate=plan.rate, seed=number)
    feed = Feed(data.train, batch_size=plan.batch_size, augmentation=plan.views, seed=number, device=device.device)
    model = network(bench, plan, number)
    fit(model, LabelObjective(0.0), feed, settings, device, validation=data.validation)
    save(file, model)


def save(file: Path, model: nn.Module) -> None:
    """Keep a model's weights; a file is whole or not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    torch.save({name: value.cpu() for name, value in model.state_dict().items()}, part)
    part.replace(file)


def asked(bench: Bench, name: str, seed: int, examples: Examples, *, live: bool) -> Any:
    """The teacher of a seed: live where views change, else its answers to these examples."""
    plan, device = bench.plan.teachers[name], find_device("auto", "float32").device
    count = plan.members
    numbers = range(count) if count > 1 else [seed if seed != SEARCH_SEED else 0]
    models = []
    for number in numbers:
        model = network(bench, plan, number)
        model.load_state_dict(torch.load(teacher_file(bench, plan, number), weights_only=True))
        models.append(model.eval().to(device))
    if plan.masks:
        return masked(models[0], examples, JOBS[bench.job].arms["masks"].temperature, device)
    teacher = Ensemble(models, mean="geometric") if count > 1 else ModelTeacher(models[0])
    if live:
        return teacher
    here = examples.to(device)
    parts = [
        teacher.log_probs(Batch(here.index[rows], 0, here.as_seen(rows), None), 1.0)
        for rows in torch.arange(len(examples), device=device).split(5000)
    ]
    return StoredTargets(torch.cat(parts), here.index, source=examples.source)


@torch.no_grad()
def masked(model: nn.Module, examples: Examples, temperature: float, device: torch.device) -> StoredTargets:
    """The mean of the softened probabilities of a network whose dropout is on."""
    torch.manual_seed(0)
    model.train()
    here, parts = examples.to(device), []
    for rows in torch.arange(len(examples), device=device).split(5000):
        seen = here.as_seen(rows)
        total = sum((model(seen) / temperature).softmax(-1).double() for _ in range(MASKS))
        parts.append((total / MASKS).log().float())
    return StoredTargets(torch.cat(parts), here.index, source=examples.source, temperature=temperature)


def place_of(bench: Bench, name: str, rate: float, seed: int) -> Path:
    """Folder of a training."""
    return bench.out / bench.job / "students" / re.sub(" ", "-", name) / f"{rate:g}" / str(seed)


def train_student(bench: Bench, name: str, rate: float, seed: int) -> dict[str, Any]:
    """Train one student, unless it is there; what validation says of it."""
    place = place_of(bench, name, rate, seed)
    found = place / "validation.json"
    if found.is_file():
        kept: dict[str, Any] = json.loads(found.read_text())
        return kept
    plan, data, device = bench.plan, opened(bench), find_device("auto", "float32")
    arm = plan.arms[name]
    assert data.validation is not None
    examples = together(data) if arm.everything else data.train
    settings = Training(**{**plan.training, **arm.training, "learning_rate": rate, "seed": seed})
    drawn = arm.views.active
    objective: Objective = LabelObjective(0.0)
    if arm.teacher is not None:
        objective = DistillationObjective(
            asked(bench, arm.teacher, seed, examples, live=drawn),
            hard_weight=arm.hard_weight,
            temperature=arm.temperature,
            method=arm.method,
        )
    feed = Feed(examples, batch_size=settings.batch_size, augmentation=arm.views, seed=seed, device=device.device)
    model, mean = student(bench, arm, seed), _Mean(settings.epochs // 2)
    began = time.perf_counter()
    validation = None if arm.everything else data.validation
    fit(model, objective, feed, settings, device, validation=validation, after_epoch=mean if arm.average else None)
    if arm.average:
        model.load_state_dict(mean.weights)
    save(place / "weights.pt", model)
    log_probs = predict(model.cpu(), data.validation)
    labels = data.validation.labels
    assert labels is not None
    row = {
        "errors": int((log_probs.argmax(1) != labels).sum()),
        "nll": float(-log_probs.gather(1, labels.long()[:, None]).mean()),
        "seconds": time.perf_counter() - began,
    }
    found.write_text(json.dumps(row))
    return row


def together(data: DataSet) -> Examples:
    """Training and validation examples, under new numbers."""
    assert data.validation is not None
    parts = (data.train, data.validation)
    inputs, labels = torch.cat([part.as_seen(torch.arange(len(part))) for part in parts]), []
    for part in parts:
        assert part.labels is not None
        labels.append(part.labels)
    return Examples.of(inputs, torch.cat(labels))


class _Mean:
    """The mean of a model's weights after each epoch from one on."""

    def __init__(self, first: int) -> None:
        self.first, self.count, self.weights = first, 0, dict[str, torch.Tensor]()

    def __call__(self, epoch: int, model: nn.Module) -> None:
        if epoch <= self.first:
            return
        self.count += 1
        for name, value in model.state_dict().items():
            known = self.weights.setdefault(name, torch.zeros_like(value))
            known += (value - known) / self.count


def wrong(bench: Bench, model: nn.Module) -> NDArray[np.bool_]:
    """Where a network errs on the test set: called after the last training alone."""
    test = opened(bench).test
    assert test is not None
    assert test.labels is not None
    return (predict(model, test).argmax(1) != test.labels).numpy()


def chosen_rates(bench: Bench, run: Callable[[list[Any]], list[Any]]) -> dict[str, float]:
    """The learning rate of each arm that does best on validation, with a seed that no final training has."""
    arms = bench.plan.arms
    searched = [(name, rate) for name, arm in arms.items() if arm.like is None for rate in arm.rates]
    found = run([partial(train_student, bench, name, rate, SEARCH_SEED) for name, rate in searched])
    best: dict[str, tuple[tuple[int, float], float]] = {}
    for (name, rate), row in zip(searched, found, strict=True):
        score = ((row["errors"], row["nll"]), rate)
        best[name] = min(best.get(name, score), score)
    rates = {name: rate for name, (_, rate) in best.items()}
    return {name: rates[arm.like or name] for name, arm in arms.items()}


def measure(bench: Bench, seeds: Sequence[int], jobs: int) -> dict[str, Any]:
    """Train everything, then read the test set."""
    plan = bench.plan

    def run(tasks: list[Callable[[], Any]]) -> list[Any]:
        return run_jobs(tasks, jobs=jobs, done=lambda done, whole: print(f"  {done} of {whole}", flush=True))

    began = time.perf_counter()
    tasks = {
        teacher_file(bench, each, number): partial(train_teacher, bench, name, number)
        for name, each in plan.teachers.items()
        for number in (range(each.members) if each.members > 1 else seeds)
    }
    run(list(tasks.values()))
    print(f"teachers after {time.perf_counter() - began:.0f} s", flush=True)
    rates = chosen_rates(bench, run)
    print(f"rates after {time.perf_counter() - began:.0f} s: {rates}", flush=True)
    cells = [(name, seed) for seed in seeds for name in plan.arms]
    rows = run([partial(train_student, bench, name, rates[name], seed) for name, seed in cells])
    validation: dict[str, list[int]] = {name: [] for name in plan.arms}
    for (name, _), row in zip(cells, rows, strict=True):
        validation[name].append(row["errors"])

    # All choices are made: now the test set is read.
    errors: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in plan.arms}
    for name, seed in cells:
        model = student(bench, plan.arms[name], seed)
        model.load_state_dict(torch.load(place_of(bench, name, rates[name], seed) / "weights.pt", weights_only=True))
        errors[name].append(wrong(bench, model))
    teachers = {name: [int(each.sum()) for each in taught(bench, name, seeds)] for name in plan.teachers}
    others = [name for name in plan.arms if name != plan.base]
    found = [crossed_difference(errors[name], errors[plan.base]) for name in others]
    adjusted = holm([each.cautious_p_value for each in found])
    return {
        "test": len(errors[plan.base][0]),
        "rates": rates,
        "validation": validation,
        "errors": {name: [int(each.sum()) for each in some] for name, some in errors.items()},
        "teachers": teachers,
        "differences": {
            name: {"p": float(p), **dataclasses.asdict(each.interval(0.95))}
            for name, each, p in zip(others, found, adjusted, strict=True)
        },
        "trainings": len(list((bench.out / bench.job / "students").rglob("*.json"))) + len(tasks),
        "seconds": time.perf_counter() - began,
    }


def taught(bench: Bench, name: str, seeds: Sequence[int]) -> list[NDArray[np.bool_]]:
    """Where a teacher errs on the test set, for each seed, or once for an ensemble."""
    plan, test = bench.plan.teachers[name], opened(bench).test
    assert test is not None
    assert test.labels is not None
    numbers = [0] if plan.members > 1 else seeds
    rows = []
    for number in numbers:
        stored = asked(bench, name, number, test, live=False)
        rows.append((stored.values[0].argmax(1).cpu() != test.labels).numpy())
    return rows


def study(bench: Bench, found: Mapping[str, Any], seeds: Sequence[int], command: str) -> Study:
    """The page."""
    plan, count = bench.plan, found["test"]

    def row(title: str, numbers: Sequence[int], more: tuple[str, ...]) -> tuple[str, ...]:
        mean = sum(numbers) / len(numbers)
        return (title, f"{mean:.1f}", f"{100 - 100 * mean / count:.2f} %", ", ".join(map(str, numbers)), *more)

    rows = [row(f"{name}: {'mean of ' + str(p.members) if p.members > 1 else 'on labels'}", found["teachers"][name],
                ("", "", "", "")) for name, p in plan.teachers.items()]  # fmt: skip
    for name, arm in plan.arms.items():
        validation = found["validation"][name]
        told = "–" if arm.everything else f"{sum(validation) / len(validation):.1f}"
        other = found["differences"].get(name)
        against = ("", "")
        if other is not None:
            interval = Interval(other["estimate"], other["low"], other["high"], 0.95)
            against = (in_points(interval), f"{other['p']:.2g}")
        rows.append(row(arm.title, found["errors"][name], (told, f"{found['rates'][name]:g}", *against)))
    heading = ("", "test errors", "accuracy", "seed by seed", "validation errors", "rate",
               f"against “{plan.arms[plan.base].title}”", "p, adjusted")  # fmt: skip
    shown = [name for name, other in found["differences"].items() if other["p"] < 0.05]
    answer = "Of the comparisons below none show a difference once they are adjusted for their number."
    if shown:
        said = [
            f"{plan.arms[name].title} ({100 * found['differences'][name]['estimate']:+.2f} points)" for name in shown
        ]
        answer = f"Shown, after adjustment, against “{plan.arms[plan.base].title}”: {'; '.join(said)}."
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    titles, values = zip(*((arm.title, found["errors"][name]) for name, arm in plan.arms.items()), strict=True)
    epochs, batch = plan.training["epochs"], plan.training["batch_size"]
    return Study(
        f"patience-{bench.job}",
        plan.title,
        plan.about,
        answer,
        command,
        (f"{datetime.now(UTC):%Y-%m-%d}", device, f"torch {torch.__version__}",
         f"{found['trainings']} trainings, {found['seconds'] / 60:.0f} min"),
        (Table("Test errors", heading, tuple(rows)),),
        (Drawing("results", "At a glance", "Each dot is a seed, the bar their mean.",
                 draw_results(titles, values, [None] * len(titles), "test errors")),),
        (f"Students train for {epochs} epochs in batches of {batch} with AdamW and a cosine schedule where the row "
         "does not say otherwise, in float32, and end with their last weights. Each row's learning rate was chosen "
         "among two or three on validation, with a seed of its own. Intervals are crossed over seeds and test "
         "examples; p-values are adjusted by Holm. The test set was read once, after the last training.",),
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Train what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=sorted(JOBS))
    parser.add_argument("--data", help="what the job learns from; mnist by default")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, help="folder for the page as Markdown, with its figure")
    parser.add_argument("--arms", nargs="+", default=[], metavar="NAME", help="some of the rows, by name")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    if unknown := set(options.arms) - set(JOBS[options.job].arms):
        parser.error(f"--arms knows no {sorted(unknown)[0]}: {', '.join(JOBS[options.job].arms)}")
    bench = Bench(options.job, options.data, options.out, options.quick, tuple(options.arms))
    seeds = range(options.seeds)
    kept = bench.out / bench.job / "found.json"
    if not kept.is_file():
        found = measure(bench, seeds, options.jobs)
        kept.write_text(json.dumps(found, indent=1))
    found, folder = json.loads(kept.read_text()), kept.parent
    command = f"python {' '.join(sys.argv)}"
    written = write_study(study(bench, found, seeds, command), folder / "report.html", options.results or folder)
    print(written.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
