"""The kinds of data that come with Limbeck, and the settings that kinds have of their own; nothing is opened.

A kind with more settings than :class:`~limbeck.options.DataOptions` has a frozen dataclass derived from it.
One of another package is named by an entry point of the group ``limbeck.source_options``: then its fields are flags
and TOML keys too. Such a module must not import slow packages, for ``limbeck --help`` imports it.
"""

__all__ = ["DATA_KINDS", "every_option", "kept_files", "option_classes"]

import dataclasses
import warnings
from functools import cache
from importlib import import_module

from limbeck.errors import LimbeckWarning
from limbeck.options.data import DataOptions
from limbeck.system.extras import entry_points

DATA_KINDS = {
    "mnist": ("mnist", "60,000 and 10,000 digits, 28x28; inside the package"),
    "images": ("FOLDER of images", "one sub-folder per class; or train, val and test folders of these"),
    "image list": ("FILE.csv, .tsv, .jsonl, .parquet of paths", "--image-column, --label-column: one row per image"),
    "text": (
        "FILE.csv, .tsv, .jsonl, .parquet of texts",
        "--text-column, --label-column; or a folder with files train, validation and test",
    ),
    "words": (
        "FILE.jsonl, .parquet of lists of words, or .conll",
        "--words-column, --label-column: lists of words and of their classes; or one word per line",
    ),
    "next token": (
        "FILE.csv, .tsv, .jsonl, .parquet of texts",
        "--next-token, --text-column: the class of each position is the next token",
    ),
    "table": ("FILE.csv, .parquet of numbers and categories", "--label-column, --group-column: one row per example"),
    "archive": (
        "FILE.npz",
        "arrays x and y, or x_train, val_images, test_labels and the like; optionally classes",
    ),
    "idx": ("FOLDER of IDX files", "the four files of MNIST, Fashion-MNIST, EMNIST, ...; gzipped or not"),
    "emnist": ("FILE.mat", "any split of EMNIST in its official layout"),
    "kaldi": ("Kaldi data directory", "feats.scp, optionally cmvn.scp and utt2spk; alignments by --ali"),
}
"""How each kind is named on the command line, and what it is."""

_BUILT_IN = ("limbeck.kaldi.options:SpeechOptions",)
"""Imported by name when needed: options do not depend on any kind."""
_GROUP = "limbeck.source_options"


@cache
def option_classes() -> tuple[type[DataOptions], ...]:
    """The classes of settings that kinds of data have of their own.

    Returns:
        The classes, Limbeck's first. An unusable one of another package is left out with a warning: it must not break
        ``limbeck --help``.
    """
    found: list[type[DataOptions]] = []
    for place in _BUILT_IN:
        module, name = place.split(":")
        found.append(getattr(import_module(module), name))
    for point in entry_points(group=_GROUP):
        try:
            given = point.load()
            reason = _unfit(given, found)
        except Exception as error:  # any error of another package
            reason = f"{type(error).__name__}: {error}"
        if reason is None:
            found.append(given)
        else:
            warnings.warn(f"settings of {point.name} ({point.value}) are left out: {reason}", LimbeckWarning, 2)
    return tuple(found)


@cache
def every_option() -> type[DataOptions]:
    """A class with the settings of all kinds: the source of the flags, and the keys of ``config.toml``.

    Returns:
        A frozen dataclass derived from all of :func:`option_classes`.

    Example:
        >>> {"data", "ali"} <= {field.name for field in dataclasses.fields(every_option())}
        True
    """
    bases = tuple(reversed(option_classes()))
    doc = "The data set, its splits, and the settings of single kinds of data."
    named = {"__doc__": doc, "__module__": __name__}  # else its module would be dataclasses
    made: type[DataOptions] = dataclasses.make_dataclass(
        "EveryOption", [], bases=bases, namespace=named, frozen=True, kw_only=True
    )
    return made


def kept_files() -> tuple[str, ...]:
    """Names of the files that runs save beside a model for some kinds of data."""
    return tuple(name for kind in option_classes() for name in getattr(kind, "kept_files", ()))


def _unfit(given: object, others: list[type[DataOptions]]) -> str | None:
    """Why a class cannot be used, or None."""
    if not (isinstance(given, type) and issubclass(given, DataOptions) and dataclasses.is_dataclass(given)):
        return "it is not a dataclass derived from limbeck.options.DataOptions"
    plain = {field.name for field in dataclasses.fields(DataOptions)}
    own = {field.name for field in dataclasses.fields(given)} - plain
    for other in others:
        shared = sorted(own & {field.name for field in dataclasses.fields(other)})
        if shared:
            return f"{shared[0]} is a setting of {other.__module__} already"
    return None
