"""Students that never saw some digits, and what a bias does for them: recipes ``missing-digit`` and ``seven-eight``."""

__all__ = ["run"]

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.evaluation.prediction import predict
from limbeck.recipes.digits import Digits, digits
from limbeck.recipes.findings import Findings, Order
from limbeck.recipes.series import Cell, Series
from limbeck.report import Drawing, Table
from limbeck.report.figures_study import draw_curves, draw_gallery
from limbeck.runs.measure import labels_of
from limbeck.runs.models_for_data import model_maker
from limbeck.training.bias import fix_bias, matching_shift

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHIFTS = tuple(round(0.1 * step, 1) for step in range(151))
"""Sizes of a shift that are tried with labels."""


@dataclass(frozen=True)
class _Case:
    """What the two recipes differ in.

    Attributes:
        classes: Whose bias is wrong: the digits never seen, or the only ones seen.
        absent: Whether these are the ones never seen; their bias is then raised, else lowered.
        epochs: Of the student.
        temperatures: Tried on the first seed.
    """

    classes: tuple[int, ...]
    absent: bool
    epochs: int
    temperatures: tuple[float, ...]

    @property
    def sign(self) -> int:
        return 1 if self.absent else -1


_CASES = {
    "missing-digit": _Case((3,), True, 40, (2.0, 4.0, 8.0, 20.0)),
    "seven-eight": _Case((7, 8), False, 100, (2.0, 4.0, 8.0, 20.0)),
}


def run(series: Series, order: Order) -> Findings:
    """Distil on what there is, choose the temperature on validation, and correct the biases in three ways.

    Args:
        series: Where trainings are kept.
        order: Not used.

    Returns:
        Errors on the test set before and after.
    """
    case, here = _CASES[series.recipe], digits(series)
    temperatures = case.temperatures[:2] if series.quick else case.temperatures
    transfer = here.without(*case.classes) if case.absent else here.only(*case.classes)
    transfer = replace(transfer, validation=None)  # no label has a say in the training: its last epoch is taken
    teacher = here.teacher(0)
    answers = series.answers(teacher.model, transfer.train, transfer.classes)
    make = model_maker(here.network(800, 800), here.data)

    def student(temperature: float, seed: int) -> Cell:
        return series.distil(
            f"student-T{temperature:g}",
            make,
            answers,
            transfer,
            here.training(case.epochs, seed=seed),
            temperature=temperature,
            settings={"network": "mlp 800 800", "teacher": teacher.name},
        )

    first = {temperature: student(temperature, 0) for temperature in temperatures}
    trials = {temperature: _trial(here, case, cell.model) for temperature, cell in first.items()}
    best = min(trials, key=lambda temperature: trials[temperature].after_prior)
    cells = [first[best] if seed == 0 else student(best, seed) for seed in series.seeds]
    students = [_trial(here, case, cell.model) for cell in cells]

    # All choices are made: now the test set is read.
    return _judge(here, case, best, trials, students)


@dataclass(frozen=True, eq=False)
class _Trial:
    """A student, the shifts that validation digits ask for, and its errors on them."""

    model: nn.Module
    by_labels: float
    by_prior: float
    by_all: Tensor
    before: int
    after_labels: int
    after_prior: int
    curve: NDArray[np.int64]

    def fixed(self, case: _Case, how: str) -> nn.Module:
        """The student with another bias."""
        if how == "all":
            return fix_bias(self.model, self.by_all)
        size = self.by_labels if how == "labels" else self.by_prior
        return fix_bias(self.model, dict.fromkeys(case.classes, case.sign * size))


