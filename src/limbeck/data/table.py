"""Tables of numbers and categories with missing values, held as columns and encoded per model.

Axes: ``N`` rows, ``D`` numbers of an encoded row.
"""

__all__ = ["Table"]

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.row_hashes import mark_of, mixed
from limbeck.data.source import Source, numbered
from limbeck.data.table_encoding import LARGEST, CategoryColumn, NumberColumn, RawColumns, TableEncoding, is_number
from limbeck.errors import DataError
from limbeck.inputs import Inputs

if TYPE_CHECKING:
    from limbeck.options import Augmentation

_WHOLE = 1 << 53
"""Up to here all whole numbers are floats too."""
_MOST = 1024
"""Different texts above which a column may be names or free text."""
_FEW_ODD = 0.1
"""Share of texts in a column below which the others are meant to be numbers."""
_MANY_NUMBERS = 20
"""Different numbers in a column of categories from which on they may be meant as quantities."""


class Table(Source):
    """Columns of a table in memory, each in the narrowest form: numbers as they are, categories as codes.

    Which encoder is used where nobody says: one that is fitted on the rows of the training part, when a
    :class:`~limbeck.DataSet` of it is made; see :meth:`like`.

    Args:
        values: Numbers with NaN for gaps, or int32 codes with -1 for gaps, ``(N,)`` each, by column.
        categories: What the codes mean, for the columns of categories.
        encoding: The encoder; None to fit one on these rows when it is needed.
        group: What each row belongs to, ``(N,)``, or None.
        kinds: Types of the columns of categories as pandas names them, by column.

    Example:
        >>> import pandas
        >>> frame = pandas.DataFrame({"age": [20, 40, None], "town": ["B", "A", "B"]})
        >>> Table.of(frame).fetch(torch.tensor([2, 0]), torch.tensor([2, 0]))[0]
        tensor([[ 0.,  1.,  0.,  1.,  0.],
                [-1.,  0.,  0.,  1.,  0.]])
    """

    decoded = False

    def __init__(
        self,
        values: Mapping[str, NDArray[Any]],
        categories: Mapping[str, tuple[str, ...]],
        *,
        encoding: TableEncoding | None = None,
        group: NDArray[Any] | None = None,
        kinds: Mapping[str, str] | None = None,
    ) -> None:
        self.kinds = dict(kinds or {})
        self.values, self.categories = dict(values), dict(categories)
        self._given, self.group = encoding, group

    @classmethod
    def of(cls, frame: Any, *, group: Sequence[Any] | None = None) -> "Table":
        """The columns of a ``pandas.DataFrame``.

        Args:
            frame: Numbers, truth values, texts or categories; any may have gaps.
            group: What each row belongs to, names or numbers ``(N,)``; None where each stands alone.

        Returns:
            The table.

        Raises:
            DataError: If a column is neither, has infinite numbers, or nothing but texts that are all different.
        """
        values: dict[str, NDArray[Any]] = {}
        categories: dict[str, tuple[str, ...]] = {}
        kinds: dict[str, str] = {}
        for name in map(str, frame.columns):
            column = frame[name] if name in frame.columns else frame[int(name)]
            if column.dtype.kind in "iufb":
                values[name] = _numbers(name, column)
            else:
                values[name], categories[name] = _codes(name, column)
                inner = getattr(getattr(column.dtype, "categories", None), "dtype", "")
                kinds[name] = f"{column.dtype.name} {inner}".strip()
        if not values or not len(frame):
            raise DataError("a table needs at least one row, and one column beside the label")
        return cls(values, categories, group=None if group is None else np.asarray(group), kinds=kinds)

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    @property
    def presentation(self) -> TableEncoding:
        """How rows are seen where nobody says: the encoder given, or one fitted on these rows."""
        return self._given or self._fitted

    @cached_property
    def _fitted(self) -> TableEncoding:
        columns: list[NumberColumn | CategoryColumn] = []
        for name, values in self.values.items():
            if name not in self.categories:
                columns.append(NumberColumn.fitted(name, values))
                continue
            present = np.unique(values)
            texts = [self.categories[name][code] if code >= 0 else "" for code in present]
            columns.append(CategoryColumn(name, tuple(sorted(texts))))
        return TableEncoding(tuple(columns))

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, D)``."""
        return (len(self), self.presentation.width)

    @cached_property
    def raw(self) -> RawColumns:
        """The presentation in which columns are as they are in the file."""
        return RawColumns(
            tuple(
                (name, self.kinds.get(name, values.dtype.str), self.categories.get(name))
                for name, values in self.values.items()
            )
        )

    def fetch(
        self,
        rows: Tensor,
        keys: Tensor,
        *,
        view: int = 0,
        augmentation: "Augmentation | None" = None,
        presentations: Sequence[Any] = (None,),
    ) -> list[Inputs]:
        """Rows as each model sees them: a presentation is a :class:`TableEncoding` or :class:`RawColumns`."""
        places = rows.cpu().numpy()
        chosen = {name: values[places] for name, values in self.values.items()}
        return [self._shown(chosen, wanted or self.presentation) for wanted in presentations]

    def _shown(self, chosen: dict[str, NDArray[Any]], wanted: Any) -> Inputs:
        if isinstance(wanted, RawColumns):
            return {name: torch.from_numpy(values.copy()) for name, values in chosen.items()}
        if not isinstance(wanted, TableEncoding):
            raise DataError(f"the examples are rows of a table, and the model sees {type(wanted).__name__}")
        return wanted.encode(chosen, self.categories)

    def select(self, rows: Tensor) -> "Table":
        """Some of the rows; an encoder that was fitted on all of them is fitted anew."""
        places = rows.cpu().numpy()
        group = None if self.group is None else self.group[places]
        values = {name: each[places] for name, each in self.values.items()}
        return Table(values, self.categories, encoding=self._given, group=group, kinds=self.kinds)

    def with_presentation(self, presentation: Any) -> "Table":
        """The same rows, seen by another encoder where nobody says how."""
        if not isinstance(presentation, TableEncoding):
            return self
        presentation.check(self.values, self.categories)
        return self._seen_by(presentation)

    def _seen_by(self, encoding: TableEncoding) -> "Table":
        found = copy.copy(self)
        found._given = encoding
        return found

    def like(self, train: Source) -> "Table":
        """The same rows as the encoder of the training rows shows them."""
        return self if train is self or not isinstance(train, Table) else self._seen_by(train.presentation)

    def doubts(self) -> list[str]:
        """Columns that are taken as categories, and look like numbers with a few texts among them, in a sentence each.

        Returns:
            Sentences that name column, row and text; none where the kinds of the columns are clear.

        Example:
            >>> import pandas
            >>> frame = pandas.DataFrame({"age": [*map(str, range(40)), "?"]})
            >>> Table.of(frame).doubts()[0][:65]
            "column 'age' is taken as 41 categories, and has numbers but for 1"
        """
        found = []
        for name, known in self.categories.items():
            odd = [code for code, text in enumerate(known) if not is_number(text)]
            codes = self.values[name]
            rows = np.flatnonzero(np.isin(codes, odd))
            if odd and len(known) - len(odd) >= _MANY_NUMBERS and len(rows) < _FEW_ODD * np.count_nonzero(codes >= 0):
                found.append(
                    f"column {name!r} is taken as {len(known):,} categories, and has numbers but for {len(rows):,} of "
                    f"{len(codes):,} rows: row {rows[0]} (counted from 0) has {known[codes[rows[0]]]!r}; if quantities "
                    "are meant, correct it, or leave it empty"
                )
        return found

    def groups(self) -> Tensor | None:
        """Which rows belong together, numbered by first appearance, int64 ``(N,)``."""
        return None if self.group is None else numbered(self.group)

    def group_names(self) -> list[str] | None:
        """What each row belongs to."""
        return None if self.group is None else [str(name) for name in self.group.tolist()]

    def as_given(self, rows: Tensor) -> list[dict[str, Any]]:
        """Values by column: numbers, with None for gaps, and categories, with an empty text for gaps."""
        found: list[dict[str, Any]] = [{} for _ in rows]
        for name, values in self.values.items():
            known = self.categories.get(name)
            for row, value in zip(found, values[rows.cpu().numpy()].tolist(), strict=True):
                if known is None:
                    row[name] = None if value != value else float(value)
                else:
                    row[name] = known[value] if value >= 0 else ""
        return found

    def marks(self) -> NDArray[np.int64]:
        """Hashes of all columns of each row, whatever their order and the codes of categories are."""
        return mixed(self._words).view(np.int64)

    def exact(self, row: int) -> bytes:
        """A number of 64 bits for each value."""
        return bytes(self._words[row].tobytes())

    @cached_property
    def _words(self) -> NDArray[np.uint64]:
        """Numbers as they are, and a hash of each category, ``(N, columns)``."""
        found = np.empty((len(self), len(self.values)), np.uint64)
        for place, name in enumerate(sorted(self.values)):
            values = self.values[name]
            if name in self.categories:
                known = [mark_of(text.encode()) for text in self.categories[name]]
                found[:, place] = np.array([*known, 0], np.int64)[values].view(np.uint64)
            else:
                numbers = values.astype(np.float64) + 0.0  # -0 is 0
                found[:, place] = np.where(np.isnan(numbers), np.nan, numbers).view(np.uint64)
                large = np.abs(numbers) > _WHOLE
                if values.dtype.kind in "iu" and large.any():  # such as keys, which are told apart as they are
                    found[large, place] = values[large].astype(np.int64).view(np.uint64)
        return found

    def content(self) -> Iterator[bytes | memoryview]:
        """Names, types and bytes of all columns; how they are encoded does not count."""
        for name, values in self.values.items():
            yield f"{name} {values.dtype.str}{values.shape} {self.categories.get(name)}".encode()
            yield np.ascontiguousarray(values).view(np.uint8).data


def _numbers(name: str, column: Any) -> NDArray[Any]:
    gaps = bool(column.isna().any())
    kind = _numpy_type(column.dtype)
    values: NDArray[Any] = column.to_numpy(np.float64, na_value=np.nan) if gaps else column.to_numpy(kind)
    spoilt = np.abs(values) > LARGEST if values.dtype.kind == "f" else np.zeros(0, np.bool_)
    if spoilt.any():
        row = int(np.argmax(spoilt))
        raise DataError(
            f"column {name!r} has the value {values[row]:.6g} in row {row}, and numbers up to {LARGEST:.2g} are known: "
            "leave it empty, or give a number"
        )
    if values.dtype.kind == "u" and values.dtype.itemsize > 1:  # torch hardly knows these
        values = values.astype(np.float64 if values.dtype.itemsize == 8 else np.int64)
    return values


def _numpy_type(kind: Any) -> np.dtype[Any]:
    """The type in which PyTorch and numpy compute with a column: of pandas' own types that of their values."""
    if kind.kind == "b":
        return np.dtype(np.bool_)
    found = np.dtype(getattr(kind, "numpy_dtype", getattr(kind, "subtype", kind)))  # masked, of Arrow; sparse
    return found.newbyteorder("=") if found.itemsize <= 8 else np.dtype(np.float64)


