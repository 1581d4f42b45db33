"""Soft targets instead of most of the data: recipe ``soft-regulariser``."""

__all__ = ["run"]

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import torch

from limbeck.data.data_set import DataSet
from limbeck.evaluation.prediction import predict
from limbeck.recipes.findings import Findings, Order, temperature_table
from limbeck.recipes.letters import Letters, accuracy, letters
from limbeck.recipes.series import Cell, Series
from limbeck.report import Drawing
from limbeck.report.figures_study import draw_curves
from limbeck.runs.measure import labels_of
from limbeck.teachers import StoredTargets

_SHARE = 0.03
_TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


def run(series: Series, order: Order) -> Findings:
    """Train on all of the data, on 3 % with hard targets, and on the same 3 % with soft targets.

    Args:
        series: Where trainings are kept.
        order: Names the data.

    Returns:
        Accuracies on the test set.
    """
    here = letters(series, order.data)
    share = 0.2 if series.quick else _SHARE
    make, settings = here.make(), {"network": here.network}

    def everything(seed: int) -> Cell:
        return series.train("all-hard", make, here.data, here.training(40, seed=seed), settings=settings)

    def few_hard(seed: int) -> Cell:
        training = here.training(200, seed=seed, patience=20)
        part = here.part(share, seed=seed)
        return series.train("few-hard", make, part, replace(training, schedule="constant"), settings=settings)

    @cache
    def taught(seed: int) -> tuple[DataSet, Callable[[], StoredTargets]]:
        part = here.part(share, seed=seed)
        return part, series.answers(everything(seed).model, part.train, part.classes)

    def few_soft(seed: int, temperature: float) -> Cell:
        part, answers = taught(seed)
        return series.distil(
            f"few-soft-T{temperature:g}",
            make,
            answers,
            part,
            here.training(400, seed=seed),
            temperature=temperature,
            settings={**settings, "teacher": everything(seed).name},
        )

    trials = {temperature: few_soft(0, temperature) for temperature in _TEMPERATURES}
    errors = {temperature: cell.errors for temperature, cell in trials.items()}
    best = min(errors, key=errors.__getitem__)
    tried = temperature_table(
        "Validation errors by temperature, first seed, soft targets on the small part", errors, best
    )
    rounds = [(everything(seed), few_hard(seed), few_soft(seed, best)) for seed in series.seeds]

    # All choices are made: now the test set is read.
    values = _values(here, share, dict(zip(series.seeds, rounds, strict=True)))
    mean = {key: float(np.mean(numbers)) for key, numbers in values.items()}
    lost = mean["all_hard"] - mean["few_hard"]
    undone = 100 * (mean["few_soft"] - mean["few_hard"]) / lost if lost > 0 else 0.0
    count = len(here.part(share, seed=0).train)
    return Findings(
        values,
        {
            "few_hard": f"{count:,} examples, another sample a seed; stopped where validation no longer improved",
            "few_soft": f"T = {best:g}; not stopped early",
        },
        f"With {100 * share:g} % of the data, hard targets lose {lost:.2f} points against all of the data; soft "
        f"targets undo {undone:.0f} % of that loss (paper, on speech: 87 %).",
        (tried,),
        (_curves(rounds, best, series),),
        (
            here.about(),
            f"All networks are the same ({here.network}), without jitter. The teacher is the network trained on all of "
            "the data with the same seed. Validation chose each network's epoch, and the temperature with the first "
            "seed; it is larger than the small part, as it is for all networks alike.",
        ),
    )


def _values(here: Letters, share: float, rounds: Mapping[int, tuple[Cell, Cell, Cell]]) -> dict[str, list[float]]:
    """Test accuracies by seed, and that of the network on few hard targets on what it learnt from."""
    values: dict[str, list[float]] = {}
    for seed, (whole, hard, soft) in rounds.items():
        train = here.part(share, seed=seed).train
        values.setdefault("all_hard", []).append(here.accuracy(whole.model))
        values.setdefault("few_hard", []).append(here.accuracy(hard.model))
        own = accuracy(predict(hard.model, train), torch.from_numpy(labels_of(train)))
        values.setdefault("few_hard_train", []).append(own)
        values.setdefault("few_soft", []).append(here.accuracy(soft.model))
    return values


def _curves(rounds: list[tuple[Cell, Cell, Cell]], temperature: float, series: Series) -> Drawing:
    shares = {
        "hard targets": series.history(rounds[0][1], "validation_accuracy"),
        "soft targets": series.history(rounds[0][2], "validation_accuracy"),
    }
    length = min(map(len, shares.values()))
    places = np.unique(np.linspace(1, length, min(length, 12)).astype(int))
    return Drawing(
        "curves",
        "Learning from the small part",
        "Accuracy on validation by epoch, first seed, for as long as hard targets went on: they reach their best "
        f"early, soft targets (T = {temperature:g}) go on improving.",
        draw_curves(
            [float(place) for place in places],
            {name: 100 * np.array(numbers)[None, places - 1] for name, numbers in shares.items()},
            x_label="epoch",
            y_label="validation accuracy (%)",
        ),
    )
