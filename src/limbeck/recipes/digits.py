"""Shared by the recipes on MNIST: the digits, the teacher, and the student."""

__all__ = ["Digits", "digits"]

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from limbeck.data import open_data
from limbeck.data.data_set import DataSet
from limbeck.evaluation.prediction import predict
from limbeck.options import Augmentation, DataOptions, ModelOptions, Training
from limbeck.recipes.series import Cell, Series, blind, smaller
from limbeck.runs.measure import labels_of
from limbeck.runs.models_for_data import model_maker


@dataclass(frozen=True)
class Digits:
    """MNIST for a series: whole, or a few hundred digits and small networks for the small version.

    Attributes:
        series: Where trainings are kept.
        whole: The data with the test set, for the end of a recipe alone.
        data: The same without it.
    """

    series: Series
    whole: DataSet
    data: DataSet

    jitter = Augmentation(shift=2)
    """The paper's: up to two pixels in each direction, a new shift each epoch."""

    def network(self, *hidden: int, dropout: float = 0.0, max_norm: float | None = None) -> ModelOptions:
        """An MLP of these widths, or a tiny one in the small version."""
        widths = tuple(min(width, 32) for width in hidden) if self.series.quick else hidden
        return ModelOptions(model="mlp", hidden=widths, dropout=dropout, max_norm=max_norm)

    def training(
        self,
        epochs: int,
        *,
        seed: int,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        keep: Literal["best", "last"] = "best",
    ) -> Training:
        """The settings of a training, shortened in the small version."""
        if self.series.quick:
            return Training(epochs=min(epochs, 3), seed=seed, batch_size=32, learning_rate=3e-3, keep=keep)
        return Training(epochs=epochs, seed=seed, batch_size=batch_size, learning_rate=learning_rate, keep=keep)

    def teacher(self, seed: int) -> Cell:
        """The paper's teacher: 784-1200-1200-10 with dropout, limited norms, and jittered digits."""
        return self.series.train(
            "mnist-teacher",
            model_maker(self.network(1200, 1200, dropout=0.4, max_norm=3.0), self.data),
            self.data,
            self.training(100, seed=seed, batch_size=512, learning_rate=2e-3),
            augmentation=self.jitter,
            settings={"network": "mlp 1200 1200, dropout 0.4, max_norm 3"},
            shared=True,
        )

    def wrong(self, model: nn.Module) -> torch.Tensor:
        """Where a network errs on the test set, bool ``(N,)``: called at the end of a recipe alone."""
        assert self.whole.test is not None
        answers = predict(model, self.whole.test).argmax(-1)
        return answers != torch.from_numpy(labels_of(self.whole.test))

    def errors(self, model: nn.Module) -> int:
        """How many test digits a network gets wrong: called at the end of a recipe alone."""
        return int(self.wrong(model).sum())

    def without(self, *classes: int) -> DataSet:
        """The data with an unlabelled transfer set that holds none of some digits."""
        return self._transfer(torch.isin(self._labels, torch.tensor(classes), invert=True))

    def only(self, *classes: int) -> DataSet:
        """The data with an unlabelled transfer set of some digits alone."""
        return self._transfer(torch.isin(self._labels, torch.tensor(classes)))

    @property
    def _labels(self) -> torch.Tensor:
        return torch.from_numpy(labels_of(self.data.train))

    def _transfer(self, kept: torch.Tensor) -> DataSet:
        return replace(self.data, train=self.data.train.take(kept.nonzero().flatten()).without_labels())


def digits(series: Series) -> Digits:
    """MNIST with 5,000 of its training digits set aside for validation.

    Args:
        series: Where trainings are kept.

    Returns:
        The digits; a few hundred in the small version.
    """
    whole = open_data(DataOptions(data="mnist", validation=5000))
    if series.quick:
        whole = smaller(whole, train=600, validation=200, test=400)
    return Digits(series, whole, blind(whole))
