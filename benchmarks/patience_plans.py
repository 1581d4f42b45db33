"""The tables of ``patience.py``: teachers, arms and jobs."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from limbeck.options import Augmentation

Precision = Literal["float32", "bf16"]
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
        margin: Points within which students are to be as good as their teachers; None where that is not asked.
        precision: Of the products in training.
    """

    title: str
    about: str
    hidden: tuple[int, ...]
    teachers: Mapping[str, TeacherPlan]
    arms: Mapping[str, Arm]
    base: str
    training: Mapping[str, Any]
    margin: float | None = None
    precision: Precision = "float32"


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

_WEAK, _TURNED = Augmentation(shift=1, views=32), Augmentation(shift=1, rotate=5, scale=0.05, views=32)
_CNN = TeacherPlan(
    (1024,), (64, 128), dropout=0.5, epochs=30, batch_size=256, rate=1e-3,
    views=Augmentation(shift=2, rotate=10, scale=0.1),
)  # fmt: skip
_LONG: dict[str, Any] = {"epochs": 750}
LETTERS = Job(
    "Letters: a student as patient as it takes",
    "An MLP with one hidden layer of 512 units (415,258 parameters) learns from a CNN (3,378,970 parameters), or from "
    "five, about the same 32 views of each letter that they answered: shifted by up to a pixel, or turned by up to "
    "five degrees and scaled by 5 % as well.",
    (512,),
    {"cnn": _CNN, "five": dataclasses.replace(_CNN, members=5)},
    {
        name: dataclasses.replace(arm, temperature=2.0, rates=(1e-3, 4e-3))
        for name, arm in {
            "labels": Arm("labels alone, shifted", None, hard_weight=1.0, views=_WEAK),
            "labels turned": Arm("labels alone, turned too", None, hard_weight=1.0, views=_TURNED),
            "cnn": Arm("one CNN, shifted", "cnn", views=_WEAK),
            "cnn turned": Arm("one CNN, turned too", "cnn", views=_TURNED),
            "dist": Arm("one CNN, shifted, method dist", "cnn", views=_WEAK, method="dist"),
            "half": Arm("one CNN, shifted, labels with a weight of 0.5", "cnn", views=_WEAK, hard_weight=0.5),
            "mixed": Arm("one CNN, shifted and mixed up, a new view each epoch", "cnn",
                         views=dataclasses.replace(_WEAK, views=None, mixup=1.0)),
            "labels long": Arm("labels alone, shifted, 750 epochs", None, hard_weight=1.0, views=_WEAK, training=_LONG,
                               like="labels"),
            "cnn long": Arm("one CNN, shifted, 750 epochs", "cnn", views=_WEAK, training=_LONG, like="cnn"),
            "cnn turned long": Arm("one CNN, turned too, 750 epochs", "cnn", views=_TURNED, training=_LONG,
                                   like="cnn turned"),
            "five long": Arm("five CNNs, shifted, 750 epochs", "five", views=_WEAK, training=_LONG, like="cnn"),
            "five turned long": Arm("five CNNs, turned too, 750 epochs", "five", views=_TURNED, training=_LONG,
                                    like="cnn turned"),
        }.items()
    },
    "labels",
    {"epochs": 150, "batch_size": 512, "keep": "last"},
    margin=0.3,
    precision="bf16",
)  # fmt: skip
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
                name: dataclasses.replace(
                    arm, training={**arm.training, "epochs": 2}, rates=arm.rates[:2],
                    views=dataclasses.replace(arm.views, views=arm.views.views and 2),
                )
                for name, arm in job.arms.items()
            },
            training={**job.training, "epochs": 2, "batch_size": 50},
        )  # fmt: skip
