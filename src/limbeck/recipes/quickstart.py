"""MNIST in three minutes on two cores: teacher, baseline, student, verdict."""

__all__ = ["Quickstart", "expected_seconds", "quickstart", "write_page"]

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from limbeck.data import open_data
from limbeck.data.feed import Feed
from limbeck.options import Augmentation, DataOptions, ModelOptions, Training
from limbeck.runs import DistillRun, distill, train
from limbeck.runs.models_for_data import load_teacher, model_maker
from limbeck.runs.pages import TRIED
from limbeck.system.callbacks import Callback
from limbeck.system.devices import find_device
from limbeck.system.jobs import get_ready
from limbeck.training.engine import fit
from limbeck.training.objective import LabelObjective

_COMPARED = 1000
"""Test digits on which the page is compared with the student."""
_TIMED = 60
"""Steps of each training that are timed for the estimate."""
_BOTH = 1.2
"""How much longer a step takes while the other core trains too."""
_REST, _REST_BESIDE_CARD = 27.0, 11.0
"""Seconds for all but the trainings: on a processor, and where an accelerator answers."""


@dataclass(frozen=True)
class Quickstart:
    """The settings of the quickstart.

    Attributes:
        data: MNIST, with 5,000 of its training digits set aside to choose the epoch by.
        teacher: Two convolutions and 1,024 hidden units, with dropout.
        teacher_training: Its training, on digits shifted by up to two pixels.
        jitter: Those shifts. Baseline and student see the digits as they are.
        student: 784-300-300-10 without regularisation.
        student_training: The training of student and baseline alike.
        temperature: T of the soft targets.
        hard_weight: Weight of the true labels.
    """

    data: DataOptions = DataOptions(data="mnist", validation=5000)
    teacher: ModelOptions = ModelOptions(model="cnn", channels=(16, 32), hidden=(1024,), dropout=0.3)
    teacher_training: Training = Training(epochs=6, batch_size=128, learning_rate=3e-3)
    jitter: Augmentation = Augmentation(shift=2)
    student: ModelOptions = ModelOptions(model="mlp", hidden=(300, 300))
    student_training: Training = Training(epochs=20, batch_size=128, learning_rate=5e-3)
    temperature: float = 4.0
    hard_weight: float = 0.5

    def with_seed(self, seed: int) -> "Quickstart":
        """The same with other weights, orders, views and dropout."""
        return dataclasses.replace(
            self,
            teacher_training=dataclasses.replace(self.teacher_training, seed=seed),
            student_training=dataclasses.replace(self.student_training, seed=seed),
        )


def expected_seconds(settings: Quickstart = Quickstart()) -> float:  # noqa: B008
    """How long the quickstart will take on this machine: some steps of each training, times their number.

    Args:
        settings: Sizes, epochs and the rest.

    Returns:
        Seconds; measured in about one.
    """
    data = open_data(settings.data)

    def trained(model: ModelOptions, training: Training, augmentation: Augmentation | None) -> float:
        device = find_device(training.device, training.precision)

        def timed(steps: int) -> float:
            feed = Feed(
                data.train, batch_size=training.batch_size, augmentation=augmentation, seed=0, device=device.device,
                steps=steps,
            )  # fmt: skip
            few = dataclasses.replace(training, epochs=1, warmup_epochs=0.0)
            fitted = fit(model_maker(model, data)(0), LabelObjective(), feed, few, device)
            return float(fitted.timings[0]["seconds"]) / steps

        timed(3)  # the first ones plan their products
        return timed(_TIMED) * training.epochs * -(-len(data.train) // training.batch_size)

    seconds = trained(settings.teacher, settings.teacher_training, settings.jitter)
    threads, together = torch.get_num_threads(), _together(settings)
    torch.set_num_threads(1 if together else threads)
    try:
        pair = trained(settings.student, settings.student_training, None) * (_BOTH if together else 2)
    finally:
        torch.set_num_threads(threads)
    place = find_device(settings.student_training.device, "float32").device.type
    return seconds + pair + (_REST if place == "cpu" else _REST_BESIDE_CARD)


def _together(settings: Quickstart) -> bool:
    """Whether student and baseline are trained at once: networks so small gain nothing from a second core each."""
    return torch.get_num_threads() > 1 and find_device(settings.student_training.device, "float32").device.type == "cpu"


def quickstart(
    out: Path,
    settings: Quickstart = Quickstart(),  # noqa: B008
    *,
    resume: bool = False,
    callbacks: Callback | Sequence[Callback] = (),
    progress: bool = True,
) -> DistillRun:
    """Train a teacher, distil a student from it, and compare the student with its baseline.

    Args:
        out: Folder for the student's run, with the teacher's inside as ``teacher/``.
        settings: Sizes, epochs and the rest.
        resume: Continue what the folder holds.
        callbacks: Called as teacher and student are trained.
        progress: Show a progress bar, where there is a terminal or a notebook.

    Returns:
        The student's run.
    """
    data = open_data(settings.data)
    teacher_folder = out / "teacher"
    threads, together = torch.get_num_threads(), _together(settings)
    if together:
        get_ready()
    train(
        model_maker(settings.teacher, data),
        data,
        augmentation=settings.jitter,
        out=teacher_folder,
        resume=resume,
        settings={**_plain(settings.data), **_plain(settings.teacher)},
        callbacks=callbacks,
        progress=progress,
        **_plain(settings.teacher_training),
    )
    student = {"student" if name == "model" else name: value for name, value in _plain(settings.student).items()}
    torch.set_num_threads(1 if together else threads)
    try:
        return distill(
            load_teacher([teacher_folder], data=data),
            model_maker(settings.student, data),
            data,
            temperature=settings.temperature,
            hard_weight=settings.hard_weight,
            out=out,
            resume=resume,
            jobs=2 if together else 1,
            settings={**_plain(settings.data), **student, "teacher": [str(teacher_folder)]},
            callbacks=callbacks,
            progress=progress,
            **_plain(settings.student_training),
        )
    finally:
        torch.set_num_threads(threads)


def write_page(run: DistillRun, folder: Path) -> Path:
    """A page on which a person can draw digits for the student, in ``try/`` of the run's folder, unless it is there.

    Args:
        run: The student's run.
        folder: Its folder.

    Returns:
        The page.

    Raises:
        ParityError: If the page's predictions differ from the student's on 1,000 test digits.
    """  # noqa: DOC502
    place = folder / TRIED
    if not place.exists():
        run.export(place, ["browser"], parity_examples=_COMPARED)
    return place / "model.html"


def _plain(options: Any) -> dict[str, Any]:
    return dataclasses.asdict(options)
