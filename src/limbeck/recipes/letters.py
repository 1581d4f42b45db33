"""Shared by the recipes on letters: the examples, and a network with one hidden layer."""

__all__ = ["Letters", "letters"]

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.data import open_data
from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.splits import count_of, stratified_rows
from limbeck.evaluation.prediction import predict
from limbeck.options import Augmentation, DataOptions, ModelOptions, Training
from limbeck.protocols import Teacher
from limbeck.recipes.corpus import frames, is_corpus
from limbeck.recipes.series import Series, blind, smaller
from limbeck.runs.measure import labels_of
from limbeck.runs.models_for_data import model_maker

_FRAMES = 200_000
"""Of a corpus."""


@dataclass(frozen=True)
class Letters:
    """Letters, or whatever data set was given, for a series.

    Attributes:
        series: Where trainings are kept.
        whole: The data with the test set, for the end of a recipe alone.
        data: The same without it.
    """

    series: Series
    whole: DataSet
    data: DataSet

    @property
    def network(self) -> str:
        """What all networks are, for the record."""
        return f"mlp {self._width}"

    @property
    def _width(self) -> int:
        return 32 if self.series.quick else 512

    @property
    def jitter(self) -> Augmentation | None:
        """Eight views of each image, shifted by up to a pixel; none where the examples are not images."""
        if len(self.data.train.shape) != 3:
            return None
        return Augmentation(shift=1, views=2 if self.series.quick else 8)

    @property
    def turns(self) -> Augmentation | None:
        """32 views of each image, shifted, turned by up to five degrees and scaled by up to 5 %; None as above."""
        if self.jitter is None:
            return None
        return replace(self.jitter, rotate=5.0, scale=0.05, views=2 if self.series.quick else 32)

    def make(self) -> Callable[[int], nn.Module]:
        """Makes the network from a seed: one hidden layer of 512 units."""
        return model_maker(ModelOptions(model="mlp", hidden=(self._width,)), self.data)

    def training(self, epochs: int, *, seed: int, patience: int | None = None, learning_rate: float = 1e-3) -> Training:
        """The settings of a training, shortened in the small version."""
        if self.series.quick:
            return Training(epochs=min(epochs, 3), seed=seed, batch_size=32, learning_rate=2 * learning_rate)
        return Training(epochs=epochs, seed=seed, batch_size=128, patience=patience, learning_rate=learning_rate)

    def patient(self, *, seed: int) -> Training:
        """The settings of a long training, as ``benchmarks/patience.py`` found them on validation."""
        return replace(self.training(150, seed=seed, learning_rate=4e-3), batch_size=32 if self.series.quick else 512)

    def part(self, share: float, *, seed: int) -> DataSet:
        """The data with a stratified share of the training examples."""
        labels = torch.from_numpy(labels_of(self.data.train))
        count = max(len(self.data.classes), count_of(share, len(labels)))
        return replace(self.data, train=self.data.train.take(stratified_rows(labels, count, seed=seed)))

    @property
    def test(self) -> Examples:
        """The test set: read at the end of a recipe alone."""
        assert self.whole.test is not None
        return self.whole.test

    @property
    def truth(self) -> Tensor:
        """Labels of the test set, int64 ``(N,)``."""
        return torch.from_numpy(labels_of(self.test))

    def accuracy(self, model: nn.Module | Teacher) -> float:
        """Share of the test set that is right, in per cent: called at the end of a recipe alone."""
        return accuracy(predict(model, self.test), self.truth)

    def about(self) -> str:
        """What the examples are, for the record."""
        parts = {name: len(examples) for name, examples in self.whole.parts().items()}
        return (
            f"The data set is `{self.whole.name}`: {parts['train']:,} examples of {len(self.data.classes)} classes for "
            f"training, {parts['validation']:,} for validation, {parts['test']:,} for the test."
        )


def accuracy(log_probs: Tensor, labels: Tensor) -> float:
    """Share of the examples whose top-1 class is the true one.

    Args:
        log_probs: Natural logarithms, ``(N, K)``.
        labels: True classes, ``(N,)``.

    Returns:
        Per cent.

    Example:
        >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
        50.0
    """
    return 100 * float(np.mean((log_probs.argmax(-1) == labels).numpy()))


def letters(series: Series, source: str | None) -> Letters:
    """The examples that were asked for, a tenth of those for training set aside for validation.

    Args:
        series: Where trainings are kept.
        source: The data set, or a Kaldi corpus, of whose frames up to 200,000 are used; None for MNIST, in the small
            version.

    Returns:
        The letters; a few hundred in the small version.
    """
    if source is not None and is_corpus(source):
        whole = frames(series, source, 3000 if series.quick else _FRAMES)
    else:
        whole = open_data(DataOptions(data=source or "mnist", validation=0.1))
    if series.quick and whole.train.together("subset") is None:
        whole = smaller(whole, train=600, validation=200, test=400)
    return Letters(series, whole, blind(whole))
