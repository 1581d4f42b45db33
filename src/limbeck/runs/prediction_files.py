"""Files of predictions, written block by block: CSV, parquet or JSON lines.

Axes: ``N`` examples, ``K`` classes, of which the top ``k`` may be written.
"""

__all__ = ["FORMATS", "format_of", "likeliest", "require_target", "rows_of", "write_blocks"]

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError, RunError
from limbeck.system.extras import load_extra
from limbeck.system.files import open_beside, put_in_place, why

Format = Literal["csv", "parquet", "jsonl"]
FORMATS: dict[str, Format] = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl"}
"""Formats by file extension."""
_HALF = 0.5
Block = tuple[Sequence[Any], NDArray[np.float32]]
"""A block: identifiers, and probabilities ``(n, K)``."""


def format_of(path: str | Path) -> Format:
    """The format of a file by its extension.

    Args:
        path: The file to write.

    Returns:
        The format.

    Raises:
        ConfigError: If the extension is unknown.

    Example:
        >>> format_of("runs/predictions.jsonl")
        'jsonl'
    """
    found = FORMATS.get(Path(path).suffix.lower())
    if found is None:
        raise ConfigError(f"{path} must have the extension .csv, .parquet or .jsonl")
    return found


def require_target(path: str | Path, *, kind: Format | None = None, overwrite: bool, data: Any = None) -> None:
    """Refuse a file that cannot be written, before any work is done.

    Args:
        path: The file to write.
        kind: The format; None for the file's extension.
        overwrite: Whether a file that is there may be replaced; the data themselves never are.
        data: What predictions are made for: a path, or anything else.

    Raises:
        ConfigError: If the extension is unknown.
        RunError: If it is the data, by whatever name, or is there already.
    """
    if kind is None:
        format_of(path)
    if not os.path.lexists(path):
        return
    with contextlib.suppress(OSError, ValueError):
        if isinstance(data, str | os.PathLike) and os.path.samefile(path, data):
            raise RunError(f"{path} is the file of the data, which stays as it is: choose another out (--out)")
    if not overwrite:
        raise RunError(
            f"{path} exists already: choose another out (--out), or replace it with overwrite=True (--overwrite)"
        )


def likeliest(probabilities: NDArray[np.float32], classes: Sequence[str], *, several: bool = False) -> list[str]:
    """The top-1 class of each example; for multi-label data, the labels with a probability of at least one half, joined
    by "; ".

    Args:
        probabilities: ``(n, K)``.
        classes: Names of the K classes, or labels.
        several: Whether the data are multi-label.

    Returns:
        One string per example.

    Example:
        >>> likeliest(np.array([[0.9, 0.2, 0.6]], np.float32), ["a", "b", "c"], several=True)
        ['a; c']
    """
    if several:
        return ["; ".join(np.asarray(classes, dtype=object)[row >= _HALF]) for row in probabilities]
    return [classes[number] for number in probabilities.argmax(1)]


def rows_of(
    block: Block,
    classes: Sequence[str],
    top: int | None,
    *,
    several: bool = False,
    beside: Mapping[str, Sequence[Any]] | None = None,
) -> dict[str, Any]:
    """The columns of a block, under the names that ``limbeck soften --from-file`` reads.

    Args:
        block: Identifiers and probabilities.
        classes: Names of the K classes.
        top: How many of the top-1 classes; None for a column for each class.
        several: Whether the data are multi-label.
        beside: Further columns per example, by name, written after ``id``.

    Returns:
        ``id`` and ``label``, then ``prob_CLASS`` per class; or ``id``, then ``class_1``, ``prob_1``, ``class_2``
        and so on.

    Example:
        >>> rows_of((["a.png"], np.array([[0.25, 0.75]], np.float32)), ["cat", "dog"], 1)["class_1"]
        ['dog']
    """
    ids, probabilities = block
    if top is None:
        return {"id": list(ids), **(beside or {}), "label": likeliest(probabilities, classes, several=several)} | {
            f"prob_{name}": probabilities[:, number] for number, name in enumerate(classes)
        }
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    found: dict[str, Any] = {"id": list(ids), **(beside or {})}
    for place in range(order.shape[1]):
        found[f"class_{place + 1}"] = [classes[number] for number in order[:, place]]
        found[f"prob_{place + 1}"] = np.take_along_axis(probabilities, order[:, place : place + 1], 1)[:, 0]
    return found


