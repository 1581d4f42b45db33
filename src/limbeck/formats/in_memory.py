"""Tables in memory: a pandas DataFrame or a Hugging Face data set, read like files of rows."""

__all__ = ["class_names", "held_columns", "is_held", "source_name", "values_of", "with_columns"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FRAME = ("columns", "iloc", "dtypes")
_HUGGING_FACE = ("column_names", "features", "to_pandas")


def is_held(given: Any) -> bool:
    """Whether something is a DataFrame or a data set of Hugging Face, or behaves as one.

    Args:
        given: Anything.

    Returns:
        Whether it is; not where it is divided into parts, as a ``DatasetDict`` is.

    Example:
        >>> is_held("reviews.csv"), is_held({"train": 1})
        (False, False)
    """
    return not isinstance(given, Mapping) and any(
        all(hasattr(given, name) for name in names) for names in (_FRAME, _HUGGING_FACE)
    )


def source_name(given: Any) -> Path:
    """What to call rows in a message: their file, or "the DataFrame".

    Args:
        given: A path, or a table in memory.

    Returns:
        The name, as paths are.
    """
    return Path(f"the {type(given).__name__}") if is_held(given) else Path(given)


def held_columns(given: Any) -> list[str]:
    """Names of the columns.

    Args:
        given: A table in memory.

    Returns:
        The names, in order.
    """
    names = given.columns if hasattr(given, "iloc") else given.column_names
    return [str(name) for name in names]


def values_of(given: Any, column: str) -> list[Any]:
    """The values of a column as Python's own, None where one is missing.

    Args:
        given: A table in memory.
        column: The name of one of its columns.

    Returns:
        A value for each row.
    """
    if not hasattr(given, "iloc"):
        return list(given[column])
    series = given.iloc[:, held_columns(given).index(column)]
    values = series.astype(object).where(series.notna(), None).tolist()
    return [value.tolist() if hasattr(value, "tolist") else value for value in values]


def with_columns(given: Any) -> Any:
    """A ``pandas.DataFrame`` of its own of a table in memory, rows numbered from 0, columns named by texts.

    Args:
        given: A table in memory.

    Returns:
        The frame; values are shared where pandas shares them.
    """
    frame = given.reset_index(drop=True) if hasattr(given, "iloc") else given.to_pandas()
    return frame.set_axis([str(name) for name in frame.columns], axis=1)


def class_names(given: Any, column: str | None) -> tuple[str, ...] | None:
    """Names of the classes whose numbers a column holds, where the table says them.

    Args:
        given: A path, or a table in memory.
        column: Its column of labels, or of lists of labels.

    Returns:
        The names that a ``ClassLabel`` of Hugging Face has, in order; None where there are none.
    """
    features = getattr(given, "features", None)
    if not is_held(given) or not isinstance(features, Mapping) or column not in features:
        return None
    feature = features[column]
    inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) and feature else None)
    names = getattr(feature, "names", getattr(inner, "names", None))
    return tuple(map(str, names)) if isinstance(names, list | tuple) and names else None
