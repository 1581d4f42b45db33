"""Specialists for classes that are easily confused, and back into one network: recipe ``specialists``."""

__all__ = ["run"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.data.data_set import DataSet
from limbeck.evaluation.prediction import predict
from limbeck.evaluation.statistics import mean_interval
from limbeck.recipes.findings import Findings, Order, spread
from limbeck.recipes.letters import Letters, accuracy, letters
from limbeck.recipes.series import Cell, Series
from limbeck.report import Drawing, Table
from limbeck.report.figures_study import draw_bars
from limbeck.runs.measure import labels_of
from limbeck.specialists import (
    Committee,
    SpecialistData,
    confusable_groups,
    correct_dustbin,
    specialist_data,
    specialist_network,
)
from limbeck.system.jobs import run_jobs
from limbeck.teachers import StoredTargets

_TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
_MOST, _LARGEST = 32, 50
"""Specialists, and classes of each, where there are many classes."""
_NAMED = 8
"""Classes of a specialist that the table names."""


@dataclass(frozen=True, eq=False)
class _Round:
    """Generalist, specialists and students of one seed."""

    generalist: Cell
    groups: list[tuple[int, ...]]
    committee: Committee
    distilled: Cell
    control: Cell


@dataclass(frozen=True)
class _Job:
    """A specialist to train in a process of its own: everything there is to know for it."""

    out: Path
    recipe: str
    quick: bool
    epochs_factor: float
    source: str | None
    seed: int
    number: int
    group: tuple[int, ...]


def run(series: Series, order: Order) -> Findings:
    """Find confusable classes, train their specialists, combine them, and distil all of it into one network.

    Args:
        series: Where trainings are kept.
        order: Names the data, and how many specialists train at the same time.

    Returns:
        Accuracies on the test set, also by the number of specialists that cover a class.
    """
    here = letters(series, order.data)
    maker = _Maker(here, order)
    first = maker.committee(0)
    answers = maker.answers(first)
    trials = {temperature: maker.student(0, answers, temperature) for temperature in _TEMPERATURES}
    best = min(trials, key=lambda temperature: trials[temperature].errors)
    rounds = [maker.round(seed, best) for seed in series.seeds]

    # All choices are made: now the test set is read.
    judged = [(predict(r.generalist.model, here.test), predict(r.committee, here.test)) for r in rounds]
    values: dict[str, list[float]] = {
        "generalist": [accuracy(general, here.truth) for general, _ in judged],
        "specialists": [accuracy(together, here.truth) for _, together in judged],
        "distilled": [here.accuracy(r.distilled.model) for r in rounds],
        "control": [here.accuracy(r.control.model) for r in rounds],
    }
    mean = {key: float(np.mean(numbers)) for key, numbers in values.items()}
    gain = mean["specialists"] - mean["generalist"]
    coverage = _coverage(here, rounds, judged)
    return Findings(
        values,
        {
            "specialists": f"{len(rounds[0].groups)} specialists of {len(rounds[0].groups[0])} classes",
            "distilled": f"T = {best:g}, {rounds[0].distilled.epochs} epochs",
            "control": "the same weights, views, temperature and epochs",
        },
        f"Specialists change accuracy by {_points(values, 'specialists', 'generalist')}, "
        f"{100 * gain / mean['generalist']:+.1f} % of the generalist's (paper: +4.4 %). One network distilled from "
        f"generalist and specialists is right in {mean['distilled']:.2f} %, against {mean['control']:.2f} % for the "
        f"same network taught by the generalist alone: {_points(values, 'distilled', 'control')}.",
        (_clusters(here, rounds[0], judged[0][0]), _coverage_table(coverage)),
        (
            Drawing(
                "coverage",
                "Gain by coverage",
                "What specialists add to the generalist's test accuracy, for classes that so many of them cover: each "
                "dot is a seed, the bar their mean; below it the number of test examples.",
                draw_bars(
                    [str(row.covering) for row in coverage],
                    {"gain": [row.gains for row in coverage]},
                    x_label="specialists that cover the class",
                    y_label="gain in accuracy (points)",
                    notes=[f"n = {row.examples:.0f}" for row in coverage],
                ),
            ),
        ),
        (
            here.about(),
            "Groups are clusters of the columns of the covariance matrix of the generalist's predictions for its "
            "training examples, by on-line k-means, filled up with the classes most often predicted with theirs, so "
            "groups overlap and some classes are in none. A specialist starts as the generalist, whose other classes "
            "together are its dustbin, learns from labels for 20 epochs, and is asked where the generalist's top-1 "
            "class is one of its own.",
            "Within: of the test examples of its classes, how many are told from each other. Apart: of all test "
            "examples, how many are rightly held for one of its classes or for none, after the dustbin's correction.",
            f"All networks are {here.network}{' with shifts by up to a pixel' if here.jitter else ''}. Validation "
            "chose each network's epoch and, with the first seed, the temperature of the students; these have the "
            "initial weights of another seed than the generalist, and learn from soft targets alone.",
        ),
    )


def _points(values: Mapping[str, Sequence[float]], one: str, other: str) -> str:
    """Difference of two rows, seed by seed, and its interval."""
    apart = [a - b for a, b in zip(values[one], values[other], strict=True)]
    interval = mean_interval(apart)
    said = f" (95 % interval over seeds {interval.low:+.2f} to {interval.high:+.2f})" if len(apart) > 1 else ""
    return f"{interval.estimate:+.2f} points{said}"


class _Maker:
    """Trains generalists, specialists and students, each in its cell."""

    def __init__(self, here: Letters, order: Order) -> None:
        self.here, self.series, self.order = here, here.series, order
        classes = len(here.data.classes)
        self.groups, self.size = max(2, min(classes // 3, _MOST)), max(2, min(classes // 5, _LARGEST))

    def round(self, seed: int, temperature: float) -> _Round:
        """Everything of one seed."""
        generalist, committee = self.generalist(seed), self.committee(seed)
        return _Round(
            generalist,
            committee.groups,
            committee,
            self.student(seed, self.answers(committee), temperature),
            self.student(seed, self.answers(generalist.model), temperature, "control"),
        )

    def generalist(self, seed: int) -> Cell:
        """The network that knows all classes."""
        here = self.here
        return self.series.train(
            "generalist",
            here.make(),
            here.data,
            here.training(40, seed=seed),
            augmentation=here.jitter,
            settings={"network": here.network},
        )

    def committee(self, seed: int) -> Committee:
        """The generalist with its specialists, trained in processes beside each other where that was asked."""
        here, generalist = self.here, self.generalist(seed)
        groups = self.groups_of(predict(generalist.model, here.data.train), seed)
        if self.order.jobs > 1 or self.order.ray is not None:
            out = self.series.root.parent if self.series.quick else self.series.root
            shared = (out, self.series.recipe, self.series.quick, self.series.epochs_factor, self.order.data, seed)
            tasks = [partial(_train_apart, _Job(*shared, number, group)) for number, group in enumerate(groups)]
            run_jobs(tasks, jobs=self.order.jobs, ray=self.order.ray)
        found = [self.specialist(seed, number, group) for number, group in enumerate(groups)]
        return Committee(
            generalist.model,
            [cell.model for cell, _ in found],
            groups,
            [data.oversampling for _, data in found],
            classes=here.data.classes,
        )

    def groups_of(self, answers: Tensor, seed: int) -> list[tuple[int, ...]]:
        """Classes that are confused with each other, of those that occur in training."""
        groups = confusable_groups(answers, self.groups, size=self.size, seed=seed)
        found = set(np.unique(labels_of(self.here.data.train)).tolist())
        return [left for group in groups if (left := tuple(k for k in group if k in found))]

    def specialist(self, seed: int, number: int, group: tuple[int, ...]) -> tuple[Cell, SpecialistData]:
        """A network for a few classes, which starts as good as the generalist."""
        here, generalist = self.here, self.generalist(seed)
        assert here.data.validation is not None
        learnt = specialist_data(here.data.train, group, seed=seed)
        names = (*(here.data.classes[k] for k in group), "(all others)")
        data = DataSet(
            f"{here.data.name}, specialist {number + 1}",
            names,
            learnt.examples,
            validation=specialist_data(here.data.validation, group, seed=seed, allow_missing=True).examples,
        )
        cell = self.series.train(
            f"specialist-{number + 1}",
            lambda _: specialist_network(generalist.model, group, oversampling=learnt.oversampling),
            data,
            here.training(20, seed=seed),
            augmentation=here.jitter,
            settings={"special": list(group), "generalist": generalist.name},
        )
        return cell, learnt

    def answers(self, teacher: Committee | nn.Module) -> Callable[[], StoredTargets]:
        """A teacher's outputs for all views, for every temperature; worked out for the first student that asks."""
        here = self.here
        return self.series.answers(teacher, here.data.train, here.data.classes, augmentation=here.jitter)

    def student(
        self, seed: int, answers: Callable[[], StoredTargets], temperature: float, name: str = "student"
    ) -> Cell:
        """One network of soft targets: of generalist and specialists, or of the generalist alone."""
        here = self.here
        return self.series.distil(
            f"{name}-T{temperature:g}",
            here.make(),
            answers,
            here.data,
            here.training(60, seed=100 + seed),
            temperature=temperature,
            augmentation=here.jitter,
            settings={"network": here.network, "teacher": f"{name} of seed {seed}"},
        )


def _train_apart(job: _Job) -> None:
    """Train a specialist in a process of its own: it leaves a cell on the disk."""
    series = Series(job.out, job.recipe, quick=job.quick, epochs_factor=job.epochs_factor)
    _Maker(letters(series, job.source), Order(job.source)).specialist(job.seed, job.number, job.group)


@dataclass(frozen=True)
class _Coverage:
    """Classes that a number of specialists cover, means over seeds."""

    covering: int
    examples: float
    before: float
    after: float
    gains: tuple[float, ...]


def _coverage(here: Letters, rounds: Sequence[_Round], answers: Sequence[tuple[Tensor, Tensor]]) -> list[_Coverage]:
    """Accuracy by how many specialists cover the true class."""
    found: dict[int, list[tuple[int, float, float]]] = {}
    for networks, (general, together) in zip(rounds, answers, strict=True):
        counts: NDArray[np.int64] = np.zeros(len(here.data.classes), np.int64)
        for group in networks.groups:
            counts[list(group)] += 1
        of_example = torch.from_numpy(counts)[here.truth]
        for covering in np.unique(counts).tolist():
            rows = of_example == covering
            found.setdefault(covering, []).append(
                (
                    int(rows.sum()),
                    accuracy(general[rows], here.truth[rows]),
                    accuracy(together[rows], here.truth[rows]),
                )
            )
    return [
        _Coverage(
            covering,
            float(np.mean([row[0] for row in rows])),
            float(np.mean([row[1] for row in rows])),
            float(np.mean([row[2] for row in rows])),
            tuple(row[2] - row[1] for row in rows),
        )
        for covering, rows in sorted(found.items())
    ]


def _coverage_table(coverage: Sequence[_Coverage]) -> Table:
    rows = tuple(
        (str(row.covering), f"{row.examples:,.0f}", f"{row.before:.2f} %", f"{row.after:.2f} %", spread(row.gains, "%"))
        for row in coverage
    )
    heading = ("specialists covering the class", "test examples", "generalist", "with specialists", "gain (points)")
    return Table("Gain by coverage", heading, rows)


def _clusters(here: Letters, networks: _Round, general: Tensor) -> Table:
    """Each specialist's classes, and whether it knows them better than the generalist does."""
    committee = networks.committee
    rows = []
    for number, (group, share) in enumerate(zip(networks.groups, committee.oversampling, strict=True)):
        own = correct_dustbin(predict(committee.specialists[number], here.test), share)
        theirs = torch.cat([general[:, list(group)], torch.zeros(len(general), 1)], 1)
        special = torch.isin(here.truth, torch.tensor(group))
        place = torch.searchsorted(torch.tensor(group), here.truth[special])
        numbers = []
        for scores in (theirs, own):
            within = accuracy(scores[special, :-1], place)
            inside = scores[:, :-1].logsumexp(1).exp() > 0.5
            numbers.append((within, 100 * float((inside == special).float().mean())))
        (within, apart), (own_within, own_apart) = numbers
        rows.append(
            (
                str(number + 1),
                " ".join(here.data.classes[k] for k in group[:_NAMED]) + (" ..." if len(group) > _NAMED else ""),
                f"{share:.1f}",
                f"{within:.2f} %",
                f"{own_within:.2f} %",
                f"{apart:.2f} %",
                f"{own_apart:.2f} %",
            )
        )
    heading = ("specialist", "classes", "oversampling", "within: generalist", "it", "apart: generalist", "it")
    return Table("Each specialist of the first seed, beside the generalist", heading, tuple(rows))
