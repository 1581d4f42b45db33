"""The series of trainings of a recipe: each is a cell on the disk, and an interrupted series resumes.

::

    OUT/shared/CELL/     trainings that several recipes use, such as the teachers of MNIST
    OUT/NAME/CELL/       the trainings of one recipe; each is a run's folder
    OUT/NAME/results/    what came out: Markdown and figures
    OUT/NAME/report.html the same to look at
"""

__all__ = ["Cell", "Series", "blind", "smaller"]

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.splits import stratified_rows
from limbeck.errors import ConfigError, RunError
from limbeck.evaluation.prediction import answer_views
from limbeck.options import Augmentation, Training
from limbeck.protocols import Objective, Teacher
from limbeck.runs.folder import RunFolder
from limbeck.runs.measure import answers_of, labels_of, scores_of
from limbeck.runs.models import load
from limbeck.runs.stages import Stage
from limbeck.system.callbacks import Callback
from limbeck.system.devices import find_device
from limbeck.teachers import StoredTargets, as_teacher
from limbeck.training.objective import DistillationObjective, LabelObjective


@dataclass(frozen=True)
class Cell:
    """One finished training of a series.

    Attributes:
        name: Of the cell, with the seed at its end.
        model: The network with the weights of its best epoch on validation, on the CPU.
        validation: Its scores on validation, as ``runs.measure.scores_of`` names them; empty where there is none.
        seconds: What its epochs took.
        epochs: How many there were.
    """

    name: str
    model: nn.Module
    validation: Mapping[str, Any]
    seconds: float
    epochs: int

    @property
    def errors(self) -> int:
        """Errors on validation."""
        return int(self.validation["test_errors"])


