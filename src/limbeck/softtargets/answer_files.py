"""Files of existing outputs: arrays, archives of arrays, and tables.

===================== ==================================================================================
file                  what is in it
===================== ==================================================================================
``.npy``              one array ``(N, K)``
``.npz``              ``probs``, ``log_probs`` or ``logits``, and where there are: ``ids`` for the top k, ``index``,
                      ``classes``
``.csv``              a column for each class, under its name, or after ``prob_``, ``log_prob_`` or ``logit_``; or
                      the top k as ``class_1`` ... and ``prob_1`` ...; and a column ``index``, where there is one
``.parquet``          the same; or columns of lists ``probs`` and ``ids``
===================== ==================================================================================

Axes: ``N`` examples, ``K`` classes, ``k`` of them kept per example.
"""

__all__ = ["SavedAnswers", "read_answers"]

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.data_set import DataSet
from limbeck.errors import ConfigError, DataError, FormatError, MismatchError
from limbeck.formats.column_names import listed_columns, no_column
from limbeck.formats.npz import read_npz
from limbeck.formats.pandas_files import list_array, read_frame
from limbeck.teachers.answer_kinds import AnswerKind, guessed_kind
from limbeck.teachers.saved import saved_answers
from limbeck.teachers.stored import StoredTargets

_NAMES: dict[str, AnswerKind] = {
    "probs": "probs", "prob": "probs", "probabilities": "probs", "probability": "probs", "p": "probs",
    "log_probs": "log_probs", "log_prob": "log_probs", "logprobs": "log_probs", "logprob": "log_probs",
    "logits": "logits", "logit": "logits", "scores": "logits", "score": "logits",
}  # fmt: skip
_IDS = ("ids", "id", "class_ids", "class_id", "indices", "classes_ids", "labels", "label", "class", "top")
_INDEX = ("index", "example", "row", "idx")
_NAMED = "id"
"""The column of names that ``limbeck predict`` writes."""
_FEW = 3


