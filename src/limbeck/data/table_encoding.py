"""Encoding of table rows: numbers standardised, missing values imputed and flagged, categories one-hot.

Axes: ``N`` rows, ``D`` numbers of an encoded row.
"""

__all__ = ["LARGEST", "CategoryColumn", "NumberColumn", "RawColumns", "TableEncoding", "is_number"]

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import DataError, MismatchError
from limbeck.inputs import Inputs
from limbeck.system.extras import load_extra

LARGEST = float(np.finfo(np.float32).max)
"""The largest number of a column: encoded rows are float32."""


@dataclass(frozen=True)
class NumberColumn:
    """Encoding of a numeric column: ``(x - mean) / std``.

    Attributes:
        name: Of the column.
        mean: Of the training rows without gaps.
        std: Their standard deviation; 1 where all are the same.
        median: Theirs, which fills gaps.
        marked: Whether a second number says where there is a gap, because the training rows have some.
    """

    name: str
    mean: float
    std: float
    median: float
    marked: bool

    @property
    def width(self) -> int:
        """Numbers that it becomes."""
        return 2 if self.marked else 1

    @classmethod
    def fitted(cls, name: str, values: NDArray[Any]) -> "NumberColumn":
        """Look at the training rows; gaps are NaN."""
        known = values[~np.isnan(values)].astype(np.float64)
        if not len(known):
            return cls(name, 0.0, 1.0, 0.0, marked=True)
        # About the first value, so that the squares of large numbers leave the deviation its digits.
        std = float((known - known[0]).std())
        usual = std if std > 0 and np.isfinite(std) else 1.0
        return cls(name, float(known.mean()), usual, float(np.median(known)), bool(len(known) < len(values)))

    def encode(self, values: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Write the numbers of some rows, ``(n, width)``; MismatchError for one that float32 does not hold."""
        gaps = np.isnan(values)
        found = (np.where(gaps, self.median, values.astype(np.float64)) - self.mean) / self.std
        if len(found) and not (np.abs(found) <= LARGEST).all():
            odd = values[int(np.argmax(np.abs(found)))]
            raise MismatchError(
                f"column {self.name!r} has the value {odd:.6g}, and the training rows have {self.mean:.6g} with a "
                f"standard deviation of {self.std:.2g} there: correct it, or leave it empty"
            )
        out[:, 0] = found
        if self.marked:
            out[:, 1] = gaps


@dataclass(frozen=True)
class CategoryColumn:
    """Encoding of a categorical column: one-hot, with a last unit for unknown categories.

    Attributes:
        name: Of the column.
        categories: Those of the training rows in order; an empty text stands for a gap.
    """

    name: str
    categories: tuple[str, ...]

    @property
    def width(self) -> int:
        """Numbers that it becomes."""
        return len(self.categories) + 1

    def codes(self, values: NDArray[np.int32], known: Sequence[str]) -> NDArray[np.int64]:
        """Codes here of codes among other categories; the last one for what is not known here."""
        place = {category: code for code, category in enumerate(self.categories)}
        table = np.array([place.get(category, len(place)) for category in (*known, "")], np.int64)
        found: NDArray[np.int64] = table[values]  # -1, a gap, is the last one
        return found

    def encode(self, codes: NDArray[np.int64], out: NDArray[np.float32]) -> None:
        """Write the numbers of some rows, ``(n, width)``."""
        out[np.arange(len(codes)), codes] = 1


@dataclass(frozen=True)
class TableEncoding:
    """A frozen encoder of rows: a model's presentation of a table.

    Attributes:
        columns: In order.
        categories: "one-hot" for one tensor ``(N, D)``; "codes" for the inputs ``numbers`` and ``categories``, the
            latter int64 with a code for each column, as embeddings take them.
    """

    columns: tuple[NumberColumn | CategoryColumn, ...]
    categories: Literal["one-hot", "codes"] = "one-hot"

    @property
    def names(self) -> list[str]:
        """Of the columns, in order."""
        return [each.name for each in self.columns]

    @property
    def width(self) -> int:
        """D, or the numbers beside the codes."""
        beside = NumberColumn if self.categories == "codes" else NumberColumn | CategoryColumn
        return sum(each.width for each in self.columns if isinstance(each, beside))

    def encode(self, values: Mapping[str, NDArray[Any]], categories: Mapping[str, Sequence[str]]) -> Inputs:
        """Encode some rows.

        Args:
            values: Numbers with NaN for gaps, or codes with -1 for gaps, ``(n,)`` each, by column.
            categories: What the codes of a column mean.

        Returns:
            float32 ``(n, D)``, or ``numbers`` and ``categories``.

        Raises:
            MismatchError: If a column is missing, or of the other kind.
        """
        count = len(next(iter(values.values())))
        found, place = np.zeros((count, self.width), np.float32), 0
        codes: list[NDArray[np.int64]] = []
        for column in self.columns:
            out = found[:, place : place + column.width]
            if isinstance(column, NumberColumn):
                column.encode(_as_numbers(column.name, values, categories), out)
                place += column.width
                continue
            codes.append(column.codes(*_as_categories(column.name, values, categories)))
            if self.categories == "one-hot":
                column.encode(codes[-1], out)
                place += column.width
        numbers = torch.from_numpy(found)
        if self.categories == "one-hot":
            return numbers
        stacked = np.stack(codes, 1) if codes else np.zeros((count, 0), np.int64)
        return {"numbers": numbers, "categories": torch.from_numpy(stacked)}

    def check(self, values: Mapping[str, NDArray[Any]], categories: Mapping[str, Sequence[str]]) -> None:
        """Refuse a whole table whose columns are missing or of another kind, before some of its rows are encoded.

        Args:
            values: Numbers with NaN for gaps, or codes with -1 for gaps, ``(N,)`` each, by column.
            categories: What the codes of a column mean.

        Raises:
            MismatchError: If a column is missing, or has text where the training rows had numbers.
        """  # noqa: DOC502
        for column in self.columns:
            if isinstance(column, NumberColumn):
                _as_numbers(column.name, values, categories)
            else:
                _column("categories", column.name, values)

    def unknown(
        self, values: Mapping[str, NDArray[Any]], categories: Mapping[str, Sequence[str]]
    ) -> dict[str, tuple[int, str]]:
        """Categories, or gaps, that the training rows did not have; a model sees all of a column's as one.

        Args:
            values: Numbers with NaN for gaps, or codes with -1 for gaps, ``(n,)`` each, by column.
            categories: What the codes of a column mean.

        Returns:
            By column the number of such rows, and the first such category; an empty text for a gap.
        """
        found = {}
        for column in self.columns:
            if not isinstance(column, CategoryColumn):
                continue
            codes, known = _as_categories(column.name, values, categories)
            named = dict(enumerate(known)) | {-1: ""}
            new = [code for code, category in named.items() if category not in set(column.categories)]
            rows = np.flatnonzero(np.isin(codes, new))
            if len(rows):
                found[column.name] = len(rows), named[int(codes[rows[0]])]
        return found

    def to_dict(self) -> dict[str, Any]:
        """The encoder as JSON can hold it; :meth:`from_dict` reads it."""
        return {"categories": self.categories, "columns": [dataclasses.asdict(each) for each in self.columns]}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "TableEncoding":
        """The encoder that :meth:`to_dict` gave.

        Args:
            given: What came out of JSON.

        Returns:
            The encoder.

        Raises:
            DataError: If it is damaged.

        Example:
            >>> seen = TableEncoding((NumberColumn("age", 40.0, 9.5, 39.0, False), CategoryColumn("town", ("A", "B"))))
            >>> TableEncoding.from_dict(seen.to_dict()) == seen, seen.width
            (True, 4)
        """
        try:
            columns: list[NumberColumn | CategoryColumn] = []
            for each in given["columns"]:
                if "categories" in each:
                    columns.append(CategoryColumn(str(each["name"]), tuple(map(str, each["categories"]))))
                else:
                    mean, std, median = (float(each[name]) for name in ("mean", "std", "median"))
                    if not (np.isfinite([mean, std, median]).all() and std > 0):
                        raise DataError(f"column {each['name']!r} has the mean {mean} and the deviation {std}")
                    columns.append(NumberColumn(str(each["name"]), mean, std, median, bool(each["marked"])))
            mode = given["categories"]
        except (KeyError, TypeError, ValueError, DataError) as error:
            raise DataError(f"invalid encoding of table rows: {error!r}") from error
        if mode not in {"one-hot", "codes"} or not columns:
            raise DataError("invalid encoding of table rows: no columns, or unknown kind of categories")
        return cls(tuple(columns), mode)


@dataclass(frozen=True)
class RawColumns:
    """Rows as they are in the file: the presentation of an estimator that encodes them itself.

    Attributes:
        columns: Name, numpy's type and, for categories, what each code means.
    """

    columns: tuple[tuple[str, str, tuple[str, ...] | None], ...]

    def frame(self, inputs: Inputs) -> Any:
        """A ``pandas.DataFrame`` of what :meth:`Table.fetch` gave for this presentation.

        Args:
            inputs: A tensor for each column, by its name.

        Returns:
            The rows, with names and types as in the file.
        """
        pandas = load_extra("pandas", "table")
        assert not isinstance(inputs, Tensor), "raw columns come by name"
        found = {}
        for name, kind, categories in self.columns:
            values = inputs[name].cpu().numpy()
            if categories is None:
                found[name] = values.astype(np.dtype(kind))
            else:
                found[name] = _restored(pandas, kind, categories, values)
        return pandas.DataFrame(found)


def _column(wanted: str, name: str, values: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    if name not in values:
        raise MismatchError(f"the model was trained with {wanted} in column {name!r}, and the table has no such column")
    return values[name]


def _as_numbers(name: str, values: Mapping[str, NDArray[Any]], categories: Mapping[str, Sequence[str]]) -> NDArray[Any]:
    """A column of numbers; one that has nothing but gaps may have been taken for categories."""
    found = _column("numbers", name, values)
    if name not in categories:
        return found
    if len(categories[name]) and (found >= 0).any():
        there = [categories[name][code] for code in dict.fromkeys(found[found >= 0].tolist())]
        seen = next((text for text in there if not is_number(text)), None)
        found_there = f"{there[0]!r} there, as text" if seen is None else f"{seen!r} there"
        raise MismatchError(
            f"the model was trained with numbers in column {name!r}, and the table has {found_there}: correct it, or "
            "convert the column to numbers"
        )
    return np.full(len(found), np.nan)


def is_number(value: Any) -> bool:
    """Whether a value of a table is a number, or a text that spells one."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _as_categories(
    name: str, values: Mapping[str, NDArray[Any]], categories: Mapping[str, Sequence[str]]
) -> tuple[NDArray[np.int32], Sequence[str]]:
    """A column of codes with what they mean; a part of the rows may have numbers alone, or gaps alone."""
    found = _column("categories", name, values)
    if name in categories:
        return found, categories[name]
    gaps = np.isnan(found)
    distinct, places = np.unique(np.where(gaps, 0, found), return_inverse=True)
    texts = [str(int(value)) if value == int(value) else str(value) for value in distinct.tolist()]
    return np.where(gaps, -1, places).astype(np.int32), texts


def _restored(pandas: Any, kind: str, categories: tuple[str, ...], codes: NDArray[Any]) -> Any:
    """A column of categories of its first type: texts, or pandas' categories of texts or numbers."""
    if not kind.startswith("category"):
        return pandas.Series(np.array([*categories, None], dtype=object)[codes], dtype=kind)
    inner = kind.partition(" ")[2]
    values = np.array(categories, dtype=object)
    named = values.astype(np.dtype(inner)) if inner.startswith(("int", "uint", "float")) else values
    return pandas.Categorical.from_codes(codes, categories=named)
