"""What the kinds of data are that come with Limbeck, and which settings kinds have of their own; none is opened.

A kind whose settings are more than those of :class:`~limbeck.options.DataOptions` has a frozen dataclass based on it.
One of another package is named by an entry point of the group ``limbeck.source_options``: then its fields are flags
and TOML keys too. Such a module must not import what takes long, for it is imported by ``limbeck --help``.
"""

__all__ = ["DATA_KINDS", "every_option", "kept_files", "option_classes"]

import dataclasses
import warnings
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from limbeck.errors import LimbeckWarning
from limbeck.options.data import DataOptions

DATA_KINDS = {
    "mnist": ("mnist", "60,000 and 10,000 digits, 28x28; inside the package"),
    "images": ("FOLDER of images", "one sub-folder for each class; or train, val and test folders of such"),
    "image list": ("FILE.csv, .tsv, .jsonl, .parquet of paths", "--image-column, --label-column: a row for each image"),
    "text": (
        "FILE.csv, .tsv, .jsonl, .parquet of texts",
        "--text-column, --label-column; or a folder with files train, validation and test",
    ),
    "words": (
        "FILE.jsonl, .parquet of lists of words, or .conll",
        "--words-column, --label-column: a list of words and one of their classes in each row; or a word a line",
    ),
    "next token": (
        "FILE.csv, .tsv, .jsonl, .parquet of texts",
        "--next-token, --text-column: each position has the next token as its class",
    ),
    "table": ("FILE.csv, .parquet of numbers and categories", "--label-column, --group-column: a row for each example"),
    "archive": (
        "FILE.npz",
        "arrays x and y, or x_train, val_images, test_labels and the like; classes where there are",
    ),
    "idx": ("FOLDER of IDX files", "the four files of MNIST, Fashion-MNIST, EMNIST, ...; gzipped or not"),
    "emnist": ("FILE.mat", "any split of EMNIST in its official layout"),
    "kaldi": ("Kaldi data directory", "feats.scp, with cmvn.scp and utt2spk where there are; alignments by --ali"),
}
"""What each is called where data are named, and what it is."""

_BUILT_IN = ("limbeck.kaldi.options:SpeechOptions",)
"""Named, and imported when they are wanted: options know no kind."""
_GROUP = "limbeck.source_options"


@cache
def option_classes() -> tuple[type[DataOptions], ...]:
    """The classes of settings that kinds of data have of their own.

    Returns:
        The classes, those of Limbeck first. One of another package that cannot be used is left out with a warning:
        ``limbeck --help`` must not break for it.
    """
    found: list[type[DataOptions]] = []
    for place in _BUILT_IN:
        module, name = place.split(":")
        found.append(getattr(import_module(module), name))
    for point in entry_points(group=_GROUP):
        try:
            given = point.load()
            reason = _unfit(given, found)
        except Exception as error:  # whatever another package raises
            reason = f"{type(error).__name__}: {error}"
        if reason is None:
            found.append(given)
        else:
            warnings.warn(f"settings of {point.name} ({point.value}) are left out: {reason}", LimbeckWarning, 2)
    return tuple(found)


@cache
def every_option() -> type[DataOptions]:
    """A class of all settings that any kind has: what flags are made of, and what ``config.toml`` may hold.

    Returns:
        A frozen dataclass based on all of :func:`option_classes`.

    Example:
        >>> {"data", "ali"} <= {field.name for field in dataclasses.fields(every_option())}
        True
    """
    bases = tuple(reversed(option_classes()))
    doc = "Which examples, how they are divided, and what belongs to some kinds of data alone."
    named = {"__doc__": doc, "__module__": __name__}  # else it would seem to be of the standard library
    made: type[DataOptions] = dataclasses.make_dataclass(
        "EveryOption", [], bases=bases, namespace=named, frozen=True, kw_only=True
    )
    return made


def kept_files() -> tuple[str, ...]:
    """Names of the files that runs keep beside a model for some kind of data."""
    return tuple(name for kind in option_classes() for name in getattr(kind, "kept_files", ()))


def _unfit(given: object, others: list[type[DataOptions]]) -> str | None:
    """Why a class cannot be among the settings, or None."""
    if not (isinstance(given, type) and issubclass(given, DataOptions) and dataclasses.is_dataclass(given)):
        return "it is not a dataclass based on limbeck.options.DataOptions"
    plain = {field.name for field in dataclasses.fields(DataOptions)}
    own = {field.name for field in dataclasses.fields(given)} - plain
    for other in others:
        shared = sorted(own & {field.name for field in dataclasses.fields(other)})
        if shared:
            return f"{shared[0]} is a setting of {other.__module__} already"
    return None