def write_blocks(
    target: str | Path | IO[str],
    blocks: Iterable[Block],
    classes: Sequence[str],
    *,
    top: int | None = None,
    kind: Format | None = None,
    several: bool = False,
    beside: Mapping[str, Sequence[Any]] | None = None,
) -> int:
    """Write predictions as they come; a file gets its name when it is complete, and a link keeps where it points.

    Args:
        target: A file, or an open text stream.
        blocks: Identifiers and probabilities.
        classes: Names of the K classes.
        top: How many of the top-1 classes; None for all.
        kind: The format; None for the file's extension, and CSV for a stream.
        several: Whether the data are multi-label.
        beside: Further columns of all examples, by name.

    Returns:
        The number of examples written.

    Raises:
        ConfigError: If the format is unknown, or parquet is to go to a stream.
        RunError: If the file cannot be written.
    """
    columns = (
        rows_of(block, classes, top, several=several, beside=part) for block, part in _with_parts(blocks, beside or {})
    )
    if not isinstance(target, str | os.PathLike):
        if kind == "parquet":
            raise ConfigError("parquet is not text: give a file with out (--out)")
        return sum(_lines(target, columns, kind or "csv"))
    used, path = kind or format_of(target), Path(os.path.realpath(target))
    if used == "parquet":
        load_extra("pyarrow", "table")
    with _beside(path) as file:
        if used == "parquet":
            return sum(_parquet(file, columns))
        text = io.TextIOWrapper(file, "utf-8", newline="")
        count = sum(_lines(text, columns, used))
        text.flush()
        text.detach()
        return count


def _with_parts(
    blocks: Iterable[Block], beside: Mapping[str, Sequence[Any]]
) -> Iterator[tuple[Block, dict[str, Sequence[Any]]]]:
    """Each block with its rows of the further columns."""
    done = 0
    for block in blocks:
        stop = done + len(block[0])
        yield block, {name: values[done:stop] for name, values in beside.items()}
        done = stop


@contextmanager
def _beside(path: Path) -> Iterator[IO[bytes]]:
    temporary: Path | None = None
    try:
        handle, temporary = open_beside(path)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        put_in_place(temporary, path)
        temporary = None
    except OSError as error:
        raise RunError(f"cannot write {path}: {why(error)}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _lines(stream: IO[str], blocks: Iterable[dict[str, Any]], kind: Format) -> Iterator[int]:
    written = csv.writer(stream, lineterminator="\n")
    for number, columns in enumerate(blocks):
        if kind == "csv" and number == 0:
            written.writerow(columns)
        plain = [_plain(values) for values in columns.values()]
        if kind == "csv":
            written.writerows(zip(*plain, strict=True))
        else:
            for row in zip(*plain, strict=True):
                stream.write(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n")
        yield len(columns["id"])


def _plain(values: Any) -> list[Any]:
    """Probabilities with the digits of float32."""
    return [float(f"{value:.7g}") for value in values] if isinstance(values, np.ndarray) else values


def _parquet(file: IO[bytes], blocks: Iterable[dict[str, Any]]) -> Iterator[int]:
    arrow, parquet = load_extra("pyarrow", "table"), load_extra("pyarrow.parquet", "table", package="pyarrow")
    writer = None
    for columns in blocks:
        table = arrow.table(columns)
        if writer is None:
            writer = parquet.ParquetWriter(file, table.schema)
        writer.write_table(table)
        yield len(columns["id"])
    if writer is not None:
        writer.close()