class Series:
    """The storage and training of a recipe's cells.

    Nothing here reads a test set: cells are trained and evaluated on training and validation examples alone.

    Args:
        out: Folder of all recipes.
        recipe: Name of the recipe.
        seeds: How many seeds to train with, from 0 on.
        quick: Whether this is the small version.
        epochs_factor: All numbers of epochs are multiplied by it.
        callback_for: Makes the callback of a training, given its name.

    Raises:
        ConfigError: If ``seeds`` or ``epochs_factor`` is out of range.
    """

    def __init__(
        self,
        out: Path,
        recipe: str,
        *,
        seeds: int = 3,
        quick: bool = False,
        epochs_factor: float = 1.0,
        callback_for: Callable[[str], Callback] | None = None,
    ) -> None:
        if seeds < 1:
            raise ConfigError(f"seeds must be at least 1, and is {seeds}")
        if not 0 < epochs_factor <= 100:
            raise ConfigError(f"epochs_factor must be above 0 and at most 100, and is {epochs_factor}")
        # The small version's cells are others, so they never pass for those of the whole.
        self.root = out / "quick" if quick else out
        self.recipe, self.seeds, self.quick, self.epochs_factor = recipe, range(seeds), quick, epochs_factor
        self.callback_for = callback_for or (lambda name: Callback())
        self.cells: dict[Path, Cell] = {}

    @property
    def folder(self) -> Path:
        """Where the recipe's cells and results are."""
        return self.root / self.recipe

    @property
    def seconds(self) -> float:
        """What the epochs of all cells took that were used so far, whenever they were trained."""
        return sum(cell.seconds for cell in self.cells.values())

    def fit(
        self,
        name: str,
        make: Callable[[int], nn.Module],
        objective: Callable[[], Objective],
        data: DataSet,
        training: Training,
        *,
        augmentation: Augmentation | None = None,
        settings: Mapping[str, Any] | None = None,
        shared: bool = False,
    ) -> Cell:
        """Train one cell, resume it, or load it if it is finished.

        Args:
            name: Of the cell; ``-SEED`` is put at its end.
            make: Makes the network from a seed.
            objective: Makes what is minimised; called only where there is something to train.
            data: Training and validation examples.
            training: The settings; epochs are multiplied by the series' factor.
            augmentation: The augmentation.
            settings: More that tells this cell from others; kept in its ``config.toml``.
            shared: Whether other recipes use the cell too.

        Returns:
            The cell.

        Raises:
            RunError: If the folder holds the cell with other settings.
        """
        title = f"{name}-{training.seed}"
        path = self.root / ("shared" if shared else self.recipe) / title
        folder, augmentation = RunFolder(path), augmentation or Augmentation()
        training = dataclasses.replace(
            training,
            epochs=max(1, round(training.epochs * self.epochs_factor)),
            precision=folder.settled("precision", training.precision),
        )
        device = find_device(training.device, training.precision)
        training = dataclasses.replace(training, precision=device.precision)
        kept = {**(settings or {}), **dataclasses.asdict(training), **dataclasses.asdict(augmentation)}
        kept |= {"examples": data.train.digest}
        if folder.finished:  # done: others may read it at the same time
            folder.agree(kept)
        else:
            heading = f"A training of `limbeck reproduce {self.recipe}`: the same command goes on with it"
            with folder.open("reproduce", kept, resume=True, heading=heading) as run:
                self._train(run, make, objective(), data, training, augmentation)
        metrics = folder.metrics()
        if metrics["epochs"] != training.epochs:
            raise RunError(
                f"{path} was trained for {metrics['epochs']} epochs, and {training.epochs} are asked for: give the "
                "same --epochs-factor, or choose another --out"
            )
        model = load(path)
        assert isinstance(model, nn.Module), "a cell holds one network"
        cell = Cell(title, model, metrics["model"], metrics["seconds"], metrics["epochs"])
        self.cells[path] = cell
        return cell

    def _train(
        self,
        run: RunFolder,
        make: Callable[[int], nn.Module],
        objective: Objective,
        data: DataSet,
        training: Training,
        augmentation: Augmentation,
    ) -> None:
        model, history = Stage(
            run,
            make(training.seed),
            objective,
            data,
            training,
            find_device(training.device, training.precision),
            augmentation=augmentation,
            resume=True,
            callback=self.callback_for(f"{self.recipe}: {run.path.name}"),
            name=f"{self.recipe}: {run.path.name}",
        )()
        scores: dict[str, Any] = {}
        if data.validation is not None and data.validation.labels is not None:
            scores = scores_of(answers_of(model, data.validation), labels_of(data.validation))
        run.unseal_results()
        run.write_metrics(
            {
                "judged_on": "validation",
                "model": scores,
                "seconds": sum(row["seconds"] for row in history),
                "epochs": training.epochs,
            }
        )
        shutil.rmtree(run.checkpoints, ignore_errors=True)  # a finished cell is never continued

    def train(
        self, name: str, make: Callable[[int], nn.Module], data: DataSet, training: Training, **more: Any
    ) -> Cell:
        """Train a cell on labels; further arguments are those of :meth:`fit`."""
        return self.fit(name, make, lambda: LabelObjective(training.label_smoothing), data, training, **more)

    def distil(
        self,
        name: str,
        make: Callable[[int], nn.Module],
        teacher: Callable[[], Teacher],
        data: DataSet,
        training: Training,
        *,
        temperature: float,
        hard_weight: float = 0.0,
        **more: Any,
    ) -> Cell:
        """Train a cell on a teacher's soft targets.

        Args:
            name: Of the cell.
            make: Makes the network from a seed.
            teacher: Gives the teacher; called only where there is something to train.
            data: The transfer set, and validation examples.
            training: The settings.
            temperature: T > 0.
            hard_weight: w in [0, 1].
            **more: As for :meth:`fit`.

        Returns:
            The cell.
        """
        settings = {"temperature": temperature, "hard_weight": hard_weight, **more.pop("settings", {})}
        return self.fit(
            name,
            make,
            lambda: DistillationObjective(teacher(), temperature=temperature, hard_weight=hard_weight),
            data,
            training,
            settings=settings,
            **more,
        )

    def history(self, cell: Cell, name: str) -> list[float]:
        """A number of each epoch of a cell, such as ``validation_accuracy``."""
        path = next(path for path, known in self.cells.items() if known.name == cell.name)
        return [float(row[name]) for row in RunFolder(path).history()]

    def answers(
        self,
        teacher: nn.Module | Teacher,
        examples: Examples,
        classes: tuple[str, ...],
        *,
        augmentation: Augmentation | None = None,
    ) -> Callable[[], StoredTargets]:
        """A teacher's outputs for a transfer set, computed once on first use.

        Args:
            teacher: A module, or any teacher.
            examples: The transfer set.
            classes: Names of the classes.
            augmentation: The augmentation, with a number of views; None for unaugmented images.

        Returns:
            A function without arguments that gives the answers, for every temperature.

        Raises:
            ConfigError: If the teacher's answers at T = 1 do not serve every temperature.
        """
        guide, views = as_teacher(teacher), augmentation or Augmentation()
        if not guide.every_temperature:
            raise ConfigError("answers of this teacher hold for one temperature alone: use a geometric mean")
        found: list[StoredTargets] = []

        def give() -> StoredTargets:
            if not found:
                device = find_device()
                found.append(
                    answer_views(
                        guide.to(device.device).bind(examples, views),
                        examples,
                        views,
                        classes=classes,
                        views=views.views or 1,
                        device=device,
                    )
                )
            return found[0]

        return give


def blind(data: DataSet) -> DataSet:
    """The data set without its test examples, so that nothing can be chosen on them."""
    return dataclasses.replace(data, test=None)


def smaller(data: DataSet, *, train: int, validation: int, test: int) -> DataSet:
    """A stratified part of a data set, for the small version of a recipe.

    Args:
        data: A data set with all three parts.
        train: How many training examples to keep at most.
        validation: How many validation examples to keep at most.
        test: How many test examples to keep at most.

    Returns:
        The smaller data set.

    Example:
        >>> import torch
        >>> x, y = torch.zeros(90, 4), torch.arange(90) % 3
        >>> part = Examples.of(x, y)
        >>> len(smaller(DataSet("some", ("a", "b", "c"), part, part, part), train=30, validation=6, test=9).test)
        9
    """

    def few(examples: Examples | None, count: int) -> Examples | None:
        if examples is None or examples.labels is None or len(examples) <= count:
            return examples
        return examples.take(stratified_rows(examples.labels, count))

    kept = few(data.train, train)
    assert kept is not None, "a data set has training examples"
    return dataclasses.replace(data, train=kept, validation=few(data.validation, validation), test=few(data.test, test))
