"""From a large network to a very small one by way of one in between: recipe ``assistants``."""

__all__ = ["run"]

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import nn

from limbeck.options import ModelOptions
from limbeck.recipes.findings import Findings, Order
from limbeck.recipes.letters import Letters, letters
from limbeck.recipes.series import Cell, Series
from limbeck.report import Table
from limbeck.runs.models_for_data import model_maker

_TEMPERATURES = (1.0, 2.0, 4.0, 8.0)


def run(series: Series, order: Order) -> Findings:
    """Distil a teacher into a small student directly, and through an assistant of a size in between.

    Args:
        series: Where trainings are kept.
        order: Names the data.

    Returns:
        Test accuracies of teacher, assistant and students.
    """
    here = letters(series, order.data)
    teacher_width, assistant_width, student_width = (24, 12, 4) if series.quick else (1200, 160, 20)

    def on_labels(name: str, width: int, seed: int, times: int = 1) -> Cell:
        return series.train(
            name,
            _maker(here, width),
            here.data,
            here.training(times * 30, seed=seed),
            augmentation=here.jitter,
            settings={"network": f"mlp {width}"},
        )

    def taught(name: str, width: int, by: Cell, seed: int, temperature: float) -> Cell:
        return series.distil(
            f"{name}-T{temperature:g}",
            _maker(here, width),
            series.answers(by.model, here.data.train, here.data.classes, augmentation=here.jitter),
            here.data,
            here.training(30, seed=seed),
            temperature=temperature,
            hard_weight=0.1,
            augmentation=here.jitter,
            settings={"network": f"mlp {width}", "teacher": by.name},
        )

    def chosen(name: str, width: int, by: Cell) -> tuple[float, Mapping[float, Cell]]:
        tried = _TEMPERATURES[::2] if series.quick else _TEMPERATURES
        trials = {each: taught(name, width, by, 1000, each) for each in tried}
        return min(trials, key=lambda each: (trials[each].errors, trials[each].validation["nll"])), trials

    teacher = on_labels("teacher", teacher_width, 0)
    helped, assistant_trials = chosen("assistant", assistant_width, teacher)
    assistant = taught("assistant", assistant_width, teacher, 0, helped)
    direct, direct_trials = chosen("direct", student_width, teacher)
    by_way, way_trials = chosen("assisted", student_width, assistant)
    cells = {
        "labels": [on_labels("student-labels", student_width, seed) for seed in series.seeds],
        "direct": [taught("direct", student_width, teacher, seed, direct) for seed in series.seeds],
        "assisted": [taught("assisted", student_width, assistant, seed, by_way) for seed in series.seeds],
    }

    # All choices are made: now the test set is read.
    values = {name: [here.accuracy(cell.model) for cell in found] for name, found in cells.items()}
    values["teacher"], values["assistant"] = [here.accuracy(teacher.model)], [here.accuracy(assistant.model)]
    trials = {"assistant": assistant_trials, "direct": direct_trials, "by way of it": way_trials}
    return Findings(
        values,
        {"assistant": f"T = {helped:g}", "direct": f"T = {direct:g}", "assisted": f"T = {by_way:g}"},
        _answer(values),
        (_trial_table(trials),),
        remarks=(
            here.about(),
            f"The teacher has {teacher_width} hidden units, the assistant {assistant_width}, the student "
            f"{student_width}; {cells['direct'][0].epochs} epochs each, labels at a weight of 0.1. Validation chose "
            "each temperature, with a seed of its own, and each network's epoch. The way through the assistant has "
            "one training more, which the student's own steps do not count.",
        ),
    )


def _maker(here: Letters, width: int) -> Callable[[int], nn.Module]:
    return model_maker(ModelOptions(model="mlp", hidden=(width,)), here.data)


def _answer(values: Mapping[str, Sequence[float]]) -> str:
    gain = np.array(values["assisted"]) - np.array(values["direct"])
    told = float(np.mean(values["direct"]) - np.mean(values["labels"]))
    return (
        f"By way of the assistant the student has {gain.mean():+.2f} points against the teacher itself (seed by seed "
        f"{', '.join(f'{each:+.2f}' for each in gain)}), and {told:+.2f} taught by the teacher itself against labels "
        "alone."
    )


def _trial_table(trials: Mapping[str, Mapping[float, Cell]]) -> Table:
    rows = tuple((name, *(str(cell.errors) for cell in found.values())) for name, found in trials.items())
    heading = ("", *(f"T = {temperature:g}" for temperature in next(iter(trials.values()))))
    return Table("Validation errors by temperature", heading, rows)
