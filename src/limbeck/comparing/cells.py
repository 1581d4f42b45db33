"""One training of a comparison: a run with its results, loaded if it is finished."""

__all__ = ["Bench", "Cell", "Found", "errors_of", "train_cell"]

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from limbeck.comparing.arms import Arm, Settings
from limbeck.data.data_set import DataSet
from limbeck.errors import FormatError, RunError
from limbeck.options import Augmentation, ModelOptions, Training
from limbeck.protocols import Answering
from limbeck.runs.distilling import distill
from limbeck.runs.measure import answers_of, labels_of
from limbeck.system.callbacks import Callback
from limbeck.system.files import read_json, replace_json

_NAME = "cell.json"


@dataclass(frozen=True)
class Found:
    """The results of one training.

    Attributes:
        errors: On validation, at the epoch that was kept.
        nll: Mean negative log-likelihood there, nats per example.
        epoch_seconds: Mean time of an epoch.
        wrong: Test examples that it gets wrong, by number; None where the test set was not read.
    """

    errors: int
    nll: float
    epoch_seconds: float
    wrong: tuple[int, ...] | None


class _Quiet(Callback):
    """One of very many trainings: its epochs and notes are not shown; what is odd was told once, before."""

    def on_note(self, text: str) -> None:
        """Nothing."""

    def on_warning(self, text: str) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Cell:
    """A training to be made.

    Attributes:
        folder: Where it is kept.
        arm: Which arm it belongs to.
        settings: How it is trained.
        seed: Of weights, order and views.
        judged: Whether the test set is read.
        common: What all cells of the comparison agree in, such as the teacher's digest.
    """

    folder: Path
    arm: Arm
    settings: Settings
    seed: int
    judged: bool
    common: str

    def identity(self) -> dict[str, Any]:
        """What a cell on the disk must agree in."""
        made = {"arm": dataclasses.asdict(self.arm), "settings": dataclasses.asdict(self.settings), "seed": self.seed}
        plain: dict[str, Any] = json.loads(json.dumps({**made, "common": self.common}))
        return plain


@dataclass(frozen=True)
class Bench:
    """The shared inputs of all cells of a comparison.

    Attributes:
        teacher: As :func:`limbeck.distill` takes it; it is not asked where labels alone count.
        student: A function that makes a module from a seed, or a name.
        data: All parts; a run itself never gets the test set.
        training: The settings that no search changes.
        augmentation: The augmentation, or None.
    """

    teacher: nn.Module | Answering
    student: Callable[[int], nn.Module] | str | ModelOptions
    data: DataSet
    training: Training
    augmentation: Augmentation | None


def train_cell(cell: Cell, bench: Bench) -> Found:
    """Train a cell, resume it, or load it if it is finished.

    Args:
        cell: Which.
        bench: What all cells have in common.

    Returns:
        The results.

    Raises:
        RunError: If the folder holds another training.
    """
    known = _read(cell)
    if known is not None:
        return known
    settings, arm = cell.settings, cell.arm
    options = dataclasses.replace(
        bench.training,
        seed=cell.seed,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        label_smoothing=settings.label_smoothing,
    )
    asked: dict[str, Any] = {}
    if arm.method is not None:
        asked = {"method": arm.method, "method_options": [f"{name}={value!r}" for name, value in settings.options]}
    if settings.temperature is not None:
        asked["temperature"] = settings.temperature
    run = distill(
        bench.teacher,
        bench.student,
        dataclasses.replace(bench.data, test=None),
        hard_weight=settings.hard_weight,
        augmentation=bench.augmentation,
        baseline=False,
        out=cell.folder,
        resume=True,
        callbacks=_Quiet(),
        progress=False,
        **asked,
        **dataclasses.asdict(options),
    )
    best = min(run.history, key=lambda row: (row["validation_errors"], row["validation_nll"]))
    found = Found(
        int(best["validation_errors"]),
        float(best["validation_nll"]),
        sum(row["seconds"] for row in run.history) / len(run.history),
        _wrong(run.student, bench.data) if cell.judged else None,
    )
    replace_json(cell.folder / _NAME, {**cell.identity(), **dataclasses.asdict(found)})
    return found


def errors_of(found: Found, count: int) -> NDArray[np.bool_]:
    """The test examples with errors of a training, bool ``(N,)``."""
    assert found.wrong is not None, "the cell was judged"
    errors = np.zeros(count, bool)
    errors[list(found.wrong)] = True
    return errors


def _wrong(model: nn.Module, data: DataSet) -> tuple[int, ...]:
    assert data.test is not None, "a comparison has a test set"
    wrong = answers_of(model, data.test).predicted != labels_of(data.test)
    return tuple(int(number) for number in np.flatnonzero(wrong))


def _read(cell: Cell) -> Found | None:
    file = cell.folder / _NAME
    if not file.is_file():
        return None
    try:
        kept = read_json(file)
        wrong = kept["wrong"]
        found = Found(int(kept["errors"]), float(kept["nll"]), float(kept["epoch_seconds"]), None)
        found = found if wrong is None else dataclasses.replace(found, wrong=tuple(map(int, wrong)))
        other = next((name for name, value in cell.identity().items() if kept[name] != value), None)
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(file, f"is damaged ({error}): delete {cell.folder}, and it is trained anew") from None
    if other is not None or (cell.judged and found.wrong is None):
        which = "" if other is None else f" ({other} = {kept[other]}, and now it is {cell.identity()[other]})"
        raise RunError(f"{cell.folder} holds another training{which}: choose another out (--out), or delete it")
    return found
