"""The corpus of the recipe on speech: parts, contexts, networks and training settings."""

__all__ = ["EPOCHS", "Corpus", "corpus", "frames", "is_corpus"]

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from limbeck.data import open_data
from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.splits import count_of, subset
from limbeck.errors import FormatError
from limbeck.kaldi.options import SpeechOptions
from limbeck.kaldi.source.opening import with_context
from limbeck.options import ModelOptions, Training
from limbeck.recipes.series import Series, blind
from limbeck.runs.models_for_data import model_maker

EPOCHS = {"large": 3, "patient": 6, "small": 4, "few": 90}
"""Of the teachers, of what is distilled into their size, of the small networks, and of those on a share of the data."""
_SHARE = 0.03
"""Of the training frames in the experiment of the paper's section 6."""
_MEMBERS = 10
_NEEDED = ("train", "dev", "test", "ali_train", "ali_dev", "ali_test")
_SPOKEN = ("graph/HCLG.fst", "graph/words.txt")


@dataclass(frozen=True)
class Corpus:
    """A Kaldi corpus for a series.

    Attributes:
        series: Where trainings are kept.
        root: The folder with its parts.
        whole: The data with the test set, and the teachers' context: for the end of a recipe alone.
        wide: The same without the test set.
        narrow: The same with the students' context.
    """

    series: Series
    root: Path
    whole: DataSet
    wide: DataSet
    narrow: DataSet

    @property
    def large(self) -> ModelOptions:
        """The teachers' sizes."""
        return ModelOptions(hidden=(64,) if self.series.quick else (480, 480, 480))

    @property
    def small(self) -> ModelOptions:
        """The small students', a sixth of that."""
        return ModelOptions(hidden=(16,) if self.series.quick else (128, 128))

    @property
    def members(self) -> int:
        """How many teachers there are."""
        return 2 if self.series.quick else _MEMBERS

    @property
    def kept(self) -> int:
        """Pdfs that the store of soft targets keeps of each answer."""
        return min(40, len(self.whole.classes) - 1)

    @property
    def share(self) -> float:
        """How much of the training set the small part is."""
        return 0.2 if self.series.quick else _SHARE

    @property
    def percent(self) -> str:
        """The same in words."""
        return f"{100 * self.share:g} %"

    @property
    def contexts(self) -> tuple[int, int]:
        """Frames that teachers and small students see on each side."""
        return _contexts(self.series)

    @property
    def spoken(self) -> bool:
        """Whether there is a graph, so that words can be counted."""
        return all((self.root / name).exists() for name in _SPOKEN)

    @property
    def test(self) -> Examples:
        """The test set: read at the end of a recipe alone."""
        assert self.whole.test is not None
        return self.whole.test

    def make(self, options: ModelOptions, data: DataSet) -> Callable[[int], nn.Module]:
        """Makes a network from a seed."""
        return model_maker(options, data)

    def training(self, epochs: int, *, seed: int) -> Training:
        """The settings of a training on all data, shortened in the small version."""
        if self.series.quick:
            return Training(epochs=min(epochs, 2), seed=seed, batch_size=256, precision="float32")
        return Training(epochs=epochs, seed=seed, batch_size=512)

    def few_training(self, *, seed: int, patience: int | None = None) -> Training:
        """The settings of a training on little data; with patience the learning rate stays and it stops early."""
        return replace(
            self.training(EPOCHS["few"], seed=seed),
            batch_size=256,
            patience=patience,
            schedule="cosine" if patience is None else "constant",
        )

    def part(self) -> DataSet:
        """A share of the training utterances; a quarter of the development utterances chooses the epoch."""
        assert self.narrow.validation is not None
        return replace(subset(self.narrow, self.share), validation=every_fourth(self.narrow.validation))

    def about(self) -> str:
        """What the frames are, for the record."""
        parts = {name: len(examples) for name, examples in self.whole.parts().items()}
        return (
            f"The corpus is `{self.root.name}`: {parts['train']:,} frames of {len(self.whole.classes):,} pdfs for "
            f"training, {parts['validation']:,} for choosing, {parts['test']:,} for the test; "
            f"{count_of(self.share, parts['train']):,} frames are {100 * self.share:g} %."
        )


def every_fourth(examples: Examples) -> Examples:
    """Every fourth utterance.

    Args:
        examples: Frames of speech.

    Returns:
        The frames of these utterances.
    """
    groups = examples.groups()
    assert groups is not None, "frames belong to utterances"
    return examples.take_groups(torch.arange(0, int(groups.max()) + 1, 4))


def is_corpus(source: str) -> bool:
    """Whether a folder holds Kaldi's directories by their usual names."""
    return all((Path(source) / name).exists() for name in _NEEDED)


def frames(series: Series, source: str, most: int) -> DataSet:
    """Frames of a corpus as a data set of many classes, its pdfs.

    Args:
        series: Where trainings are kept.
        source: The folder, as for :func:`corpus`.
        most: Whole training utterances are drawn until they have about so many frames.

    Returns:
        The frames with the small students' context; a quarter of the development utterances for validation.
    """
    _, context = _contexts(series)
    whole = open_data(_options(Path(source), context))
    if len(whole.train) > most:
        whole = subset(whole, most)
    assert whole.validation is not None
    return replace(whole, name=Path(source).name, validation=every_fourth(whole.validation))


def corpus(series: Series, source: str) -> Corpus:
    """Open a folder that holds Kaldi's directories by their usual names.

    Args:
        series: Where trainings are kept.
        source: The folder: ``train``, ``dev`` and ``test``, ``ali_train`` with ``final.mdl``, ``ali_dev`` and
            ``ali_test``. Where there is a ``graph`` with ``HCLG.fst`` and ``words.txt``, words are counted too.

    Returns:
        The corpus, read once.

    Raises:
        FormatError: If one of these is missing.
    """
    root = Path(source)
    missing = [name for name in _NEEDED if not (root / name).exists()]
    if missing:
        raise FormatError(root, f"has no {missing[0]}: the recipe needs {', '.join(_NEEDED)}")
    teacher, student = _contexts(series)
    whole = open_data(_options(root, teacher))
    wide = blind(whole)
    narrow = with_context(wide, _options(root, student))
    return Corpus(series, root, whole, wide, narrow)


def _options(root: Path, context: int) -> SpeechOptions:
    return SpeechOptions(
        data=str(root / "train"),
        ali=str(root / "ali_train"),
        validation_data=str(root / "dev"),
        validation_ali=str(root / "ali_dev"),
        test_data=str(root / "test"),
        test_ali=str(root / "ali_test"),
        norm_vars=True,
        left=context,
        right=context,
    )


def _contexts(series: Series) -> tuple[int, int]:
    return (2, 1) if series.quick else (7, 5)