def _trial(here: Digits, case: _Case, model: nn.Module) -> _Trial:
    assert here.data.validation is not None and here.data.train.labels is not None
    scores = predict(model, here.data.validation)
    labels = torch.from_numpy(labels_of(here.data.validation))
    prior = torch.bincount(here.data.train.labels, minlength=len(here.data.classes))
    group = list(case.classes)
    one = matching_shift(scores, prior, groups=[group])
    moved = torch.zeros_like(scores)

    def errors(size: float) -> int:
        moved[:, group] = case.sign * size
        return int(((scores + moved).argmax(-1) != labels).sum())

    curve = np.array([errors(size) for size in _SHIFTS])
    least = np.flatnonzero(curve == curve.min())
    middle = int(least[len(least) // 2])  # of equally good shifts the one in the middle
    by_prior = case.sign * float(one[group[0]])
    return _Trial(
        model,
        _SHIFTS[middle],
        by_prior,
        matching_shift(scores, prior),
        int(curve[0]),
        int(curve[middle]),
        errors(by_prior),
        curve,
    )


def _judge(
    here: Digits, case: _Case, temperature: float, trials: dict[float, _Trial], students: list[_Trial]
) -> Findings:
    assert here.whole.test is not None
    truth = torch.from_numpy(labels_of(here.whole.test))
    of_class = torch.isin(truth, torch.tensor(case.classes))
    values = _values(here, case, students, of_class)
    listed = ", ".join(f"{trial.by_labels:.1f}" for trial in students)
    found = ", ".join(f"{trial.by_prior:.1f}" for trial in students)
    word = "raised" if case.absent else "lowered"
    theirs = "3.5" if case.absent else "7.6"
    plain, prior = float(np.mean(values["plain"])), float(np.mean(values["prior"]))
    unit = "errors" if case.absent else "% errors"
    answer = (
        f"Without any label, the bias takes the student from {plain:.1f} to {prior:.1f} {unit}; with labels of "
        f"validation it is {float(np.mean(values['labels'])):.1f}."
    )
    of = "threes, which it never saw" if case.absent else "digits, of which it saw only 7s and 8s"
    return Findings(
        values,
        {
            "plain": f"T = {temperature:g}",
            "labels": f"{word} by {listed} (paper: {theirs})",
            "prior": f"{word} by {found}",
        },
        answer,
        (_temperatures(trials, temperature),),
        (
            _bias_curves(here, case, students, word),
            Drawing(
                "gallery",
                "A student's predictions before and after",
                f"Test {of}, where the bias changes the answer. The bars are the probabilities of the ten digits, "
                "first of the student as it is, then with the bias that fits the shares of unlabelled digits.",
                _gallery(here, case, students[0], of_class),
            ),
        ),
        (
            f"One teacher (seed 0) taught all students. The temperature was chosen from {_listed(trials)} on the "
            "validation digits with the first seed, after the label-free correction. Students are of the last epoch, "
            "2x800, soft targets alone, no jitter.",
            "By labels: the shift with fewest errors on validation, in steps of 0.1 up to 15. By share: the "
            "probabilities that the student gives to the images of the validation digits, whose labels are not used, "
            "agree on average with the classes' shares of the training set (`limbeck.fix_bias`).",
        ),
    )


def _values(here: Digits, case: _Case, students: list[_Trial], of_class: Tensor) -> dict[str, list[float]]:
    """Test errors, or their share, of each student as it is and with each bias."""
    values: dict[str, list[float]] = {}
    for trial in students:
        models = {"plain": trial.model} | {how: trial.fixed(case, how) for how in ("labels", "prior", "all")}
        for key, model in models.items():
            wrong = here.wrong(model)
            count = float(wrong.sum())
            values.setdefault(key, []).append(count if case.absent else 100 * count / len(wrong))
            if case.absent:
                values.setdefault(f"{key}_threes", []).append(float((wrong & of_class).sum()))
    return values


def _bias_curves(here: Digits, case: _Case, students: list[_Trial], word: str) -> Drawing:
    return Drawing(
        "bias",
        "What the bias does",
        f"Errors on {len(here.data.validation or [])} validation digits as the bias is {word}, one curve per seed. The "
        f"label-free rule sees none of these errors.",
        draw_curves(
            _SHIFTS[::10],
            {f"seed {n}": trial.curve[None, ::10].astype(float) for n, trial in enumerate(students)},
            x_label=f"bias of {' and '.join(map(str, case.classes))} {word} by",
            y_label="validation errors",
            log_y=True,
        ),
    )


def _listed(trials: dict[float, _Trial]) -> str:
    return ", ".join(f"{temperature:g}" for temperature in trials)


def _temperatures(trials: dict[float, _Trial], chosen: float) -> Table:
    rows = [
        (
            f"{temperature:g}" + (" (chosen)" if temperature == chosen else ""),
            str(trial.before),
            f"{trial.after_prior} ({trial.by_prior:.1f})",
            f"{trial.after_labels} ({trial.by_labels:.1f})",
        )
        for temperature, trial in trials.items()
    ]
    heading = ("T", "as it is", "bias by share (shift)", "bias by labels (shift)")
    return Table("Validation errors by temperature, first seed", heading, tuple(rows))


def _gallery(here: Digits, case: _Case, trial: _Trial, of_class: Tensor) -> "Figure":
    assert here.whole.test is not None
    kinds = {"as it is": trial.model, "bias fitted": trial.fixed(case, "prior")}
    pool = (of_class if case.absent else ~of_class).nonzero().flatten()
    before, after = (predict(model, here.whole.test.take(pool)).argmax(-1) for model in kinds.values())
    changed = pool[before != after]
    pool = changed if len(changed) else pool
    few = here.whole.test.take(pool[:: max(1, len(pool) // 9)][:9])
    answers = {name: predict(model, few).exp().double().numpy() for name, model in kinds.items()}
    return draw_gallery(few.pixels()[:, 0].numpy(), answers, here.data.classes)
