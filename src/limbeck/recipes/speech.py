"""Several acoustic models in one, and 3 % of the data: recipe ``speech``."""

__all__ = ["run"]

from dataclasses import dataclass, replace

from torch import nn

from limbeck.devices import find_device
from limbeck.recipes.corpus import Corpus, corpus
from limbeck.recipes.series import Cell, Series
from limbeck.softtargets import SoftTargets
from limbeck.teachers import Ensemble, ModelTeacher


class Maker:
    """Makes every network of the recipe."""

    def __init__(self, here: Corpus) -> None:
        self.here, self.series = here, here.series

    def teacher(self, seed: int) -> Cell:
        """A large network on labels."""
        here = self.here
        return self.series.train(
            "teacher",
            here.make(here.large, here.wide),
            here.wide,
            here.training(3, seed=seed),
            settings=_settings(here.large.hidden, here.wide),
        )

    def ensemble(self) -> Ensemble:
        """All teachers, each with the context that it was trained with."""
        models = [self.teacher(seed).model for seed in range(self.here.members)]
        return together(models, self.here.wide.classes)

    def targets(self) -> SoftTargets:
        """The ensemble's answers, written once; a write that was stopped goes on, and a finished one is kept."""
        here, folder = self.here, self.series.folder / "soft-targets"
        watcher = self.series.watch(f"{self.series.recipe}: soft targets")
        place = find_device("auto", "auto")
        watcher.note("asking the ensemble about every frame")
        guide = self.ensemble().to(place.device)
        SoftTargets.write(
            folder, guide, here.wide.train, classes=here.wide.classes, encoding="topk", k=here.kept, device=place
        )
        return SoftTargets.open(folder, examples=here.wide.train)

    def same_size(self, seed: int) -> Cell:
        """One network like a teacher, on the ensemble's soft targets."""
        here = self.here
        return self.series.distil(
            "same-size",
            here.make(here.large, here.wide),
            self.targets,
            here.wide,
            here.training(3, seed=100 + seed),
            temperature=1.0,
            hard_weight=0.5,
            settings=self._taught(here.large.hidden, here.wide),
        )

    def small_labels(self, seed: int) -> Cell:
        """A small network on labels alone."""
        here = self.here
        return self.series.train(
            "small-labels",
            here.make(here.small, here.narrow),
            here.narrow,
            here.training(4, seed=seed),
            settings=_settings(here.small.hidden, here.narrow),
        )

    def small_soft(self, seed: int) -> Cell:
        """The same on the ensemble's soft targets."""
        here = self.here
        return self.series.distil(
            "small-soft",
            here.make(here.small, here.narrow),
            self.targets,
            here.narrow,
            here.training(4, seed=seed),
            temperature=1.0,
            hard_weight=0.5,
            settings=self._taught(here.small.hidden, here.narrow),
        )

    def _taught(self, hidden, data):
        return {**_settings(hidden, data), "teacher": f"{self.here.members} teachers", "kept": self.here.kept}


def together(models, classes) -> Ensemble:
    members = [ModelTeacher(model, classes, model.front_end.splicing) for model in models]
    return Ensemble(members, mean="geometric", classes=classes)


def _settings(hidden, data):
    assert data.front_end is not None
    return {"hidden": list(hidden), "context": list(data.front_end.splicing.offsets)}


def run(series: Series, order):
    here = corpus(series, order.data)
    maker = Maker(here)
    for seed in range(here.members):
        maker.teacher(seed)
