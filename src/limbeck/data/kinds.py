"""The kinds of data on disk that come with Limbeck, but for speech."""

__all__ = [
    "ARCHIVE",
    "EMNIST",
    "IDX",
    "IMAGES",
    "IMAGE_LIST",
    "MNIST",
    "MNIST_MD5",
    "TABLE",
    "TEXT",
    "open_mnist",
]

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from limbeck.data.archives import open_archive, open_archive_inputs
from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.idx_folders import has_idx, open_idx
from limbeck.data.splits import cut_test
from limbeck.data.text_files import open_text, open_text_inputs, part_files
from limbeck.errors import ConfigError, DataError, FormatError
from limbeck.formats.matfile import read_emnist
from limbeck.options import DataOptions, ImagePresentation
from limbeck.options.kinds import DATA_KINDS

MNIST_MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
"""MD5 of the four original files, gzipped, by LeCun, Cortes and Burges."""

Progress = Callable[[int, int], None]
_TABLES = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class _Kind:
    """A kind whose examples can be had without their labels by leaving these out."""

    name: str
    what: tuple[str, str]
    claims: Callable[[Path, DataOptions], bool]
    reads: Callable[[Path, DataOptions], DataSet]
    settings: frozenset[str] = field(default_factory=frozenset)
    unlabelled: Callable[[Path, DataOptions, DataSet | None], Examples | None] | None = None

    def open(self, path: Path, options: DataOptions, progress: Progress | None) -> DataSet:
        """Read it; where no test set comes with the data a tenth is cut out as one."""
        try:
            return cut_test(self.reads(path, options))
        except OSError as error:
            raise FormatError(error.filename or path, f"cannot be read: {error.strerror or error}") from error
        except FormatError:
            raise
        except DataError as error:
            raise FormatError(path, str(error).removeprefix(f"{path.stem}: ")) from error

    def open_inputs(self, path: Path, options: DataOptions, like: DataSet | None) -> Examples:
        """Read the training part, without labels."""
        found = None if self.unlabelled is None else self.unlabelled(path, options, like)
        return self.open(path, options, None).train.without_labels() if found is None else found


def open_mnist() -> DataSet:
    """The digits that come with the package; FormatError where they are not whole."""
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


def _open_mat(path: Path) -> DataSet:
    arrays = read_emnist(path)
    return DataSet(
        path.stem,
        arrays.classes,
        Examples.of(arrays.train_images, arrays.train_labels),
        Examples.of(arrays.test_images, arrays.test_labels) if len(arrays.test_labels) else None,
    )


def _open_images(path: Path, options: DataOptions) -> DataSet:
    from limbeck.data.image_folders import open_folder  # Pillow is imported where it is used

    return open_folder(path, options.image_size)


def _open_unlabelled_images(path: Path, options: DataOptions, like: DataSet | None) -> Examples | None:
    from limbeck.data.image_folders import open_folder_inputs

    return open_folder_inputs(path, options.image_size, presentation=_shown(like))


def _shown(like: DataSet | None) -> ImagePresentation | None:
    """How the images are seen beside which others are used."""
    seen = None if like is None else getattr(like.train.inputs, "presentation", None)
    return seen if isinstance(seen, ImagePresentation) else None


def _open_listed_images(path: Path, options: DataOptions) -> DataSet:
    from limbeck.data.image_tables import open_image_table

    return open_image_table(
        path,
        image_column=options.image_column or "path",
        label_column=options.label_column or "label",
        image_size=options.image_size,
    )


def _open_unlabelled_list(path: Path, options: DataOptions, like: DataSet | None) -> Examples:
    from limbeck.data.image_tables import open_image_table_inputs

    return open_image_table_inputs(
        path,
        image_column=options.image_column or "path",
        image_size=options.image_size,
        presentation=_shown(like),
    )


def _open_table(path: Path, options: DataOptions) -> DataSet:
    from limbeck.data.table_files import open_table

    return open_table(path, label_column=options.label_column, group_column=options.group_column)


def _open_unlabelled_table(path: Path, options: DataOptions, like: DataSet | None) -> Examples:
    from limbeck.data.table_files import open_table_inputs

    found = open_table_inputs(path, label_column=options.label_column, group_column=options.group_column)
    seen = None if like is None else getattr(like.train.inputs, "presentation", None)
    return found.with_presentation(seen)


def _open_text(path: Path, options: DataOptions) -> DataSet:
    return open_text(
        path,
        text_column=_text_column(options),
        pair_column=options.pair_column,
        label_column=options.label_column or "label",
        group_column=options.group_column,
    )


def _open_unlabelled_text(path: Path, options: DataOptions, like: DataSet | None) -> Examples:
    return open_text_inputs(
        path,
        text_column=_text_column(options),
        pair_column=options.pair_column,
        group_column=options.group_column,
    )


def _text_column(options: DataOptions) -> str:
    if options.text_column is None:
        raise ConfigError(f"{options.data} holds texts: name the column with text_column")
    return options.text_column


def _is_text(path: Path, options: DataOptions) -> bool:
    if options.text_column is None:
        return False
    return path.suffix.lower() in _TABLES or (path.is_dir() and bool(_part_files(path)))


def _part_files(path: Path) -> dict[str, Path]:
    try:
        return part_files(path)
    except FormatError:
        return {}


MNIST = _Kind(
    "mnist",
    DATA_KINDS["mnist"],
    lambda path, _: str(path) == "mnist",
    lambda *_: open_mnist(),
)
ARCHIVE = _Kind(
    "an archive of arrays",
    DATA_KINDS["archive"],
    lambda path, _: path.suffix.lower() == ".npz" and os.path.isfile(path),
    lambda path, options: open_archive(path, options.layout),
    frozenset({"layout"}),
    lambda path, options, _: open_archive_inputs(path, options.layout),
)
EMNIST = _Kind(
    "an EMNIST file",
    DATA_KINDS["emnist"],
    lambda path, _: path.suffix.lower() == ".mat" and os.path.isfile(path),
    lambda path, _: _open_mat(path),
)
IDX = _Kind(
    "a folder of IDX files",
    DATA_KINDS["idx"],
    lambda path, _: path.is_dir() and has_idx(path),
    lambda path, _: open_idx(path),
)
TEXT = _Kind(
    "texts",
    DATA_KINDS["text"],
    _is_text,
    _open_text,
    frozenset({"text_column", "pair_column", "label_column", "group_column"}),
    _open_unlabelled_text,
)
IMAGE_LIST = _Kind(
    "a list of images",
    DATA_KINDS["image list"],
    lambda path, options: options.image_column is not None and path.suffix.lower() in _TABLES,
    _open_listed_images,
    frozenset({"image_column", "image_size", "label_column"}),
    _open_unlabelled_list,
)
TABLE = _Kind(
    "a table",
    DATA_KINDS["table"],
    lambda path, _: path.suffix.lower() in {".csv", ".parquet"} and os.path.isfile(path),
    _open_table,
    frozenset({"label_column", "group_column"}),
    _open_unlabelled_table,
)
IMAGES = _Kind(
    "a folder of images",
    DATA_KINDS["images"],
    lambda path, _: path.is_dir(),
    _open_images,
    frozenset({"image_size"}),
    _open_unlabelled_images,
)
