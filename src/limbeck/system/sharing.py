"""Large tensors shared by processes of this machine, as memory-mapped files.

A task that is sent to another process holds a network, a teacher and the examples. Pickled, each process would have a
copy of all of it, and the sender one more per task. A mapped file is in memory once, whoever reads it; what a process
changes becomes a copy of its own, page by page.
"""

__all__ = ["Shelf"]

import io
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_LARGE = 1 << 20
"""Smallest tensor to share, in bytes."""


class Shelf:
    """A folder of large tensors, which pickled objects reference instead of containing them.

    Args:
        folder: An empty one, which must stay while processes work with what was pickled.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     payload = Shelf(Path(folder)).pack([torch.ones(1 << 20), torch.zeros(1)])
        ...     len(payload) < 10_000, float(pickle.loads(payload)[0].sum())
        (True, 1048576.0)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: dict[tuple[Any, ...], str] = {}
        self._held: list[Tensor] = []

    def pack(self, value: object) -> bytes:
        """Pickle an object, with its large tensors in files; each is written once, in whichever object it is.

        Args:
            value: Anything that can be pickled.

        Returns:
            What :func:`pickle.loads` makes it of.
        """
        stream = io.BytesIO()
        _Pickler(stream, self).dump(value)
        return stream.getvalue()

    def place(self, tensor: Tensor) -> str | None:
        """The file of a tensor; None where it is small, or not plain numbers in memory, or cannot be written."""
        plain = type(tensor) is Tensor and tensor.layout is torch.strided and tensor.device.type == "cpu"
        if not plain or tensor.requires_grad or tensor.is_conj() or tensor.is_neg() or tensor.is_quantized:
            return None
        size = tensor.numel() * tensor.element_size()
        if size < _LARGE or not tensor.is_contiguous():
            return None
        key = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape))
        if key not in self._written:
            path = self.folder / str(len(self._written))
            try:
                tensor.detach().flatten().view(torch.uint8).numpy().tofile(path)
            except OSError:  # the disk is full, say: it is pickled as it is
                with suppress(OSError):
                    path.unlink()
                return None
            self._written[key] = str(path)
            self._held.append(tensor)  # so that no other gets its address
        return self._written[key]


class _Pickler(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, shelf: Shelf) -> None:
        super().__init__(stream)
        self.shelf = shelf

    def reducer_override(self, value: Any) -> Any:
        """Name a large tensor's file in the place of its content."""
        path = self.shelf.place(value) if isinstance(value, Tensor) else None
        return NotImplemented if path is None else (_mapped, (path, value.dtype, tuple(value.shape)))


def _mapped(path: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """A tensor whose content is that of a file until it is changed; a change is this process's own."""
    return torch.from_numpy(np.memmap(path, np.uint8, "c")).view(dtype).view(shape)
