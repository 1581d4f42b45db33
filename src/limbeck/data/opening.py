"""Opening of data sets by name, path or options."""

__all__ = ["open_data", "open_inputs"]

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack, cast

from limbeck.data.data_set import DataSet, as_transfer
from limbeck.data.examples import Examples
from limbeck.data.kinds import kind_of_rows
from limbeck.data.part_sources import whole_name
from limbeck.data.registry import Kind, claimed, refuse_others, settings_for
from limbeck.data.splits import cut_validation, subset
from limbeck.errors import ConfigError, MismatchError
from limbeck.formats.in_memory import is_held
from limbeck.options import DataKeywords, DataOptions
from limbeck.options.checks import from_keywords, shown
from limbeck.options.kinds import every_option
from limbeck.system.callbacks import warn_user


def open_data(
    source: Any,
    *,
    progress: Callable[[int, int], None] | None = None,
    **settings: Unpack[DataKeywords],
) -> DataSet:
    """Read a data set.

    ========================== ==================================================================================
    ``source``                 what is read
    ========================== ==================================================================================
    ``"mnist"``                the 60,000 and 10,000 digits that come with the package
    a ``.mat`` file            any split of EMNIST in its official layout
    a ``.npz`` file            arrays ``x`` and ``y``, or ``x_train``, ``val_images``, ``test_labels`` and the like
    a folder with IDX files    the four files of MNIST, Fashion-MNIST, EMNIST, ..., gzipped or not
    a ``.csv``, ``.parquet``,  rows of a table; of texts where ``text_column`` is named, of words with classes where
    ... file of rows           ``words_column`` is, of paths of images where ``image_column`` is
    a ``.conll`` file          words with classes, one per line
    a DataFrame, a data set    the same; also a mapping of such by the names of parts, as a ``DatasetDict`` is
    of Hugging Face
    any other folder           images, one sub-folder per class; or ``train``, ``val``, ``test`` folders of such
    a Kaldi data directory     frames of speech; by options only, because alignments are needed with it
    ========================== ==================================================================================

    Where no test set comes with the data, a tenth is cut out as one: stratified, and the same every time.

    Args:
        source: A name, a path, rows in memory, or options; options also cut the validation set.
        progress: Called with utterances read and all, where the data are speech.
        **settings: Fields of :class:`~limbeck.options.DataOptions`, such as ``text_column`` or ``image_size``, where
            ``source`` is not options. A validation set is cut where ``validation`` is among them.

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
    """  # noqa: DOC502
    if isinstance(source, DataOptions):
        if settings:
            raise ConfigError(f"source is options already: set {next(iter(settings))} in these")
        return _divided(_tell_own_validation(_open(source, progress), source), source)
    if is_held(source) or isinstance(source, Mapping):
        options = from_keywords(every_option(), {**settings, "data": str(whole_name(source))})
        kind = kind_of_rows(options)
        refuse_others(cast(Kind, kind), whole_name(source), options)
        data = kind.open(source, options, progress)
    elif isinstance(source, str | os.PathLike) and isinstance(os.fspath(source), str):
        options = from_keywords(every_option(), {**settings, "data": os.fspath(source)})
        data = _open(options, progress)
    else:
        raise ConfigError(f"source must be a name, a path, a table or options, and is {shown(source)}")
    if "validation" not in settings:
        return _divided(data, replace(options, validation=0.0))
    return _divided(_tell_own_validation(data, options), options)


def _tell_own_validation(data: DataSet, options: DataOptions) -> DataSet:
    """Warn of a share for validation where it comes with the data."""
    if data.validation is not None and options.validation != DataOptions().validation:
        warn_user(
            f"validation is {options.validation:g}, and has no effect: {data.name} has {len(data.validation):,} "
            "validation examples of its own"
        )
    return data


def _divided(data: DataSet, options: DataOptions) -> DataSet:
    """The data set with a validation set, and as many training examples as are asked for."""
    data = cut_validation(data, options.validation)
    return data if options.train_examples is None else subset(data, options.train_examples)


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
        options: Data options, such as the size to which a folder's images are resized.

    Returns:
        The examples, without labels.

    Raises:
        FormatError: If a file is missing, truncated, corrupt or of another format.
        MismatchError: If the inputs have another type or shape than those of ``like``.
    """  # noqa: DOC502
    path = Path(source)
    asked = replace(options, data=os.fspath(source))
    if like is None:
        kind, settled = claimed(path, asked)
        return kind.open_inputs(path, settled, None)
    kind, settled = claimed(path, settings_for(path, replace(asked, validation_data=None, test_data=None)))
    name = f"transfer (--transfer): {path}"
    try:
        found = kind.open_inputs(path, settled, like)
    except MismatchError as error:
        raise MismatchError(f"{name} does not fit {like.name}: {error}") from error
    as_transfer(found, like, name)
    return found


def _open(options: DataOptions, progress: Callable[[int, int], None] | None) -> DataSet:
    path = Path(options.data)
    kind, settled = claimed(path, options)
    return kind.open(path, settled, progress)