@dataclass(frozen=True, eq=False)
class SavedAnswers:
    """The contents of a file of outputs.

    Attributes:
        path: The file.
        kind: The stated or detected kind of its values.
        values: ``(N, K)``, or ``(N, k)`` with ``ids``; or a DataFrame whose columns are named as the classes.
        ids: Classes of the values, or None.
        index: Number of each row's example, or its name; None where rows are in the examples' order.
        classes: Names of the classes, where the file has them.
        guessed: Whether the kind was detected from the values.
        by_name: Whether the index holds what examples are called, where they are called anything, and not numbers.
    """

    path: Path
    kind: AnswerKind
    values: Any
    ids: NDArray[Any] | None
    index: NDArray[Any] | None
    classes: tuple[str, ...] | None
    guessed: bool
    by_name: bool = False

    @property
    def k(self) -> int | None:
        """Classes kept per row of top-k answers."""
        return None if self.ids is None else int(self.ids.shape[1])

    def describe(self) -> str:
        """How the file was interpreted, in one line."""
        words = {"probs": "probabilities", "log_probs": "log-probabilities", "logits": "logits"}[self.kind]
        what = words if self.k is None else f"the top {self.k} {words}"
        by = "in the examples' order" if self.index is None else "by names" if self.by_name else "by their index"
        told = ", by how they sum; answers (--answers) says it otherwise" if self.guessed else ""
        return f"{self.path} holds {what}{told}: {len(self.values):,} rows, {by}"

    def teacher(self, data: DataSet) -> StoredTargets:
        """The outputs as a teacher for the training examples of a data set.

        Args:
            data: Whose classes and examples they must fit.

        Returns:
            The teacher.

        Raises:
            FormatError: If the answers are not what they should be; the message names the file.
            MismatchError: If they do not fit the data.
        """
        if self.classes is not None and sorted(self.classes) != sorted(data.outputs):
            raise MismatchError(
                f"{self.path} has the classes {', '.join(self.classes[:6])}, and {data.name} has "
                f"{', '.join(data.outputs[:6])}: names must be the same"
            )
        values, ids = self.values, self.ids
        if self.classes is not None and ids is not None and ids.dtype.kind in "iu":
            ids = np.asarray(self.classes, dtype=object)[_in_range(self.path, ids, len(self.classes))]
        elif self.classes is not None:
            values = values[:, [self.classes.index(name) for name in data.outputs]]
        try:
            return saved_answers(
                **{self.kind: values}, ids=ids, index=self._numbers(data), classes=data.outputs, examples=data
            )
        except MismatchError as error:
            raise MismatchError(f"{self.path}: {error}") from error
        except DataError as error:
            raise FormatError(self.path, str(error)) from error

    def _numbers(self, data: DataSet) -> NDArray[np.int64] | None:
        """The index as numbers of the examples; names are looked up among theirs."""
        if self.index is None:
            return None
        called = _names_in(data)
        text = self.index.dtype.kind not in "iuf"
        if called is None or not (self.by_name or text):
            return self._whole_numbers(data)
        per = len(data.outputs) if hasattr(data.train.inputs, "label_names") else 1
        theirs, names = [str(name) for name in self.index.tolist()], [str(name) for name in called[::per]]
        if not text and not set(theirs) & set(names):
            return self._whole_numbers(data)  # numbers beside names of files
        _refuse_repeated(self.path, "names", theirs)
        _refuse_repeated(Path(data.name), "has examples named", names)
        row_of = {name: row for row, name in enumerate(theirs)}
        if not set(names) <= set(row_of):
            row_of = _by_file(theirs, names) or row_of
        missing = [name for name in names if name not in row_of]
        if missing:
            more = f" and {len(missing) - _FEW:,} more" if len(missing) > _FEW else ""
            raise MismatchError(
                f"{self.path} has no row for {', '.join(map(repr, missing[:_FEW]))}{more}; its rows are named "
                f"{', '.join(map(repr, theirs[:_FEW]))}{', ...' if len(theirs) > _FEW else ''}"
            )
        numbers = np.full(len(theirs), -1, np.int64)
        for number, name in zip((data.train.index[::per] // per).tolist(), names, strict=True):
            numbers[row_of[name]] = number
        spare = int(data.train.index.max()) // per + 1  # rows of examples that are set aside get numbers of their own
        numbers[numbers < 0] = np.arange(spare, spare + int((numbers < 0).sum()))
        return numbers

    def _whole_numbers(self, data: DataSet) -> NDArray[np.int64]:
        """The index where it holds numbers of examples."""
        assert self.index is not None, "only an index is looked at"
        if self.index.dtype.kind in "iu":
            return self.index
        if self.index.dtype.kind == "f" and np.array_equal(self.index, np.floor(self.index)):
            return self.index.astype(np.int64)
        raise MismatchError(
            f"{self.path} names its rows by text, such as {str(self.index[0])!r}, and the examples of {data.name} have "
            "no names: name them by id_column (--id-column), or give their indices, from 0 in the data's order"
        )


def _names_in(data: DataSet) -> Sequence[Any] | None:
    """What the training examples are called: by their source where it names positions."""
    known = getattr(data.train.inputs, "names", None)
    if data.train.names is not None or known is None:
        return data.train.names  # type: ignore[return-value]
    names: Sequence[Any] = known()
    return names


def _refuse_repeated(path: Path, what: str, names: Sequence[str]) -> None:
    """Refuse names that come twice."""
    counts = Counter(names)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        more = f" and {len(twice) - _FEW:,} more" if len(twice) > _FEW else ""
        raise FormatError(
            path, f"{what} {', '.join(map(repr, twice[:_FEW]))}{more} more than once: one row for each is needed"
        )


def _by_file(theirs: Sequence[str], ours: Sequence[str]) -> dict[str, int] | None:
    """Rows by the names of the data's examples where both are files in other folders; None where that is not sure."""
    rows, known = Counter(os.path.basename(name) for name in theirs), Counter(os.path.basename(name) for name in ours)
    if max(rows.values()) > 1 or max(known.values()) > 1:
        return None
    row_of = {os.path.basename(name): row for row, name in enumerate(theirs)}
    return {name: row_of[os.path.basename(name)] for name in ours if os.path.basename(name) in row_of}


def read_answers(
    path: str | Path,
    *,
    classes: Sequence[str],
    kind: AnswerKind | None = None,
    index_column: str | None = None,
    id_column: str | None = None,
    several: bool = False,
) -> SavedAnswers:
    """Read a file of outputs.

    Args:
        path: The file, of one of the forms above.
        classes: Names of the data's classes, by which a table's columns are found.
        kind: What its numbers are; None: as they are named, or else as they look.
        index_column: The column, or array, of the examples' numbers or names; None for ``index``, where there is one,
            or a column of names under the data's ``id_column`` or ``id``.
        id_column: The column of the data's names, which rows here may have too.
        several: Whether several of the classes may hold at a time: numbers from 0 to 1 are probabilities then.

    Returns:
        What it holds.

    Raises:
        FormatError: If the file is missing, damaged, or holds no answers.
        ConfigError: If a column is named for a file that has none.
    """
    found = _read(Path(path), tuple(classes), kind, index_column, id_column)
    if several and found.guessed and found.ids is None:
        array = np.asarray(found.values)
        inside = array.dtype.kind in "fiu" and bool(((array >= 0) & (array <= 1)).all())
        return replace(found, kind="probs" if inside else "logits")
    return found


def _read(
    place: Path, classes: tuple[str, ...], kind: AnswerKind | None, index_column: str | None, id_column: str | None
) -> SavedAnswers:
    path, name = place, str(place).lower()
    if name.endswith(".npy"):
        if index_column is not None:
            raise ConfigError(f"{path} is one array, and has no columns: leave index_column (--index-column) out")
        return _finish(place, kind, None, _read_npy(place), None, None, None)
    if name.endswith(".npz"):
        return _from_arrays(place, read_npz(place), kind, index_column)
    if name.endswith((".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".pq")):
        return _from_frame(place, read_frame(place), classes, kind, index_column, id_column)
    raise FormatError(path, "is not a file of answers: give .npy, .npz, .csv or .parquet")


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise FormatError(
            path, f"is missing, damaged or not a .npy array: {' '.join(str(error).split())[:200]}"
        ) from error
    if found.ndim != 2 or found.dtype.kind not in "fiu":
        raise FormatError(path, f"must hold numbers (examples, classes), and holds {found.dtype} {found.shape}")
    return np.array(found)


def _finish(
    path: Path,
    kind: AnswerKind | None,
    named: AnswerKind | None,
    values: Any,
    ids: NDArray[Any] | None,
    index: NDArray[Any] | None,
    classes: tuple[str, ...] | None,
) -> SavedAnswers:
    guessed = kind is None and named is None
    if guessed:
        array = values.to_numpy() if hasattr(values, "to_numpy") else values
        numbers = array.dtype.kind in "fiu"
        if ids is None:
            named = guessed_kind(array) if numbers else "probs"
        else:  # of the top k, sums tell nothing
            named = "log_probs" if numbers and bool((array <= 0).all()) else "probs"
    return SavedAnswers(path, kind or named or "probs", values, ids, index, classes, guessed)


def _from_arrays(
    path: Path, arrays: dict[str, NDArray[Any]], kind: AnswerKind | None, index_column: str | None
) -> SavedAnswers:
    found = [name for name in arrays if name.lower() in _NAMES]
    if len(found) != 1 and len(arrays) != 1:
        raise FormatError(
            path, f"must hold one array probs, log_probs or logits, and holds {', '.join(list(arrays)[:8]) or 'none'}"
        )
    name = found[0] if found else next(iter(arrays))
    ids = next((arrays[each] for each in arrays if each.lower() in _IDS), None)
    names = arrays.get("classes")
    if arrays[name].ndim != 2:
        raise FormatError(path, f"array {name!r} must be (examples, classes), and has shape {arrays[name].shape}")
    index = next((arrays[each] for each in arrays if each.lower() in _INDEX), None)
    if index_column is not None:
        if index_column not in arrays:
            raise ConfigError(f"{path} has no array {index_column!r}: it has {', '.join(arrays)}")
        index = arrays[index_column]
    classes = None if names is None else tuple(map(str, names.tolist()))
    if classes is not None and ids is None and len(classes) != arrays[name].shape[1]:
        raise FormatError(path, f"names {len(classes)} classes for {arrays[name].shape[1]} columns")
    return _finish(path, kind, _NAMES.get(name.lower()), arrays[name], ids, index, classes)


def _from_frame(
    path: Path,
    frame: Any,
    classes: tuple[str, ...],
    kind: AnswerKind | None,
    index_column: str | None,
    id_column: str | None,
) -> SavedAnswers:
    found, named = _of_frame(path, frame, classes, kind, index_column, id_column)
    return replace(found, by_name=named)


def _name_column(frame: Any, classes: tuple[str, ...], index_column: str | None, id_column: str | None) -> str | None:
    """The column of the examples' names, where there is one and no column of their numbers is asked for."""
    if index_column is not None and index_column.lower() not in _INDEX:
        return index_column
    lists = any(frame[each].dtype == object and hasattr(frame[each].iloc[0], "__len__") and
                not isinstance(frame[each].iloc[0], str) for each in frame.columns)  # fmt: skip
    usual = [] if lists else [_NAMED]  # beside lists of probabilities "id" holds classes
    known = [each for each in (id_column, *usual) if each is not None and each in frame.columns and each not in classes]
    return known[0] if known and index_column is None else None


def _of_frame(
    path: Path,
    frame: Any,
    classes: tuple[str, ...],
    kind: AnswerKind | None,
    index_column: str | None,
    id_column: str | None,
) -> tuple[SavedAnswers, bool]:
    index = None
    numbers = next((each for each in frame.columns if each.lower() in _INDEX and each not in classes), None)
    named = None if index_column is None and numbers is not None else _name_column(
        frame, classes, index_column, id_column
    )  # fmt: skip
    column = index_column or named or numbers
    if column is not None:
        if column not in frame.columns:
            raise ConfigError(f"{path} {no_column(column, frame.columns)}")
        if frame[column].isna().any():
            raise FormatError(path, f"column {column!r} has gaps, and every row needs the number of its example")
        index = frame[column].to_numpy()
        frame = frame.drop(columns=[column])
    lists = [
        each for each in frame.columns if each.lower() in _NAMES and frame[each].dtype == object and each not in classes
    ]
    if len(lists) == 1:
        ids_column = next((each for each in frame.columns if each.lower() in _IDS), None)
        ids = None if ids_column is None else list_array(path, ids_column, frame[ids_column])
        values = list_array(path, lists[0], frame[lists[0]])
        return _finish(path, kind, _NAMES[lists[0].lower()], values, ids, index, None), named is not None
    top = _numbered(frame.columns, _NAMES)
    which = _numbered(frame.columns, _IDS)
    if top and which and not set(classes) <= set(frame.columns):
        if len(top[1]) != len(which[1]):
            raise FormatError(path, f"has {len(which[1])} columns of classes and {len(top[1])} of values")
        ids = frame[which[1]].to_numpy()
        return _finish(path, kind, _NAMES[top[0]], frame[top[1]].to_numpy(), ids, index, None), named is not None
    return _by_class(path, frame, classes, kind, index), named is not None


def _numbered(columns: Sequence[str], words: Any) -> tuple[str, list[str]] | None:
    """Columns such as ``prob_1``, ``prob_2``: their word, and the columns by number."""
    found: dict[str, list[tuple[int, str]]] = {}
    for column in columns:
        match = re.fullmatch(r"(.*?)_?(\d+)", column.lower())
        if match and match[1] in words:
            found.setdefault(match[1], []).append((int(match[2]), column))
    if len(found) != 1:
        return None
    word, numbered = next(iter(found.items()))
    return word, [column for _, column in sorted(numbered)]


def _by_class(
    path: Path, frame: Any, classes: tuple[str, ...], kind: AnswerKind | None, index: NDArray[Any] | None
) -> SavedAnswers:
    """One column for each class, under its name, with or without a word before it."""
    prefixes: list[tuple[str, AnswerKind | None]] = [("", None)]
    prefixes += [(f"{word}{joint}", meant) for word, meant in _NAMES.items() for joint in ("_", "")]
    for prefix, named in prefixes:
        of_class = {column: column[len(prefix) :] for column in frame.columns if column.lower().startswith(prefix)}
        chosen = {name: column for column, name in of_class.items() if name in classes}
        if len(chosen) == len(classes):
            values = frame[[chosen[name] for name in classes]].set_axis(list(classes), axis=1)
            odd = [column for name, column in chosen.items() if values[name].dtype.kind not in "fiu"]
            if odd:
                raise FormatError(path, f"column {odd[0]!r} must hold numbers, and some values are not")
            return _finish(path, kind, named, values, None, index, None)
    present = [name for name in classes if any(column.endswith(name) for column in frame.columns)]
    missing = next(name for name in classes if name not in present or len(present) == len(classes))
    raise FormatError(
        path,
        f"has no column for the class {missing!r}: its columns are {listed_columns(frame.columns)}; name a column as "
        f"each class ({', '.join(classes[:5])}), or give the top k as class_1, prob_1, ...",
    )


def _in_range(path: Path, ids: NDArray[Any], count: int) -> NDArray[Any]:
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < count:
        raise FormatError(path, f"ids must be from 0 to {count - 1}, and run from {ids.min()} to {ids.max()}")
    return ids
