"""What ``patience.py`` trains and asks: networks, teachers, their answers, students."""

import dataclasses
import json
import re
import time
from collections.abc import Sequence
from functools import cache
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
from limbeck.evaluation.prediction import answer_views, predict
from limbeck.models import CNN, MLP, CNNConfig, MLPConfig
from limbeck.options import Augmentation, DataOptions, Training
from limbeck.protocols import Batch, Objective
from limbeck.system.devices import find_device
from limbeck.teachers import Ensemble, ModelTeacher, StoredTargets
from limbeck.training.engine import fit
from limbeck.training.objective import DistillationObjective, LabelObjective
from patience_plans import MASKS, SEARCH_SEED, Arm, Bench, TeacherPlan


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
    data, device = opened(bench), find_device("auto", bench.plan.precision)
    settings = Training(epochs=plan.epochs, batch_size=plan.batch_size, learning_rate=plan.rate, seed=number)
    feed = Feed(data.train, batch_size=plan.batch_size, augmentation=plan.views, seed=number, device=device.device)
    model = network(bench, plan, number)
    fit(model, LabelObjective(0.0), feed, settings, device, validation=data.validation)
    save(file, model)


def save(file: Path, kept: nn.Module | torch.Tensor) -> None:
    """Keep a model's weights, or a tensor; a file is whole or not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    if isinstance(kept, torch.Tensor):
        torch.save(kept.cpu(), part)
    else:
        torch.save({name: value.cpu() for name, value in kept.state_dict().items()}, part)
    part.replace(file)


def asked(bench: Bench, name: str, seed: int, examples: Examples, views: Augmentation | None = None) -> Any:
    """The teacher of a seed: its answers to these examples, or to views of them; live where these are not counted."""
    plan, device = bench.plan.teachers[name], find_device("auto", bench.plan.precision).device
    if views is not None and views.views is not None:
        found = torch.load(answers_file(bench, name, seed, views), weights_only=True, map_location=device)
        index = examples.index.to(device)
        return StoredTargets(found.float(), index, source=examples.source)
    count = plan.members
    numbers = range(count) if count > 1 else [seed if seed != SEARCH_SEED else 0]
    models = []
    for number in numbers:
        model = network(bench, plan, number)
        model.load_state_dict(torch.load(teacher_file(bench, plan, number), weights_only=True))
        models.append(model.eval().to(device))
    if plan.masks:
        return masked(models[0], examples, bench.plan.arms["masks"].temperature, device)
    teacher = Ensemble(models, mean="geometric") if count > 1 else ModelTeacher(models[0])
    if views is not None:
        return teacher
    here = examples.to(device)
    parts = [
        teacher.log_probs(Batch(here.index[rows], 0, here.as_seen(rows), None), 1.0)
        for rows in torch.arange(len(examples), device=device).split(5000)
    ]
    return StoredTargets(torch.cat(parts), here.index, source=examples.source)


def answers_file(bench: Bench, name: str, seed: int, views: Augmentation) -> Path:
    """Where a teacher's answers to counted views are kept."""
    number = 0 if bench.plan.teachers[name].members > 1 or seed == SEARCH_SEED else seed
    kind = "turned" if views.rotate else "shifted"
    return bench.out / bench.job / "answers" / f"{name}-{number}-{kind}.pt"


def answer(bench: Bench, name: str, seed: int, views: Augmentation) -> None:
    """Ask a teacher about counted views of the training examples, unless it was."""
    file = answers_file(bench, name, seed, views)
    if file.is_file():
        return
    data, device = opened(bench), find_device("auto", bench.plan.precision)
    teacher = asked(bench, name, seed, data.train, dataclasses.replace(views, views=None))
    assert views.views is not None
    found = answer_views(teacher, data.train, views, classes=data.classes, views=views.views, device=device)
    save(file, found.values.half())


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
    plan, data, device = bench.plan, opened(bench), find_device("auto", bench.plan.precision)
    arm = plan.arms[name]
    assert data.validation is not None
    examples = together(data) if arm.everything else data.train
    settings = Training(**{**plan.training, **arm.training, "learning_rate": rate, "seed": seed})
    drawn = arm.views.active
    objective: Objective = LabelObjective(0.0)
    if arm.teacher is not None:
        objective = DistillationObjective(
            asked(bench, arm.teacher, seed, examples, arm.views if drawn else None),
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


def taught(bench: Bench, name: str, seeds: Sequence[int]) -> list[NDArray[np.bool_]]:
    """Where a teacher errs on the test set, for each seed, or once for an ensemble."""
    plan, test = bench.plan.teachers[name], opened(bench).test
    assert test is not None
    assert test.labels is not None
    numbers = [0] if plan.members > 1 else seeds
    rows = []
    for number in numbers:
        stored = asked(bench, name, number, test)
        rows.append((stored.values[0].argmax(1).cpu() != test.labels).numpy())
    return rows
