"""The networks of the recipe on speech: teachers, their ensemble, and students of two sizes."""

__all__ = ["FEW_TEMPERATURE", "HARD_WEIGHT", "TEMPERATURE", "Maker", "together"]

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from torch import nn

from limbeck.data.examples import DataSet
from limbeck.devices import find_device
from limbeck.options import ModelOptions
from limbeck.recipes.corpus import EPOCHS, Corpus
from limbeck.recipes.series import Cell
from limbeck.softtargets import SoftTargets
from limbeck.teachers import Ensemble, ModelTeacher, StoredTargets

TEMPERATURE, HARD_WEIGHT = 1.0, 0.5
"""With all of the data."""
FEW_TEMPERATURE = 2.0
"""With little data, on soft targets alone."""


class Maker:
    """Makes every network of the recipe."""

    def __init__(self, here: Corpus) -> None:
        self.here, self.series = here, here.series

    def trials(self, kind: str) -> tuple[tuple[Cell, ...], ...]:
        """Small networks of a kind, one a seed."""
        make = {"labels": self.small_labels, "soft": self.small_soft}[kind.split("-")[1]]
        return tuple((make(seed, few=kind.startswith("few")),) for seed in self.series.seeds)

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
        """The ensemble's answers, written once; a write that was stopped goes on, and a finished one is kept."""
        here, folder = self.here, self.series.folder / "soft-targets"
        self.series.watch(f"{self.series.recipe}: soft targets").note("asking the ensemble about every frame")
        place = find_device("auto", here.training(1, seed=0).precision)
        guide = self.ensemble().to(place.device)
        SoftTargets.write(
            folder, guide, here.wide.train, classes=here.wide.classes, encoding="topk", k=here.kept, device=place
        )
        return SoftTargets.open(folder, examples=here.wide.train)

    def same_size(self, seed: int) -> Cell:
        """One network like a teacher, on the ensemble's soft targets and the labels."""
        here = self.here
        return self.series.distil(
            "same-size",
            here.make(here.large, here.wide),
            self.targets,
            here.wide,
            here.training(EPOCHS["large"], seed=100 + seed),  # not the first weights of any teacher
            temperature=TEMPERATURE,
            hard_weight=HARD_WEIGHT,
            settings={**_settings(here.large, here.wide), **self._taught},
        )

    def small_labels(self, seed: int, *, few: bool) -> Cell:
        """A small network on labels alone; with little data it stops early."""
        here = self.here
        data = here.part() if few else here.narrow
        return self.series.train(
            "few-labels" if few else "small-labels",
            here.make(here.small, here.narrow),
            data,
            here.few_training(seed=seed, patience=4) if few else here.training(EPOCHS["small"], seed=seed),
            settings=_settings(here.small, data),
        )

    def small_soft(self, seed: int, *, few: bool) -> Cell:
        """The same on the ensemble's soft targets: with little data on nothing else."""
        here = self.here
        data = here.part() if few else here.narrow
        return self.series.distil(
            "few-soft" if few else "small-soft",
            here.make(here.small, here.narrow),
            (lambda: self._few_targets()) if few else self.targets,
            data,
            here.few_training(seed=seed) if few else here.training(EPOCHS["small"], seed=seed),
            temperature=FEW_TEMPERATURE if few else TEMPERATURE,
            hard_weight=0.0 if few else HARD_WEIGHT,
            settings={**_settings(here.small, data), **self._taught},
        )

    @cached_property
    def _few_targets(self) -> Callable[[], StoredTargets]:
        """The ensemble's answers to the small part, whole: worked out for the first network that asks."""
        part = self.here.part()
        return self.series.answers(self.ensemble(), part.train, part.classes)

    @property
    def _taught(self) -> dict[str, Any]:
        return {"teacher": f"{self.here.members} teachers", "kept": self.here.kept}


def _settings(network: ModelOptions, data: DataSet) -> dict[str, Any]:
    assert data.front_end is not None
    return {"hidden": list(network.hidden or ()), "context": list(data.front_end.splicing.offsets)}


def _seeing(model: nn.Module, classes: tuple[str, ...]) -> ModelTeacher:
    """A network that sees the neighbours it was trained with, whatever the examples show."""
    front: Any = model.front_end
    return ModelTeacher(model, classes, front.splicing)


def together(cells: Sequence[Cell], classes: tuple[str, ...]) -> Ensemble:
    """The geometric mean of some networks, each with the neighbours that it was trained with.

    Args:
        cells: At least one.
        classes: Names of the classes.

    Returns:
        The ensemble; of one cell it is that network.
    """
    return Ensemble([_seeing(cell.model, classes) for cell in cells], mean="geometric", classes=classes)
