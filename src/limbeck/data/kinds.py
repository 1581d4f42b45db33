"""The built-in kinds of data on disk, except speech."""

__all__ = [
    "ARCHIVE",
    "EMNIST",
    "IDX",
    "IMAGES",
    "IMAGE_LIST",
    "MNIST",
    "MNIST_MD5",
    "NEXT_TOKEN",
    "TABLE",
    "TEXT",
    "WORDS",
    "kind_of_rows",
    "open_mnist",
]

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from limbeck.data.archives import open_archive, open_archive_inputs
from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.idx_folders import has_idx, open_idx
from limbeck.data.part_sources import part_files, whole_name
from limbeck.data.position_files import open_next_token_inputs, open_next_tokens, open_word_inputs, open_words
from limbeck.data.splits import cut_test
from limbeck.data.text_files import open_text, open_text_inputs
from limbeck.errors import ConfigError, DataError, FormatError
from limbeck.formats.conll import CONLL_SUFFIXES
from limbeck.formats.matfile import read_emnist
from limbeck.formats.records import RECORD_SUFFIXES
from limbeck.options import DataOptions, ImagePresentation, TextPresentation
from limbeck.options.kinds import DATA_KINDS

MNIST_MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
"""MD5 of the four original files, gzipped, by LeCun, Cortes and Burges."""

Progress = Callable[[int, int], None]
_TABLES = (".csv", ".tsv", ".parquet", ".pq")
_PACKED = (".csv.gz", ".tsv.gz")
_WINDOW = 256
"""Tokens of a window of text where nobody says."""


@dataclass(frozen=True)
class _Kind:
    """A kind whose examples can be had without their labels by leaving these out."""

    name: str
    what: tuple[str, str]
    claims: Callable[[Path, DataOptions], bool]
    reads: Callable[[Any, DataOptions], DataSet]
    settings: frozenset[str] = field(default_factory=frozenset)
    unlabelled: Callable[[Path, DataOptions, DataSet | None], Examples | None] | None = None

    def open(self, path: Any, options: DataOptions, progress: Progress | None) -> DataSet:
        """Read a path, or rows in memory; where no test set comes with the data a tenth is cut out as one."""
        place = whole_name(path)
        try:
            return cut_test(self.reads(path, options))
        except OSError as error:
            raise FormatError(error.filename or place, f"cannot be read: {error.strerror or error}") from error
        except FormatError:
            raise
        except DataError as error:
            raise FormatError(place, str(error).removeprefix(f"{place.stem}: ")) from error

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


def _open_listed_images(source: Any, options: DataOptions) -> DataSet:
    from limbeck.data.image_tables import open_image_table

    return open_image_table(
        source,
        image_column=options.image_column or "path",
        image_size=options.image_size,
        **_labels_of(options),
        **_beside(options, "id_column"),
    )


def _open_unlabelled_list(path: Path, options: DataOptions, like: DataSet | None) -> Examples:
    from limbeck.data.image_tables import open_image_table_inputs

    return open_image_table_inputs(
        path,
        image_column=options.image_column or "path",
        id_column=options.id_column,
        image_size=options.image_size,
        presentation=_shown(like),
    )


def _labels_of(options: DataOptions) -> dict[str, Any]:
    """Which columns hold the labels."""
    return {
        "label_column": options.label_column or "label",
        "label_columns": options.label_columns,
        "label_separator": options.label_separator,
    }


def _beside(options: DataOptions, *names: str) -> dict[str, Any]:
    """Settings by their names, and the files of validation and test examples."""
    found = {name: getattr(options, name) for name in names}
    return {**found, "validation": options.validation_data, "test": options.test_data}


def _open_table(source: Any, options: DataOptions) -> DataSet:
    from limbeck.data.table_files import open_table

    labels = {**_labels_of(options), "label_column": options.label_column}
    return open_table(
        source,
        category_columns=options.category_columns or (),
        leave_out=options.leave_out or (),
        **labels,
        **_beside(options, "group_column", "id_column"),
    )


def _open_unlabelled_table(path: Path, options: DataOptions, like: DataSet | None) -> Examples:
    from limbeck.data.table_files import open_table_inputs

    found = open_table_inputs(
        path,
        label_column=options.label_column,
        label_columns=options.label_columns,
        group_column=options.group_column,
        id_column=options.id_column,
        leave_out=options.leave_out or (),
    )
    seen = None if like is None else getattr(like.train.inputs, "presentation", None)
    return found.with_presentation(seen)


def _open_text(source: Any, options: DataOptions) -> DataSet:
    return open_text(
        source,
        text_column=_text_column(options),
        **_labels_of(options),
        **_beside(options, "pair_column", "group_column", "id_column"),
    )


def _open_unlabelled_text(path: Path, options: DataOptions, like: DataSet | None) -> Examples:
    return open_text_inputs(
        path,
        text_column=_text_column(options),
        pair_column=options.pair_column,
        group_column=options.group_column,
        id_column=options.id_column,
    )