def _codes(name: str, column: Any) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    if column.dtype.kind in "mM":
        raise DataError(f"column {name!r} holds times: give numbers, such as days or hours, or leave it out")
    texts = column.astype(object)
    known = [value for value in texts if not _is_gap(value)]
    odd = next((value for value in known if not isinstance(value, str | bool | int | float | np.generic)), None)
    if odd is not None:
        kind = "list" if isinstance(odd, np.ndarray) else type(odd).__name__
        raise DataError(
            f"column {name!r} holds a {kind}, and numbers and categories are needed: leave it out, "
            f"leave_out=[{name!r}] (--leave-out {name})"
        )
    categories = sorted({str(value) for value in known})
    if len(categories) > _MOST and 2 * len(categories) > len(column):
        odd_rows = [row for row, value in enumerate(texts) if not _is_gap(value) and not is_number(value)]
        if 0 < len(odd_rows) < _FEW_ODD * len(known):
            raise DataError(
                f"column {name!r} has numbers, but for {len(odd_rows)} of {len(column):,} rows: row {odd_rows[0]} "
                f"(counted from 0) has {str(texts[odd_rows[0]])!r}: correct it, or leave it empty"
            )
        raise DataError(
            f"column {name!r} has {len(categories):,} different texts in {len(column):,} rows, which are no "
            f"categories: leave it out, leave_out=[{name!r}] (--leave-out {name}), or give texts as a data set of texts"
        )
    place = {category: code for code, category in enumerate(categories)}
    codes = np.array([-1 if _is_gap(value) else place[str(value)] for value in texts], np.int32)
    return codes, tuple(categories)


def _is_gap(value: Any) -> bool:
    """Whether a value is missing: None, an empty text, NaN, or one of pandas' own marks."""
    if value is None or isinstance(value, str):
        return not value
    differs = value != value  # an array for an array, and pandas.NA for itself
    return bool(differs) if isinstance(differs, bool | np.bool_) else type(differs).__name__ == "NAType"
