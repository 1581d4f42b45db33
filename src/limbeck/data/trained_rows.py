"""What is kept of a network's training inputs: a sample as hashes, to recognise them in a test set, and their size.

Axes: ``N`` examples; ``M`` of them whose hashes are kept.
"""

__all__ = ["TrainedRows", "size_of_inputs", "trained_rows"]

from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from limbeck.data.examples import Examples
from limbeck.data.row_hashes import bytes_of, hash_rows, mark_of
from limbeck.data.source import Source
from limbeck.errors import FormatError
from limbeck.system.files import replace_bytes

_MOST, _OF_FILES = 8192, 1024
"""Largest number of hashes that are kept, 64 KB; and of files, each of which is read for it."""
_LOOKED_AT, _FEW = 1024, 20
"""How many inputs are looked at for their size, and how few are not."""
_known: "WeakKeyDictionary[Examples, TrainedRows | None]" = WeakKeyDictionary()
"""What was sampled already: trainings of several seeds share their examples."""


@dataclass(frozen=True, eq=False)
class TrainedRows:
    """Hashes of the training inputs whose marks are among the smallest.

    A mark is a cheap hash that the same inputs share, such as the size of an image file; which inputs are kept depends
    on their marks alone. So of two sets the same share of common inputs is found, whatever else is in them.

    Attributes:
        hashes: Hashes of the contents, sorted, int64 ``(M,)``.
        bound: Inputs whose scrambled mark is at most this are kept.
        size: How large the numbers in all inputs are, see :func:`size_of_inputs`; None where that is not known.
    """

    hashes: NDArray[np.int64]
    bound: int
    size: float | None = None

    def find(self, examples: Examples) -> tuple[NDArray[np.int64], int]:
        """Look examples up.

        Args:
            examples: Such as a test set.

        Returns:
            Rows of those that the network was trained on, as far as they can be told; and how many could be told.
        """
        marks = _marks(examples.inputs)
        rows = np.flatnonzero(marks <= np.uint64(self.bound)) if marks is not None else np.empty(0, np.int64)
        return rows[np.isin(_contents(examples.inputs, rows), self.hashes)], len(rows)

    def joined(self, other: "TrainedRows | None") -> "TrainedRows":
        """The inputs of both, of which as large a share is found as of the one of which less is kept."""
        if other is None:
            return self
        size = other.size if self.size is None else self.size
        return TrainedRows(np.union1d(self.hashes, other.hashes), min(self.bound, other.bound), size)

    def write(self, path: Path) -> None:
        """Save as a safetensors file."""
        bound = torch.tensor([self.bound - (1 << 63)])  # PyTorch has no unsigned integers of 64 bits
        found = {"hashes": torch.from_numpy(self.hashes), "bound": bound}
        found |= {} if self.size is None else {"size": torch.tensor([self.size], dtype=torch.float64)}
        replace_bytes(path, save(found))

    @classmethod
    def read(cls, path: Path) -> "TrainedRows":
        """Read a file that :meth:`write` made.

        Args:
            path: The file.

        Returns:
            What was written.

        Raises:
            FormatError: If it is damaged.
        """
        try:
            with safe_open(path, "np") as file:
                hashes, bound = file.get_tensor("hashes"), file.get_tensor("bound")
                size = file.get_tensor("size") if "size" in file.keys() else None  # noqa: SIM118 - not a mapping
        except (SafetensorError, OSError, ValueError) as error:
            raise FormatError(path, f"is truncated, corrupt or not a safetensors file: {error}") from error
        if hashes.dtype != np.int64 or bound.dtype != np.int64 or hashes.ndim != 1 or bound.shape != (1,):
            raise FormatError(path, "must hold the int64 vectors hashes and bound, and has others")
        if size is not None and (size.shape != (1,) or not size[0] > 0):
            raise FormatError(path, "must hold one number above 0 as size")
        return cls(hashes, int(bound[0]) + (1 << 63), None if size is None else float(size[0]))


def trained_rows(examples: Examples) -> TrainedRows | None:
    """Sample the inputs of a training set.

    Args:
        examples: The training examples.

    Returns:
        At most 8,192 hashes, and 1,024 where examples are read from files; None where nothing is known of examples
        before they are made, as of frames of speech.

    Example:
        >>> import torch
        >>> every = Examples.of(torch.eye(4))
        >>> rows, known = trained_rows(every.take(torch.tensor([0, 2]))).find(every)
        >>> rows.tolist(), known
        ([0, 2], 4)
    """
    if examples not in _known:
        _known[examples] = _sampled(examples)
    return _known[examples]


def size_of_inputs(examples: Examples) -> float | None:
    """How large the numbers in inputs are, as a model sees them: the median of the examples' root mean squares.

    Args:
        examples: Any; of texts and of what is read from files nothing is known.

    Returns:
        The size, above 0; None where it is not known, 0, or there are fewer than 20 examples. It is a median, so that a
        few examples with huge numbers say nothing.

    Example:
        >>> import torch
        >>> round(size_of_inputs(Examples.of(torch.full((20, 1, 2, 2), 51, dtype=torch.uint8))), 6)  # seen on [0, 1]
        0.2
    """
    if not isinstance(examples.inputs, Tensor) or len(examples) < _FEW:
        return None
    rows = torch.linspace(0, len(examples) - 1, min(_LOOKED_AT, len(examples)), device=examples.inputs.device)
    seen = examples.as_seen(rows.round().long())
    if not isinstance(seen, Tensor):
        return None
    found = float(seen.float().flatten(1).square().mean(1).sqrt().median())
    return found if 0 < found < np.inf else None


def _sampled(examples: Examples) -> TrainedRows | None:
    inputs = examples.inputs
    marks = _marks(inputs)
    if marks is None or not len(marks):
        return None
    bound, most = (1 << 64) - 1, _OF_FILES if isinstance(inputs, Source) and inputs.decoded else _MOST
    if len(marks) > most:
        found, counts = np.unique(marks, return_counts=True)
        fits = counts.cumsum() <= most
        if not fits[0]:  # nearly all inputs share a mark
            return None
        bound = int(found[fits][-1])
    rows = np.flatnonzero(marks <= np.uint64(bound))
    size = None if examples.kind == "integers" else size_of_inputs(examples)  # of tokens it says nothing
    return TrainedRows(np.unique(_contents(inputs, rows)), bound, size)


def _marks(inputs: Tensor | Source) -> NDArray[np.uint64] | None:
    """Scrambled marks, of which the smallest are a random sample."""
    if isinstance(inputs, Tensor):
        found = hash_rows(bytes_of(inputs)) if inputs[0].numel() else None
    else:
        marks = inputs.marks()
        found = None if marks is None else marks.view(np.uint64)
    return None if found is None else _scrambled(found)


def _contents(inputs: Tensor | Source, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Hashes of the contents of some examples."""
    if isinstance(inputs, Tensor):
        contents = [row.tobytes() for row in bytes_of(inputs[torch.from_numpy(rows).to(inputs.device)])]
    else:
        contents = [inputs.exact(row) for row in rows.tolist()]
    return np.array([mark_of(each) for each in contents], np.int64)


def _scrambled(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): each bit of the result depends on all bits."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
