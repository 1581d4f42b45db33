"""Data sets by name or path: MNIST from inside the package, and the formats that image data come in."""

__all__ = ["MNIST_MD5", "is_kaldi", "open_data", "open_inputs"]

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from limbeck.data.examples import DataSet, Examples
from limbeck.data.splits import cut_validation, stratified_rows, subset
from limbeck.errors import ConfigError, DataError, FormatError
from limbeck.formats.idx import read_idx
from limbeck.formats.matfile import read_emnist
from limbeck.formats.npz import read_npz
from limbeck.options import DataOptions

MNIST_MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
"""MD5 of the four original files, gzipped, by LeCun, Cortes and Burges."""

_TEST_SHARE = 0.1


def open_data(
    source: str | Path | DataOptions,
    *,
    image_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DataSet:
    """Read a data set.

    ========================== ==================================================================================
    ``source``                 what is read
    ========================== ==================================================================================
    ``"mnist"``                the 60,000 and 10,000 digits that come with the package
    a ``.mat`` file            any split of EMNIST in its official layout
    a ``.npz`` file            arrays ``x`` and ``y``; with ``x_test`` and ``y_test``, ``classes`` where there are
    a folder with IDX files    the four files of MNIST, Fashion-MNIST, Kuzushiji-MNIST, ..., gzipped or not
    any other folder           pictures, one sub-folder a class; or ``train`` and ``test`` folders of such
    a Kaldi data directory     frames of speech; by options only, because alignments are needed with it
    ========================== ==================================================================================

    Where no test set comes with the data, a tenth is cut out as one: stratified, and the same every time.

    Args:
        source: A name, a path, or options; options also cut the validation set.
        image_size: Resize a folder's pictures to this many pixels, square.
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
    if str(source) == "mnist":
        return _mnist()
    path = Path(source)
    if not path.exists():
        raise FormatError(path, "there is no such file or folder; the only data set known by name is mnist")
    if is_kaldi(path):
        raise ConfigError(f"{path} is a Kaldi directory, and its labels are needed: give options with ali")
    reader = _reader(path)
    try:
        return _with_test(reader(path, image_size))
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
            ``x`` alone; or a Kaldi data directory, for which no alignments are needed.
        like: The data set beside which they will be used: speech is read as its front end says.
        options: The size to which a folder's pictures are resized, and how speech is read.

    Returns:
        The examples, without labels.

    Raises:
        FormatError: If a file is missing, truncated, corrupt or of another format.
    """
    path = Path(source)
    if like is not None and like.front_end is not None and is_kaldi(path):
        from limbeck.data.speech.opening import open_transfer

        return open_transfer(path, like.front_end, options)
    if path.suffix.lower() == ".npz" and path.is_file():
        arrays = read_npz(path)
        if "x" not in arrays:
            raise FormatError(path, f"has no array x: it holds {', '.join(sorted(arrays)) or 'nothing'}")
        try:
            return Examples.of(arrays["x"])
        except DataError as error:
            raise FormatError(path, str(error)) from error
    return open_data(source, image_size=options.image_size).train.without_labels()


def is_kaldi(path: str | Path) -> bool:
    """Whether a path is a Kaldi data directory, or a script file of features.

    Args:
        path: Any path.

    Returns:
        Whether it is.
    """
    place = Path(path)
    return (place / "feats.scp").exists() or (place.suffix == ".scp" and place.is_file())


def _open(options: DataOptions, progress: Callable[[int, int], None] | None) -> DataSet:
    if is_kaldi(options.data):
        if options.image_size is not None:
            raise ConfigError(f"image_size has no meaning for the Kaldi directory {options.data}: leave it out")
        from limbeck.data.speech import open_speech

        return open_speech(options, progress=progress)
    if given := options.speech_settings():
        raise ConfigError(f"{given[0]} has a meaning for Kaldi directories only, and {options.data} is none")
    return open_data(options.data, image_size=options.image_size)


def _reader(path: Path) -> Callable[[Path, int | None], DataSet]:
    if path.is_dir():
        return _idx_folder if any(_idx_file(path, stem) for stem in MNIST_MD5) else _picture_folder
    readers: dict[str, Callable[[Path, int | None], DataSet]] = {".mat": _mat, ".npz": _npz}
    if path.suffix.lower() not in readers:
        raise FormatError(
            path,
            "is not of a known kind: give an EMNIST .mat file, an .npz file, or a folder of IDX files or pictures",
        )
    return readers[path.suffix.lower()]


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
    return replace(_idx_folder(folder, None), name="mnist")


def _idx_file(folder: Path, stem: str) -> Path | None:
    for name in (stem, f"{stem}.gz", stem.replace("-idx", ".idx"), f"{stem.replace('-idx', '.idx')}.gz"):
        if (folder / name).is_file():
            return folder / name
    return None


def _idx_folder(folder: Path, _: int | None) -> DataSet:
    arrays: dict[str, np.ndarray] = {}
    for stem in MNIST_MD5:
        file = _idx_file(folder, stem)
        if file is None:
            raise FormatError(folder / stem, "is missing, with .gz or without; the four files belong together")
        arrays[stem] = read_idx(file)
        if arrays[stem].dtype != np.uint8 or arrays[stem].ndim != (3 if "images" in stem else 1):
            raise FormatError(
                file,
                f"holds {arrays[stem].dtype} of shape {arrays[stem].shape}, not the bytes of images or labels",
            )
    pairs = [(arrays[f"{part}-images-idx3-ubyte"], arrays[f"{part}-labels-idx1-ubyte"]) for part in ("train", "t10k")]
    for part, (images, labels) in zip(("train", "t10k"), pairs, strict=True):
        if len(images) != len(labels):
            raise FormatError(folder, f"the {part} files hold {len(images)} images and {len(labels)} labels")
    (x, y), (x_test, y_test) = pairs
    if not len(y):
        raise DataError("the training files hold no images")
    classes = tuple(str(k) for k in range(int(y.max()) + 1))
    return DataSet(folder.name, classes, Examples.of(x, y), Examples.of(x_test, y_test) if len(y_test) else None)


def _mat(path: Path, _: int | None) -> DataSet:
    arrays = read_emnist(path)
    return DataSet(
        path.stem,
        arrays.classes,
        Examples.of(arrays.train_images, arrays.train_labels),
        Examples.of(arrays.test_images, arrays.test_labels) if len(arrays.test_labels) else None,
    )


def _npz(path: Path, _: int | None) -> DataSet:
    arrays = read_npz(path)
    known = {"x", "y", "x_test", "y_test", "classes"}
    for name in ("x", "y"):
        if name not in arrays:
            raise FormatError(path, f"has no array {name}: it holds {', '.join(sorted(arrays)) or 'nothing'}")
    if unknown := sorted(set(arrays) - known):
        raise FormatError(path, f"has arrays that are not known: {', '.join(unknown)}; known are {sorted(known)}")
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise FormatError(path, "has one of x_test and y_test without the other")
    labels = arrays["y"]
    try:
        if "classes" in arrays:
            classes = _names("classes", arrays["classes"])
            train, test_labels = Examples.of(arrays["x"], labels), arrays.get("y_test")
        else:
            # Labels may be names, or numbers with gaps: their sorted values are the classes.
            values = np.unique(labels)
            classes = _names("labels", values)
            train = Examples.of(arrays["x"], np.searchsorted(values, labels))
            test_labels = arrays.get("y_test")
            if test_labels is not None:
                strange = np.setdiff1d(test_labels, values)
                if len(strange):
                    raise DataError(f"y_test holds the class {str(strange[0])!r}, and y does not")
                test_labels = np.searchsorted(values, test_labels)
        test = None if test_labels is None else Examples.of(arrays["x_test"], test_labels)
    except DataError as error:
        raise FormatError(path, str(error)) from error
    return DataSet(path.stem, classes, train, test)


def _names(what: str, values: np.ndarray) -> tuple[str, ...]:
    if values.ndim != 1 or values.dtype.kind not in "buiU":
        raise DataError(f"{what} must be a list of names or integers, and are {values.dtype} of shape {values.shape}")
    return tuple(str(value) for value in values.tolist())


def _picture_folder(folder: Path, image_size: int | None) -> DataSet:
    from limbeck.formats.pictures import read_pictures  # Pillow is imported where it is used

    size = None if image_size is None else (image_size, image_size)
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        train, test = read_pictures(folder / "train", size=size), read_pictures(folder / "test", size=size)
        if train.classes != test.classes:
            odd = sorted(set(train.classes) ^ set(test.classes))
            raise FormatError(folder, f"train and test have different classes: {', '.join(odd)} in one alone")
        return DataSet(
            folder.name,
            train.classes,
            Examples.of(train.images, train.labels),
            Examples.of(test.images, test.labels),
        )
    pictures = read_pictures(folder, size=size)
    return DataSet(folder.name, pictures.classes, Examples.of(pictures.images, pictures.labels))


def _with_test(data: DataSet) -> DataSet:
    if data.test is not None or data.train.labels is None or len(data.train) < 2 * len(data.classes):
        return data
    rows = stratified_rows(data.train.labels, max(1, round(_TEST_SHARE * len(data.train))), seed=0)
    kept = torch.ones(len(data.train), dtype=torch.bool)
    kept[rows] = False
    return replace(data, train=data.train.take(kept.nonzero().flatten()), test=data.train.take(rows))
