"""The networks of the recipe on speech: teachers, their ensemble, and students of two sizes."""

__all__ = ["SAME_SIZE", "SMALL", "Lesson", "Maker", "best", "together"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from limbeck.data.data_set import DataSet
from limbeck.kaldi.source import FrontEnd
from limbeck.options import ModelOptions, Training
from limbeck.protocols import Teacher
from limbeck.recipes.corpus import EPOCHS, Corpus
from limbeck.recipes.series import Cell
from limbeck.softtargets import SoftTargets
from limbeck.system.devices import find_device
from limbeck.teachers import Ensemble, ModelTeacher, StoredTargets


@dataclass(frozen=True, order=True)
class Lesson:
    """A setting of a distillation.

    Attributes:
        temperature: T.
        hard_weight: Weight of the labels.
    """

    temperature: float
    hard_weight: float = 0.0

    def __str__(self) -> str:
        return f"T = {self.temperature:g}, weight of labels {self.hard_weight:g}"


SAME_SIZE, SMALL = Lesson(1.0, 0.2), Lesson(1.0, 0.5)
"""With all of the data, for a network of a teacher's size and for small ones."""
_FEW_LESSONS = (Lesson(1.0), Lesson(2.0), Lesson(4.0))
"""Tried with little data."""


class Maker:
    """Makes every network of the recipe."""

    def __init__(self, here: Corpus) -> None:
        self.here, self.series = here, here.series

    def trials(self, make: Callable[[int], Cell]) -> tuple[tuple[Cell, ...], ...]:
        """Networks of a kind, one per seed."""
        return tuple((make(seed),) for seed in self.series.seeds)

    def teacher(self, seed: int) -> Cell:
        """A large network on labels."""
        here = self.here
        return self.series.train(
            "teacher",
            here.make(here.large, here.wide),
            here.wide,
            here.training(EPOCHS["large"], seed=seed),
            settings=_settings(here.large, here.wide),
        )

    def ensemble(self) -> Ensemble:
        """All teachers."""
        return together([self.teacher(seed) for seed in range(self.here.members)], self.here.wide.classes)

    def targets(self) -> SoftTargets:
        """The ensemble's soft targets, written once; an interrupted write is resumed."""
        here, folder = self.here, self.series.folder / "soft-targets"
        self.series.callback_for(f"{self.series.recipe}: soft targets").on_note("asking the ensemble about every frame")
        place = find_device("auto", here.training(1, seed=0).precision)
        guide = self.ensemble().to(place.device)
        SoftTargets.write(
            folder, guide, here.wide.train, classes=here.wide.classes, encoding="topk", k=here.kept, device=place
        )
        return SoftTargets.open(folder, examples=here.wide.train)

    def same_size(self, seed: int) -> Cell:
        """One network like a teacher, on the ensemble's soft targets and the labels, for longer."""
        here = self.here
        return self._distil(
            f"same-size-T{SAME_SIZE.temperature:g}-w{SAME_SIZE.hard_weight:g}",
            here.large,
            here.wide,
            here.training(EPOCHS["patient"], seed=100 + seed),  # not the initial weights of any teacher
            SAME_SIZE,
            self.targets,
        )

    def small_labels(self, seed: int) -> Cell:
        """A small network on labels alone."""
        here = self.here
        return self.series.train(
            "small-labels",
            here.make(here.small, here.narrow),
            here.narrow,
            here.training(EPOCHS["small"], seed=seed),
            settings=_settings(here.small, here.narrow),
        )

    def few_labels(self, seed: int) -> Cell:
        """The same on little data; it stops early."""
        here, part = self.here, self.here.part()
        return self.series.train(
            "few-labels",
            here.make(here.small, here.narrow),
            part,
            here.few_training(seed=seed, patience=4),
            settings=_settings(here.small, part),
        )

    def small_soft(self, seed: int) -> Cell:
        """The same on the ensemble's soft targets and the labels."""
        here = self.here
        training = here.training(EPOCHS["small"], seed=seed)
        return self._distil("small-soft", here.small, here.narrow, training, SMALL, self.targets)

    @cached_property
    def few_soft_tried(self) -> Mapping[Lesson, Cell]:
        """Small networks of the first seed on the ensemble's answers to little data, by temperature."""
        lessons = _FEW_LESSONS[:2] if self.series.quick else _FEW_LESSONS
        return {lesson: self._few_soft(0, lesson) for lesson in lessons}

    def few_soft(self, seed: int) -> Cell:
        """The same at the temperature that was best on development frames."""
        return self._few_soft(seed, best(self.few_soft_tried))

    def _few_soft(self, seed: int, lesson: Lesson) -> Cell:
        here = self.here
        name, training = f"few-soft-T{lesson.temperature:g}", here.few_training(seed=seed)
        return self._distil(name, here.small, here.part(), training, lesson, lambda: self._few_targets())

    def _distil(
        self,
        name: str,
        network: ModelOptions,
        data: DataSet,
        training: Training,
        lesson: Lesson,
        targets: Callable[[], Teacher],
    ) -> Cell:
        return self.series.distil(
            name,
            self.here.make(network, data),
            targets,
            data,
            training,
            temperature=lesson.temperature,
            hard_weight=lesson.hard_weight,
            settings={**_settings(network, data), **self._taught},
        )

    @cached_property
    def _few_targets(self) -> Callable[[], StoredTargets]:
        """The ensemble's answers to the small part, whole: worked out for the first network that asks."""
        part = self.here.part()
        return self.series.answers(self.ensemble(), part.train, part.classes)

    @property
    def _taught(self) -> dict[str, Any]:
        return {"teacher": f"{self.here.members} teachers", "kept": self.here.kept}


def best(tried: Mapping[Lesson, Cell]) -> Lesson:
    """The setting whose network has the highest development frame accuracy.

    Args:
        tried: At least one.

    Returns:
        The best setting.
    """
    return max(tried, key=lambda lesson: float(tried[lesson].validation["accuracy"]))


def _settings(network: ModelOptions, data: DataSet) -> dict[str, Any]:
    assert isinstance(data.reading, FrontEnd)
    return {"hidden": list(network.hidden or ()), "context": list(data.reading.splicing.offsets)}


def _seeing(model: nn.Module, classes: tuple[str, ...]) -> ModelTeacher:
    """A network with its own context, whatever the examples'."""
    front: Any = model.reading
    return ModelTeacher(model, classes, front.splicing)


def together(cells: Sequence[Cell], classes: tuple[str, ...]) -> Ensemble:
    """The geometric mean of some networks, each with its own context.

    Args:
        cells: At least one.
        classes: Names of the classes.

    Returns:
        The ensemble; of one cell it is that network.
    """
    return Ensemble([_seeing(cell.model, classes) for cell in cells], mean="geometric", classes=classes)
