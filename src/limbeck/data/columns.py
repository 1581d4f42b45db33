"""Inputs of several tensors in memory, by argument name, such as token ids and their mask.

Axes: ``N`` examples.
"""

__all__ = ["Columns", "seen_values"]

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.row_hashes import bytes_of, hash_rows, mixed
from limbeck.data.source import Source
from limbeck.errors import DataError
from limbeck.inputs import Inputs

if TYPE_CHECKING:
    from limbeck.options import Augmentation


class Columns(Source):
    """Tensors in memory, all of the same examples.

    Args:
        columns: ``(N, ...)`` each, by name; uint8 images are seen as float32 in [0, 1].

    Raises:
        DataError: If there are none, or they differ in length.

    Example:
        >>> ids, mask = torch.tensor([[5, 6], [7, 0]]), torch.tensor([[1, 1], [1, 0]])
        >>> text = Columns({"input_ids": ids, "attention_mask": mask})
        >>> text.fetch(torch.tensor([1]), torch.tensor([1]))[0]
        {'input_ids': tensor([[7, 0]]), 'attention_mask': tensor([[1, 0]])}
    """

    decoded = False

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        if not columns:
            raise DataError("a mapping of inputs needs at least one tensor")
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(
                "inputs by name must be of the same number of examples, and are of "
                + ", ".join(f"{count} ({name})" for name, count in lengths.items())
            )
        self.columns = {str(name): values for name, values in columns.items()}
        whole = all(not values.is_floating_point() and values.dtype != torch.uint8 for values in columns.values())
        self.kind = "integers" if whole else "floating-point numbers"

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first column."""
        return tuple(next(iter(self.columns.values())).shape)

    def fetch(
        self,
        rows: Tensor,
        keys: Tensor,
        *,
        view: int = 0,
        augmentation: "Augmentation | None" = None,
        presentations: Sequence[Any] = (None,),
    ) -> list[Inputs]:
        """The tensors of some examples, on the device where they are."""
        chosen = {name: values.index_select(0, rows.to(values.device)) for name, values in self.columns.items()}
        found = {name: seen_values(values) for name, values in chosen.items()}
        return [found for _ in presentations]

    def select(self, rows: Tensor) -> "Columns":
        """The columns of some examples."""
        return Columns({name: values[rows.to(values.device)] for name, values in self.columns.items()})

    def to(self, device: torch.device | str) -> "Columns":
        """The columns on a device."""
        return Columns({name: values.to(device) for name, values in self.columns.items()})

    def marks(self) -> NDArray[np.int64]:
        """Hashes of all tensors of each example."""
        each = [hash_rows(bytes_of(self.columns[name])) for name in sorted(self.columns)]
        return mixed(np.stack(each, 1)).view(np.int64)

    def exact(self, row: int) -> bytes:
        """The values of all tensors."""
        return b"".join(bytes_of(self.columns[name][row : row + 1]).tobytes() for name in sorted(self.columns))

    def content(self) -> Iterator[bytes | memoryview]:
        """Names, types, shapes and bytes of all columns."""
        for name, values in self.columns.items():
            array = values.detach().cpu().contiguous().numpy()
            yield f"{name} {array.dtype.str}{array.shape}".encode()
            yield array.reshape(-1).view(np.uint8).data


def seen_values(values: Tensor) -> Tensor:
    """Convert uint8 images to float32 in [0, 1]; other values are unchanged."""
    return values.to(torch.float32).mul_(1 / 255) if values.dtype == torch.uint8 else values
