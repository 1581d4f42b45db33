"""Data sets by name or path: MNIST from inside the package, and the formats that image data come in."""

__all__ = ["MNIST_MD5", "is_kaldi", "open_data", "open_inputs"]

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from limbeck.data.archives import open_archive, open_archive_inputs
from limbeck.data.examples import DataSet, Examples
from limbeck.data.idx_folders import has_idx, open_idx
from limbeck.data.splits import cut_test, cut_validation, subset
from limbeck.data.values import Layout
from limbeck.errors import ConfigError, DataError, FormatError
from limbeck.formats.matfile import read_emnist
from limbeck.options import DataOptions, ImagePresentation
from limbeck.options.checks import shown

MNIST_MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
"""MD5 of the four original files, gzipped, by LeCun, Cortes and Burges."""


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
        data = _open(source, progress)
        data = cut_validation(data, source.validation)
        return data if source.train_examples is None else subset(data, source.train_examples)
    if not isinstance(source, str | os.PathLike) or not isinstance(os.fspath(source), str):
        raise ConfigError(f"source must be a name, a path or options, and is {shown(source)}")
    if str(source) == "mnist":
        return _mnist()
    path = Path(source)
    if not os.path.exists(path):  # False for names that are too long
        raise FormatError(path, "there is no such file or folder; the only data set known by name is mnist")
    if is_kaldi(path):
        raise ConfigError(f"{path} is a Kaldi directory, and its labels are needed: give options with ali")
    try:
        return cut_test(_read(path, image_size, layout))
    except OSError as error:
        raise FormatError(error.filename or path, f"cannot be read: {error.strerror or error}") from error
    except DataError as error:
        raise FormatError(path, str(error).removeprefix(f"{path.stem}: ")) from error


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
    if like is not None and like.front_end is not None and is_kaldi(path):
        from limbeck.kaldi.source.opening import open_transfer

        return open_transfer(path, like.front_end, options)
    if path.suffix.lower() == ".npz" and os.path.isfile(path):
        return open_archive_inputs(path, options.layout)
    if os.path.isdir(path) and not has_idx(path):
        from limbeck.data.image_folders import open_folder_inputs  # Pillow is imported where it is used

        seen = None if like is None else getattr(like.train.inputs, "presentation", None)
        shown = seen if isinstance(seen, ImagePresentation) else None
        found = open_folder_inputs(path, options.image_size, presentation=shown)
        if found is not None:
            return found
    return open_data(source, image_size=options.image_size, layout=options.layout).train.without_labels()


def is_kaldi(path: str | Path) -> bool:
    """Whether a path is a Kaldi data directory, or a script file of features.

    Args:
        path: Any path.

    Returns:
        Whether it is.
    """
    place = Path(path)
    return os.path.exists(place / "feats.scp") or (place.suffix == ".scp" and os.path.isfile(place))


def _open(options: DataOptions, progress: Callable[[int, int], None] | None) -> DataSet:
    if is_kaldi(options.data):
        if options.image_size is not None:
            raise ConfigError(f"image_size has no meaning for the Kaldi directory {options.data}: leave it out")
        from limbeck.kaldi.source import open_speech

        return open_speech(options, progress=progress)
    if given := options.speech_settings():
        raise ConfigError(f"{given[0]} has a meaning for Kaldi directories only, and {options.data} is none")
    return open_data(options.data, image_size=options.image_size, layout=options.layout)


def _read(path: Path, image_size: int | None, layout: Layout | None) -> DataSet:
    archive = path.suffix.lower() == ".npz" and not path.is_dir()
    idx = path.is_dir() and has_idx(path)
    if layout is not None and not archive:
        raise ConfigError(f"layout is for arrays in .npz files, and {path} is not one: leave it out")
    if image_size is not None and (idx or not path.is_dir()):
        raise ConfigError(f"image_size is for folders of images, and {path} is not one: leave it out")
    if archive:
        return open_archive(path, layout)
    if idx:
        return open_idx(path)
    if path.is_dir():
        from limbeck.data.image_folders import open_folder  # Pillow is imported where it is used

        return open_folder(path, image_size)
    if path.suffix.lower() == ".mat":
        return _mat(path)
    raise FormatError(
        path,
        "is not of a known kind: give an EMNIST .mat file, an .npz file, or a folder of IDX files or images",
    )


def _mnist() -> DataSet:
    folder = Path(__file__).parent / "mnist"
    for stem, expected in MNIST_MD5.items():
        file = folder / f"{stem}.gz"
        try:
            found = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        except OSError as error:
            raise FormatError(file, "is missing from the package: install Limbeck again") from error
        if found != expected:
            raise FormatError(file, f"has MD5 {found} and should have {expected}: install Limbeck again")
    return replace(open_idx(folder), name="mnist")


def _mat(path: Path) -> DataSet:
    arrays = read_emnist(path)
    return DataSet(
        path.stem,
        arrays.classes,
        Examples.of(arrays.train_images, arrays.train_labels),
        Examples.of(arrays.test_images, arrays.test_labels) if len(arrays.test_labels) else None,
    )