def _text_column(options: DataOptions) -> str:
    if options.text_column is None:
        raise ConfigError(f"{options.data} holds texts: name the column with text_column")
    return options.text_column


def _open_words(source: Any, options: DataOptions) -> DataSet:
    return open_words(
        source,
        words_column=options.words_column,
        labels_column=options.label_column,
        **_beside(options, "group_column", "id_column"),
    )


def _open_unlabelled_words(path: Path, options: DataOptions, like: DataSet | None) -> Examples:
    return open_word_inputs(
        path, words_column=options.words_column, group_column=options.group_column, id_column=options.id_column
    )


def _open_next_tokens(source: Any, options: DataOptions) -> DataSet:
    return open_next_tokens(
        source,
        _windows(options),
        text_column=options.text_column or "text",
        vocabulary=options.vocabulary,
        **_beside(options, "group_column"),
    )


def _open_unlabelled_next_tokens(path: Path, options: DataOptions, like: DataSet | None) -> Examples:
    seen = None if like is None else like.train.presentation
    windows = seen if isinstance(seen, TextPresentation) else _windows(options)
    return open_next_token_inputs(
        path, windows, text_column=options.text_column or "text", group_column=options.group_column
    )


def _windows(options: DataOptions) -> TextPresentation:
    if options.tokenizer is None:
        raise ConfigError(
            "next_token makes the tokens of a tokenizer the classes: give a model as hf:FOLDER that has one beside it, "
            "or name one with tokenizer (--tokenizer)"
        )
    return TextPresentation(options.tokenizer, options.max_length or _WINDOW)


def _is_text(path: Path, options: DataOptions) -> bool:
    return options.text_column is not None and not options.next_token and _has_rows(path)


def _is_words(path: Path, options: DataOptions) -> bool:
    if path.suffix.lower() in CONLL_SUFFIXES:
        return True
    if path.is_dir() and any(file.suffix.lower() in CONLL_SUFFIXES for file in _part_files(path).values()):
        return True
    return options.words_column is not None and _has_rows(path)


def _has_rows(path: Path) -> bool:
    return path.suffix.lower() in RECORD_SUFFIXES or (path.is_dir() and bool(_part_files(path)))


def _is_table(path: Path, options: DataOptions) -> bool:
    if path.is_dir():
        files = _part_files(path).values()
        return bool(files) and all(file.suffix.lower() in _TABLES for file in files)
    return str(path).lower().endswith((*_TABLES, *_PACKED)) and os.path.isfile(path)


def _part_files(path: Path) -> dict[str, Path]:
    try:
        return part_files(path)
    except (FormatError, OSError):
        return {}


def kind_of_rows(options: DataOptions) -> "_Kind":
    """The kind of rows that are in memory already, which settings tell: texts, words, images' paths or a table.

    Args:
        options: How they are read.

    Returns:
        The kind.
    """
    if options.words_column is not None:
        return WORDS
    if options.next_token:
        return NEXT_TOKEN
    if options.text_column is not None:
        return TEXT
    return TABLE if options.image_column is None else IMAGE_LIST


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
_PARTS = frozenset({"validation_data", "test_data"})
_TEXTS = frozenset({"tokenizer", "max_length"})
_LABELS = frozenset({"label_column", "label_columns", "label_separator"})
WORDS = _Kind(
    "words with classes",
    DATA_KINDS["words"],
    _is_words,
    _open_words,
    frozenset({"words_column", "label_column", "group_column", "id_column"}) | _TEXTS | _PARTS,
    _open_unlabelled_words,
)
NEXT_TOKEN = _Kind(
    "texts for language models",
    DATA_KINDS["next token"],
    lambda path, options: options.next_token and _has_rows(path),
    _open_next_tokens,
    frozenset({"next_token", "text_column", "group_column", "vocabulary"}) | _TEXTS | _PARTS,
    _open_unlabelled_next_tokens,
)
TEXT = _Kind(
    "texts",
    DATA_KINDS["text"],
    _is_text,
    _open_text,
    frozenset({"text_column", "pair_column", "group_column", "id_column"}) | _TEXTS | _LABELS | _PARTS,
    _open_unlabelled_text,
)
IMAGE_LIST = _Kind(
    "a list of images",
    DATA_KINDS["image list"],
    lambda path, options: options.image_column is not None and path.suffix.lower() in RECORD_SUFFIXES,
    _open_listed_images,
    frozenset({"image_column", "image_size", "id_column"}) | _LABELS | _PARTS,
    _open_unlabelled_list,
)
TABLE = _Kind(
    "a table",
    DATA_KINDS["table"],
    _is_table,
    _open_table,
    frozenset({"group_column", "id_column", "category_columns", "leave_out"}) | _LABELS | _PARTS,
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
