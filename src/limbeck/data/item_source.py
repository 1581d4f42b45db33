"""Items of a user's data set, read lazily, each under its own seed.

``random``, ``numpy.random`` and torch's generator are seeded by (view seed, view, example) before an item is read. Any
pipeline of transforms then gives the same view of an example on any batch size, number of workers, machine or after a
resume, and answers to it may be stored.

Axes: ``N`` items.
"""

__all__ = ["ItemSource", "example_seed"]

import hashlib
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.parsing import LABEL_KEYS, Item, parse_item, seen, stack_inputs
from limbeck.data.row_hashes import mark_of
from limbeck.data.source import Source
from limbeck.data.workers import made_ahead
from limbeck.errors import DataError, ItemError, LimbeckError
from limbeck.inputs import Inputs, tensors_of
from limbeck.keyed import seeds

if TYPE_CHECKING:
    from limbeck.options import Augmentation

_CHUNK = 64
"""Items whose labels a worker reads at a time."""


@contextmanager
def example_seed(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, numpy and torch's CPU, and restore them afterwards.

    Args:
        seed: In [0, 2**63).

    Yields:
        Nothing.
    """
    python, numpy, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torch_state)


class ItemSource(Source):
    """Items that are read, transformed and collated per batch.

    Args:
        items: Anything with ``__getitem__`` by number.
        numbers: Which items, int64 ``(N,)``.
        first: An item of it, which says types and shapes.
        random: Whether its transforms draw.
        collate: Joins items, as a DataLoader's ``collate_fn``; None to stack them, and to pad token ids.
    """

    def __init__(
        self,
        items: Any,
        numbers: Tensor,
        first: Item,
        *,
        random: bool = False,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        self.items, self.numbers, self.first = items, numbers, first
        self.random, self.collate = random, collate
        self.name = type(items).__name__
        made = seen(first.inputs)
        leading = made if isinstance(made, Tensor) else next(iter(made.values()))
        self.kind = "floating-point numbers" if leading.is_floating_point() else "integers"
        self._shape = tuple(leading.shape)
        self.digests: dict[int | str, bytes] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def shape(self) -> tuple[int, ...]:
        """As of the first item."""
        return (len(self), *self._shape)

    def select(self, rows: Tensor) -> "ItemSource":
        """Some of the items."""
        found = ItemSource(self.items, self.numbers[rows.cpu()], self.first, random=self.random, collate=self.collate)
        found.digests = self.digests
        return found

    def marks(self) -> NDArray[np.int64] | None:
        """Sizes of the items' files, or hashes of the items where each was read for its label; else None."""
        files = [_file_of(self.items, number) for number in self.numbers.tolist()]
        if files and all(file is not None for file in files):
            with suppress(OSError, ValueError):
                return np.array([os.stat(str(file)).st_size for file in files], np.int64)
        if not all(number in self.digests for number in self.numbers.tolist()):
            return None
        return np.array([mark_of(self.digests[number]) for number in self.numbers.tolist()], np.int64)

    def exact(self, row: int) -> bytes:
        """A digest of the file, or of the item read under one seed."""
        number = int(self.numbers[row])
        file = _file_of(self.items, number)
        if file is None:
            return self.digests[number]
        if file not in self.digests:
            try:
                with open(file, "rb") as stream:
                    self.digests[file] = hashlib.file_digest(stream, "sha256").digest()
            except OSError:  # told where it is read
                return os.fsencode(file)
        return self.digests[file]

    def fetch(
        self,
        rows: Tensor,
        keys: Tensor,
        *,
        view: int = 0,
        augmentation: "Augmentation | None" = None,
        presentations: Sequence[Any] = (None,),
    ) -> list[Inputs]:
        """Read items, each under the seed of its number and the view, and join them.

        Raises:
            DataError: If items do not fit together; the message names one.
            ItemError: If an item cannot be read.
        """  # noqa: DOC201, DOC502
        drawn = seeds(keys.cpu(), seed=0 if augmentation is None else augmentation.view_seed, view=view).tolist()
        numbers = self.numbers[rows.cpu()].tolist()
        if self.collate is not None:
            held = [self._read(number, seed) for number, seed in zip(numbers, drawn, strict=True)]
            with example_seed(drawn[0]):
                joined = self.collate(held)
            inputs = parse_item(self.name, numbers[0], _unlabelled(joined)).inputs
        else:
            parsed = [self.item(number, seed).inputs for number, seed in zip(numbers, drawn, strict=True)]
            inputs = stack_inputs(parsed, self.name, numbers)
        inputs = seen(inputs)
        return [inputs for _ in presentations]

    def item(self, number: int, seed: int) -> Item:
        """One item as tensors, read under a seed; a grey image among coloured ones has three equal channels."""
        found, first = parse_item(self.name, number, self._read(number, seed)), self.first.inputs
        if found.image and isinstance(found.inputs, Tensor) and isinstance(first, Tensor):
            if len(found.inputs) == 1 and len(first) == 3:
                return found._replace(inputs=found.inputs.expand(3, -1, -1))
        return found

    def _read(self, number: int, seed: int) -> Any:
        try:
            with example_seed(seed):
                return self.items[number]
        except LimbeckError:
            raise
        except Exception as error:  # whatever the user's data set raises
            reason = " ".join(str(error).split())[:200]
            raise ItemError(
                f"item {number} of the {self.name} cannot be read: {type(error).__name__}: {reason}"
            ) from error

    def labels(
        self, *, workers: int | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Tensor | None:
        """The label of each item, int64 ``(N,)``, for which every item is read once; None where they have none.

        Args:
            workers: Processes that read; None for one per processor core and at most 8.
            progress: Called with items read and all.

        Returns:
            The labels.

        Raises:
            DataError: If some items have a label and others none, or one cannot be read.
        """
        chunks = [chunk.tolist() for chunk in torch.split(self.numbers, _CHUNK)]
        found: list[int | None] = []
        for part in made_ahead(self._labels_of, chunks, workers):
            self.digests |= dict(zip(self.numbers[len(found) :].tolist(), [digest for _, digest in part], strict=False))
            found += [label for label, _ in part]
            if progress is not None:
                progress(len(found), len(self))
        without = [place for place, label in enumerate(found) if label is None]
        if len(without) == len(found):
            return None
        if without:
            number = int(self.numbers[without[0]])
            raise DataError(f"item {number} of the {self.name} has no label, and others have one")
        return torch.tensor(found)

    def _labels_of(self, numbers: Sequence[int]) -> list[tuple[int | None, bytes]]:
        """Labels, and digests of the items, which are read only once for both."""
        items = [self.item(number, 0) for number in numbers]
        return [(None if each.label is None else int(each.label), _digest_of(each.inputs)) for each in items]


def _digest_of(inputs: Inputs) -> bytes:
    held = hashlib.sha256()
    for values in tensors_of(inputs):
        array = values.contiguous().numpy()
        held.update(f"{array.dtype.str}{array.shape}".encode())
        held.update(np.atleast_1d(array).reshape(-1).view(np.uint8).data)
    return held.digest()


def _file_of(items: Any, number: int) -> str | None:
    """The file that an item is read from, where the data set lists it, as ``ImageFolder`` does."""
    while hasattr(items, "dataset") and hasattr(items, "indices"):
        items, number = items.dataset, int(items.indices[number])
    listed = getattr(items, "samples", getattr(items, "imgs", None))
    if not isinstance(listed, list) or number >= len(listed) or not isinstance(listed[number], tuple | list):
        return None
    file = listed[number][0]
    return os.fspath(file) if isinstance(file, str | os.PathLike) else None


def _unlabelled(joined: Any) -> Any:
    """What a collate function gives for a batch, as an item is given: the labels of a batch are no label here."""
    if isinstance(joined, Mapping):
        return {key: values for key, values in joined.items() if key not in LABEL_KEYS}
    return (joined[0],) if isinstance(joined, list | tuple) and len(joined) == 2 else joined
