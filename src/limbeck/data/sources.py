"""Data sets by name, path or options: whatever kind of data claims them opens them."""

__all__ = ["open_data", "open_inputs"]

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.registry import kind_of
from limbeck.data.splits import cut_validation, subset
from limbeck.data.values import Layout
from limbeck.errors import ConfigError
from limbeck.options import DataOptions
from limbeck.options.checks import shown


def open_data(
    source: str | Path | DataOptions,
    *,
    image_size: int | None = None,
    layout: Layout | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DataSet:
    """Read a data set.

    ========================== ==================================================================================
    ``source``                 what is read
    ========================== ==================================================================================
    ``"mnist"``                the 60,000 and 10,000 digits that come with the package
    a ``.mat`` file            any split of EMNIST in its official layout
    a ``.npz`` file            arrays ``x`` and ``y``, or ``x_train``, ``val_images``, ``test_labels`` and the like
    a folder with IDX files    the four files of MNIST, Fashion-MNIST, EMNIST, ..., gzipped or not
    a ``.csv``, ``.parquet``,  rows of a table; of texts where options name ``text_column``, of paths of images where
    ... file of rows           they name ``image_column``
    any other folder           images, one sub-folder for each class; or ``train``, ``val``, ``test`` folders of such
    a Kaldi data directory     frames of speech; by options only, because alignments are needed with it
    ========================== ==================================================================================

    Where no test set comes with the data, a tenth is cut out as one: stratified, and the same every time.

    Args:
        source: A name, a path, or options; options also cut the validation set.
        image_size: Resize a folder's images to this many pixels, square.
        layout: Where images in an ``.npz`` file have their channels: "NHWC" for the last axis, "NCHW" for the second;
            None where only the second is possible.
        progress: Called with utterances read and all, where the data are speech.

    Returns:
        The data set.

    Raises:
        ConfigError: If options contradict each other.
        DataError: If the values cannot be used.
        FormatError: If a file is missing, truncated, corrupt or of another format.

    Example:
        >>> mnist = open_data("mnist")
        >>> len(mnist.train), len(mnist.test), mnist.classes[7]
        (60000, 10000, '7')
    """
    if isinstance(source, DataOptions):
        data = cut_validation(_open(source, progress), source.validation)
        return data if source.train_examples is None else subset(data, source.train_examples)
    if not isinstance(source, str | os.PathLike) or not isinstance(os.fspath(source), str):
        raise ConfigError(f"source must be a name, a path or options, and is {shown(source)}")
    return _open(DataOptions(data=os.fspath(source), image_size=image_size, layout=layout), progress)


def open_inputs(
    source: str | Path,
    *,
    like: DataSet | None = None,
    options: DataOptions = DataOptions(),  # noqa: B008
) -> Examples:
    """Read examples whose labels are not wanted: a transfer set.

    Args:
        source: Whatever :func:`open_data` reads, of which the training part is taken; or an ``.npz`` file with
            ``x`` alone; or a folder of images without classes, in it, in a single sub-folder or nested deeper; or a
            Kaldi data directory, for which no alignments are needed.
        like: The data set beside which they will be used: speech is read as its front end says.
        options: The size to which a folder's pictures are resized, and how speech is read.

    Returns:
        The examples, without labels.

    Raises:
        FormatError: If a file is missing, truncated, corrupt or of another format.
    """
    path = Path(source)
    asked = replace(options, data=os.fspath(source))
    return kind_of(path, asked).open_inputs(path, asked, like)


def _open(options: DataOptions, progress: Callable[[int, int], None] | None) -> DataSet:
    path = Path(options.data)
    return kind_of(path, options).open(path, options, progress)
